"""One lock for every model: while a watch is opened or closed, or grulens runs a model."""

from __future__ import annotations

import threading

from grulens.models.restore.interrupts import Uninterrupted, acquire

LOCK = threading.RLock()
"""Guards every model and its taps."""


class locked(Uninterrupted):  # noqa: N801 - called as a function is, in a `with`
    """A block in which no other thread opens, closes or runs a watched model."""

    held = False

    def begin(self) -> None:
        acquire(LOCK)
        self.held = True

    def end(self) -> None:
        if self.held:
            LOCK.release()
