"""What `bits` and `tally` count, in one pass over words or values, compiled by numba."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import unwrap
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int64, Shaped, UInt16, UInt64
from numba import njit, types
from numba.extending import intrinsic
from numpy import ndarray

from grulens.probing.corpus.scan.codes import EVEN, LEAST, LOGS, NEAR, THREE, Code

#: So many words at a time, with their planes, stay in the first cache.
BLOCK = 512
#: So many units at a time have their bins in the second cache.
UNITS = 192


def levels(
    index: Shaped[ndarray, "unit window"], units: Sequence[int], least: Sequence[int]
) -> Shaped[ndarray, "level window"]:
    """See `bits.levels`."""
    found = np.empty((len(least), index.shape[1]), np.uint64)
    given = np.asarray(index).view()
    given.flags.writeable = False  # as what lies on disk: compiled for one kind of array
    _levels(given, np.asarray(units, np.int64), np.asarray(least, np.int64), found)
    return found


def _count(index: Any, units: Any, least: Any, found: Any) -> None:
    most = 0
    while len(units) >> most:
        most += 1
    planes = np.zeros((most, BLOCK), np.uint64)
    carry, more = np.zeros(BLOCK, np.uint64), np.zeros(BLOCK, np.uint64)
    equal = np.zeros(BLOCK, np.uint64)
    every = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
    for start in range(0, index.shape[1], BLOCK):
        size = min(BLOCK, index.shape[1] - start)
        planes[:] = 0
        for number in range(len(units)):
            unit = units[number]
            for i in range(size):
                carry[i] = index[unit, start + i]
            place = 0
            while (number + 1) >> place:
                for i in range(size):
                    held = planes[place, i]
                    planes[place, i] = held ^ carry[i]
                    carry[i] &= held
                place += 1
        for level in range(found.shape[0]):
            more[:] = 0
            equal[:] = every
            for place in range(most - 1, -1, -1):
                if least[level] >> place & 1:
                    for i in range(size):
                        equal[i] &= planes[place, i]
                else:
                    for i in range(size):
                        more[i] |= equal[i] & planes[place, i]
                        equal[i] &= ~planes[place, i]
            for i in range(size):
                found[level, start + i] = more[i] | equal[i]


# as it is written: numba reads no decorator that a check of annotations puts around it
_levels: Any = njit(nogil=True)(unwrap(_count))


def _set_bits(typing: Any, word: Any) -> Any:
    """How many bits of a word are set, in one instruction."""

    def made(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), made


_ones: Any = intrinsic(unwrap(_set_bits))


def coded(values: Float[ndarray, "row step unit"], code: Code) -> UInt16[ndarray, "row step unit"]:
    """See `Code.of`, of a bounded signal."""
    found = np.empty(values.shape, np.uint16)
    share = np.empty(values.shape[-1], np.float32)
    _coded(
        values.reshape(-1, values.shape[-1]), share, share.view(np.int32),
        np.float32(code.low), np.float32(code.high), np.float32(2 / (code.high - code.low)),
        np.int32(code.bins - 1), found.reshape(-1, values.shape[-1]),
    )  # fmt: skip
    return found


def _code(
    values: Any, share: Any, bits: Any, low: Any, high: Any, scale: Any, last: Any, found: Any
) -> None:
    even_from, near, none = np.int32(LOGS - int(EVEN * NEAR)), np.float32(NEAR), np.float32(0)
    even, least, zero = np.float32(EVEN), np.int32(LEAST), np.int32(0)
    for step in range(values.shape[0]):
        for unit in range(values.shape[1]):
            value = values[step, unit]
            share[unit] = max(min(value - low, high - value), none) * scale
        for unit in range(values.shape[1]):
            log = max((bits[unit] >> THREE) - least, zero)
            side = np.int32(share[unit] * even) + even_from if share[unit] >= near else log
            value = values[step, unit]
            found[step, unit] = last - side if high - value < value - low else side


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


def packed(
    values: Float[ndarray, "row step unit"], on: np.float32
) -> UInt64[ndarray, "unit row window"]:
    """See `part.packed`: of values above a threshold."""
    rows, steps, units = values.shape
    found = np.zeros((units, rows, -(-steps // 64)), np.uint64)
    _packed(values, on, np.zeros(units, np.uint64), found)
    return found


def _pack(values: Any, on: Any, words: Any, found: Any) -> None:
    rows, steps, units = values.shape
    for row in range(rows):
        for window in range(found.shape[2]):
            words[:] = 0
            for step in range(64 * window, min(64 * window + 64, steps)):
                for unit in range(units):
                    words[unit] |= np.uint64(values[row, step, unit] > on) << np.uint64(step % 64)
            for unit in range(units):
                found[unit, row, window] = words[unit]


def together(index: UInt64[ndarray, "unit window"], found: Int64[ndarray, "unit unit"]) -> None:
    """Add in how many steps both of two units are on, the second no earlier than the first."""
    _together(index, found)


def _both(index: Any, found: Any) -> None:
    units, windows = index.shape
    for start in range(0, windows, BLOCK):
        stop = min(start + BLOCK, windows)
        for one in range(units):
            for other in range(one, units):
                many = np.uint64(0)
                for window in range(start, stop):
                    many += _ones(index[one, window] & index[other, window])
                found[one, other] += np.int64(many)


_coded: Any = njit(nogil=True)(unwrap(_code))
_counted: Any = njit(nogil=True)(unwrap(_count_bins))
_packed: Any = njit(nogil=True)(unwrap(_pack))
_together: Any = njit(nogil=True)(unwrap(_both))
