"""The classes that a layer's states can be weighed toward, as a list to choose from."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from grulens.errors import ReadoutError, WeightsChangedError
from grulens.models.restore.standing import Standing
from grulens.probing.readout.head import Head, head_of
from grulens.views.figure.tokens import visible_name
from grulens.widgets.session.class_list import NO_CLASS, ClassList, numbered
from grulens.widgets.session.session import Session
from grulens.words import message, say

FIRST: Final = message("no class: mean over units")


class Directions(ClassList):
    """A list of classes, hidden where no linear readout of the layer is found.

    Args:
        session: its model is run once for each layer, to find what reads it.

    Attributes:
        control: the list; its value is a class, or -1.
        why: why there is no class to choose; "" if there is.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(say(FIRST), say("weigh toward"))
        self.session = session
        self.why = ""
        self._heads: dict[tuple[str, Standing], Head] = {}
        self._refused: tuple[object, str] | None = None

    def offer(self) -> None:
        """List what can be chosen for the layer shown; what was chosen stays, if it can."""
        head, self.why = self._find()
        if head is None:
            self.fill(say(FIRST), torch.empty(0), lambda _: [])
        else:
            now, t = self.session.now, self.session.step
            h = now.h[self.session.row, min(t, now.shape[1] - 1)]
            names = self._names(len(head.weight))
            self.fill(say(FIRST), head(h.detach()), lambda some: [names[i] for i in some])
        self.control.layout.display = "none" if head is None else None

    @property
    def chosen(self) -> tuple[Tensor, str] | None:
        """The direction (unit,) in which the chosen class is read, and its name."""
        place = self.control.value
        if place == NO_CLASS:
            return None
        weight = self._heads[self.session.layer, self.session.standing].weight
        return weight[place], self._names(len(weight))[place]

    def _find(self) -> tuple[Head | None, str]:
        """What reads the layer, or why that is not known."""
        session = self.session
        layer, place = session.layer, (session.layer, session.standing)
        if place in self._heads:
            return self._heads[place], ""
        # what was found is of these weights; a refusal holds for this input only
        if self._refused is not None and self._refused[0] == (layer, id(session.baseline)):
            return None, self._refused[1]
        try:
            with session.studying():
                head = head_of(session.model, layer=layer, call=session.call, inputs=session.given)
        except WeightsChangedError as error:
            return None, say("No class to weigh toward: {why}.", why=error)
        except ReadoutError as error:
            # behind the semicolon stands what to do where a readout is an argument: not here
            why = say("No class to weigh toward: {why}.", why=str(error).split(";")[0])
            self._refused = (layer, id(session.baseline)), why
            return None, why
        self._heads = {key: head for key, head in self._heads.items() if key[1] is place[1]}
        self._heads[place] = head
        return head, ""

    def _names(self, classes: int) -> list[str]:
        labels = self.session.labels
        if labels is None or len(labels) != classes:
            return numbered(classes)
        return [visible_name(label) for label in labels]
