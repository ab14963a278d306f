"""How a network moves: its states in a plane, and where it stands still.

    states of rnn.l0                                  ● stable   ○ as many ways to leave it
        ●·····○·····●                                 as its number says; arrows: the ways
                                                      ◆ marginal: neither, to rounding
  PC 2  ·╲   ↑↓   ╱·                                  dots: states, coloured by what was asked for
        ○ ──  ③ ── ○        ▒ step                    small arrows: how every point would move
        ●·····○·····●
             PC 1 (43%)

One unit is as long to the right as upwards: distances in the plane are what they look like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from bokeh.core.properties import value
from bokeh.events import Tap
from bokeh.models import ColumnDataSource
from jaxtyping import Float, Int

from grulens.cells.signal import Signal
from grulens.durations import steps
from grulens.views.dynamics.phase_figure import (
    HEIGHT,
    WIDTH,
    PhaseFigure,
    kind_of,
    legend_of,
    mark_of,
)
from grulens.views.figure.palette import COLORS
from grulens.views.figure.tokens import number, plain, visible_name, visible_text
from grulens.words import message, say

#: More dots than this nobody can tell apart, nor more lines.
DOTS: Final = 4000
LINES: Final = 200
#: A click this near to something means it, in pixels. States lie dense: between two of them begins
#: something new.
NEAR_POINT: Final = 10
NEAR_STATE: Final = 5
#: The ends of a signal's map would be lost on a white ground or on a black one.
TIME: Final = COLORS["keep"][40:200]
#: Classes beyond these share the last colour.
CLASSES: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")

Place = tuple[float, float]


class PhasePlot:
    """Trajectories, fixed points and the field of one plane.

    Args:
        colors: whether there is a scale of colours beside it: not where there are no states.

    Attributes:
        root: the Bokeh figure.
        layers: what lies over each other in it.
    """

    def __init__(self, *, colors: bool = True) -> None:
        self._figure = PhaseFigure(colors=colors)
        self.root, self.layers = self._figure.root, self._figure.layers
        self._shown: dict[str, Float[np.ndarray, "any 2"]] = {}
        self._home: tuple[float, ...] = ()

    # ------------------------------------------------------------------ what is shown

    def states(
        self,
        points: Float[np.ndarray, "row time 2"],
        values: Float[np.ndarray, "row time"],
        *,
        colors: Signal | str | list[str],
        ends: tuple[float, float],
        measure: str,
        tokens: Sequence[Sequence[str]] | None = None,
        before: Float[np.ndarray, "row time 2"] | None = None,
        axes: tuple[str, str] = ("", ""),
        title: str = "",
    ) -> None:
        """Show trajectories.

        Args:
            points: (row, time, 2); NaN is no step.
            values: what colours each state (row, time).
            colors: a signal of the cell, "time", or the names of classes that the values number.
            ends: the values of the first and the last colour.
            measure: what the values are.
            tokens: of each row, what to call each step.
            before: the same states without edits, drawn faintly.
            axes: what the two directions are.
            title: above the figure.

        >>> plot = PhasePlot()
        >>> plot.states(np.zeros((1, 3, 2)), np.zeros((1, 3)), colors="time", ends=(0.0, 2.0),
        ...             measure="step")
        >>> list(plot.layers.dots.data["step"])
        [0, 1, 2]
        """
        rows, times = np.nonzero(np.isfinite(points).all(2))
        every = -(-len(rows) // DOTS) or 1
        rows, times = rows[::every], times[::every]
        self.layers.dots.data = {
            "x": points[rows, times, 0],
            "y": points[rows, times, 1],
            "value": values[rows, times],
            "row": rows.tolist(),
            "step": times.tolist(),
            "token": _names(tokens, rows.tolist(), times.tolist()),
        }
        self.layers.paths.data = _lines(points, every)
        self.layers.before.data = _lines(points[:0] if before is None else before, every)
        self._scale(colors, ends, measure)
        self.root.title.text = plain(title)
        self.root.xaxis.axis_label, self.root.yaxis.axis_label = (plain(name) for name in axes)
        all_ = points if before is None else np.concatenate([points, before])
        self._fit("states", all_[np.isfinite(all_).all(-1)])

    def points(
        self,
        places: Float[np.ndarray, "point 2"],
        ways: Int[np.ndarray, " point"],
        *,
        kinds: Sequence[str],
        residual: Float[np.ndarray, " point"],
        slowest: Float[np.ndarray, " point"],
        slow: Float[np.ndarray, "slow 2"] | None = None,
    ) -> None:
        """Show fixed points, and slow ones that are not fixed.

        Args:
            places: (point, 2).
            ways: in how many directions each can be left, 0 for a stable one (point,).
            kinds: what each is, in words: "stable", "unstable in 2", "marginal in 1" (point,).
            residual: how far a step moves each (point,).
            slowest: the longest time constant of each, in steps (point,).
            slow: slow points (slow, 2).
        """
        some = np.zeros((0, 2)) if slow is None else slow
        marks = [mark_of(kind) for kind in kinds]
        self.layers.fixed.data = {
            "x": places[:, 0],
            "y": places[:, 1],
            "fill": [mark.fill for mark in marks],
            "line": [mark.line for mark in marks],
            "shape": [mark.shape for mark in marks],
            "ways": [str(n) if n else "" for n in ways],
            "point": list(range(len(ways))),
            "kind": [kind_of(kind) for kind in kinds],
            "residual": [number(moved, ".2g") for moved in residual.tolist()],
            "slowest": [steps(value, message("for ever")) for value in slowest.tolist()],
        }
        self.layers.slow.data = {"x": some[:, 0], "y": some[:, 1]}
        self._figure.entries["fixed"].update(visible=len(places) > 0, label=value(legend_of(marks)))
        self._figure.entries["slow"].visible = len(some) > 0
        self._fit("points", np.concatenate([places, some]))

    def choose(
        self, place: Place | None, directions: Float[np.ndarray, "direction 2"] | None = None
    ) -> None:
        """Ring a fixed point, and show the directions (direction, 2) in which it is left."""
        self.layers.chosen.data = _one(place)
        found = np.zeros((0, 2)) if directions is None or place is None else directions
        both = np.concatenate([found, -found]) * 34 * self._pixel()
        at = np.zeros((len(both), 2)) if place is None else np.tile(np.array(place), (len(both), 1))
        self.layers.ways.data = _arrows(at, both, np.ones(len(both)))

    def field(
        self,
        at: Float[np.ndarray, "point 2"],
        moves: Float[np.ndarray, "point 2"],
        aside: Float[np.ndarray, " point"],
    ) -> None:
        """Show how points would move; fainter the more of it leads out of the plane."""
        long = np.linalg.norm(moves, axis=1)
        # long steps would hide each other: an arrow's length grows with the root of its step's
        most = np.sqrt(long.max(initial=0.0)) or 1.0
        size = 20 * self._pixel() * np.sqrt(long) / most / np.maximum(long, 1e-300)
        self.layers.field.data = _arrows(at, moves * size[:, None], 1 - 0.85 * aside)

    def trail(self, points: Float[np.ndarray, "step 2"]) -> None:
        """Show a trajectory that a person started; an empty one takes it away."""
        self.layers.trail.data = {"x": points[:, 0], "y": points[:, 1]}
        self._figure.entries["trail"].visible = len(points) > 0

    def here(self, place: Place | None) -> None:
        """Mark the step that is looked at."""
        self.layers.here.data = _one(place)

    def grid(self, count: int = 17) -> Float[np.ndarray, "point 2"]:
        """Points all over what is in sight (point, 2)."""
        x, y = (
            np.linspace(axis.start, axis.end, count + 2)[1:-1]
            for axis in (self.root.x_range, self.root.y_range)
        )
        found: Float[np.ndarray, "point 2"] = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        return found

    # ------------------------------------------------------------------ what a person does

    def on_tap(
        self,
        point: Callable[[int], object],
        step: Callable[[int, int], object],
        place: Callable[[float, float], object],
    ) -> None:
        """Call for a click: on a fixed point, on a state (row, step), or on an empty place."""

        def tapped(event: Any) -> None:
            if event.x is None or event.y is None:
                return
            x, y = float(event.x), float(event.y)
            fixed = self._near(self.layers.fixed, NEAR_POINT, x, y)
            dot = self._near(self.layers.dots, NEAR_STATE, x, y)
            dots: Any = self.layers.dots.data
            if fixed is not None:
                point(fixed)
            elif dot is not None:
                step(int(dots["row"][dot]), int(dots["step"][dot]))
            else:
                place(x, y)

        self.root.on_event(Tap, tapped)

    def _near(self, source: ColumnDataSource, reach: int, x: float, y: float) -> int | None:
        data: Any = source.data
        if not len(data["x"]):
            return None
        away = np.hypot(np.asarray(data["x"], float) - x, np.asarray(data["y"], float) - y)
        nearest = int(away.argmin())
        return nearest if away[nearest] <= reach * self._pixel() else None

    # ------------------------------------------------------------------ colours and ranges

    def _pixel(self) -> float:
        """How much of the plane a pixel covers."""
        return float(self.root.x_range.end - self.root.x_range.start) / WIDTH

    def _scale(
        self, colors: Signal | str | list[str], ends: tuple[float, float], measure: str
    ) -> None:
        mapper, bar = self._figure.mapper, self._figure.bar
        bar.title = plain(say(measure))
        if isinstance(colors, str | Signal):
            low, high = ends
            palette = TIME if colors == "time" else COLORS[colors]
            mapper.update(palette=palette, low=low, high=high if high > low else low + 1)
            ticks = np.linspace(low, high, 5)
            if colors == "time":  # whole steps, or rows
                ticks = np.unique(ticks.round())
            bar.ticker.ticks = ticks.tolist()
            bar.major_label_overrides = {tick: number(tick, ".3g") for tick in ticks.tolist()}
            return
        count = min(len(colors), len(CLASSES))
        words = [visible_name(name, 12) for name in colors[:count]]
        if len(colors) > count:
            words[-1] = say("others")
        mapper.update(palette=list(CLASSES[:count]), low=-0.5, high=count - 0.5)
        bar.ticker.ticks = list(range(count))
        bar.major_label_overrides = dict(enumerate(words))

    def _fit(self, what: str, points: Float[np.ndarray, "any 2"]) -> None:
        """Have all of them in sight; a person's zoom is kept unless there are others."""
        self._shown[what] = points
        places = np.concatenate(list(self._shown.values()))
        if not len(places):
            return
        low, high = places.min(0), places.max(0)
        home = (*(float(v) for v in low), *(float(v) for v in high))
        if home == self._home:
            return
        self._home = home
        pixel = 1.2 * float(max((high - low) / (WIDTH, HEIGHT))) or 1.0 / WIDTH
        for axis, centre, size in (
            (self.root.x_range, float(low[0] + high[0]) / 2, WIDTH),
            (self.root.y_range, float(low[1] + high[1]) / 2, HEIGHT),
        ):
            start, end = centre - pixel * size / 2, centre + pixel * size / 2
            axis.update(start=start, end=end, reset_start=start, reset_end=end)


