"""What every unit does, the strongest first: its effect, and the two paths it takes.

unit   ▬▬▬▬▬ direct (grey)   ▬▬▬ recurrent (blue)   ○ total
  12   │▒▒▒▒▒▒▒▒▓▓▓▓▓○                       0.42
   7   │▒▒▒▒▒▒○▓▓▓                            0.31      parts against each other: the bars go
  90  ▓▓▓▓○▒▒│                               −0.20      opposite ways, and the total lies between

Each bar is as long as its part is large, whatever the signs: parts of one sign follow each other,
parts of two signs go either way from zero. Sizes of vectors do not add up, so they stand under
each other instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from bokeh.models import (
    AdaptiveTicker,
    ColumnDataSource,
    CustomJSTickFormatter,
    HoverTool,
    LinearAxis,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.models.annotations import LegendItem, Span
from jaxtyping import Float

from grulens.views.figure.canvas import fit, frame, legend, stretch
from grulens.views.figure.palette import BEFORE, DIRECT, RECURRENT
from grulens.views.figure.tokens import plain
from grulens.words import say

#: Rows in sight at first; the others are a drag away.
TOP: Final = 24
ROW: Final = 19
ENDS: Final = ("from", "to", "top", "bottom")

_LABEL_JS = "return bars.data.unit[tick] ?? ''"
_TOTAL_JS = """
const total = bars.data.effect[tick];
return total == null ? "" : `${Number(total.toPrecision(3))}`.replaceAll("-", "−");
"""


def falling(size: Float[np.ndarray, " unit"]) -> list[int]:
    """The places of the largest sizes first; what is NaN is left away.

    >>> falling(np.array([1.0, np.nan, 3.0]))
    [2, 0]
    """
    order = np.argsort(-np.nan_to_num(size, nan=-np.inf), kind="stable")
    return [int(i) for i in order if not np.isnan(size[i])]


class SweepChart:
    """A row for each unit: bars for the direct and the recurrent part, a dot for the whole.

    Attributes:
        root: the Bokeh figure.
        source: unit, effect, direct and recurrent of each row, and where their bars lie.
    """

    def __init__(self) -> None:
        fields = ["unit", "effect", "direct", "recurrent", "row", "total"]
        fields += [f"{part}_{end}" for part in ("direct", "recurrent") for end in ENDS]
        self.source = ColumnDataSource({field: [] for field in fields})
        self.root = self._draw()

    def update(
        self,
        units: Sequence[object],
        effect: Float[np.ndarray, " unit"],
        direct: Float[np.ndarray, " unit"],
        recurrent: Float[np.ndarray, " unit"],
        *,
        adds: bool = True,
        measure: str = "",
        title: str = "",
    ) -> None:
        """Show other effects, by falling size; those that are NaN are left away.

        Args:
            units: (unit,), what to call each row.
            effect: (unit,), the whole effect.
            direct: (unit,), its direct part.
            recurrent: (unit,), its recurrent part.
            adds: whether effect = direct + recurrent; sizes of vectors do not add.
            measure: what the numbers are, for the axis.
            title: over the figure.

        >>> chart = SweepChart()
        >>> one = np.array
        >>> chart.update([3, 5], one([0.1, -0.5]), one([0.3, -0.2]), one([-0.2, -0.3]))
        >>> chart.source.data["unit"], chart.source.data["recurrent_from"].tolist()
        (['5', '3'], [-0.2, 0.0])
        """
        order = falling(np.abs(effect))
        parts = {"effect": effect, "direct": direct, "recurrent": recurrent}
        data: dict[str, Any] = {
            name: np.asarray(values, np.float64)[order] for name, values in parts.items()
        }
        row = np.arange(len(order))
        data |= {"unit": [str(units[i]) for i in order], "row": row}
        one_way = np.sign(data["direct"]) == np.sign(data["recurrent"])
        start = np.where(one_way, data["direct"], 0.0) if adds else np.zeros(len(order))
        data |= _bar("direct", np.zeros(len(order)), data["direct"], row, None if adds else -1)
        end = start + data["recurrent"]
        data |= _bar("recurrent", start, end, row, None if adds else 1)
        data["total"] = data["effect"]
        self.source.data = data
        self._fit(len(order), np.concatenate([data["direct"], end, data["total"]]))
        self.root.xaxis.axis_label = plain(say(measure))
        self.root.title.text = plain(title)

    def _fit(self, rows: int, values: Float[np.ndarray, " any"]) -> None:
        shown = max(1, min(rows, TOP))
        self.root.height = (118 if rows <= shown else 148) + ROW * shown
        axis = self.root.y_range
        fit(axis, rows, downwards=True)
        axis.update(start=shown - 0.5, end=-0.5, reset_start=shown - 0.5, reset_end=-0.5)
        self.root.toolbar.visible = rows > shown
        self.root.yaxis[0].axis_label = (
            say("unit") if rows <= shown else say("unit (drag for the rest)")
        )
        low = 0.0 if not (values < 0).any() else None
        stretch(self.root.x_range, np.append(values, 0.0), low, None)

    def _draw(self) -> Any:
        pan, wheel = (
            PanTool(dimensions="height"),
            WheelZoomTool(dimensions="height", modifiers="ctrl"),
        )
        root = frame(
            height=ROW,
            x_range=Range1d(start=0, end=1),
            y_range=Range1d(start=0.5, end=-0.5, min_interval=2),
            tools=[pan, wheel, ResetTool()],
            active_drag=pan,
            active_scroll=wheel,
            toolbar_location="above",
            # beside the title, BokehJS folds the tools away when the page's theme changes
            toolbar_sticky=False,
            title="",
            name=say("effect of every unit"),
        )
        root.xgrid.visible = True
        args = {"bars": self.source}
        # every row in sight has its name; of thousands, as many as there is room for
        ticks = AdaptiveTicker(
            min_interval=1, mantissas=[1, 2, 5], num_minor_ticks=0, desired_num_ticks=TOP
        )
        root.yaxis.update(ticker=ticks, formatter=CustomJSTickFormatter(args=args, code=_LABEL_JS))
        root.yaxis.major_tick_line_color = None
        totals = LinearAxis(
            axis_line_color=None,
            major_tick_line_color=None,
            minor_tick_line_color=None,
            major_label_text_font_size="11px",
        )
        totals.update(ticker=ticks, formatter=CustomJSTickFormatter(args=args, code=_TOTAL_JS))
        root.add_layout(totals, "right")
        root.add_layout(Span(location=0, dimension="height", line_color=BEFORE, line_width=1))
        said = {"effect": say("effect"), "direct": say("direct"), "recurrent": say("recurrent")}
        items = []
        for name, color in (("direct", DIRECT), ("recurrent", RECURRENT)):
            bars = root.quad(
                left=f"{name}_from", right=f"{name}_to", top=f"{name}_top",
                bottom=f"{name}_bottom", source=self.source, color=color, line_color=None,
            )  # fmt: skip
            items.append(LegendItem(label=said[name], renderers=[bars]))
        # white within black: seen on either bar and on either ground
        dot = root.scatter(
            "total", "row", source=self.source, size=8, fill_color="white", line_color="black",
            line_width=1.5,
        )  # fmt: skip
        root.add_layout(
            legend([*items, LegendItem(label=said["effect"], renderers=[dot])]), "above"
        )
        root.add_tools(
            HoverTool(
                tooltips=[
                    (say("unit"), "@unit"),
                    *((word, f"@{name}{{%.4g}}") for name, word in said.items()),
                ],
                formatters={f"@{name}": "printf" for name in said},
            )
        )
        return root


def _bar(
    name: str,
    start: Float[np.ndarray, " unit"],
    end: Float[np.ndarray, " unit"],
    row: Any,
    side: int | None,
) -> dict[str, Any]:
    """A bar in the middle of its row, or in its upper (-1) or lower (1) half."""
    top, bottom = (-0.32, 0.32) if side is None else (-0.36, 0.0) if side < 0 else (0.0, 0.36)
    return {
        f"{name}_from": start,
        f"{name}_to": end,
        f"{name}_top": row + top,
        f"{name}_bottom": row + bottom,
    }
