"""Some steps of a scanned corpus run again, from the nearest state that the scan kept.

A scan keeps the states of every 256th step (anchors). A run that begins there is short, but only
right where nothing else comes from before: no layer that was left out of the scan, no layer that
runs backwards, no token that another one is compared with. Nobody has to know: the scan has kept
the least and the largest value of every unit in every window, and the run is compared with these.
Where they differ the whole row is run, and where that differs too, it is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import nn

from grulens.errors import GrulensError, ScanError
from grulens.models.record import record
from grulens.models.recording import Recording
from grulens.models.restore.mode import evaluated
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.part import ANCHOR, WINDOW, Part, extremes
from grulens.probing.corpus.scan.place import Place
from grulens.probing.edits.edit import Edit, clamp

#: So far may a state be from the scan's: another batch size rounds otherwise, and half precision
#: more so.
NEAR: Final = 1e-3
HALF: Final = 3e-2


@dataclass(frozen=True)
class Replay:
    """Some steps of a scanned corpus that ran again.

    Attributes:
        recording: the run, of one row. Where `start` is not 0, its first step holds the states
            that the scan kept, and the gates of that one step are not those of the corpus.
        place: the place that was asked for.
        start: the step of the row at which the run begins.
    """

    recording: Recording
    place: Place
    start: int

    @property
    def steps(self) -> slice:
        """The steps of the place, counted in the recording."""
        return slice(self.place.start - self.start, self.place.stop - self.start)


def replay(
    model: nn.Module, part: Part, manifest: Manifest, place: Place, *, cut: bool = True
) -> Replay:
    """Run a place again.

    Args:
        model: the model, in whatever mode; it runs in eval mode.
        part: the part that the place is in.
        manifest: what the scan was made with.
        place: the place.
        cut: whether to begin at an anchor and to end with the place, where that is right.

    Raises:
        ScanError: the corpus was not one of ids, or the model does something else now.
    """
    if part.ids is None:
        raise ScanError(
            "the inputs of this scan were no ids, and are not kept: record(model, ...) the "
            f"input {place.document} of part {place.part} itself"
        )
    _, _, length, first = part.rows[place.row].tolist()
    stop = min(length, -(-place.stop // WINDOW) * WINDOW)
    number, whole = place.start // ANCHOR, (0, length)
    tries = [(number, stop), whole] if cut and (number, stop) != whole else [whole]
    row = part.ids[first : first + -(-length // WINDOW)].reshape(-1)
    why = ""
    for anchor, end in tries:
        start = anchor * ANCHOR - 1 if anchor else 0
        edits = _kept(part, manifest, place.row, anchor) if anchor else ()
        ids = torch.from_numpy(row[start:end].astype(np.int64))
        try:
            recording = _run(model, ids, manifest, edits)
        except GrulensError as error:
            if not anchor:
                raise
            why = str(error)
            continue
        why = _differs(recording, part, manifest, first + (start + 1) // WINDOW, start > 0)
        if not why:
            return Replay(recording, place, start)
    raise ScanError(
        f"row {place.row} of part {place.part} does not run as it did in the scan: {why}. It was "
        "run by its ids alone, in eval mode: what else did the model take then?"
    )


def _kept(part: Part, manifest: Manifest, row: int, anchor: int) -> tuple[Edit, ...]:
    """The edits that put the kept states into the first step of a run."""
    edits = []
    for number, layer in enumerate(manifest.layers):
        kept = torch.from_numpy(part.anchor(number, row, anchor).astype(np.float32))
        for name, value in zip(layer.states, kept.view(-1, layer.units), strict=True):
            edits.append(clamp(layer.name, name, value=value, at=0))
    return tuple(edits)


def _run(model: nn.Module, ids: Any, manifest: Manifest, edits: tuple[Edit, ...]) -> Recording:
    """The run of one row of ids, whichever way round the model takes them."""
    names = [layer.name for layer in manifest.layers]
    for given in (ids[None], ids[:, None]):
        with evaluated(model):
            found = record(
                model, edits=edits, layers=names, call=manifest.call, inputs=((given,), {})
            )
        if tuple(found[names[0]].mask.shape) == (1, len(ids)):
            break
    return found


def _differs(
    recording: Recording, part: Part, manifest: Manifest, window: int, carried: bool
) -> str:
    """How the windows of a run differ from those of the scan, in words; "" if they do not.

    Args:
        recording: the run.
        part: the part that it is of.
        manifest: what the scan was made with.
        window: the window that the run begins with.
        carried: whether the run has one step before that.
    """
    for number, layer in enumerate(manifest.layers):
        states = recording[layer.name].h
        if len(states) != 1 or states.shape[1] != recording[manifest.layers[0].name].h.shape[1]:
            return f"layer {layer.name!r} has other rows or steps"
        values: Float[ndarray, "row step unit"] = states[:, int(carried) :].float().cpu().numpy()
        ends = extremes(values, np.ones(values.shape[:2], bool))
        near = NEAR if states.dtype in (torch.float32, torch.float64) else HALF
        for name, found in zip(("low", "high"), ends, strict=True):
            kept = part.index(number, name)[:, window : window + found.shape[-1]]
            if kept.shape != found[:, 0].shape:
                return f"layer {layer.name!r} has other steps"
            apart = np.abs(kept - found[:, 0]) / np.maximum(1, np.abs(kept))
            if not float(apart.max(initial=0.0)) <= near:
                far = f"{float(apart.max()):.2g}"
                return f"states of layer {layer.name!r} are {far} from those that were kept"
    return ""
