"""How often an automaton answers as its network does: a line for each kind of words, by length.

1.0 │ ●━━●━━●╲            ━ drawn evenly   ━ that it accepts ...
    │ ─ ─ ─ ─ ─●─ ─ ─     dashed: what was asked for
0.5 │           ╲●        a bar is the 95% interval
    └──────────────
      5  10  20  40
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d
from bokeh.models.annotations import LegendItem, Span
from jaxtyping import Float

from grulens.views.figure.canvas import frame, legend
from grulens.views.figure.palette import ACCENT, AFTER, BEFORE
from grulens.views.figure.tokens import plain
from grulens.words import say

COLORS: Final = (
    ACCENT["x"], ACCENT["keep"], ACCENT["reset"], AFTER, ACCENT["candidate"], ACCENT["state"]
)  # fmt: skip
#: How far kinds stand apart at one length, of the room between two.
APART: Final = 0.1

Lines = Mapping[str, Float[np.ndarray, "length 4"]]
"""By the name of a kind: share, low, high and number of words at each length; NaN where none."""


class FidelityChart:
    """Shares of agreement at each length, the lengths as far apart as their order says.

    Attributes:
        root: the Bokeh figure.
        sources: length, share, low, high and words of each point, by kind.
    """

    def __init__(self) -> None:
        self.sources: dict[str, ColumnDataSource] = {}
        self.root: Any = frame(
            height=240, x_range=Range1d(start=-0.5, end=0.5), y_range=Range1d(start=0, end=1.05),
            x_axis_label=say("symbols in a word"), y_axis_label=say("both agree"), title="",
            name=say("fidelity by length"),
        )  # fmt: skip
        self.root.ygrid.visible = True
        self._threshold = Span(location=1, dimension="width", line_color=BEFORE, line_dash="dashed")
        self.root.add_layout(self._threshold)

    def update(
        self, lengths: Sequence[int], lines: Lines, *, threshold: float, title: str = ""
    ) -> None:
        """Show the fidelity of an automaton.

        Args:
            lengths: how long words were.
            lines: by the name of a kind of words, (length, 4).
            threshold: the share that was asked for.
            title: above the figure.

        >>> chart = FidelityChart()
        >>> line = np.array([[0.9, 0.8, 0.95, 200], [np.nan] * 4])
        >>> chart.update([5, 10], {"drawn evenly": line}, threshold=0.95)
        >>> chart.sources["drawn evenly"].data["share"].tolist()
        [0.9]
        """
        self._threshold.location = threshold
        self.root.x_range.update(start=-0.5, end=len(lengths) - 0.5)
        self.root.xaxis.ticker = FixedTicker(ticks=list(range(len(lengths))))
        self.root.xaxis.major_label_overrides = {i: str(n) for i, n in enumerate(lengths)}
        self.root.title.text = plain(title)
        items = []
        for number, (name, line) in enumerate(lines.items()):
            at = np.flatnonzero(~np.isnan(line[:, 0]))
            self.sources[name] = source = ColumnDataSource({
                "x": at + APART * (number - (len(lines) - 1) / 2),
                "length": np.asarray(lengths)[at],
                **{key: line[at, i] for i, key in enumerate(("share", "low", "high", "words"))},
            })  # fmt: skip
            color = COLORS[number % len(COLORS)]
            self.root.segment("x", "low", "x", "high", source=source, color=color, line_width=2)
            drawn = self.root.line("x", "share", source=source, color=color, line_width=1.5)
            dots = self.root.scatter("x", "share", source=source, color=color, size=7)
            items.append(LegendItem(label=plain(name), renderers=[drawn, dots]))
            of = say("{n} of {length} symbols", n="@words", length="@length")
            span = say("{low} to {high}", low="@low{0.000}", high="@high{0.000}")
            fields = [(say("words"), f"{of}, {plain(name)}")]
            fields.append((say("both agree"), f"@share{{0.000}} ({span})"))
            self.root.add_tools(HoverTool(renderers=[dots], tooltips=fields))
        self.root.add_layout(legend(items), "above")
