"""When a cell has run, the open screens look whether their model is still what it was.

Training goes on in cells. A screen that nobody touches would go on showing a run of a model that is
no more, and nothing would say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable
from weakref import WeakSet

from IPython import get_ipython


@runtime_checkable
class Looking(Protocol):
    """A screen that can look at its model."""

    def look(self) -> object: ...


class AfterCells:
    """Knows the open screens, and tells them when a cell has run.

    Args:
        shell: gives IPython's shell, None outside of one.

    >>> class Screen:
    ...     def look(self):
    ...         print("looked")
    >>> after, screen = AfterCells(), Screen()
    >>> after.add(screen)
    >>> after()
    looked
    """

    def __init__(self, shell: Callable[[], Any] = get_ipython) -> None:
        self._shell = shell
        self._open: WeakSet[Looking] = WeakSet()
        self._registered: Any = None

    def add(self, screen: Looking) -> None:
        """Tell a screen from now on."""
        self._open.add(screen)
        if self._registered is None and (shell := self._shell()) is not None:
            shell.events.register("post_run_cell", self)
            self._registered = shell

    def discard(self, screen: Looking) -> None:
        """Tell it no more; with the last one the shell is as it was."""
        self._open.discard(screen)
        if self._registered is not None and not self._open:
            self._registered.events.unregister("post_run_cell", self)
            self._registered = None

    def __call__(self, _: object = None) -> None:
        """A cell has run."""
        for screen in list(self._open):
            screen.look()


#: The one that the screens share.
AFTER_CELLS: Final = AfterCells()
