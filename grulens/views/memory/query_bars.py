"""What the state after one step is made of: a bar for every step before it, and one for h_0.

    weight  │ d e f ␣ f ( x ) : │      the tokens, coloured by the same weights
            │           ▁ ▂ ▅ █ │      after step 8, ':'
       h_0  │▬▬                 │ 0.04
      steps │▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬│ 0.96

All weights and the share of h_0 add up to 1; weighed toward a direction, all contributions add up
to the state along it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from bokeh.events import RangesUpdate
from bokeh.layouts import column
from bokeh.models import (
    BoxSelectTool,
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    HoverTool,
    LinearAxis,
    Range1d,
)
from bokeh.models.annotations import Span
from jaxtyping import Bool, Float

from grulens.views.figure import raster
from grulens.views.figure.canvas import fit, frame, steps, stretch, whole_steps
from grulens.views.figure.palette import ACCENT, AGAINST, BEFORE, FOR
from grulens.views.figure.tokens import plain, visible_text
from grulens.views.gates.token_strip import TokenStrip
from grulens.words import message, say

#: A token whose step makes up this much of the state, or more, has the deepest colour: most weights
#: are far smaller, and the bars say how much more it is.
FULL: Final = 0.2
_LABEL_JS: Final = "return shares.data.label[tick] ?? ''"
_NUMBER_JS: Final = """
const value = shares.data.value[tick];
if (value == null) return "";
const text = shares.data.signed[tick] ? value.toPrecision(3) : `${(100 * value).toFixed(1)} %`;
return text.replaceAll("-", "−");
"""


class QueryBars:
    """The weights of one query over its keys.

    Attributes:
        root: a Bokeh column: tokens, bars, and the sums.
        source: key, weight and token of each bar.
        shares: what all steps and h_0 add.
    """

    def __init__(self, *, x_range: Any = None) -> None:
        self.x_range: Any = x_range or steps()
        self._values: Float[np.ndarray, " key"] = np.zeros(0, np.float32)
        self._tokens: Sequence[object] | None = None
        self._signed = False
        self._shown = raster.Span(0, 0, 1)
        self.source = ColumnDataSource(
            {name: [] for name in ("key", "middle", "width", "weight", "color", "token")}
        )
        self.shares = ColumnDataSource(
            {name: [] for name in ("label", "row", "value", "color", "signed")}
        )
        self.strip = TokenStrip(x_range=self.x_range)
        self.strip.root.name = say("tokens, coloured by their weight")
        tools = self.strip.root.tools
        self.strip.root.tools = [tool for tool in tools if not isinstance(tool, BoxSelectTool)]
        self._bars, self._sums = self._draw_bars(), self._draw_sums()
        self._bars.on_event(RangesUpdate, self._zoomed)
        self.root = column(self.strip.root, self._bars, self._sums, sizing_mode="stretch_width")

    def on_query(self, listener: Callable[[int], object]) -> None:
        """Call `listener(step)` when a person taps a token, to choose it as the query."""
        self.strip.on_times(lambda times: [listener(time) for time in times[-1:]])

    def update(
        self,
        values: Float[np.ndarray, " key"],
        initial: float,
        *,
        query: int,
        mask: Bool[np.ndarray, " key"] | None = None,
        signed: bool = False,
        tokens: Sequence[object] | None = None,
        name: str = message("mean weight"),
    ) -> None:
        """Show another query.

        Args:
            values: (key,), the weight of each step.
            initial: what h_0 adds.
            query: whose weights they are.
            mask: (key,), False where there is no step (padding): left blank.
            signed: whether the values have two signs.
            tokens: (key,), what to call each step; None is its number.
            name: what the values are.

        >>> bars = QueryBars()
        >>> bars.update(np.array([0.25, 0.5]), 0.25, query=1, tokens="ab")
        >>> bars.shares.data["value"], bars.source.data["weight"].tolist()
        ([0.75, 0.25], [0.25, 0.5])
        """
        self._values, self._tokens, self._signed = values, tokens, signed
        fit(self.x_range, len(values))
        low, high = raster.symmetric(values, 1e-9)
        deepest = (low, high) if signed else (0.0, min(high, FULL))
        self.strip.update(
            values, signal="difference" if signed else "weight", tokens=tokens, mask=mask,
            name=say("adds") if signed else say("weight"), ends=deepest,
        )  # fmt: skip
        self.strip.select([query])
        stretch(self._bars.y_range, values, 0.0, None)
        title = say("{what} in the state after step {step}", what=say(name), step=query)
        if tokens is not None:
            title = say("{what}, {token}", what=title, token=visible_text(tokens[query]))
        self._bars.title.text = plain(title)
        self._paint(self.x_range.start, self.x_range.end)
        sums = [float(values.sum(dtype=np.float64)), float(initial)]
        self.shares.data = {
            "label": [say("steps"), "h_0"],
            "row": [0, 1],
            "value": sums,
            "color": [_color(v) if signed else ACCENT["state"] for v in sums],
            "signed": [signed] * 2,
        }
        reach = raster.symmetric(np.array(sums), 1e-9)
        self._sums.x_range.update(
            start=reach[0] if signed else 0.0, end=reach[1] if signed else 1.0
        )

    # ── drawing ──────────────────────────────────────────────────────────────────────────────

    def _draw_bars(self) -> Any:
        root = frame(
            height=150, x_range=self.x_range, y_range=(0, 1), x_axis_label=say("written at step"),
            title="", name=say("what one state is made of, by step"),
        )  # fmt: skip
        whole_steps(root.xaxis)
        root.ygrid.visible = True
        root.add_layout(Span(location=0, dimension="width", line_color=BEFORE, line_width=1))
        bars = root.vbar(
            x="middle", top="weight", width="width", source=self.source, fill_color="color",
            line_color=None,
        )  # fmt: skip
        fields = [(say("written at"), "@key"), (say("token"), "@token"),
                  (say("weight"), "@weight{0.00000}")]  # fmt: skip
        root.add_tools(HoverTool(renderers=[bars], mode="vline", tooltips=fields))
        return root

    def _draw_sums(self) -> Any:
        root = frame(
            height=72, x_range=Range1d(start=0, end=1), y_range=Range1d(start=1.6, end=-0.6),
            name=say("what all steps and the first state add"),
        )  # fmt: skip
        args = {"shares": self.shares}
        ticks = FixedTicker(ticks=[0, 1])
        root.yaxis.update(ticker=ticks, formatter=CustomJSTickFormatter(args=args, code=_LABEL_JS))
        root.yaxis.major_tick_line_color = None
        numbers = LinearAxis(
            axis_line_color=None, major_tick_line_color=None, major_label_text_font_size="11px"
        )
        numbers.update(ticker=ticks, formatter=CustomJSTickFormatter(args=args, code=_NUMBER_JS))
        root.add_layout(numbers, "right")
        root.hbar(
            y="row", right="value", height=0.7, source=self.shares, color="color", line_color=None
        )
        return root

    def _paint(self, x0: float | int, x1: float | int) -> None:
        time = len(self._values)
        span = raster.with_margin(raster.visible(time, x0, x1, raster.COLUMNS), time)
        self._shown = span
        drawn = raster.reduce(self._values[None], raster.Span(0, 1, 1), span, 0.0)[0]
        first = np.array(span.firsts())
        tokens = self._tokens
        self.source.data = {
            "key": first,
            "middle": first + (span.block - 1) / 2,
            "width": np.full(len(first), span.block * (0.86 if span.count < 200 else 1.0)),
            "weight": drawn.astype(np.float64),
            "color": [_color(v) if self._signed else ACCENT["state"] for v in drawn.tolist()],
            "token": ["" if tokens is None else visible_text(tokens[t]) for t in first],
        }

    def _zoomed(self, event: Any) -> None:
        if raster.zoomed_out_of(self._shown, event, len(self._values), raster.COLUMNS):
            self._paint(event.x0, event.x1)


def _color(value: float) -> str:
    return AGAINST if value < 0 else FOR
