"""The class that is asked about, as a list to choose from: the likeliest, or one of all."""

from __future__ import annotations

from typing import Final

import ipywidgets as W

from grulens.views.figure.tokens import visible_name
from grulens.widgets.session.session import Session

#: More classes than this fit no list: the likeliest are offered.
CLASSES: Final = 200
OFFERED: Final = 50
LIKELIEST: Final = -1


class Target:
    """A list of the classes of the session's readout, hidden where there is only one.

    Args:
        session: whose readout it is.

    Attributes:
        control: the list; its value is a class, or -1 for the likeliest.
        klass: the class that is meant.
        classes: how many there are.
        offering: whether the list is being changed by the program, not by a person.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.klass = self.classes = 0
        self.offering = False
        self.control = W.Dropdown(
            options=[("the likeliest", LIKELIEST)], description="answer",
            layout=W.Layout(width="auto", max_width="240px"),
            style={"description_width": "auto"},
        )  # fmt: skip

    def offer(self, step: int) -> None:
        """List what can be chosen at a step of the output; what was chosen stays, if it can."""
        if self.session.unread:
            self.classes = self.klass = 0
            self.control.layout.display = "none"
            return
        values = self.session.answer_now.values
        at = values[min(step, len(values) - 1)]
        self.classes, chosen = len(at), self.control.value
        chosen = chosen if chosen is not None and chosen < self.classes else LIKELIEST
        listed = list(range(self.classes))
        if self.classes > CLASSES:
            listed = at.topk(OFFERED).indices.tolist()
            listed = listed if chosen in (LIKELIEST, *listed) else [chosen, *listed]
        self.klass = int(at.nan_to_num().argmax()) if chosen == LIKELIEST else chosen
        names = self.session.answers.names(self.classes, listed)
        first = "the largest" if self.session.answer_now.scale == "value" else "the likeliest"
        options = [(first, LIKELIEST)]
        options += [(visible_name(n), i) for n, i in zip(names, listed, strict=True)]
        self.offering = True
        try:
            if list(self.control.options) != options:
                self.control.options = options
            self.control.value = chosen
        finally:
            self.offering = False
        self.control.layout.display = "none" if self.classes == 1 else None

    def name(self, klass: int) -> str:
        """A class in quotation marks; of one alone, that it is the output."""
        if self.classes == 1:
            return "output"
        return f"“{visible_name(self.session.answers.names(self.classes, [klass])[0])}”"
