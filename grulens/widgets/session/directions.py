"""The classes that a layer's states can be weighed toward, as a list to choose from."""

from __future__ import annotations

from typing import Final

import ipywidgets as W
from torch import Tensor

from grulens.errors import ReadoutError, WeightsChangedError
from grulens.models.restore.standing import Standing
from grulens.probing.readout.head import Head, head_of
from grulens.views.figure.tokens import visible_name
from grulens.widgets.session.session import Session

#: More classes than this fit no list: the likeliest are offered.
CLASSES: Final = 200
OFFERED: Final = 50
NONE: Final = -1
_FIRST: Final = ("no class: mean over units", NONE)


class Directions:
    """A list of classes, hidden where no linear readout of the layer is found.

    Args:
        session: its model is run once for each layer, to find what reads it.

    Attributes:
        control: the list; its value is a class, or -1.
        why: why there is no class to choose; "" if there is.
        offering: whether the list is being changed by the program, not by a person.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.why = ""
        self.offering = False
        self._heads: dict[tuple[str, Standing], Head] = {}
        self._refused: tuple[object, str] | None = None
        self.control = W.Dropdown(
            options=[_FIRST], description="weigh toward", layout=W.Layout(width="auto"),
            style={"description_width": "auto"},
        )  # fmt: skip

    def offer(self) -> None:
        """List what can be chosen for the layer shown; what was chosen stays, if it can."""
        head, self.why = self._find()
        options, chosen = [_FIRST], self.control.value
        if head is not None:
            names = self._names(len(head.weight))
            options += [(names[i], i) for i in self._likely(head)]
        self.offering = True
        try:
            if tuple(self.control.options) != tuple(options):
                self.control.options = options
                self.control.value = chosen if chosen in {i for _, i in options} else NONE
        finally:
            self.offering = False
        self.control.layout.display = "none" if head is None else None

    @property
    def chosen(self) -> tuple[Tensor, str] | None:
        """The direction (unit,) in which the chosen class is read, and its name."""
        place = self.control.value
        if place == NONE:
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
            return None, f"No class to weigh toward: {error}."
        except ReadoutError as error:
            # behind the semicolon stands what to do where a readout is an argument: not here
            why = f"No class to weigh toward: {str(error).split(';')[0]}."
            self._refused = (layer, id(session.baseline)), why
            return None, why
        self._heads = {key: head for key, head in self._heads.items() if key[1] is place[1]}
        self._heads[place] = head
        return head, ""

    def _likely(self, head: Head) -> list[int]:
        """All classes where they fit a list, else the likeliest at the session's step."""
        classes, session = len(head.weight), self.session
        if classes <= CLASSES:
            return list(range(classes))
        h = session.now.h[session.row, min(session.step, session.now.shape[1] - 1)]
        likely: list[int] = head(h.detach()).topk(OFFERED).indices.tolist()
        chosen = self.control.value
        return likely if chosen in (NONE, *likely) or chosen >= classes else [chosen, *likely]

    def _names(self, classes: int) -> list[str]:
        labels = self.session.labels
        if labels is None or len(labels) != classes:
            return [f"class {i}" for i in range(classes)]
        return [visible_name(label) for label in labels]
