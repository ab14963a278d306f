"""Callbacks whose errors are seen: a front end drops what a widget callback raises or prints."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from html import escape
from typing import Any, TypeVar

import ipywidgets as W

from grulens.views.figure.tokens import valid
from grulens.widgets.jupyter.callbacks import guarded, title_of
from grulens.widgets.session.latest import Latest

T = TypeVar("T")


class Callbacks:
    """Makes the callbacks of a screen's controls, and shows what goes wrong in them.

    An error is shown until its source succeeds. The source None is whatever a person does on the
    screen; what happens in answer to that, or in the background, has a source of its own.

    Attributes:
        box: the error shown last, its traceback one click away.

    >>> callbacks = Callbacks()
    >>> divide = callbacks.guard(lambda by: 1 / by)
    >>> divide(0)
    >>> "ZeroDivisionError: division by zero" in callbacks.box.value
    True
    >>> divide(1)
    >>> callbacks.box.value
    ''
    """

    def __init__(self) -> None:
        self.box = W.HTML(layout=W.Layout(display="none"))
        self._errors: dict[object, str] = {}
        self._workers: list[Latest[Any]] = []

    def guard(
        self, do: Callable[..., Any], *, source: object = None, clears: bool = True
    ) -> Callable[..., None]:
        """A callback that calls `do`, and shows its error.

        Args:
            do: the function.
            source: the source of its error.
            clears: whether its success removes the error; False where it only begins something
                that may have failed by then.
        """
        return guarded(do, partial(self.show, source=source),
                       partial(self.clear, source) if clears else None)  # fmt: skip

    def background(
        self,
        do: Callable[[T], object],
        *,
        source: object = None,
        lock: AbstractContextManager[Any] | None = None,
        stop: Callable[[], object] | None = None,
        busy: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> Latest[T]:
        """A worker that calls `do(newest value)` on another thread until `close`; shows its error.

        Args:
            do: the slow function.
            source: the source of its error.
            lock: as `Latest`.
            stop: ends a `do` that runs, as early as it can.
            busy: as `Latest`.
        """
        show, clear = partial(self.show, source=source), partial(self.clear, source)
        made = Latest(do, show, clear, lock=lock, stop=stop, busy=busy)
        self._workers.append(made)
        return made

    def show(self, error: BaseException, source: object = None) -> None:
        """Show an error of a source."""
        title = escape(title_of(error))
        trace = escape(valid("".join(traceback.format_exception(error))))
        self._errors[source] = (
            f'<details class="grulens-failed" role="alert"><summary>{title}</summary>'
            f"<pre>{trace}</pre></details>"
        )
        self._show_last()

    def clear(self, source: object = None) -> None:
        """Remove the error of a source."""
        if self._errors.pop(source, None) is not None:
            self._show_last()

    def close(self) -> None:
        """Compute nothing in the background any more."""
        for worker in self._workers:
            worker.close()

    def _show_last(self) -> None:
        self.box.value = next(reversed(self._errors.values()), "")
        self.box.layout.display = None if self._errors else "none"
