"""Phrases within phrases over the tokens: which belong together, and which way each speaks.

          ┌───────────────────────────────┐
          │            −0.9               │     a group is a box over its tokens, as high as
          │      ┌──────────┐             │     groups lie in it; blue speaks against the class,
          │      │  −1.4    ├──────┐      │     red for it
    token │  it  is    not  good  at  all │     tap: choose its tokens · double tap: all

A box is painted where none of its parts is, so the mouse is never over two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from bokeh.events import DoubleTap, Tap
from bokeh.layouts import column
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    HoverTool,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.models.annotations import ColorBar

from grulens.views.figure import raster
from grulens.views.figure.canvas import Listener, fit, frame, steps, tell, whole_steps
from grulens.views.figure.marks import Marks
from grulens.views.figure.palette import COLORS
from grulens.views.figure.tokens import number, plain
from grulens.views.gates.token_strip import TokenStrip
from grulens.views.phrases.phrase import Phrase, as_score, ink, words
from grulens.words import say

#: A level is drawn this high in pixels while there is room, and no figure is higher than MOST.
LEVEL: Final = 19
MOST: Final = 430
#: Numbers are written where they fit a plot of so many pixels.
WIDTH: Final = 640
NUMBER: Final = 36
SIDES: Final = ("left", "right", "bottom", "top")


class PhraseBoxes:
    """The boxes of a tree of phrases over a strip of its tokens.

    Attributes:
        root: a Bokeh layout.
        figure: the figure of the boxes.
        strip: the `TokenStrip` beneath.
        source: the painted parts of every group, and what the mouse reads off them.
    """

    def __init__(self) -> None:
        self.x_range: Any = steps()
        self.y_range: Any = Range1d(start=0, end=1, min_interval=1)
        self._phrase_listeners: list[Callable[[Phrase], object]] = []
        self._time_listeners: list[Listener] = []
        self._groups: Sequence[Phrase] = ()
        fields = (*SIDES, "score", "text", "number", "together", "steps", "merge")
        self.source = ColumnDataSource({field: [] for field in fields})
        self.outlines = ColumnDataSource({side: [] for side in SIDES})
        self.numbers = ColumnDataSource({field: [] for field in ("x", "y", "number", "ink")})
        self.figure = self._draw()
        self.strip = TokenStrip(x_range=self.x_range)
        self.strip.root.name = say("tokens, coloured by what each contributes alone")
        self.root = column(self.figure, self.strip.root, sizing_mode="stretch_width")

    def on_phrase(self, listener: Callable[[Phrase], object]) -> None:
        """Call `listener(group)` when a person taps a box."""
        self._phrase_listeners.append(listener)

    def on_times(self, listener: Listener) -> None:
        """Call `listener(times)` when a person chooses tokens, () for all."""
        self._time_listeners.append(listener)
        self.strip.on_times(listener)

    def update(
        self,
        groups: Sequence[Phrase],
        *,
        tokens: Sequence[object] | None = None,
        title: str = "",
    ) -> None:
        """Show another tree.

        Args:
            groups: every token in order, and then every merge.
            tokens: (time,), what to call each token; None is its number.
            title: over the figure.

        >>> from grulens.probing.phrases.merging import Group
        >>> boxes = PhraseBoxes()
        >>> two = [Group(0, 1, 0.2), Group(1, 2, 0.5), Group(0, 2, -0.4, -1.1, (0, 1), 1, 1)]
        >>> boxes.update(two, tokens=["not", "good"])
        >>> boxes.source.data["text"], boxes.numbers.data["number"]
        (['not good', 'not good'], ['−0.40'])
        """
        self._groups = tuple(groups)
        singles = [group for group in groups if not group.order]
        scores = np.array([group.score for group in singles] or [0.0])
        every = np.array([group.score for group in groups] or [0.0])
        ends = raster.symmetric(every, 1e-9)
        self.mapper.update(low=ends[0], high=ends[1])
        low, high = map(number, ends)
        self.bar.title = say("score, {low} to {high}", low=low, high=high)
        self.figure.title.text = plain(title)
        fit(self.x_range, len(scores))
        levels = max((group.height for group in groups), default=0) or 1
        top = levels + 0.15
        self.y_range.bounds = (0, top)  # first: BokehJS keeps a range within its bounds
        self.y_range.update(start=0, end=top, reset_start=0, reset_end=top)
        self.figure.height = 96 + min(MOST, LEVEL * max(levels, 3))
        self._paint(tokens, levels, len(singles), ends)
        self.strip.update(
            scores, signal="difference", tokens=tokens if singles else None, ends=ends,
            name=say("alone"), mask=None if singles else np.zeros(1, dtype=bool),
        )  # fmt: skip
        self.select()

    def select(self, times: Iterable[int] = ()) -> None:
        """Outline these tokens, and the group that holds exactly them; tells no listener."""
        chosen = tuple(sorted({int(t) for t in times}))
        self.strip.select(chosen)
        self._marks.show(
            (group.first - 0.5, group.stop - 0.5, group.height, 0)
            for group in self._groups
            if group.order and chosen == tuple(range(group.first, group.stop))
        )

    def at(self, x: float | int, y: float | int) -> Phrase | None:
        """The group that is painted at a place of the figure."""
        step = round(x)
        over = [g for g in self._groups if g.order and g.first <= step < g.stop and y <= g.height]
        return min(over, key=lambda group: group.height, default=None) if y >= 0 else None

    # ── drawing ──────────────────────────────────────────────────────────────────────────────

    def _draw(self) -> Any:
        zoom, wheel = (
            BoxZoomTool(dimensions="width"),
            WheelZoomTool(dimensions="width", modifiers="ctrl"),
        )
        root = frame(
            height=96 + 3 * LEVEL,
            tools=[zoom, PanTool(dimensions="width"), wheel, ResetTool()],
            active_drag=zoom,
            active_scroll=wheel,
            toolbar_location="above",
            toolbar_sticky=False,
            x_range=self.x_range,
            y_range=self.y_range,
            x_axis_label=say("step"),
            title="",
            name=say("phrases within phrases"),
        )
        root.yaxis.visible = False
        whole_steps(root.xaxis)
        self.mapper = LinearColorMapper(palette=COLORS["difference"], low=-1, high=1)
        painted = root.quad(
            *SIDES, source=self.source, line_color=None,
            fill_color={"field": "score", "transform": self.mapper},
        )  # fmt: skip
        # grey on grey of one half: an outline that is seen on light and dark boxes
        root.quad(*SIDES, source=self.outlines, fill_color=None, line_color="#7F7F7F",
                  line_width=1)  # fmt: skip
        root.text("x", "y", "number", source=self.numbers, text_color="ink", text_align="center",
                  text_baseline="middle", text_font_size="11px")  # fmt: skip
        self.bar = ColorBar(
            color_mapper=self.mapper, width=12, padding=4, title=say("score"),
            title_text_font_size="12px", title_text_font_style="normal",
            major_label_text_font_size="11px",
        )  # fmt: skip
        root.add_layout(self.bar, "right")
        self._marks = Marks(root, dash="solid")
        fields = [(say("phrase"), "@text"), (say("steps"), "@steps"), (say("score"), "@number"),
                  (say("together"), "@together"), (say("merge"), "@merge")]  # fmt: skip
        root.add_tools(HoverTool(renderers=[painted], tooltips=fields, point_policy="follow_mouse"))
        root.on_event(Tap, self._tapped)
        root.on_event(DoubleTap, lambda _: tell(self._time_listeners, ()))
        return root

    def _paint(
        self,
        tokens: Sequence[object] | None,
        levels: int,
        count: int,
        ends: tuple[float, float],
    ) -> None:
        painted: dict[str, list[Any]] = {field: [] for field in self.source.data}
        outlines: dict[str, list[Any]] = {side: [] for side in SIDES}
        numbers: dict[str, list[Any]] = {field: [] for field in self.numbers.data}
        level = min(MOST, LEVEL * max(levels, 3)) / levels
        for group in self._groups:
            if not group.order:
                continue
            text = words(tokens, group)
            span = say("{low} to {high}", low=group.first, high=group.stop - 1)
            for part in (self._groups[place] for place in group.parts):
                sides = (part.first - 0.5, part.stop - 0.5, part.height, group.height)
                about = (group.score, text, as_score(group.score), as_score(group.interaction),
                         span, group.order)  # fmt: skip
                for field, value in zip(painted, (*sides, *about), strict=True):
                    painted[field].append(value)
            box = (group.first - 0.5, group.stop - 0.5, 0, group.height)
            for side, value in zip(SIDES, box, strict=True):
                outlines[side].append(value)
            room = (group.stop - group.first) * WIDTH / max(1, count)
            if room >= NUMBER and level >= 13:
                place = (group.first + group.stop - 1) / 2, group.height - 0.5
                told = (*place, as_score(group.score), ink(group.score, ends))
                for field, value in zip(numbers, told, strict=True):
                    numbers[field].append(value)
        self.source.data, self.outlines.data, self.numbers.data = painted, outlines, numbers

    # ── what a person does ───────────────────────────────────────────────────────────────────

    def _tapped(self, event: Any) -> None:
        group = self.at(event.x, event.y)
        if group is not None:
            for listener in tuple(self._phrase_listeners):
                listener(group)
