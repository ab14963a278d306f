"""The modes of a fixed point: its eigenvalues in the complex plane, with the circle of no change.

What lies inside the circle dies away, what lies outside grows; off the real axis it turns. A grey
diamond lies on it, as far as rounding lets anybody see.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from jaxtyping import Bool, Complex, Float

from grulens.durations import steps
from grulens.views.figure.canvas import frame
from grulens.views.figure.palette import ACCENT, BEFORE, RECURRENT
from grulens.views.figure.tokens import plain
from grulens.words import message, say

SIZE: Final = 170


class Spectrum:
    """Eigenvalues of one point.

    Attributes:
        root: the Bokeh figure, hidden until there is something to show.
        source: re, im, modulus, steps and turn of every eigenvalue.
    """

    def __init__(self) -> None:
        self.source = ColumnDataSource(
            {n: [] for n in ("re", "im", "modulus", "steps", "turn", "color", "shape")}
        )
        self.root = self._draw()

    def update(
        self,
        values: Complex[np.ndarray, " unit"],
        marginal: Bool[np.ndarray, " unit"],
        title: str = "",
    ) -> None:
        """Show these eigenvalues; of the marginal ones rounding hides on which side they are.

        >>> spectrum = Spectrum()
        >>> spectrum.update(np.array([0.5 + 0j]), np.array([False]))
        >>> spectrum.source.data["steps"], spectrum.root.visible
        (['1.44 steps'], True)
        """
        size = np.abs(values)
        with np.errstate(divide="ignore"):
            lasts = 1 / np.abs(np.log(size))
            turn = 2 * np.pi / np.abs(np.angle(values))
        self.source.data = {
            "re": values.real,
            "im": values.imag,
            "modulus": size,
            "steps": [steps(last, message("no end")) for last in np.where(marginal, np.inf, lasts)],
            "turn": [
                say("{n} steps", n=f"{t:.1f}") if np.isfinite(t) else say("none") for t in turn
            ],
            "color": [
                BEFORE if open_ else ACCENT["reset"] if m > 1 else RECURRENT
                for m, open_ in zip(size, marginal, strict=True)
            ],
            "shape": ["diamond" if open_ else "circle" for open_ in marginal],
        }
        reach = 1.15 * max(1.0, float(size.max(initial=0.0)))
        self.root.x_range.update(start=-reach, end=reach)
        self.root.y_range.update(start=-reach, end=reach)
        self.root.title.text = plain(title)
        self.root.visible = True

    def _draw(self) -> Any:
        root = frame(
            height=SIZE, sizing_mode="fixed", frame_width=SIZE, frame_height=SIZE, title="",
            min_border_left=46, min_border_right=4, min_border_top=28, visible=False,
            x_range=Range1d(start=-1.15, end=1.15), y_range=Range1d(start=-1.15, end=1.15),
            x_axis_label=say("real part"), y_axis_label=say("imaginary part"),
            name=say("eigenvalues of the fixed point"),
        )  # fmt: skip
        root.height = None
        angle: Float[np.ndarray, " angle"] = np.linspace(0, 2 * np.pi, 181)
        root.line(np.cos(angle), np.sin(angle), line_color=BEFORE, line_dash="dashed")
        dots = root.scatter(
            "re", "im", source=self.source, size=7, marker="shape", fill_color="color",
            fill_alpha=0.75, line_color=None,
        )  # fmt: skip
        fields = [(say("modulus"), "@modulus{0.0000}"), (say("changes by e in"), "@steps"),
                  (say("turns once in"), "@turn")]  # fmt: skip
        root.add_tools(HoverTool(renderers=[dots], tooltips=fields))
        return root
