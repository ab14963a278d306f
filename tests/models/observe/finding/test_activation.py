"""A shift acts before the activation of a signal, however the code writes that, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grulens import GateSliders, record, shift
from grulens.errors import SignalError

INPUT, UNITS, BY = 2, 4, 0.75
Gate = Callable[[Any, Tensor, Tensor], Tensor]


class Gated(nn.Module):
    """h = z h + (1 - z) n, with a gate that is made of two numbers a unit."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.line, self.gate = nn.Linear(INPUT + UNITS, 3 * UNITS), gate
        self.scale = nn.Parameter(torch.rand(UNITS))

    def forward(self, x: Tensor, by: float = 0.0) -> Tensor:
        """With a number that is added to the first unit's pre-activation in the first step."""
        h, states = x.new_zeros(len(x), UNITS), []
        for t, x_t in enumerate(x.unbind(1)):
            p, q, n = self.line(torch.cat([x_t, h], 1)).chunk(3, 1)
            if by and not t:
                p = torch.cat([p[:, :1] + by, p[:, 1:]], 1)
            z = self.gate(self, p, q)
            h = z * h + (1 - z) * torch.tanh(n)
            states.append(h)
        return torch.stack(states, 1)


def twice(m: Any, p: Tensor, q: Tensor) -> Tensor:
    inner = torch.sigmoid(p)
    return inner**2 / (0.1 + inner)


BEFORE: dict[str, Gate] = {
    "sigmoid": lambda m, p, q: torch.sigmoid(p),
    "by hand": lambda m, p, q: 1 / (1 + torch.exp(-p)),
    "reciprocal": lambda m, p, q: (1 + torch.exp(-p)).reciprocal(),
    "power": lambda m, p, q: torch.sigmoid(p) ** 2,
    "scaled": lambda m, p, q: m.scale * torch.sigmoid(p),
    "guarded": lambda m, p, q: torch.sigmoid(p).clamp(0.01, 0.99),
    "hard": lambda m, p, q: F.hardtanh(p, 0.0, 1.0),
    "hard by hand": lambda m, p, q: (0.2 * p + 0.5).clamp(0, 1),
}
"""Gates whose activation a shift reaches."""
REFUSED: dict[str, tuple[Gate, str]] = {
    "two": (lambda m, p, q: (torch.sigmoid(p) * torch.sigmoid(q)) ** 0.5, "comes out of several"),
    "share": (lambda m, p, q: torch.exp(p) / (torch.exp(p) + torch.exp(q)), "comes out of several"),
    "softmax": (lambda m, p, q: torch.softmax(torch.stack([p, q]), 0)[0], "is cut out of a larger"),
    "used twice": (twice, "comes out of several activations, or of one by more"),
    "turned": (lambda m, p, q: 1 / (1 + torch.exp(p)), "falls where what its activation is given"),
}  # fmt: skip
"""Gates whose activation no shift reaches, with what is said."""


def made(gate: Gate) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Gated(gate), torch.randn(3, 5, INPUT)


def slope(how: str) -> float:
    """By how much the pre-activation of a way to write a gate moves with its p."""
    return 0.2 if how == "hard by hand" else 1.0


@pytest.mark.parametrize("how", BEFORE)
def test_a_shift_acts_before_the_activation(how: str) -> None:
    model, x = made(BEFORE[how])
    assert "z" in record(model, x)["cell"].names
    run = record(model, x, edits=[shift("cell", "z", 0, by=BY, at=0)])
    wanted = model(x, BY / slope(how))
    torch.testing.assert_close(run.output, wanted)
    assert (run.output[:, 0, 0] - model(x)[:, 0, 0]).abs().max() > 1e-3
    assert run["cell"].residual < 1e-6


@pytest.mark.parametrize("how", REFUSED)
def test_a_shift_that_reaches_no_activation_is_refused(how: str) -> None:
    gate, why = REFUSED[how]
    model, x = made(gate)
    run = record(model, x)
    assert run["cell"].cell.equation.startswith("h = z h_prev + (1 - z) n")
    with pytest.raises(SignalError, match=rf"and 'z' of layer 'cell' {why}.*use clamp or scale"):
        record(model, x, edits=[shift("cell", "z", 0, by=BY)])
    panel = GateSliders(model, x)
    panel.controls.mode.value = "shift"
    slider = panel.controls.sliders["z"]
    assert slider.disabled
    assert why in slider.tooltip
    panel.close()


def test_what_an_activation_makes_and_others_read_too_is_not_shifted_by_it() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(INPUT + UNITS, 2 * UNITS)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), UNITS)
            for x_t in x.unbind(1):
                p, n = self.line(torch.cat([x_t, h], 1)).chunk(2, 1)
                s = torch.sigmoid(p)
                h = s**2 * h + torch.tanh(n * s)
            return h

    with pytest.raises(SignalError, match="what its activation makes, which is read elsewhere too"):
        record(Shared(), torch.randn(3, 5, INPUT), edits=[shift("cell", "f", 0, by=BY)])


