r"""How much of the time each unit's gates are shut or open: one dot a unit and gate.

    open  │\            r in its accent, z in its own
     1    │ \ ●         a dot on the line: the gate is always one or the other
          │● \
          │ ●● \
     0    └──────── shut
          0        1

The saturation plot of Karpathy, Johnson and Fei-Fei 2015 (arXiv:1506.02078). Nothing lies beyond
the diagonal, because the two shares add up to 1 at most. Tap: one unit. Shift or ctrl and tap: add
or take away. Drag: all units in the box. Double tap: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any, Final

import numpy as np
from bokeh.models import BoxSelectTool, ColumnDataSource, HoverTool, Range1d
from bokeh.models.annotations import LegendItem
from jaxtyping import Float, Int

from grulens.cells.signal import Signal
from grulens.views.figure.canvas import (
    Listener,
    Positions,
    frame,
    legend,
    set_data,
    tapped,
    tell,
)
from grulens.views.figure.choosing import Ends, on_choosing
from grulens.views.figure.marks import rings
from grulens.views.figure.palette import ACCENT, BEFORE
from grulens.words import say, say_as

MARKERS: Final = ("circle", "square", "triangle", "diamond", "star")
#: A tap this far from every dot, in shares of the axes, means none of them.
REACH: Final = 0.06


class SaturationPlot:
    """Share of time shut against share of time open, for the gates of every unit.

    Args:
        gates: the gates of the layer's cell.
        height: in pixels.

    Attributes:
        root: the Bokeh figure.
        sources: unit, shut and open of each gate's dots, by its name.
        units: the selected units.
    """

    def __init__(self, gates: Sequence[Signal], *, height: int = 330) -> None:
        self._listeners: list[Listener] = []
        self.units: Positions = ()
        empty: dict[str, Any] = {"unit": [], "shut": [], "open": [], "gate": []}
        self._gates = tuple(gates)
        self.sources = {gate.name: ColumnDataSource(empty) for gate in gates}
        self.chosen = ColumnDataSource({"shut": [], "open": []})
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
        shares: Mapping[str, Float[np.ndarray, "2 unit"]],
        *,
        low: float = 0.1,
        high: float = 0.9,
        noun: str = "unit",
    ) -> None:
        """Show other shares.

        Args:
            shares: of each gate by name, the share of time it is shut, and open (2, unit).
            low: under it a gate is shut.
            high: over it a gate is open.
            noun: what each dot is of.

        >>> plot = SaturationPlot([Signal("z", "update gate", 0.0, 1.0, "keep")])
        >>> plot.update({"z": np.array([[0.0], [1.0]])})
        >>> plot.sources["z"].data["open"].tolist()
        [1.0]
        """
        for gate in self._gates:
            shut, open_ = shares[gate.name]
            units = np.arange(len(shut))
            self.sources[gate.name].data = {
                "unit": units,
                "shut": shut,
                "open": open_,
                "gate": [gate.called] * len(units),
            }
        self.root.xaxis.axis_label = say("share of time under {low}", low=f"{low:g}")
        self.root.yaxis.axis_label = say("share of time over {high}", high=f"{high:g}")
        noun = say(noun)
        self.root.name = say("saturation of the gates, a dot a {noun}", noun=noun)
        self._hover.tooltips = [
            (noun, "@unit"), ("", "@gate"), (say("shut"), "@shut{0.0 %}"),
            (say_as("gate", "open"), "@open{0.0 %}"),
        ]  # fmt: skip
        self.select(self.units)

    def select(self, units: Iterable[int] = ()) -> None:
        """Ring these units' dots; tells no listener."""
        self.units = tuple(sorted({int(u) for u in units}))
        marked = {
            name: [
                float(source.data[name][unit])
                for source in self.sources.values()
                for unit in self.units
                if unit < len(source.data["unit"])
            ]
            for name in ("shut", "open")
        }
        set_data(self.chosen, marked)

    # ── drawing ──────────────────────────────────────────────────────────────────────────────

    def _draw(self, height: int) -> Any:
        box = BoxSelectTool(renderers=[], description=say("drag: choose units"))
        root = frame(
            height=height, tools=[box], active_drag=box, min_border_right=16,
            x_range=Range1d(start=-0.03, end=1.03), y_range=Range1d(start=-0.03, end=1.03),
        )  # fmt: skip
        root.grid.visible = True
        root.line([0, 1], [1, 0], line_color=BEFORE, line_width=1, line_dash="dashed")
        items, dots = [], []
        for gate, marker in zip(self._gates, cycle(MARKERS), strict=False):
            drawn = root.scatter(
                "shut", "open", source=self.sources[gate.name], size=8, marker=marker,
                fill_color=ACCENT[gate], fill_alpha=0.7, line_color=None,
            )  # fmt: skip
            # a selection of Bokeh's own is not used, and must not fade the rest
            drawn.nonselection_glyph = None
            items.append(LegendItem(label=gate.called, renderers=[drawn]))
            dots.append(drawn)
        rings(root, "shut", "open", self.chosen, 13)
        root.add_layout(legend(items), "above")
        self._hover = HoverTool(renderers=dots)
        root.add_tools(self._hover)
        return root

    # ── what a person does ───────────────────────────────────────────────────────────────────

    def _tapped(self, event: Any) -> None:
        far = [
            np.hypot(source.data["shut"] - event.x, source.data["open"] - event.y)
            for source in self.sources.values()
            if len(source.data["unit"])
        ]
        if far and float(nearest := np.min(far)) <= REACH:
            unit = int(np.argwhere(np.array(far) == nearest)[0][1])
            tell(self._listeners, tapped(event, unit, self.units))

    def _dragged(self, x: Ends, y: Ends) -> None:
        (left, right), (low, high) = x, y
        within: set[int] = set()
        for source in self.sources.values():
            shut, open_ = (np.asarray(source.data[name]) for name in ("shut", "open"))
            inside = (left <= shut) & (shut <= right) & (low <= open_) & (open_ <= high)
            units: Int[np.ndarray, " unit"] = np.flatnonzero(inside)
            within |= set(units.tolist())
        if within:
            tell(self._listeners, within)
