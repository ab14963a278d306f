"""Pinned units as lines over the steps, one under the other, on the axis of the map above.

unit 3 · in a string   0.42
      ╭──╮      ╭─────╮              the line: the run as it is edited
──────╯  ╰──────╯     ╰─────         grey under it: the run without the edits
unit 17   −0.10
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, Range1d
from bokeh.models.annotations import LabelSet
from jaxtyping import Bool, Float

from grulens.cells.signal import Signal
from grulens.views.figure import raster
from grulens.views.figure.canvas import fit, frame, set_data, steps
from grulens.views.figure.marks import StepMark
from grulens.views.figure.palette import ACCENT, AFTER, BEFORE
from grulens.views.figure.tokens import number, visible_name
from grulens.words import say

#: How tall a line is with the name over it, and what the figure has besides.
LINE: Final = 54
BESIDE: Final = 8
#: Where in its place a line begins, and how far it reaches; above it stands its name.
FOOT: Final = 0.06
REACH: Final = 0.6


class PinnedLines:
    """A line for each pinned unit.

    All lines have the same scale, that of the map's colours, so that they can be compared.

    Attributes:
        root: the Bokeh figure.
        lines: the lines, each with its steps "xs" and its places "ys".
    """

    def __init__(self, *, x_range: Any = None) -> None:
        self.x_range: Any = x_range or steps()
        self._values: Float[np.ndarray, "unit time"] = np.zeros((0, 0), np.float32)
        self._names: list[str] = []
        self._step: int | None = None
        self.lines = ColumnDataSource({"xs": [], "ys": []})
        self._before = ColumnDataSource({"xs": [], "ys": []})
        self._zero = ColumnDataSource({"y": []})
        self.said = ColumnDataSource({"y": [], "text": []})
        self.root: Any = frame(
            height=LINE + BESIDE, x_range=self.x_range, y_range=Range1d(start=0, end=1),
            name=say("pinned units, by step"),
        )  # fmt: skip
        self.root.xaxis.visible = False
        self.root.yaxis.visible = False
        self.root.hspan("y", source=self._zero, line_color=BEFORE, line_alpha=0.5)
        self.root.multi_line("xs", "ys", source=self._before, line_color=BEFORE, line_width=1.5)
        self._line = self.root.multi_line("xs", "ys", source=self.lines, line_width=1.5)
        self._mark = StepMark()
        self._mark.draw(self.root)
        self.root.add_layout(
            LabelSet(
                x=6, x_units="screen", y="y", text="text", source=self.said,
                text_font_size="12px", text_baseline="top",
            )
        )  # fmt: skip

    def update(
        self,
        values: Float[np.ndarray, "unit time"],
        *,
        before: Float[np.ndarray, "unit time"] | None = None,
        names: Sequence[str],
        signal: Signal | str,
        mask: Bool[np.ndarray, " time"] | None = None,
        ends: tuple[float, float],
    ) -> None:
        """Show other units, or other values of them.

        Args:
            values: (unit, time).
            before: (unit, time), the values without the edits; None where there are none.
            names: what each unit is called.
            signal: the signal that they are of, whose colour the lines have; or "difference".
            mask: (time,), False where there is no step: left blank.
            ends: the values at the foot and at the top of each line.

        >>> pinned = PinnedLines()
        >>> one = np.array([[0.0, 1.0]])
        >>> pinned.update(one, names=["unit 3"], signal="state", ends=(-1.0, 1.0))
        >>> [round(float(y), 2) for y in pinned.lines.data["ys"][0]]
        [0.36, 0.66]
        """
        count, time = values.shape
        fit(self.x_range, time)
        blank = np.ones(time, bool) if mask is None else mask
        self._values, self._names = np.where(blank, values, np.nan), list(names)
        feet = np.arange(count)[::-1] + FOOT
        self._line.glyph.line_color = AFTER if signal == "difference" else ACCENT[signal]
        set_data(self.lines, _placed(self._values, feet, ends))
        under = values[:0] if before is None else np.where(blank, before, np.nan)
        set_data(self._before, _placed(under, feet, ends))
        low, high = ends
        set_data(self._zero, {"y": feet - REACH * low / (high - low) if low < 0 < high else []})
        self.root.y_range.update(start=0, end=max(1, count))
        self.root.height = LINE * max(1, count) + BESIDE
        self._say()

    def mark(self, step: int | None) -> None:
        """Mark a step, and say the value of each unit there; None marks none."""
        self._step = step
        self._mark.show(step)
        self._say()

    def _say(self) -> None:
        count, time = self._values.shape
        texts = [visible_name(name, 60) for name in self._names]
        if self._step is not None and self._step < time:
            now = self._values[:, self._step]
            texts = [
                f"{text}   {number(float(value), '.3f')}" if np.isfinite(value) else text
                for text, value in zip(texts, now, strict=True)
            ]
        set_data(self.said, {"y": np.arange(count)[::-1] + 0.98, "text": texts})


def _placed(
    values: Float[np.ndarray, "unit time"],
    feet: Float[np.ndarray, " any"],
    ends: tuple[float, float],
) -> dict[str, Any]:
    """The lines of some units, each in its own place; of a long run so many points are drawn."""
    count, time = values.shape
    span = raster.Span(0, time, max(1, -(-time // (2 * raster.COLUMNS))))
    rows = raster.reduce(np.asarray(values, np.float64), raster.Span(0, count, 1), span, 0.0)
    low, high = ends
    share = (rows - low) / ((high - low) or 1.0)
    at = np.array(span.firsts(), float)
    return {"xs": [at] * count, "ys": list(feet[:count, None] + REACH * share)}
