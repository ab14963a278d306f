"""States that hold the rows of the input along an axis together with other things."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from grulens import clamp, record, recording
from grulens.errors import PositionError, RecordingError, UnsupportedLayerError
from tests.models.observe.zoo import BATCH, INPUT, STEPS, UNITS, NodeGRU


class Folded(nn.Module):
    """A GRU without a reset gate whose code folds its state anew at every step.

    Args:
        fold: from (batch, unit) to the state.
        units: how many units it has.
    """

    def __init__(self, fold: Callable[[Tensor], Tensor], units: int = UNITS) -> None:
        super().__init__()
        self.fold, self.units = fold, units
        self.line = nn.Linear(INPUT + units, 2 * units)

    def forward(self, x: Tensor) -> Tensor:
        places = self.fold(torch.arange(len(x) * self.units).view(len(x), -1)).flatten().argsort()
        h = self.fold(x.new_zeros(len(x), self.units))
        for now in x.unbind(1):
            plain = h.flatten()[places].view(len(x), -1)
            z, n = self.line(torch.cat([now, plain], 1)).chunk(2, 1)
            z, n = self.fold(torch.sigmoid(z)), self.fold(torch.tanh(n))
            h = z * h + (1 - z) * n
        return h


def made(rows: int = BATCH) -> Tensor:
    torch.manual_seed(7)
    return torch.randn(rows, STEPS, INPUT)


@pytest.mark.parametrize(
    ("fold", "units", "parts"),
    [
        (torch.flatten, UNITS, "5 parts"),
        (lambda h: h.T.flatten(), UNITS, "5 parts"),
        (torch.flatten, BATCH, "3 parts"),
        (torch.flatten, 1, "one part"),
        (lambda h: h.reshape(1, -1), UNITS, "5 parts"),
    ],
    ids=["rows first", "units first", "square", "one unit", "beside an axis of 1"],
)
def test_rows_and_units_in_one_axis_are_refused(
    fold: Callable[[Tensor], Tensor], units: int, parts: str
) -> None:
    said = rf"rows and units stand in one axis.*each row of the input reaches {parts} of it alone"
    with pytest.raises(UnsupportedLayerError, match=said) as caught:
        record(Folded(fold, units), made())
    assert "h.view(batch, -1)" in str(caught.value)


@pytest.mark.parametrize("fold", [torch.flatten, lambda h: h.reshape(1, -1)])
def test_one_row_in_one_axis_is_opened_and_more_are_looked_at_anew(
    fold: Callable[[Tensor], Tensor],
) -> None:
    model, x = Folded(fold), made()
    assert record(model, x[:1])["cell"].shape == (1, STEPS, UNITS)
    with pytest.raises(RecordingError, match=r"15.* in this run"), recording(model):
        model(x)
    with pytest.raises(UnsupportedLayerError, match="rows and units stand in one axis"):
        record(model, x)
    assert record(model, x[:1])["cell"].shape == (1, STEPS, UNITS)


@pytest.mark.parametrize(
    ("fold", "each", "where"),
    [
        (lambda h: h.view(-1, 1), 6, "one behind the other: row r was rows 6 r to 6 r + 5"),
        (lambda h: h.view(-1, 3), 2, "one behind the other: row r was rows 2 r to 2 r + 1"),
        (
            lambda h: h.view(len(h), 2, 3).transpose(0, 1).reshape(-1, 3),
            2,
            "as many apart as the input has rows",
        ),
    ],
    ids=["one unit", "heads", "heads first"],
)
def test_rows_that_are_several_of_a_layer_are_said_to_be(
    fold: Callable[[Tensor], Tensor], each: int, where: str
) -> None:
    layer = record(Folded(fold, 6), made())["cell"]
    assert layer.shape == (BATCH * each, STEPS, 6 // each)
    said = f"where it was found, a row of the input was {each} rows of this layer, {where}"
    assert layer.note == said
    assert layer.explain().endswith(said)


def test_rows_of_which_the_input_tells_nothing_are_said_to_be_unknown() -> None:
    layer = record(Folded(lambda h: h.view(-1, 3), 6), made(1))["cell"]
    assert layer.note == (
        "it has 2 rows, as the first axis of its states, (2, 3), and the input, (1, 7, 4), has no "
        "axis of 2: which row is which is not known"
    )


class Columns(nn.Module):
    """A state of which each column of its input makes one number, or one a speed."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(self.gate)
        for now in x:
            z = torch.sigmoid(self.gate * now)
            h = z * h + (1 - z) * torch.tanh(now)
        return h


@pytest.mark.parametrize("shape", [(UNITS,), (2, UNITS)])
def test_columns_that_know_nothing_of_each_other_may_be_rows_and_that_is_said(
    shape: tuple[int, ...],
) -> None:
    layer = record(Columns(*shape), torch.randn(STEPS, UNITS))["cell"]
    assert layer.shape == (len(shape), STEPS, UNITS)
    assert layer.note == (
        "each column of the input reaches 1 of the 5 units of a row alone: these may be rows as "
        "well"
    )


def test_the_nodes_of_one_graph_are_rows_as_before() -> None:
    layer = record(NodeGRU(), torch.randn(6, 3, 2))["cell"]
    assert (layer.shape, layer.note) == ((3, 6, 4), "")


class Slots(nn.Module):
    """Gates over (batch * slot, unit), of states (batch, slot, unit), opened by a mask of units."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2 * UNITS, 2 * UNITS)
        self.register_buffer("open", torch.arange(UNITS) > 0)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        for now in x.unbind(1):
            z, n = self.line(torch.cat([now, h], 2).flatten(0, 1)).chunk(2, 1)
            z = torch.sigmoid(z)
            h = (z * self.open).view_as(h) * h + (1 - z).view_as(h) * torch.tanh(n).view_as(h)
        return h


def test_a_signal_that_is_laid_out_otherwise_than_its_state_is_recorded_and_not_edited() -> None:
    torch.manual_seed(0)
    model, x = Slots(), torch.randn(2, 5, 3, UNITS)
    layer = record(model, x)["cell"]
    assert layer.z.shape == layer.h.shape == (2, 5, 3 * UNITS)
    with pytest.raises(RecordingError, match=r"has the shape \(6, \d\) in its .* row of the state"):
        record(model, x, edits=[clamp("cell", "z", 0, value=0.5)])
    held = record(model, x, edits=[clamp("cell", "h", value=layer.h)])
    assert torch.equal(held["cell"].h, layer.h)


class Masked(nn.Module):
    """A gated cell with a share of each unit that is the same for all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.share = nn.Linear(INPUT + UNITS, 2 * UNITS), nn.Parameter(torch.rand(UNITS))

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for now in x.unbind(1):
            z, n = self.line(torch.cat([now, h], 1)).chunk(2, 1)
            share = torch.sigmoid(self.share)
            h = share * torch.sigmoid(z) * h + torch.tanh(n)
        return h


def test_a_signal_without_rows_is_held_at_what_it_is_in_each() -> None:
    torch.manual_seed(0)
    model, x = Masked(), torch.randn(3, 5, INPUT)
    run = record(model, x)
    values = run["cell"].share
    assert values.shape == (3, 5, UNITS)
    held = record(model, x, edits=[clamp("cell", "share", value=values)])
    assert torch.equal(held.output, run.output)
    values = values * torch.tensor([1.0, 0.5, 1.0])[:, None, None]
    with pytest.raises(PositionError, match="has 3 rows; this run of layer 'cell' has 1"):
        record(model, x, edits=[clamp("cell", "share", value=values)])
