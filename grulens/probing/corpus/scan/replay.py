"""Some steps of a scanned corpus run again, from the nearest state that the scan kept.

A scan keeps the states of every 256th step (anchors). A run that begins there is short, but only
right where nothing else comes from before: no layer that was left out of the scan, no layer that
runs backwards, no token that another one is compared with. Nobody has to know: the scan has kept
the least and the largest value of every unit in every window, and the run is compared with these.
Where they differ the whole row is run, and where that differs too, it is an error.

Many windows are run side by side, those of one length in one batch; a row that comes out otherwise
there is run by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy import ndarray
from torch import Tensor, nn

from grulens.errors import GrulensError, ScanError
from grulens.models.record import record
from grulens.models.recording import Recording
from grulens.models.restore.mode import evaluated
from grulens.models.restore.untouched import untouched
from grulens.probing.corpus.scan.abreast import abreast
from grulens.probing.corpus.scan.given import Form
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.part import ANCHOR, WINDOW, Part, extremes
from grulens.probing.corpus.scan.place import Place
from grulens.probing.edits.edit import Edit, clamp

#: So far may a state be from the scan's: another batch size rounds otherwise, and half precision
#: more so.
NEAR: Final = 1e-3
HALF: Final = 3e-2
#: Which way round a model took ids of which only that is not known: the one to try first.
_WAYS: Final[WeakKeyDictionary[nn.Module, int]] = WeakKeyDictionary()


def nearness(states: Tensor) -> float:
    """How far states may be from those of another run of the same steps, by their precision."""
    return NEAR if states.dtype in (torch.float32, torch.float64) else HALF


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


@dataclass(frozen=True)
class Stretch:
    """Some steps of one row, from a step whose states are known.

    Attributes:
        part: the part that the row is in.
        row: the row.
        anchor: the number of the kept state that it begins with; 0 is the row's own beginning.
        stop: the step after the last one.
        after: whether it begins at the step after that state, and not at the one that made it.
    """

    part: Part
    row: int
    anchor: int
    stop: int
    after: bool = False

    @classmethod
    def around(cls, part: Part, row: int, start: int, stop: int, cut: bool) -> Stretch:
        """The shortest one that holds some steps, or the whole row.

        Args:
            part: the part.
            row: the row.
            start: the first of the steps.
            stop: the step after the last one.
            cut: whether it may be less than the row.
        """
        length = int(part.rows[row, 2])
        if not (cut and part.form(row).cut):
            return cls(part, row, 0, length)
        return cls(part, row, start // ANCHOR, min(length, -(-stop // WINDOW) * WINDOW))

    @property
    def start(self) -> int:
        """The step of the row at which the run begins."""
        return self.anchor * ANCHOR - self.carried

    @property
    def carried(self) -> int:
        """How many steps it begins with whose states are put in: one, or none."""
        return int(self.anchor > 0 and not self.after)

    @property
    def window(self) -> int:
        """The first window that is wholly run."""
        return int(self.part.rows[self.row, 3]) + self.anchor * (ANCHOR // WINDOW)

    @property
    def read(self) -> Shaped[ndarray, "step ..."]:
        """What is read (step, ...)."""
        return self.part.again(self.row, self.start, self.stop)


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
        ScanError: what it took is not kept, or the model does something else now.
    """
    asked = part, place.row, place.start, place.stop
    whole = Stretch.around(*asked, cut=False)
    short = Stretch.around(*asked, cut=cut)
    why = ""
    for one in [whole] if short == whole else [short, whole]:
        try:
            recording = run(model, [one], manifest)
        except GrulensError:
            if not one.anchor:
                raise
            continue
        (why,) = differ(recording, [one], manifest)
        if not why:
            return Replay(recording, place, one.start)
    for number in range(len(manifest.layers)):  # else the part is damaged, and says so
        for name in ("low", "high"):
            part.index(number, name)
    raise ScanError(
        f"row {place.row} of part {place.part} does not run as it did in the scan: {why}. It was "
        "run by itself, in eval mode: what else does the model go by?"
    )


