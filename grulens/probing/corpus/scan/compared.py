"""What the inputs of a part give now, beside what was scanned of them.

Whoever goes on with a scan with another `encode` or `decode`, or with labels that say something
else, would add parts of two kinds. All that they gave stands in the part: the ids, a bit a step for
each label, and what ids are called. So the first part is read again, without a run of the model,
and compared at every step; and so is every part, where labels are told by functions that are not
what they were (see rules.py). A model goes by more than its weights, so it runs the first inputs
again, and its states are compared with what was kept of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray
from torch.nn.utils.rnn import PackedSequence

from grulens.errors import ScanError, shown
from grulens.models.recording import Recording
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.part import WINDOW, Part, extremes, unpacked
from grulens.probing.corpus.scan.replay import nearness
from grulens.probing.corpus.scan.sequences import Labelled, Reader, Run, fits, one_name
from grulens.probing.corpus.scan.shorter import shortened
from grulens.probing.corpus.scan.table import Rows


def compare(part: Part, runs: Iterable[Run], reader: Reader) -> None:
    """Compare the runs of a part with the part as it was scanned.

    Args:
        part: the part; one that is damaged is passed over, for that is said where it is read.
        runs: its runs, as the reader gives them now.
        reader: how parts are read.

    Raises:
        ScanError: ids, labels or names are others; it says which.
    """
    try:
        part.check()
        labels, names = part.labels, part.names
        _ = part.rows, part.ids, part.inputs
    except ScanError:
        return
    left = _rows(part)
    called: dict[int, str] = {}
    others: set[str] = set()
    for given in runs:
        run = _settled(part, given, reader)
        if run is None:
            return
        called = one_name([*called.items(), *run.names.items()])
        for at, key in enumerate(zip(run.documents, run.starts, strict=True)):
            row = next(left.get(key, iter(())), None)
            if row is None:
                raise _other(part, *_READ)
            steps, first = part.rows[row, 2:].tolist()
            then = part.read(row, 0, steps)
            now = None if run.read is None else run.read[at]
            if now is not None and given.ready:
                now = now[:steps]  # padded
            if now is not None and then is not None and not _same(now, then):
                raise _other(part, *_READ)
            windows = slice(first, first - (-steps // WINDOW))
            for number, (name, held) in enumerate(run.labels.items() if run.labels else ()):
                word = None if labels is None else unpacked(labels[number, windows])[:steps]
                if word is None or not np.array_equal(held[at, :steps], word):
                    others.add(name)
    if any(next(rows, None) is not None for rows in left.values()):
        raise _other(part, *_READ)
    if others:
        those = ", ".join(name for name in reader.labels if name in others)
        raise _other(part, f"other labels than are given now ({those})")
    if part.ids is not None:
        ids = np.unique(part.ids)
        called |= reader.names(ids[~np.isin(ids, list(called))])
        for number in ids.tolist():
            if called.get(number) != names.get(number):
                raise _other(
                    part,
                    f"other names of ids than there are now (id {number} was called "
                    f"{shown(names.get(number))}, and is called {shown(called.get(number))} now)",
                    "`decode`, or what stands for it, is another",
                )


def more_than(part: Part, given: Any) -> bool:
    """Whether a part of a table may have more or fewer rows now than it was scanned with.

    The last part of a table grows with it, while other parts are known by their place. Rows at its
    end that hold no step were not kept.

    Args:
        part: the part as it was scanned.
        given: the part as it is given.
    """
    rows = given.part if isinstance(given, Labelled) else given
    if not isinstance(rows, Rows):
        return False
    try:
        return int(part.rows[:, 0].max(initial=-1)) + 1 != len(rows)
    except ScanError:  # damaged, which is said where it is read
        return False


def compare_states(
    part: Part, recording: Recording, given: Run, reader: Reader, manifest: Manifest
) -> None:
    """Compare the states of the first run of a part with those that it was scanned with.

    Args:
        part: the part; one that is damaged is passed over, for that is said where it is read.
        recording: the run, as the model does it now.
        given: what it was given.
        reader: how parts are read.
        manifest: what the scan was made with.

    Raises:
        ScanError: the states are others, by more than a replay may differ.
    """
    try:
        part.check()
        left = _rows(part)
    except ScanError:
        return
    mask = recording[manifest.layers[0].name].mask.cpu().numpy()
    run = reader.settled(given, mask)
    keys = zip(run.documents, run.starts, strict=True)
    rows = [row for key in keys if (row := next(left.get(key, iter(())), None)) is not None]
    if len(rows) < len(mask) or (part.rows[rows, 2] != mask.sum(1)).any():
        raise _other(part, "a model that made other rows or steps of the first inputs")
    windows = part.rows[rows, 3][:, None] + np.arange(-(-mask.shape[1] // WINDOW))
    for number, layer in enumerate(manifest.layers):
        states = recording[layer.name].h
        near = nearness(states)
        now = extremes(states.detach().float().cpu().numpy(), mask)
        for name, ends in zip(("low", "high"), now, strict=True):
            kept = part.unchecked(number, name)[:, windows]
            with np.errstate(invalid="ignore"):
                apart = np.abs(kept - ends) / np.maximum(1, np.abs(kept))
            far = float(np.where(kept == ends, 0, apart).max())
            if not far <= near:
                part.index(number, name)  # else the part is damaged, and says so
                raise _other(
                    part,
                    "a model that did something else",
                    f"states of layer {layer.name!r} are {far:.2g} from those that were kept. Its "
                    "weights are those of the scan: what else does it go by?",
                )


_READ = (
    "other inputs than it has now",
    "they are others, or more or fewer, or `encode` or `input_of` is another",
)


def _rows(part: Part) -> dict[tuple[int, int], Iterator[int]]:
    """The rows of a part by their input, and the step of it at which they begin."""
    found: dict[tuple[int, int], list[int]] = {}
    for row, (document, start) in enumerate(part.rows[:, :2].tolist()):
        found.setdefault((document, start), []).append(row)
    return {key: iter(rows) for key, rows in found.items()}


def _settled(part: Part, run: Run, reader: Reader) -> Run | None:
    """A run with its rows and labels; None where only the model can say which they are."""
    if not run.ready:
        return run
    at = part.rows[:, 0] == run.documents[0]
    lengths = part.rows[at, 2]
    if not len(lengths):
        raise _other(part, *_READ)
    run = next(shortened(run, len(lengths), int(lengths.max())), run)
    windows = int(np.diff(part.rows[:, 3], append=part.windows)[at][0])
    form = part.form(int(at.argmax()))
    turned = next((one.turned for one in form.every if one.kind == "read"), None)
    run = replace(run, turned=turned)  # as it was then
    for one in run.ready.values():
        shape = (int(lengths.max()),) if isinstance(one, PackedSequence) else one.shape[:2]
        for steps in map(int, shape):
            if -(-steps // WINDOW) == windows and fits(one, len(lengths), steps):
                mask = np.arange(steps) < lengths[:, None]
                with suppress(ScanError):
                    return reader.settled(run, mask)
    return None


def _same(now: Shaped[ndarray, "*now"], then: Shaped[ndarray, "*then"]) -> bool:
    """Whether as much was read, and the same."""
    if now.size != then.size:
        return False
    return np.array_equal(now.reshape(then.shape), then, equal_nan=now.dtype.kind == "f")


def _other(part: Part, what: str, why: str = "") -> ScanError:
    return ScanError(
        f"part {part.number} of {part.place.parent.parent} was scanned with {what}"
        f"{f': {why}' if why else ''}{'' if why.endswith('?') else '.'} Parts of two scans cannot "
        "be added: go on with what was used there, or scan into another folder"
    )
