"""Cells that obey an equation by unusual means are opened; else the true reason is said."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grulens import clamp, record
from grulens.dynamics import jacobian_at
from grulens.errors import RecordingError, UnsupportedLayerError

UNITS, INPUTS, STEPS = 4, 3, 7
States = dict[str, list[Tensor]]


class Base(nn.Module):
    """Notes its states by the name of the variable."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.gate = nn.Linear(INPUTS + UNITS, UNITS)
        self.new = nn.Linear(INPUTS + UNITS, UNITS)
        self.states: Any = None

    def n(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.new(torch.cat([x, h], 1)))

    def z(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(torch.cat([x, h], 1)))

    def note(self, **states: Tensor) -> None:
        if self.states is not None:
            for name, state in states.items():
                self.states.setdefault(name, []).append(state)


def given() -> Tensor:
    return torch.linspace(-2, 2, 2 * STEPS * INPUTS).reshape(2, STEPS, INPUTS).sin() * 2


def by_hand(model: Base, x: Tensor) -> dict[str, Tensor]:
    """What each variable held at every step, in float64."""
    exact = copy.deepcopy(model).double()
    exact.states = {}
    with torch.no_grad():
        exact(x.double())
    return {name: torch.stack(values, 1) for name, values in exact.states.items()}


# numbers as numpy has them


class Scaled(Base):
    def __init__(self, leak: Any, share: Any) -> None:
        super().__init__()
        self.leak, self.share = leak, share

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for now in x.unbind(1):
            h = self.leak * h + self.n(now, h) * self.share
            self.note(h=h)
        return h


