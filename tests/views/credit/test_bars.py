"""Credit and a logit lens on screen: every number where it belongs, whatever the length."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from grulens.views.credit.bars import TokenBars
from grulens.views.credit.logit_lens import LINES, LensLines
from grulens.views.credit.waterfall import Waterfall
from grulens.views.figure.palette import AGAINST, DIRECT, FOR
from grulens.views.still import credit as still_credit

HOSTILE = "<img src=x onerror=alert(1)>"


def tap(x: float, **modifiers: bool) -> SimpleNamespace:
    return SimpleNamespace(x=x, modifiers=modifiers)


def test_a_bar_for_each_step_signed_and_coloured() -> None:
    chart = TokenBars()
    values = np.array([0.5, -0.25, 9.0])
    chart.update(values, tokens=["a", HOSTILE, "c"], mask=np.array([True, True, False]))
    data = chart.source.data
    assert data["credit"].tolist() == [0.5, -0.25, 0.0]
    assert data["color"][:2] == [FOR, AGAINST]
    assert len(data["token"][1]) <= 24
    assert chart.bars.y_range.end < 1, "padding does not stretch the axis"
    chart.mark(1)
    assert dict(chart.marked.data) == {"step": [1]}
    chart.mark(None)
    assert chart.marked.data["step"] == []


def test_thousands_of_steps_are_reduced_to_the_strongest_until_zoomed() -> None:
    chart = TokenBars()
    values = np.zeros(5000)
    values[1234], values[4321] = -3.0, 2.0
    chart.update(values[:30])
    assert not chart.bars.toolbar.visible
    chart.update(values)
    assert chart.bars.toolbar.visible, "there is something to zoom into"
    data = chart.source.data
    assert len(data["step"]) <= 1000
    assert sorted(data["credit"])[0] == -3.0
    assert sorted(data["credit"])[-1] == 2.0
    chart._zoomed(SimpleNamespace(x0=1200, x1=1300))
    near = dict(zip(chart.source.data["step"], chart.source.data["credit"], strict=True))
    assert near[1234] == -3.0
    assert near[1233] == 0.0


def test_taps_choose_steps_and_nothing_behind_the_end() -> None:
    chart, heard = TokenBars(), list[tuple[int, ...]]()
    chart.on_times(heard.append)
    chart.update(np.ones(3), mask=np.array([True, True, False]))
    chart._tapped(tap(1.2))
    chart.select(heard[-1])
    chart._tapped(tap(0.1, shift=True))
    for nowhere in (2.0, -3.0, 9.0):
        chart._tapped(tap(nowhere))
    assert heard == [(1,), (0, 1)]
    assert chart.strip.times == (1,)


def test_a_sum_goes_on_where_the_part_before_ended() -> None:
    chart = Waterfall("parts")
    chart.update(["a", "b", "c"], np.array([2.0, -3.0, 0.5]), whole="all", title="$$x$$")
    data = chart.source.data
    assert data["begin"].tolist() == [0.0, 2.0, -1.0, 0.0]
    assert data["end"].tolist() == [2.0, -1.0, -0.5, -0.5]
    assert data["color"] == [FOR, AGAINST, FOR, DIRECT]
    assert data["number"] == ["2", "−3", "0.5", "−0.5"]
    assert "$$" not in chart.root.title.text
    height = chart.root.height
    chart.update(["a"], np.array([1.0]), whole="all")
    assert chart.root.height < height
    assert chart.source.data["label"] == ["a", "all"]


def test_lines_keep_their_class_and_more_than_five_are_left() -> None:
    chart = LensLines()
    values = np.stack([np.full(4, k / 10) for k in range(7)])
    chart.update(values, [f"k{k}" for k in range(7)], tokens="abcd")
    assert [item.visible for item in chart._items] == [True] * len(LINES)
    assert chart.source.data["said"][0] == "k0 0 · k1 0.1 · k2 0.2 · k3 0.3 · k4 0.4"
    sent = list[object]()
    chart._items[0].on_change("label", lambda attr, old, new: sent.append(new))
    chart.update(values[:2] - 3, ["x", HOSTILE], quantity="logit")
    assert [item.visible for item in chart._items] == [True, True, False, False, False]
    assert sent, "a page hears of another label"
    assert chart._items[0].label.value == "x"
    assert chart.root.y_range.end < 0
    assert np.isnan(chart.source.data["line 3"]).all()
    heard = list[int]()
    chart.on_step(heard.append)
    for x in (1.4, -2.0, 7.0):
        chart._tapped(tap(x))
    assert heard == [1]
    long = np.zeros((1, 9000))
    long[0, 77] = 1.0
    chart.update(long, ["x"])
    assert len(chart.source.data["step"]) <= 2000
    assert np.nanmax(chart.source.data["line 0"]) == 1.0


def test_still_pictures_escape_and_add_up() -> None:
    page = still_credit.credit(
        np.array([0.5, -0.25]), {"inputs": 0.25, "bias": -1.0, "gap": 0.0},
        tokens=[HOSTILE, "b"], title=HOSTILE,
    )  # fmt: skip
    page += still_credit.lines(
        np.array([[0.1, np.nan, 0.3, 0.4]]), [HOSTILE], quantity=HOSTILE, title=HOSTILE, step=2
    )
    assert "<img" not in page
    assert ">−0.75<" in page
    assert page.count("<polyline") == 2, "a gap parts a line"
    long = still_credit.lines(np.random.default_rng(0).random((5, 100_000)), list("abcde"))
    assert len(long) < 200_000
