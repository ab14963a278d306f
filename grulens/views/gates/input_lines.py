"""What a layer reads, as lines over its steps: the input of a model that reads numbers.

input │  ╱╲    ╱╲          on the axis of the map under it
      │ ╱  ╲__╱  ╲__
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import LegendItem
from jaxtyping import Bool, Float

from grulens.views.figure import raster
from grulens.views.figure.canvas import fit, frame, legend, set_data, steps, stretch
from grulens.views.figure.palette import INPUTS
from grulens.words import say

#: So many lines can be told apart; more numbers a step are not drawn as lines.
MOST: Final = len(INPUTS)
HEIGHT: Final = 92


class InputLines:
    """A line for each number of the input.

    Attributes:
        root: the Bokeh figure.
        source: the steps, and the values of each line.
    """

    def __init__(self, *, x_range: Any = None) -> None:
        self.x_range: Any = x_range or steps()
        self.source = ColumnDataSource({"step": [], **{f"x{i}": [] for i in range(MOST)}})
        self.root = frame(
            height=HEIGHT, x_range=self.x_range, y_range=(0, 1), y_axis_label=say("input"),
            name=say("the input, by step"),
        )  # fmt: skip
        self.root.xaxis.visible = False
        self.root.yaxis.ticker.desired_num_ticks = 2
        self._lines = [
            self.root.line("step", f"x{i}", source=self.source, line_color=color, line_width=1.5)
            for i, color in enumerate(INPUTS)
        ]
        # a line of one step cannot be seen
        self._points = [
            self.root.scatter("step", f"x{i}", source=self.source, color=color, size=6)
            for i, color in enumerate(INPUTS)
        ]
        self._legend = legend([])
        self.root.add_layout(self._legend, "above")
        self._hover = HoverTool(renderers=[self._lines[0]], mode="vline")
        self.root.add_tools(self._hover)

    def update(
        self,
        values: Float[np.ndarray, "number time"],
        *,
        mask: Bool[np.ndarray, " time"] | None = None,
    ) -> None:
        """Show other values.

        Args:
            values: (number, time), `MOST` numbers at most.
            mask: (time,), False where there is no step: left blank.

        >>> lines = InputLines()
        >>> lines.update(np.array([[0.0, 1.0, 0.5]]))
        >>> lines.source.data["x0"].tolist()
        [0.0, 1.0, 0.5]
        """
        count, time = values.shape
        fit(self.x_range, time)
        shown = np.asarray(values, np.float64)
        if mask is not None:
            shown = np.where(mask, shown, np.nan)
        span = raster.Span(0, time, max(1, -(-time // (2 * raster.COLUMNS))))
        rows = raster.reduce(shown, raster.Span(0, count, 1), span, 0.0)
        stretch(self.root.y_range, shown.ravel(), None, None)
        blank = np.full(rows.shape[1], np.nan)
        data = {f"x{i}": rows[i] if i < count else blank for i in range(MOST)}
        set_data(self.source, {"step": np.array(span.firsts()), **data})
        for points in self._points:
            points.visible = time == 1
        several = count > 1  # one line needs no name
        self._legend.items = [
            LegendItem(label=str(i), renderers=[self._lines[i]])
            for i in range(count if several else 0)
        ]
        lines = [(str(i) if several else say("value"), f"@x{i}{{0.0000}}") for i in range(count)]
        self._hover.tooltips = [(say("step"), "@step"), *lines]
