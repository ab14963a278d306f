"""By which of the four ways a state enters the next one, step by step.

size │ ─────╲__   leak (z), update gate, candidate, reset gate: each in the colour of the
     │ __╱‾‾‾‾‾‾  signal it goes through
     └───────────
       state after step
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.models.annotations import LegendItem
from jaxtyping import Bool, Float

from grulens.views.figure import raster
from grulens.views.figure.canvas import fit, frame, legend, steps, stretch, whole_steps
from grulens.views.figure.palette import ACCENT
from grulens.views.figure.tokens import plain
from grulens.words import say, say_as

#: Each way, and the role of the signal it goes through; dashes too, for those who see no colours.
WAYS: Final = {
    "leak": ("state", "solid"), "update": ("keep", "dashed"),
    "candidate": ("candidate", "dotdash"), "reset": ("reset", "dotted"),
}  # fmt: skip
POINTS: Final = 2 * raster.COLUMNS


class PathLines:
    """The size of each way at every step.

    Attributes:
        root: the Bokeh figure.
        source: step, and the size of each way.
    """

    def __init__(self, *, x_range: Any = None) -> None:
        self.x_range: Any = x_range or steps()
        self.source = ColumnDataSource({name: [] for name in ("step", *WAYS)})
        self.root = frame(
            height=190, x_range=self.x_range, y_range=Range1d(start=0, end=1),
            x_axis_label=say("step"), y_axis_label=say("size"), title="",
            name=say("ways into the next state"),
        )  # fmt: skip
        whole_steps(self.root.xaxis)
        self.root.ygrid.visible = True
        said = {
            "leak": say_as("way", "leak"), "update": say_as("way", "update"),
            "candidate": say("candidate"), "reset": say_as("way", "reset"),
        }  # fmt: skip
        items: list[LegendItem] = []
        first: Any = None
        for name, (role, dash) in WAYS.items():
            line = self.root.line(
                "step", name, source=self.source, line_color=ACCENT[role], line_width=2,
                line_dash=dash,
            )  # fmt: skip
            items.append(LegendItem(label=said[name], renderers=[line]))
            first = first or line
        self.root.add_layout(legend(items), "above")
        fields = [(say("step"), "@step"), *((said[name], f"@{name}{{0.000}}") for name in WAYS)]
        self.root.add_tools(HoverTool(renderers=[first], mode="vline", tooltips=fields))

    def update(
        self,
        sizes: dict[str, Float[np.ndarray, " time"]],
        *,
        mask: Bool[np.ndarray, " time"],
        title: str = "",
    ) -> None:
        """Show other sizes, of the steps that the mask has.

        >>> lines = PathLines()
        >>> lines.update({name: np.ones(3) for name in WAYS}, mask=np.array([True, True, False]))
        >>> lines.source.data["leak"].tolist()
        [1.0, 1.0]
        """
        fit(self.x_range, len(mask))
        at = np.flatnonzero(mask)
        at = at[:: -(-len(at) // POINTS) or 1]
        shown = {name: np.asarray(sizes[name])[at] for name in WAYS}
        self.source.data = {"step": at, **shown}
        stretch(self.root.y_range, np.concatenate(list(shown.values())), 0.0, 1e-3)
        self.root.title.text = plain(title)
