"""Which values beside the gate hold a share of a unit's own state, and which are new ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grulens import Recording, clamp, record
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
    "constant mask": lambda m, x, h, f: new(m, x, h) * (torch.arange(UNITS) > 1),
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


UNBOUNDED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "leaky relu": lambda p: F.leaky_relu(p, 0.5),
    "prelu": lambda p: F.prelu(p, torch.full((1,), 0.25)),
    "elu": F.elu,
    "selu": F.selu,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "wide hardtanh": lambda p: F.hardtanh(p, -9.0, 9.0),
    "asinh": torch.asinh,
}
"""Activations that hand a number on, as far as it goes or in a wide range."""


@pytest.mark.parametrize("how", UNBOUNDED)
def test_an_activation_that_bounds_nothing_hands_on_the_state_but_not_what_weights_add_up(
    how: str,
) -> None:
    def bent(m: Any, x: Tensor, h: Tensor, f: Tensor) -> Tensor:
        return (1 - f) * UNBOUNDED[how](h + m.x(x)[:, UNITS:] - 5)

    def mixed(m: Any, x: Tensor, h: Tensor, f: Tensor) -> Tensor:
        return (1 - f) * UNBOUNDED[how](m.x(x)[:, UNITS:] + m.h(h)[:, UNITS:])

    run = recorded(bent)
    (name,) = run["cell"].cell.hides
    assert f"stand in {name}, past every activation that bounds it" in run["cell"].note
    with pytest.raises(CellError, match=rf"the half-life of a unit .* stand in {name}, past"):
        timescales(run)
    run = recorded(mixed)
    assert run["cell"].note == ""
    assert torch.isfinite(timescales(run).half_life).all()


def thrice(t: Tensor) -> Tensor:
    return t + t + t


def mixed(m: Any, x: Tensor, h: Tensor) -> Tensor:
    one, two = torch.sigmoid(m.x(x)).chunk(2, 1)
    n, o, p = (torch.tanh(by * h + x[:, :1]) for by in (1, 2, 3))
    return one * n + two * one * o + two * p


SCALED: dict[str, tuple[bool, Step]] = {
    "10 tanh": (True, lambda m, x, h, f: 10 * torch.tanh((h + m.x(x)[:, UNITS:]) / 10)),
    "added as it is": (True, lambda m, x, h, f: (1 - f) * 9 * F.softsign((h + x[:, :1]) / 9)),
    "9 atan in place": (True, lambda m, x, h, f: torch.atan((h + x[:, :1]) / 9).mul_(9)),
    "a sigmoid": (True, lambda m, x, h, f: 6 * torch.sigmoid((h + x[:, :1]) / 2) - 3),
    "by a weight": (True, lambda m, x, h, f: (m.rate + 7) * torch.tanh((h + x[:, :1]) / 7)),
    "by a quotient": (True, lambda m, x, h, f: torch.tanh((h + x[:, :1]) / 7) / 0.1),
    "added up": (True, lambda m, x, h, f: thrice(torch.tanh((h + x[:, :1]) / 3))),
    "gates' sum": (False, lambda m, x, h, f: mixed(m, x, h)),
    "and cut": (True, lambda m, x, h, f: (9 * torch.tanh(h + x[:, :1])).clamp(-3, 3)),
    "tanh by a sigmoid": (False, lambda m, x, h, f: 2 * torch.sigmoid(2 * (h + x[:, :1])) - 1),
    "LeCun's tanh": (False, lambda m, x, h, f: 1.7159 * torch.tanh(2 / 3 * (h + x[:, :1]))),
    "bent again": (False, lambda m, x, h, f: torch.tanh(9 * torch.tanh((h + x[:, :1]) / 9))),
    "of weights": (False, lambda m, x, h, f: 10 * torch.tanh(m.whole(h) / 10)),
    "gated": (False, lambda m, x, h, f: f * (1 - f) * torch.tanh(h + x[:, :1])),
}
"""What is added, and whether a unit's own number goes as far in it as it likes."""


@pytest.mark.parametrize("how", SCALED)
def test_an_activation_bounds_as_far_as_it_goes_with_its_scale(how: str) -> None:
    is_share, added = SCALED[how]
    layer = recorded(added)["cell"]
    assert bool(layer.cell.hides) == is_share
    assert ("as wide as 10 tanh(h / 10)" in layer.note) == is_share


def test_a_gate_that_is_bent_by_hand_is_no_share_of_what_it_opens() -> None:
    def peephole(m: Any, x: Tensor, h: Tensor, f: Tensor) -> Tensor:
        return (F.relu6(m.x(x)[:, :UNITS] + m.rate * h + 3) / 6) * torch.tanh(m.x(x)[:, UNITS:])

    assert recorded(peephole)["cell"].cell.hides == ()

    def candidate(m: Any, x: Tensor, h: Tensor, f: Tensor) -> Tensor:
        return (1 - f) * F.hardtanh(m.x(x)[:, UNITS:] + h, 0.0, 1.0)

    assert recorded(candidate)["cell"].cell.hides != ()


