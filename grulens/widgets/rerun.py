"""What an earlier run of a cell made is closed when the cell runs again, so that nothing grows.

Every run of a cell makes new widgets; the kernel keeps the old ones alive (ipywidgets registers
each by its id), and each may hold a Bokeh document. Nobody can see them any more: a cell's outputs
are cleared when it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

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


class Rerun:
    """Knows what each cell's latest run made.

    Args:
        now: tells the running cell.

    >>> class View:
    ...     def close(self):
    ...         print("closed")
    >>> runs = iter([CellRun("cell", "first"), CellRun("cell", "second")])
    >>> rerun = Rerun(now=lambda: next(runs))
    >>> rerun.replace(View())
    >>> rerun.replace(View())
    closed
    """

    def __init__(self, now: Callable[[], CellRun | None] = cell_run) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._made: dict[str, tuple[str, dict[int, Closable]]] = {}

    def replace(self, owner: Closable) -> None:
        """Close what this cell's earlier run made, and `owner` when the cell runs once more.

        Outside of a cell nothing happens. A composite widget registers itself, and not the parts
        it makes: a part made later, from another cell, lives as long as the whole.

        Args:
            owner: kept until then; registering it twice makes no difference.
        """
        now = self._now()
        if now is None:
            return
        with self._lock:
            run, made = self._made.get(now.cell, (now.run, {}))
            old = {} if run == now.run else made
            kept = made if run == now.run else {}
            self._made[now.cell] = (now.run, {**kept, id(owner): owner})
        for other in old.values():
            if other is not owner:
                other.close()


#: The one that the widgets share.
RERUN: Final = Rerun()
