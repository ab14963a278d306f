"""A sum, part by part: each bar begins where the one before it ended, and the last is the whole.

inputs │▬▬▬▬▬▬▬▬▬▬▬          0.66      red adds, blue takes away
   h_0 │           ▬▬        0.10
  bias │      ▬▬▬▬▬▬▬       −0.38
   gap │                     0.00
 score │▬▬▬▬▬▬               0.38      grey: what they add up to
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    HoverTool,
    LinearAxis,
    Range1d,
)
from bokeh.models.annotations import Span
from jaxtyping import Float

from grulens.views.credit.bars import color
from grulens.views.figure.canvas import fit, frame, stretch
from grulens.views.figure.palette import BEFORE, DIRECT
from grulens.views.figure.tokens import number, plain
from grulens.words import say

ROW: Final = 19
_LABEL_JS: Final = "return parts.data.label[tick] ?? ''"
_NUMBER_JS: Final = "return parts.data.number[tick] ?? ''"


class Waterfall:
    """The parts of a sum.

    Attributes:
        root: the Bokeh figure.
        source: label, value, begin and end of each bar.
    """

    def __init__(self, name: str) -> None:
        fields = ("label", "value", "number", "row", "begin", "end", "color")
        self.source = ColumnDataSource({field: [] for field in fields})
        self.root = self._draw(name)

    def update(
        self,
        labels: Sequence[str],
        values: Float[np.ndarray, " part"],
        *,
        whole: str,
        title: str = "",
    ) -> None:
        """Show another sum.

        Args:
            labels: (part,), what to call each part; short words.
            values: (part,), in the order of the bars.
            whole: what to call their sum.
            title: over the bars.

        >>> chart = Waterfall("parts")
        >>> chart.update(["a", "b"], np.array([3.0, -1.0]), whole="sum")
        >>> chart.source.data["begin"].tolist(), chart.source.data["end"].tolist()
        ([0.0, 3.0, 0.0], [3.0, 2.0, 2.0])
        """
        values = np.asarray(values, np.float64)
        ends = values.cumsum()
        total = float(ends[-1]) if len(ends) else 0.0
        begin = np.concatenate([[0.0], ends[:-1], [0.0]]) if len(ends) else np.zeros(1)
        shown = [*values.tolist(), total]
        self.source.data = {
            "label": [*labels, whole],
            "value": np.array(shown),
            "number": [number(value, ".3g") for value in shown],
            "row": np.arange(len(shown)),
            "begin": begin,
            "end": np.append(ends, total),
            "color": [*(color(value) for value in values.tolist()), DIRECT],
        }
        for axis in self.root.yaxis:
            axis.ticker.ticks = list(range(len(shown)))
        fit(self.root.y_range, len(shown), downwards=True)
        stretch(self.root.x_range, np.append(ends, 0.0), None, None)
        self.root.title.text = plain(title)
        self.root.update(height=62 + ROW * len(shown))

    def _draw(self, name: str) -> Any:
        root = frame(
            height=62, x_range=Range1d(start=0, end=1), y_range=Range1d(start=0.5, end=-0.5),
            title="", name=name,
        )  # fmt: skip
        args = {"parts": self.source}
        root.yaxis.update(
            ticker=FixedTicker(ticks=[]), formatter=CustomJSTickFormatter(args=args, code=_LABEL_JS)
        )
        root.yaxis.major_tick_line_color = None
        numbers = LinearAxis(
            axis_line_color=None, major_tick_line_color=None, major_label_text_font_size="11px"
        )
        shown = CustomJSTickFormatter(args=args, code=_NUMBER_JS)
        numbers.update(ticker=FixedTicker(ticks=[]), formatter=shown)
        root.add_layout(numbers, "right")
        root.xgrid.visible = True
        root.xaxis.ticker.desired_num_ticks = 4  # they stand apart where it is narrow
        root.add_layout(Span(location=0, dimension="height", line_color=BEFORE, line_width=1))
        bars = root.hbar(
            y="row", left="begin", right="end", height=0.72, source=self.source, color="color",
            line_color=None,
        )  # fmt: skip
        fields = [(say("part"), "@label"), (say("adds"), "@number")]
        root.add_tools(HoverTool(renderers=[bars], tooltips=fields))
        return root
