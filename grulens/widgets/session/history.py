"""Undo and redo: the states before this one and those that were taken back."""

from __future__ import annotations

from typing import Generic, TypeVar

State = TypeVar("State")


class History(Generic[State]):
    """Past and future of a value that is replaced, never changed.

    >>> history = History[int]()
    >>> history.note(1)
    >>> history.back(2), history.forth(1)
    (1, 2)
    """

    def __init__(self) -> None:
        self.past: list[State] = []
        self.future: list[State] = []
        self._drag: int | None = None
        self._undone: list[State] = []

    def note(self, state: State, drag: int | None = None) -> None:
        """Remember the state that is being left; a drag's many changes leave only its first.

        Args:
            state: the state before the change.
            drag: what is under the hand; None for a change that is whole by itself. A drag goes on
                until another thing is changed, or `end_drag`: no clock decides, since a busy
                machine hands a quick movement on in slow pieces.
        """
        if drag is None or drag != self._drag:
            self.past.append(state)
        self._drag = drag
        self._undone, self.future = self.future, []

    def end_drag(self) -> None:
        """The next change is one of its own, whatever it changes."""
        self._drag = None

    def forget(self, state: State) -> None:
        """Take the last `note` back: the state was not left after all."""
        if self.past and self.past[-1] is state:
            self.past.pop()
        self.future, self._drag = self._undone, None

    def back(self, state: State) -> State:
        """The state before `state`; itself if there is none."""
        return self._step(self.past, self.future, state)

    def forth(self, state: State) -> State:
        """The state that was taken back from `state`; itself if there is none."""
        return self._step(self.future, self.past, state)

    def _step(self, source: list[State], target: list[State], state: State) -> State:
        self._drag = None
        if not source:
            return state
        target.append(state)
        return source.pop()
