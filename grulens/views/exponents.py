"""A Lyapunov spectrum: the exponents from the largest down, each with its convergence band.

Above zero neighbouring trajectories part, below they come together.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.models.annotations import Span
from jaxtyping import Float

from grulens.views.canvas import fit, frame, stretch, whole_steps
from grulens.views.palette import BEFORE, RECURRENT
from grulens.views.tokens import plain

SIZE: Final = 170


class Exponents:
    """One point an exponent.

    Attributes:
        root: the Bokeh figure, hidden until there is something to show.
        source: number, exponent, and the ends of its band.
    """

    def __init__(self) -> None:
        self.source = ColumnDataSource({n: [] for n in ("number", "value", "low", "high")})
        self.root: Any = frame(
            height=SIZE, sizing_mode="fixed", frame_width=SIZE, frame_height=SIZE, title="",
            min_border_left=46, min_border_right=4, min_border_top=28, visible=False,
            x_range=Range1d(start=-0.5, end=0.5), y_range=Range1d(start=-1, end=1),
            x_axis_label="number", y_axis_label="exponent, a step",
            name="Lyapunov exponents",
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
        said = [("exponent", "@number: @value{0.0000}"), ("band", "@low{0.0000} to @high{0.0000}")]
        self.root.add_tools(HoverTool(renderers=[dots], tooltips=said, limit=2))

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
        self.source.data = {
            "number": np.arange(len(values)),
            "value": values,
            "low": values - band,
            "high": values + band,
        }
        fit(self.root.x_range, len(values))
        # a unit that forgets at once has no finite exponent: the others are what is looked at
        stretch(self.root.y_range, values[np.isfinite(values)], 0.0, 0.0)
        self.root.title.text = plain(title)
        self.root.visible = len(values) > 0
