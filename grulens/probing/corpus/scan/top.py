"""The windows of a corpus in which a unit goes furthest, found in the extremes that a scan keeps.

Under a label only the steps count where it holds. Where it holds at some steps of a window, the
extreme of the window is but a bound, and the bits of these steps are another: are they on? Windows
are run again from the highest bound down, many at a time, until known ones go further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from grulens.errors import ScanError, shown
from grulens.probing.corpus.numbers import whole
from grulens.probing.corpus.scan.direction import Followed, followed
from grulens.probing.corpus.scan.furthest import bound
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.part import Part, unpacked
from grulens.probing.corpus.scan.place import Context, Place
from grulens.probing.corpus.scan.replay import NEAR
from grulens.results import Result, frame
from grulens.tables import html_table
from grulens.words import Say, english, so_many

ENDS: Final = ("high", "low")
#: So many windows are run again at a time, at most; so many are put in order at first.
AT_ONCE: Final = 256
CHUNK: Final = 1024
#: Runs windows again: the part and the number of each -> its states (step, unit).
Again: TypeAlias = Callable[[Sequence[tuple[Part, int]]], Sequence[Float[ndarray, "step unit"]]]


@dataclass(frozen=True, eq=False, repr=False)
class Top(Result):
    """The windows in which a unit goes furthest, the furthest first.

    Attributes:
        layer: the name of the layer.
        unit: the unit, or the name of the direction.
        end: "high" or "low".
        where: the label whose steps alone were looked at, or None.
        windows: how many windows there were to choose from.
        contexts: the windows, and what stands there.
        values: its largest value in each, or its least, at the steps that were looked at.
        near: how far the values of windows that ran again may be from those of the scan; 0 where
            none did.
    """

    layer: str
    unit: int | str
    end: str
    where: str | None
    windows: int
    contexts: tuple[Context, ...]
    values: tuple[float, ...]
    near: float = 0.0

    @property
    def note(self) -> str:
        """What a reader of values and order has to know, in words; "" if nothing."""
        return self.words()

    def words(self, say: Say = english) -> str:
        """The note, as `say` says it."""
        if self.near <= NEAR:
            return ""
        return say(
            "windows ran again in half precision, which rounds otherwise beside other rows: values "
            "are those of the scan to {near}, and of windows so near either may come first",
            near=f"{self.near:g}",
        )

    @property
    def places(self) -> tuple[Place, ...]:
        """The windows."""
        return tuple(one.place for one in self.contexts)

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a window.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        names = ("part", "row", "document", "batch_row", "offset", "start", "stop")
        columns: dict[str, Any] = {n: [getattr(p, n) for p in self.places] for n in names}
        columns["value"] = list(self.values)
        columns["text"] = [one.text for one in self.contexts]
        columns["labels"] = [", ".join(one.labels) for one in self.contexts]
        return frame(columns)

    def __repr__(self) -> str:
        where = f" where {self.where}" if self.where else ""
        near = f", values to {self.near:g}" if self.note else ""
        what = f"unit {self.unit}" if isinstance(self.unit, int) else f"direction {self.unit!r}"
        windows = so_many(len(self.places), "window")
        return f"Top({self.layer!r}, {what}, {windows}, {self.end}{where}{near})"

    def _repr_html_(self) -> str:
        head = ("value", "part", "input", "row", "steps", "text", "labels")
        rows = [
            (f"{value:z.4f}", p.part, p.document, p.batch_row,
             f"{p.offset + p.start}–{p.offset + p.stop - 1}",
             one.text, ", ".join(one.labels))
            for value, one, p in zip(self.values, self.contexts, self.places, strict=True)
        ]  # fmt: skip
        return html_table(head, rows, repr(self), self.note)


def top(
    parts: Sequence[Part],
    manifest: Manifest,
    layer: int,
    unit: Any,
    k: Any,
    label: int | None,
    end: Any,
    again: Again,
) -> Top:
    """See `Scan.top`; `again` runs windows again: (step, unit) of each."""
    scanned = manifest.layers[layer]
    one, k = followed(unit, scanned), whole(k, "k")
    if not isinstance(end, str) or end not in ENDS:
        raise ScanError(f"end must be 'high' or 'low', got {shown(end)}")
    sign = np.float32(1 if end == "high" else -1)
    seen = [_bounds(part, layer, one, label, end, manifest.on) for part in parts]
    far, held, known, after = (np.concatenate(each) for each in zip(*seen, strict=True))
    many = [part.windows for part in parts]
    first = np.cumsum([0, *many])
    after += np.repeat(first[:-1], many)

    def where(window: int) -> tuple[Part, int]:
        at = int(np.searchsorted(first, window, side="right")) - 1
        return parts[at], window - int(first[at])

    def run(windows: Sequence[int]) -> list[float]:
        places = [where(window) for window in windows]
        states = [sign * one.values(states) for states in again(places)]
        return [
            _under(label or 0, part, window, values, far[i])
            for i, (part, window), values in zip(windows, places, states, strict=True)
        ]

    best = _best(far, after, np.flatnonzero(held & known), np.flatnonzero(held & ~known), k, run)
    found = [where(window) for _, window in best]
    return Top(
        scanned.name, unit if isinstance(unit, str) else one.number, end,
        None if label is None else manifest.labels[label],
        int(held.sum()),
        tuple(part.context(part.place_of(window), manifest.labels) for part, window in found),
        tuple(float(-sign * value) for value, _ in best),
    )  # fmt: skip


def _bounds(
    part: Part, layer: int, one: Followed, label: int | None, end: str, on: float
) -> tuple[
    Float[ndarray, " window"], Bool[ndarray, " window"], Bool[ndarray, " window"],
    Int[ndarray, " window"],
]:  # fmt: skip
    """How far one goes at most in each window; whether a step counts there; whether it is known.

    The last says of each from which window on it comes: where two go as far, the first is meant.

    Args:
        part: the part.
        layer: the number of the layer.
        one: the unit or direction.
        label: the label whose steps count; None is all steps.
        end: "high" or "low", which is the way that is gone.
        on: above which value a unit is on.
    """
    sign = np.float32(1 if end == "high" else -1)
    far = sign * np.asarray(one.ends(part, layer, end))
    if label is None:
        return far, part.lengths > 0, np.ones(len(far), bool), np.arange(len(far))
    words = part.holds(label)
    many = np.bitwise_count(words)
    known = many == part.lengths
    kept = one.furthest(part, layer, label, end)
    far, listed, after = bound(far, (many > 0) & ~known, sign, kept)
    if one.direction is not None or kept is not None:  # it is neither on nor off, or nothing is new
        return far, many > 0, known | listed, after
    bits = np.asarray(part.index(layer, "on", [one.number])[one.number])
    # where no step that counts is on, none goes past the threshold, and where all are, none below
    passed = words & bits if end == "high" else words & ~bits
    far = np.where(known | (passed != 0), far, np.minimum(far, sign * np.float32(on)))
    return far, many > 0, known, after


def _under(label: int, part: Part, window: int, values: Float[ndarray, " step"], far: Any) -> float:
    """How far a window goes at the steps of a label, as it ran again.

    Args:
        label: the label.
        part: the part.
        window: the window.
        values: the unit at its steps, the larger the further.
        far: how far it went at most in the scan; where a step of the label is the furthest of all,
            that is what it is, however a run again is rounded.
    """
    inside = values[np.flatnonzero(unpacked(part.holds(label)[window : window + 1]))].max()
    return float(far if inside == values.max() else min(inside, far))


def _best(
    far: Float[ndarray, " window"],
    after: Int[ndarray, " window"],
    known: Int[ndarray, " known"],
    bounded: Int[ndarray, " bounded"],
    k: int,
    run: Callable[[Sequence[int]], list[float]],
) -> list[tuple[float, int]]:
    """The k windows that go furthest, each with how far (negative), the furthest first.

    Of two that go as far, the first of the corpus comes first.

    Args:
        far: how far each window goes, or goes at most.
        after: the first window that one that goes so far may come at: its own number, or later.
        known: the windows that go so far.
        bounded: those that go so far at most.
        k: how many.
        run: tells how far some of these go.
    """
    best = sorted((float(-far[i]), int(i)) for i in _furthest(far, known, k))
    many = k

    def may(window: int) -> bool:
        """Whether a window can still be one of them."""
        return len(best) < k or (float(-far[window]), int(after[window])) < best[-1]

    for chunk in _in_order(far, bounded, best[-1][0] if len(best) == k else np.inf):
        left = [*chunk]
        while left and may(left[0]):
            now = [window for window in left[:many] if may(window)]
            left, many = left[many:], min(2 * many, AT_ONCE)
            new = [(-value, window) for value, window in zip(run(now), now, strict=True)]
            best = sorted([*best, *new])[:k]
        if left:
            break
    return best


def _in_order(
    far: Float[ndarray, " window"], chosen: Int[ndarray, " chosen"], most: float
) -> Iterator[list[int]]:
    """Windows, the furthest first, and of those that go as far the first; some at a time.

    Args:
        far: how far each window goes.
        chosen: which are meant.
        most: none that goes less far than this, negative.
    """
    chosen = chosen[-far[chosen] <= most]
    size = CHUNK
    while len(chosen):
        values = far[chosen]
        limit = np.partition(values, -size)[-size] if len(chosen) > size else values.min()
        near = chosen[values >= limit]
        yield near[np.argsort(-far[near], kind="stable")].tolist()
        chosen, size = chosen[values < limit], 4 * size


def _furthest(
    far: Float[ndarray, " window"], chosen: Int[ndarray, " chosen"], k: int
) -> Int[ndarray, " best"]:
    """The k windows that go furthest; of equal ones the first."""
    if len(chosen) <= k:
        return chosen
    values = far[chosen]
    limit = np.partition(values, -k)[-k]
    above = chosen[values > limit]
    return np.concatenate([above, chosen[values == limit][: k - len(above)]])
