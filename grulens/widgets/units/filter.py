"""The controls that filter a table of units: by number or text, and by the range of a column.

find [3-8, 27]   where [mean z ▾] from [0.8] to [    ]   [clear]     12 of 192 units
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import ipywidgets as W

from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.controls import button, row
from grulens.words import say


class UnitFilter:
    """What a person asks of a table of units.

    Args:
        callbacks: those of the screen, which shows errors.
        asked: called when something else is asked for.
        columns: what can be chosen, (title, name).
        column: the name that is chosen at first.
        placeholder: an example of what is found.
        tooltip: what is found.
        width: of the box of what is found.

    Attributes:
        find: numbers, ranges or a text.
        column: of which column the range is.
        low: its lower end, a text; empty is none.
        high: its upper end.
        clear: empties these.
        count: says how much was found.
        box: all of it in a row.
    """

    def __init__(
        self,
        callbacks: Callbacks,
        asked: Callable[[], object],
        *,
        columns: Sequence[tuple[str, str]],
        column: str,
        placeholder: str,
        tooltip: str,
        width: str,
    ) -> None:
        self.find = W.Text(
            description=say("Find"), placeholder=placeholder, tooltip=tooltip,
            continuous_update=True,
            layout=W.Layout(width=width), style={"description_width": "auto"},
        )  # fmt: skip
        self.column = W.Dropdown(
            options=columns, value=column, description=say("where"),
            style={"description_width": "auto"}, layout=W.Layout(width="auto"),
        )  # fmt: skip
        self.low, self.high = (
            W.Text(description=word, placeholder=say("any"), layout=W.Layout(width="110px"),
                   style={"description_width": "auto"})
            for word in (say("from"), say("to"))
        )  # fmt: skip
        self.count = W.HTML()
        self.clear = button(say("clear"), say("show all units"), callbacks.guard(self._on_clear))
        self.box = row(self.find, self.column, self.low, self.high, self.clear, self.count)
        self._follow = callbacks.guard(lambda _: asked())

    def follow(self) -> None:
        """Call `asked` from now on."""
        for control in (self.find, self.column, self.low, self.high):
            control.observe(self._follow, "value")

    @property
    def ranges(self) -> dict[str, tuple[float | None, float | None]]:
        """The ends of the range by the name of its column; empty where there is none.

        Raises:
            ValueError: one of them is no number.
        """
        low, high = _number(self.low), _number(self.high)
        return {} if low is None and high is None else {self.column.value: (low, high)}

    def tell(self, text: str) -> None:
        """Say how much was found."""
        self.count.value = f'<span role="status">{escape(text)}</span>'

    def _on_clear(self, _: Any) -> None:
        for box in (self.find, self.low, self.high):
            box.value = ""


def _number(box: W.Text) -> float | None:
    """The number in a text box; nothing is None."""
    text = box.value.strip().replace("−", "-").replace(",", ".")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'"{box.description}" must be a number or empty, got {text!r}') from None
