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

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from bokeh.events import RangesUpdate
from bokeh.models import (
    BoxSelectTool,
    BoxZoomTool,
    ColumnDataSource,
    CustomJSTickFormatter,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.models.annotations import ColorBar
from jaxtyping import Bool, Float, Int

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
    whole_steps,
)
from grulens.views.figure.choosing import Ends, on_choosing
from grulens.views.figure.marks import Marks, outlines
from grulens.views.figure.palette import COLORS, LEVELS, PALETTE
from grulens.views.figure.tokens import number, plain, several, visible_text
from grulens.words import say

HEIGHT: Final = 340

_TICK_JS = """
const d = image.data;
if (tick < 0 || tick >= d.units[0] || tick != Math.round(tick)) return "";
if (d.in_order[0]) return `${tick}`;
return `${rows.data.unit[Math.floor((tick - d.row[0]) / d.row_block[0])] ?? ""}`;
"""


class Heatmap:
    """One signal of one layer as a picture, units down and steps across.

    Args:
        x_range: the axis of another view, to move with it.
        height: in pixels.
        columns: as many cells are drawn across, at most.
        rows: as many are drawn down.
        live: whether Python hears what a person does with it.
        down: what the rows are, where they are no units.
        across: what the columns are, where they are no steps.

    Attributes:
        root: the Bokeh figure.
        x_range: the time axis, to be shared with the views under it.
    """

    def __init__(
        self,
        *,
        x_range: Any = None,
        height: int = HEIGHT,
        columns: int = raster.COLUMNS,
        rows: int = raster.ROWS,
        live: bool = True,
        down: str = "unit",
        across: str = "step",
    ) -> None:
        self._limits = rows, columns
        self._axes = down, across
        self.x_range: Any = x_range or steps()
        self.y_range: Any = Range1d(start=0.5, end=-0.5, min_interval=2)
        self._unit_listeners: list[Listener] = []
        self._time_listeners: list[Listener] = []
        self._values: Float[np.ndarray, "unit time"] = np.zeros((0, 0), np.float32)
        self._units: Int[np.ndarray, " unit"] = np.arange(0)
        self._mask: Bool[np.ndarray, " time"] | None = None
        self._tokens: Sequence[object] | None = None
        self._labels: Sequence[str] | None = None
        self._ends = -1.0, 1.0
        self._signal: Signal | str = "state"
        self._lines: list[Any] = []
        self._shown = raster.Span(0, 0, 1), raster.Span(0, 0, 1)
        self.units: Positions = ()
        self.times: Positions = ()

        none: dict[str, Any] = {k: [] for k in ("image", "x", "y", "dw", "dh")}
        self.image = ColumnDataSource(none)
        self.rows = ColumnDataSource({"unit": np.arange(0)})
        self.columns = ColumnDataSource({"token": []})
        self.root = self._draw(height)
        if live:
            all_steps = partial(tell, self._time_listeners, ())
            on_choosing(self.root, tap=self._tapped, drag=self._dragged, clear=all_steps)
            self.root.on_event(RangesUpdate, self._zoomed)

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
        signal: Signal | str,
        units: Int[np.ndarray, " unit"],
        tokens: Sequence[object] | None = None,
        mask: Bool[np.ndarray, " time"] | None = None,
        layer: str = "",
        name: str | None = None,
        ends: tuple[float, float] | None = None,
        labels: Sequence[str] | None = None,
        down: str = "",
    ) -> None:
        """Show other values.

        Args:
            values: (unit, time), in the order they are to be drawn.
            signal: a signal of the layer's cell, or "difference"; anything else raises SignalError.
            units: (unit,), which unit each row is.
            tokens: what to call each step; None is its number alone.
            mask: (time,), False where there is no step (padding): left blank.
            layer: named in the title.
            name: what the values are, if they are no signal of a layer but drawn like one.
            ends: the values at the ends of the map, else those of the signal.
            labels: (unit,), what to call the rows, if they are more than a unit each.
            down: what the rows are now; "" is what they were made for.

        >>> view, z = Heatmap(), Signal("z", "update gate", 0.0, 1.0, "keep")
        >>> view.update(np.zeros((4, 9), np.float32), signal=z, units=np.arange(4))
        >>> view.image.data["image"][0].shape, view.root.title.text
        ((4, 9), 'update gate z')
        """
        self._ends = ends or raster.scale(signal, values)
        self._labels = labels
        down = down or self._axes[0]
        if self.root.yaxis.axis_label != (label := plain(say(down))):
            self.root.yaxis.axis_label = label
            self._lines = [
                (label if code == hover.UNIT_FIELD else word, code) for word, code in self._lines
            ]
        # no line for what has no name
        lines = self._lines if tokens is not None else self._lines[1:]
        if self._read.tooltips != lines:
            self._read.tooltips = lines
        self._values, self._units, self._mask, self._tokens = values, units, mask, tokens
        fit(self.y_range, values.shape[0], downwards=True)
        fit(self.x_range, values.shape[1])
        if signal != self._signal:
            self._signal = signal
            self.mapper.palette = PALETTE[signal]
            self.bar_mapper.palette = COLORS[signal]
        self.bar_mapper.update(low=self._ends[0], high=self._ends[1])
        low, high = map(number, self._ends)
        # any name may be too long for a low figure
        title = say("{low} to {high}", low=low, high=high)
        if name is None:
            name = signal.called if isinstance(signal, Signal) else say("edited − baseline")
            title = say("{what}, {range}", what=name, range=title)
        self.bar.title = title  # set once: each other title lays the figure out anew
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
        down, across = self._axes
        rows, columns = several(down), several(across)
        choose = say("drag: choose {rows} × {columns}", rows=rows, columns=columns)
        box = BoxSelectTool(renderers=[], description=choose)
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
            x_axis_label=plain(say(across)),
            y_axis_label=plain(say(down)),
            title="",
            name=say("{rows} by {columns}", rows=rows, columns=columns),
        )
        self.mapper = LinearColorMapper(palette=PALETTE["state"], low=0, high=LEVELS + 2)
        picture = root.image(
            "image", "x", "y", "dw", "dh", source=self.image, color_mapper=self.mapper
        )
        self.bar_mapper = LinearColorMapper(palette=COLORS["state"], low=-1, high=1)
        self.bar = ColorBar(
            color_mapper=self.bar_mapper,
            width=12,
            padding=4,
            title_text_font_size="12px",
            title_text_font_style="normal",
            major_label_text_font_size="11px",
        )
        root.add_layout(self.bar, "right")
        self._unit_marks, self._time_marks = Marks(root, dash="solid"), Marks(root, dash="dashed")
        self.unit_marks, self.time_marks = self._unit_marks.source, self._time_marks.source
        whole_steps(root.xaxis)
        whole_steps(root.yaxis)
        root.yaxis.formatter = CustomJSTickFormatter(
            args={"image": self.image, "rows": self.rows}, code=_TICK_JS
        )
        codes = {
            "token": hover.TOKEN,
            "step": hover.STEP,
            "unit": hover.UNIT,
            "value": hover.VALUE,
        }
        args = {"image": self.image, "rows": self.rows, "cells": self.columns}
        self._read = hover.hover(picture, codes, args, {"step": across, "unit": down})
        root.add_tools(self._read)
        lines: Any = self._read.tooltips
        self._lines = list(lines)
        return root

    def _paint(self, x0: float | int, x1: float | int, y0: float | int, y1: float | int) -> None:
        units, time = self._values.shape
        columns = raster.with_margin(raster.visible(time, x0, x1, self._limits[1]), time)
        rows = raster.with_margin(raster.visible(units, y0, y1, self._limits[0]), units)
        self._shown = rows, columns
        part = slice(rows.start, rows.stop, rows.block)
        named: dict[str, Any] = {"unit": self._units[part].astype(np.int32)}
        if self._labels is not None:
            named["unit"] = np.array(self._labels[part])
        set_data(self.rows, named)
        words = self._words(columns)
        set_data(self.columns, {"token": words})
        (left, right), (top, bottom) = columns.edges, rows.edges
        one = {
            **hover.meaning(self._values, self._ends, columns, time),
            "row": rows.start,
            "row_block": rows.block,
            "units": units,
            "in_order": self._labels is None and bool((self._units == np.arange(units)).all()),
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
        rows = outlines(chosen, self.y_range, self.root.height - 90)
        columns = outlines([t for t in self.times if t < time], self.x_range, 700)
        steps_there = np.arange(time) if self._mask is None else np.flatnonzero(self._mask)
        last = int(steps_there[-1]) if steps_there.size else time - 1
        across, down = (-0.5, last + 0.5), (-0.5, units - 0.5)
        self._unit_marks.show([(*across, low, high) for low, high in rows])
        self._time_marks.show([(low, high, *down) for low, high in columns])

    # ── what a person does ───────────────────────────────────────────────────────────────────

    def _zoomed(self, event: Any) -> None:
        units, time = self._values.shape
        if None in (event.x0, event.x1, event.y0, event.y1) or not units or not time:
            return
        columns = raster.visible(time, event.x0, event.x1, self._limits[1])
        rows = raster.visible(units, event.y0, event.y1, self._limits[0])
        if not (self._shown[0].covers(rows) and self._shown[1].covers(columns)):
            self._paint(event.x0, event.x1, event.y0, event.y1)
        self._mark()

    def _tapped(self, event: Any) -> None:
        units, time = self._values.shape
        row, step = round(event.y), round(event.x)
        if not (0 <= row < units and 0 <= step < time):
            return
        tell(self._unit_listeners, tapped(event, int(self._units[row]), self.units))

    def _dragged(self, x: Ends, y: Ends) -> None:
        if self._values.size:
            units, time = self._values.shape
            tell(self._unit_listeners, self._units[list(inside(*y, units))].tolist())
            tell(self._time_listeners, inside(*x, time))
