"""A list of classes to choose from; of many classes, only the likeliest are offered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import ipywidgets as W
from jaxtyping import Float
from torch import Tensor

from grulens.words import say

#: More classes than this fit no list: the likeliest are offered.
CLASSES: Final = 200
OFFERED: Final = 50
#: The value of the first choice, which is no class.
NO_CLASS: Final = -1


def numbered(classes: int, places: Iterable[int] | None = None) -> list[str]:
    """What to call classes that have no names; where there is one number, it is the output.

    Args:
        classes: how many there are.
        places: which of them; None is all.

    >>> numbered(2), numbered(1)
    (['class 0', 'class 1'], ['output'])
    """
    chosen = range(classes) if places is None else places
    return [say("output") if classes == 1 else say("class {n}", n=i) for i in chosen]


class ClassList:
    """A dropdown of classes, and before them a choice that is no class.

    Args:
        first: the text of the choice that is no class.
        description: the text before the control.
        **layout: as `ipywidgets.Layout`.

    Attributes:
        control: the dropdown; its value is a class, or -1 for the first choice.
        offering: whether the program changes the list right now, not a person.

    >>> import torch
    >>> classes = ClassList("no class", "toward")
    >>> classes.fill("no class", torch.ones(2), lambda some: [f"class {i}" for i in some])
    -1
    >>> classes.control.options
    (('no class', -1), ('class 0', 0), ('class 1', 1))
    """

    def __init__(self, first: str, description: str, **layout: str) -> None:
        self.offering = False
        self.control = W.Dropdown(
            options=[(first, NO_CLASS)], description=description,
            layout=W.Layout(width="auto", **layout), style={"description_width": "auto"},
        )  # fmt: skip

    def fill(
        self,
        first: str,
        scores: Float[Tensor, " klass"],
        names: Callable[[Iterable[int]], list[str]],
    ) -> int:
        """Offer the classes; what was chosen stays, if it is one of them.

        Args:
            first: the text of the choice that is no class.
            scores: what ranks the classes where they do not fit the list, (class,).
            names: gives the names of some classes.

        Returns:
            What is chosen now: a class, or -1.
        """
        chosen, classes = self.control.value, len(scores)
        chosen = chosen if chosen is not None and chosen < classes else NO_CLASS
        offered = list(range(classes))
        if classes > CLASSES:
            offered = scores.topk(OFFERED).indices.tolist()
            offered = offered if chosen in (NO_CLASS, *offered) else [chosen, *offered]
        options = [(first, NO_CLASS), *zip(names(offered), offered, strict=True)]
        self.offering = True
        try:
            if list(self.control.options) != options:
                self.control.options = options
            self.control.value = chosen
        finally:
            self.offering = False
        return int(chosen)