def test_a_shift_of_a_gate_that_a_step_makes_twice_acts_on_both() -> None:
    class Twice(Gated):
        def forward(self, x: Tensor, by: float = 0.0) -> Tensor:
            h, states = x.new_zeros(len(x), UNITS), []
            for t, x_t in enumerate(x.unbind(1)):
                p, _, n = self.line(torch.cat([x_t, h], 1)).chunk(3, 1)
                if by and not t:
                    p = torch.cat([p[:, :1] + by, p[:, 1:]], 1)
                h = torch.sigmoid(p) * h + (1 - torch.sigmoid(p)) * torch.tanh(n)
                states.append(h)
            return torch.stack(states, 1)

    torch.manual_seed(0)
    model, x = Twice(twice), torch.randn(3, 5, INPUT)
    run = record(model, x, edits=[shift("cell", "z", 0, by=BY, at=0)])
    torch.testing.assert_close(run.output, model(x, BY))


def test_a_value_of_no_activation_is_added_to_as_it_is() -> None:
    model, x = made(lambda m, p, q: p)
    run = record(model, x, edits=[shift("cell", "z", 0, by=BY, at=0)])
    torch.testing.assert_close(run.output, model(x, BY))


@pytest.mark.parametrize("gate", [BEFORE["sigmoid"], BEFORE["by hand"]])
def test_an_output_gate_is_shifted_before_its_activation(gate: Gate) -> None:
    class Long(Gated):
        def forward(self, x: Tensor, by: float = 0.0) -> Tensor:
            h = c = x.new_zeros(len(x), UNITS)
            states = []
            for t, x_t in enumerate(x.unbind(1)):
                p, q, g = self.line(torch.cat([x_t, h], 1)).chunk(3, 1)
                if by and not t:
                    p = torch.cat([p[:, :1] + by, p[:, 1:]], 1)
                c = torch.sigmoid(q) * c + torch.tanh(g)
                h = self.gate(self, p, q) * torch.tanh(c)
                states.append(h)
            return torch.stack(states, 1)

    torch.manual_seed(0)
    model, x = Long(gate), torch.randn(3, 5, INPUT)
    run = record(model, x, edits=[shift("cell", "o", 0, by=BY, at=0)])
    torch.testing.assert_close(run.output, model(x, BY))


FALLING: dict[str, Callable[[Tensor], Tensor]] = {
    "1 - sigmoid": lambda p: 1 - torch.sigmoid(p),
    "from ones": lambda p: torch.ones_like(p) - torch.sigmoid(p),
    "negated": lambda p: torch.sigmoid(p).neg().add(1),
    "rsub": lambda p: torch.rsub(torch.sigmoid(p), 1),
}
"""Ways to write an input gate that falls where what its activation is given grows."""
RISING: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid of -p": lambda p: torch.sigmoid(-p),
    "twice": lambda p: 1 - (1 - torch.sigmoid(-p)),
}
"""Ways to write one that grows with it."""


class Janet(nn.Module):
    """h = f h + i g, with an input gate of its own (JANET, van der Westhuizen & Lasenby 2018)."""

    def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.line, self.gate = nn.Linear(INPUT + UNITS, 2 * UNITS), gate

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for x_t in x.unbind(1):
            p, g = self.line(torch.cat([x_t, h], 1)).chunk(2, 1)
            h = torch.sigmoid(p) * h + self.gate(p - 1.0) * torch.tanh(g)
        return h


@pytest.mark.parametrize("how", FALLING)
def test_an_input_gate_that_falls_is_not_shifted_behind_its_activation(how: str) -> None:
    torch.manual_seed(0)
    model, x = Janet(FALLING[how]), torch.randn(3, 5, INPUT)
    run = record(model, x)
    assert run["cell"].cell.equation == "h = f h_prev + i g"
    with pytest.raises(SignalError, match="'i' of layer 'cell' falls where what its activation is"):
        record(model, x, edits=[shift("cell", "i", 0, by=BY)])


@pytest.mark.parametrize("how", RISING)
def test_an_input_gate_that_grows_is_shifted_before_its_activation(how: str) -> None:
    torch.manual_seed(0)
    model, x = Janet(RISING[how]), torch.randn(3, 5, INPUT)
    before = record(model, x)["cell"].i[0, 0, 0]
    run = record(model, x, edits=[shift("cell", "i", 0, by=BY, at=0)])
    torch.testing.assert_close(run["cell"].i[0, 0, 0], torch.sigmoid(torch.logit(before) + BY))
