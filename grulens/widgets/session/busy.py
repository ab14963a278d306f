"""The mark of what is busy: only of what takes so long that one would wonder about it.

A mark that is set and taken away at once is seen by nobody, and to change the class of a whole
screen twice costs the page more than the picture it is about to get.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

import ipywidgets as W

#: Seconds that something takes before it is marked.
AFTER: Final = 0.1
MARK: Final = "grulens-busy"


class BusyMark:
    """Marks a widget once something has gone on for a while, until it ends.

    Args:
        widget: what is marked.
        after: how many seconds that is.
        tell: called with the widget and whether it is busy now, after each change.

    >>> box = W.VBox()
    >>> mark = BusyMark(box, after=3600.0)
    >>> mark.show(True)
    >>> mark.show(False)
    >>> box._dom_classes
    ()
    >>> with mark.held():
    ...     pass
    """

    def __init__(
        self,
        widget: W.DOMWidget,
        after: float = AFTER,
        tell: Callable[[W.DOMWidget, bool], object] | None = None,
    ) -> None:
        self._widget, self._after, self._tell = widget, after, tell
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._said, self._held = False, 0

    def show(self, busy: bool) -> None:
        """Say that it goes on, or that it has ended."""
        with self._lock:
            self._said = busy
            self._look()

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block that goes on, beside whatever else does: several may be open at once."""
        self._hold(1)
        try:
            yield
        finally:
            self._hold(-1)

    def _hold(self, more: int) -> None:
        with self._lock:
            self._held += more
            self._look()

    def _look(self) -> None:
        """Begin to wait where something goes on now, and end where nothing does any more."""
        if self._said or self._held:
            if self._timer is not None:
                return
            # a timer that was cancelled lives on for a moment, and must not hold a closed screen
            method = weakref.WeakMethod(self._mark)
            self._timer = threading.Timer(self._after, partial(_called, method))
            self._timer.daemon = True
            self._timer.start()
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None
            if MARK in self._widget._dom_classes:
                self._widget.remove_class(MARK)
                self._told(False)

    def _mark(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():  # not where it ended meanwhile
                self._widget.add_class(MARK)
                self._told(True)

    def _told(self, busy: bool) -> None:
        if self._tell is not None:
            self._tell(self._widget, busy)


class BusyMarks:
    """Marks what a person has pressed, and where the answer will stand, until it is there.

    Args:
        tell: as for `BusyMark`.

    >>> marks = BusyMarks()
    >>> pressed = W.Button()
    >>> with marks.held(pressed):
    ...     pass
    >>> pressed._dom_classes
    ()
    """

    def __init__(self, tell: Callable[[W.DOMWidget, bool], object] | None = None) -> None:
        self._tell = tell
        self._marks: dict[W.DOMWidget, BusyMark] = {}

    @contextmanager
    def held(self, *widgets: W.DOMWidget) -> Iterator[None]:
        """A block during which these widgets are busy; one that is busy already is so once more."""
        with ExitStack() as held:
            for widget in dict.fromkeys(widgets):
                mark = self._marks.setdefault(widget, BusyMark(widget, tell=self._tell))
                held.enter_context(mark.held())
            yield


def _called(method: weakref.WeakMethod[Any]) -> None:
    """Call a method, if what it belongs to is still there."""
    alive = method()
    if alive is not None:
        alive()
