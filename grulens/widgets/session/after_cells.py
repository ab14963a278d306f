"""After every cell of the notebook, the open screens check whether their model has changed.

Models are trained in cells. Without this check a screen would go on showing a run of the model as
it was before, and nothing would say so.
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
    """Knows the open screens, and lets them look when a cell has run.

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
        """Let a screen look after each cell from now on."""
        self._open.add(screen)
        if self._registered is None and (shell := self._shell()) is not None:
            shell.events.register("post_run_cell", self)
            self._registered = shell

    def discard(self, screen: Looking) -> None:
        """Let it look no more; without any screen nothing is registered in the shell."""
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
