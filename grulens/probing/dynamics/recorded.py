"""How the states of a recorded run move one another: Jacobians of its steps, and their products."""

from __future__ import annotations

from typing import Any

import torch

from grulens.arguments import Integer, Rows
from grulens.cells.dynamics.jacobian import Jacobian, jacobian
from grulens.cells.dynamics.lyapunov import Lyapunov, lyapunov, spectrum
from grulens.errors import CellError, PositionError, RecordingError, shown
from grulens.models.observe.reading.slope import slope, slopes
from grulens.models.observed import ObservedLayer
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.edits import positions
from grulens.probing.layer import layer_of
from grulens.probing.trajectories import of_each_row


def jacobian_at(
    recording: Recording | LayerRecording,
    t: Integer,
    layer: str | None = None,
    *,
    rows: Rows = None,
) -> Jacobian:
    """The Jacobian of one recorded step: how the state after it depends on the state before it.

    Of a layer that is opened by its weights it is what `jacobian` gives at the step's input and
    state. An observed cell is differentiated in the run itself, by autograd through its module's
    own code (edits included); that needs a graph, `record(model, ..., grad=True)`. All that the
    module makes of the state between two steps counts there, what other layers do with it too.

    Args:
        recording: a recording, or one layer of it.
        t: position of the step, negative from the end.
        layer: which layer; may be left out for a `LayerRecording`, or where there is one.
        rows: which batch rows: int, slice, sequence of int or bool mask; None is all.

    Returns:
        A `Jacobian`, a row of it for each of these rows: in four parts (`GRUJacobian`) of a GRU
        that is opened by its weights.

    Raises:
        LayerError: the recording holds no such layer.
        PositionError: there is no such position or row, or the step is padding in one.
        RecordingError: it is no recording, or `layer` is missing; a layer that is opened by its
            weights was edited; or the run of an observed cell has no graph there (its state may be
            detached), or its rows act on each other.

    >>> import torch
    >>> from grulens import record
    >>> run = record(torch.nn.GRU(3, 4, batch_first=True), torch.ones(2, 6, 3))
    >>> jacobian_at(run, -1)
    Jacobian(batch 2, unit 4)
    """
    recorded = layer_of(recording, layer)
    recorded.check_one_batch("the Jacobian of a step")
    place = positions.normal(t, "t")
    if not isinstance(place, int):
        raise PositionError(f"t must be one position, an int, got {shown(t)}")
    steps = recorded.shape[1]
    positions.check(place, steps, "time", f"layer {recorded.name!r}")
    place %= steps
    chosen = positions.chosen(rows, recorded.shape[0], "row", f"layer {recorded.name!r}")
    if not chosen.any():
        raise PositionError(f"rows={shown(rows)} names no row of layer {recorded.name!r}")
    padded = (chosen & ~recorded.mask[:, place].cpu()).nonzero()[:, 0].tolist()
    if padded:
        raise PositionError(
            f"step {place} is padding in row {padded[0]} of layer {recorded.name!r}: choose rows= "
            "that have it"
        )
    number = max(i for i, start in enumerate(recorded.calls) if start <= place)
    segment: Any = recorded.segments[number]
    if isinstance(recorded, ObservedLayer):
        found = slope(segment, place - recorded.calls[number], recorded.name)
        return Jacobian(found[chosen.to(found.device)])
    if segment.program:
        raise RecordingError(
            f"layer {recorded.name!r} was edited, so its states do not follow one another as its "
            "cell says; record without edits of this layer"
        )
    some = chosen.to(recorded.h.device)
    x, state = recorded.x[some, place], recorded.state_prev[some, place]
    return jacobian(segment.cell, x.detach(), state.detach())


def lyapunov_along(
    recording: Recording | LayerRecording,
    layer: str | None = None,
    *,
    row: Integer = 0,
    skip: int | None = None,
) -> Lyapunov:
    """The Lyapunov spectrum along a row of a recorded run.

    Of a layer that is opened by its weights it is what `lyapunov` gives for the row's own input. Of
    an observed cell the Jacobians are those of `jacobian_at`, so the run needs a graph:
    `record(model, ..., grad=True)`. A first step whose state is no part of it is left out. A cell
    that carries h and c has as many exponents as both have numbers.

    Args:
        recording: a recording, or one layer of it.
        layer: which layer; may be left out for a `LayerRecording`, or where there is one.
        row: which row of the batch.
        skip: steps at the start that turn the axes and are not counted; None is a tenth.

    Raises:
        CellError: there are no steps to count.
        LayerError: the recording holds no such layer.
        PositionError: there is no such row.
        RecordingError: it is no recording, or `layer` is missing; the layer was edited; its states
            are not one trajectory; or as for `gradient_flow`.

    >>> import torch
    >>> from grulens import record
    >>> run = record(torch.nn.GRU(3, 4, batch_first=True), torch.ones(2, 20, 3))
    >>> len(lyapunov_along(run).exponents)
    4
    """
    recorded = layer_of(recording, layer)
    recorded.check_one_batch("a Lyapunov spectrum")
    place = positions.normal(row, "row")
    if not isinstance(place, int):
        raise PositionError(f"row must be one position, an int, got {shown(row)}")
    positions.check(place, recorded.shape[0], "row", f"layer {recorded.name!r}")
    place %= recorded.shape[0]
    if any(segment.program for segment in recorded.segments):
        raise RecordingError(
            f"layer {recorded.name!r} was edited, so its states do not follow one another as its "
            "cell says; record without edits of this layer"
        )
    if isinstance(recorded, ObservedLayer):
        begins = [*recorded.calls]
    else:
        alone = torch.arange(recorded.shape[0]) == place
        begins = [one.begin for _, one in of_each_row(recorded, alone)]
    if len(begins) > 1:
        raise RecordingError(
            f"the states of layer {recorded.name!r} are not one trajectory: of its "
            f"{len(recorded.segments)} calls the one at step {begins[1]} begins row {place} with "
            "another state than the one before left; record an input on which it goes on to the end"
        )
    segment: Any = recorded.segments[0]
    if not isinstance(recorded, ObservedLayer):
        mask = recorded.mask[place]
        x = recorded.x[place][mask]
        x = x.flip(0) if segment.reverse else x
        first = recorded.state_prev[place][mask][-1 if segment.reverse else 0]
        return lyapunov(recorded.cell, x, first, skip=skip)
    every = slopes(segment, recorded.name)[place]
    every = every[1:] if bool(every[0].isnan().all()) else every
    count = len(every) // 10 if skip is None else skip
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < len(every):
        raise CellError(
            f"{len(every)} steps of which {shown(skip)} are skipped leave none to count"
        )
    return spectrum(every, count)
