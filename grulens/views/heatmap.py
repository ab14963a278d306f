"""The heatmap: every unit of a layer at every step, as one picture that answers to the mouse.

    update gate z · rnn.l0                          [tools]
    unit  ┌──────────────────────────────────────┐   ┌┐ z
     12   │ ▒▒░░██▒▒  chosen units outlined      │   ││ 0 … 1
     7    │ ░░██░░▒▒  chosen steps dashed        │   ││
          └──────────────────────────────────────┘   └┘
                            step

Tap: one unit. Shift or ctrl and tap: add or take away. Drag: units × steps. Double tap: all steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from bokeh.events import DoubleTap, RangesUpdate, SelectionGeometry, Tap
from bokeh.models import (
    AdaptiveTicker,
    BoxSelectTool,
    BoxZoomTool,
    ColorBar,
    ColumnDataSource,
    CustomJSHover,
    CustomJSTickFormatter,
    HoverTool,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from jaxtyping import Bool, Float, Int

from grulens.views import raster
from grulens.views.canvas import Listener, Positions, fit, frame, inside, steps, tell
from grulens.views.palette import COLORS, LEVELS, NAME, PALETTE
from grulens.views.tokens import plain, visible_text

HEIGHT: Final = 340

#: A chosen row or column keeps at least this much room inside its outline, so it stays visible.
_ROOM = 7

# What a byte means, in the browser: one function for the picture and the token strip.
VALUE_JS: Final = """
const d = image.data;
if (value == 255) return "no step";
if (value == 254) return "NaN";
const sign = value == 253 && d.over[0] ? "≥ " : value == 0 && d.under[0] ? "≤ " : "";
const number = d.low[0] + value / 253 * (d.high[0] - d.low[0]);
return sign + number.toFixed(d.digits[0]).replace("-", "−");
"""
_STEP_JS = """
const d = image.data, block = d.column_block[0];
const first = d.column[0] + Math.floor((special_vars.x + 0.5 - d.column[0]) / block) * block;
const last = Math.min(first + block, d.steps[0]) - 1;
return first == last ? `${first}` : `${first} – ${last}`;
"""
_TOKEN_JS = """
const d = image.data;
const i = Math.floor((special_vars.x + 0.5 - d.column[0]) / d.column_block[0]);
return columns.data.token[i] ?? "";
"""
_UNIT_JS = """
const d = image.data, block = d.row_block[0];
const i = Math.floor((special_vars.y + 0.5 - d.row[0]) / block);
const rest = Math.min(block, d.units[0] - d.row[0] - i * block) - 1;
return `${rows.data.unit[i]}` + (rest ? ` and ${rest} more: zoom in` : "");
"""
_TICK_JS = """
const d = image.data;
if (tick < 0 || tick >= d.units[0] || tick != Math.round(tick)) return "";
if (d.in_order[0]) return `${tick}`;
return `${rows.data.unit[Math.floor((tick - d.row[0]) / d.row_block[0])] ?? ""}`;
"""


class Heatmap:
    """One signal of one layer as a picture, units down and steps across.

    Attributes:
        root: the Bokeh figure.
        x_range: the time axis, to be shared with the views under it.
    """

    def __init__(self, *, x_range: Range1d | None = None, height: int = HEIGHT) -> None:
        self.x_range = x_range or steps()
        self.y_range = Range1d(0.5, -0.5, min_interval=2)
        self._unit_listeners: list[Listener] = []
        self._time_listeners: list[Listener] = []
        self._values: Float[np.ndarray, "unit time"] = np.zeros((0, 0), np.float32)
        self._units: Int[np.ndarray, " unit"] = np.arange(0)
        self._mask: Bool[np.ndarray, " time"] | None = None
        self._tokens: Sequence[object] | None = None
        self._signal, self._ends = "h", (-1.0, 1.0)
        self._shown = raster.Span(0, 0, 1), raster.Span(0, 0, 1)
        self.units: Positions = ()
        self.times: Positions = ()

        none: dict[str, Any] = {k: [] for k in ("image", "x", "y", "dw", "dh")}
        self.image = ColumnDataSource(none)
        self.rows = ColumnDataSource({"unit": np.arange(0)})
        self.columns = ColumnDataSource({"token": []})
        edges: dict[str, Any] = {k: [] for k in ("left", "right", "top", "bottom")}
        self.unit_marks, self.time_marks = ColumnDataSource(edges), ColumnDataSource(dict(edges))
        self.root = self._draw(height)
        self.root.on_event(Tap, self._tapped)
        self.root.on_event(DoubleTap, lambda _: tell(self._time_listeners, ()))
        self.root.on_event(SelectionGeometry, self._dragged)
        self.root.on_event(RangesUpdate, lambda event: self._zoomed(event))

    def on_units(self, listener: Listener) -> None:
        """Call `listener(units)` when a person chooses units; never from `select`."""
        self._unit_listeners.append(listener)

    def on_times(self, listener: Listener) -> None:
        """Call `listener(times)` when a person chooses steps, () for all; never from `select`."""
        self._time_listeners.append(listener)

    def update(
        self,
        values: Float[np.ndarray, "unit time"],
        *,
        signal: str,
        units: Int[np.ndarray, " unit"],
        tokens: Sequence[object] | None = None,
        mask: Bool[np.ndarray, " time"] | None = None,
        layer: str = "",
    ) -> None:
        """Show other values.

        Args:
            values: (unit, time), in the order they are to be drawn.
            signal: "r", "z", "n", "h" or "difference"; an unknown one raises SignalError.
            units: (unit,), which unit each row is.
            tokens: what to call each step; None is its number alone.
            mask: (time,), False where there is no step (padding): left blank.
            layer: named in the title.

        >>> view = Heatmap()
        >>> view.update(np.zeros((4, 9), np.float32), signal="z", units=np.arange(4))
        >>> view.image.data["image"][0].shape, view.root.title.text
        ((4, 9), 'update gate z')
        """
        self._ends = raster.scale(signal, values)
        self._values, self._units, self._mask, self._tokens = values, units, mask, tokens
        fit(self.y_range, values.shape[0], downwards=True)
        fit(self.x_range, values.shape[1])
        if signal != self._signal:
            self._signal = signal
            self._mapper.palette = PALETTE[signal]
            self._bar_mapper.palette = COLORS[signal]
        self._bar_mapper.update(low=self._ends[0], high=self._ends[1])
        name = "edited − baseline" if signal == "difference" else f"{NAME[signal]} {signal}"
        low, high = (f"{end:g}".replace("-", "−") for end in self._ends)
        self._bar.title = f"{name}, {low} to {high}"
        self.root.title.text = plain(f"{name} · {layer}" if layer else name)
        self._paint(self.x_range.start, self.x_range.end, self.y_range.start, self.y_range.end)
        self._mark()

    def select(self, units: Iterable[int] = (), times: Iterable[int] = ()) -> None:
        """Outline these units and steps; tells no listener."""
        self.units = tuple(sorted({int(u) for u in units}))
        self.times = tuple(sorted({int(t) for t in times}))
        self._mark()

    # ── drawing ──────────────────────────────────────────────────────────────────────────────

    def _draw(self, height: int) -> Any:
        box = BoxSelectTool(renderers=[], description="drag: choose units × steps")
        wheel = WheelZoomTool(modifiers="ctrl")
        tools = [box, PanTool(), BoxZoomTool(), wheel, ResetTool()]
        root = frame(
            height=height,
            tools=tools,
            x_range=self.x_range,
            y_range=self.y_range,
            toolbar_location="above",
            active_drag=box,
            active_scroll=wheel,
            x_axis_label="step",
            y_axis_label="unit",
            title="",
        )
        self._mapper = LinearColorMapper(palette=PALETTE["h"], low=0, high=LEVELS + 2)
        picture = root.image(
            "image", "x", "y", "dw", "dh", source=self.image, color_mapper=self._mapper
        )
        self._bar_mapper = LinearColorMapper(palette=COLORS["h"], low=-1, high=1)
        self._bar = ColorBar(
            color_mapper=self._bar_mapper,
            width=12,
            padding=4,
            title_text_font_size="12px",
            title_text_font_style="normal",
            major_label_text_font_size="11px",
        )
        root.add_layout(self._bar, "right")
        for marks, dash in ((self.unit_marks, "solid"), (self.time_marks, "dashed")):
            # white under black: seen on every colour of every map and on either ground
            for color, width in (("white", 3.5), ("black", 1.5)):
                root.quad(
                    source=marks,
                    fill_color=None,
                    line_color=color,
                    line_width=width,
                    line_dash=dash if color == "black" else "solid",
                )
        root.yaxis.ticker = AdaptiveTicker(min_interval=1, mantissas=[1, 2, 5], num_minor_ticks=0)
        root.xaxis.ticker = AdaptiveTicker(min_interval=1, mantissas=[1, 2, 5], num_minor_ticks=0)
        root.yaxis.formatter = CustomJSTickFormatter(
            args={"image": self.image, "rows": self.rows}, code=_TICK_JS
        )
        args = {"image": self.image, "rows": self.rows, "columns": self.columns}
        codes = {"@x": _TOKEN_JS, "@y": _STEP_JS, "@dw": _UNIT_JS, "@image": VALUE_JS}
        root.add_tools(
            HoverTool(
                renderers=[picture],
                tooltips=[
                    ("token", "@x{custom}"),
                    ("step", "@y{custom}"),
                    ("unit", "@dw{custom}"),
                    ("value", "@image{custom}"),
                ],
                formatters={
                    field: CustomJSHover(args=args, code=code) for field, code in codes.items()
                },
            )
        )
        return root

    def _paint(self, x0: float, x1: float, y0: float, y1: float) -> None:
        units, time = self._values.shape
        columns = raster.with_margin(raster.visible(time, x0, x1, raster.COLUMNS), time)
        rows = raster.with_margin(raster.visible(units, y0, y1, raster.ROWS), units)
        self._shown = rows, columns
        named = {"unit": self._units[rows.start : rows.stop : rows.block].astype(np.int32)}
        if not np.array_equal(named["unit"], self.rows.data["unit"]):
            self.rows.data = named
        words = self._words(columns)
        if words != self.columns.data["token"]:
            self.columns.data = {"token": words}
        (left, right), (top, bottom) = columns.edges, rows.edges
        low, high = self._ends
        with np.errstate(invalid="ignore"):
            over, under = bool((self._values > high).any()), bool((self._values < low).any())
        one = {
            "low": low,
            "high": high,
            "over": over,
            "under": under,
            "digits": raster.digits(self._ends),
            "row": rows.start,
            "row_block": rows.block,
            "units": units,
            "column": columns.start,
            "column_block": columns.block,
            "steps": time,
            "in_order": bool((self._units == np.arange(units)).all()),
            "x": left,
            "y": top,
            "dw": right - left,
            "dh": bottom - top,
        }
        drawn = raster.picture(self._values, rows, columns, self._ends, self._mask)
        self.image.data = {"image": [drawn], **{name: [value] for name, value in one.items()}}

    def _words(self, columns: raster.Span) -> list[str]:
        if self._tokens is None:
            return []
        if columns.block == 1:
            return [visible_text(t) for t in self._tokens[columns.start : columns.stop]]
        ends = [min(i + columns.block, columns.stop) - 1 for i in columns.firsts()]
        return [
            f"{visible_text(self._tokens[i], 12)} … {visible_text(self._tokens[j], 12)}"
            for i, j in zip(columns.firsts(), ends, strict=True)
        ]

    def _mark(self) -> None:
        units, time = self._values.shape
        chosen = np.flatnonzero(np.isin(self._units, self.units)).tolist()
        rows = self._outlines(chosen, self.y_range, self.root.height - 90)
        columns = self._outlines([t for t in self.times if t < time], self.x_range, 700)
        steps_there = np.arange(time) if self._mask is None else np.flatnonzero(self._mask)
        last = int(steps_there[-1]) if steps_there.size else time - 1
        across, down = (-0.5, last + 0.5), (-0.5, units - 0.5)
        _set(self.unit_marks, [(*across, low, high) for low, high in rows])
        _set(self.time_marks, [(low, high, *down) for low, high in columns])

    def _outlines(self, cells: list[int], axis: Range1d, pixels: int) -> list[tuple[float, float]]:
        shown = abs(axis.end - axis.start) or 1.0
        room = max(0.0, (_ROOM * shown / pixels - 1) / 2)
        # neighbours closer than a pixel share an outline: their number has a bound too
        joined = raster.runs(cells, max(1, math.ceil(shown / pixels)))
        return [(first - 0.5 - room, last + 0.5 + room) for first, last in joined]

    # ── what a person does ───────────────────────────────────────────────────────────────────

    def _zoomed(self, event: RangesUpdate) -> None:
        units, time = self._values.shape
        if None in (event.x0, event.x1, event.y0, event.y1) or not units or not time:
            return
        columns = raster.visible(time, event.x0, event.x1, raster.COLUMNS)
        rows = raster.visible(units, event.y0, event.y1, raster.ROWS)
        if not (self._shown[0].covers(rows) and self._shown[1].covers(columns)):
            self._paint(event.x0, event.x1, event.y0, event.y1)
        self._mark()

    def _tapped(self, event: Tap) -> None:
        units, time = self._values.shape
        row, step = round(event.y), round(event.x)
        if not (0 <= row < units and 0 <= step < time):
            return
        unit = int(self._units[row])
        held: dict[str, bool] = dict(event.modifiers or {})
        if held.get("shift") or held.get("ctrl"):
            tell(self._unit_listeners, set(self.units) ^ {unit})
        else:
            tell(self._unit_listeners, (unit,))

    def _dragged(self, event: SelectionGeometry) -> None:
        box = dict(event.geometry or {})
        if not event.final or box.get("type") != "rect" or not self._values.size:
            return
        rows = inside(box["y0"], box["y1"], self._values.shape[0])
        tell(self._unit_listeners, self._units[list(rows)])
        tell(self._time_listeners, inside(box["x0"], box["x1"], self._values.shape[1]))


def _set(marks: ColumnDataSource, boxes: list[tuple[float, float, float, float]]) -> None:
    data = {
        name: [box[i] for box in boxes] for i, name in enumerate(("left", "right", "top", "bottom"))
    }
    if data != dict(marks.data):
        marks.data = data
