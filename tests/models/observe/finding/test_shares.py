"""Which values beside the gate hold a share of a unit's own state, and which are new ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grulens import record
from grulens.errors import CellError
from grulens.memory import timescales

INPUT, UNITS = 3, 4
Step = Callable[[Any, Tensor, Tensor, Tensor], Tensor]


class Gated(nn.Module):
    """h = f h + what a step adds, given the cell, its input, its state and a gate."""

    def __init__(self, added: Step) -> None:
        super().__init__()
        self.added = added
        self.x, self.h = nn.Linear(INPUT, 2 * UNITS), nn.Linear(UNITS, 2 * UNITS)
        self.rate = nn.Parameter(torch.rand(UNITS) / 4 + 0.2)
        self.whole = nn.Linear(UNITS, UNITS)
        self.own = nn.Linear(UNITS, UNITS, bias=False)
        self.others = nn.Linear(UNITS, UNITS, bias=False)
        self.apart = nn.Conv1d(UNITS, UNITS, 1, groups=UNITS)
        self.norm = nn.LayerNorm(UNITS)
        with torch.no_grad():
            self.own.weight.copy_(torch.diag(torch.rand(UNITS) / 4))
            self.others.weight.fill_diagonal_(0)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for x_t in x.unbind(1):
            f = torch.sigmoid(self.x(x_t)[:, :UNITS] + self.h(h)[:, :UNITS])
            h = f * h + self.added(self, x_t, h, f)
        return h


def new(m: Any, x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(m.x(x)[:, UNITS:] + m.h(h)[:, UNITS:])


HOLD: dict[str, Step] = {
    "bent": lambda m, x, h, f: new(m, x, h) - torch.tanh(h),
    "bent and scaled": lambda m, x, h, f: (1 - f) * new(m, x, h) - torch.tanh(m.rate * h),
    "kinked": lambda m, x, h, f: new(m, x, h) + 0.2 * F.leaky_relu(h),
    "clipped": lambda m, x, h, f: new(m, x, h) + 0.2 * h.clamp(-1, 1),
    "times -1/4": lambda m, x, h, f: new(m, x, h) + F.linear(h, -torch.eye(UNITS) / 4),
    "diagonal": lambda m, x, h, f: new(m, x, h) - h @ torch.diag(m.rate),
    "diagonal weights": lambda m, x, h, f: new(m, x, h) - m.own(h),
    "depthwise": lambda m, x, h, f: new(m, x, h) + m.apart(h[..., None])[..., 0],
    "einsum": lambda m, x, h, f: new(m, x, h) + torch.einsum("bu,uu->bu", h, torch.diag(m.rate)),
    "whole": lambda m, x, h, f: new(m, x, h) + 0.2 * m.whole(h),
    "candidate": lambda m, x, h, f: (1 - f) * (m.whole(h) + m.x(x)[:, UNITS:]),
    "divided": lambda m, x, h, f: (new(m, x, h) - h) / (4 + m.rate),
    "mean": lambda m, x, h, f: new(m, x, h) + 0.2 * h.mean(1, keepdim=True),
    "normed": lambda m, x, h, f: (1 - f) * m.norm(h) + (1 - f) * new(m, x, h),
}
"""What holds a share of each unit's own state beside the gate."""
HOLD_NOT: dict[str, Step] = {
    "tanh": lambda m, x, h, f: (1 - f) * new(m, x, h),
    "relu": lambda m, x, h, f: (1 - f) * torch.relu(m.x(x)[:, UNITS:] + m.h(h)[:, UNITS:]),
    "by unit": lambda m, x, h, f: (1 - f) * torch.tanh(m.x(x)[:, UNITS:] + m.rate * h),
    "norm in tanh": lambda m, x, h, f: (1 - f) * torch.tanh(m.norm(m.whole(h) + m.x(x)[:, UNITS:])),
    "norm alone": lambda m, x, h, f: (1 - f) * m.norm(m.whole(h) + m.x(x)[:, UNITS:]),
    "clipped sum": lambda m, x, h, f: (1 - f) * (m.whole(h) + m.x(x)[:, UNITS:]).clamp(-1, 1),
    "exponential": lambda m, x, h, f: new(m, x, h) * torch.exp(0.1 * m.whole(h)),
    "atan": lambda m, x, h, f: (1 - f) * torch.atan(m.whole(h) + m.x(x)[:, UNITS:]),
    "rolled": lambda m, x, h, f: new(m, x, h) + 0.2 * h.roll(1, 1),
    "others alone": lambda m, x, h, f: new(m, x, h) + 0.2 * m.others(h),
    "gate of its own": lambda m, x, h, f: new(m, x, h) * torch.sigmoid(m.rate * h),
    "its size": lambda m, x, h, f: new(m, x, h) * m.rate.expand_as(h) + 0.1 * torch.ones_like(h),
}
"""What is a new value, or of other units alone."""


def recorded(added: Step) -> Any:
    torch.manual_seed(0)
    return record(Gated(added), torch.randn(2, 5, INPUT))


@pytest.mark.parametrize("how", HOLD)
def test_a_share_beside_the_gate_is_said_and_has_no_half_life(how: str) -> None:
    run = recorded(HOLD[how])
    (name,) = run["cell"].cell.hides
    assert run["cell"].note.startswith(f"a share of h_prev may stand in {name}, past every act")
    assert run["cell"].note in run["cell"].explain()
    with pytest.raises(CellError, match=rf"the half-life of a unit rests on .* stand in {name}, p"):
        timescales(run)


@pytest.mark.parametrize("how", HOLD_NOT)
def test_a_candidate_that_an_activation_bounds_holds_no_share(how: str) -> None:
    run = recorded(HOLD_NOT[how])
    assert run["cell"].cell.hides == ()
    assert run["cell"].note == ""
    assert torch.isfinite(timescales(run).half_life).all()


def test_a_state_that_is_bent_keeps_no_share_that_another_could_hide() -> None:
    class Bent(Gated):
        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), UNITS)
            for x_t in x.unbind(1):
                h = torch.tanh(self.rate * h + self.whole(h) + self.x(x_t)[:, :UNITS])
            return h

    torch.manual_seed(0)
    layer = record(Bent(HOLD["bent"]), torch.randn(2, 5, INPUT))["cell"]
    assert layer.cell.equation.startswith("h = tanh(f h_prev + ")
    assert layer.note == ""


def test_a_cell_state_that_is_read_back_by_no_activation_is_a_share_of_it() -> None:
    class Linear(nn.Module):
        def __init__(self, bend: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.line, self.bend = nn.Linear(INPUT + UNITS, 3 * UNITS), bend

        def forward(self, x: Tensor) -> Tensor:
            h = c = x.new_zeros(len(x), UNITS)
            for x_t in x.unbind(1):
                f, g, o = self.line(torch.cat([x_t, h], 1)).chunk(3, 1)
                f = torch.sigmoid(f)
                c = f * c + (1 - f) * self.bend(g)
                h = torch.sigmoid(o) * c
            return h

    for bend, hides in ((torch.tanh, ()), (torch.positive, ("g",))):
        assert record(Linear(bend), torch.randn(2, 5, INPUT))["cell"].cell.hides == hides
