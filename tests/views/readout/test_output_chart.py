"""The chart shows how far the output moved, and what it was before and is after."""

import math

import numpy as np
import pytest
from bokeh.events import Tap

from grulens.views.readout.output_chart import ALONE, OutputChart


def chart() -> OutputChart:
    view = OutputChart()
    view.update(np.array([0.0, 2.0, 0.5]))
    return view


def test_divergence_along_time() -> None:
    view = chart()
    assert view.along.data["divergence"].tolist() == [0.0, 2.0, 0.5]
    assert view.along_time[0].yaxis.axis_label == "KL, bits"
    view.update(np.array([0.5, -0.25]), measure="difference")
    assert view.along_time[0].yaxis.axis_label == "change"
    assert view.along_time[0].y_range.start < -0.25


def between_numbers(view: OutputChart) -> float:
    """How far the numbers along time stand apart, as AdaptiveTicker of BokehJS 3.9 finds it."""
    axis, scale = view.along_time[0].y_range, view.along_time[0].yaxis[0].ticker
    reach, base = axis.end - axis.start, scale.base
    size = base ** math.floor(math.log(reach / scale.desired_num_ticks, base))
    ends = scale.mantissas[-1] / base, scale.mantissas[0] * base
    steps = [one * size for one in (*scale.mantissas, *ends)]
    return min(steps, key=lambda step: abs(scale.desired_num_ticks - reach / step))


def test_a_change_to_both_sides_has_a_number_at_each() -> None:
    view = OutputChart()
    for most in np.geomspace(0.01, 10, 400):
        view.update(np.array([most, -most]), measure="difference")
        each = int(view.along_time[0].y_range.end // between_numbers(view))
        assert each == 1, most


def test_padding_is_left_blank() -> None:
    view = OutputChart()
    view.update(np.ones(3), mask=np.array([True, True, False]))
    assert np.isnan(view.along.data["divergence"]).tolist() == [False, False, True]


def test_rounding_errors_do_not_fill_the_chart() -> None:
    view = OutputChart()
    view.update(np.full(4, 1e-9))
    assert view.along_time[0].y_range.end >= 0.01


def test_a_step_shows_its_classes_as_text() -> None:
    view = chart()
    steps: list[int] = []
    view.on_step(steps.append)
    view.show_step(1, ["<b>", " "], np.array([0.75, 0.25]), np.array([0.5, 0.5]))
    assert view.classes.source.data["label"] == ["<b>", "␣"]
    assert view.classes.source.data["before"].tolist() == [0.75, 0.25]
    assert view.classes.source.data["after"].tolist() == [0.5, 0.5]
    assert view.mark.data == {"step": [1]}
    assert (view.step, view.classes.root.visible) == (1, True)
    assert view.classes.root.title.text == "output at step 1: probability"
    assert steps == []


def test_logits_get_an_axis_that_holds_them() -> None:
    view = chart()
    view.show_step(0, ["a"], np.array([-3.0]), np.array([9.0]), quantity="logit")
    axis = view.classes.root.x_range
    assert axis.start < -3 < 9 < axis.end
    view.show_step(0, ["a"], np.array([0.1]), np.array([0.2]))
    assert (axis.start, axis.end) == (0.0, 1.0)


def test_a_readout_without_classes_is_two_lines() -> None:
    view = chart()
    view.update_values(np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 3.0]), quantity="$$p$$")
    assert view.values.data["before"].tolist() == [1.0, 2.0, 3.0]
    assert view.values.data["after"].tolist() == [1.0, 0.0, 3.0]
    assert view.along_time[1].visible
    assert not view.classes.root.visible
    assert "$$" not in view.along_time[1].yaxis.axis_label


def test_one_step_is_a_pair_of_bars_and_nothing_lies_over_it() -> None:
    view = OutputChart()
    view.update(np.array([-0.25]), measure="difference")
    view.update_values(np.array([1.5]), np.array([1.25]), quantity="value")
    view.mark_step(0)
    assert view.classes.root.visible
    assert not view.along_time[1].visible
    bars = view.classes.source.data
    assert (bars["label"], bars["before"], bars["after"]) == (["output"], [1.5], [1.25])
    assert view.classes.root.title.text == "output"
    assert view.mark.data == {"step": []}
    assert view.along.data["width"] == [ALONE]
    assert not view.along_time[0].visible
    view.show_step(0, ["a", "b"], np.array([0.5, 0.5]), np.array([0.25, 0.75]))
    assert view.classes.root.title.text == "output: probability"
    assert view.mark.data == {"step": []}
    view.update(np.zeros(3))
    view.update_values(np.ones(3), np.ones(3))
    view.mark_step(0)
    assert view.mark.data == {"step": [0]}
    assert view.along_time[1].visible
    assert not view.classes.root.visible
    assert view.along_time[0].visible
    assert not view.along_time[0].xaxis.visible  # that of the values stands under it


def test_a_tap_chooses_a_step() -> None:
    view = chart()
    steps: list[int] = []
    view.on_step(steps.append)
    for x in (0.9, 7.0, -3.0):
        view.along_time[0]._trigger_event(Tap(view.along_time[0], x=x, y=0))
    assert steps == [1]


@pytest.mark.parametrize("time", [3, 50_000])
def test_the_payload_has_a_bound_and_the_models_stay(time: int) -> None:
    view = chart()
    before = {model.id for root in view.roots for model in root.references()}
    line = np.zeros(time)
    line[time // 2] = 4.0
    view.update(line)
    view.update_values(line, line)
    assert len(view.along.data["divergence"]) <= 1024
    assert view.along.data["divergence"].max() == 4.0
    assert {model.id for root in view.roots for model in root.references()} == before


def test_what_is_hidden_is_seen_again_with_the_next_answer() -> None:
    view = chart()
    assert view.visible
    view.hide()
    assert not view.visible
    view.update(np.array([0.5]))
    view.update_values(np.array([0.5]), np.array([0.25]))
    assert view.visible
    assert [root.visible for root in view.roots] == [False, True, False]
