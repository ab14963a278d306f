"""The heatmap shows what it was given, in a payload with a bound, and tells what a person chose."""

import numpy as np
import pytest
from bokeh.core.serialization import Serializer
from bokeh.events import DoubleTap, RangesUpdate, SelectionGeometry, Tap
from bokeh.models import HoverTool

from grulens.cells import kinds
from grulens.cells.signal import Signal
from grulens.errors import SignalError
from grulens.views.figure.palette import BLANK_CODE, COLORS, LEVELS, NAN_CODE, PALETTE
from grulens.views.gates.heatmap import Heatmap

R, Z, N, H = kinds.GRU.signals

RNG = np.random.default_rng(0)


def drawn(view: Heatmap) -> np.ndarray:
    return view.image.data["image"][0]


def field(view: Heatmap, name: str) -> object:
    return view.image.data[name][0]


def small(signal: Signal | str = Z, units: int = 6, time: int = 10) -> tuple[Heatmap, np.ndarray]:
    view = Heatmap()
    values = RNG.random((units, time)).astype(np.float32)
    view.update(values, signal=signal, units=np.arange(units)[::-1].copy(), tokens=["a"] * time)
    return view, values


def told(view: Heatmap) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    units: list[tuple[int, ...]] = []
    times: list[tuple[int, ...]] = []
    view.on_units(units.append)
    view.on_times(times.append)
    return units, times


def do(view: Heatmap, event: object) -> None:
    view.root._trigger_event(event)


@pytest.mark.parametrize(("signal", "low", "high"), [(R, 0, 1), (Z, 0, 1), (N, -1, 1), (H, -1, 1)])
def test_a_signal_has_a_fixed_map_and_says_so(signal: Signal, low: float, high: float) -> None:
    view, values = small(signal)
    codes = np.rint((values - low) / (high - low) * (LEVELS - 1)).astype(int)
    assert (np.abs(drawn(view).astype(int) - codes) <= 1).all()
    assert list(view.mapper.palette) == list(PALETTE[signal])
    assert list(view.bar_mapper.palette) == list(COLORS[signal])
    assert (view.bar_mapper.low, view.bar_mapper.high) == (low, high)
    assert f"{signal.title}, " in view.bar.title
    assert view.bar.title.endswith(f"{low:g} to {high:g}".replace("-", "−"))


def test_the_title_is_words_and_never_tex() -> None:
    view = Heatmap()
    view.update(np.zeros((2, 2)), signal=Z, units=np.arange(2), layer="$$x$$.l0")
    assert view.root.title.text == "update gate z · $\u2060$x$\u2060$.l0"