class Several(nn.Module):
    """States that each step makes of one another: h, v and u, given the cell, z and n."""

    def __init__(self, step: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
        super().__init__()
        self.step = step
        self.line, self.back = nn.Linear(INPUT + UNITS, 2 * UNITS), nn.Linear(UNITS, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = v = u = x.new_zeros(len(x), UNITS)
        for x_t in x.unbind(1):
            z, n = self.line(torch.cat([x_t, h], 1)).chunk(2, 1)
            h, v, u = self.step(self, torch.sigmoid(z), torch.tanh(n), h, v, u)
        return h


Made = tuple[Tensor, Tensor, Tensor]


def oscillator(m: Any, z: Tensor, n: Tensor, h: Tensor, v: Tensor, u: Tensor) -> Made:
    v = v + 0.1 * (n - h - 0.5 * v)
    h = h + 0.1 * v
    return h, v, u


def rated(m: Any, z: Tensor, n: Tensor, h: Tensor, v: Tensor, u: Tensor) -> Made:
    v = v - 0.1 * z * (n + 0.3 * h)
    h = h + 0.1 * z * v
    return h, v, u


def momentum(m: Any, z: Tensor, n: Tensor, h: Tensor, v: Tensor, u: Tensor) -> Made:
    v = 0.9 * v + 0.1 * (n - h)
    h = z * h + (1 - z) * v
    return h, v, u


def aside(m: Any, z: Tensor, n: Tensor, h: Tensor, v: Tensor, u: Tensor) -> Made:
    v = torch.where(z > 2, 0.9 * v + 0.1 * (n - h), n)  # no step that is seen goes on from v
    h = z * h + (1 - z) * torch.where(z > 2, n, v)
    return h, v, u


def skipping(m: Any, z: Tensor, n: Tensor, h: Tensor, v: Tensor, u: Tensor) -> Made:
    new = z * h + (1 - z) * (0.5 * n + 0.5 * torch.tanh(v))
    return new, h.clone(), u


def bounded(m: Any, z: Tensor, n: Tensor, h: Tensor, v: Tensor, u: Tensor) -> Made:
    v = 0.9 * v + 0.1 * torch.tanh(m.back(h) + h)
    h = z * h + (1 - z) * v
    return h, v, u


def one_way(m: Any, z: Tensor, n: Tensor, h: Tensor, v: Tensor, u: Tensor) -> Made:
    h = z * h + (1 - z) * n
    v = 0.9 * v + 0.1 * h
    return h, v, u


def by_weights(m: Any, z: Tensor, n: Tensor, h: Tensor, v: Tensor, u: Tensor) -> Made:
    v = 0.9 * v + z
    h = z * h + (1 - z) * torch.tanh(m.back(v) + n)
    return h, v, u


@pytest.mark.parametrize("step", [oscillator, rated, momentum, aside, skipping])
def test_a_state_that_another_one_hands_back_has_no_half_life(
    step: Callable[..., Made], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    run = record(Several(step), torch.randn(2, 8, INPUT))
    run.save(tmp_path / "run.safetensors")
    for one in (run, Recording.load(tmp_path / "run.safetensors")):
        (name,) = one["cell"].cell.comes_back
        said = f"numbers of h from before h_prev stand in {name}: another state hands them on"
        assert said in one["cell"].note
        with pytest.raises(CellError, match=rf"half-life .* older states stand in {name}: another"):
            timescales(one)


@pytest.mark.parametrize("step", [bounded, one_way, by_weights])
def test_a_state_that_comes_back_by_an_activation_or_not_at_all_has_its_half_life(
    step: Callable[..., Made],
) -> None:
    torch.manual_seed(0)
    run = record(Several(step), torch.randn(2, 8, INPUT))
    for layer in run.values():
        assert layer.cell.comes_back == ()
        assert layer.note == ""
        assert torch.isfinite(timescales(run, layer.name).half_life).all()


def test_an_oscillator_swings_where_its_gate_alone_would_fade() -> None:
    class Free(Several):
        def forward(self, x: Tensor) -> Tensor:
            h = v = x.new_zeros(len(x), UNITS)
            for x_t in x.unbind(1):
                n = torch.tanh(self.line(torch.cat([x_t, 0 * h], 1))[:, :UNITS])
                v = v + 0.1 * (n - h - 0.5 * v)
                h = h + 0.1 * v
            return h

    model, x = Free(oscillator), torch.zeros(1, 60, INPUT)
    plain = record(model, x)["cell"]
    moved = record(model, x, edits=[clamp("cell", "h", 0, value=1.0, at=0)])["cell"]
    assert plain.a.min() > 0.98  # a half-life of 69 steps
    assert (moved.h - plain.h)[0, 30, 0] < -0.2
    assert plain.cell.comes_back == ("v",)
