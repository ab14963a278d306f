"""What `bits` and `tally` count, in one pass over words or values, compiled by numba.

What was compiled is kept on disk, beside this file or in the user's cache, for the next process.
numba takes it up again while this file and the processor are the same, so nothing that another file
may change is a constant here: it is given as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import unwrap
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Int64, Shaped, UInt16, UInt64
from numba import njit, typeof, types
from numba.extending import intrinsic
from numpy import ndarray
from numpy.lib.stride_tricks import as_strided

from grulens.probing.corpus.scan.bits import doublings
from grulens.probing.corpus.scan.codes import (
    EVEN,
    FOUR,
    LEAST,
    LOGS,
    NEAR,
    SMALL,
    THREE,
    WIDE,
    Code,
)

#: So many words at a time, with their planes, stay in the first cache.
BLOCK = 512
#: So many units at a time have their bins in the second cache.
UNITS = 192
#: A word is a window of so many steps.
WINDOW = 64


class Compiled:
    """A function that is compiled at its first call, or taken from disk, if it was before.

    Args:
        function: written in what numba reads, with no state of its own.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        # as it is written: numba reads no decorator that a check of annotations puts around it
        self._function = unwrap(function)
        self._made: Any = None
        self._making = Lock()

    def __call__(self, *args: Any) -> Any:
        if self._made is None:
            with self._making:  # of two threads one does it
                self._made = self._made or self._first(args)
        return self._made(*args)

    def _first(self, args: tuple[Any, ...]) -> Any:
        """What is called from now on, compiled for arguments like these."""
        kinds = tuple(map(typeof, args))
        try:
            made = njit(nogil=True, cache=True)(self._function)
            made.compile(kinds)
        except Exception:  # no folder can be written to, the disk is full, or what is there damaged
            made = njit(nogil=True)(self._function)
            made.compile(kinds)
        return made


def warm() -> None:
    """Make ready what a match needs."""
    none = np.zeros(1, bool)
    mask = levels(np.zeros((1, 1), np.uint64), [0], [1])[0]
    planes(mask[None], [0])
    spread(lasting(begun(mask, none), 1, none), 1, none)


def levels(
    index: Shaped[ndarray, "unit window"], units: Sequence[int], least: Sequence[int]
) -> Shaped[ndarray, "level window"]:
    """See `bits.levels`."""
    found = np.empty((len(least), index.shape[1]), np.uint64)
    _counted_in(index, units, least, found, found[:0])
    return found


def planes(
    index: Shaped[ndarray, "unit window"], units: Sequence[int]
) -> Shaped[ndarray, "plane window"]:
    """See `bits.planes`."""
    found = np.empty((len(units).bit_length(), index.shape[1]), np.uint64)
    _counted_in(index, units, (), found[:0], found)
    return found


def _counted_in(index: Any, units: Any, least: Any, found: Any, counts: Any) -> None:
    given = np.asarray(index).view()
    given.flags.writeable = False  # as what lies on disk: compiled for one kind of array
    _levels(given, np.asarray(units, np.int64), np.asarray(least, np.int64), found, counts)


