"""Undo and redo: the states before this one and those that were taken back."""

from __future__ import annotations

import time
from typing import Generic, TypeVar

State = TypeVar("State")
DRAG_SECONDS = 1.0


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
        self._drag: tuple[int, float] | None = None

    def note(self, state: State, drag: int | None = None) -> None:
        """Remember the state that is being left; a drag's many changes leave only its first."""
        now = time.monotonic()
        same = self._drag is not None and drag == self._drag[0]
        if not (same and self._drag and now - self._drag[1] < DRAG_SECONDS):
            self.past.append(state)
        self._drag = None if drag is None else (drag, now)
        self.future.clear()

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
