"""What one signal of one layer did in a part, counted run by run in one pass over its values.

The values of a run are taken in blocks of some windows that stay in the processor's cache, and all
that is kept of them is taken from there: extremes, bits, moments, and the bins that they lie in.
Moments are about one value near all others, and their sum is float64. Of a signal with bounds the
products of a block are float32, which loses nothing there; of one without, beside a value far from
all others, they would, and are float64. All else is whole numbers. So neither the number of workers
nor numba changes a bit.

A histogram for each label would count a step once for each label that holds there. Labels hold
together in few combinations, so each step is counted once, for its combination (`Combinations`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, Shaped, UInt16, UInt64
from numpy import ndarray

from grulens.errors import ScanError
from grulens.probing.corpus.scan.bits import COMPILED, loaded
from grulens.probing.corpus.scan.codes import Code
from grulens.probing.corpus.scan.part import ROUNDING, WINDOW, extremes, packed, unpacked
from grulens.probing.corpus.scan.statistics import Statistics

#: So many windows are taken at a time.
WINDOWS: Final = 16
#: From so many values of a part on it pays to load what is compiled, once a process.
PAYS: Final = 1 << 25
#: The histograms of all combinations of a signal take so many bytes at most.
MOST: Final = 1 << 26

#: The squares of a unit that moves add up to this at least.
LEAST: Final = np.finfo(np.float64).tiny

#: Steps of a run, counted over its rows; all of them are None.
Steps: TypeAlias = Int[ndarray, "_"] | None


class Combinations:
    """Which labels hold together in a part: a number for each combination.

    The steps of a run are given as groups (`of`): those of one combination, or, once there are too
    many combinations, of the corpus and of each label by itself.

    Args:
        labels: how many labels there are.
        most: for how many combinations there is room.
    """

    def __init__(self, labels: int, most: int) -> None:
        self.labels, self._most = labels, most
        self._known: dict[bytes, int] = {}
        self.held: list[Bool[ndarray, " label"]] = []

    def of(
        self, labels: Sequence[Bool[ndarray, "row step"]], mask: Bool[ndarray, "row step"]
    ) -> list[tuple[int, Steps]]:
        """The steps of a run in groups, each with the number of the histogram that counts it.

        Number 0 is of the corpus, 1 on are of the labels, those after are of combinations.

        Args:
            labels: (row, step) for each label.
            mask: (row, step), False where there is no step.
        """
        every = None if mask.all() else np.flatnonzero(mask)
        if not self.labels:
            return [(0, every)]
        each = np.stack([label.reshape(-1) for label in labels])
        steps = np.arange(mask.size) if every is None else every
        number = np.zeros(mask.size, np.uint64)
        for first in range(0, self.labels, 32):  # numbers of combinations take 32 bits at most
            number <<= np.uint64(32)
            for place, label in enumerate(each[first : first + 32]):
                number |= label.astype(np.uint64) << np.uint64(place)
            number = np.unique(number, return_inverse=True)[1].astype(np.uint64)
        order = steps[np.argsort(number[steps].astype(np.uint32), kind="stable")]
        ends = np.flatnonzero(np.diff(number[order])) + 1
        groups: list[tuple[int, Steps]] = []
        rest = []
        for group in np.split(order, ends):
            if not len(group):
                continue
            held = each[:, group[0]]
            found = self._known.get(held.tobytes())
            if found is None and len(self.held) < self._most:
                found = self._known[held.tobytes()] = len(self.held)
                self.held.append(held)
            if found is None:
                rest.append(group)
            else:
                groups.append((1 + self.labels + found, group))
        if rest:
            left = np.concatenate(rest)
            groups.append((0, left))
            groups += [(1 + i, left[each[i, left]]) for i in range(self.labels)]
        return groups


class Tally:
    """Counts what one signal of one layer did in a part.

    Args:
        layer: the name of the layer.
        signal: the signal, with `name`, `low` and `high`.
        units: how many units the layer has.
        labels: the names of the labels.
        on: above which value a unit is on; None where bits and extremes are not wanted.
        zero: whether 0 has a bin of its own in a signal without bounds.
    """

    def __init__(
        self, layer: str, signal: Any, units: int, labels: Sequence[str], on: float | None,
        zero: bool = True,
    ) -> None:  # fmt: skip
        self._layer, self._signal, self._labels = layer, signal, tuple(labels)
        self._units, self._code = units, Code(signal.low, signal.high, zero)
        self._on = None if on is None else np.float32(on)
        self._steps = 0
        self._kind: Any = np.float32 if self._code.bounded else np.float64
        self._pivot: ndarray = np.zeros(units, self._kind)
        self._sums, self._products = np.zeros(units), np.zeros((units, units))
        self._moved = np.zeros(units, bool)
        self._together = np.zeros((units, units), np.int64)
        self._counts: dict[int, ndarray] = {}

    @property
    def room(self) -> int:
        """For how many combinations of labels there is room."""
        return max(1, MOST // (self._units * self._code.bins * 4))

    @property
    def values(self) -> int:
        """How many values were counted."""
        return self._steps * self._units

    def add(
        self,
        values: Float[ndarray, "row step unit"],
        mask: Bool[ndarray, "row step"],
        groups: Sequence[tuple[int, Steps]],
    ) -> dict[str, Any]:
        """Count the values of a run.

        Args:
            values: (row, step, unit), float32.
            mask: (row, step), False where there is no step.
            groups: its steps, as `Combinations.of` gives them.

        Returns:
            "on", "low" and "high" of the run, each (unit, row, window); empty for a gate.

        Raises:
            ScanError: a value is NaN or infinite.
        """
        rows, steps, units = values.shape
        mask = np.ascontiguousarray(mask)
        if not self._steps and mask.any():
            self._pivot = _near(values, mask).astype(self._kind)
        fast = compiled(self._steps * units + values.size)
        codes = np.empty((rows, steps, units), np.uint16)
        moved = np.empty((WINDOWS * WINDOW, units), self._kind)
        found: dict[str, Any] = {}
        if self._on is not None:
            shape = units, rows, -(-steps // WINDOW)
            found = {"on": np.empty(shape, np.uint64)}
            found |= {name: np.empty(shape, np.float32) for name in ("low", "high")}
        see = look if fast is None else fast.look
        for several, part in _blocks(rows, steps):
            kept = see(
                values, mask, several, part, self._pivot, self._on, self._code, moved, codes, found
            )
            self._moments(moved[:kept])
        if self._on is not None:
            words = found["on"].reshape(units, -1)
            (together if fast is None else fast.together)(words, self._together)
        self._check_bounds(found)
        self._steps += int(mask.sum())
        flat = codes.reshape(-1, units)
        for number, group in groups:
            if number not in self._counts:
                self._counts[number] = np.zeros((units, self._code.bins), np.uint32)
            counted = count if fast is None else fast.count
            counted(flat, np.arange(len(flat)) if group is None else group, self._counts[number])
        return found

    def _check_bounds(self, found: Mapping[str, Any]) -> None:
        """Raise where a value lies past the bounds by which all are counted."""
        low, high = self._signal.low, self._signal.high
        if not self._code.bounded or not found:
            return
        ends = float(found["low"].min(initial=low)), float(found["high"].max(initial=high))
        if ends[0] < low - ROUNDING or ends[1] > high + ROUNDING:
            past = ends[0] if ends[0] < low - ROUNDING else ends[1]
            raise ScanError(
                f"signal {self._signal.name!r} of layer {self._layer!r} is {past:.4g} at some "
                f"step, past {low:g} to {high:g}: its first state lies there, which that of the "
                "first run did not. By that one all are counted: begin the corpus with this input"
            )

    def _moments(self, moved: Float[ndarray, "value unit"]) -> None:
        with np.errstate(all="ignore"):  # what is not finite is refused
            sums = np.ones(len(moved), self._kind) @ moved
        # one that is not finite makes the sum so, too
        if not np.isfinite(sums).all() and not np.isfinite(moved).all():
            raise ScanError(
                f"signal {self._signal.name!r} of layer {self._layer!r} is NaN or infinite at some "
                "step: the model, or an input, is broken there"
            )
        products = moved.T @ moved
        self._sums += sums
        self._products += products
        self._moved |= products.diagonal() != 0
        if not self._moved.all():  # the square of what is very small is 0
            still = np.flatnonzero(~self._moved)
            self._moved[still] = moved[:, still].any(0)

    def statistics(self, combinations: Combinations) -> Statistics:
        """What was counted.

        Args:
            combinations: those that the groups of all runs were made by.
        """
        sets, bins = 1 + len(self._labels), self._code.bins
        counts = np.zeros((sets, self._units, bins), np.int64)
        for number, each in self._counts.items():
            if number < sets:
                counts[number] += each
                continue
            counts[0] += each
            for label in np.flatnonzero(combinations.held[number - sets]):
                counts[1 + label] += each
        rest = self._sums / max(self._steps, 1)
        products = self._products - self._steps * np.outer(rest, rest)
        own = products.diagonal()  # of a unit that moves it is above 0, whatever is rounded
        np.fill_diagonal(products, np.where(self._moved, np.maximum(own, LEAST), own))
        upper = np.triu(self._together)
        both = torch.from_numpy(upper + np.triu(upper, 1).T)
        return Statistics(
            self._layer, self._signal.name, float(self._signal.low), float(self._signal.high),
            self._labels, self._steps, torch.from_numpy(self._pivot + rest),
            torch.from_numpy(products),
            torch.from_numpy(counts), None if self._on is None else both,
        )  # fmt: skip


def _near(
    values: Float[ndarray, "row step unit"], mask: Bool[ndarray, "row step"]
) -> Float[ndarray, " unit"]:
    """A value near all others: the mean of the rows in the middle of a run."""
    valid = np.argwhere(mask)
    step = valid[len(valid) // 2, 1]
    found: ndarray = values[mask[:, step], step].mean(0, dtype=np.float64).astype(np.float32)
    return found


def _blocks(rows: int, steps: int) -> Iterator[tuple[slice, slice]]:
    """Which rows and steps are taken at a time; steps begin with a window."""
    many = max(1, WINDOWS // min(rows, WINDOWS))
    for step in range(0, steps, many * WINDOW):
        for row in range(0, rows, WINDOWS):
            yield slice(row, row + WINDOWS), slice(step, min(steps, step + many * WINDOW))


def compiled(values: int) -> Any:
    """The module of what is compiled by numba, where that is installed and pays; else None."""
    if find_spec("numba") is None or (values < PAYS and COMPILED not in sys.modules):
        return None
    return loaded()


def look(
    values: Float[ndarray, "row step unit"],
    mask: Bool[ndarray, "row step"],
    several: slice,
    part: slice,
    pivot: Float[ndarray, " unit"],
    on: np.float32 | None,
    code: Code,
    moved: Float[ndarray, "_ unit"],
    codes: UInt16[ndarray, "row step unit"],
    found: Mapping[str, Shaped[ndarray, "unit row window"]],
) -> int:
    """All that is taken from some values while they are in the cache.

    Args:
        values: (row, step, unit), float32.
        mask: (row, step), False where there is no step.
        several: which rows.
        part: which steps; they begin with a window.
        pivot: what is taken from each value, in the numbers of `moved`.
        on: above which value a unit is on; None where extremes and bits are not wanted.
        code: how values become bins.
        moved: where what is left of each value goes, one step after another.
        codes: where the bins go, those of the steps that are there.
        found: where "on", "low" and "high" go.

    Returns:
        How many steps there were.
    """
    block, there = np.ascontiguousarray(values[several, part]), mask[several, part]
    chosen = block[there]
    moved[: len(chosen)] = chosen - pivot
    with np.errstate(invalid="ignore"):  # what is not finite has no bin, and is refused
        codes[several, part][there] = code.of(chosen)
    if on is not None:
        at = several, slice(part.start // WINDOW, -(-part.stop // WINDOW))
        found["low"][:, *at], found["high"][:, *at] = extremes(block, there)
        found["on"][:, *at] = packed((block > on) & there[..., None])
    return len(chosen)


def count(
    codes: UInt16[ndarray, "step unit"],
    steps: Int[ndarray, " chosen"],
    counts: ndarray,
) -> None:
    """Count the bins of some steps (unit, bin)."""
    units, bins = counts.shape
    offset = np.arange(units) * bins
    for start in range(0, len(steps), 4096):
        places = codes[steps[start : start + 4096]] + offset
        many = np.bincount(places.ravel(), minlength=units * bins)
        counts += many.reshape(units, bins).astype(np.uint32)


def together(index: UInt64[ndarray, "unit window"], found: Int64[ndarray, "unit unit"]) -> None:
    """Add in how many steps both of two units are on."""
    units, windows = index.shape
    for start in range(0, windows, WINDOWS):
        words = np.ascontiguousarray(index[:, start : start + WINDOWS])
        ones = unpacked(words.reshape(-1)).reshape(units, -1).astype(np.float32)
        found += (ones @ ones.T).astype(np.int64)  # exact: whole numbers
