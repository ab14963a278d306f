"""The class whose answer is explained: the likeliest, or one chosen from a list."""

from __future__ import annotations

from collections.abc import Iterable

from grulens.views.figure.tokens import visible_name
from grulens.widgets.session.class_list import NO_CLASS, ClassList
from grulens.widgets.session.session import Session
from grulens.words import say


class Target(ClassList):
    """A list of the classes of the session's readout, hidden where there is only one.

    Args:
        session: the session whose readout has the classes.

    Attributes:
        control: the list; its value is a class, or -1 for the likeliest.
        klass: the class that is explained.
        classes: how many classes there are; 0 where the output cannot be read.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(say("the likeliest"), say("answer"), max_width="240px")
        self.session = session
        self.klass = self.classes = 0

    def offer(self, step: int) -> None:
        """List what can be chosen at a step of the output; what was chosen stays, if it can."""
        if self.session.unread:
            self.classes = self.klass = 0
            self.control.layout.display = "none"
            return
        answer = self.session.answer_now
        scores = answer.values[min(step, len(answer.values) - 1)]
        self.classes = len(scores)
        first = say("the largest") if answer.scale == "value" else say("the likeliest")
        chosen = self.fill(first, scores, self._names)
        self.klass = int(scores.nan_to_num().argmax()) if chosen == NO_CLASS else chosen
        self.control.layout.display = "none" if self.classes == 1 else None

    def name(self, klass: int) -> str:
        """A class in quotation marks; of one alone, that it is the output."""
        if self.classes == 1:
            return say("output")
        return say("“{name}”", name=self._names([klass])[0])

    def _names(self, some: Iterable[int]) -> list[str]:
        return [*map(visible_name, self.session.answers.names(self.classes, some))]
