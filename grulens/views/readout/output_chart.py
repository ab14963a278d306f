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
from bokeh.layouts import row
from bokeh.models import (
    BasicTickFormatter,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
)
from bokeh.models.annotations import LegendItem
from jaxtyping import Bool, Float

from grulens.views.figure import raster
from grulens.views.figure.canvas import (
    fit,
    frame,
    legend,
    steps,
    stretch,
    whole_steps,
)
from grulens.views.figure.marks import StepMark
from grulens.views.figure.palette import AFTER, BEFORE
from grulens.views.figure.tokens import plain
from grulens.views.readout.class_bars import ClassBars
from grulens.words import message, say

#: On screen, in words: what `measure` names.
MEASURE: Final = {"bits": message("KL, bits"), "difference": message("change")}

#: No divergence below this fills the chart: rounding errors must not look like an effect.
FLOOR: Final = {"bits": 0.01, "difference": 1e-3}

#: How much of the chart the bar of an only step takes.
ALONE: Final = 0.2


class OutputChart:
    """The output before and after: divergence along time, and classes or values beside it.

    Attributes:
        roots: what stands under each other: along time, then the classes of one step, the values.
            Bokeh sets the time axes of one column under each other, and of no column within it.
        x_range: the time axis; pass a Heatmap's to move with it.
        step: the marked step, or None.
        classes: the bars of one step.
    """

    def __init__(self, *, x_range: Any = None, live: bool = True) -> None:
        self.x_range: Any = x_range or steps()
        self.step: int | None = None
        self._listeners: list[Callable[[int], object]] = []
        self._length = 0
        self._shown = raster.Span(0, 0, 1)
        self._lines: dict[ColumnDataSource, dict[str, Float[np.ndarray, " time"]]] = {}
        self.along = ColumnDataSource(
            {name: [] for name in ("step", "middle", "width", "divergence")}
        )
        self._step_mark = StepMark()
        self.mark = self._step_mark.source
        self.values = ColumnDataSource({"step": [], "before": [], "after": []})
        self._time = self._draw_time()
        self.classes = ClassBars()
        self._values = self._draw_values()
        self.along_time = self._time, self._values
        # a row of its own: long class names must not move the time axes away from the heatmap's
        beside = row(self.classes.root, sizing_mode="stretch_width")
        self.roots = self._time, beside, self._values
        if live:
            for figure in self.along_time:
                figure.on_event(Tap, self._tapped)
            self._time.on_event(RangesUpdate, self._zoomed)

    @property
    def visible(self) -> bool:
        """Whether any of it is seen."""
        return any(root.visible for root in self.roots)

    def hide(self) -> None:
        """Show nothing, until something is shown."""
        for root in self.roots:
            root.visible = False

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
            measure: "bits" (Kullback-Leibler divergence), or "difference" (after − before), which
                the axis calls "change".
            mask: (time,), False where there is no step (padding): left blank.

        >>> chart = OutputChart()
        >>> chart.update(np.array([0.0, 1.5, 0.25]))
        >>> chart.along.data["divergence"].tolist()
        [0.0, 1.5, 0.25]
        """
        floor = FLOOR[measure]
        self._length = len(divergence)
        self._time.visible = self._length > 1  # one answer has no axis of time
        self._time.xaxis.visible = True
        self.roots[1].visible = True
        # of what nothing differs a scale would say that something might
        moved = np.nan_to_num(divergence).any()
        self._time.yaxis.ticker = self._scale if moved else self._none
        self._scale.desired_num_ticks = 3 if measure == "difference" else 2  # 0 and either side
        fit(self.x_range, self._length)
        self._time.yaxis.axis_label = say(MEASURE[measure])
        lowest = -floor if measure == "difference" else 0.0
        stretch(self._time.y_range, divergence, lowest, floor)
        self._lines[self.along] = {"divergence": _blank(divergence, mask)}
        self._paint(self.x_range.start, self.x_range.end)

    def show_step(
        self,
        step: int,
        labels: Sequence[object],
        before: Float[np.ndarray, " class"],
        after: Float[np.ndarray, " class"],
        *,
        quantity: str = message("probability"),
        title: str | None = None,
    ) -> None:
        """Mark a step and show its classes, from the top in the order given; tells no listener.

        Args:
            step: the marked step.
            labels: (class,), what to call each class; shown as text, whatever it holds.
            before: (class,), the readout of the unedited run.
            after: (class,), the readout of the edited run.
            quantity: what the bars measure; a "probability" is drawn from 0 to 1.
            title: stands above the bars; None says which step, where there are several.
        """
        self._mark(step)
        which = say("output at step {step}", step=step) if self._length != 1 else say("output")
        heading = which if title is None else title
        self.classes.update(labels, before, after, quantity=quantity, title=heading)

    def update_values(
        self,
        before: Float[np.ndarray, " time"],
        after: Float[np.ndarray, " time"],
        *,
        mask: Bool[np.ndarray, " time"] | None = None,
        quantity: str = message("output"),
    ) -> None:
        """Show a readout without classes: its value before and after, along time or of one step.

        >>> chart = OutputChart()
        >>> chart.update_values(np.array([0.5]), np.array([0.25]))  # no line goes through one point
        >>> chart.classes.source.data["label"], chart.classes.root.visible
        (['output'], True)
        """
        self._length = len(before)
        fit(self.x_range, self._length)
        if self._length == 1:
            said = say("output")
            self.classes.update([said], before, after, quantity=quantity, title=said)
            self._values.visible = False
            return
        stretch(self._values.y_range, np.concatenate([before, after]), None, None)
        self._values.yaxis.axis_label = plain(say(quantity))
        self._lines[self.values] = {"before": _blank(before, mask), "after": _blank(after, mask)}
        self._paint(self.x_range.start, self.x_range.end)
        self.classes.root.visible, self._values.visible = False, True
        self._time.xaxis.visible = False  # that of the values stands under it

    def mark_step(self, step: int | None) -> None:
        """Mark a step without showing its classes; None marks none; tells no listener."""
        self._mark(step)

    # ── drawing ──────────────────────────────────────────────────────────────────────────────

    def _draw_time(self) -> Any:
        root = frame(
            height=84, x_range=self.x_range, y_range=(0, 1), x_axis_label=say("step"),
            name=say("how far the output moved, by step"),
        )  # fmt: skip
        whole_steps(root.xaxis)
        self._scale, self._none = root.yaxis[0].ticker, FixedTicker(ticks=[])
        # from 2 on to 5 is too far: of changes from −4 to 4 the 0 alone would have a number
        self._scale.mantissas = [1, 2, 3, 5]
        root.yaxis.formatter = BasicTickFormatter(power_limit_low=-5)  # 0.0005, and no 5.000e-4
        bars = root.vbar(
            x="middle", top="divergence", width="width", source=self.along,
            fill_color=AFTER, line_color=None,
        )  # fmt: skip
        self._step_mark.draw(root)
        root.add_tools(
            HoverTool(
                renderers=[bars],
                mode="vline",
                tooltips=[(say("step"), "@step"), (say("moved by"), "@divergence{%.4g}")],
                formatters={"@divergence": "printf"},
            )
        )
        return root

    def _draw_values(self) -> Any:
        root = frame(
            height=190, x_range=self.x_range, y_range=(0, 1), x_axis_label=say("step"),
            visible=False, name=say("the output before and after, by step"),
        )  # fmt: skip
        whole_steps(root.xaxis)
        items, said = [], {"before": say("before"), "after": say("after")}
        for name, color, dash in (("before", BEFORE, "solid"), ("after", AFTER, "solid")):
            line = root.line(
                "step", name, source=self.values, line_color=color, line_width=2, line_dash=dash
            )
            items.append(LegendItem(label=said[name], renderers=[line]))
        self._step_mark.draw(root)
        root.add_layout(legend(items), "above")
        root.add_tools(
            HoverTool(
                renderers=[items[0].renderers[0]],
                mode="vline",
                tooltips=[(say("step"), "@step"), *((said[name], f"@{name}") for name in said)],
            )
        )
        return root

    def _paint(self, x0: float | int, x1: float | int) -> None:
        span = self._shown = raster.with_margin(
            raster.visible(self._length, x0, x1, raster.COLUMNS), self._length
        )
        one = raster.Span(0, 1, 1)
        for source, lines in self._lines.items():
            reduced = {
                name: raster.reduce(line[None, : self._length], one, span, _middle(line))[0]
                for name, line in lines.items()
                if len(line) == self._length
            }
            if len(reduced) == len(lines):
                first = np.array(span.firsts())
                width = span.block if self._length > 1 else ALONE
                place = {"middle": first + (span.block - 1) / 2, "width": [width] * len(first)}
                shared = {"step": first, **(place if source is self.along else {})}
                source.data = {**shared, **reduced}

    def _mark(self, step: int | None) -> None:
        self.step = step
        self._step_mark.show(None if self._length == 1 else step)

    # ── what a person does ───────────────────────────────────────────────────────────────────

    def _zoomed(self, event: Any) -> None:
        if raster.zoomed_out_of(self._shown, event, self._length, raster.COLUMNS):
            self._paint(event.x0, event.x1)

    def _tapped(self, event: Any) -> None:
        step = round(event.x)
        if 0 <= step < self._length > 1:
            for listener in tuple(self._listeners):
                listener(step)


def _blank(
    line: Float[np.ndarray, " time"], mask: Bool[np.ndarray, " time"] | None
) -> Float[np.ndarray, " time"]:
    line = np.asarray(line, np.float64)
    return line if mask is None else np.where(mask, line, np.nan)


def _middle(line: Float[np.ndarray, " time"]) -> float:
    finite = line[np.isfinite(line)]
    return float(finite.mean()) if finite.size else 0.0
