"""The tokens in one row, coloured by the value of a unit: where in the text did it act?

    unit 27  │ d e f ␣ f ( x ) : ⏎ │      drag: choose steps · tap: one step · double tap: all

Texts appear where there is room. Only the browser knows how wide a step is, so the fitting happens
there, at every paint: zooming or narrowing the page needs no Python. The texts are tick labels,
which Bokeh draws as plain characters, in two sets: black on light cells, white on dark ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from bokeh.events import RangesUpdate
from bokeh.models import (
    BoxSelectTool,
    ColumnDataSource,
    CustomJSTicker,
    CustomJSTickFormatter,
    FixedTicker,
    LinearAxis,
    LinearColorMapper,
)
from jaxtyping import Bool, Float

from grulens.cells.signal import Signal
from grulens.views.figure import hover, raster
from grulens.views.figure.canvas import (
    Listener,
    Positions,
    fit,
    frame,
    inside,
    set_data,
    steps,
    tapped,
    tell,
)
from grulens.views.figure.choosing import Ends, on_choosing
from grulens.views.figure.marks import Marks
from grulens.views.figure.palette import LEVELS, PALETTE, WHITE_INK
from grulens.views.figure.tokens import visible_name, visible_text
from grulens.words import say

HEIGHT: Final = 34

# More texts than this do not fit any screen: no need to measure them.
_TICKER_JS = """
const {start, end} = cb_data;
const low = Math.ceil(Math.min(start, end)), high = Math.floor(Math.max(start, end));
return high - low > 400 ? [] : Array.from({length: high - low + 1}, (_, i) => low + i);
"""
# 11 px monospace is 6.6 px wide; East Asian characters take two places.
_TEXT_JS = """
const d = image.data;
if (d.column == null) return "";  // nothing to show yet
const i = tick - d.column[0];
if (d.column_block[0] != 1 || cells.data.white[i] != white) return "";
let width;
try { width = plot.inner_width } catch { return "" }
const room = Math.floor((width / (plot.x_range.end - plot.x_range.start) + 0.2) / 6.6);
// numbers are on the axis above, too: where one of them has no room beside the next, none is here
if (d.numbered[0] && room <= `${d.steps[0] - 1}`.length) return "";
const letters = [...(cells.data.token[i] ?? "")];
const wide = letters.map((c) => c > "\u2e7f" && c < "\ufb00" ? 2 : 1);
if (wide.reduce((a, b) => a + b, 0) <= room) return letters.join("");
if (room < 3) return "";
let used = 1, n = 0;
while (used + wide[n] <= room) used += wide[n++];
return letters.slice(0, n).join("") + "…";
"""


class TokenStrip:
    """One row of tokens on the colour map of a signal.

    Attributes:
        root: the Bokeh figure.
        x_range: the time axis; pass a Heatmap's to move with it.
    """

    def __init__(
        self, *, x_range: Any = None, columns: int = raster.COLUMNS, live: bool = True
    ) -> None:
        self._limit = columns
        self.x_range: Any = x_range or steps()
        self._time_listeners: list[Listener] = []
        self._values: Float[np.ndarray, " time"] = np.zeros(0, np.float32)
        self._tokens: Sequence[object] | None = None
        self._mask: Bool[np.ndarray, " time"] | None = None
        self._ends, self._name = (-1.0, 1.0), ""
        self._signal: Signal | str = "state"
        self._called = _called(False)
        self._shown = raster.Span(0, 0, 1)
        self.times: Positions = ()
        none: dict[str, Any] = {k: [] for k in ("image", "x", "dw", "name")}
        self.image = ColumnDataSource(none)
        self.cells = ColumnDataSource({"token": [], "white": []})
        self.root = self._draw()
        if live:
            all_steps = partial(tell, self._time_listeners, ())
            on_choosing(self.root, tap=self._tapped, drag=self._dragged, clear=all_steps)
            self.root.on_event(RangesUpdate, self._zoomed)

    def on_times(self, listener: Listener) -> None:
        """Call `listener(times)` when a person chooses steps, () for all; never from `select`."""
        self._time_listeners.append(listener)

    def update(
        self,
        values: Float[np.ndarray, " time"],
        *,
        signal: Signal | str,
        tokens: Sequence[object] | None = None,
        mask: Bool[np.ndarray, " time"] | None = None,
        name: str = "",
        ends: tuple[float, float] | None = None,
        names: bool = False,
    ) -> None:
        """Show other values.

        Args:
            values: (time,), the unit's signal.
            signal: a signal of the layer's cell, or "difference"; anything else raises SignalError.
                With `ends` also "weight".
            tokens: what to call each step; None is its number.
            mask: (time,), False where there is no step (padding): left blank.
            name: stands at the left: "unit 27".
            ends: the values at the ends of the map; a difference takes the heatmap's.
            names: whether `tokens` are names of something, whose words stay apart.

        >>> strip, z = TokenStrip(), Signal("z", "update gate", 0.0, 1.0, "keep")
        >>> strip.update(np.array([0.0, 1.0]), signal=z, tokens=["a", " "])
        >>> strip.cells.data["token"], strip.image.data["image"][0].tolist()
        (['a', '␣'], [[0, 252]])
        """
        self._ends, self._called = ends or raster.scale(signal, values), _called(names)
        self._values, self._tokens, self._mask, self._name = values, tokens, mask, name
        fit(self.x_range, len(values))
        if signal != self._signal:
            self._signal = signal
            self.mapper.palette = PALETTE[signal]
        self._paint(self.x_range.start, self.x_range.end)
        self._mark()

    def select(self, times: Iterable[int] = ()) -> None:
        """Outline these steps; tells no listener."""
        self.times = tuple(sorted({int(t) for t in times}))
        self._mark()

    # ── drawing ──────────────────────────────────────────────────────────────────────────────

    def _draw(self) -> Any:
        box = BoxSelectTool(renderers=[], dimensions="width", description=say("drag: choose steps"))
        root = frame(
            height=HEIGHT, tools=[box], active_drag=box, x_range=self.x_range, y_range=(0, 1),
            name=say("tokens, coloured by one unit"),
        )  # fmt: skip
        self.mapper = LinearColorMapper(palette=PALETTE["state"], low=0, high=LEVELS + 2)
        picture = root.image("image", "x", 0, "dw", 1, source=self.image, color_mapper=self.mapper)
        self._marks = Marks(root, dash="dashed")
        self.time_marks = self._marks.source
        for white in (False, True):
            args = {"image": self.image, "cells": self.cells, "plot": root, "white": white}
            texts = LinearAxis(
                fixed_location=1,
                major_label_standoff=6,
                major_label_text_font="monospace",
                major_label_text_font_size="11px",
                major_label_text_color="white" if white else "black",
                axis_line_color=None,
                major_tick_line_color=None,
                major_tick_out=0,
                minor_tick_line_color=None,
            )
            shown = CustomJSTickFormatter(args=args, code=_TEXT_JS)
            texts.update(ticker=CustomJSTicker(major_code=_TICKER_JS), formatter=shown)
            root.add_layout(texts, "below")
        root.xaxis[0].visible = False
        root.yaxis.ticker = FixedTicker(ticks=[0.5])
        root.yaxis.formatter = CustomJSTickFormatter(
            args={"image": self.image}, code='return image.data.name[0] ?? ""'
        )
        root.yaxis.major_tick_line_color = None
        codes = {"token": hover.TOKEN, "step": hover.STEP, "value": hover.VALUE}
        args = {"image": self.image, "cells": self.cells}
        root.add_tools(hover.hover(picture, codes, args))
        return root

    def _paint(self, x0: float | int, x1: float | int) -> None:
        time = len(self._values)
        span = raster.with_margin(raster.visible(time, x0, x1, self._limit), time)
        self._shown = span
        row = raster.Span(0, 1, 1)
        rest = 0.0 if self._signal == "weight" else None  # of many weights the largest counts
        drawn = raster.picture(self._values[None], row, span, self._ends, self._mask, rest)
        ink = WHITE_INK[self._signal]
        tokens = range(time) if self._tokens is None else self._tokens
        cells = {
            "token": [self._called(tokens[t]) for t in span.firsts()],
            "white": [ink[code] for code in drawn[0]],
        }
        set_data(self.cells, cells)
        left, right = span.edges
        one = {
            **hover.meaning(self._values, self._ends, span, time),
            "x": left,
            "dw": right - left,
            "name": self._name,
            "numbered": self._tokens is None,
        }
        self.image.data = {"image": [drawn], **{name: [value] for name, value in one.items()}}

    def _mark(self) -> None:
        joined = raster.runs(t for t in self.times if t < len(self._values))
        self._marks.show((first - 0.5, last + 0.5, 0.97, 0.03) for first, last in joined)

    # ── what a person does ───────────────────────────────────────────────────────────────────

    def _zoomed(self, event: Any) -> None:
        if raster.zoomed_out_of(self._shown, event, len(self._values), self._limit):
            self._paint(event.x0, event.x1)

    def _tapped(self, event: Any) -> None:
        step = round(event.x)
        if 0 <= step < len(self._values):
            tell(self._time_listeners, tapped(event, step, self.times))

    def _dragged(self, x: Ends, _: Ends) -> None:
        tell(self._time_listeners, inside(*x, len(self._values)))


def _called(names: bool) -> Callable[[object], str]:
    return visible_name if names else visible_text
