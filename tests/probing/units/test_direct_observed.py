"""The direct part of an effect in an observed cell: what reads its states feels the edit alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import ablate, clamp, scale, shift, sweep
from tests import loops
from tests.loops import INPUTS, UNITS, Lines, Loop
from tests.probing.units.test_observed import EDITS, Space, inputs

Edit = Callable[..., Any]


def swept(model: nn.Module, x: Tensor, layer: str, edit: Edit, readout: Any, **more: Any) -> Any:
    return sweep(
        model, x, layer=layer, make_edit=edit, readout=readout, progress=False, **more
    )  # fmt: skip


def read(output: Any) -> Tensor:
    """A readout in which earlier states and later ones act on each other."""
    states = output if isinstance(output, Tensor) else output[0]
    return torch.tanh(states.cumsum(1) @ torch.ones(states.shape[-1], 2).to(states))


def agree(found: Any, wanted: Any) -> None:
    for part in ("effect", "direct", "recurrent"):
        one, other = getattr(found, part), getattr(wanted, part)
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)
    assert float(found.direct.abs().max()) > 1e-3
    assert "direct" not in found.note


MORE: dict[str, Edit] = {
    "reset": lambda layer, unit, **where: clamp(layer, "r", unit, value=0.0, **where),
    "all of it": lambda layer, unit, **where: scale(layer, "n", None, by=0.5, **where),
}


@pytest.mark.parametrize("edit", [*EDITS, *MORE])
def test_a_gru_of_ones_own_has_the_direct_effects_of_torchs(edit: str) -> None:
    torch.manual_seed(0)
    model, x, make = Loop().double(), inputs(), (EDITS | MORE)[edit]
    found = swept(model, x, "cell", make, read)
    assert found.batched
    agree(found, swept(model.known(), x, "l0", make, read))


@pytest.mark.parametrize("signal", ["h", "z", "r"])
def test_at_single_steps_too(signal: str) -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs()

    def edit(layer: str, unit: Any, at: Any) -> Any:
        return scale(layer, signal, unit, by=0.25, at=at)

    wanted = swept(model.known(), x, "l0", edit, read, times=slice(1, 4), units=[0, 3])
    agree(swept(model, x, "cell", edit, read, times=slice(1, 4), units=[0, 3]), wanted)


@pytest.mark.parametrize("signal", ["i", "f", "g", "o", "c", "h"])
def test_an_lstm_of_ones_own_has_the_direct_effects_of_torchs(signal: str) -> None:
    torch.manual_seed(0)
    model, x = loops.LSTM().double(), inputs()

    def edit(layer: str, unit: Any) -> Any:
        return clamp(layer, signal, unit, value=0.25)

    agree(swept(model, x, "cell", edit, read), swept(model.known(), x, "l0", edit, read))


class OwnCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUTS, 3 * UNITS), nn.Linear(UNITS, 3 * UNITS)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        a, b = self.x(x).chunk(3, 1), self.h(h).chunk(3, 1)
        r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
        n = torch.tanh(a[2] + r * b[2])
        return (1 - z) * n + z * h


class Writer(nn.Module):
    """Reads what it wrote last: its answer is a part of the way to the next state."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.out = cell, nn.Linear(UNITS, INPUTS)

    def forward(self, x: Tensor) -> Tensor:
        h, y, found = x.new_zeros(len(x), UNITS), x[:, 0], []
        for now in x.unbind(1):
            h = self.cell(y + now, h)
            y = torch.tanh(self.out(h))
            found.append(y)
        return torch.stack(found, 1)


@pytest.mark.parametrize("edit", ["ablate", "gate", "shift"])
def test_a_cell_that_is_called_step_by_step_and_reads_what_it_wrote(edit: str) -> None:
    torch.manual_seed(0)
    own, x = Writer(OwnCell()).double(), inputs()
    known = Writer(nn.GRUCell(INPUTS, UNITS)).double()
    with torch.no_grad():
        for name, line in (("ih", own.cell.x), ("hh", own.cell.h)):
            getattr(known.cell, f"weight_{name}").copy_(line.weight)
            getattr(known.cell, f"bias_{name}").copy_(line.bias)
    known.out.load_state_dict(own.out.state_dict())
    agree(swept(own, x, "cell", EDITS[edit], read), swept(known, x, "cell", EDITS[edit], read))


def held(value: Tensor, unit: int, by: float | None) -> Tensor:
    """A value with one unit held; units lie as torch lays them out."""
    flat = value.flatten(1).clone()
    if by is not None:
        flat[:, unit] = by
    return flat.reshape(value.shape)


def masked(model: Any, x: Tensor, unit: int, by: float | None) -> Tensor:
    h, made = x.new_zeros(len(x), UNITS), []
    for now in x.unbind(1):
        both = torch.cat([now, h], 1)
        z, n = torch.sigmoid(model.one(both)), torch.tanh(model.two(both))
        stays = now[:, :1] <= 0
        after = [(1 - value) * h + value * n for value in (z, held(z, unit, by))]
        h, edited = (torch.where(stays, h, new) for new in after)
        made.append(edited)
    return torch.stack(made, 1)


