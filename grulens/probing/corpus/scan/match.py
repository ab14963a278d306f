"""Where in a corpus some units are on together, counted in the bits that a scan keeps.

Every place is counted, and the best are kept, each with the labels that stand there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int64, Shaped, UInt64
from numpy import ndarray
from torch import Tensor

from grulens.errors import ScanError, shown
from grulens.probing.corpus.numbers import as_whole, whole
from grulens.probing.corpus.scan.bits import (
    Stretches,
    Words,
    highest,
    last_before,
    positions,
    quickest,
    reaching,
)
from grulens.probing.corpus.scan.direction import check_unit
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.part import WINDOW, Part, unpacked
from grulens.probing.corpus.scan.place import Context, Place
from grulens.results import Result, frame
from grulens.tables import html_table
from grulens.words import so_many

#: So many places are kept with what stands around them, so many steps to either side, and so many
#: steps in all at most.
CONTEXTS: Final = 20
BESIDE: Final = 8
LONGEST: Final = 64


@dataclass(frozen=True, eq=False, repr=False)
class Match(Result):
    """Where units are on together: the places with the most units on first, then as they come.

    Attributes:
        layer: the name of the layer.
        units: the units.
        length: for how many steps on end they had to be on, at least.
        at_least: how many of them had to be on at each of these steps.
        found: how many such places there are in the corpus.
        steps: how many steps lie in them.
        of: how many steps the corpus has.
        places: the first of them; each goes on for as long as enough units are on.
        together: to how many units on at a time each place comes for `length` steps on end; at
            each of these steps it may be others.
        contexts: the first places with some steps before and after; the values are how many of the
            units are on.
        labels: the names of the labels.
        share: (label,) at which share of the steps in all places each label holds.
        chance: (label,) at which share of all steps of the corpus it does.
    """

    layer: str
    units: tuple[int, ...]
    length: int
    at_least: int
    found: int
    steps: int
    of: int
    places: tuple[Place, ...]
    together: tuple[int, ...]
    contexts: tuple[Context, ...]
    labels: tuple[str, ...]
    share: Float64[Tensor, " label"]
    chance: Float64[Tensor, " label"]

    @property
    def lift(self) -> Float64[Tensor, " label"]:
        """(label,) how many times as often each label holds there as in the corpus.

        NaN for a label that holds nowhere, or if there is no place.
        """
        return self.share / self.chance

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a place.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        names = ("part", "row", "document", "batch_row", "offset", "start", "stop")
        columns: dict[str, Any] = {n: [getattr(p, n) for p in self.places] for n in names}
        return frame(columns | {"together": list(self.together)})

    def __repr__(self) -> str:
        return (
            f"Match({self.layer!r}, {self.at_least} of {so_many(len(self.units), 'unit')} for "
            f"{so_many(self.length, 'step')}, {so_many(self.found, 'place')})"
        )

    def _repr_html_(self) -> str:
        head = ("label", "there", "in the corpus", "times as often")
        order = self.lift.nan_to_num(0).argsort(descending=True, stable=True).tolist()
        rows = [
            (self.labels[i], *(f"{one:.{n}f}".replace("nan", "–") for one, n in three))
            for i in order
            for three in [((self.share[i], 3), (self.chance[i], 3), (self.lift[i], 2))]
        ]
        return html_table(head, rows, repr(self))


def matches(
    parts: Sequence[Part],
    manifest: Manifest,
    layer: int,
    units: Any,
    length: Any,
    at_least: Any,
    limit: Any,
) -> Match:
    """See `Scan.match`."""
    scanned = manifest.layers[layer]
    chosen = [check_unit(unit, scanned.units, scanned.name) for unit in _listed(units)]
    if not chosen or len(set(chosen)) < len(chosen):
        raise ScanError(f"units must be one or more units, each once, got {shown(units)}")
    length, limit = whole(length, "length", most=WINDOW), whole(limit, "limit")
    least = len(chosen)
    if at_least is not None:
        least = whole(at_least, "at_least", most=least)
    words = quickest(sum(part.windows for part in parts))
    found: list[tuple[int, int, int]] = []  # units on (negative), part, step
    several = steps = 0
    held = np.zeros(len(manifest.labels), np.int64)
    masks: dict[int, Words] = {}
    for at, part in enumerate(parts):
        follows = part.follows
        # once there are enough places, a later one must have more units on
        better = 1 - found[-1][0] if len(found) == limit else least
        index = part.index(layer, "on", chosen)
        both = [least, *([better] if least < better <= len(chosen) else [])]
        mask, *more = words.levels(index, chosen, both)
        lasts = words.lasting(mask, length, follows)
        if not lasts.any():
            continue
        # where a run that lasts begins, so many steps of it are set
        begins = lasts & words.begun(mask, follows)
        several += int(np.bitwise_count(begins).sum())
        if better <= len(chosen):
            from_on = words.lasting(more[0], length, follows) if more else lasts
            if more:  # each of them lies in the last place that began before it
                ons = positions(from_on & ~(from_on << np.uint64(1)))
                places = np.unique(last_before(begins, ons))
            else:
                places = positions(begins, limit if better == len(chosen) else None)
            new = _best(words, index, chosen, places, from_on, better, length, follows, limit)
            if new:
                found = sorted([*found, *((-many, at, place) for many, place in new)])[:limit]
                masks[at] = mask
        covered = words.spread(lasts, length, follows)
        steps += int(np.bitwise_count(covered).sum())
        if part.labels is not None:
            held += _held(part.labels, covered)
    total = np.zeros_like(held)
    for part in parts:
        total += part.positives
    corpus = sum(int(part.rows[:, 2].sum()) for part in parts)
    return Match(
        scanned.name, tuple(chosen), length, least, several, steps, corpus,
        tuple(_place(parts[at], masks[at], step) for _, at, step in found),
        tuple(-many for many, _, _ in found),
        tuple(
            _context(parts[at], _place(parts[at], masks[at], step), layer, chosen, manifest.labels)
            for _, at, step in found[:CONTEXTS]
        ),
        manifest.labels,
        torch.from_numpy(held / max(steps, 1) if steps else held * np.nan),
        torch.from_numpy(total / max(corpus, 1)),
    )  # fmt: skip


def _best(
    words: Any,
    index: Shaped[ndarray, "unit window"],
    units: Sequence[int],
    places: Int[ndarray, " place"],
    lasts: Words,
    least: int,
    length: int,
    follows: Bool[ndarray, " window"],
    limit: int,
) -> list[tuple[int, int]]:
    """The first of the places of a part with the most units on, each with how many, these first.

    Args:
        words: the module that counts.
        index: a bit a step, whether a unit is on.
        units: which units.
        places: the steps at which the places begin, each with `least` units on for long enough.
        lasts: the steps from which on `least` units are on long enough, all of them in a place.
        least: with how many units on a place may be one of the best.
        length: how long.
        follows: whether a window goes on from the one before it, in the same row.
        limit: how many places.
    """
    best: list[tuple[int, int]] = []
    left = np.ones(len(places), bool)
    if len(places) and least < len(units):
        # more of them are on for so long only where fewer are
        there = lasts != 0
        there[1:] |= there[:-1]  # a run goes on in the next window at most
        windows = np.flatnonzero(there)
        if 2 * len(windows) < len(there):
            index, units = index[np.ix_(np.asarray(units), windows)], range(len(units))
            follows = follows[windows] & (np.diff(windows, prepend=-1) == 1)
        else:
            windows = np.arange(len(there))
        planes = words.planes(index, units)
        stretches = Stretches(places, windows)
        for level in range(highest(planes), least, -1):
            lasts = words.lasting(reaching(planes, level), length, follows)
            new = left & stretches.hold(lasts)
            best += [(level, place) for place in places[new].tolist()]
            left &= ~new
            if len(best) >= limit or not left.any():
                break
    best += [(least, place) for place in places[left][:limit].tolist()]
    return best[:limit]


def _held(labels: UInt64[ndarray, "label window"], covered: Words) -> Int64[ndarray, " label"]:
    """At how many of some steps each label holds."""
    found = np.zeros(len(labels), np.int64)
    there = np.flatnonzero(covered)
    if 2 * len(there) < len(covered):
        labels, covered = labels[:, there], covered[there]
    for label, words in enumerate(labels):
        found[label] = np.bitwise_count(words & covered).sum(dtype=np.int64)
    return found


def _listed(units: Any) -> list[Any]:
    if as_whole(units) is not None:
        return [units]
    if isinstance(units, str | bytes | Mapping):
        raise ScanError(f"units must be one or more units, each once, got {shown(units)}")
    try:
        found = units.tolist() if isinstance(units, ndarray | Tensor) else list(units)
    except Exception as error:
        raise ScanError(f"units must be one or more units, got {shown(units)}") from error
    return found if isinstance(found, list) else [found]


def _place(part: Part, mask: UInt64[ndarray, " window"], step: int) -> Place:
    """The place that begins at a step and goes on for as long as a mask is set."""
    row = part.row_of(step // WINDOW)
    _, _, length, first = part.rows[row].tolist()
    begin = step - first * WINDOW
    return part.in_row(row, begin, begin + _goes_on(mask, step, first + -(-length // WINDOW)))


def _goes_on(mask: Words, step: int, end: int) -> int:
    """For how many steps a mask is set from one on, before a window.

    >>> _goes_on(np.array([0b1110 << 60, 0b11], np.uint64), 62, 2)
    4
    """
    (window, bit), many = divmod(step, WINDOW), 0
    while window < end:
        word = int(mask[window]) >> bit
        ones = (~word & (word + 1)).bit_length() - 1
        many += ones
        if ones < WINDOW - bit:
            break
        window, bit = window + 1, 0
    return many


def _context(
    part: Part, place: Place, layer: int, units: Sequence[int], labels: Sequence[str]
) -> Context:
    """What stands around a place, and how many of these units are on at each step."""
    _, _, steps, first = part.rows[place.row].tolist()
    start = max(0, place.start - BESIDE)
    around = replace(place, start=start, stop=min(steps, place.stop + BESIDE, start + LONGEST))
    windows = slice(first + around.start // WINDOW, first + -(-around.stop // WINDOW))
    index, begin = part.index(layer, "on", units), around.start % WINDOW
    on = np.stack([unpacked(index[unit, windows]) for unit in units])
    many = on.sum(0)[begin : begin + around.stop - around.start]
    return part.context(around, labels, [float(value) for value in many])
