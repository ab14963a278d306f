"""Values of a signal as whole numbers that keep their order: the bins of a corpus' histograms.

A histogram over equal bins says nothing of a unit that is saturated: all of it lies in the last
bin. So a bounded signal is coded by how far it stands from the nearer bound: in equal steps in the
middle, and in eight steps an octave near the bounds, down to the last bit of float32. A signal
without bounds is coded in sixteen steps an octave of its size, and 0 by itself: of what a relu
makes most is 0, and the same number is no bin of several.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Final

import numpy as np
from jaxtyping import Float, UInt16
from numpy import ndarray

#: A bounded signal: equal steps a side of its middle, from a sixteenth of the way to a bound.
EVEN: Final = 256
NEAR: Final = 2.0**-4
#: The bits of a float32 above these are its exponent and its first three, or four, binary places.
THREE: Final = 20
FOUR: Final = 19
#: 2^-24, the smallest distance from 1 that a float32 below 1 can have, has the code 1.
LEAST: Final = (127 - 24) * 8 - 1
LOGS: Final = 20 * 8 + 1
_SIDE: Final = LOGS + EVEN - int(EVEN * NEAR) + 1
#: The upper half of the bits of NEAR.
_NEAR_TOP: Final = np.int16(np.float32(NEAR).view(np.int32) >> 16)
#: So many values are coded at a time: as many as stay in the processor's cache.
_AT_ONCE: Final = 1 << 14
#: A signal without bounds: 2^-12 to 2^12.
SMALL: Final = (127 - 12) * 16 - 1
WIDE: Final = 24 * 16 + 1


@dataclass(frozen=True)
class Code:
    """How the values of one signal become the numbers of bins.

    Attributes:
        low: the least value that the signal can have, or -inf.
        high: the largest one, or inf.
        zero: whether 0 has a bin of its own in a signal without bounds; in a scan of before it has
            not.

    >>> code = Code(-1.0, 1.0)
    >>> h = np.array([-1.0, -0.5, 0.0, 0.5, 1 - 2**-20, 1.0], np.float32)
    >>> code.bins, code.of(h)
    (804, array([  0, 273, 401, 530, 770, 803], dtype=uint16))
    """

    low: float
    high: float
    zero: bool = True

    @classmethod
    def of_bins(cls, low: float, high: float, bins: int) -> Code:
        """The code by which a signal was coded in so many bins."""
        return cls(low, high, zero=bins != 2 * WIDE)

    @property
    def exact(self) -> int | None:
        """The bin of which all values are the same number, 0; None where there is none."""
        return WIDE if self.zero and not self.bounded else None

    @property
    def bounded(self) -> bool:
        """Whether the signal has bounds on both sides."""
        return isfinite(self.low) and isfinite(self.high)

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return 2 * _SIDE if self.bounded else 2 * WIDE + self.zero

    @property
    def near(self) -> int:
        """How many bins at each end lie within 1/32 of the range from that bound."""
        return LOGS

    def of(self, values: Float[ndarray, "*axes"]) -> UInt16[ndarray, "*axes"]:
        """The bin of each value; a value beyond a bound is in the last bin there.

        Args:
            values: float32, finite, any shape.
        """
        values = np.asarray(values, np.float32)
        if self.bounded:
            found = np.empty(values.shape, np.uint16)
            flat, out = values.reshape(-1), found.reshape(-1)
            for start in range(0, flat.size, _AT_ONCE):
                out[start : start + _AT_ONCE] = self._of(flat[start : start + _AT_ONCE])
            return found
        size = np.clip((np.abs(values).view(np.int32) >> FOUR) - SMALL, 0, WIDE - 1)
        above = WIDE + size + (self.zero & (values > 0))
        wide: ndarray = np.where(values < 0, WIDE - 1 - size, above).astype(np.uint16)
        return wide

    def _of(self, values: Float[ndarray, " value"]) -> UInt16[ndarray, " value"]:
        """The bins of a few values of a bounded signal."""
        # exact where it matters: of two float32 numbers near each other
        share, to_high = values - np.float32(self.low), np.float32(self.high) - values
        upper = (to_high < share).astype(np.int16)
        np.minimum(share, to_high, out=share)
        np.maximum(share, np.float32(0), out=share)
        share *= np.float32(2 / (self.high - self.low))
        top = (share.view(np.int32) >> 16).astype(np.int16)  # the exponent and seven places
        code = np.maximum(top >> np.int16(THREE - 16), np.int16(LEAST)) - np.int16(LEAST)
        share *= np.float32(EVEN)
        even = share.astype(np.int32).astype(np.int16) + np.int16(LOGS - int(EVEN * NEAR))
        np.copyto(code, even, where=top >= _NEAR_TOP)
        code ^= -upper  # -1 - code, where it is upper: so many less than all bins
        code += upper * np.int16(self.bins)
        found: ndarray = code.view(np.uint16)
        return found

    def edges(self) -> Float[ndarray, " edge"]:
        """The values between which each bin lies (bins + 1,), float64; they never fall.

        A bin holds the values from its edge on to the next; below the middle it is the next edge
        that belongs to it; the bin of 0 by itself has 0 as both. The outermost are the bounds, or
        -inf and inf.

        >>> Code(0.0, 1.0).edges()[[0, 402, -1]]
        array([0. , 0.5, 1. ])
        """
        if self.bounded:
            logs = (np.arange(LOGS) + LEAST).astype(np.int32) << THREE
            side = logs.view(np.float32).astype(float)
            side[0] = 0.0
            even = np.arange(int(EVEN * NEAR), EVEN + 1) / EVEN
            share = np.concatenate([side, even]) * (self.high - self.low) / 2
            middle = [self.low + share[-1]]
            return np.concatenate([self.low + share, middle, self.high - share[::-1]])
        sizes = ((np.arange(WIDE) + SMALL).astype(np.int32) << FOUR).view(np.float32)
        size = sizes.astype(float)
        size[0] = 0.0
        zeros = [0.0] * (1 + self.zero)
        return np.concatenate([[-np.inf], -size[:0:-1], zeros, size[1:], [np.inf]])
