"""How many times as often each label holds at some places as in the corpus: a bar for each.

in_text   │▬▬▬▬▬▬▬▬▬  4.0 times       the axis is a base-2 logarithm: 1 is twice as often,
digit   ▬▬│           0.7             −1 half as often
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d
from bokeh.models.annotations import Span
from jaxtyping import Float

from grulens.views.figure.canvas import frame, stretch
from grulens.views.figure.palette import AGAINST, BEFORE, FOR
from grulens.views.figure.tokens import different, plain, visible_name
from grulens.words import say, say_n

Logs = Float[np.ndarray, " label"]


def rising(logs: Logs) -> tuple[list[int], str]:
    """Which labels have a bar, the largest first; and a sentence on those that have none.

    >>> rising(np.array([1.0, -np.inf, 2.0, np.nan]))
    ([2, 0], '1 holds at none of them, 1 nowhere in the corpus')
    """
    order = [
        int(i) for i in np.argsort(-np.nan_to_num(logs), kind="stable") if np.isfinite(logs[i])
    ]
    never, nowhere = int(np.isneginf(logs).sum()), int(np.isnan(logs).sum())
    said = [say_n("{n} holds at none of them", "{n} hold at none of them", never)] if never else []
    said += [say("{n} nowhere in the corpus", n=nowhere)] if nowhere else []
    return order, say(", ").join(said)


class Lifts:
    """A bar for each label, its length the base-2 logarithm of its lift.

    Attributes:
        root: the Bokeh figure.
        source: label, log, share and chance of each bar.
    """

    def __init__(self) -> None:
        fields = ("row", "label", "log", "lift", "share", "chance", "color")
        self.source = ColumnDataSource({field: [] for field in fields})
        self.root: Any = frame(
            height=120, x_range=Range1d(start=-1, end=1), y_range=Range1d(start=0.5, end=-0.5),
            x_axis_label=say("log2 of how many times as often"), title="",
            name=say("lift of each label"),
        )  # fmt: skip
        self.root.xgrid.visible = True
        self.root.add_layout(Span(location=0, dimension="height", line_color=BEFORE, line_width=1))
        self.root.hbar(y="row", right="log", height=0.7, color="color", source=self.source)
        self.root.add_tools(
            HoverTool(tooltips=[
                (say("label"), "@label"), (say("times as often"), "@lift{0.00}"),
                (say("share of the steps there"), "@share{0.000}"),
                (say("share of all steps"), "@chance{0.000}"),
            ])
        )  # fmt: skip

    def update(
        self, labels: Sequence[str], logs: Logs, share: Logs, chance: Logs, *, title: str = ""
    ) -> None:
        """Show other lifts, the largest first; a label without a finite one is said in the title.

        Args:
            labels: (label,), their names.
            logs: (label,), the base-2 logarithm of each lift.
            share: (label,), the share of the steps there at which it holds.
            chance: (label,), the share of all steps.
            title: over the figure.

        >>> chart = Lifts()
        >>> chart.update(["a", "b"], np.array([-1.0, 2.0]), *np.array([[0.1, 0.4], [0.2, 0.1]]))
        >>> chart.source.data["label"]
        ['b', 'a']
        """
        order, said = rising(logs)
        names = different([visible_name(labels[i]) for i in order])
        self.source.data = {
            "row": list(range(len(order))),
            "label": [visible_name(labels[i], 80) for i in order],
            "log": logs[order], "lift": 2.0 ** logs[order],
            "share": share[order], "chance": chance[order],
            "color": [FOR if logs[i] >= 0 else AGAINST for i in order],
        }  # fmt: skip
        root = self.root
        root.height = 110 + 22 * max(1, len(order))
        root.y_range.update(start=max(1, len(order)) - 0.5, end=-0.5)
        root.yaxis.ticker = FixedTicker(ticks=list(range(len(order))))
        root.yaxis.major_label_overrides = {row: plain(name) for row, name in enumerate(names)}
        stretch(root.x_range, np.append(logs[order], 0.0), None, None)
        root.title.text = plain(title + (f" · {said}" if said else ""))
