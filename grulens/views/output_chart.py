"""What the edits do to the model's answer: how much at each step, and to which classes at one.

    KL, bits │      ▂▇▅▁   ▁▂                 the divergence along time; tap chooses a step
             └────────│─────────────
       "     │ ▬▬▬▬▬▬▬▬▬            0.62      before (grey) and after (orange)
             │ ▬▬▬▬                → 0.27
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from bokeh.events import RangesUpdate, Tap
from bokeh.layouts import column
from bokeh.models import (
    AdaptiveTicker,
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    HoverTool,
    Legend,
    LegendItem,
    LinearAxis,
    Range1d,
)
from jaxtyping import Bool, Float

from grulens.views import raster
from grulens.views.canvas import fit, frame, steps
from grulens.views.palette import AFTER, BEFORE
from grulens.views.tokens import plain, visible_text

#: On screen, in words: what `measure` names.
MEASURE: Final = {"bits": "KL, bits", "difference": "after − before"}

#: No divergence below this fills the chart: rounding errors must not look like an effect.
FLOOR: Final = {"bits": 0.01, "difference": 1e-3}

_BAR = 20
_LABEL_JS = "return bars.data.label[tick] ?? ''"
_VALUES_JS = """
const number = (v) => v == null || isNaN(v) ? "NaN"
  : Math.abs(v) >= 100 || (v != 0 && Math.abs(v) < 0.005) ? v.toPrecision(2) : v.toFixed(2);