def states_again(
    model: nn.Module,
    manifest: Manifest,
    layer: int,
    places: Sequence[tuple[Part, Place]],
    cut: bool,
) -> tuple[list[Float[ndarray, "step unit"]], bool, float]:
    """The states at many places, run again side by side.

    Args:
        model: the model, in whatever mode; it runs in eval mode.
        manifest: what the scan was made with.
        layer: the number of the layer.
        places: each with the part that it is in.
        cut: whether to begin at anchors, where that is right.

    Returns:
        The states of the layer at each place; whether it was right to begin at anchors; and how far
        they may be from the scan's.

    Raises:
        ScanError: what it took is not kept, or the model does something else now.
    """
    found: dict[int, Float[ndarray, "step unit"]] = {}
    near = 0.0
    for short in (True, False) if cut else (False,):
        groups: dict[tuple[bool, int, str], dict[Stretch, list[int]]] = {}
        for number, (part, place) in enumerate(places):
            if number not in found:
                one = Stretch.around(part, place.row, place.start, place.stop, cut=short)
                alike = one.anchor > 0, one.stop - one.start, repr(part.form(place.row))
                same = groups.setdefault(alike, {})
                same.setdefault(one, []).append(number)
        for (_, steps, _), group in groups.items():
            first = next(iter(group))
            alone = first.part.form(first.row).alone
            rows = 1 if alone else abreast(manifest.batch, manifest.room, steps)
            for together in _batches([*group], rows, steps):
                for one, states, far in _alike(model, together, manifest, layer):
                    near = max(near, far)
                    for number in group[one]:
                        place = places[number][1]
                        found[number] = states[place.start - one.start : place.stop - one.start]
        cut = cut and len(found) == len(places)
    for number, (part, place) in enumerate(places):
        if number not in found:  # a model that makes something else of several rows than of each
            again = replay(model, part, manifest, place, cut=False)
            found[number] = _states(again.recording, manifest, layer)[0, again.steps]
            near = max(near, nearness(again.recording[manifest.layers[layer].name].h))
    return [found[number] for number in range(len(places))], cut, near


def _batches(every: list[Stretch], rows: int, steps: int) -> list[list[Stretch]]:
    """So many rows at a time, and never as many as steps, for which is which must be seen."""
    size = rows - 1 if rows == steps > 1 else rows
    found = [every[i : i + size] for i in range(0, len(every), size)]
    if len(found[-1]) == steps > 1:
        found[-1:] = [found[-1][:1], found[-1][1:]]
    return found


def _alike(
    model: nn.Module, together: Sequence[Stretch], manifest: Manifest, layer: int
) -> list[tuple[Stretch, Float[ndarray, "step unit"], float]]:
    """Those of some stretches that run as in the scan, with the states of a layer, and how near."""
    for one in together:
        _ = one.read  # what has none is an error of its own
    try:
        recording = run(model, together, manifest)
    except Exception:  # each is run by itself then, and that says what is wrong
        return []
    states, name = _states(recording, manifest, layer), manifest.layers[layer].name
    apart, near = differ(recording, together, manifest), nearness(recording[name].h)
    return [(one, states[row], near) for row, one in enumerate(together) if not apart[row]]


def _states(
    recording: Recording, manifest: Manifest, layer: int
) -> Float[ndarray, "row step unit"]:
    found: ndarray = recording[manifest.layers[layer].name].h.detach().float().cpu().numpy()
    return found


def _kept(together: Sequence[Stretch], manifest: Manifest) -> tuple[Edit, ...]:
    """The edits that put the kept states into the first step of a run."""
    if not together[0].carried:
        return ()
    edits = []
    for number, layer in enumerate(manifest.layers):
        kept = np.stack([one.part.anchor(number, one.row, one.anchor) for one in together])
        states = torch.from_numpy(kept.astype(np.float32)).view(len(kept), -1, 1, layer.units)
        for name, value in zip(layer.states, states.unbind(1), strict=True):
            edits.append(clamp(layer.name, name, value=value, at=0))
    return tuple(edits)


