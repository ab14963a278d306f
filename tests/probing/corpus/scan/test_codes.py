"""Codes keep the order of values, resolve what is saturated, and lie between their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from grulens.probing.corpus.scan.codes import Code

BOUNDS = [(-1.0, 1.0), (0.0, 1.0), (-2.0, 3.0), (-np.inf, np.inf), (0.0, np.inf)]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@given(shares=arrays(np.float64, 40, elements=st.floats(0, 1)), small=st.integers(0, 26))
def test_a_code_keeps_the_order_and_lies_between_its_edges(
    low: float, high: float, shares: np.ndarray, small: int
) -> None:
    code = Code(low, high)
    if code.bounded:
        near = shares * 2.0**-small * (high - low)
        values = np.concatenate([low + near, high - near])
    else:
        values = np.concatenate([shares, -shares]) * 10.0 ** (small - 13)
    values = np.sort(values.astype(np.float32))
    found = code.of(values)
    assert (np.diff(found.astype(int)) >= 0).all()
    assert found.max() < code.bins
    edges = code.edges()
    assert len(edges) == code.bins + 1
    assert (np.diff(edges) >= 0).all()
    slack = 1e-7 * (high - low) if code.bounded else 0
    assert (edges[found] - slack <= values).all()
    assert (values <= edges[found + 1] + slack).all()


def test_saturated_values_are_told_apart() -> None:
    near = np.float32(1) - np.float32(2.0) ** -np.arange(1, 25, dtype=np.float32)
    found = Code(-1.0, 1.0).of(near)
    assert len(set(found.tolist())) == len(near)
    assert len(set(Code(-1.0, 1.0).of(-near).tolist())) == len(near)


def test_a_value_past_a_bound_is_in_the_last_bin() -> None:
    code = Code(-1.0, 1.0)
    assert code.of(np.array([-1.5, 1.5], np.float32)).tolist() == [0, code.bins - 1]
    wide = Code(-np.inf, np.inf)
    assert wide.of(np.array([-1e30, 1e30], np.float32)).tolist() == [0, wide.bins - 1]


def test_the_bins_near_the_ends_are_a_thirty_second_of_the_range() -> None:
    code = Code(0.0, 1.0)
    edges = code.edges()
    assert edges[code.near] == pytest.approx(1 / 32)
    assert edges[code.bins - code.near] == pytest.approx(31 / 32)
