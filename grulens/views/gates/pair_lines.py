"""One unit in two runs along their steps: two lines, where steps have no names.

      ── row 3  ── row 0
h  │ ╱╲__╱‾‾
   │╱  ╲___
   └────────  step
"""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import LegendItem
from jaxtyping import Float

from grulens.views.figure import raster
from grulens.views.figure.canvas import fit, frame, legend, steps, stretch, whole_steps
from grulens.views.figure.palette import AFTER, BEFORE
from grulens.views.figure.tokens import plain
from grulens.words import say

#: More points than this no screen shows.
POINTS = 2 * raster.COLUMNS


class PairLines:
    """Two lines over the places of two aligned runs.

    Args:
        x_range: the axis of another view, to move with it.

    Attributes:
        root: the Bokeh figure.
        source: place, and the values of either line.
    """

    def __init__(self, *, x_range: Any = None) -> None:
        self._x_range: Any = x_range or steps()
        self.source = ColumnDataSource({"place": [], "beside": [], "this": []})
        self.root = frame(
            height=150, x_range=self._x_range, y_range=(-1, 1), title="",
            name=say("one unit in both runs, by step"),
        )  # fmt: skip
        whole_steps(self.root.xaxis)
        self.items = []
        for field, color in (("beside", BEFORE), ("this", AFTER)):  # named with what they show
            line = self.root.line(
                "place", field, source=self.source, line_color=color, line_width=2
            )
            self.items.append(LegendItem(renderers=[line]))
        self.root.add_layout(legend(self.items), "above")
        self._read = HoverTool(renderers=[line], mode="vline")
        self.root.add_tools(self._read)

    def update(
        self, beside: Float[np.ndarray, " place"], this: Float[np.ndarray, " place"],
        *, names: tuple[str, str], title: str,
    ) -> None:  # fmt: skip
        """Show other values.

        Args:
            beside: (place,), NaN where there is no step.
            this: (place,), of the run shown.
            names: what they are called.
            title: whose values they are.

        >>> lines = PairLines()
        >>> lines.update(np.zeros(3), np.ones(3), names=("row 1", "row 0"), title="unit 3")
        >>> lines.source.data["this"].tolist(), lines.root.title.text
        ([1.0, 1.0, 1.0], 'unit 3')
        """
        fit(self._x_range, len(this))
        span = raster.visible(len(this), 0, len(this) - 1, POINTS)
        one = raster.Span(0, 1, 1)
        drawn = [raster.reduce(line[None], one, span, 0.0)[0] for line in (beside, this)]
        stretch(self.root.y_range, np.concatenate([*drawn, [0.0]]), None, None)
        self.source.data = {"place": np.array(span.firsts()), "beside": drawn[0], "this": drawn[1]}
        fields = ("beside", "this")
        for item, name in zip(self.items, names, strict=True):
            item.label = {"value": plain(name)}
        self._read.tooltips = [(say("step"), "@place")] + [
            (plain(name), f"@{field}{{0.0000}}") for name, field in zip(names, fields, strict=True)
        ]
        self.root.title.text = plain(title)
