"""What values a unit has over a corpus, and which of them where a label holds.

share of steps
│  ▒▒                 grey: the steps where the label does not hold
│ ▒▒▒▒      ┌─┐       orange: those where it does; each adds up to 1
└─────────────── h
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.models.annotations import LegendItem
from jaxtyping import Float, Int

from grulens.views.figure.canvas import frame, legend
from grulens.views.figure.palette import AFTER, BEFORE
from grulens.views.figure.tokens import plain, visible_name
from grulens.words import say, say_as

BINS: Final = 60

Counts = Int[np.ndarray, " bin"]
Edges = Float[np.ndarray, " edge"]
Ends = Float[np.ndarray, " end"]
Shares = Float[np.ndarray, " shown"]


def rebinned(counts: Counts, edges: Edges, shown: Ends) -> Shares:
    """The share of the steps in each of some equal bins, from counts in others.

    What lies in a bin is taken as spread evenly over it.

    Args:
        counts: (bin,).
        edges: (bin + 1,), where these bins lie; the outermost may be infinite.
        shown: the edges of the bins wanted, as far apart each.

    >>> rebinned(np.array([2, 1, 1]), np.array([0, 0.4, 0.6, 1.0]), np.array([0, 0.5, 1]))
    array([0.625, 0.375])
    """
    total = int(counts.sum())
    below = np.interp(shown, np.clip(edges, shown[0], shown[-1]), np.append(0, counts.cumsum()))
    below[[0, -1]] = 0, total
    found: Shares = np.diff(below) / max(1, total)
    return found


def extent(counts: Counts, edges: Edges) -> tuple[float, float]:
    """The ends of the bins that hold the least and the largest of all values.

    >>> extent(np.array([0, 2, 1, 0]), np.array([-1.0, -0.5, 0.0, 0.5, 1.0]))
    (-0.5, 0.5)
    """
    held = np.flatnonzero(counts)
    inner = edges[np.isfinite(edges)]
    first, last = (int(held[0]), int(held[-1]) + 1) if held.size else (0, len(edges) - 1)
    low, high = (float(np.clip(edges[i], inner[0], inner[-1])) for i in (first, last))
    return low, high if high > low else low + 1.0


def span(counts: Counts, edges: Edges) -> Ends:
    """The edges of 60 equal bins over all values a unit has."""
    return np.linspace(*extent(counts, edges), BINS + 1)


def shares(every: Counts, held: Counts | None, edges: Edges) -> tuple[Ends, Shares, Shares]:
    """The edges of equal bins, and the shares there of the steps without a label and with it.

    Args:
        every: (bin,), how many steps lie in each bin.
        held: those of them where the label holds; None where there is no label.
        edges: (bin + 1,), where the bins lie.
    """
    shown = span(every, edges)
    rest = rebinned(every if held is None else every - held, edges, shown)
    return shown, rest, np.zeros(BINS) if held is None else rebinned(held, edges, shown)


class Histogram:
    """Two histograms over each other: of the steps where a label holds, and of the others.

    Attributes:
        root: the Bokeh figure.
        source: the ends of each bin, and the share of the steps in it.
    """

    def __init__(self, *, height: int = 150) -> None:
        self.source = ColumnDataSource({n: [] for n in ("left", "right", "rest", "held")})
        self.root: Any = frame(
            height=height, x_range=Range1d(start=-1, end=1), y_range=Range1d(start=0, end=1),
            y_axis_label=say("share of steps"), title="", name=say("histogram"),
        )  # fmt: skip
        rest = self.root.quad(
            left="left", right="right", bottom=0, top="rest", source=self.source,
            fill_color=BEFORE, fill_alpha=0.6, line_color=None,
        )  # fmt: skip
        held = self.root.quad(
            left="left", right="right", bottom=0, top="held", source=self.source,
            fill_color=None, line_color=AFTER, line_width=1.5,
        )  # fmt: skip
        self._rest, self._held = LegendItem(renderers=[rest]), LegendItem(renderers=[held])
        self._legend = legend([self._rest, self._held])
        self.root.add_layout(self._legend, "above")
        self.root.add_tools(
            HoverTool(tooltips=[
                (say("from"), "@left{0.000}"), (say_as("range", "to"), "@right{0.000}"),
                (say("elsewhere"), "@rest{0.0000}"), (say("where it holds"), "@held{0.0000}"),
            ])
        )  # fmt: skip

    def update(
        self, every: Counts, held: Counts | None, edges: Edges, *, label: str = "", title: str = ""
    ) -> None:
        """Show another unit.

        Args:
            every: (bin,), how many steps lie in each bin.
            held: those of them where the label holds; None where there is no label.
            edges: (bin + 1,), where the bins lie.
            label: the name of the label.
            title: over the figure.

        >>> chart = Histogram()
        >>> chart.update(np.array([2, 2]), np.array([0, 1]), np.array([-1.0, 0.0, 1.0]), label="a")
        >>> [round(float(sum(chart.source.data[name])), 6) for name in ("rest", "held")]
        [1.0, 1.0]
        """
        shown, rest, there = shares(every, held, edges)
        self.source.data = {"left": shown[:-1], "right": shown[1:], "rest": rest, "held": there}
        self.root.x_range.update(start=float(shown[0]), end=float(shown[-1]))
        self.root.y_range.update(start=0, end=float(max(rest.max(), there.max(), 1e-9)) * 1.06)
        name = visible_name(label)
        others = say("all steps") if held is None else say("where not {label}", label=name)
        self._rest.label = {"value": others}
        self._held.label = {"value": say("where {label}", label=name)}
        self._legend.items = [self._rest] if held is None else [self._rest, self._held]
        self.root.title.text = plain(title) or " "
