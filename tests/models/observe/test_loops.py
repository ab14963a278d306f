"""Loops that are no `for` of a method: each is found as that is, and a held gate acts in it."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import clamp, layers, record
from grulens.errors import NoLayerError
from tests.models.observe.zoo import INPUT, UNITS, Plain, zeros


class Stepping(nn.Module):
    """A step of a GRU, and nothing that goes round."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUT, 3 * UNITS), nn.Linear(UNITS, 3 * UNITS)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return Plain.step(self, x, h)  # type: ignore[arg-type]


class Reduced(Stepping):
    """goes round by functools.reduce"""

    def forward(self, x: Tensor) -> Tensor:
        return functools.reduce(lambda h, now: self.step(now, h), x.unbind(1), zeros(x))


class Accumulated(Stepping):
    """goes round by itertools.accumulate"""

    def forward(self, x: Tensor) -> Tensor:
        every = itertools.accumulate(
            x.unbind(1), lambda h, now: self.step(now, h), initial=zeros(x)
        )
        return [*every][-1]


class Mapped(Stepping):
    """goes round by map"""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)

        def step(now: Tensor) -> Tensor:
            nonlocal h
            h = self.step(now, h)
            return h

        return [*map(step, x.unbind(1))][-1]


def scanned(cell: Stepping, x: Tensor) -> Tensor:
    h = zeros(x)
    for now in x.unbind(1):
        h = cell.step(now, h)
    return h


def by_another(cell: Stepping, x: Tensor) -> Tensor:
    return scanned(cell, x)


class Scanned(Stepping):
    """calls scanned(), which goes round a loop"""

    def forward(self, x: Tensor) -> Tensor:
        return by_another(self, x)


def further(cell: Stepping, steps: Sequence[Tensor], h: Tensor) -> Tensor:
    return further(cell, steps[1:], cell.step(steps[0], h)) if steps else h


class Further(Stepping):
    """calls further(), which goes round, as further() calls itself"""

    def forward(self, x: Tensor) -> Tensor:
        return further(self, x.unbind(1), zeros(x))


class Recursive(Stepping):
    """goes round, as go() calls itself"""

    def go(self, steps: Sequence[Tensor], h: Tensor) -> Tensor:
        return self.go(steps[1:], self.step(steps[0], h)) if steps else h

    def forward(self, x: Tensor) -> Tensor:
        return self.go(x.unbind(1), zeros(x))


class Within(Stepping):
    """goes round, as a function inside it calls itself"""

    def forward(self, x: Tensor) -> Tensor:
        steps = x.unbind(1)

        def go(t: int, h: Tensor) -> Tensor:
            return go(t + 1, self.step(steps[t], h)) if t < len(steps) else h

        return go(0, zeros(x))


class Filled(Stepping):
    """goes round a loop"""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for now in x.unbind(1):
            h[:] = self.step(now, h)
        return h


class FilledByItself(Stepping):
    """goes round a loop"""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for now in x.unbind(1):
            r, z, n = (self.x(now) + self.h(h)).chunk(3, 1)
            z = torch.sigmoid(z)
            h[..., :] = z * h + (1 - z) * torch.tanh(n + torch.sigmoid(r) * h)
        return h


LOOPS = [
    Reduced, Accumulated, Mapped, Scanned, Further, Recursive, Within, Filled, FilledByItself,
]  # fmt: skip


@pytest.mark.parametrize("kind", LOOPS)
def test_a_state_that_goes_round_is_found_whatever_goes_round(kind: type[Any]) -> None:
    torch.manual_seed(0)
    model, x = kind(), torch.randn(2, 15, INPUT)
    (before,) = layers(model).observed
    assert before.words.startswith(f"{kind.__doc__}: record(model, ...)")
    for steps in (15, 5):
        run = record(model, x[:, :steps])
        layer = run["cell"]
        assert layer.cell.equation == "h = z h_prev + (1 - z) n"
        assert layer.shape[1] == steps
        for t in (2, steps - 1):
            assert torch.equal(layer.h[:, t], model(x[:, : t + 1]))
    held = record(model, x, edits=[clamp("cell", "z", 1, value=1.0, at=slice(3, None))])
    assert torch.equal(held["cell"].h[:, 3:, 1], layer.h[:, 2:3, 1].expand(-1, 12))
    torch.testing.assert_close(held["cell"].h[:, :3], layer.h[:, :3])
    assert torch.equal(held.output, held["cell"].h[:, -1])


def test_what_goes_round_nowhere_is_no_candidate() -> None:
    class Straight(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return unrelated(x)

    def unrelated(x: Tensor) -> Tensor:
        parts: list[Tensor] = copy.deepcopy([torch.relu(x)])  # Python's own goes round a loop
        return parts[0].sum(1)

    with pytest.raises(NoLayerError, match=r"holds no nn\.GRU, nn\.LSTM or nn\.RNN; it holds no"):
        layers(Straight())


class Highways(nn.Module):
    """A recurrent highway network: layers with weights of their own in each step (Zilly 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(INPUT + 4, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h, states = x.new_zeros(len(x), 4), []
        for now in x.unbind(1):
            for layer in self.layers:
                g, n = layer(torch.cat([now, h], 1)).chunk(2, 1)
                h = torch.sigmoid(g) * torch.tanh(n) + (1 - torch.sigmoid(g)) * h
                states.append(h)
        return torch.stack(states, 1)


def test_layers_that_make_a_step_in_turn_are_steps_and_layers_that_come_once_are_not() -> None:
    torch.manual_seed(0)
    run = record(Highways(), torch.randn(2, 5, INPUT))
    assert run["cell"].cell.equation == "h = (1 - z) h_prev + z n"
    assert torch.equal(run["cell"].h, run.output)


class Upwards(Stepping):
    """goes round, as up_to() calls itself"""

    def forward(self, x: Tensor) -> Tensor:
        return self.up_to(x, x.shape[1])

    def up_to(self, x: Tensor, t: int) -> Tensor:
        return zeros(x) if t == 0 else self.step(x[:, t - 1], self.up_to(x, t - 1))


@pytest.mark.parametrize("steps", [6, 30])
def test_with_what_a_function_that_calls_itself_begins_is_no_step(steps: int) -> None:
    torch.manual_seed(0)
    model, x = Upwards(), torch.randn(2, steps, INPUT)
    layer = record(model, x)["cell"]
    assert (layer.cell.equation, layer.shape[1]) == ("h = z h_prev + (1 - z) n", steps)
    assert torch.equal(layer.h[:, -1], model(x))