def test_a_difference_fills_a_symmetric_map_but_not_with_noise() -> None:
    view = Heatmap()
    view.update(np.array([[0.0, -0.3]]), signal="difference", units=np.arange(1))
    assert (view.bar_mapper.low, view.bar_mapper.high) == (-0.5, 0.5)
    view.update(np.array([[0.0, 1e-6]]), signal="difference", units=np.arange(1))
    assert (view.bar_mapper.low, view.bar_mapper.high) == (-0.05, 0.05)
    assert drawn(view).tolist() == [[LEVELS // 2, LEVELS // 2]]


def test_nan_and_padding_have_codes_of_their_own() -> None:
    view = Heatmap()
    values = np.zeros((2, 4))
    values[0, 1] = np.nan
    mask = np.array([True, True, True, False])
    view.update(values, signal=H, units=np.arange(2), mask=mask)
    middle = LEVELS // 2
    assert drawn(view)[0].tolist() == [middle, NAN_CODE, middle, BLANK_CODE]


def test_values_beyond_the_map_are_marked_as_such() -> None:
    view = Heatmap()
    view.update(np.array([[2.0, 0.0]]), signal=H, units=np.arange(1))
    assert field(view, "over") is True
    assert field(view, "under") is False
    assert drawn(view)[0, 0] == LEVELS - 1


def test_each_kind_of_cell_has_its_own_words_for_a_name() -> None:
    view = Heatmap()
    for words, low, role in (("cell state", -np.inf, "memory"), ("candidate", -1.0, "candidate")):
        signal = Signal("c", words, low, -low, role)
        view.update(np.full((2, 2), 3.0), signal=signal, units=np.arange(2))
        assert view.root.title.text == f"{words} c"
        assert list(view.mapper.palette) == list(PALETTE[role])
        assert view.bar_mapper.high == (5.0 if low == -np.inf else 1.0)


def test_an_unknown_signal_changes_nothing() -> None:
    view, _ = small()
    before = drawn(view).copy()
    with pytest.raises(SignalError, match="'x' cannot be drawn"):
        view.update(np.ones((6, 10)), signal="x", units=np.arange(6))
    assert (drawn(view) == before).all()


def test_update_keeps_every_model_and_its_identity() -> None:
    view, _ = small()
    before = {model.id for model in view.root.references()}
    view.update(np.zeros((9, 30)), signal="difference", units=np.arange(9), layer="b")
    view.select([1], [2])
    now = {model.id for model in view.root.references()}
    assert now == before


@pytest.mark.parametrize(("units", "time"), [(64, 200), (2000, 20_000)])
def test_the_payload_has_a_bound(units: int, time: int) -> None:
    view = Heatmap()
    tokens = ["a very long token " * 50] * time
    view.update(
        np.zeros((units, time), np.float32), signal=H, units=np.arange(units), tokens=tokens
    )
    view.select(range(units), range(time))
    assert drawn(view).dtype == np.uint8
    assert drawn(view).shape[0] <= 512
    assert drawn(view).shape[1] <= 1024
    sent = Serializer(deferred=True).serialize(view.root)
    size = len(str(sent.content)) + sum(len(buffer.data) for buffer in sent.buffers)
    assert size < 700_000


def test_zooming_in_shows_the_detail_and_panning_within_it_sends_nothing() -> None:
    view = Heatmap()
    values = RNG.random((1000, 4000)).astype(np.float32)
    view.update(values, signal=Z, units=np.arange(1000))
    assert (field(view, "row_block"), field(view, "column_block")) == (4, 8)
    do(view, RangesUpdate(view.root, x0=99.5, x1=199.5, y0=249.5, y1=199.5))
    assert (field(view, "row_block"), field(view, "column_block")) == (1, 1)
    row, step = field(view, "row"), field(view, "column")
    assert row <= 200
    assert step <= 100
    detail = drawn(view)[200 - row : 250 - row, 100 - step : 200 - step]
    expected = np.rint(values[200:250, 100:200] * (LEVELS - 1))
    assert np.abs(detail.astype(int) - expected).max() <= 1
    picture = drawn(view)
    do(view, RangesUpdate(view.root, x0=109.5, x1=209.5, y0=249.5, y1=199.5))
    assert drawn(view) is picture


def test_the_picture_lies_where_its_cells_are() -> None:
    view, _ = small(units=6, time=10)
    assert [field(view, name) for name in ("x", "y", "dw", "dh")] == [-0.5, -0.5, 10, 6]
    assert (view.y_range.start, view.y_range.end) == (5.5, -0.5)


def test_an_update_keeps_a_persons_zoom() -> None:
    view, values = small()
    view.x_range.update(start=2.5, end=6.5)
    view.update(values + 0.1, signal=Z, units=np.arange(6))
    assert (view.x_range.start, view.x_range.end) == (2.5, 6.5)
    view.update(np.zeros((6, 11)), signal=Z, units=np.arange(6))
    assert (view.x_range.start, view.x_range.end) == (-0.5, 10.5)


def test_a_tap_chooses_the_unit_of_the_row() -> None:
    view, _ = small()
    units, times = told(view)
    do(view, Tap(view.root, x=3.2, y=0.4))
    assert (units, times) == ([(5,)], [])
    do(view, Tap(view.root, x=3.2, y=99.0))
    assert len(units) == 1


@pytest.mark.parametrize("key", ["shift", "ctrl"])
def test_a_tap_with_a_key_held_adds_and_takes_away(key: str) -> None:
    view, _ = small()
    view.select([2])
    units, _ = told(view)
    held = {"shift": False, "ctrl": False, "alt": False, key: True}
    do(view, Tap(view.root, x=0, y=0, modifiers=held))
    do(view, Tap(view.root, x=0, y=3, modifiers=held))
    assert units == [(2, 5), ()]


def test_a_drag_chooses_units_and_steps_and_a_double_tap_all_steps() -> None:
    view, _ = small()
    units, times = told(view)
    box = {"type": "rect", "x0": 1.6, "x1": 4.4, "y0": -0.4, "y1": 1.3}
    do(view, SelectionGeometry(view.root, geometry=box, final=False))
    assert (units, times) == ([], [])
    do(view, SelectionGeometry(view.root, geometry=box, final=True))
    assert (units, times) == ([(4, 5)], [(2, 3, 4)])
    do(view, DoubleTap(view.root, x=1, y=1))
    assert times[-1] == ()


def test_select_marks_and_tells_nobody() -> None:
    view, _ = small()
    units, times = told(view)
    view.select([5, 4], [7])
    assert (units, times) == ([], [])
    assert view.unit_marks.data["top"] == [-0.5]
    assert view.unit_marks.data["bottom"] == [1.5]
    assert view.time_marks.data["left"] == [6.5]
    view.select()
    assert view.unit_marks.data["top"] == []


def test_marks_follow_the_order_of_the_rows() -> None:
    view, values = small()
    view.select([5])
    view.update(values, signal=Z, units=np.arange(6))
    assert view.unit_marks.data["top"] == [4.5]


def test_the_mouse_reads_a_token_only_where_there_are_tokens() -> None:
    view, values = Heatmap(), np.zeros((2, 3), np.float32)
    hover = view.root.select_one(HoverTool)
    view.update(values, signal=Z, units=np.arange(2), tokens=["a", "b", "c"])
    assert [name for name, _ in hover.tooltips] == ["token", "step", "unit", "value"]
    view.update(values, signal=Z, units=np.arange(2))
    assert [name for name, _ in hover.tooltips] == ["step", "unit", "value"]
