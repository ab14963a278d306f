"""How a state over space is shown: a row a unit, or a row a channel, and which number that is.

space [every place | mean | max | one place]  at [7, 8]
Each row is a channel: its mean over 14 × 16 places. An edit of a channel is one of all its places.
"""

from __future__ import annotations

from typing import Any, Final

import ipywidgets as W

from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.controls import row
from grulens.widgets.session.selection import has_space
from grulens.widgets.session.session import Session
from grulens.words import message, say

ALL: Final = message("every place")
ONE: Final = message("one place")
_FOLDS: Final = (ALL, message("mean"), message("max"), ONE)
#: What a row is, at one place and folded, by what is folded.
_ONE: Final = {
    "channel": message(
        "Each row is a channel {where}: a unit, and an edit of it is of that unit alone."
    ),
    "slice": message(
        "Each row is a slice of the state along its first axis {where}: a unit, and an edit of it "
        "is of that unit alone."
    ),
}
_WHOLE: Final = {
    "channel": message("Each row is a channel: {how}. An edit of it is one of all its places."),
    "slice": message(
        "Each row is a slice of the state along its first axis: {how}. An edit of it is one of all "
        "its places."
    ),
}


class SpaceControl:
    """A choice of folds, a box for the place, and what a row is; seen only of a state over space.

    Args:
        session: whose `space` it sets and shows.
        callbacks: makes those of its controls.

    Attributes:
        box: all of it.
        fold: the list: "every place", "mean", "max" or "one place".
        place: the place as "y, x".
    """

    def __init__(self, session: Session, callbacks: Callbacks) -> None:
        self.session, self._showing, self._elsewhere = session, False, False
        self.fold = W.Dropdown(
            options=[(say(one), one) for one in _FOLDS], description=say("space"),
            tooltip=say(
                "how the places of the state are shown: each in a row of its own, or folded"
            ),
            style={"description_width": "auto"}, layout=W.Layout(width="auto"),
        )  # fmt: skip
        self.place = W.Text(
            description=say("at"), continuous_update=False, tooltip=say("the place: y, x"),
            style={"description_width": "auto"}, layout=W.Layout(width="110px"),
        )  # fmt: skip
        self._says = W.HTML()
        self.box = row(self.fold, self.place, self._says)
        self.fold.observe(callbacks.guard(lambda _: self._on_fold()), "value")
        self.place.observe(callbacks.guard(lambda _: self._on_place()), "value")
        self.show()

    def show(self) -> None:
        """Show how the layer is folded now."""
        cell, fold = self.session.before.cell, self.session.fold
        self.box.layout.display = None if has_space(cell) and not self._elsewhere else "none"
        how: Any = None if fold is None else fold.how
        one = isinstance(how, tuple)
        self._showing = True
        try:
            self.fold.value = ONE if one else how or ALL
            self.place.value = ", ".join(map(str, how)) if one else ""
        finally:
            self._showing = False
        self.place.layout.display = None if one else "none"
        text = ""
        if fold is not None:
            text = (
                say(_ONE[fold.noun], where=fold.words) if one
                else say(_WHOLE[fold.noun], how=fold.words)
            )  # fmt: skip
        self._says.value = f'<span role="status" class="grulens-quiet">{text}</span>'

    def hide(self) -> None:
        """Stay away: another screen of a larger one has the same control."""
        self._elsewhere = True
        self.show()

    def _on_fold(self) -> None:
        if self._showing:
            return
        chosen = self.fold.value
        try:
            self.session.space = (
                None if chosen == ALL else self._somewhere() if chosen == ONE else chosen
            )
        finally:
            self.show()

    def _on_place(self) -> None:
        if self._showing:
            return
        words = self.place.value.strip(" ()").split(",")
        try:
            # what is no number is left as it is, for the session to refuse
            self.session.space = tuple(int(w) if w.strip().isdecimal() else w for w in words)
        finally:
            self.show()

    def _somewhere(self) -> tuple[int, ...]:
        """The place of the first unit chosen, else the middle; a whole channel has no place."""
        cell: Any = self.session.before.cell  # seen with space
        fold = cell.fold("mean")
        units = self.session.units
        if not units or {*fold.units(fold.channels(units))} == {*units}:
            return tuple(size // 2 for size in fold.sizes)
        place: tuple[int, ...] = fold.where(units[0])[1]
        return place
