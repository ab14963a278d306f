"""How a phase portrait is drawn: the figure and its layers, from the ground up.

Fixed points are black and white, the one pair of colours that no signal and no state has, in a
light theme and in a dark one; one of which neither can be told is a grey diamond.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.models.annotations import ColorBar, LegendItem

from grulens.views.figure.canvas import frame, legend
from grulens.views.figure.palette import ACCENT, AFTER, BEFORE, COLORS
from grulens.words import message, say

#: The plane in pixels. Both known here, so that a click can be told from its neighbours.
WIDTH: Final = 440
HEIGHT: Final = 400
BLACK: Final = "#111111"
WHITE: Final = "#FFFFFF"
GREY: Final = "#8C8C8C"


class Mark(NamedTuple):
    """How a fixed point is drawn."""

    shape: str
    fill: str
    line: str


STABLE: Final = Mark("circle", BLACK, WHITE)
UNSTABLE: Final = Mark("circle", WHITE, BLACK)
#: Neither, to rounding: another shape, so that no colour need be told from another.
MARGINAL: Final = Mark("diamond", GREY, BLACK)


_KINDS: Final = {
    "unstable": message("unstable in {n}"), "marginal": message("marginal in {n}"),
    "stable": message("stable"),
}  # fmt: skip


def mark_of(kind: str) -> Mark:
    """The mark of a point that is "stable", "unstable in 2" or "marginal in 1"."""
    if kind.startswith("unstable"):
        return UNSTABLE
    return MARGINAL if kind.startswith("marginal") else STABLE


def kind_of(kind: str) -> str:
    """The same in the language of the screens: "unstable in 2, marginal in 1".

    >>> kind_of("unstable in 2, marginal in 1"), kind_of("stable")
    ('unstable in 2, marginal in 1', 'stable')
    """
    said = []
    for part in kind.split(", "):
        what, _, count = part.partition(" in ")
        said.append(say(_KINDS.get(what, part), n=count) if count else say(part))
    return say(", ").join(said)


def legend_of(marks: Sequence[Mark]) -> str:
    """What the marks mean."""
    if MARGINAL in marks:
        return say("fixed points; white: unstable, with the ways out; diamond: marginal")
    return say("fixed points; white: unstable, with the ways out")


#: States lie over each other: so many of them are told at once.
LIMIT: Final = 2

_ARROW: Final = ("x", "y", "to_x", "to_y", "angle", "alpha")


class Layers:
    """What lies over each other in the figure, the lowest first."""

    def __init__(self) -> None:
        self.field = _source(*_ARROW)
        self.before, self.paths = _source("xs", "ys"), _source("xs", "ys")
        self.dots = _source("x", "y", "value", "row", "step", "token")
        self.trail, self.slow = _source("x", "y"), _source("x", "y")
        self.ways = _source(*_ARROW)
        self.fixed = _source(
            "x", "y", "fill", "line", "shape", "ways", "point", "kind", "residual", "slowest"
        )  # fmt: skip
        self.chosen, self.here = _source("x", "y"), _source("x", "y")


def _source(*fields: str) -> ColumnDataSource:
    return ColumnDataSource({name: [] for name in fields})


class PhaseFigure:
    """The figure, and what its colours mean.

    Args:
        colors: whether the scale of colours stands beside it.

    Attributes:
        layers: what is drawn.
        root: the Bokeh figure.
        mapper: from a state's value to its colour.
        bar: the mapper's scale.
        entries: lines of the legend that are there only where their layer is.
    """

    def __init__(self, *, colors: bool = True) -> None:
        self.layers = Layers()
        self.mapper = LinearColorMapper(palette=COLORS["state"], low=0, high=1)
        # one ticker for good: BokehJS goes on drawing one that was replaced
        self.bar: Any = ColorBar(
            color_mapper=self.mapper,
            width=12,
            title="",
            ticker=FixedTicker(ticks=[]),
            title_text_font_size="12px",
            title_text_font_style="normal",
            major_label_text_font_size="11px",
        )
        self.entries: dict[str, LegendItem] = {}
        self.root: Any = frame(
            height=HEIGHT, tools=[PanTool(), WheelZoomTool(), ResetTool()], title="",
            sizing_mode="fixed", frame_width=WIDTH, frame_height=HEIGHT,
            min_border_left=56, min_border_right=4, toolbar_location="above",
            x_range=Range1d(start=-1, end=1), y_range=Range1d(start=-1, end=1),
            name=say("states, and where the network stands still"),
        )  # fmt: skip
        self.root.width = self.root.height = None
        self._draw()
        if colors:
            self.root.add_layout(self.bar, "right")

    def _draw(self) -> None:
        root = self.root
        self._arrows(self.layers.field, BEFORE, 1.0, 5, alpha="alpha")
        for source, alpha in ((self.layers.before, 0.25), (self.layers.paths, 0.45)):
            root.multi_line("xs", "ys", source=source, line_color=BEFORE, line_alpha=alpha)
        self._dots()
        trail = root.line("x", "y", source=self.layers.trail, line_color=AFTER, line_width=2.5)
        root.scatter("x", "y", source=self.layers.trail, size=4, color=AFTER)
        slow = root.scatter(
            "x", "y", source=self.layers.slow, marker="x", size=9, line_color=ACCENT["reset"],
            line_width=2,
        )  # fmt: skip
        self._arrows(self.layers.ways, ACCENT["reset"], 2.5, 10)
        fixed = self._fixed()
        for source, size in ((self.layers.chosen, 25), (self.layers.here, 13)):
            root.scatter(
                "x", "y", source=source, size=size, fill_color=None, line_color=AFTER, line_width=3
            )
        fields = {
            "fixed": (legend_of(()), fixed),
            "slow": (say("slow, not fixed"), slow),
            "trail": (say("started here"), trail),
        }
        for name, (label, drawn) in fields.items():
            self.entries[name] = LegendItem(label=label, renderers=[drawn], visible=False)
        root.add_layout(legend(list(self.entries.values())), "below")

    def _dots(self) -> None:
        color = {"field": "value", "transform": self.mapper}
        drawn = self.root.scatter(
            "x", "y", source=self.layers.dots, size=5, fill_color=color, line_color=BEFORE,
            line_width=0.5, line_alpha=0.6,
        )  # fmt: skip
        fields = [(say("row, step"), "@row, @step"), (say("token"), "@token"),
                  (say("value"), "@value{0.000}")]  # fmt: skip
        self.root.add_tools(HoverTool(renderers=[drawn], tooltips=fields, limit=LIMIT))

    def _fixed(self) -> Any:
        drawn = self.root.scatter(
            "x", "y", source=self.layers.fixed, size=15, marker="shape", fill_color="fill",
            line_color="line", line_width=1.5,
        )  # fmt: skip
        self.root.text(
            "x", "y", text="ways", source=self.layers.fixed, text_font_size="10px",
            text_color=BLACK, text_align="center", text_baseline="middle",
            text_font_style="bold",
        )  # fmt: skip
        fields = [
            (say("fixed point"), "@point, @kind"),
            (say("slowest mode"), "@slowest"),
            (say("a step moves it by"), "@residual"),
        ]
        self.root.add_tools(HoverTool(renderers=[drawn], tooltips=fields))
        return drawn

    def _arrows(
        self, source: ColumnDataSource, color: str, width: float, size: int, alpha: Any = 1.0
    ) -> None:
        self.root.segment(
            "x", "y", "to_x", "to_y", source=source, line_color=color, line_width=width,
            line_alpha=alpha,
        )  # fmt: skip
        self.root.scatter(
            "to_x", "to_y", source=source, marker="triangle", angle="angle", size=size,
            fill_color=color, line_color=None, fill_alpha=alpha,
        )  # fmt: skip
