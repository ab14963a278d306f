"""How a matrix becomes a picture no larger than a screen can show.

A recording may hold thousands of units and steps; a notebook column shows some hundred pixels.
Values are reduced in blocks to what is visible (and a margin around it, so that a small pan needs
no new picture) and travel as bytes: the payload has a bound that no model can raise.

A block is drawn as its value farthest from the middle of the colour map, not as its mean: one
saturated gate or one spike among a hundred quiet steps is what a person looks for, and a mean
would wash it out. Farthest from the middle, not from zero: a gate shut for one step counts as
much as a gate opened for one. A block that holds a NaN is drawn as NaN, for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, UInt8

from grulens.cells.signal import Signal
from grulens.errors import SignalError
from grulens.views.figure.palette import BLANK_CODE, LEVELS, NAN_CODE, is_diverging, range_of
from grulens.words import message

#: Cells drawn inside the visible window; with its margins a picture has at most twice that.
COLUMNS: Final = 500
ROWS: Final = 250

#: Blocks up to this wide are reduced cell by cell, which is quicker for them.
NARROW: Final = 16

#: Below this a difference is not stretched to full colour: noise must not look like an effect.
DIFFERENCE_FLOOR: Final = 0.05


@dataclass(frozen=True)
class Span:
    """The cells start to stop of one axis, drawn `block` at a time."""

    start: int
    stop: int
    block: int

    @property
    def count(self) -> int:
        """How many blocks are drawn."""
        return math.ceil((self.stop - self.start) / self.block)

    @property
    def edges(self) -> tuple[float, float]:
        """Where the first block begins and the last one ends; cell i lies from i - 0.5 to i + 0.5.

        >>> Span(4, 11, 2).edges
        (3.5, 11.5)
        """
        return self.start - 0.5, self.start + self.count * self.block - 0.5

    def firsts(self) -> range:
        """The first cell of every block."""
        return range(self.start, self.stop, self.block)

    def covers(self, other: Span) -> bool:
        """Whether a picture of this span shows all of the other at the same detail."""
        return self.block == other.block and self.start <= other.start and other.stop <= self.stop


def own_steps(mask: Bool[np.ndarray, " time"]) -> int:
    """How many steps to show of a row: up to where only padding is left.

    >>> own_steps(np.array([True, True, False])), own_steps(np.array([False, True]))
    (2, 2)
    """
    return int(mask.nonzero()[0][-1]) + 1 if mask.any() else len(mask)


def visible(length: int, low: float | int, high: float | int, limit: int) -> Span:
    """The span of the cells between two axis positions, in blocks: at most `limit` of them.

    >>> visible(1000, -0.5, 999.5, 500)
    Span(start=0, stop=1000, block=2)
    >>> visible(1000, 99.5, 199.5, 500)
    Span(start=100, stop=200, block=1)
    """
    low, high = min(low, high), max(low, high)
    first = min(max(0, math.floor(low + 0.5)), max(0, length - 1))
    last = max(min(length, math.ceil(high + 0.5)), min(first + 1, length))
    block = max(1, math.ceil((last - first) / limit))
    return Span(first - first % block, last, block)


def with_margin(span: Span, length: int) -> Span:
    """The same span, half as much again on each side as far as there are cells.

    >>> with_margin(Span(100, 200, 1), 1000)
    Span(start=50, stop=250, block=1)
    """
    margin = (span.stop - span.start) // 2 // span.block * span.block
    return Span(max(0, span.start - margin), min(length, span.stop + margin), span.block)


def zoomed_out_of(shown: Span, event: Any, length: int, limit: int) -> bool:
    """Whether a zoom along time shows cells that a picture does not have at that detail.

    Args:
        shown: what the picture has.
        event: the zoom, a `RangesUpdate`.
        length: how many cells there are.
        limit: how many blocks are drawn at most.
    """
    if event.x0 is None or event.x1 is None or not length:
        return False
    return not shown.covers(visible(length, event.x0, event.x1, limit))


def scale(signal: Signal | str, values: Float[np.ndarray, "*shape"]) -> tuple[float, float]:
    """The values at the two ends of the map of a signal, or of a "difference".

    Fixed for a signal with bounds; for others and "difference" symmetric around zero and rounded up
    to 1, 2 or 5 times a power of ten, so that the colours do not flicker while a slider moves. What
    is never below zero, such as a decay, begins there where its map does.

    >>> scale(Signal("z", "update gate", 0.0, 1.0, "keep"), np.zeros((2, 3)))
    (0.0, 1.0)
    >>> scale("difference", np.array([[0.3, -0.7]]))
    (-1.0, 1.0)
    >>> scale("difference", np.zeros((2, 3)))
    (-0.05, 0.05)
    >>> scale(Signal("d", "decay", 0.0, math.inf, "keep"), np.array([[0.3, 1.5]]))
    (0.0, 2.0)

    Raises:
        SignalError: it is neither.
    """
    if signal != "difference" and not isinstance(signal, Signal):
        raise SignalError(
            f"signal {signal!r} cannot be drawn; it must be a Signal of the layer's cell, or "
            "'difference'"
        )
    ends = None if isinstance(signal, str) else range_of(signal)
    if ends is not None:
        return ends
    low, high = symmetric(values, DIFFERENCE_FLOOR)
    from_zero = isinstance(signal, Signal) and signal.low >= 0 and not is_diverging(signal)
    return (0.0, high) if from_zero else (low, high)


#: What the colours of a map can reach over: all that a signal can be, most of what it is, or all.
REACHES: Final = (
    message("all it can be"), message("1st to 99th percentile"), message("all it is"),
)  # fmt: skip
#: From which share of the values to which; None where it is no question of the values.
SHARES: Final = dict(zip(REACHES, (None, (0.01, 0.99), (0.0, 1.0)), strict=True))


def reach(
    signal: Signal | str, values: Float[np.ndarray, "*shape"], over: str = REACHES[0]
) -> tuple[float, float]:
    """The values at the two ends of a map that reaches over what a person has chosen.

    A map that goes both ways from zero keeps its white there: it reaches as far to both sides.

    Args:
        signal: as for `scale`.
        values: the values that are drawn, those that are no step left out.
        over: one of `REACHES`.

    >>> z = Signal("z", "update gate", 0.0, 1.0, "keep")
    >>> reach(z, np.array([0.25, 0.5]), "all it is"), reach(z, np.array([0.25, 0.5]))
    ((0.25, 0.5), (0.0, 1.0))
    >>> reach("difference", np.array([0.25, -0.5]), "all it is")
    (-0.5, 0.5)
    """
    finite = values[np.isfinite(values)]
    shares = SHARES[over]
    if shares is None or not finite.size:
        return scale(signal, values)
    low, high = (float(end) for end in np.quantile(finite, shares))
    if isinstance(signal, str) or is_diverging(signal):
        far = max(abs(low), abs(high))
        low, high = -far, far
    if high - low < DIFFERENCE_FLOOR / 100:  # of one value there is no map
        return scale(signal, values)
    return low, high


def symmetric(values: Float[np.ndarray, "*shape"], floor: float) -> tuple[float, float]:
    """Ends around zero that hold the values: 1, 2 or 5 times a power of ten, `floor` at least.

    >>> symmetric(np.array([3e-4, -1e-4]), floor=1e-9)
    (-0.0005, 0.0005)
    """
    size = np.abs(values, where=np.isfinite(values), out=np.zeros(values.shape, values.dtype))
    top = max(floor, float(size.max(initial=0.0)))
    power = 10.0 ** math.floor(math.log10(top))
    # the factor forgives 0.05 stored as float32
    end = next(m * power for m in (1, 2, 5, 10) if m * power * (1 + 1e-6) >= top)
    return -end, end


def digits(ends: tuple[float, float]) -> int:
    """How many decimals of a value a byte can tell apart.

    >>> digits((-1.0, 1.0)), digits((-0.05, 0.05))
    (2, 3)
    """
    low, high = ends
    return max(2, math.floor(-math.log10((high - low) / LEVELS)))


def reduce(
    values: Float[np.ndarray, "row column"],
    rows: Span,
    columns: Span,
    middle: float,
) -> Float[np.ndarray, "rows columns"]:
    """Each block's value farthest from `middle`; NaN where a block holds one.

    >>> reduce(np.array([[0.5, 0.1, 0.6, 0.5]]), Span(0, 1, 1), Span(0, 4, 2), 0.5)
    array([[0.1, 0.6]])
    """
    part = values[rows.start : rows.stop, columns.start : columns.stop]
    if rows.block == columns.block == 1:
        return part
    high, low = part, part
    for axis, span in ((0, rows), (1, columns)):
        if span.block > 1:
            high = _extreme(np.maximum, high, axis, span.block)
            low = _extreme(np.minimum, low, axis, span.block)
    return np.where(high - middle >= middle - low, high, low)


def _extreme(
    choose: np.ufunc, values: Float[np.ndarray, "row column"], axis: int, block: int
) -> Float[np.ndarray, "rows columns"]:
    """The largest or smallest value of each block along one axis."""
    if block > NARROW:
        return choose.reduceat(values, np.arange(0, values.shape[axis], block), axis=axis)
    # numpy's reduceat takes ten times as long where blocks are narrow
    values = np.moveaxis(values, axis, 0)
    chosen = values[::block].copy()
    for i in range(1, block):
        others = values[i::block]
        choose(chosen[: len(others)], others, out=chosen[: len(others)])
    return np.moveaxis(chosen, 0, axis)


def encode(
    values: Float[np.ndarray, "row column"], ends: tuple[float, float]
) -> UInt8[np.ndarray, "row column"]:
    """Values as bytes 0 to 252 between the ends of the map; beyond them clipped; NaN as 253.

    >>> encode(np.array([[0.0, 1.0, 2.0, np.nan]]), (0.0, 1.0))
    array([[  0, 252, 252, 253]], dtype=uint8)
    """
    low, high = ends
    unit = (values - low) * ((LEVELS - 1) / (high - low))
    codes = np.nan_to_num(unit, nan=0.0, posinf=LEVELS, neginf=0.0).round()
    bytes_: UInt8[np.ndarray, "row column"] = codes.clip(0, LEVELS - 1).astype(np.uint8)
    bytes_[np.isnan(values)] = NAN_CODE
    return bytes_


def picture(
    values: Float[np.ndarray, "row column"],
    rows: Span,
    columns: Span,
    ends: tuple[float, float],
    mask: Bool[np.ndarray, " column"] | None = None,
    middle: float | None = None,
) -> UInt8[np.ndarray, "rows columns"]:
    """The bytes to draw: reduced, scaled, with blocks of nothing but padding blank.

    A block shows its value farthest from `middle`; None is the middle of the map.

    >>> picture(np.ones((1, 2)), Span(0, 1, 1), Span(0, 2, 1), (0.0, 1.0), np.array([True, False]))
    array([[252, 254]], dtype=uint8)
    """
    middle = (ends[0] + ends[1]) / 2 if middle is None else middle
    if mask is not None and not mask.all():
        values = np.where(mask, values, values.dtype.type(middle))
    bytes_ = encode(reduce(values, rows, columns, middle), ends)
    if mask is not None:
        at = np.arange(0, columns.stop - columns.start, columns.block)
        shown = np.logical_or.reduceat(mask[columns.start : columns.stop], at)
        bytes_[:, ~shown] = BLANK_CODE
    return bytes_


def runs(cells: Iterable[int], gap: int = 1) -> list[tuple[int, int]]:
    """Neighbouring cells joined into (first, last) pairs; cells up to `gap` apart are neighbours.

    >>> runs([7, 3, 4, 4, 5])
    [(3, 5), (7, 7)]
    """
    joined: list[tuple[int, int]] = []
    for cell in sorted(set(cells)):
        if joined and cell - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], cell)
        else:
            joined.append((cell, cell))
    return joined
