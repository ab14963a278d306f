"""A claim of a tutorial is printed with bounds; a drawing has words."""

from __future__ import annotations

import base64
import math
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import grulens
from grulens import words
from grulens.demo import shown
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


def test_bounds_are_said_in_the_language_of_the_screens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_set", None)
    grulens.language("zh")
    said = about(0.926, 0.5), about(0.03, 0.1), about(12.34, 10, 20), about(5)
    assert said == ("≈ 0.93（大于 0.5）", "≈ 0.03（小于 0.1）", "≈ 12.3（10 到 20）", "≈ 5")


def in_chinese() -> Figure:
    figure = Figure()
    axes = figure.subplots()
    axes.bar(["隐状态", "gate"], [1, 2])
    axes.set(xlabel="步", ylabel="error")
    return figure


def test_chinese_in_a_picture_has_a_font_or_one_line_says_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shown, "CHINESE", ("no such font",))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Picture(in_chinese(), "一张图")
    assert [str(one.message)[:43] for one in told] == [
        "matplotlib finds no font with Chinese, and "
    ]
    monkeypatch.setattr(shown, "CHINESE", ("no such font", "STIXGeneral"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Picture(figure := in_chinese(), "一张图")
    fonts = {text.get_text(): text.get_fontfamily() for axes in figure.axes
             for text in (axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels())}  # fmt: skip
    assert fonts["步"] == fonts["隐状态"] == ["DejaVu Sans", "STIXGeneral"]
    assert fonts["error"] == fonts["gate"] == ["sans-serif"]
