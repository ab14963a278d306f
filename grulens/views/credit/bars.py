"""What each step adds to a score: a bar a token, signed, over the tokens in the same colours.

credit │      ▇                            red adds, blue takes away; tap or drag: choose steps
       │▁  ▂  █ ▁        ▂
       │  ▅    ▂  ▃▃▂
  adds │ d e f ␣ f ( x ) : ⏎ │
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from bokeh.events import RangesUpdate, Tap
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import Span
from jaxtyping import Bool, Float

from grulens.views.figure import raster
from grulens.views.figure.canvas import (
    ROOMY,
    Listener,
    Positions,
    fit,
    frame,
    steps,
    stretch,
    tapped,
    tell,
    whole_steps,
    zooming,
)
from grulens.views.figure.marks import StepMark
from grulens.views.figure.palette import AGAINST, BEFORE, FOR
from grulens.views.figure.tokens import plain, visible_name, visible_text
from grulens.views.gates.token_strip import TokenStrip
from grulens.words import message, say

#: Colours and axis reach at least this far: rounding must not look like an effect.
FLOOR = 1e-6


def color(value: float) -> str:
    """The colour of what adds or takes away.

    >>> color(1.0) == FOR, color(-1.0) == AGAINST
    (True, True)
    """
    return AGAINST if value < 0 else FOR


class TokenBars:
    """A signed bar for each step, and the tokens coloured by the same values.

    Attributes:
        root: a Bokeh column: bars, tokens.
        x_range: the time axis.
        source: step, credit and token of each bar.
        times: the outlined steps.
    """

    def __init__(self, *, x_range: Any = None) -> None:
        self.x_range: Any = x_range or steps()
        self.times: Positions = ()
        self._listeners: list[Listener] = []
        self._values: Float[np.ndarray, " time"] = np.zeros(0, np.float64)
        self._tokens: Sequence[object] | None = None
        self._mask: Bool[np.ndarray, " time"] | None = None
        self._shown = raster.Span(0, 0, 1)
        fields = ("step", "middle", "width", "credit", "color", "token")
        self.source = ColumnDataSource({field: [] for field in fields})
        self._step_mark = StepMark()
        self.marked = self._step_mark.source
        self.strip = TokenStrip(x_range=self.x_range)
        self.strip.root.name = say("tokens, coloured by their credit")
        self.strip.on_times(lambda times: tell(self._listeners, times))
        self.bars = self._draw()
        self.bars.on_event(Tap, self._tapped)
        self.bars.on_event(RangesUpdate, self._zoomed)
        self.root = column(self.bars, self.strip.root, sizing_mode="stretch_width")
        self.update(np.zeros(1))  # a page may draw it before there is anything to see

    def on_times(self, listener: Listener) -> None:
        """Call `listener(times)` when a person chooses steps, () for all; never from `select`."""
        self._listeners.append(listener)

    def update(
        self,
        values: Float[np.ndarray, " time"],
        *,
        tokens: Sequence[object] | None = None,
        mask: Bool[np.ndarray, " time"] | None = None,
        title: str = "",
        measure: str = message("credit"),
        names: bool = False,
    ) -> None:
        """Show other credit.

        Args:
            values: (time,), what each step adds.
            tokens: (time,), what to call each step; None is its number.
            mask: (time,), False where there is no step (padding): left blank.
            title: over the bars.
            measure: what the values are.
            names: whether `tokens` are names of something, whose words stay apart.

        >>> chart = TokenBars()
        >>> chart.update(np.array([0.5, -0.25]), tokens=["a", " "])
        >>> chart.source.data["token"], [c == FOR for c in chart.source.data["color"]]
        (['a', '␣'], [True, False])
        """
        self._values, self._tokens, self._mask = values, tokens, mask
        self._called = visible_name if names else visible_text
        fit(self.x_range, len(values))
        valid = values if mask is None else values[mask]
        self.strip.update(
            values, signal="difference", tokens=tokens, mask=mask, name=say("adds"),
            ends=raster.symmetric(valid, FLOOR), names=names,
        )  # fmt: skip
        stretch(self.bars.y_range, np.append(valid, [0.0, FLOOR]), None, None)
        self.bars.toolbar.visible = len(values) > ROOMY
        self.bars.yaxis.axis_label = plain(say(measure))
        self.bars.title.text = plain(title)
        self._paint(self.x_range.start, self.x_range.end)

    def select(self, times: Iterable[int] = ()) -> None:
        """Outline these steps; tells no listener."""
        self.times = tuple(sorted({int(t) for t in times}))
        self.strip.select(self.times)

    def mark(self, step: int | None) -> None:
        """Mark the step whose answer the score is; None marks none."""
        self._step_mark.show(step)

    def _draw(self) -> Any:
        root = frame(
            height=190, x_range=self.x_range, y_range=(-1, 1), x_axis_label=say("step"), title="",
            name=say("credit of each step"), **zooming(),
        )  # fmt: skip
        whole_steps(root.xaxis)
        root.ygrid.visible = True
        self._step_mark.draw(root)
        root.add_layout(Span(location=0, dimension="width", line_color=BEFORE, line_width=1))
        bars = root.vbar(
            x="middle", top="credit", width="width", source=self.source, fill_color="color",
            line_color=None,
        )  # fmt: skip
        fields = [(say("token"), "@token"), (say("step"), "@step"),
                  (say("adds"), "@credit{0.00000}")]  # fmt: skip
        root.add_tools(HoverTool(renderers=[bars], mode="vline", tooltips=fields))
        return root

    def _paint(self, x0: float | int, x1: float | int) -> None:
        time = len(self._values)
        span = raster.with_margin(raster.visible(time, x0, x1, raster.COLUMNS), time)
        self._shown = span
        values = self._values if self._mask is None else np.where(self._mask, self._values, 0.0)
        drawn = raster.reduce(values[None], raster.Span(0, 1, 1), span, 0.0)[0]
        first = np.array(span.firsts(), dtype=np.int64)
        tokens = self._tokens
        self.source.data = {
            "step": first,
            "middle": first + (span.block - 1) / 2,
            "width": np.full(len(first), span.block * (0.86 if span.count < 200 else 1.0)),
            "credit": drawn.astype(np.float64),
            "color": [color(value) for value in drawn.tolist()],
            "token": ["" if tokens is None else self._called(tokens[t]) for t in first.tolist()],
        }

    def _zoomed(self, event: Any) -> None:
        if raster.zoomed_out_of(self._shown, event, len(self._values), raster.COLUMNS):
            self._paint(event.x0, event.x1)

    def _tapped(self, event: Any) -> None:
        step = round(event.x)
        if 0 <= step < len(self._values) and (self._mask is None or self._mask[step]):
            tell(self._listeners, tapped(event, step, self.times))
