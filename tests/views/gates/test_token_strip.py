"""The strip shows tokens as characters, readable on their colour, and tells the chosen steps."""

import numpy as np
from bokeh.events import DoubleTap, SelectionGeometry, Tap

from grulens.cells import kinds
from grulens.views.figure.palette import LEVELS, PALETTE, WHITE_INK
from grulens.views.gates.heatmap import Heatmap
from grulens.views.gates.token_strip import TokenStrip

_, Z, _, H = kinds.GRU.signals


def strip() -> TokenStrip:
    view = TokenStrip()
    values = np.linspace(0, 1, 5)
    view.update(values, signal=Z, tokens=["<b>", " ", "\n", "$$x$$", "a"], name="unit 3")
    return view


def test_tokens_are_visible_characters() -> None:
    assert strip().cells.data["token"] == ["<b>", "␣", "⏎", "$$x$$", "a"]
    assert strip().image.data["name"] == ["unit 3"]


def test_text_contrasts_with_its_cell() -> None:
    view = strip()
    codes = view.image.data["image"][0][0]
    assert codes.tolist() == [0, 63, 126, 189, LEVELS - 1]
    assert view.cells.data["white"] == [WHITE_INK[Z][code] for code in codes]
    assert view.cells.data["white"][0] is False
    assert view.cells.data["white"][-1] is True


def test_without_tokens_steps_have_numbers() -> None:
    view = TokenStrip()
    view.update(np.zeros(3), signal=H)
    assert view.cells.data["token"] == ["0", "1", "2"]
    assert view.image.data["numbered"] == [True]
    assert strip().image.data["numbered"] == [False]
    assert list(view.mapper.palette) == list(PALETTE[H])


def test_it_moves_with_the_heatmap() -> None:
    heat = Heatmap()
    assert TokenStrip(x_range=heat.x_range).root.x_range is heat.x_range


def test_a_difference_takes_the_ends_it_is_given() -> None:
    view = TokenStrip()
    view.update(np.array([0.1]), signal="difference", ends=(-0.2, 0.2))
    assert view.image.data["high"] == [0.2]


def test_drag_tap_and_double_tap_choose_steps_and_select_tells_nobody() -> None:
    view = strip()
    times: list[tuple[int, ...]] = []
    view.on_times(times.append)
    view.select([1, 2])
    assert times == []
    assert view.time_marks.data["left"] == [0.5]
    assert view.time_marks.data["right"] == [2.5]
    box = {"type": "rect", "x0": 0.7, "x1": 3.2, "y0": 0, "y1": 1}
    view.root._trigger_event(SelectionGeometry(view.root, geometry=box))
    view.root._trigger_event(Tap(view.root, x=4.1, y=0.5))
    held = {"shift": True, "ctrl": False, "alt": False}
    view.root._trigger_event(Tap(view.root, x=4.1, y=0.5, modifiers=held))
    view.root._trigger_event(DoubleTap(view.root, x=4.1, y=0.5))
    assert times == [(1, 2, 3), (4,), (1, 2, 4), ()]


def test_a_long_text_has_a_bound_and_keeps_its_models() -> None:
    view = strip()
    before = {model.id for model in view.root.references()}
    view.update(np.zeros(100_000), signal=H, tokens=["word"] * 100_000)
    assert len(view.cells.data["token"]) <= 1024
    assert view.image.data["image"][0].shape[1] <= 1024
    assert {model.id for model in view.root.references()} == before