@pytest.mark.parametrize(
    ("leak", "share"),
    [
        (np.float32(0.9), np.float32(0.1)),
        (np.float32(0.9), 0.1),
        (np.float64(0.9), 1 - np.float32(0.9)),
        (0.9, np.float16(0.1)),
        (np.int64(1), np.float32(0.25)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_of_numpy_are_numbers(leak: Any, share: Any, dtype: torch.dtype) -> None:
    model, x = Scaled(leak, share).to(dtype), given().to(dtype)
    layer = record(model, x)["cell"]
    h = by_hand(model, x)["h"]
    least = 1e-5 if dtype is torch.float32 else 1e-12
    torch.testing.assert_close(layer.h.double(), h, rtol=0, atol=least)
    torch.testing.assert_close(
        layer.a.double(), torch.full_like(h, float(leak)), rtol=0, atol=least
    )
    torch.testing.assert_close((layer.a * layer.h_prev + layer.b).double(), h, rtol=0, atol=least)


def test_shares_of_float32_sum_to_1_where_the_state_is_float32() -> None:
    share = np.float32(0.1)
    layer = record(Scaled(1 - share, share), given())["cell"]
    assert layer.cell.equation == "h = 0.9 h_prev + 0.1 n"
    assert layer.cell.is_convex


# spiking cells whose threshold adapts


class SpikeFirst(Base):
    """The threshold adapts after the spike, which sets back the membrane a step later."""

    def forward(self, x: Tensor) -> Tensor:
        v = x.new_zeros(len(x), UNITS)
        a, s = torch.zeros_like(v), torch.zeros_like(v)
        for now in x.unbind(1):
            v = 0.8 * v * (1 - s) + 2 * self.new(torch.cat([now, s], 1))
            s = torch.heaviside(v - (1 + 0.3 * a), torch.zeros_like(v))
            a = 0.97 * a + (1 - 0.97) * s
            self.note(v=v, a=a)
        return v


class Relaxing(Base):
    """The threshold itself is carried, and taken off the membrane."""

    def forward(self, x: Tensor) -> Tensor:
        v = x.new_zeros(len(x), UNITS)
        th = torch.full_like(v, 0.3)
        for now in x.unbind(1):
            v = 0.9 * v + 2 * self.new(torch.cat([now, v], 1))
            s = (v > th).to(v)
            v = v - s * th
            th = th + 0.05 * (0.3 - th) + 0.2 * s
            self.note(v=v, th=th)
        return v


class Waiting(Base):
    """A spike is made where the neuron does not rest; for how long it does, is carried too."""

    def forward(self, x: Tensor) -> Tensor:
        v = x.new_zeros(len(x), UNITS)
        a, s, r = torch.zeros_like(v), torch.zeros_like(v), torch.zeros_like(v)
        for now in x.unbind(1):
            a = 0.95 * a + 0.05 * s
            v = 0.8 * v + 0.4 * self.new(torch.cat([now, s], 1)) - s * (0.2 + 1.2 * a)
            s = torch.where(r > 0, torch.zeros_like(v), (v > 0.1 + a).to(v))
            r = torch.clamp(r + 2 * s - 1, 0, 2)
            self.note(a=a, v=v, r=r)
        return v


@pytest.mark.parametrize("kind", [SpikeFirst, Relaxing, Waiting])
def test_all_states_of_an_adaptive_spiking_cell_are_opened(kind: type[Base]) -> None:
    model, x = kind(), given()
    run = record(model, x)
    expected = by_hand(model, x)
    assert {*run} == {f"cell.{name}" for name in expected}
    for name, layer in run.items():
        h = expected[name.removeprefix("cell.")]
        torch.testing.assert_close(layer.h.double(), h, rtol=1e-5, atol=1e-5)
        if "clamp" not in layer.cell.equation:
            made = layer.a * layer.h_prev + layer.b
            torch.testing.assert_close(made.double(), h, rtol=1e-5, atol=1e-5)


def test_an_edit_of_a_spike_of_the_step_before_acts_at_its_own_step() -> None:
    model, x = SpikeFirst(), given()
    plain = record(model, x)
    at, unit = 4, 1
    edit = clamp("cell.v", "s", unit, value=1.0, at=at)
    run = record(model, x, edits=[edit])
    # the membrane reads it, and what adapts has read the spike as it was
    assert torch.equal(run["cell.a"].h[:, :at], plain["cell.a"].h[:, :at])
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        v, a, s = (torch.zeros(2, UNITS).double() for _ in range(3))
        states = []
        for t, now in enumerate(x.double().unbind(1)):
            read = s.clone()
            if t == at:
                read[:, unit] = 1.0
            v = 0.8 * v * (1 - read) + 2 * exact.new(torch.cat([now, read], 1))
            s = torch.heaviside(v - (1 + 0.3 * a), torch.zeros_like(v))
            a = 0.97 * a + (1 - 0.97) * s
            states.append((v, a))
    for n, name in enumerate(("cell.v", "cell.a")):
        h = torch.stack([one[n] for one in states], 1)
        torch.testing.assert_close(run[name].h.double(), h, rtol=0, atol=1e-5)
    assert not torch.equal(run["cell.v"].h, plain["cell.v"].h)


# what goes in turn


class InTurn(Base):
    """The candidate is now that of this step, and now that of the one before."""

    def __init__(self, constant: bool) -> None:
        super().__init__()
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        last = h
        for t, now in enumerate(x.unbind(1)):
            z, step = self.z(now, h), self.n(now, h)
            f = last if t % 2 else step
            h = 0.9 * h + 0.1 * f if self.constant else z * h + (1 - z) * f
            last = step
            self.note(h=h, f=f)
        return h


@pytest.mark.parametrize("constant", [False, True])
def test_a_value_that_is_made_now_here_and_now_there_is_read_where_it_goes(constant: bool) -> None:
    model, x = InTurn(constant), given()
    layer = record(model, x)["cell"]
    expected = by_hand(model, x)
    torch.testing.assert_close(layer.h.double(), expected["h"], rtol=0, atol=1e-5)
    torch.testing.assert_close(layer.n.double(), expected["f"], rtol=0, atol=1e-5)
    assert "made by several lines" in layer.form
    held = record(model, x, edits=[clamp("cell", "n", 1, value=0.25, at=3)])["cell"]
    assert held.n[:, 3, 1].tolist() == [0.25, 0.25]
    assert torch.equal(held.h[:, :3], layer.h[:, :3])


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.new = nn.Linear(INPUTS + UNITS, UNITS), nn.Linear(INPUTS + UNITS, UNITS)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        z = torch.sigmoid(self.gate(both))
        return z * h + (1 - z) * torch.tanh(self.new(both))


class Alternating(Base):
    """Every second step is made by another function, or by another module."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.one, self.two = how, Own(), Own()

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = self.z(x, h)
        return z * h + (1 - z) * self.n(x, h)

    def last(self, x: Tensor, h: Tensor) -> Tensor:
        return 0.5 * h + 0.5 * self.n(x, h)

    def forward(self, x: Tensor) -> Tensor:
        one, two = (self.one, self.two) if self.how == "module" else (self.step, self.last)
        h = x.new_zeros(len(x), UNITS)
        for t in range(x.shape[1]):
            f = one if t % 2 else two
            h = f(x[:, t], h)
        return h


@pytest.mark.parametrize("how", ["module", "function"])
@pytest.mark.parametrize("steps", [STEPS, STEPS - 1])
def test_steps_of_two_functions_in_turn_are_refused_by_the_true_reason(
    how: str, steps: int
) -> None:
    model = Alternating(how)
    for _ in range(2):
        with pytest.raises(UnsupportedLayerError, match=r"not all made in one way: some are made"):
            record(model, given()[:, :steps])


class Stacked(Base):
    """Each step goes through two modules in a loop of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([Own(), Own()])

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for now in x.unbind(1):
            for cell in self.cells:
                h = cell(now, h)
        return h


def test_two_modules_in_every_step_are_one_step() -> None:
    assert [one.shape for one in record(Stacked(), given()).values()] == [(2, STEPS, UNITS)]


# derivatives


class Without(Scaled):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def refusal(model: nn.Module, **more: Any) -> str:
    with pytest.raises(RecordingError) as error:
        jacobian_at(record(model, given(), **more), 3)
    return str(error.value)


def test_why_a_step_has_no_derivative() -> None:
    assert "recorded without a graph: record(model, ..., grad=True)" in refusal(Scaled(0.9, 0.1))
    said = refusal(Without(0.9, 0.1), grad=True)
    assert "without a graph (torch.no_grad, .detach() or .data), though the run was" in said
    said = refusal(Scaled(0.9, 0.1).requires_grad_(False), grad=True)
    assert "no weight of the model requires gradients, nor does what it was given" in said
    with torch.inference_mode():
        assert "under torch.inference_mode no graph is kept" in refusal(Scaled(0.9, 0.1), grad=True)


def test_no_grad_around_a_recording_and_its_jacobian_changes_nothing() -> None:
    model = Scaled(0.9, 0.1)
    expected = jacobian_at(record(model, given(), grad=True), 3).total
    with torch.no_grad():
        found = jacobian_at(record(model, given(), grad=True), 3).total
    assert torch.equal(found, expected)
