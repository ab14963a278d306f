"""No picture is larger than a screen, and no spike is lost on the way there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grulens.errors import SignalError
from grulens.views.figure import raster
from grulens.views.figure.palette import BLANK_CODE, LEVELS, NAN_CODE

LENGTHS = st.integers(1, 20_000)


@given(LENGTHS, st.floats(-10, 20_000), st.floats(-10, 20_000), st.integers(1, 600))
def test_a_span_shows_what_is_visible_and_no_more_than_twice_the_limit(
    length: int, low: float, high: float, limit: int
) -> None:
    seen = raster.visible(length, low, high, limit)
    drawn = raster.with_margin(seen, length)
    assert 0 <= drawn.start <= seen.start < seen.stop <= drawn.stop <= length
    assert drawn.start % drawn.block == 0
    assert drawn.covers(seen)
    assert seen.count <= limit + 1
    assert drawn.count <= 2 * limit + 2


@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 7), st.integers(1, 9), st.data())
def test_reduce_equals_a_slow_reference(
    units: int, time: int, tall: int, wide: int, data: st.DataObject
) -> None:
    values = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=(units, time))
    middle = data.draw(st.sampled_from([0.0, 0.5]))
    rows, columns = raster.Span(0, units, tall), raster.Span(0, time, wide)
    got = raster.reduce(values, rows, columns, middle)
    assert got.shape == (rows.count, columns.count)
    for i, top in enumerate(rows.firsts()):
        for j, left in enumerate(columns.firsts()):
            block = values[top : top + tall, left : left + wide].ravel()
            assert got[i, j] == block[np.abs(block - middle).argmax()]


def test_one_spike_among_a_thousand_steps_stays_visible() -> None:
    gate = np.full((2000, 5000), 0.9)
    gate[77, 1234] = 0.0
    rows = raster.visible(2000, -0.5, 1999.5, raster.ROWS)
    columns = raster.visible(5000, -0.5, 4999.5, raster.COLUMNS)
    drawn = raster.picture(gate, rows, columns, (0.0, 1.0))
    assert drawn[77 // rows.block, 1234 // columns.block] == 0
    assert (drawn == 0).sum() == 1


def test_nan_survives_reduction_and_has_its_own_code() -> None:
    values = np.zeros((2, 8))
    values[1, 5] = np.nan
    drawn = raster.picture(values, raster.Span(0, 2, 2), raster.Span(0, 8, 4), (-1.0, 1.0))
    assert drawn.tolist() == [[LEVELS // 2, NAN_CODE]]


def test_padding_is_blank_and_does_not_leak_into_a_block_with_steps() -> None:
    values = np.full((1, 8), 0.5)
    values[0, 4:] = 1.0
    mask = np.arange(8) < 3
    drawn = raster.picture(values, raster.Span(0, 1, 1), raster.Span(0, 8, 4), (0.0, 1.0), mask)
    assert drawn.tolist() == [[LEVELS // 2, BLANK_CODE]]


@given(st.floats(-1, 1))
def test_a_byte_tells_a_value_within_half_a_step(value: float) -> None:
    code = int(raster.encode(np.array([[value]]), (-1.0, 1.0))[0, 0])
    assert abs(-1 + code / (LEVELS - 1) * 2 - value) <= 1 / (LEVELS - 1) + 1e-12


def test_zero_is_exactly_the_middle() -> None:
    assert raster.encode(np.zeros((1, 1)), (-0.05, 0.05))[0, 0] * 2 == LEVELS - 1


@pytest.mark.parametrize(
    ("largest", "end"), [(0.0, 0.05), (0.01, 0.05), (0.06, 0.1), (0.2, 0.2), (0.21, 0.5), (3, 5)]
)
def test_a_difference_is_scaled_in_steps_and_never_below_the_floor(
    largest: float, end: float
) -> None:
    low, high = raster.scale("difference", np.array([[-largest, 0.0, np.nan]]))
    assert (low, high) == pytest.approx((-end, end))


def test_an_unknown_signal_is_named() -> None:
    with pytest.raises(
        SignalError, match=r"'q' cannot be drawn; it must be a Signal of the layer's cell, or 'diff"
    ):
        raster.scale("q", np.zeros(1))
