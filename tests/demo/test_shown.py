"""A claim of a tutorial is printed with bounds; a drawing has words."""

from __future__ import annotations

import base64
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from grulens.demo.shown import Picture, about

NUMBERS = st.floats(-1e6, 1e6)


@given(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=4))
def test_the_bounds_shown_hold_the_number_and_none_lies_nearer(
    number: float, bounds: list[float]
) -> None:
    said = about(number, *bounds).partition(" (")[2]
    assert bool(said) == any(bound != number for bound in bounds)
    low, high = -math.inf, math.inf
    if said.startswith("over"):
        low = float(said[5:-1])
    elif said.startswith("under"):
        high = float(said[6:-1])
    elif said:
        low, high = (float(bound) for bound in said[:-1].split(" to "))
    assert low < number < high
    assert not any(low < bound < high and bound != number for bound in bounds)


def test_a_tensor_that_has_a_graph_is_a_number_and_a_count_is_whole() -> None:
    assert about(torch.ones((), requires_grad=True), 0) == "≈ 1.00 (over 0)"
    assert about(torch.tensor(11), 5) == about(np.int64(11), 5) == "≈ 11 (over 5)"


def test_nan_is_no_number_within_bounds() -> None:
    with pytest.raises(ValueError, match="NaN came"):
        about(torch.tensor(torch.nan), 0.5)


def test_a_picture_has_its_words_and_no_markup_of_theirs() -> None:
    picture = Picture(Figure(), words := 'a "line" <b>')
    assert repr(picture) == words
    page = picture._repr_html_()
    assert 'alt="a &quot;line&quot; &lt;b&gt;"' in page
    (data,) = re.findall('base64,([^"]+)', page)
    assert base64.b64decode(data).startswith(b"\x89PNG")
