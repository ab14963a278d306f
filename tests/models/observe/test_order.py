"""Which way a loop goes through what it reads is said where its code says it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import record

UNITS, INPUTS = 4, 3


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.new = nn.Linear(INPUTS + UNITS, UNITS), nn.Linear(INPUTS + UNITS, UNITS)
        self.embed, self.backwards = nn.Linear(INPUTS, INPUTS), False

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        z = torch.sigmoid(self.gate(both))
        return z * h + (1 - z) * torch.tanh(self.new(both))


class Range(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        h = x.new_zeros(len(x), UNITS)
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
        return h


class Unbound(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for _, now in enumerate(x.unbind(1)):
            h = self.step(now, h)
        return h


class Reversed(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for t in reversed(range(x.shape[1])):
            h = self.step(x[:, t], h)
        return h


class Down(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for t in range(x.shape[1] - 1, -1, -1):
            h = self.step(x[:, t], h)
        return h


class FromTheEnd(Base):
    def forward(self, x: Tensor) -> Tensor:
        h, steps = x.new_zeros(len(x), UNITS), x.shape[1]
        for t in range(steps):
            h = self.step(x[:, steps - 1 - t], h)
        return h


class Flipped(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for now in x.flip(1).unbind(1):
            h = self.step(now, h)
        return h


class Turned(Base):
    def forward(self, x: Tensor) -> Tensor:
        parts = x.unbind(1)[::-1]
        h = x.new_zeros(len(x), UNITS)
        for now in parts:
            h = self.step(now, h)
        return h


class Twice(Base):
    """Turned, and read from the end."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.flip(x, [1])
        h = x.new_zeros(len(x), UNITS)
        for t in range(x.shape[1]):
            h = self.step(y[:, -1 - t], h)
        return h


class Flag(Base):
    def forward(self, x: Tensor) -> Tensor:
        if self.backwards:
            x = x.flip(1)
        h = x.new_zeros(len(x), UNITS)
        for now in x.unbind(1):
            h = self.step(now, h)
        return h


class Chosen(Base):
    def forward(self, x: Tensor) -> Tensor:
        steps = range(x.shape[1])
        h = x.new_zeros(len(x), UNITS)
        for t in steps if not self.backwards else reversed(steps):
            h = self.step(x[:, t], h)
        return h


class Both(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for t in range(x.shape[1]):
            h = self.step(x[:, t] + x[:, -1 - t], h)
        return h


class Drawn(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for t in torch.arange(x.shape[1]).flip(0).tolist():
            h = self.step(x[:, t], h)
        return h


class Counted(Base):
    def forward(self, x: Tensor) -> Tensor:
        h, t = x.new_zeros(len(x), UNITS), 0
        while t < x.shape[1]:
            h = self.step(x[:, t], h)
            t += 1
        return h


ON, BACK = "from its beginning on", "from its end on"
KINDS: dict[Any, str] = {
    Range: ON, Unbound: ON, Reversed: BACK, Down: BACK, FromTheEnd: BACK, Flipped: BACK,
    Turned: BACK, Twice: ON, Flag: "", Chosen: "", Both: "", Counted: "",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_through_the_input_is_told_or_nothing(kind: Any) -> None:
    layer = record(kind(), torch.randn(2, 6, INPUTS))["cell"]
    said = [line for line in layer.explain().splitlines() if "goes through what it reads" in line]
    if not KINDS[kind]:
        assert said == []
        return
    code = inspect.getsourcelines(kind.forward)
    line = next(n for n, text in enumerate(code[0], code[1]) if text.strip().startswith("for "))
    (found,) = said
    loop = f"the loop in line {line} of test_order.py"
    assert found.endswith(f"; {loop} goes through what it reads {KINDS[kind]}")


def test_it_is_never_told_the_other_way() -> None:
    layer = record(Drawn(), torch.randn(2, 6, INPUTS))["cell"]
    assert ON not in layer.explain()
