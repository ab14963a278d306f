"""Outlines around what is selected: seen on every colour of every map, on light and dark ground.

White under black: whatever lies below, one of the two stands out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from bokeh.models import ColumnDataSource

from grulens.views.figure.canvas import set_data
from grulens.views.figure.palette import AFTER
from grulens.views.figure.raster import runs

#: What is outlined keeps at least this many pixels inside, or a thin row would be covered.
ROOM: Final = 7
SIDES: Final = ("left", "right", "top", "bottom")

Box = tuple[float, float, float, float]


class Marks:
    """Rectangles on a figure, kept in one source.

    Attributes:
        source: left, right, top and bottom of each.
    """

    def __init__(self, root: Any, *, dash: str) -> None:
        self.source = ColumnDataSource({side: [] for side in SIDES})
        for color, width, style in (("white", 3.5, "solid"), ("black", 1.5, dash)):
            root.quad(
                *SIDES,
                source=self.source,
                fill_color=None,
                line_color=color,
                line_width=width,
                line_dash=style,
            )

    def show(self, boxes: Iterable[Box]) -> None:
        """Outline these (left, right, top, bottom), and nothing else."""
        drawn = list(boxes)
        data = {side: [box[i] for box in drawn] for i, side in enumerate(SIDES)}
        set_data(self.source, data)


class StepMark:
    """A thin line at one step of each figure that it is drawn on: no value of any step is so thin.

    Attributes:
        source: where the line stands; empty where no step is marked.

    >>> mark = StepMark()
    >>> mark.show(3)
    >>> mark.source.data
    {'step': [3]}
    """

    def __init__(self) -> None:
        self.source = ColumnDataSource({"step": []})

    def draw(self, root: Any) -> None:
        """Draw it on a figure, too."""
        root.vspan("step", source=self.source, line_color=AFTER, line_width=2)

    def show(self, step: int | None) -> None:
        """Mark a step; None marks none."""
        set_data(self.source, {"step": [] if step is None else [step]})


def rings(root: Any, x: str, y: str, source: ColumnDataSource, size: int) -> None:
    """Draw a ring around each chosen dot, black on white, so that it is seen on any ground.

    Args:
        root: the figure.
        x: the column of `source` that has the dots' x.
        y: the column that has their y.
        source: the chosen dots.
        size: the diameter in pixels.
    """
    for color, width in (("white", 4.0), ("black", 2.0)):
        root.scatter(
            x, y, source=source, size=size, fill_color=None, line_color=color, line_width=width
        )


def outlines(cells: Iterable[int], axis: Any, pixels: int) -> list[tuple[float, float]]:
    """Where to draw around cells on an axis that is about so many pixels long.

    Neighbours closer than a pixel share an outline: the number of outlines has a bound.

    >>> from bokeh.models import Range1d
    >>> outlines([3, 4, 8], Range1d(start=-0.5, end=9.5), 1000)
    [(2.5, 4.5), (7.5, 8.5)]
    """
    shown = abs(axis.end - axis.start) or 1.0
    room = max(0.0, (ROOM * shown / pixels - 1) / 2)
    joined = runs(cells, max(1, math.ceil(shown / pixels)))
    return [(first - 0.5 - room, last + 0.5 + room) for first, last in joined]
