"""One layer of a recording: which one is meant, and where its rows were read last."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from grulens.cells.cell import RecurrentCell
from grulens.cells.gated import Gated, gated, is_gated
from grulens.cells.kinds.gru import Cell
from grulens.cells.observed import COMES_BACK, HIDDEN, ObservedCell
from grulens.cells.signal import Signalling
from grulens.errors import CellError, RecordingError, shown
from grulens.models.layers import article, check_layer
from grulens.models.observed import ObservedLayer
from grulens.models.recording import LayerRecording, Recording


def layer_of(recording: Any, layer: Any = None) -> LayerRecording:
    """A layer of a recording; without a name the recording must hold one layer only.

    Args:
        recording: a `Recording`, or a `LayerRecording`, which is taken as it is.
        layer: the layer's name, or None.

    Raises:
        LayerError: the recording holds no such layer.
        RecordingError: it is no recording, or `layer` is missing.
    """
    if isinstance(recording, LayerRecording):
        if layer is not None:
            check_layer(layer, [recording.name], "is not this layer, which is")
        return recording
    if not isinstance(recording, Recording):
        raise RecordingError(
            "a recording was expected, what record(model, ...) returns, or one layer of it; got "
            f"{shown(recording)}"
        )
    if layer is None and len(recording) != 1:
        raise RecordingError(f"say which layer: {', '.join(recording)}")
    return recording[next(iter(recording)) if layer is None else layer]


def last_read(layer: LayerRecording) -> Int[Tensor, " batch"]:
    """The position of the step that each row read last, (batch,); -1 for a row without steps.

    A forward layer reads a row's end last, a reverse layer its beginning.

    >>> from grulens import record
    >>> rnn = torch.nn.GRU(3, 4, batch_first=True, bidirectional=True)
    >>> run = record(rnn, torch.zeros(2, 5, 3))
    >>> last_read(run["l0"]), last_read(run["l0_reverse"])
    (tensor([4, 4]), tensor([0, 0]))
    """
    mask = layer.mask.cpu()
    found = torch.full((len(mask),), -1)
    # rows that ran through the same calls stand one below the other
    begin = 0
    for numbers, group in groupby(layer.rows, key=lambda row: row.calls):
        here = slice(begin, begin := begin + len(list(group)))
        for number in numbers:
            segment, start = layer.segments[number], layer.calls[number]
            part = mask[here, start : start + segment.steps].int()
            back = segment.steps - 1 - part.flip(1).argmax(1)
            place = start + (part.argmax(1) if segment.reverse else back)
            found[here] = torch.where(part.any(1), place, found[here])
    return found


def keeping(cell: Signalling) -> str | None:
    """The gate of a cell that keeps its memory, by name; None where it has none."""
    gates = (signal for signal in cell.signals if signal.is_gate and signal.role == "keep")
    return next((gate.name for gate in gates), None)


def keeps_a_share(cell: Signalling) -> bool:
    """Whether `kept_of` knows the share of its state that each step of a cell keeps."""
    if isinstance(cell, ObservedCell):
        return not (cell.bend or cell.hides or cell.comes_back)
    if isinstance(cell, RecurrentCell) and len(cell.states) == 1:
        return is_gated(cell)
    return keeping(cell) is not None


def kept_of(layer: LayerRecording, what: str) -> Tensor:
    """The share of the state before that each step keeps (batch, time, unit).

    It is z of a GRU, f of an LSTM (of its c), and for any other cell the a of its gated form
    h = a h_prev + b, with all decays and masks in it; see `gated`. It is what the gates keep, with
    the candidate held: that is made of the state before too, as far as its activation lets it.

    Args:
        layer: the layer.
        what: what rests on such a share, in words.

    Raises:
        CellError: its cell keeps no share of its state, or bends the state, or hides what it keeps.

    >>> from grulens import record
    >>> layer = record(torch.nn.LSTM(3, 4), torch.zeros(2, 1, 3))["l0"]
    >>> torch.equal(kept_of(layer, "it"), layer.f)
    True
    """
    if isinstance(layer, ObservedLayer):
        if layer.cell.bend:
            raise CellError(
                f"{what} rests on a state of which each step keeps a share, h = a h_prev + b; "
                f"layer {layer.name!r} obeys {layer.cell.equation}"
            )
        if layer.cell.hides:
            raise CellError(
                f"{what} rests on the share of its state that each step keeps; of layer "
                f"{layer.name!r}, {layer.cell.equation}, a share may stand in "
                f"{' and '.join(layer.cell.hides)}, {HIDDEN}. What of it is sums and "
                "products of numbers one by one, as (1 / tau) * (n - h), is found where it is "
                "written so"
            )
        if layer.cell.comes_back:
            raise CellError(
                f"{what} rests on the share of its state that each step keeps; of layer "
                f"{layer.name!r}, {layer.cell.equation}, numbers of older states stand in "
                f"{' and '.join(layer.cell.comes_back)}: {COMES_BACK}. Ask its gradients, by "
                "record(..., grad=True), or set a state (clamp) and look at what becomes of it"
            )
        return layer.a
    gate = keeping(layer.cell)
    if gate is not None and (isinstance(layer.cell, Cell) or len(layer.cell.states) > 1):
        return layer.signal(gate)
    form = _form_of(layer)
    if form is None:
        raise CellError(
            f"{what} rests on a state of which each step keeps a share, h = a h_prev + b; layer "
            f"{layer.name!r} is {article(layer.cell.kind)}, which keeps none"
        )
    return form.keep.to(layer.h.dtype)


def _form_of(layer: LayerRecording) -> Gated | None:
    """The gated form of the steps of a layer, which is no GRU and was not observed."""
    signals = {one.name: layer.signal(one.name) for one in layer.cell.signals if one.name != "h"}
    cell = layer.cell.over(lambda weight: weight.detach().double())
    return gated(cell, signals, layer.state_prev)


def mix_of(layer: LayerRecording, what: str) -> tuple[Tensor, Tensor]:
    """The share of the state before that each step keeps, and what it takes the other share of.

    They are z and n of a GRU, for another kind of cell what its `output` shows, and for an observed
    cell what its equation says. Each is (batch, time, unit), and a step is
    `keep * state_prev + (1 - keep) * candidate`.

    Args:
        layer: the layer.
        what: what rests on such a mix, in words.

    Raises:
        CellError: a step of its cell is no such mix.

    >>> from grulens import record
    >>> layer = record(torch.nn.GRU(3, 4), torch.zeros(2, 1, 3))["l0"]
    >>> keep, candidate = mix_of(layer, "it")
    >>> torch.equal(keep, layer.z), torch.equal(candidate, layer.n)
    (True, True)
    """
    if not isinstance(layer, ObservedLayer):
        if isinstance(layer.cell, Cell):
            return layer.z, layer.n
        form = _form_of(layer)
        if form is None or form.candidate is None:
            raise CellError(
                f"{what} rests on a state that is mixed of the one before and a candidate, in "
                f"shares that sum to 1, as h = z h_prev + (1 - z) n is; layer {layer.name!r} is "
                f"{article(layer.cell.kind)}, whose step is no such mix"
            )
        return form.keep.to(layer.h.dtype), layer.signal(form.candidate)
    if not layer.cell.is_convex:
        raise CellError(
            f"{what} rests on a state that is mixed of the one before and a candidate, in shares "
            f"that sum to 1, as h = z h_prev + (1 - z) n is; layer {layer.name!r} obeys "
            f"{layer.cell.equation}"
        )
    return layer.a, layer.candidate()