def over_space(model: Any, x: Tensor, unit: int, by: float | None) -> Tensor:
    x = x[..., :1, None, None].expand(*x.shape[:2], -1, 2, 3)
    h = x.new_zeros(len(x), 2, 2, 3)
    for now in x.unbind(1):
        a, b = model.gates(torch.cat([now, h], 1)).chunk(2, 1)
        z, r = torch.sigmoid(a), torch.sigmoid(b)
        n = torch.tanh(model.new(torch.cat([now, r * h], 1)))
        value = held(z, unit, by)
        h, edited = (1 - z) * h + z * n, (1 - value) * h + value * n
    return edited


class TwoStates(Lines):
    """A trace of the state is carried beside it, which the next gate reads."""

    def forward(self, x: Tensor) -> Tensor:
        h, trace, found = x.new_zeros(len(x), UNITS), x.new_zeros(len(x), UNITS), []
        for now in x.unbind(1):
            z = torch.sigmoid(self.one(torch.cat([now, trace], 1)))
            h = (1 - z) * h + z * torch.tanh(self.two(torch.cat([now, h], 1)))
            trace = 0.5 * trace + 0.5 * h
            found.append(h + trace)
        return torch.stack(found, 1)


def two_states(model: Any, x: Tensor, unit: int, by: float | None) -> Tensor:
    """The trace is no part of the edited layer: it reads the state that is handed on."""
    h, trace = x.new_zeros(len(x), UNITS), x.new_zeros(len(x), UNITS)
    seen, found = trace, []
    for now in x.unbind(1):
        z = torch.sigmoid(model.one(torch.cat([now, trace], 1)))
        n, value = torch.tanh(model.two(torch.cat([now, h], 1))), held(z, unit, by)
        h, edited = (1 - z) * h + z * n, (1 - value) * h + value * n
        trace, seen = 0.5 * trace + 0.5 * h, 0.5 * seen + 0.5 * edited
        found.append(edited + seen)
    return torch.stack(found, 1)


@pytest.mark.parametrize(
    ("kind", "layer", "wanted"),
    [
        (loops.Masked, "cell", masked),
        (Space, "cell", over_space),
        (TwoStates, "cell.h", two_states),
    ],
)
def test_a_gate_that_is_held_is_as_by_hand(kind: Any, layer: str, wanted: Any) -> None:
    torch.manual_seed(0)
    model, x, units = kind().double(), inputs(), [0, 2, 5]
    found = swept(
        model, x, layer, lambda name, unit: clamp(name, "z", unit, value=0.9),
        lambda out: out, units=units,
    )  # fmt: skip
    with torch.no_grad():
        plain = wanted(model, x, 0, None)
        for place, unit in enumerate(units):
            direct = wanted(model, x, unit, 0.9) - plain
            torch.testing.assert_close(found.direct[place], direct, rtol=0, atol=1e-12)
    assert float(found.direct.abs().max()) > 1e-3
    assert float(found.recurrent.abs().max()) > 1e-3
    torch.testing.assert_close(found.effect, found.direct + found.recurrent)


def test_one_run_after_another_they_are_the_same() -> None:
    class Coupled(Loop):
        """Its answer is of all rows."""

        def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
            return super().forward(x, h) * x.sum()

    torch.manual_seed(0)
    model, x = Coupled().double(), inputs()
    found = swept(model, x, "cell", ablate, lambda out: out)
    assert not found.batched
    wanted = swept(model.known(), x, "l0", ablate, lambda out: out[0] * x.sum())
    agree(found, wanted)


class Telling(Lines):
    """Its answer reads a gate."""

    def forward(self, x: Tensor) -> Tensor:
        h, found = x.new_zeros(len(x), UNITS), []
        for now in x.unbind(1):
            z = torch.sigmoid(self.one(torch.cat([now, h], 1)))
            h = (1 - z) * h + z * torch.tanh(self.two(torch.cat([now, h], 1)))
            found.append(h + z)
        return torch.stack(found, 1)


def test_where_the_answer_reads_a_gate_it_is_not_known_and_said_so() -> None:
    torch.manual_seed(0)
    found = swept(Telling().double(), inputs(), "cell", ablate, lambda out: out)
    assert bool(found.direct.isnan().all())
    assert not bool(found.effect.isnan().any())
    assert "the answer reads a signal of the cell besides its state" in found.note


class Overwriting(Lines):
    """It writes over its state when it has been read."""

    def forward(self, x: Tensor) -> Tensor:
        h, found = x.new_zeros(len(x), UNITS), []
        for now in x.unbind(1):
            before, h = h, self.step(now, h)
            before.zero_()
            found.append(h * 1.0)
        return torch.stack(found, 1)


@pytest.mark.parametrize("edit", ["ablate", "gate"])
def test_code_that_writes_over_its_states_writes_over_none_of_the_recording(edit: str) -> None:
    torch.manual_seed(0)
    model, x = Overwriting().double(), inputs()
    plain = Lines().double()
    plain.load_state_dict(model.state_dict())
    agree(swept(model, x, "cell", EDITS[edit], read), swept(plain, x, "cell", EDITS[edit], read))


def test_a_shift_in_both_ways_of_running() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs(rows=1)
    edit: Edit = lambda layer, unit: shift(layer, "n", unit, by=0.5)  # noqa: E731
    agree(swept(model, x, "cell", edit, read), swept(model.known(), x, "l0", edit, read))
