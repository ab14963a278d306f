"""The chart of a sweep: bars as long as their parts are large, whatever the signs."""

import numpy as np
import pytest
from bokeh.models import BoxSelectTool
from bokeh.models.annotations import Span

from grulens.views.gates.step_map import step_map
from grulens.views.still import lens as still
from grulens.views.still import sweep as still_sweep
from grulens.views.units.sweep_chart import TOP, SweepChart

HOSTILE = "</b><img src=x onerror=alert(1)>"


def chart(direct: list[float], recurrent: list[float], **options: object) -> SweepChart:
    made = SweepChart()
    d, r = np.array(direct), np.array(recurrent)
    made.update(range(len(d)), d + r, d, r, **options)  # type: ignore[arg-type]
    return made


def bar(made: SweepChart, name: str, unit: int) -> tuple[float, float]:
    at = made.source.data["unit"].index(str(unit))
    return made.source.data[f"{name}_from"][at], made.source.data[f"{name}_to"][at]


def test_parts_of_one_sign_follow_each_other_up_to_the_total() -> None:
    made = chart([0.25, -0.5], [0.5, -0.5])
    assert bar(made, "direct", 0) == (0.0, 0.25)
    assert bar(made, "recurrent", 0) == (0.25, 0.75)
    assert bar(made, "recurrent", 1) == (-0.5, -1.0)
    assert made.source.data["total"].tolist() == [-1.0, 0.75]


def test_parts_of_two_signs_both_begin_at_zero() -> None:
    made = chart([1.0, 0.0], [-0.75, 0.5])
    assert bar(made, "direct", 0) == (0.0, 1.0)
    assert bar(made, "recurrent", 0) == (0.0, -0.75)
    assert made.source.data["total"][made.source.data["unit"].index("0")] == 0.25
    axis = made.root.x_range
    assert axis.start < -0.75 < 1.0 < axis.end


def test_sizes_that_do_not_add_stand_under_each_other() -> None:
    made = SweepChart()
    made.update([4], np.array([0.5]), np.array([0.4]), np.array([0.3]), adds=False)
    assert bar(made, "direct", 4) == (0.0, 0.4)
    assert bar(made, "recurrent", 4) == (0.0, 0.3)
    data = made.source.data
    assert data["direct_bottom"][0] <= data["recurrent_top"][0]


def test_the_largest_come_first_and_what_was_not_done_is_left_away() -> None:
    made = chart([0.1, np.nan, -2.0, 0.0], [0.1, np.nan, 0.5, 0.3])
    assert made.source.data["unit"] == ["2", "3", "0"]


def test_of_many_units_the_top_is_in_sight_and_the_rest_in_reach() -> None:
    made = chart([0.0] * 2048, np.linspace(1, 0, 2048).tolist())
    assert (made.root.y_range.start, made.root.y_range.end) == (TOP - 0.5, -0.5)
    assert made.root.y_range.bounds == (-0.5, 2047.5)
    assert made.root.toolbar.visible
    few = chart([0.5], [0.25])
    assert not few.root.toolbar.visible
    assert few.root.height < made.root.height


def test_another_sweep_keeps_the_models() -> None:
    made = chart([0.5] * 50, [0.25] * 50)
    before = {model.id for model in made.root.references()}
    made.update([7], np.ones(1), np.ones(1), np.zeros(1), measure="$$x$$", title="$$x$$")
    assert {model.id for model in made.root.references()} == before
    assert made.root.y_range.bounds == (-0.5, 0.5)
    assert "$$" not in f"{made.root.xaxis[0].axis_label} {made.root.title.text}"


# over time


def test_many_rows_are_a_picture_over_the_tokens() -> None:
    values = np.array([[0.0, -0.4, 0.1], [0.2, 0.0, np.nan]])
    root = step_map(values, rows=["units 0 to 3", "unit 4"], tokens=list("a b"), layer="rnn.l0")
    heat, strip = root.children
    assert heat.title.text == "effect · rnn.l0"
    assert [bar.title for bar in heat.right] == ["−0.5 to 0.5"]
    picture = next(r for r in heat.renderers if "image" in r.data_source.data).data_source.data
    assert picture["low"] == [-0.5]
    assert picture["image"][0].dtype == np.uint8
    assert picture["image"][0][0, 0] == 126, "zero is the middle of the map"
    cells = next(r for r in strip.renderers if "image" in r.data_source.data).data_source.data
    np.testing.assert_array_equal(cells["image"][0][0], [176, 25, 151])
    assert not any(isinstance(t, BoxSelectTool) for t in (*heat.tools, *strip.tools))


def test_one_row_is_a_line_with_its_guides() -> None:
    root = step_map(np.array([[0.0, 0.5, 1.0]]), rows=["all units"], guides=[1.0], floor=1.0)
    line = root.children[0]
    assert line.renderers[0].data_source.data["value"].tolist() == [0.0, 0.5, 1.0]
    assert [s.location for s in line.center if isinstance(s, Span)] == [0.0, 1.0]
    assert line.y_range.end > 1.0


@pytest.mark.parametrize("rows", [1, 300])
def test_the_payload_has_a_bound(rows: int) -> None:
    values = np.zeros((rows, 20_000), np.float32)
    values[0, 7001] = 1.0
    root = step_map(values, rows=range(rows), tokens=["t"] * 20_000)
    sent = 0
    for model in root.references():
        for value in getattr(model, "data", {}).values():
            sent += sum(np.size(item) for item in value)
    assert sent < 200_000
    if rows == 1:
        assert root.children[0].renderers[0].data_source.data["value"].max() == 1.0


def test_steps_without_a_value_are_blank() -> None:
    mask = np.array([True, False, True])
    root = step_map(np.ones((2, 3)), rows=[0, 1], mask=mask)
    image = root.children[0].renderers[0].data_source.data["image"][0]
    assert (image == 254).any(0).tolist() == [False, True, False]


# still


def test_the_still_pictures_are_escaped_and_say_what_is_there() -> None:
    one = np.array
    html = still_sweep.effects(
        [HOSTILE, 3], one([0.125, -2.0]), one([0.5, -1.0]), one([-0.375, -1.0]), title=HOSTILE
    )
    html += still.heatmap(
        np.zeros((2, 3)), signal="difference", units=[HOSTILE, "unit 3"], name=HOSTILE,
        ends=(-2.0, 2.0),
    )  # fmt: skip
    assert "<img src=x" not in html
    assert html.count("&lt;img") >= 4
    for words in ("−2", "0.125", "−0.375", "unit 3"):
        assert words in html
    assert html.index(">3<") < html.index("0.125"), "the largest first"
    many = still_sweep.effects(list(range(40)), np.ones(40), np.ones(40), np.zeros(40))
    assert "and 28 more" in many
