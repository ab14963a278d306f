"""The views of memory show what they are given, in no more bytes than a screen can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bokeh.events import DoubleTap, RangesUpdate, SelectionGeometry, Tap
from hypothesis import given
from hypothesis import strategies as st

from grulens.cells import kinds
from grulens.views.figure import raster
from grulens.views.figure.palette import AGAINST, BLANK_CODE, FOR
from grulens.views.memory.attention_map import AttentionMap, past_of
from grulens.views.memory.gain_line import GainLine
from grulens.views.memory.gate_histograms import GateHistograms
from grulens.views.memory.half_lives import HalfLives
from grulens.views.memory.query_bars import QueryBars
from grulens.views.memory.saturation import SaturationPlot
from grulens.views.still import memory as still_memory

GATES = kinds.GRU.signals[:2]

HOSTILE = "<img src=x onerror=alert(1)>"


def image(view: AttentionMap) -> np.ndarray:
    return np.array(view.image.data["image"][0])


def causal(steps: int) -> np.ndarray:
    return np.stack([np.zeros(steps, int), np.arange(steps)], 1)


def test_a_long_run_stays_light_and_keeps_its_largest_weight() -> None:
    steps = 3000
    values = np.zeros((steps, steps), np.float32)
    values[2000, 1001] = 0.5
    view = AttentionMap()
    view.update(values, past=causal(steps), tokens=["x"] * steps)
    drawn = image(view)
    assert drawn.size <= raster.ROWS * raster.COLUMNS
    assert drawn.dtype == np.uint8
    assert np.argwhere(drawn == 252).tolist() == [[2000 // 12, 1001 // 6]]
    assert len(view.columns.data["token"]) <= raster.COLUMNS
    # zoomed in, each cell is a step
    view.x_range.update(start=990.5, end=1010.5)
    event: dict[str, Any] = {"x0": 990.5, "x1": 1010.5, "y0": 2010.5, "y1": 1990.5}
    view.root._trigger_event(RangesUpdate(view.root, **event))
    assert view.image.data["row_block"] == [1]
    assert drawn.size >= image(view).size
    bars = QueryBars()
    bars.update(values[2000], 0.5, query=2000)
    assert len(bars.source.data["weight"]) <= raster.COLUMNS
    assert max(bars.source.data["weight"]) == 0.5
    strip = bars.strip.image.data["image"][0]
    assert (strip == 252).sum() == 1, "the largest of a block, not the one farthest from 1/2"


@given(st.data())
def test_blocks_are_blank_where_no_query_has_the_key(data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, 12))
    ends = st.tuples(st.integers(0, steps - 1), st.integers(0, steps - 1)).map(sorted)
    rows = data.draw(st.lists(ends | st.just([0, -1]), min_size=steps, max_size=steps))
    past = np.array(rows)
    blocks = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    down, across = (raster.Span(0, steps, block) for block in blocks)
    found = past_of(past, down, across)
    for i, q in enumerate(down.firsts()):
        spans = past[q : q + down.block]
        low = min((a for a, b in spans.tolist() if b >= a), default=None)
        high = max((b for a, b in spans.tolist() if b >= a), default=-1)
        for j, k in enumerate(across.firsts()):
            last = min(k + across.block, steps) - 1
            assert found[i, j] == (low is not None and low <= last and high >= k)


def test_a_reverse_layer_and_padding_are_blank_on_the_other_side() -> None:
    view = AttentionMap()
    past = np.array([[0, 1], [1, 1], [0, -1]])
    view.update(np.full((3, 3), 0.25), past=past)
    assert (image(view) == BLANK_CODE).tolist() == [
        [False, False, True], [True, False, True], [True, True, True],
    ]  # fmt: skip


def test_taps_choose_and_selecting_tells_nobody() -> None:
    heard: list[int] = []
    view = AttentionMap()
    view.on_query(heard.append)
    view.update(np.eye(4), past=causal(4))
    view.select(2)
    assert view.marks.data["top"] == [1.5]
    assert not heard
    view.root._trigger_event(Tap(view.root, x=0.2, y=3.4))
    view.root._trigger_event(Tap(view.root, x=0.2, y=9))
    assert heard == [3]


def test_signed_values_have_two_colours_and_sums() -> None:
    view, bars = AttentionMap(), QueryBars()
    values = np.array([[0.5, 0.0], [-1.0, 2.0]])
    view.update(values, past=causal(2), signed=True)
    assert image(view)[1].tolist() == [63, 252]
    view.update(np.abs(values) / 4, past=causal(2))
    assert view.image.data["low"] == [0.0]
    bars.update(values[1], -3.0, query=1, signed=True, tokens=[HOSTILE, "b"])
    assert bars.source.data["color"] == [AGAINST, FOR]
    assert bars.shares.data["value"] == [1.0, -3.0]
    assert bars.strip.times == (1,)


SHUT = np.array([0.9, 0.1, 0.5])
OPEN = np.array([0.05, 0.8, 0.2])


def saturation() -> SaturationPlot:
    plot = SaturationPlot(GATES)
    plot.update({"r": np.stack([SHUT, OPEN]), "z": np.stack([SHUT[::-1], OPEN[::-1]])})
    return plot


def test_saturation_taps_boxes_and_rings() -> None:
    plot, heard = saturation(), []
    plot.on_units(heard.append)
    tap = plot.root._trigger_event
    tap(Tap(plot.root, x=0.11, y=0.79))  # r of unit 1, z of unit 1: the same place
    tap(Tap(plot.root, x=0.7, y=0.7))  # nothing there
    assert heard == [(1,)]
    plot.select([1])
    tap(Tap(plot.root, x=0.9, y=0.06, modifiers={"shift": True}))
    box = {"type": "rect", "x0": 1.0, "x1": 0.4, "y0": 0.0, "y1": 0.3}
    tap(SelectionGeometry(plot.root, geometry=box, final=True))
    tap(DoubleTap(plot.root, x=0, y=0))
    assert heard[1:] == [(0, 1), (0, 2), ()]
    assert plot.chosen.data == {"shut": [0.1, 0.1], "open": [0.8, 0.8]}
    plot.select([7])
    assert plot.chosen.data["shut"] == []


def test_half_lives_stand_in_order_and_at_the_ends() -> None:
    lives, heard = HalfLives(), []
    lives.on_units(heard.append)
    life = np.array([1.0, np.inf, 0.0, np.nan, 8.0])
    lives.update(life, np.stack([life / 2, life, life * 2], 1))
    data = lives.source.data
    assert data["unit"] == [1, 4, 0, 2, 3]
    assert data["life"] == ["never forgets", "8 steps", "1 step", "0 steps", "not a number"]
    low, high = lives.root.y_range.start, lives.root.y_range.end
    assert all(low <= v <= high for v in data["at"][:4])
    assert low > 0
    lives.root._trigger_event(Tap(lives.root, x=1.3, y=1))
    box = {"type": "rect", "x0": 1.6, "x1": 3.4, "y0": 0, "y1": 1}
    lives.root._trigger_event(SelectionGeometry(lives.root, geometry=box, final=True))
    assert heard == [(4,), (0, 2)]
    lives.select([0])
    assert lives.chosen.data["place"] == [2]


def test_histograms_hold_the_line_of_the_selected() -> None:
    view = GateHistograms(GATES)
    half, one = np.array([0.5, 0.5]), np.array([0.0, 1.0])
    view.update(np.array([0, 0.5, 1]), {"r": half, "z": half}, {"r": one, "z": half})
    assert view.sources["r"].data["chosen"].tolist() == [0.0, 1.0]
    tall = view._figures["r"].y_range.end
    view.update(np.array([0, 0.5, 1]), {"r": half, "z": half})
    assert np.isnan(view.sources["r"].data["chosen"]).all()
    assert view._figures["r"].y_range.end < tall


@pytest.mark.parametrize("signed", [False, True])
def test_stills_escape_and_leave_the_future_clear(signed: bool) -> None:
    html = still_memory.attention(
        np.eye(2), np.array([0.0, 1.0]), past=causal(2), at=1, signed=signed,
        tokens=[HOSTILE, "b"], name=HOSTILE, layer=HOSTILE, caption=HOSTILE,
    )  # fmt: skip
    assert "<img src=x" not in html
    assert html.count("&lt;img") >= 3
    shares = {gate: np.stack([SHUT, OPEN]) for gate in GATES}
    bars = {gate: np.array([0.25, 0.75]) for gate in GATES}
    html = still_memory.timescales(shares, bars, SHUT, layer=HOSTILE, caption=HOSTILE)
    assert "<img src=x" not in html
    assert html.count("<circle") == 6
    assert html.count("<rect") == 4
    assert "0 (0.9), 2 (0.5), 1 (0.1)" in html


def test_the_still_of_a_long_run_shows_the_tokens_around_the_state() -> None:
    steps = 3000
    tokens = [f"<{t}>" for t in range(steps)]
    html = still_memory.attention(
        None, np.zeros(steps), past=causal(steps), at=2000, tokens=tokens, caption="words"
    )
    assert "tokens from step 1400" in html
    assert "&lt;2000&gt;" in html
    assert "&lt;1399&gt;" not in html
    assert "&lt;2200&gt;" not in html


def test_an_axis_of_powers_of_ten_names_few_numbers_and_what_is_drawn_at_its_floor() -> None:
    for life in (np.linspace(0.8, 1.5, 30), np.geomspace(0.02, 9000, 30)):
        lives = HalfLives()
        lives.update(life, np.stack([life / 2, life, life * 2], 1))
        ticks, axis = lives.root.yaxis[0].ticker.ticks, lives.root.y_range
        assert 2 <= len(ticks) <= 6
        assert all(axis.start <= tick <= axis.end for tick in ticks)
    line = GainLine()
    line.update(np.array([1e-9, 1.0]), mask=np.array([True, True]), title="gain")
    assert line.root.title.text == "gain · what is less than 1e-06 is drawn there"
    assert line.source.data["gain"].tolist() == [1e-6, 1.0]
    assert line.source.data["number"] == ["1e−09", "1"], "the mouse reads what it is"
    line.update(np.array([1e-5, 1.0]), mask=np.array([True, True]), title="gain")
    assert line.root.title.text == "gain"
