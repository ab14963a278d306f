"""Where from 0 to 1 the gates spend their time: all units as bars, the selected ones as lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.models.annotations import LegendItem
from jaxtyping import Float

from grulens.cells.signal import Signal
from grulens.views.figure.canvas import frame, legend
from grulens.views.figure.palette import ACCENT
from grulens.words import say


class GateHistograms:
    """A histogram of each gate, under each other.

    Args:
        gates: the gates of the layer's cell.
        height: of each histogram, in pixels.

    Attributes:
        root: a Bokeh column.
        sources: left, right, all and chosen of each bar, by the gate's name.
    """

    def __init__(self, gates: Sequence[Signal], *, height: int = 165) -> None:
        empty: dict[str, Any] = {"left": [], "right": [], "all": [], "chosen": []}
        self.sources = {gate.name: ColumnDataSource(empty) for gate in gates}
        self._figures = {gate.name: self._draw(gate, height) for gate in gates}
        self.root = column(*self._figures.values(), sizing_mode="stretch_width")

    def update(
        self,
        edges: Float[np.ndarray, " edge"],
        everything: dict[str, Float[np.ndarray, " bin"]],
        chosen: dict[str, Float[np.ndarray, " bin"]] | None = None,
    ) -> None:
        """Show other shares of time.

        Args:
            edges: (bin + 1,), where the bars begin, and where the last one ends.
            everything: of each gate by name, the share of time of each bar (bin,), over all units.
            chosen: the same of the selected units; None draws no line.

        >>> bars = GateHistograms([Signal("z", "update gate", 0.0, 1.0, "keep")])
        >>> bars.update(np.array([0, 0.5, 1]), {"z": np.array([0.5, 0.5])})
        >>> bars.sources["z"].data["all"].tolist()
        [0.5, 0.5]
        """
        for gate, source in self.sources.items():
            line = np.full_like(everything[gate], np.nan) if chosen is None else chosen[gate]
            source.data = {
                "left": edges[:-1], "right": edges[1:], "all": everything[gate], "chosen": line,
            }  # fmt: skip
            top = np.nanmax(np.append(everything[gate], line), initial=0.0)
            self._figures[gate].y_range.end = 1.08 * (float(top) or 1.0)

    def _draw(self, gate: Signal, height: int) -> Any:
        root = frame(
            height=height, x_range=Range1d(start=0, end=1), y_range=Range1d(start=0, end=1),
            min_border_right=16, y_axis_label=say("share of time"),
            name=say("histogram of the {signal}", signal=gate.said),
        )  # fmt: skip
        root.ygrid.visible = True
        source = self.sources[gate.name]
        bars = root.quad(
            left="left", right="right", top="all", bottom=0, source=source,
            fill_color=ACCENT[gate], fill_alpha=0.55, line_color=None,
        )  # fmt: skip
        # white within black: seen on the bars and on either ground
        chosen = [
            root.quad(
                left="left", right="right", top="chosen", bottom="chosen", source=source,
                fill_color=None, line_color=color, line_width=width,
            )
            for color, width in (("white", 4.0), ("black", 2.0))
        ]  # fmt: skip
        items = [
            LegendItem(label=say("{signal}, all units", signal=gate.called), renderers=[bars]),
            LegendItem(label=say("selected"), renderers=chosen),
        ]
        root.add_layout(legend(items), "above")
        span = say("{low} to {high}", low="@left{0.00}", high="@right{0.00}")
        fields = [(say("from"), span), (say("all units"), "@all{0.0 %}"),
                  (say("selected"), "@chosen{0.0 %}")]  # fmt: skip
        root.add_tools(HoverTool(renderers=[bars], tooltips=fields))
        return root
