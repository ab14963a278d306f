"""How long every unit holds its state, the longest first, on an axis of powers of ten.

    steps │ ▲ ┬                  ● half-life at the mean share kept
     100  │   ●  ┬               ─ of its single steps: the middle of them and the outer quantiles
       1  │   ┴  ●  ┬
          └────────────────
             units, by falling half-life

An axis of powers of ten holds neither 0 nor infinity: those stand at its ends, as triangles.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import numpy as np
from bokeh.models import BoxSelectTool, ColumnDataSource, CustomJSTickFormatter, HoverTool, Range1d
from jaxtyping import Float

from grulens.durations import steps
from grulens.views.figure.canvas import (
    Listener,
    Positions,
    fit,
    frame,
    inside,
    log_ticks,
    set_data,
    tapped,
    tell,
    whole_steps,
)
from grulens.views.figure.choosing import Ends, on_choosing
from grulens.views.figure.marks import rings
from grulens.views.figure.palette import ACCENT
from grulens.views.figure.tokens import plain
from grulens.words import message, say

#: What lies beyond stands at the end: nobody reads a half-life of a million steps.
ENDS: Final = (1e-2, 1e4)
_UNIT_JS: Final = "return `${lives.data.unit[tick] ?? ''}`"


class HalfLives:
    """One column a unit: the half-life, and how it varies from step to step.

    Attributes:
        root: the Bokeh figure.
        source: unit, half-life and quantiles of each column.
        units: the selected units.
    """

    def __init__(self, *, height: int = 240) -> None:
        self._listeners: list[Listener] = []
        self._order: list[int] = []
        self.units: Positions = ()
        fields = ("place", "unit", "life", "low", "middle", "high", "at", "from", "mid", "to")
        self.source = ColumnDataSource({name: [] for name in (*fields, "marker")})
        self.chosen = ColumnDataSource({"place": [], "at": []})
        self.root = self._draw(height)
        on_choosing(
            self.root,
            tap=self._tapped,
            drag=self._dragged,
            clear=partial(tell, self._listeners, ()),
        )

    def on_units(self, listener: Listener) -> None:
        """Call `listener(units)` when a person chooses units; never from `select`."""
        self._listeners.append(listener)

    def update(
        self,
        half_life: Float[np.ndarray, " unit"],
        spread: Float[np.ndarray, "unit 3"],
        *,
        quantiles: tuple[float, ...] = (0.1, 0.5, 0.9),
        layer: str = "",
        noun: str = "unit",
    ) -> None:
        """Show other half-lives.

        Args:
            half_life: (unit,), in steps; 0, infinity and NaN are allowed.
            spread: (unit, 3), of single steps: a low quantile, the middle, a high one.
            quantiles: which quantiles these are, said in the tooltip.
            layer: named in the title.
            noun: what each column is.

        >>> lives = HalfLives()
        >>> lives.update(np.array([2.0, np.inf, 0.0]), np.ones((3, 3)))
        >>> lives.source.data["unit"], lives.source.data["marker"]
        ([1, 0, 2], ['triangle', 'circle', 'inverted_triangle'])
        """
        order = np.argsort(-np.nan_to_num(half_life, nan=-1.0), kind="stable")
        self._order = order.tolist()
        life, parts = half_life[order], spread[order]
        known = np.concatenate([half_life, spread.ravel()])
        known = known[(known >= ENDS[0]) & (known <= ENDS[1])]
        low, high = (float(known.min()) / 2, float(known.max()) * 2) if known.size else (0.1, 10.0)

        def at(values: Float[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
            return values.clip(low, high)

        self.source.data = {
            "place": np.arange(len(order)),
            "unit": self._order,
            **{
                name: [steps(v, message("never forgets")) for v in values.tolist()]
                for name, values in zip(("life", "low", "middle", "high"), (life, *parts.T),
                                        strict=True)
            },
            **{
                name: at(values)
                for name, values in zip(("at", "from", "mid", "to"), (life, *parts.T), strict=True)
            },
            "marker": [_marker(v, low, high) for v in life.tolist()],
        }  # fmt: skip
        fit(self.root.x_range, len(order))
        self.root.y_range.update(start=low / 1.5, end=high * 1.5)
        log_ticks(self.root.yaxis, low / 1.5, high * 1.5)
        self._quantiles = tuple(
            say("{share}% of its steps up to", share=f"{100 * q:g}") for q in quantiles
        )
        self._hover.tooltips = [
            (say(noun), "@unit"), (say("half-life"), "@life"),
            *zip(self._quantiles, ("@low", "@middle", "@high"), strict=True),
        ]  # fmt: skip
        noun = say(noun)
        self.root.name = say("half-life of every {noun}", noun=noun)
        self.root.xaxis.axis_label = say("{noun}, the longest first", noun=noun)
        title = say("half-life of each {noun}", noun=noun)
        self.root.title.text = plain(f"{title} · {layer}" if layer else title)
        self.select(self.units)

    def select(self, units: Iterable[int] = ()) -> None:
        """Ring these units; tells no listener."""
        self.units = tuple(sorted({int(u) for u in units}))
        places = [place for place, unit in enumerate(self._order) if unit in self.units]
        marked = {"place": places, "at": [float(self.source.data["at"][p]) for p in places]}
        set_data(self.chosen, marked)

    # ── drawing ──────────────────────────────────────────────────────────────────────────────

    def _draw(self, height: int) -> Any:
        box = BoxSelectTool(renderers=[], dimensions="width", description=say("drag: choose units"))
        root = frame(
            height=height, tools=[box], active_drag=box, min_border_right=16,
            x_range=Range1d(start=-0.5, end=0.5), y_range=Range1d(start=0.1, end=10),
            y_axis_type="log", y_axis_label=say("steps"),
            title="",
        )  # fmt: skip
        root.ygrid.visible = True
        whole_steps(root.xaxis)
        args = {"lives": self.source}
        root.xaxis.formatter = CustomJSTickFormatter(args=args, code=_UNIT_JS)
        root.segment(
            "place", "from", "place", "to", source=self.source, line_color=ACCENT["keep"],
            line_alpha=0.45, line_width=2,
        )  # fmt: skip
        root.scatter(
            "place", "mid", source=self.source, marker="dash", size=7, line_color=ACCENT["keep"]
        )
        dots = root.scatter(
            "place", "at", source=self.source, marker="marker", size=6, fill_color=ACCENT["keep"],
            line_color=None,
        )  # fmt: skip
        rings(root, "place", "at", self.chosen, 12)
        self._hover = HoverTool(renderers=[dots], mode="vline")
        root.add_tools(self._hover)
        return root

    # ── what a person does ───────────────────────────────────────────────────────────────────

    def _tapped(self, event: Any) -> None:
        place = round(event.x)
        if 0 <= place < len(self._order):
            tell(self._listeners, tapped(event, self._order[place], self.units))

    def _dragged(self, x: Ends, _: Ends) -> None:
        tell(self._listeners, (self._order[place] for place in inside(*x, len(self._order))))


def _marker(value: float, low: float, high: float) -> str:
    return "triangle" if value > high else "inverted_triangle" if value < low else "circle"
