"""Which past every state is made of: a picture of queries by keys, of which one query is chosen.

    mean weight · rnn.l0                            [tools]
    state ┌──────────────────────────────────────┐   ┌┐
    after │█                                      │   ││ 0 … 0.5
    step  │▒█         what is not in a query's    │   ││
          │░▒█        past is left blank          │   ││
       ►  │░░▒█       the chosen query outlined   │   └┘
          └──────────────────────────────────────┘
                  written at step

Tap: choose a query. However long the run, the picture is no larger than a screen can show: a block
of cells is drawn as its largest weight. Weights are coloured by their square root: a state is
mostly its last few steps, and what is faint and old is what a person looks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from bokeh.events import RangesUpdate, Tap
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.models.annotations import ColorBar
from jaxtyping import Bool, Float, Int, UInt8

from grulens.views.figure import hover, raster
from grulens.views.figure.canvas import (
    fit,
    frame,
    set_data,
    steps,
    whole_steps,
)
from grulens.views.figure.marks import Marks, outlines
from grulens.views.figure.palette import BLANK_CODE, COLORS, LEVELS, PALETTE
from grulens.views.figure.tokens import plain, visible_text
from grulens.words import message, say

HEIGHT: Final = 400
# bytes hold roots, and the tooltip tells weights
_ROOT_JS: Final = hover.VALUE.replace(
    "number.toFixed(d.digits[0])", "(number * number).toPrecision(2)"
)
_TICK_JS: Final = (
    "return `${Number((kind.data.root[0] ? tick * tick : tick).toPrecision(2))}`.replace('-', '−')"
)
_TICKS: Final = np.array([0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 1.0])


def past_of(
    past: Int[np.ndarray, "query 2"], rows: raster.Span, columns: raster.Span
) -> Bool[np.ndarray, "rows columns"]:
    """Which blocks of a picture hold a key of a query's past.

    Args:
        past: first and last key of each query; the last before the first if there is none.
        rows: the queries drawn.
        columns: the keys drawn.

    >>> past_of(np.array([[0, 0], [0, 1]]), raster.Span(0, 2, 1), raster.Span(0, 2, 1))
    array([[ True, False],
           [ True,  True]])
    """
    at = np.arange(0, rows.stop - rows.start, rows.block)
    part = past[rows.start : rows.stop]
    none = part[:, 1] < part[:, 0]
    low = np.minimum.reduceat(np.where(none, len(past), part[:, 0]), at)
    high = np.maximum.reduceat(np.where(none, -1, part[:, 1]), at)
    first = np.array(columns.firsts())
    last = np.minimum(first + columns.block, columns.stop) - 1
    held: Bool[np.ndarray, "rows columns"] = (low[:, None] <= last) & (high[:, None] >= first)
    return held


class AttentionMap:
    """Queries down, keys across.

    Attributes:
        root: the Bokeh figure.
        x_range: the axis of keys, to be shared with the views under it.
        query: the chosen query, or None.
    """

    def __init__(
        self, *, height: int = HEIGHT, columns: int = raster.COLUMNS, rows: int = raster.ROWS
    ) -> None:
        self._limits = rows, columns
        self.x_range: Any = steps()
        self.y_range: Any = Range1d(start=0.5, end=-0.5, min_interval=2)
        self.query: int | None = None
        self._listeners: list[Callable[[int], object]] = []
        self._values: Float[np.ndarray, "query key"] = np.zeros((0, 0), np.float32)
        self._past: Int[np.ndarray, "query 2"] = np.zeros((0, 2), int)
        self._tokens: Sequence[object] | None = None
        self._ends = (0.0, 1.0)
        self._shown = raster.Span(0, 0, 1), raster.Span(0, 0, 1)
        self.image = ColumnDataSource({k: [] for k in ("image", "x", "y", "dw", "dh")})
        self.rows = ColumnDataSource({"unit": []})
        self.columns = ColumnDataSource({"token": []})
        self.root = self._draw(height)
        self.root.on_event(Tap, self._tapped)
        self.root.on_event(RangesUpdate, self._zoomed)

    def on_query(self, listener: Callable[[int], object]) -> None:
        """Call `listener(query)` when a person chooses a query; never from `select`."""
        self._listeners.append(listener)

    def update(
        self,
        values: Float[np.ndarray, "query key"],
        *,
        past: Int[np.ndarray, "query 2"],
        signed: bool = False,
        tokens: Sequence[object] | None = None,
        name: str = message("mean weight"),
        layer: str = "",
    ) -> None:
        """Show other weights.

        Args:
            values: (query, key).
            past: (query, 2), the first and the last key of each query's past; the rest is blank.
            signed: whether the values have two signs: drawn from blue through white to red.
            tokens: (key,), what to call each step; None is its number alone.
            name: what the values are.
            layer: named in the title.

        >>> view = AttentionMap()
        >>> view.update(np.eye(3), past=np.array([[0, 0], [0, 1], [0, 2]]))
        >>> view.image.data["image"][0]
        array([[252, 254, 254],
               [  0, 252, 254],
               [  0,   0, 252]], dtype=uint8)
        """
        low, high = raster.symmetric(values, 1e-9)
        shown = values if signed else np.sqrt(values.clip(0))
        self._ends = (low, high) if signed else (0.0, float(np.sqrt(high)))
        self._values, self._past, self._tokens = shown, past, tokens
        fit(self.x_range, values.shape[1])
        fit(self.y_range, values.shape[0], downwards=True)
        signal = "difference" if signed else "weight"
        if self.mapper.palette != list(PALETTE[signal]):
            self.mapper.palette, self.bar_mapper.palette = PALETTE[signal], COLORS[signal]
            self._value.code = hover.VALUE if signed else _ROOT_JS
        self.bar_mapper.update(low=self._ends[0], high=self._ends[1])
        # one ticker and one formatter for good: BokehJS goes on drawing those that were replaced
        marks = np.linspace(low, high, 5) if signed else np.sqrt(_TICKS * high)
        self._marked.ticks = marks.tolist()
        self._kind.data = {"root": [not signed]}
        name = say(name)
        self.root.title.text = plain(f"{name} · {layer}" if layer else name)
        self._paint(self.x_range.start, self.x_range.end, self.y_range.start, self.y_range.end)
        self.select(self.query)

    def select(self, query: int | None) -> None:
        """Outline a query; tells no listener."""
        self.query = query
        queries, keys = self._values.shape
        shown = [] if query is None or query >= queries else [query]
        rows = outlines(shown, self.y_range, self.root.height - 90)
        self._marks.show([(-0.5, keys - 0.5, low, high) for low, high in rows])

    # ── drawing ──────────────────────────────────────────────────────────────────────────────

    def _draw(self, height: int) -> Any:
        zoom, wheel = BoxZoomTool(), WheelZoomTool(modifiers="ctrl")
        root = frame(
            height=height, tools=[zoom, PanTool(), wheel, ResetTool()], x_range=self.x_range,
            y_range=self.y_range, toolbar_location="above", active_drag=zoom, active_scroll=wheel,
            x_axis_label=say("written at step"), y_axis_label=say("state after step"), title="",
            name=say("weights by query and key"),
        )  # fmt: skip
        self.mapper = LinearColorMapper(palette=PALETTE["weight"], low=0, high=LEVELS + 2)
        picture = root.image(
            "image", "x", "y", "dw", "dh", source=self.image, color_mapper=self.mapper
        )
        self.bar_mapper = LinearColorMapper(palette=COLORS["weight"], low=0, high=1)
        self._marked, self._kind = FixedTicker(ticks=[]), ColumnDataSource({"root": [True]})
        self.bar = ColorBar(
            color_mapper=self.bar_mapper,
            width=12,
            padding=4,
            major_label_text_font_size="11px",
            formatter=CustomJSTickFormatter(args={"kind": self._kind}, code=_TICK_JS),
            ticker=self._marked,
        )
        root.add_layout(self.bar, "right")
        self._marks = Marks(root, dash="solid")
        self.marks = self._marks.source
        whole_steps(root.xaxis)
        whole_steps(root.yaxis)
        codes = {"unit": hover.UNIT, "step": hover.STEP, "token": hover.TOKEN, "value": _ROOT_JS}
        args = {"image": self.image, "rows": self.rows, "cells": self.columns}
        said = {
            "unit": message("state after"), "step": message("written at"),
            "value": message("weight"),
        }  # fmt: skip
        tooltip = hover.hover(picture, codes, args, said, message("not in its past"))
        self._value: Any = tooltip.formatters["@image"]
        root.add_tools(tooltip)
        return root

    def _paint(self, x0: float | int, x1: float | int, y0: float | int, y1: float | int) -> None:
        queries, keys = self._values.shape
        columns = raster.with_margin(raster.visible(keys, x0, x1, self._limits[1]), keys)
        rows = raster.with_margin(raster.visible(queries, y0, y1, self._limits[0]), queries)
        self._shown = rows, columns
        self.rows.data = {"unit": list(rows.firsts())}
        tokens = self._tokens
        words = [] if tokens is None else [visible_text(tokens[t]) for t in columns.firsts()]
        set_data(self.columns, {"token": words})
        (left, right), (top, bottom) = columns.edges, rows.edges
        one = {
            **hover.meaning(self._values, self._ends, columns, keys),
            "row": rows.start,
            "row_block": rows.block,
            "units": queries,
            "x": left,
            "y": top,
            "dw": right - left,
            "dh": bottom - top,
        }
        drawn = self._picture(rows, columns)
        self.image.data = {"image": [drawn], **{name: [value] for name, value in one.items()}}

    def _picture(
        self, rows: raster.Span, columns: raster.Span
    ) -> UInt8[np.ndarray, "rows columns"]:
        bytes_ = raster.picture(self._values, rows, columns, self._ends, middle=0.0)
        bytes_[~past_of(self._past, rows, columns)] = BLANK_CODE
        return bytes_

    # ── what a person does ───────────────────────────────────────────────────────────────────

    def _zoomed(self, event: Any) -> None:
        queries, keys = self._values.shape
        if None in (event.x0, event.x1, event.y0, event.y1) or not queries or not keys:
            return
        columns = raster.visible(keys, event.x0, event.x1, self._limits[1])
        rows = raster.visible(queries, event.y0, event.y1, self._limits[0])
        if not (self._shown[0].covers(rows) and self._shown[1].covers(columns)):
            self._paint(event.x0, event.x1, event.y0, event.y1)
        self.select(self.query)

    def _tapped(self, event: Any) -> None:
        query, key = round(event.y), round(event.x)
        queries, keys = self._values.shape
        if 0 <= query < queries and 0 <= key < keys:
            for listener in tuple(self._listeners):
                listener(query)
