"""The classes of one step as paired bars: what the model would have said, and what it says now.

"  │ ▬▬▬▬▬▬▬▬▬▬          62 → 27 %       before (grey) over after (orange)
   │ ▬▬▬▬
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from bokeh.core.property.vectorization import Value
from bokeh.models import (
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    HoverTool,
    LinearAxis,
    Range1d,
)
from bokeh.models.annotations import LegendItem
from jaxtyping import Float

from grulens.views.figure.canvas import fit, frame, legend, stretch
from grulens.views.figure.palette import AFTER, BEFORE
from grulens.views.figure.tokens import plain, visible_name
from grulens.words import say

#: How tall a bar is, and what stands above the bars.
_BAR: Final = 9
_HEAD: Final = 46
_LABEL_JS = "return bars.data.label[tick] ?? ''"
# Percent leave no room for rounding to say that something likely is impossible.
_VALUES_JS = """
const percent = bars.data.percent[0];
const number = (v) => {
  if (v == null || isNaN(v)) return "NaN";
  const size = Math.abs(v);
  if (!percent && size >= 1000) return v.toPrecision(2);
  if (!percent) return size >= 0.0995 || !size ? v.toFixed(2) : String(Number(v.toPrecision(2)));
  return v > 0 && v < 0.0005 ? "<0.1" : v < 0.0995 ? (100 * v).toFixed(1) : (100 * v).toFixed(0);
};
if (bars.data.label[tick] == null) return "";
const text = `${number(bars.data.before[tick])} → ${number(bars.data.after[tick])}`;
return text.replaceAll("-", "−") + (percent ? " %" : "");
"""


class ClassBars:
    """Two bars for each class, its name at the left and its numbers at the right.

    Attributes:
        root: the Bokeh figure, hidden until there is something to show.
        source: label, before, after of each class.
        items: the entries of the legend.
    """

    def __init__(self) -> None:
        fields = ("label", "name", "row", "before", "after", "upper", "lower", "percent")
        self.source = ColumnDataSource({field: [] for field in fields})
        self.root = self._draw()

    def name(self, before: str, after: str) -> None:
        """Call the two answers something else than before and after.

        >>> bars = ClassBars()
        >>> bars.name("row 3", "row 0")
        >>> [item.label.value for item in bars.items]
        ['row 3', 'row 0']
        """
        names = plain(before), plain(after)
        for item, name in zip(self.items, names, strict=True):
            item.label = Value(name)
        fields = ("before", "after")
        self._read.tooltips = [(say("class"), "@name")] + [
            (name, f"@{field}{{0.0000}}") for name, field in zip(names, fields, strict=True)
        ]

    def update(
        self,
        labels: Sequence[object],
        before: Float[np.ndarray, " label"],
        after: Float[np.ndarray, " label"],
        *,
        quantity: str,
        title: str,
    ) -> None:
        """Show other classes, from the top in the order given.

        >>> bars = ClassBars()
        >>> bars.update([" "], np.array([0.5]), np.array([0.25]), quantity="probability", title="")
        >>> bars.source.data["label"], bars.root.visible
        (['␣'], True)
        """
        place = np.arange(len(labels))
        self.source.data = {
            "label": [visible_name(label, 16) for label in labels],
            "name": [visible_name(label, 200) for label in labels],
            "row": place,
            "before": np.asarray(before, np.float64),
            "after": np.asarray(after, np.float64),
            "upper": place - 0.19,
            "lower": place + 0.19,
            "percent": [quantity == "probability"] * len(labels),
        }
        for axis in self.root.yaxis:
            axis.ticker.ticks = place.tolist()
        fit(self.root.y_range, len(labels), downwards=True)
        if quantity == "probability":
            self.root.x_range.update(start=0.0, end=1.0)
        else:
            stretch(self.root.x_range, np.concatenate([before, after]), 0.0, 1e-3)
        # the numbers stand beside the bars: an axis would say them a second time
        self.root.title.text = plain(
            say("{what}: {quantity}", what=title, quantity=say(quantity))
            if quantity == "probability"
            else title
        )
        self.root.update(height=_HEAD + 2 * _BAR * max(1, len(labels)), visible=True)

    def _draw(self) -> Any:
        y_range = Range1d(start=0.5, end=-0.5)
        root = frame(
            height=_HEAD, x_range=(0, 1), y_range=y_range, title="", visible=False,
            name=say("classes before and after"),
        )  # fmt: skip
        args = {"bars": self.source}
        root.xaxis.visible = False
        root.yaxis.ticker = FixedTicker(ticks=[])
        root.yaxis.formatter = CustomJSTickFormatter(args=args, code=_LABEL_JS)
        root.yaxis.major_label_text_font = "monospace"
        numbers = LinearAxis(
            axis_line_color=None, major_tick_line_color=None, major_label_text_font_size="11px"
        )
        shown = CustomJSTickFormatter(args=args, code=_VALUES_JS)
        numbers.update(ticker=FixedTicker(ticks=[]), formatter=shown)
        root.add_layout(numbers, "right")
        self.items: list[LegendItem] = []
        said = {"before": say("before"), "after": say("after")}
        for name, place, color in (("before", "upper", BEFORE), ("after", "lower", AFTER)):
            bars = root.hbar(
                y=place, right=name, height=0.36, source=self.source, color=color, line_color=None
            )
            self.items.append(LegendItem(label=said[name], renderers=[bars]))
        root.add_layout(legend(self.items), "above")
        lines = [(say("class"), "@name")]
        lines += [(said[name], f"@{name}{{0.0000}}") for name in said]
        self._read = HoverTool(tooltips=lines)
        root.add_tools(self._read)
        return root
