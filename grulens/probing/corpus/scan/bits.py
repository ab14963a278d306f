"""Steps as bits, 64 a word, and what a few operations on words say of all of them at once.

How many of some units are on at a step is counted in binary: bit planes, the lowest first, hold the
counts of 64 steps side by side. That a count lasts for so many steps is found by shifting words
against themselves, twice as far each time. Words are taken in blocks that stay in the processor's
cache; `compiled` has most of it once more, for numba, where that is installed.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from threading import Thread
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Int, Shaped
from numpy import ndarray

from grulens.errors import shown
from grulens.probing.corpus.scan.part import WINDOW, unpacked

Words = Shaped[ndarray, " window"]
Levels = Shaped[ndarray, "level window"]

_ALL: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
#: So many words are counted at a time.
BLOCK: Final = 1 << 12
#: From so many windows on it pays to load what is compiled, once a process.
PAYS: Final = 1 << 17
COMPILED: Final = "grulens.probing.corpus.scan.compiled"
#: Why numba cannot be imported, once that is known.
_broken: Final[list[Exception]] = []


def quickest(windows: int) -> Any:
    """The module whose `levels`, `lasting`, `spread` and `begun` are quickest over many windows.

    This one, or `compiled`, which has the same for numba.
    """
    if find_spec("numba") is None or (windows < PAYS and COMPILED not in sys.modules):
        return sys.modules[__name__]
    return loaded() or sys.modules[__name__]


def loaded() -> Any:
    """The module of what is compiled by numba; None where that cannot be imported, which is said.

    Numba may be installed beside a numpy, or a Python, that is newer than it knows. It is tried
    once.
    """
    if _broken:
        return None
    try:
        return import_module(COMPILED)
    except Exception as error:  # of any kind: it is numba's own
        _broken.append(error)
        warnings.warn(
            f"numba is installed and cannot be imported ({shown(str(error), 200)}): numpy counts "
            "and looks instead, with the same results, and slower",
            stacklevel=2,
        )
        return None


def ahead(windows: int) -> Thread | None:
    """Load what is compiled while nothing is asked yet, where matches over so many windows need it.

    The first match of a process would wait for it, for longer than it takes itself.

    Returns:
        The thread that does; None where nothing is to be loaded.
    """
    if windows < PAYS or COMPILED in sys.modules or _broken or find_spec("numba") is None:
        return None

    def load() -> None:
        with suppress(Exception):  # who asks is told
            import_module(COMPILED).warm()

    thread = Thread(target=load, name="grulens: what is compiled")
    thread.start()
    return thread


def levels(
    index: Shaped[ndarray, "unit window"], units: Sequence[int], least: Sequence[int]
) -> Levels:
    """At which steps so many of these units are on (level, window).

    Args:
        index: a bit a step, whether the unit is on.
        units: which units.
        least: how many at least, 1 or more, for each level.

    >>> levels(np.array([[0b111], [0b110], [0b100]], np.uint64), [0, 1, 2], [2, 3])
    array([[6],
           [4]], dtype=uint64)
    """
    found = np.empty((len(least), index.shape[1]), np.uint64)
    for start in range(0, index.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        counted = planes(index[:, part], units)
        for level, many in enumerate(least):
            found[level, part] = reaching(counted, many)
    return found


def planes(
    index: Shaped[ndarray, "unit window"], units: Sequence[int]
) -> Shaped[ndarray, "plane window"]:
    """How many of these units are on at each step, in binary, the lowest place first.

    >>> planes(np.array([[0b111], [0b110], [0b100]], np.uint64), [0, 1, 2])
    array([[5],
           [6]], dtype=uint64)
    """
    found = np.zeros((len(units).bit_length(), index.shape[1]), np.uint64)
    for start in range(0, index.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        for number, unit in enumerate(units, 1):
            carry = np.asarray(index[unit, part])
            for place in range(number.bit_length()):
                plane = found[place, part]
                over = plane & carry
                plane ^= carry
                carry = over
    return found


def reaching(planes: Shaped[ndarray, "plane window"], least: int) -> Words:
    """At which steps a count is `least` or more.

    Args:
        planes: the counts, in binary.
        least: 1 or more.

    >>> reaching(np.array([[5], [6]], np.uint64), 2)
    array([6], dtype=uint64)
    """
    more, equal = np.zeros_like(planes[0]), np.full_like(planes[0], _ALL)
    for place in reversed(range(len(planes))):
        if least >> place & 1:
            equal &= planes[place]
        else:
            more |= equal & planes[place]
            equal &= ~planes[place]
    reached: ndarray = more | equal
    return reached


def highest(planes: Shaped[ndarray, "plane window"]) -> int:
    """The largest count at any step.

    Args:
        planes: the counts, in binary.

    >>> highest(np.array([[5], [6]], np.uint64))
    3
    """
    found, equal = 0, np.full_like(planes[0], _ALL)
    for place in reversed(range(len(planes))):
        also = equal & planes[place]
        if also.any():
            found, equal = found | 1 << place, also
    return found


def doublings(length: int) -> Iterator[int]:
    """By how much to shift, time after time, until `length` steps are joined.

    >>> list(doublings(6))
    [1, 2, 2]
    """
    so_far = 1
    while so_far < length:
        shift = min(so_far, length - so_far)
        yield shift
        so_far += shift


def lasting(mask: Words, length: int, follows: Bool[ndarray, " window"]) -> Words:
    """The steps from which on a mask is set for `length` steps of one row.

    Args:
        mask: the steps.
        length: 1 to 64.
        follows: whether a window goes on from the one before it, in the same row.

    >>> lasting(np.array([0b1110110], np.uint64), 3, np.array([False]))
    array([16], dtype=uint64)
    """
    found = np.zeros_like(mask)
    for start in range(0, len(mask), BLOCK):
        part = mask[start : start + BLOCK]
        some = np.flatnonzero(part) + start
        if not len(some):
            continue
        several: slice | ndarray = some
        if 2 * len(some) > len(part):  # most words have a step: it is quicker to take all
            several = slice(start, start + len(part))
        after = np.append(mask[start + 1 : start + len(part) + 1], np.uint64(0))[: len(part)]
        goes_on = np.append(follows[start + 1 : start + len(part) + 1], False)[: len(part)]
        high = np.where(goes_on, after, np.uint64(0))
        low = part.copy()
        if several is some:
            low, high = low[some - start], high[some - start]
        for shift in doublings(length):
            low &= (low >> np.uint64(shift)) | (high << np.uint64(WINDOW - shift))
            high &= high >> np.uint64(shift)
        found[several] = low
    return found


def spread(mask: Words, length: int, follows: Bool[ndarray, " window"]) -> Words:
    """Each step that is set, and those after it in its row: `length` in all.

    Args:
        mask: the steps.
        length: 1 to 64.
        follows: whether a window goes on from the one before it, in the same row.

    >>> spread(np.array([0b10001], np.uint64), 3, np.array([False]))
    array([119], dtype=uint64)
    """
    found = np.empty_like(mask)
    for start in range(0, len(mask), BLOCK):
        stop = min(start + BLOCK, len(mask))
        high, low = mask[start:stop].copy(), np.zeros(stop - start, np.uint64)
        if not (high.any() or (start and mask[start - 1])):
            found[start:stop] = 0
            continue
        low[1:] = mask[start : stop - 1]
        low[0] = mask[start - 1] if start else 0
        low[~follows[start:stop]] = 0
        for shift in doublings(length):
            high |= (high << np.uint64(shift)) | (low >> np.uint64(WINDOW - shift))
            low |= low << np.uint64(shift)
        found[start:stop] = high
    return found


def begun(mask: Words, follows: Bool[ndarray, " window"]) -> Words:
    """The steps that are set and the step before them in their row is not.

    >>> begun(np.array([0b1110110, 1], np.uint64), np.array([False, True]))
    array([18,  1], dtype=uint64)
    """
    carried = np.zeros(len(mask), np.uint64)
    carried[1:] = mask[:-1] >> np.uint64(WINDOW - 1)
    carried[~follows] = 0
    first: ndarray = mask & ~((mask << np.uint64(1)) | carried)
    return first


def last_before(mask: Words, steps: Int[ndarray, " step"]) -> Int[ndarray, " step"]:
    """The last step that is set, at each of some steps or before it; there must be one.

    Args:
        mask: the steps that are set.
        steps: the steps, counted over all windows.

    >>> last_before(np.array([0b101, 0], np.uint64), np.array([1, 2, 100]))
    array([0, 2, 2])
    """
    word, bit = steps // WINDOW, steps % WINDOW
    bits = mask[word] & (_ALL >> (WINDOW - 1 - bit).astype(np.uint64))
    none = np.flatnonzero(bits == 0)
    if len(none):  # in a word before it, the last that is not empty
        last = np.maximum.accumulate(np.where(mask != 0, np.arange(len(mask)), 0))
        word[none] = last[word[none] - 1]
        bits[none] = mask[word[none]]
    # without the bit below the highest no rounding of the others reaches the next power of two
    highest: ndarray = np.frexp((bits & ~(bits >> np.uint64(1))).astype(float))[1] - 1
    found: ndarray = word * WINDOW + highest
    return found


def positions(mask: Words, first: int | None = None) -> Int[ndarray, " place"]:
    """The steps that are set, counted over all windows.

    Args:
        mask: the steps.
        first: how many are wanted, the first; None is all.

    >>> positions(np.array([0, 5], np.uint64))
    array([64, 66])
    """
    words = np.flatnonzero(mask)[:first]
    steps = np.flatnonzero(unpacked(mask[words]))
    found: ndarray = words[steps // WINDOW] * WINDOW + steps % WINDOW
    return found[:first]


class Stretches:
    """Stretches of steps, one after another, and which of them hold a step that is set.

    Args:
        begins: where each begins; it ends where the next does, the last with the windows.
        windows: which windows are looked at; in no others is a step set.

    >>> Stretches(np.array([0, 70]), np.array([0, 1])).hold(np.array([0, 1 << 5], np.uint64))
    array([ True, False])
    """

    def __init__(self, begins: Int[ndarray, " stretch"], windows: Int[ndarray, " looked"]) -> None:
        words, bits = begins // WINDOW, (begins % WINDOW).astype(np.uint64)
        self._at = np.searchsorted(windows, words)
        there = np.append(windows, -1)[self._at] == words
        self._below = np.where(there, (np.uint64(1) << bits) - np.uint64(1), np.uint64(0))

    def hold(self, mask: Shaped[ndarray, " looked"]) -> Bool[ndarray, " stretch"]:
        """Whether a step of each is set.

        Args:
            mask: the steps that are set, of the windows that are looked at.
        """
        if not mask.any():
            return np.zeros(len(self._at), bool)
        before = np.zeros(len(mask) + 1, np.int64)
        np.cumsum(np.bitwise_count(mask), out=before[1:])
        words = np.append(mask, np.uint64(0))[self._at]
        so_far = np.full(len(self._at) + 1, before[-1])
        so_far[:-1] = before[self._at] + np.bitwise_count(words & self._below)
        held: ndarray = so_far[1:] > so_far[:-1]
        return held
