"""What a model would answer at every step: a line for each of a few classes along time.

probability │        ╱──╲        ── )      colours that everyone tells apart, and dashes besides
            │ ──────╱    ╲────   ┄┄ :
            └─────────│──────────          tap chooses a step
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from bokeh.events import RangesUpdate, Tap
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import LegendItem
from jaxtyping import Bool, Float

from grulens.views.figure import raster
from grulens.views.figure.canvas import (
    ROOMY,
    fit,
    frame,
    legend,
    steps,
    stretch,
    whole_steps,
    zooming,
)
from grulens.views.figure.marks import StepMark
from grulens.views.figure.tokens import number, plain, visible_name, visible_text
from grulens.words import say

#: Okabe and Ito's colours (2008), and a dash each, so that print in grey tells them apart too.
LINES: Final = (
    ("#0072B2", "solid"),
    ("#D55E00", "dashed"),
    ("#009E73", "dotdash"),
    ("#CC79A7", "dotted"),
    ("#8C8C8C", "dashdot"),
)


class LensLines:
    """Values of up to five classes along time.

    Attributes:
        root: the Bokeh figure.
        x_range: the time axis.
        source: step, token, and the values of each line, "line 0" to "line 4".
        step: the marked step, or None.
    """

    def __init__(self, *, x_range: Any = None) -> None:
        self.x_range: Any = x_range or steps()
        self.step: int | None = None
        self._listeners: list[Callable[[int], object]] = []
        self._values: Float[np.ndarray, "line time"] = np.zeros((0, 0), np.float64)
        self._tokens: Sequence[object] | None = None
        self._called: list[str] = []
        self._shown = raster.Span(0, 0, 1)
        self._names = tuple(f"line {i}" for i in range(len(LINES)))
        self.source = ColumnDataSource({f: [] for f in ("step", "token", "said", *self._names)})
        self._step_mark = StepMark()
        self.mark = self._step_mark.source
        self.root, self._items = self._draw()
        self.root.on_event(Tap, self._tapped)
        self.root.on_event(RangesUpdate, self._zoomed)

    def on_step(self, listener: Callable[[int], object]) -> None:
        """Call `listener(step)` when a person taps a step; never from `select`."""
        self._listeners.append(listener)

    def update(
        self,
        values: Float[np.ndarray, "line time"],
        names: Sequence[object],
        *,
        quantity: str = "probability",
        tokens: Sequence[object] | None = None,
        mask: Bool[np.ndarray, " time"] | None = None,
        title: str = "",
    ) -> None:
        """Show other lines; of more than five, the first five.

        Args:
            values: (line, time).
            names: (line,), what to call them.
            quantity: what the values are; a "probability" is drawn from 0 to 1.
            tokens: (time,), what to call each step; None is its number.
            mask: (time,), False where there is no step (padding): no line.
            title: over the lines.

        >>> chart = LensLines()
        >>> chart.update(np.array([[0.0, 1.0]]), ["a"], mask=np.array([True, False]))
        >>> chart.source.data["line 0"].tolist(), chart.source.data["said"]
        ([0.0, nan], ['a 0', ''])
        """
        values = np.asarray(values, np.float64)[: len(LINES)]
        self._values = values if mask is None else np.where(mask, values, np.nan)
        self._tokens = tokens
        self._called = [visible_name(name, 16) for name in names[: len(values)]]
        fit(self.x_range, values.shape[1])
        if quantity == "probability":
            self.root.y_range.update(start=0.0, end=1.0)
        else:
            stretch(self.root.y_range, self._values.ravel(), None, None)
        self.root.toolbar.visible = values.shape[1] > ROOMY
        self.root.yaxis.axis_label = plain(say(quantity))
        self.root.title.text = plain(title)
        for place, item in enumerate(self._items):
            there = place < len(values)
            # a label set in place would not be sent
            item.update(visible=there, label={"value": self._called[place] if there else ""})
            item.renderers[0].visible = there
        self._paint(self.x_range.start, self.x_range.end)

    def select(self, step: int | None) -> None:
        """Mark a step, None marks none; tells no listener."""
        self.step = step
        self._step_mark.show(step)

    def _draw(self) -> tuple[Any, list[Any]]:
        root = frame(
            height=220, x_range=self.x_range, y_range=(0, 1), x_axis_label=say("step"), title="",
            name=say("what the model would answer, by step"), **zooming(),
        )  # fmt: skip
        whole_steps(root.xaxis)
        root.ygrid.visible = True
        self._step_mark.draw(root)
        items = []
        for name, (color, dash) in zip(self._names, LINES, strict=True):
            line = root.line(
                "step", name, source=self.source, line_color=color, line_width=2, line_dash=dash
            )
            items.append(LegendItem(label={"value": ""}, renderers=[line], visible=False))
        root.add_layout(legend(items), "above")
        fields = [(say("token"), "@token"), (say("step"), "@step"), ("", "@said")]
        root.add_tools(HoverTool(renderers=[items[0].renderers[0]], mode="vline", tooltips=fields))
        return root, items

    def _paint(self, x0: float | int, x1: float | int) -> None:
        time = self._values.shape[1]
        span = raster.with_margin(raster.visible(time, x0, x1, 2 * raster.COLUMNS), time)
        self._shown = span
        first = np.array(span.firsts(), dtype=np.int64)
        tokens = self._tokens
        lines = [self._reduced(line, span) for line in self._values]
        absent = np.full(len(first), np.nan)
        self.source.data = {
            "step": first,
            "token": ["" if tokens is None else visible_text(tokens[t]) for t in first.tolist()],
            "said": [self._said(at) for at in zip(*(line.tolist() for line in lines), strict=True)]
            if lines
            else [""] * len(first),
            **{n: lines[i] if i < len(lines) else absent for i, n in enumerate(self._names)},
        }

    def _said(self, at: Sequence[float]) -> str:
        pairs = zip(self._called, at, strict=True)
        return " · ".join(f"{name} {number(v, '.3g')}" for name, v in pairs if np.isfinite(v))

    def _reduced(
        self, line: Float[np.ndarray, " time"], span: raster.Span
    ) -> Float[np.ndarray, " some"]:
        finite = line[np.isfinite(line)]
        middle = float(finite.mean()) if finite.size else 0.0
        reduced: np.ndarray = raster.reduce(line[None], raster.Span(0, 1, 1), span, middle)[0]
        return reduced

    def _zoomed(self, event: Any) -> None:
        time = self._values.shape[1]
        if raster.zoomed_out_of(self._shown, event, time, 2 * raster.COLUMNS):
            self._paint(event.x0, event.x1)

    def _tapped(self, event: Any) -> None:
        step = round(event.x)
        if 0 <= step < self._values.shape[1]:
            for listener in tuple(self._listeners):
                listener(step)
