"""What an earlier run of a cell made is closed when the cell runs again, so that nothing grows.

Every run of a cell makes new widgets; the kernel keeps the old ones alive (ipywidgets registers
each by its id, and IPython keeps what ends a cell in `Out`), and each may hold a Bokeh document, a
model and its recordings. Nobody can see them any more: a cell's outputs are cleared when it runs.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable
from weakref import ref

from IPython import get_ipython


class CellRun(NamedTuple):
    """One run of one cell: the cell keeps its id when it is moved or edited, each run has its own.

    Attributes:
        cell: the notebook's id of the cell.
        run: the id of the message that asked for this run.
    """

    cell: str
    run: str


@runtime_checkable
class Closable(Protocol):
    """Anything with a `close()` that may be called for something already closed."""

    def close(self) -> object: ...


def cell_run() -> CellRun | None:
    """The cell that is running, None outside of cells and in front ends that name no cells.

    A widget's callback is no cell: it is answered as another message, on whichever thread.

    >>> cell_run() is None
    True
    """
    kernel: Any = getattr(get_ipython(), "kernel", None)
    message = kernel.get_parent() if hasattr(kernel, "get_parent") else None
    if not isinstance(message, Mapping):
        return None
    header = message.get("header", {})
    cell = message.get("metadata", {}).get("cellId")
    if header.get("msg_type") != "execute_request" or not cell:
        return None
    return CellRun(str(cell), str(header.get("msg_id", "")))


def in_terminal() -> bool:
    """Whether a person types Python where no widget can be seen: `python`, or IPython there.

    >>> in_terminal()
    False
    """
    shell: Any = get_ipython()
    if shell is not None:
        return not hasattr(shell, "kernel")
    # IPython sets a third prompt, too, and leaves them all behind
    return hasattr(sys, "ps1") and not hasattr(sys, "ps3")


def forget(thing: object) -> None:
    """Let IPython let go of something closed: in `Out`, `_`, `_12` and the like it would live on.

    >>> forget(object())
    """
    # a widget that nobody closed is closed while the process ends, when nothing can be imported
    shell: Any = None if sys.is_finalizing() else get_ipython()
    if shell is None:
        return
    kept = shell.user_ns.get("_oh", {})
    numbers = [number for number, value in list(kept.items()) if value is thing]
    # what it shows to a user, and its own list of what `%who` leaves out
    for names in (shell.user_ns, shell.user_ns_hidden):
        for number in numbers:
            if names.get(f"_{number}") is thing:
                del names[f"_{number}"]
        for name in ("_", "__", "___"):
            if names.get(name) is thing:
                names[name] = ""
    for number in numbers:
        del kept[number]
    for name in ("_", "__", "___"):
        if getattr(shell.displayhook, name, None) is thing:
            setattr(shell.displayhook, name, "")
    last = getattr(shell, "last_execution_result", None)
    if last is not None and last.result is thing:
        last.result = None


class Rerun:
    """Knows what each cell's latest run made.

    Args:
        now: tells the running cell.

    >>> class View:
    ...     def close(self):
    ...         print("closed")
    >>> runs = iter([CellRun("cell", "first"), CellRun("cell", "second")])
    >>> rerun = Rerun(now=lambda: next(runs))
    >>> first, second = View(), View()
    >>> rerun.replace(first)
    >>> rerun.replace(second)
    closed
    """

    def __init__(self, now: Callable[[], CellRun | None] = cell_run) -> None:
        self._now = now
        self._lock = threading.Lock()
        # weakly: an open widget is kept by ipywidgets, and one that is closed by nobody
        self._made: dict[str, tuple[str, dict[int, ref[Closable]]]] = {}

    def replace(self, owner: Closable) -> None:
        """Close what this cell's earlier run made, and `owner` when the cell runs once more.

        Outside of a cell nothing happens. A composite widget registers itself, and not the parts
        it makes: a part made later, from another cell, lives as long as the whole.

        Args:
            owner: is not kept alive; registering it twice makes no difference.
        """
        now = self._now()
        if now is None:
            return
        with self._lock:
            run, made = self._made.get(now.cell, (now.run, {}))
            old = {} if run == now.run else made
            kept = made if run == now.run else {}
            self._made[now.cell] = (now.run, {**kept, id(owner): ref(owner)})
        for held in old.values():
            other = held()
            if other is not None and other is not owner:
                other.close()


#: The one that the widgets share.
RERUN: Final = Rerun()
