"""One unit at one step of a recording: its sums, with the edits of the run, in any run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens import ablate, clamp, close_up, record, scale, shift
from grulens.errors import CellError, PositionError, SignalError

KINDS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


def exact(found: Any) -> None:
    """Its parts sum to its pre-activations, and these make what was recorded."""
    for at, name in enumerate(found.blocks):
        parts = found.parts(name)
        assert abs(sum(parts.values()) - float(found.pre[at])) < 1e-12
        assert abs(sum(found.total(name).values()) - float(found.pre[at])) < 1e-12
        sizes = [abs(part) for part in parts.values()]
        assert sizes == sorted(sizes, reverse=True)
    assert found.residual < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_packed_rows_both_directions(kind: str) -> None:
    torch.manual_seed(0)
    rnn = KINDS[kind](3, 5, batch_first=True, bidirectional=True).double()
    x = pack_padded_sequence(torch.randn(3, 7, 3).double(), [7, 2, 4], True, False)
    run = record(rnn, x)
    for layer in run:
        for row, step in ((0, 6), (0, 0), (1, 1), (2, 0), (2, 3)):
            found = close_up(run, layer, step=step, unit=4, row=row)
            exact(found)
            assert found.values["h"] == float(run[layer].h[row, step, 4])
        with pytest.raises(PositionError, match=r"row 1 of layer .* has no step 2: it is padding"):
            close_up(run, layer, step=2, unit=0, row=1)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for _ in range(5):
            h = self.cell(x, h)
        return h


def test_a_loop_over_a_cell_and_edits_that_reach_some_rows_and_steps() -> None:
    torch.manual_seed(0)
    model, x = Decoder().double(), torch.randn(3, 2).double()
    edits = [
        shift("cell", "z", 1, by=2.0, at=3),
        clamp("cell", "r", 2, value=0.25, at=slice(2, None)),
        scale("cell", "n", 3, by=0.5, at=1),
    ]
    run = record(model, x, edits=edits)
    for step in range(5):
        for unit in range(4):
            found = close_up(run, step=step, unit=unit, row=1)
            exact(found)
            shifted = (unit, step) == (1, 3)
            assert found.shifts.tolist() == pytest.approx([0, 2.0 * shifted, 0])
            assert ("shift of an edit" in found.parts("z")) == shifted
            held = ("r",) * (unit == 2 and step >= 2) + ("n",) * ((unit, step) == (3, 1))
            assert found.edited == held
            assert bool(found.note) == bool(held)
    held = close_up(run, step=2, unit=2, row=1)
    assert "r is what an edit left here, and not what adds up to it" in held.note
    # the candidate's own terms carry the r that is held
    cell, h = run["cell"].cell, run["cell"].h_prev[1, 2]
    torch.testing.assert_close(held.units[2], 0.25 * cell.weight_hh[10].detach() * h)


def test_a_state_that_is_switched_off_is_said_to_be() -> None:
    torch.manual_seed(0)
    run = record(nn.LSTM(2, 3).double(), torch.randn(4, 1, 2).double(), edits=[ablate("l0", 1)])
    found = close_up(run, step=2, unit=1)
    exact(found)
    assert (found.edited, found.values["h"]) == (("h",), 0.0)
    assert {*found.before} == {"h", "c"}
    assert close_up(run, step=2, unit=0).edited == ()


def test_the_table_has_every_part() -> None:
    run = record(nn.GRU(2, 3, bias=False), torch.randn(4, 1, 2))
    found = close_up(run, step=-1, unit=-1)
    assert (found.step, found.unit) == (3, 2)
    table = found.to_frame()
    assert list(table.columns) == ["part", "r", "z", "n"]
    assert table["n"].sum() == pytest.approx(float(found.pre[2]))
    with pytest.raises(SignalError, match="one that has a pre-activation, r, z, n, got 'h'"):
        found.parts("h")


def test_what_was_observed_has_no_weights_to_add_up() -> None:
    class Leaky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 2)
            for x_t in x.unbind(1):
                h = 0.5 * h + 0.5 * torch.tanh(self.line(torch.cat([x_t, h], 1)))
            return h

    run = record(Leaky(), torch.ones(1, 4, 3))
    with pytest.raises(CellError, match="was observed in its module's own forward"):
        close_up(run, step=0, unit=0)
