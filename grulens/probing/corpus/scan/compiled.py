"""The count of `bits.levels` in one pass over the words, compiled by numba."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import unwrap
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numba import njit
from numpy import ndarray

#: So many words at a time, with their planes, stay in the first cache.
BLOCK = 512


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
