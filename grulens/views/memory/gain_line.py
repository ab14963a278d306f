"""How strongly one state depends on each state before it: a line over the past, from 1 downwards.

   1 │                 ●      state after step 40
 0.1 │           ● ● ●        what is forgotten falls, what explodes rises above 1
0.01 │ ● ● ● ● ●
     └──────────────────
       step
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.models.annotations import Span
from jaxtyping import Bool, Float

from grulens.views.figure import raster
from grulens.views.figure.canvas import fit, frame, log_ticks, steps, whole_steps
from grulens.views.figure.palette import BEFORE, RECURRENT
from grulens.views.figure.tokens import number, plain
from grulens.words import message, say

#: What is less is not told apart from nothing.
FLOOR: Final = 1e-6
UNDER: Final = message("what is less than {least} is drawn there")
POINTS: Final = 2 * raster.COLUMNS


class GainLine:
    """The gains of one query over its keys, on a logarithmic axis.

    Attributes:
        root: the Bokeh figure.
        source: key and gain of each point, and the gain as a text.
    """

    def __init__(self, *, x_range: Any = None) -> None:
        self.x_range: Any = x_range or steps()
        self.source = ColumnDataSource({"key": [], "gain": [], "number": []})
        self.root = frame(
            height=170, x_range=self.x_range, y_range=Range1d(start=FLOOR, end=2),
            y_axis_type="log", x_axis_label=say("state after step"), y_axis_label=say("gain"),
            title="", name=say("gain of every state before"),
        )  # fmt: skip
        whole_steps(self.root.xaxis)
        self.root.ygrid.visible = True
        self.root.add_layout(
            Span(location=1, dimension="width", line_color=BEFORE, line_dash="dashed")
        )
        line = self.root.line("key", "gain", source=self.source, line_color=RECURRENT, line_width=2)
        self.root.scatter("key", "gain", source=self.source, size=4, color=RECURRENT)
        fields = [(say("step"), "@key"), (say("gain"), "@number")]
        self.root.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=fields))

    def update(
        self,
        values: Float[np.ndarray, " key"],
        *,
        mask: Bool[np.ndarray, " key"],
        title: str = "",
    ) -> None:
        """Show another query.

        Args:
            values: (key,), the gain of each state.
            mask: (key,), which states are in its past.
            title: above the figure.

        >>> line = GainLine()
        >>> line.update(np.array([0.5, 1.0, 0.0]), mask=np.array([True, True, False]))
        >>> line.source.data["gain"].tolist(), line.source.data["number"]
        ([0.5, 1.0], ['0.5', '1'])
        """
        fit(self.x_range, len(values))
        keys = np.flatnonzero(mask)
        keys = keys[:: -(-len(keys) // POINTS) or 1]
        self.source.data = {
            "key": keys,
            "gain": np.maximum(values[keys], FLOOR),
            "number": [number(gain, ".2g") for gain in values[keys].tolist()],
        }
        finite = values[keys][np.isfinite(values[keys])]
        most = float(finite.max(initial=1.0))
        least = max(FLOOR, float(finite.min(initial=1.0)))
        self.root.y_range.update(start=least / 2, end=2 * most)
        log_ticks(self.root.yaxis, least / 2, 2 * most)
        if (values[keys] < FLOOR).any():
            title += f" · {say(UNDER, least=f'{FLOOR:g}')}"
        self.root.title.text = plain(title)