if (bars.data.label[tick] == null) return "";
return `${number(bars.data.before[tick])} → ${number(bars.data.after[tick])}`.replaceAll("-", "−");
"""


class OutputChart:
    """The output before and after: divergence along time, and classes or values beside it.

    Attributes:
        root: a Bokeh column: along time, then the classes of one step, or the values.
        x_range: the time axis; pass a Heatmap's to move with it.
        step: the marked step, or None.
    """

    def __init__(self, *, x_range: Range1d | None = None) -> None:
        self.x_range = x_range or steps()
        self.step: int | None = None
        self._listeners: list[Callable[[int], object]] = []
        self._length = 0
        self._lines: dict[ColumnDataSource, dict[str, Float[np.ndarray, " time"]]] = {}
        self.along = ColumnDataSource({"step": [], "divergence": []})
        self.mark = ColumnDataSource({"left": [], "right": []})
        self.bars = ColumnDataSource(
            {name: [] for name in ("label", "row", "before", "after", "upper", "lower")}
        )
        self.values = ColumnDataSource({"step": [], "before": [], "after": []})
        self._time = self._draw_time()
        self._classes = self._draw_classes()
        self._values = self._draw_values()
        self.root = column(self._time, self._classes, self._values, sizing_mode="stretch_width")
        for figure in (self._time, self._values):
            figure.on_event(Tap, self._tapped)
        self._time.on_event(RangesUpdate, lambda event: self._zoomed(event))

    def on_step(self, listener: Callable[[int], object]) -> None:
        """Call `listener(step)` when a person taps a step; never from `show_step`."""
        self._listeners.append(listener)

    def update(
        self,
        divergence: Float[np.ndarray, " time"],
        *,
        measure: str = "bits",
        mask: Bool[np.ndarray, " time"] | None = None,
    ) -> None:
        """Show another divergence.

        Args:
            divergence: (time,), how far the output moved at each step.
            measure: "bits" (Kullback-Leibler divergence) or "difference" (after − before).
            mask: (time,), False where there is no step (padding): left blank.

        >>> chart = OutputChart()
        >>> chart.update(np.array([0.0, 1.5, 0.25]))
        >>> chart.along.data["divergence"].tolist()
        [0.0, 1.5, 0.25]
        """
        floor = FLOOR[measure]
        self._length = len(divergence)
        fit(self.x_range, self._length)
        self._time.yaxis.axis_label = MEASURE[measure]
        lowest = -floor if measure == "difference" else 0.0
        _stretch(self._time.y_range, divergence, lowest, floor)
        self._lines[self.along] = {"divergence": _blank(divergence, mask)}
        self._paint()

    def show_step(
        self,
        step: int,
        labels: Sequence[object],
        before: Float[np.ndarray, " class"],
        after: Float[np.ndarray, " class"],
        *,
        quantity: str = "probability",
        title: str | None = None,
    ) -> None:
        """Mark a step and show its classes, from the top in the order given; tells no listener.

        Args:
            step: the marked step.
            labels: (class,), what to call each class; shown as text, whatever it holds.
            before: (class,), the readout of the unedited run.
            after: (class,), the readout of the edited run.
            quantity: what the bars measure; a "probability" is drawn from 0 to 1.
            title: stands above the bars; None says which step.
        """
        self._mark(step)
        row = np.arange(len(labels))
        self.bars.data = {
            "label": [visible_text(label, 16) for label in labels],
            "row": row,
            "before": np.asarray(before, np.float64),
            "after": np.asarray(after, np.float64),
            "upper": row - 0.19,
            "lower": row + 0.19,
        }
        self._classes.yaxis[0].ticker.ticks = row.tolist()
        self._classes.yaxis[1].ticker.ticks = row.tolist()
        fit(self._classes.y_range, len(labels), downwards=True)
        if quantity == "probability":
            self._classes.x_range.update(start=0.0, end=1.0)
        else:
            _stretch(self._classes.x_range, np.concatenate([before, after]), 0.0, 1e-3)
        self._classes.xaxis.axis_label = quantity
        self._classes.title.text = plain(f"output at step {step}" if title is None else title)
        height = 94 + 2 * _BAR * max(1, len(labels))
        self._classes.update(height=height, visible=True)

    def update_values(
        self,
        before: Float[np.ndarray, " time"],
        after: Float[np.ndarray, " time"],
        *,
        mask: Bool[np.ndarray, " time"] | None = None,
        quantity: str = "output",
    ) -> None:
        """Show a readout without classes: its value along time, before and after."""
        self._length = len(before)
        fit(self.x_range, self._length)
        _stretch(self._values.y_range, np.concatenate([before, after]), None, None)
        self._values.yaxis.axis_label = plain(quantity)
        self._lines[self.values] = {"before": _blank(before, mask), "after": _blank(after, mask)}
        self._paint()
        self._classes.visible, self._values.visible = False, True

    def mark_step(self, step: int | None) -> None:
        """Mark a step without showing its classes; None marks none; tells no listener."""
        self._mark(step)

    # ── drawing ──────────────────────────────────────────────────────────────────────────────

    def _draw_time(self) -> Any:
        root = frame(height=150, x_range=self.x_range, y_range=(0, 1), x_axis_label="step")
        _whole_steps(root)
        root.varea_step(
            x="step", y1=0, y2="divergence", source=self.along, step_mode="center",
            fill_color=AFTER, fill_alpha=0.35,
        )  # fmt: skip
        line = root.step(
            "step", "divergence", source=self.along, mode="center", line_color=AFTER, line_width=1.5
        )
        self._add_mark(root)
        root.add_tools(
            HoverTool(
                renderers=[line],
                mode="vline",
                tooltips=[("step", "@step"), ("moved by", "@divergence{0.0000}")],
            )
        )
        return root

    def _draw_classes(self) -> Any:
        y_range = Range1d(0.5, -0.5)
        root = frame(height=94, x_range=(0, 1), y_range=y_range, title="", visible=False)
        args = {"bars": self.bars}
        root.yaxis.ticker = FixedTicker(ticks=[])
        root.yaxis.formatter = CustomJSTickFormatter(args=args, code=_LABEL_JS)
        root.yaxis.major_label_text_font = "monospace"
        numbers = LinearAxis(
            ticker=FixedTicker(ticks=[]),
            formatter=CustomJSTickFormatter(args=args, code=_VALUES_JS),
            axis_line_color=None,
            major_tick_line_color=None,
            major_label_text_font_size="11px",
        )
        root.add_layout(numbers, "right")
        items = []
        for name, place, color in (("before", "upper", BEFORE), ("after", "lower", AFTER)):
            bars = root.hbar(
                y=place, right=name, height=0.36, source=self.bars, color=color, line_color=None
            )
            items.append(LegendItem(label=name, renderers=[bars]))
        root.add_layout(_legend(items), "above")
        return root

    def _draw_values(self) -> Any:
        root = frame(
            height=190, x_range=self.x_range, y_range=(0, 1), x_axis_label="step", visible=False
        )
        _whole_steps(root)
        items = []
        for name, color, dash in (("before", BEFORE, "solid"), ("after", AFTER, "solid")):
            line = root.line(
                "step", name, source=self.values, line_color=color, line_width=2, line_dash=dash
            )
            items.append(LegendItem(label=name, renderers=[line]))
        self._add_mark(root)
        root.add_layout(_legend(items), "above")
        root.add_tools(
            HoverTool(
                renderers=[items[0].renderers[0]],
                mode="vline",
                tooltips=[("step", "@step"), ("before", "@before"), ("after", "@after")],
            )
        )
        return root

    def _add_mark(self, root: Any) -> None:
        root.vstrip(
            "left", "right", source=self.mark,
            fill_color=AFTER, fill_alpha=0.3, line_color=AFTER, line_width=1.5,
        )  # fmt: skip

    def _paint(self) -> None:
        span = raster.with_margin(
            raster.visible(self._length, self.x_range.start, self.x_range.end, raster.COLUMNS),
            self._length,
        )
        row = raster.Span(0, 1, 1)
        for source, lines in self._lines.items():
            reduced = {
                name: raster.reduce(line[None, : self._length], row, span, _middle(line))[0]
                for name, line in lines.items()
                if len(line) == self._length
            }
            if len(reduced) == len(lines):
                source.data = {"step": np.array(span.firsts()), **reduced}

    def _mark(self, step: int | None) -> None:
        self.step = step
        edges = {"left": [], "right": []}
        if step is not None:
            edges = {"left": [step - 0.5], "right": [step + 0.5]}
        self.mark.data = edges

    # ── what a person does ───────────────────────────────────────────────────────────────────

    def _zoomed(self, event: RangesUpdate) -> None:
        if event.x0 is not None and event.x1 is not None and self._length:
            self._paint()

    def _tapped(self, event: Tap) -> None:
        step = round(event.x)
        if 0 <= step < self._length:
            for listener in tuple(self._listeners):
                listener(step)


def _whole_steps(root: Any) -> None:
    root.xaxis.ticker = AdaptiveTicker(min_interval=1, mantissas=[1, 2, 5], num_minor_ticks=0)


def _legend(items: list[LegendItem]) -> Legend:
    return Legend(
        items=items,
        orientation="horizontal",
        border_line_color=None,
        background_fill_alpha=0,
        padding=0,
        margin=0,
        glyph_height=12,
        glyph_width=16,
        label_height=14,
        label_text_font_size="12px",
        spacing=12,
    )


def _blank(
    line: Float[np.ndarray, " time"], mask: Bool[np.ndarray, " time"] | None
) -> Float[np.ndarray, " time"]:
    line = np.asarray(line, np.float64)
    return line if mask is None else np.where(mask, line, np.nan)


def _middle(line: Float[np.ndarray, " time"]) -> float:
    finite = line[np.isfinite(line)]
    return float(finite.mean()) if finite.size else 0.0


def _stretch(
    axis: Range1d, values: Float[np.ndarray, " any"], low: float | None, high: float | None
) -> None:
    """Fit an axis to values, at least from `low` to `high`, with a little air above."""
    finite = np.asarray(values)[np.isfinite(values)]
    ends = [end for end in (low, high) if end is not None] + (
        [float(finite.min()), float(finite.max())] if finite.size else [0.0, 1.0]
    )
    first, last = min(ends), max(ends)
    air = 0.06 * ((last - first) or 1.0)
    axis.update(start=first if first == low == 0.0 else first - air, end=last + air)