def _count(index: Any, units: Any, least: Any, found: Any, counts: Any) -> None:
    most = 0
    while len(units) >> most:
        most += 1
    planes = np.zeros((most, BLOCK), np.uint64)
    carry, more = np.zeros(BLOCK, np.uint64), np.zeros(BLOCK, np.uint64)
    equal, lowest = np.zeros(BLOCK, np.uint64), planes[0]
    every = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
    for start in range(0, index.shape[1], BLOCK):
        size = min(BLOCK, index.shape[1] - start)
        planes[:] = 0
        # two units at a time, and what was counted: a full adder leaves one carry for both
        for number in range(0, len(units), 2):
            one, other = index[units[number], start : start + size], more[:size]
            if number + 1 < len(units):
                other = index[units[number + 1], start : start + size]
            else:
                more[:] = 0
            for i in range(size):
                first, second, held = one[i], other[i], lowest[i]
                either = first ^ second
                lowest[i] = held ^ either
                carry[i] = (first & second) | (held & either)
            place = 1
            while (number + 2) >> place and place < most:
                plane = planes[place]
                for i in range(size):
                    held = plane[i]
                    plane[i] = held ^ carry[i]
                    carry[i] &= held
                place += 1
        for place in range(counts.shape[0]):
            for i in range(size):
                counts[place, start + i] = planes[place, i]
        for level in range(found.shape[0]):
            more[:] = 0
            equal[:] = every
            for place in range(most - 1, -1, -1):
                if not least[level] & ((2 << place) - 1):
                    break  # nothing is asked of the planes below
                if least[level] >> place & 1:
                    for i in range(size):
                        equal[i] &= planes[place, i]
                else:
                    for i in range(size):
                        more[i] |= equal[i] & planes[place, i]
                        equal[i] &= ~planes[place, i]
            for i in range(size):
                found[level, start + i] = more[i] | equal[i]


_levels = Compiled(_count)


def lasting(
    mask: UInt64[ndarray, " window"], length: int, follows: Bool[ndarray, " window"]
) -> UInt64[ndarray, " window"]:
    """See `bits.lasting`."""
    found = np.empty_like(mask)
    _lasting(mask, np.array([*doublings(length)], np.uint64), follows, found)
    return found


def _last(mask: Any, shifts: Any, follows: Any, found: Any) -> None:
    width = np.uint64(WINDOW)
    for window in range(len(mask)):
        low, high = mask[window], np.uint64(0)
        if window + 1 < len(mask) and follows[window + 1]:
            high = mask[window + 1]
        if not low:
            found[window] = low
            continue
        for shift in shifts:
            low &= (low >> shift) | (high << (width - shift))
            high &= high >> shift
        found[window] = low


def spread(
    mask: UInt64[ndarray, " window"], length: int, follows: Bool[ndarray, " window"]
) -> UInt64[ndarray, " window"]:
    """See `bits.spread`."""
    found = np.empty_like(mask)
    _spread(mask, np.array([*doublings(length)], np.uint64), follows, found)
    return found


def _spread_out(mask: Any, shifts: Any, follows: Any, found: Any) -> None:
    width = np.uint64(WINDOW)
    for window in range(len(mask)):
        high, low = mask[window], np.uint64(0)
        if window and follows[window]:
            low = mask[window - 1]
        if high or low:
            for shift in shifts:
                high |= (high << shift) | (low >> (width - shift))
                low |= low << shift
        found[window] = high


def begun(
    mask: UInt64[ndarray, " window"], follows: Bool[ndarray, " window"]
) -> UInt64[ndarray, " window"]:
    """See `bits.begun`."""
    found = np.empty_like(mask)
    _begun(mask, follows, found)
    return found


def _begin(mask: Any, follows: Any, found: Any) -> None:
    one, last, none = np.uint64(1), np.uint64(WINDOW - 1), np.uint64(0)
    for window in range(len(mask)):
        before = mask[window - 1] >> last if window and follows[window] else none
        found[window] = mask[window] & ~((mask[window] << one) | before)


_begun = Compiled(_begin)
_lasting = Compiled(_last)
_spread = Compiled(_spread_out)


def _set_bits(typing: Any, word: Any) -> Any:
    """How many bits of a word are set, in one instruction."""

    def made(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), made


_ones: Any = intrinsic(unwrap(_set_bits))


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
    """See `tally.look`."""
    low, high, scale = 0.0, 0.0, 0.0
    if code.bounded:
        low, high, scale = code.low, code.high, 2 / (code.high - code.low)
    none = np.zeros((0, 0, 0), np.float32)
    kept: int = _look(
        *_flat(values), mask, (several.start, min(several.stop, len(mask))),
        (part.start, part.stop), pivot, np.float32(0 if on is None else on),
        (code.bounded, np.float32(low), np.float32(high), np.float32(scale),
         np.int32(code.bins - 1)),
        (np.float32(NEAR), np.float32(EVEN), np.int32(LOGS - int(EVEN * NEAR)), np.int32(LEAST),
         np.int32(THREE), np.int32(FOUR), np.int32(SMALL), np.int32(WIDE), np.int32(code.zero)),
        moved, codes, found.get("on", none.astype(np.uint64)), found.get("low", none),
        found.get("high", none),
    )  # fmt: skip
    return kept


