"""A slow answer to a fast slider: only the newest value is computed, not those before it.

A drag sends more values than a model can answer. One short-lived thread computes the newest, so the
kernel stays free and the last value always wins. A value that Python code sets, in a cell or in
another callback, is computed at once: the next line may rely on it.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from grulens.widgets.jupyter.callbacks import Clear, Show, guarded

T = TypeVar("T")

#: Seconds that a screen which is closed waits for what it computes.
PATIENCE: Final = 5.0


def from_browser(change: Any) -> bool:
    """Whether the page set a trait, and not Python code.

    While a widget takes over a state from the page, it names the traits in `_property_lock` so as
    not to send them back. No other sign tells a slider that a person moved from one that a
    callback moved in answer: both happen while the same message is handled.

    Args:
        change: what traitlets hands to an observer.

    >>> from ipywidgets import IntSlider
    >>> slider = IntSlider()
    >>> slider.observe(lambda change: print(change.new, from_browser(change)), "value")
    >>> slider.value = 3
    3 False
    >>> slider.set_state({"value": 4})
    4 True
    """
    return change["name"] in getattr(change["owner"], "_property_lock", {})


class Latest(Generic[T]):
    """An observer that calls `fn(newest value)`.

    Args:
        fn: the slow function. It may run on a worker thread: what torch keeps per thread, such as
            grad mode, is entered inside it.
        on_error: called with what `fn` raised.
        on_success: called after `fn` returned.
        lock: the reentrant lock that `fn` works under, if any. With it a value set by Python code
            while the worker computes always has the last word. It must be that very lock: where
            widgets are set under it, a second one would be taken in the opposite order.
        stop: ends an `fn` that runs, as early as it can.
        busy: a block that is open from when a value is sent until it is answered or overtaken.

    >>> from ipywidgets import IntSlider
    >>> slider = IntSlider()
    >>> slider.observe(Latest(lambda value: print("computed", value), on_error=print), "value")
    >>> slider.value = 3
    computed 3
    """

    def __init__(
        self,
        fn: Callable[[T], object],
        on_error: Show,
        on_success: Clear | None = None,
        *,
        lock: AbstractContextManager[Any] | None = None,
        stop: Callable[[], object] | None = None,
        busy: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._marked = busy
        self._fn = guarded(fn, on_error, on_success)
        self._lock: AbstractContextManager[Any] = nullcontext() if lock is None else lock
        self._stop = stop
        self._state = threading.Condition()
        self._pending: list[tuple[T, ExitStack]] = []
        self._busy = self._closed = False
        self._worker: threading.Thread | None = None
        _ALL.add(self)

    def __call__(self, change: Any) -> None:
        """Compute for a trait's new value: `later` if the page set it, else `now`."""
        if from_browser(change):
            self.later(change["new"])
        else:
            self.now(change["new"])

    def now(self, value: T) -> None:
        """Compute on this thread; what is pending is overtaken."""
        with self._marked(), self._lock:
            with self._state:
                self._drop()
                if self._closed:
                    return
            self._fn(value)

    def later(self, value: T) -> None:
        """Compute on the worker, unless a newer value comes first."""
        with self._state:
            if self._closed:
                return
            self._drop()
            open_ = ExitStack()
            open_.enter_context(self._marked())
            self._pending.append((value, open_))
            if self._busy:
                return
            self._busy = True
            self._worker = threading.Thread(target=self._drain, name="grulens-latest", daemon=True)
            self._worker.start()

    @property
    def pending(self) -> bool:
        """Whether a value waits to be computed."""
        with self._state:
            return bool(self._pending)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is pending or running on the worker.

        Args:
            timeout: seconds, None for as long as it takes.

        Returns:
            Whether that was reached in time.
        """
        with self._state:
            return self._state.wait_for(lambda: not self._busy, timeout)

    def close(self, timeout: float | None = PATIENCE) -> None:
        """Compute nothing any more: what is pending is dropped, what runs is ended and waited for.

        Args:
            timeout: seconds to wait, None for as long as it takes.
        """
        with self._state:
            self._closed = True
            self._drop()
            worker = self._worker
        if self._stop is not None:
            self._stop()
        if worker is not None and worker is not threading.current_thread():
            worker.join(timeout)

    def _drain(self) -> None:
        while True:
            # taken only once it can run: a cell that computes meanwhile drops what it overtook
            with self._lock:
                with self._state:
                    if not self._pending:
                        self._busy = False
                        self._state.notify_all()
                        return
                    value, open_ = self._pending.pop()
                with open_:
                    self._fn(value)

    def _drop(self) -> None:
        """Forget what is pending."""
        while self._pending:
            self._pending.pop()[1].close()


_ALL: Final[WeakSet[Latest[Any]]] = WeakSet()


@atexit.register
def _end() -> None:
    """Wait for what still runs: torch aborts a process that ends under its threads."""
    for latest in list(_ALL):
        latest.close(None)
