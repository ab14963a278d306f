"""The tokens in one row, coloured by the value of a unit: where in the text did it act?

    unit 27  │ d e f ␣ f ( x ) : ⏎ │      drag: choose steps · tap: one step · double tap: all

Texts appear where there is room. Only the browser knows how wide a step is, so the fitting happens
there, at every paint: zooming or narrowing the page needs no Python. The texts are tick labels,
which Bokeh draws as plain characters, in two sets: black on light cells, white on dark ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from bokeh.events import DoubleTap, RangesUpdate, SelectionGeometry, Tap
from bokeh.models import (
    BoxSelectTool,
    ColumnDataSource,
    CustomJSHover,
    CustomJSTicker,
    CustomJSTickFormatter,
    FixedTicker,
    HoverTool,
    LinearAxis,
    LinearColorMapper,
    Range1d,
)
from jaxtyping import Bool, Float

from grulens.views import raster
from grulens.views.canvas import Listener, Positions, fit, frame, inside, steps, tell
from grulens.views.heatmap import VALUE_JS
from grulens.views.palette import LEVELS, PALETTE, WHITE_INK
from grulens.views.tokens import visible_text

HEIGHT: Final = 34

# More texts than this do not fit any screen: no need to measure them.
_TICKER_JS = """
const {start, end} = cb_data;
const low = Math.ceil(Math.min(start, end)), high = Math.floor(Math.max(start, end));
return high - low > 400 ? [] : Array.from({length: high - low + 1}, (_, i) => low + i);
"""
# 11 px monospace is 6.6 px wide; East Asian characters take two places.
_TEXT_JS = """
const d = image.data, i = tick - d.column[0];
if (d.column_block[0] != 1 || cells.data.white[i] != white) return "";
let width;
try { width = plot.inner_width } catch { return "" }
const room = Math.floor((width / (plot.x_range.end - plot.x_range.start) + 0.2) / 6.6);
const letters = [...(cells.data.token[i] ?? "")];
const wide = letters.map((c) => c > "\u2e7f" && c < "\ufb00" ? 2 : 1);
if (wide.reduce((a, b) => a + b, 0) <= room) return letters.join("");
if (room < 3) return "";
let used = 1, n = 0;
while (used + wide[n] <= room) used += wide[n++];
return letters.slice(0, n).join("") + "…";
"""
_TOKEN_JS = """
const d = image.data;
return cells.data.token[Math.floor((special_vars.x + 0.5 - d.column[0]) / d.column_block[0])] ?? "";
"""
_STEP_JS = """
const d = image.data, block = d.column_block[0];
const first = d.column[0] + Math.floor((special_vars.x + 0.5 - d.column[0]) / block) * block;
return block == 1 ? `${first}` : `${first} – ${Math.min(first + block, d.steps[0]) - 1}`;
"""


class TokenStrip:
    """One row of tokens on the colour map of a signal.

    Attributes:
        root: the Bokeh figure.
        x_range: the time axis; pass a Heatmap's to move with it.
    """

    def __init__(self, *, x_range: Range1d | None = None) -> None:
        self.x_range = x_range or steps()
        self._time_listeners: list[Listener] = []
        self._values: Float[np.ndarray, " time"] = np.zeros(0, np.float32)
        self._tokens: Sequence[object] | None = None
        self._mask: Bool[np.ndarray, " time"] | None = None
        self._signal, self._ends, self._name = "h", (-1.0, 1.0), ""
        self._shown = raster.Span(0, 0, 1)
        self.times: Positions = ()
        none: dict[str, Any] = {k: [] for k in ("image", "x", "dw", "name")}
        self.image = ColumnDataSource(none)
        self.cells = ColumnDataSource({"token": [], "white": []})
        self.time_marks = ColumnDataSource({"left": [], "right": []})
        self.root = self._draw()
        self.root.on_event(Tap, self._tapped)
        self.root.on_event(DoubleTap, lambda _: tell(self._time_listeners, ()))
        self.root.on_event(SelectionGeometry, self._dragged)
        self.root.on_event(RangesUpdate, lambda event: self._zoomed(event))

    def on_times(self, listener: Listener) -> None:
        """Call `listener(times)` when a person chooses steps, () for all; never from `select`."""
        self._time_listeners.append(listener)

    def update(
        self,
        values: Float[np.ndarray, " time"],
        *,
        signal: str,
        tokens: Sequence[object] | None = None,
        mask: Bool[np.ndarray, " time"] | None = None,
        name: str = "",
        ends: tuple[float, float] | None = None,
    ) -> None:
        """Show other values.

        Args:
            values: (time,), the unit's signal.
            signal: "r", "z", "n", "h" or "difference"; an unknown one raises SignalError.
            tokens: what to call each step; None is its number.
            mask: (time,), False where there is no step (padding): left blank.
            name: stands at the left: "unit 27".
            ends: the values at the ends of the map; a difference takes the heatmap's.

        >>> strip = TokenStrip()
        >>> strip.update(np.array([0.0, 1.0]), signal="z", tokens=["a", " "])
        >>> strip.cells.data["token"], strip.image.data["image"][0].tolist()
        (['a', '␣'], [[0, 253]])
        """
        self._ends = ends or raster.scale(signal, values)
        self._values, self._tokens, self._mask, self._name = values, tokens, mask, name
        fit(self.x_range, len(values))
        if signal != self._signal:
            self._signal = signal
            self._mapper.palette = PALETTE[signal]
        self._paint(self.x_range.start, self.x_range.end)
        self._mark()

    def select(self, times: Iterable[int] = ()) -> None:
        """Outline these steps; tells no listener."""
        self.times = tuple(sorted({int(t) for t in times}))
        self._mark()

    # ── drawing ──────────────────────────────────────────────────────────────────────────────

    def _draw(self) -> Any:
        box = BoxSelectTool(renderers=[], dimensions="width", description="drag: choose steps")
        root = frame(
            height=HEIGHT, tools=[box], active_drag=box, x_range=self.x_range, y_range=(0, 1)
        )
        self._mapper = LinearColorMapper(palette=PALETTE["h"], low=0, high=LEVELS + 2)
        picture = root.image(
            "image", "x", 0, "dw", 1, source=self.image, color_mapper=self._mapper
        )
        for color, width in (("white", 3.5), ("black", 1.5)):
            root.quad(
                left="left",
                right="right",
                top=0.97,
                bottom=0.03,
                source=self.time_marks,
                fill_color=None,
                line_color=color,
                line_width=width,
                line_dash="dashed" if color == "black" else "solid",
            )
        for white in (False, True):
            args = {"image": self.image, "cells": self.cells, "plot": root, "white": white}
            texts = LinearAxis(
                ticker=CustomJSTicker(major_code=_TICKER_JS),
                formatter=CustomJSTickFormatter(args=args, code=_TEXT_JS),
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
            root.add_layout(texts, "below")
        root.xaxis[0].visible = False
        root.yaxis.ticker = FixedTicker(ticks=[0.5])
        root.yaxis.formatter = CustomJSTickFormatter(
            args={"image": self.image}, code='return image.data.name[0] ?? ""'
        )
        root.yaxis.major_tick_line_color = None
        args = {"image": self.image, "cells": self.cells}
        codes = {"@x": _TOKEN_JS, "@dw": _STEP_JS, "@image": VALUE_JS}
        root.add_tools(
            HoverTool(
                renderers=[picture],
                tooltips=[
                    ("token", "@x{custom}"),
                    ("step", "@dw{custom}"),
                    ("value", "@image{custom}"),
                ],
                formatters={
                    field: CustomJSHover(args=args, code=code) for field, code in codes.items()
                },
            )
        )
        return root

    def _paint(self, x0: float, x1: float) -> None:
        time = len(self._values)
        span = raster.with_margin(raster.visible(time, x0, x1, raster.COLUMNS), time)
        self._shown = span
        low, high = self._ends
        row = raster.Span(0, 1, 1)
        drawn = raster.picture(self._values[None], row, span, self._ends, self._mask)
        ink = WHITE_INK[self._signal]
        tokens = range(time) if self._tokens is None else self._tokens
        cells = {
            "token": [visible_text(tokens[t]) for t in span.firsts()],
            "white": [ink[code] for code in drawn[0]],
        }
        if cells != dict(self.cells.data):
            self.cells.data = cells
        left, right = span.edges
        one = {
            "low": low,
            "high": high,
            "over": bool((self._values > high).any()),
            "under": bool((self._values < low).any()),
            "digits": raster.digits(self._ends),
            "column": span.start,
            "column_block": span.block,
            "steps": time,
            "x": left,
            "dw": right - left,
            "name": self._name,
        }
        self.image.data = {"image": [drawn], **{name: [value] for name, value in one.items()}}

    def _mark(self) -> None:
        joined = raster.runs(t for t in self.times if t < len(self._values))
        marks = {
            "left": [first - 0.5 for first, _ in joined],
            "right": [last + 0.5 for _, last in joined],
        }
        if marks != dict(self.time_marks.data):
            self.time_marks.data = marks

    # ── what a person does ───────────────────────────────────────────────────────────────────

    def _zoomed(self, event: RangesUpdate) -> None:
        if event.x0 is None or event.x1 is None or not len(self._values):
            return
        wanted = raster.visible(len(self._values), event.x0, event.x1, raster.COLUMNS)
        if not self._shown.covers(wanted):
            self._paint(event.x0, event.x1)

    def _tapped(self, event: Tap) -> None:
        step = round(event.x)
        if not 0 <= step < len(self._values):
            return
        held: dict[str, bool] = dict(event.modifiers or {})
        if held.get("shift") or held.get("ctrl"):
            tell(self._time_listeners, set(self.times) ^ {step})
        else:
            tell(self._time_listeners, (step,))

    def _dragged(self, event: SelectionGeometry) -> None:
        box = dict(event.geometry or {})
        if event.final and box.get("type") == "rect":
            tell(self._time_listeners, inside(box["x0"], box["x1"], len(self._values)))