def _flat(values: Float[ndarray, "row step unit"]) -> tuple[Float[ndarray, " value"], int, int]:
    """All values in the order of memory, and how far two rows and two steps lie apart there."""
    size = values.itemsize
    if values.strides[2] != size or any(apart < 0 or apart % size for apart in values.strides[:2]):
        values = np.ascontiguousarray(values)
    apart = [stride // size for stride in values.strides]
    extent = 1 + sum((many - 1) * far for many, far in zip(values.shape, apart, strict=True))
    return as_strided(values, (extent,), (size,), writeable=False), apart[0], apart[1]


def _look_at(
    flat: Any, row_apart: Any, step_apart: Any, mask: Any, rows: Any, steps: Any, pivot: Any,
    on: Any, bounds: Any, numbers: Any, moved: Any, codes: Any, words: Any, lows: Any, highs: Any,
) -> Any:  # fmt: skip
    bounded, low, high, scale, last = bounds
    near, even, even_from, least, three, four, small, wide, apart = numbers
    units, many, begun = len(pivot), rows[1] - rows[0], rows[0]
    least_of, most_of = np.empty((2, many, units), np.float32)
    words_of, wanted = np.empty((many, units), np.uint64), len(words) > 0
    share = np.empty(units, np.float32)
    bits, none, zero, one = share.view(np.int32), np.float32(0), np.int32(0), np.int32(1)
    # one row after another, as if each were taken by itself; but steps lie side by side in memory
    ends = np.zeros(many + 1, np.int64)
    for row in range(many):
        ends[row + 1] = ends[row] + mask[begun + row, steps[0] : steps[1]].sum()
    kept = ends[:-1].copy()
    for begin in range(steps[0], steps[1], WINDOW):
        least_of[:], most_of[:], words_of[:] = np.inf, -np.inf, 0
        for step in range(begin, min(begin + WINDOW, steps[1])):
            for row in range(many):
                if not mask[begun + row, step]:
                    continue
                start = (begun + row) * row_apart + step * step_apart
                value, code = flat[start : start + units], codes[begun + row, step]
                away = moved[kept[row]]
                kept[row] += 1
                for unit in range(units):
                    away[unit] = value[unit] - pivot[unit]
                if bounded:
                    for unit in range(units):
                        given = value[unit]
                        share[unit] = max(min(given - low, high - given), none) * scale
                    for unit in range(units):
                        given = value[unit]
                        log = max((bits[unit] >> three) - least, zero)
                        middle = np.int32(share[unit] * even) + even_from
                        side = middle if share[unit] >= near else log
                        code[unit] = last - side if high - given < given - low else side
                else:
                    for unit in range(units):
                        share[unit] = abs(value[unit])
                    for unit in range(units):
                        side = min(max((bits[unit] >> four) - small, zero), wide - one)
                        above = wide + side + apart * np.int32(value[unit] > none)
                        code[unit] = wide - one - side if value[unit] < none else above
                if not wanted:
                    continue
                low_of, high_of, word = least_of[row], most_of[row], words_of[row]
                for unit in range(units):
                    low_of[unit] = min(low_of[unit], value[unit])
                for unit in range(units):
                    high_of[unit] = max(high_of[unit], value[unit])
                place = np.uint64(step - begin)
                for unit in range(units):
                    word[unit] |= np.uint64(value[unit] > on) << place
        if wanted:
            window = begin // WINDOW
            for row in range(many):
                for unit in range(units):
                    words[unit, begun + row, window] = words_of[row, unit]
                    # of two zeros either may be the least; it is the one without a sign
                    lows[unit, begun + row, window] = least_of[row, unit] + none
                    highs[unit, begun + row, window] = most_of[row, unit] + none
    return ends[-1]


_look = Compiled(_look_at)


def furthest(
    values: Float[ndarray, "row step unit"],
    words: UInt64[ndarray, "label row window"],
    whole: UInt64[ndarray, "row window"],
    rows: Int[ndarray, " row"],
    first: Int[ndarray, " row"],
    far: Float[ndarray, "label 2 kept unit"],
    row: Int[ndarray, "label 2 kept unit"],
    window: Int[ndarray, "label 2 kept unit"],
) -> None:
    """See `furthest.Furthest.add`; the last three are what it keeps."""
    _furthest(*_flat(values), words, whole, rows, first, far, row, window)


def _go_furthest(
    flat: Any, row_apart: Any, step_apart: Any, words: Any, whole: Any, rows: Any, first: Any,
    far: Any, row: Any, window: Any,
) -> Any:  # fmt: skip
    labels, _, kept, units = far.shape
    ends, one, none = np.empty((2, units), np.float32), np.uint64(1), np.float32(0)
    most, least = ends[0], ends[1]
    for many in range(whole.shape[0]):
        for span in range(whole.shape[1]):
            for label in range(labels):
                word = words[label, many, span]
                if not word or word == whole[many, span]:
                    continue
                most[:], least[:] = -np.inf, np.inf
                start = many * row_apart + span * WINDOW * step_apart
                while word:
                    if word & one:
                        value = flat[start : start + units]
                        for unit in range(units):
                            most[unit] = max(most[unit], value[unit])
                        for unit in range(units):
                            least[unit] = min(least[unit], value[unit])
                    word >>= one
                    start += step_apart
                for unit in range(units):
                    least[unit] = none - least[unit]
                for end in range(2):
                    last, new = far[label, end, kept - 1], ends[end]
                    for unit in range(units):
                        if new[unit] < last[unit]:
                            continue
                        here, by, at = new[unit], rows[many], first[many] + span
                        place = kept
                        while place > 0:
                            other = far[label, end, place - 1, unit]
                            if here < other:
                                break
                            if here == other:
                                begun = row[label, end, place - 1, unit]
                                if by > begun or (
                                    by == begun and at > window[label, end, place - 1, unit]
                                ):
                                    break
                            place -= 1
                        if place == kept:
                            continue
                        for to in range(kept - 1, place, -1):
                            far[label, end, to, unit] = far[label, end, to - 1, unit]
                            row[label, end, to, unit] = row[label, end, to - 1, unit]
                            window[label, end, to, unit] = window[label, end, to - 1, unit]
                        far[label, end, place, unit] = here
                        row[label, end, place, unit], window[label, end, place, unit] = by, at


_furthest = Compiled(_go_furthest)


def count(
    codes: UInt16[ndarray, "step unit"],
    steps: Int[ndarray, " chosen"],
    counts: Shaped[ndarray, "unit bin"],
) -> None:
    """See `tally.count`."""
    _counted(codes, steps, counts)


def _count_bins(codes: Any, steps: Any, counts: Any) -> None:
    # so many units at a time, that their bins stay in the second cache
    for first in range(0, codes.shape[1], UNITS):
        last = min(first + UNITS, codes.shape[1])
        for step in steps:
            for unit in range(first, last):
                counts[unit, codes[step, unit]] += np.uint32(1)


def together(index: UInt64[ndarray, "unit window"], found: Int64[ndarray, "unit unit"]) -> None:
    """Add in how many steps both of two units are on, the second no earlier than the first."""
    _together(index, found)


def _both(index: Any, found: Any) -> None:
    units, windows = index.shape
    for start in range(0, windows, BLOCK):
        stop = min(start + BLOCK, windows)
        for one in range(units):
            first = index[one, start:stop]
            for other in range(one, units):
                second, many = index[other, start:stop], np.int64(0)
                for i in range(len(first)):
                    many += np.int64(_ones(first[i] & second[i]))
                found[one, other] += many


_counted = Compiled(_count_bins)
_together = Compiled(_both)
