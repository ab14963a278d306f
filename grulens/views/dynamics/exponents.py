"""A Lyapunov spectrum: the exponents from the largest down, each with its convergence band.

Above zero neighbouring trajectories part, below they come together.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.models.annotations import Span
from jaxtyping import Float

from grulens.views.figure.canvas import fit, frame, stretch, whole_steps
from grulens.views.figure.palette import BEFORE, RECURRENT
from grulens.views.figure.tokens import plain
from grulens.words import say

SIZE: Final = 170


class Exponents:
    """One point an exponent.

    Args:
        size: pixels of either side.

    Attributes:
        root: the Bokeh figure, hidden until there is something to show.
        source: number, exponent, and the ends of its band.
    """

    def __init__(self, size: int = SIZE) -> None:
        self.source = ColumnDataSource({n: [] for n in ("number", "value", "low", "high")})
        self.root: Any = frame(
            height=size, sizing_mode="fixed", frame_width=size, frame_height=size, title="",
            min_border_left=46, min_border_right=4, min_border_top=28, visible=False,
            x_range=Range1d(start=-0.5, end=0.5), y_range=Range1d(start=-1, end=1),
            x_axis_label=say("number"), y_axis_label=say("exponent, a step"),
            name=say("Lyapunov exponents"),
        )  # fmt: skip
        self.root.height = None
        whole_steps(self.root.xaxis)
        self.root.add_layout(
            Span(location=0, dimension="width", line_color=BEFORE, line_dash="dashed")
        )
        self.root.segment(
            "number", "low", "number", "high", source=self.source, line_color=BEFORE, line_width=2
        )
        dots = self.root.scatter("number", "value", source=self.source, size=5, color=RECURRENT)
        fields = [
            (say("exponent"), "@number: @value{0.0000}"),
            (say("band"), say("{low} to {high}", low="@low{0.0000}", high="@high{0.0000}")),
        ]
        self.root.add_tools(HoverTool(renderers=[dots], tooltips=fields, limit=2))

    def update(
        self,
        values: Float[np.ndarray, " unit"],
        band: Float[np.ndarray, " unit"],
        title: str = "",
    ) -> None:
        """Show a spectrum; none takes it away.

        >>> figure = Exponents()
        >>> figure.update(np.array([0.1, -0.5]), np.array([0.01, 0.02]))
        >>> figure.source.data["high"].tolist(), figure.root.visible
        ([0.11, -0.48], True)
        """
        # what a step forgets altogether has no place on an axis: it is fields instead
        there = np.isfinite(values)
        self.source.data = {
            "number": np.flatnonzero(there),
            "value": values[there],
            "low": (values - band)[there],
            "high": (values + band)[there],
        }
        fit(self.root.x_range, len(values))
        stretch(self.root.y_range, values[there], 0.0, 0.0)
        gone = len(values) - int(there.sum())
        self.root.title.text = plain(title + (f" · {say('{n} are −∞', n=gone)}" if gone else ""))
        self.root.visible = len(values) > 0
