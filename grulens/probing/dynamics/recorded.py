"""How the states of a recorded run move one another: the Jacobian of a step as it ran."""

from __future__ import annotations

from typing import Any

from grulens.arguments import Rows, Whole
from grulens.cells.dynamics.jacobian import Jacobian, jacobian
from grulens.errors import PositionError, RecordingError, shown
from grulens.models.observe.slope import slope
from grulens.models.observed import ObservedLayer
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.edits import positions
from grulens.probing.layer import layer_of


def jacobian_at(
    recording: Recording | LayerRecording,
    t: Whole,
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
