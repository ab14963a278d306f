"""The list of edits: in which order they act, which are on, and what was done before.

The list is a tuple that is replaced, never changed, so every earlier one can come back. A subclass
says in `enforce` what a list does; one that raises there is refused, and the one before stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import traitlets as tl

from grulens.errors import EditError, shown
from grulens.probing.edits.edit import Edit
from grulens.widgets.session.history import History


@dataclass(frozen=True)
class Slot:
    """One edit in the list, and whether it is on.

    Attributes:
        key: a number that it keeps while it is changed or moved.
        edit: the edit.
        wanted: whether it is switched on.
        mismatch: the positions that the present input does not have, "steps 12, 13 of 5"; or "".
    """

    key: int
    edit: Edit
    wanted: bool = True
    mismatch: str = ""

    @property
    def on(self) -> bool:
        """Whether it acts; one that does not fit is off until it fits again."""
        return self.wanted and not self.mismatch


Slots = tuple[Slot, ...]


def check_edit(edit: Any) -> None:
    """Raise EditError unless it is an edit."""
    if not isinstance(edit, Edit):
        raise EditError(
            f"an edit is what ablate, clamp, scale, shift and patch make, got {shown(edit)}"
        )


class EditList(tl.HasTraits):
    """Edits in the order in which they act.

    Attributes:
        slots: the edits, each with its switch.
    """

    # read-only: a list is applied, and not only shown
    slots = tl.Tuple(read_only=True)

    def __init__(self) -> None:
        super().__init__()
        self._keys = count()
        self._history: History[Slots] = History()

    def enforce(self, slots: Slots) -> None:
        """Apply a list; here it is only stored. An error refuses it."""
        self.set_trait("slots", slots)

    def fitted(self, slots: Slots) -> Slots:
        """An earlier list, each edit with the positions of it that do not fit now."""
        return slots

    @property
    def on(self) -> list[Edit]:
        """The edits that are on."""
        return [slot.edit for slot in self.slots if slot.on]

    def set_slots(self, slots: Slots, drag: int | None = None) -> None:
        """Apply another list.

        Args:
            slots: the edits, a tuple of `Slot`.
            drag: the key of the edit that a slider is changing; its many changes are one undo,
                until something else is changed or `end_drag`.

        Raises:
            EditError, LayerError: an edit does not fit; the list stays as it was.
        """
        if not isinstance(slots, tuple) or not all(isinstance(slot, Slot) for slot in slots):
            raise EditError(f"slots must be a tuple of Slot, got {shown(slots)}")
        left = self.slots
        self._history.note(left, drag)
        try:
            self.enforce(slots)
        except BaseException:
            self._history.forget(left)
            raise

    def add(self, edit: Edit) -> None:
        """Put an edit at the end of the list, switched on."""
        check_edit(edit)
        self.set_slots((*self.slots, Slot(next(self._keys), edit)))

    def put(self, old: Edit | None, new: Edit | None) -> None:
        """Replace one edit by another in its place; None adds or removes. One drag is one undo."""
        if new is not None:
            check_edit(new)
        held = isinstance(old, Edit)
        slot = next((s for s in self.slots if s.edit == old), None) if held else None
        if new is None:
            if slot is not None:
                self.remove(slot.key)
        elif slot is None:
            self.set_slots((*self.slots, Slot(key := next(self._keys), new)), drag=key)
        else:
            changed = Slot(slot.key, new)
            slots = tuple(changed if s.key == slot.key else s for s in self.slots)
            self.set_slots(slots, drag=slot.key)

    def remove(self, key: int) -> None:
        """Take an edit out of the list."""
        self._place(key)
        self.set_slots(tuple(slot for slot in self.slots if slot.key != key))

    def switch(self, on: Callable[[Slot], bool]) -> None:
        """Switch every edit on or off as `on(slot)` says."""
        self.set_slots(tuple(replace(slot, wanted=bool(on(slot))) for slot in self.slots))

    def move(self, key: int, by: int) -> None:
        """Move an edit up (negative) or down the list."""
        if not isinstance(by, int):
            raise EditError(f"an edit moves by a whole number of places, got {shown(by)}")
        slots, here = list(self.slots), self._place(key)
        slots.insert(min(max(0, here + by), len(slots)), slots.pop(here))
        self.set_slots(tuple(slots))

    def _place(self, key: Any) -> int:
        """Where in the list the edit of this key is."""
        keys = [slot.key for slot in self.slots]
        if not isinstance(key, int) or key not in keys:
            raise EditError(f"no edit has the key {shown(key)}; there are {keys or 'none'}")
        return keys.index(key)

    def end_drag(self) -> None:
        """End a drag: the next change is an undo of its own."""
        self._history.end_drag()

    def undo(self) -> None:
        """Take the last change of the edits back."""
        self._travel(self._history.back, self._history.forth)

    def redo(self) -> None:
        """Do again what was undone."""
        self._travel(self._history.forth, self._history.back)

    @property
    def can_undo(self) -> bool:
        """Whether there is something to take back."""
        return bool(self._history.past)

    @property
    def can_redo(self) -> bool:
        """Whether there is something to do again."""
        return bool(self._history.future)

    def _travel(self, way: Callable[[Slots], Slots], back: Callable[[Slots], Slots]) -> None:
        slots = way(self.slots)
        try:
            self.enforce(self.fitted(slots))
        except BaseException:
            back(slots)
            raise
