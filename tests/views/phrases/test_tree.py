"""The boxes of a tree of phrases: where they are painted, what they say, what a tap finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bokeh.events import DoubleTap, Tap

from grulens.probing.phrases.merging import Group, merging
from grulens.views.phrases.phrase import as_score, ink, words
from grulens.views.phrases.tree import MOST, PhraseBoxes
from grulens.views.still.phrases import phrases

HOSTILE = "</b><img src=x onerror=alert(1)>"
TREE = [
    Group(0, 1, 0.1), Group(1, 2, -0.2), Group(2, 3, 0.5), Group(3, 4, 0.0),
    Group(1, 3, -0.9, -1.2, (1, 2), 1, 1),
    Group(1, 4, -0.8, 0.1, (4, 3), 2, 2),
    Group(0, 4, -0.7, 0.0, (0, 5), 3, 3),
]  # fmt: skip
WORDS = ["is", "not", "good", HOSTILE]


def drawn(groups: Any = TREE, tokens: Any = WORDS) -> PhraseBoxes:
    boxes = PhraseBoxes()
    boxes.update(groups, tokens=tokens, title="phrases for $$x$$")
    return boxes


def long(count: int) -> list[Group]:
    generator = np.random.default_rng(0)
    return list(merging(lambda spans: generator.normal(size=len(spans)).tolist(), count, "score"))


@pytest.mark.parametrize("groups", [TREE, long(30)])
def test_every_place_is_painted_once_by_the_smallest_group_over_it(groups: list[Group]) -> None:
    boxes = drawn(groups, None)
    data, top = boxes.source.data, groups[-1]
    area = 0
    for i in range(len(data["left"])):
        left, right, bottom, high = (data[side][i] for side in ("left", "right", "bottom", "top"))
        assert left < right
        assert bottom < high
        area += (right - left) * (high - bottom)
        found = boxes.at((left + right) / 2, (bottom + high) / 2)
        assert found is not None
        assert (found.order, found.score) == (data["merge"][i], data["score"][i])
    assert area == (top.stop - top.first) * top.height
    assert boxes.at(0, top.height + 0.01) is None
    assert boxes.at(top.stop + 1, 0.5) is None
    assert boxes.at(0, -0.5) is None


def test_what_the_mouse_reads() -> None:
    data = drawn().source.data
    at = data["merge"].index(1)
    said = [data[field][at] for field in ("text", "number", "together", "steps")]
    assert said == ["not good", "−0.90", "−1.20", "1 to 2"]
    # Bokeh escapes what a tooltip shows
    assert HOSTILE.replace(" ", "␣") in data["text"][data["merge"].index(2)]
    assert "$$" not in drawn().figure.title.text
    assert drawn(tokens=None).source.data["text"][at] == "steps 1 to 2"


def test_a_tap_tells_the_group_and_a_double_tap_all() -> None:
    boxes = drawn()
    told: list[Any] = []
    boxes.on_phrase(lambda group: told.append(group.order))
    boxes.on_times(told.append)
    tap: Any = {"x": 1.2, "y": 0.5}
    boxes.figure._trigger_event(Tap(boxes.figure, **tap))
    boxes.figure._trigger_event(Tap(boxes.figure, x=0.1, y=2.5))
    boxes.figure._trigger_event(Tap(boxes.figure, x=9.0, y=0.5))
    boxes.figure._trigger_event(DoubleTap(boxes.figure, **tap))
    assert told == [1, 3, ()]


def test_what_is_chosen_is_outlined_if_a_group_holds_exactly_it() -> None:
    boxes = drawn()
    boxes.select((2, 1))
    assert boxes._marks.source.data == {"left": [0.5], "right": [2.5], "top": [1], "bottom": [0]}
    assert boxes.strip.times == (1, 2)
    boxes.select((0, 1))
    assert boxes._marks.source.data["left"] == []
    boxes.select((1, 2))
    boxes.update(TREE[:5])
    assert boxes.strip.times == ()


def test_numbers_stand_where_there_is_room_and_no_figure_is_too_high() -> None:
    assert drawn().numbers.data["number"] == ["−0.90", "−0.80", "−0.70"]
    many = drawn(long(200), None)
    assert many.figure.height <= MOST + 96
    assert len(many.numbers.data["number"]) < 60
    assert many.y_range.bounds == (0, many.y_range.end)
    assert many.y_range.end > max(group.height for group in long(200))
    empty = drawn([], [])
    assert empty.source.data["left"] == []
    assert drawn(TREE[:4]).source.data["left"] == []  # tokens alone are the strip's


def test_words_are_cut_and_every_character_is_seen() -> None:
    group = Group(0, 3, 0.0)
    assert words(["a\n", "b", "c"], group) == "a⏎ b c"
    assert words([" a", " b", " c"], group) == "␣a␣b␣c"
    assert len(words(["w" * 500] * 3, group)) == 60
    assert words(None, Group(3, 4, 0.0)) == "step 3"
    assert [as_score(v) for v in (1.5, -0.0123, 0.0)] == ["1.50", "−0.012", "0.00"]


def test_ink_is_read_on_its_ground() -> None:
    assert [ink(score, (-1.0, 1.0)) for score in (-1.0, 0.0, 1.0)] == [
        "#FFFFFF", "#000000", "#FFFFFF",
    ]  # fmt: skip
    assert ink(float("nan"), (-1.0, 1.0)) in ("#FFFFFF", "#000000")


def test_the_still_picture_has_every_box_and_the_strongest_words() -> None:
    html = phrases(TREE, tokens=WORDS, title="<b>")
    assert html.count("<rect") == 3
    assert html.index('height="3"') < html.index('height="1"')  # what lies over it comes later
    assert "not good" in html
    assert "−1.20" in html
    assert "&lt;b&gt;" in html
    assert "<img" not in html
    assert phrases([], tokens=[], title="x").count("<rect") == 0
    nan = phrases([*TREE[:4], Group(1, 3, float("nan"), float("nan"), (1, 2), 1, 1)])
    assert "NaN" in nan