def run(model: nn.Module, together: Sequence[Stretch], manifest: Manifest) -> Recording:
    """The run of stretches of one length and form."""
    names = [layer.name for layer in manifest.layers]
    read = np.stack([one.read for one in together])
    with evaluated(model):
        return run_again(
            model, together[0].part.form(together[0].row), read,
            [one.part.batch_row(one.row) for one in together], names, manifest.call,
            _kept(together, manifest),
        )  # fmt: skip


def run_again(
    model: nn.Module,
    form: Form,
    read: Shaped[ndarray, "row step ..."],
    rows: Sequence[int],
    layers: Sequence[str],
    call: str | None,
    edits: Sequence[Edit] = (),
) -> Recording:
    """Run rows again, whichever way round the model takes them.

    Args:
        model: the model, in eval mode.
        form: how the input was given to it.
        read: (row, step, ...) what stands at each step.
        rows: which rows of their input they are.
        layers: the names of the layers.
        call: the name of the method that is the run.
        edits: what is changed in the run.

    Raises:
        ScanError: the model cannot be run so.
    """
    for way, (args, kwargs) in _ordered(model, form, read, rows):
        try:
            with untouched(model, random=False, told=False):  # as each of the scan's was
                found = record(model, edits=edits, layers=layers, call=call, inputs=(args, kwargs))
        except GrulensError:
            raise
        except Exception as error:
            raise ScanError(
                f"what was scanned cannot be run again: the model raised {type(error).__name__} "
                f"({error}) for {len(read)} rows of {read.shape[1]} steps by themselves"
            ) from error
        if found[layers[0]].mask.shape == read.shape[:2]:
            if form.open:
                _WAYS[model] = way
            break
    return found


def _ordered(
    model: nn.Module, form: Form, read: Shaped[ndarray, "row step ..."], rows: Sequence[int]
) -> list[tuple[int, tuple[tuple[Any, ...], dict[str, Any]]]]:
    """The ways in which rows may be given, each with its number, that of the last run first."""
    found = [*enumerate(form.again(read, rows))]
    return sorted(found, key=lambda way: form.open and way[0] != _WAYS.get(model, 0))


def ways(
    model: nn.Module, part: Part, row: int, read: Shaped[ndarray, "row step ..."]
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What the model may be given for a row, the way in which it ran last first."""
    form = part.form(row)
    return [given for _, given in _ordered(model, form, read, [part.batch_row(row)])]


def differ(
    recording: Recording, together: Sequence[Stretch], manifest: Manifest
) -> tuple[str, ...]:
    """How the windows of each row of a run differ from those of the scan, in words; "" if not.

    Args:
        recording: the run.
        together: what ran in each row, of one length.
        manifest: what the scan was made with.
    """
    steps, carried = together[0].stop - together[0].start, together[0].carried
    found = [""] * len(together)
    for number, layer in enumerate(manifest.layers):
        states = recording[layer.name].h
        if len(states) < len(together) or states.shape[1] != steps:
            return (f"layer {layer.name!r} has other rows or steps",) * len(together)
        values: Any = states[: len(together), carried:].detach().float().cpu().numpy()
        near = nearness(states)
        ends = extremes(values, np.ones(values.shape[:2], bool))
        for name, now in zip(("low", "high"), ends, strict=True):
            windows = now.shape[-1]
            then = [
                one.part.unchecked(number, name)[:, one.window : one.window + windows]
                for one in together
            ]
            if any(one.shape != (len(now), windows) for one in then):
                return (f"layer {layer.name!r} has other steps",) * len(together)
            kept = np.stack(then, 1)
            apart = np.abs(kept - now) / np.maximum(1, np.abs(kept))
            for row, far in enumerate(apart.max((0, 2), initial=0.0)):
                if not found[row] and not far <= near:
                    found[row] = (
                        f"states of layer {layer.name!r} are {far:.2g} from those that were kept"
                    )
    return tuple(found)