def _names(tokens: Sequence[Sequence[str]] | None, rows: list[int], times: list[int]) -> list[str]:
    """What each of these steps is called."""
    if tokens is None:
        return [""] * len(rows)
    return [
        visible_text(tokens[r][t]) if t < len(tokens[r]) else ""
        for r, t in zip(rows, times, strict=True)
    ]


def _lines(points: Float[np.ndarray, "row time 2"], every: int) -> dict[str, Any]:
    """Each row as a line; what is no step is no part of it."""
    rows = [row[np.isfinite(row).all(1)][::every] for row in points[:LINES]]
    return {"xs": [row[:, 0] for row in rows], "ys": [row[:, 1] for row in rows]}


def _arrows(
    at: Float[np.ndarray, "arrow 2"],
    moves: Float[np.ndarray, "arrow 2"],
    alpha: Float[np.ndarray, " arrow"],
) -> dict[str, Any]:
    x, y = at.T
    to_x, to_y = (at + moves).T
    # a triangle of angle 0 points upwards
    angle = np.arctan2(moves[:, 1], moves[:, 0]) - np.pi / 2
    return {"x": x, "y": y, "to_x": to_x, "to_y": to_y, "angle": angle, "alpha": alpha}


def _one(place: Place | None) -> dict[str, list[float]]:
    return {"x": [], "y": []} if place is None else {"x": [place[0]], "y": [place[1]]}
