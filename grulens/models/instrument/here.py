"""Which watches are open for the code that runs: those that it has opened itself.

A context variable says so. Another thread and another asyncio task have contexts of their own, so
what they run meanwhile is neither edited nor recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from grulens.models.restore.interrupts import Uninterrupted

if TYPE_CHECKING:
    from grulens.models.instrument.watch import Watch

_HERE: ContextVar[tuple[int, ...]] = ContextVar("grulens_open_watches", default=())
"""Their marks, and not they themselves: a context may outlive them."""
_UNSEEN: ContextVar[frozenset[int]] = ContextVar("grulens_unseen_watches", default=frozenset())


def is_here(watch: Watch) -> bool:
    """Whether a watch was opened by the code that runs, and none inside it looks away from it."""
    if watch.thread != threading.get_ident():
        return False
    return watch.mark in _HERE.get() and watch.mark not in _UNSEEN.get()


def looks_away(watch: Watch) -> bool:
    """Whether something inside a watch looks away from it, on purpose."""
    return watch.mark in _UNSEEN.get()


def enter(watch: Watch) -> None:
    """From now on a watch is open for this code."""
    _HERE.set((*_HERE.get(), watch.mark))


def leave(watch: Watch) -> None:
    """From now on it is not; where another context than the one that entered leaves, nothing is."""
    _HERE.set(tuple(mark for mark in _HERE.get() if mark != watch.mark))


class unseen(Uninterrupted):  # noqa: N801 - called as a function is, in a `with`
    """Inside, some of the open watches see nothing.

    Args:
        watches: which; None is all that are open.
    """

    def __init__(self, watches: Iterable[Watch] | None) -> None:
        self.marks = {*_HERE.get()} if watches is None else {watch.mark for watch in watches}
        self.before = _UNSEEN.get()

    def begin(self) -> None:
        self.before = _UNSEEN.get()
        _UNSEEN.set(self.before | self.marks)

    def end(self) -> None:
        _UNSEEN.set(self.before)
