"""What stands at some places of a corpus: a line of tokens for each, under each other.

0.998 │ d o c s t r i n g ␣ o f ␣     a colour is the value at the step; pale where none is known
0.997 │ " " " R e a d ␣ t h e ␣ f
└────────────────────────── step
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d
from jaxtyping import Float

from grulens.views.figure import raster
from grulens.views.figure.canvas import frame
from grulens.views.figure.palette import NAN_CODE, PALETTE, WHITE_INK
from grulens.views.figure.tokens import plain, visible_text
from grulens.words import say

#: So many lines at most; so many characters of a token.
LINES: Final = 40
CUT: Final = 6
ROW: Final = 20
#: What has no value is drawn on this, and written in black.
PALE: Final = "#EFEFEF"

Tokens = Sequence[Sequence[str] | None]
"""What was read at the steps of each line; None where that is not known."""
Values = Float[np.ndarray, "line step"]
"""The value at each step of each line; NaN where it is not known, or there is no step."""


def inks(values: Values, signal: str, ends: tuple[float, float]) -> tuple[list[Any], list[Any]]:
    """The ground and the ink of each step (line, step).

    >>> inks(np.array([[np.nan, 1.0]]), "weight", (0.0, 1.0))
    ([['#EFEFEF', '#3E0C29']], [['#000', '#fff']])
    """
    codes = raster.encode(values, ends).tolist()
    ground = [[PALE if c == NAN_CODE else PALETTE[signal][c] for c in line] for line in codes]
    white = WHITE_INK[signal]
    return ground, [["#fff" if white[code] else "#000" for code in line] for line in codes]


class Contexts:
    """Lines of tokens, each on the colour of its value.

    Attributes:
        root: the Bokeh figure.
        source: line, step, token and value of each step, and its colours.
    """

    def __init__(self) -> None:
        fields = ("line", "step", "token", "shown", "value", "name", "ground", "ink")
        self.source = ColumnDataSource({field: [] for field in fields})
        self.root: Any = frame(
            height=2 * ROW, x_range=Range1d(start=-0.5, end=0.5),
            y_range=Range1d(start=0.5, end=-0.5), title="", name=say("contexts"),
        )  # fmt: skip
        self.root.rect(
            "step", "line", width=1, height=0.92, source=self.source, fill_color="ground",
            line_color=None,
        )  # fmt: skip
        self.root.text(
            "step", "line", text="shown", source=self.source, text_color="ink",
            text_font="monospace", text_font_size="11px", text_align="center",
            text_baseline="middle",
        )  # fmt: skip
        self.root.add_tools(
            HoverTool(tooltips=[
                (say("token"), "@token"), (say("step"), "@step"), (say("value"), "@value{0.0000}"),
                (say("line"), "@name"),
            ])
        )  # fmt: skip

    def update(
        self,
        names: Sequence[str],
        lengths: Sequence[int],
        tokens: Tokens,
        values: Values,
        *,
        signal: str,
        ends: tuple[float, float],
        down: str,
        across: str = "step",
        title: str = "",
    ) -> None:
        """Show other lines; the first 40 of them.

        Args:
            names: (line,), what to call each line.
            lengths: (line,), how many steps each has.
            tokens: (line,), what was read at each step.
            values: (line, step), NaN where it is not known.
            signal: whose colours; "weight" or the role of a signal.
            ends: the values at the ends of the colours.
            down: what the names are.
            across: what the steps are counted from.
            title: over the figure.

        >>> view = Contexts()
        >>> some = np.array([[0.5, 1.0], [0.25, np.nan]])
        >>> view.update(["a", "b"], [2, 1], [["x", "y"], None], some, signal="weight",
        ...             ends=(0.0, 1.0), down="value")
        >>> view.source.data["token"], view.source.data["line"]
        (['x', 'y', ''], [0, 0, 1])
        """
        grounds, colors = inks(values, signal, ends)
        data: dict[str, list[Any]] = {field: [] for field in self.source.data}
        count = min(len(names), LINES)
        for line in range(count):
            texts = tokens[line]
            for step in range(lengths[line]):
                text = None if texts is None else texts[step]
                data["line"].append(line)
                data["step"].append(step)
                data["token"].append("" if text is None else visible_text(text))
                data["shown"].append("" if text is None else visible_text(text, CUT))
                data["value"].append(float(values[line, step]))
                data["name"].append(names[line])
                data["ground"].append(grounds[line][step])
                data["ink"].append(colors[line][step])
        self.source.data = data
        root = self.root
        root.height = 110 + ROW * count
        root.x_range.update(start=-0.5, end=max([*lengths[:count], 1]) - 0.5)
        root.y_range.update(start=max(count, 1) - 0.5, end=-0.5)
        root.yaxis.ticker = FixedTicker(ticks=list(range(count)))
        root.yaxis.major_label_overrides = {i: plain(names[i]) for i in range(count)}
        if len(names) > count:
            title += f" · {say('the first {shown} of {n}', shown=count, n=len(names))}"
        root.title.text = plain(title)
        root.yaxis.axis_label, root.xaxis.axis_label = plain(say(down)), plain(say(across))
