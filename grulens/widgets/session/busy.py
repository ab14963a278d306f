"""The mark of a screen whose session runs the model: only of a run that one would wonder about.

A mark that is set and taken away at once is seen by nobody, and to change the class of a whole
screen twice costs the page more than the picture it is about to get.
"""

from __future__ import annotations

import threading
import weakref
from functools import partial
from typing import Any, Final

import ipywidgets as W

#: Seconds that a run takes before it is marked.
AFTER: Final = 0.15
MARK: Final = "grulens-busy"


class BusyMark:
    """Marks a widget once something has gone on for a while, until it ends.

    Args:
        widget: what is marked.
        after: how many seconds that is.

    >>> box = W.VBox()
    >>> mark = BusyMark(box, after=3600.0)
    >>> mark.show(True)
    >>> mark.show(False)
    >>> box._dom_classes
    ()
    """

    def __init__(self, widget: W.DOMWidget, after: float = AFTER) -> None:
        self._widget, self._after = widget, after
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def show(self, busy: bool) -> None:
        """Say that it goes on, or that it has ended."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
            if not busy:
                self._widget.remove_class(MARK)
                return
            # a timer that was cancelled lives on for a moment, and must not hold a closed screen
            method = weakref.WeakMethod(self._mark)
            self._timer = threading.Timer(self._after, partial(_called, method))
            self._timer.daemon = True
            self._timer.start()

    def _mark(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():  # not where it ended meanwhile
                self._widget.add_class(MARK)


def _called(method: weakref.WeakMethod[Any]) -> None:
    """Call a method, if what it belongs to is still there."""
    alive = method()
    if alive is not None:
        alive()
