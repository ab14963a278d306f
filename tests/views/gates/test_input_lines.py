"""The lines of the input, without a browser."""

import numpy as np

from grulens.views.gates.input_lines import InputLines


def test_one_step_is_a_point() -> None:
    lines = InputLines()
    for steps, seen in ((1, True), (3, False)):
        lines.update(np.ones((2, steps)))
        assert {points.visible for points in lines._points} == {seen}
