"""What Ctrl-C must not tear apart: the beginning and the end of a block that changes something.

Python raises KeyboardInterrupt between any two steps, also inside the code that puts things back;
a `finally` does not help there, nor does a generator in a `with`. So while an `Uninterrupted` block
is open, an interrupt that comes in its beginning or its end waits until that is done. One that
comes in between is raised at once, as always.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # see below
import _thread
import inspect
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, cast

import torch
from torch import Tensor

Handler = Callable[[int, FrameType | None], Any]
# `signal` wraps the functions of `_signal`, and looks for a name of every handler on the way: that
# took longer than all else that a block does.


class _CtrlC:
    """Stands in for the handler of Ctrl-C while blocks are open in the main thread."""

    def __init__(self) -> None:
        self.open = 0
        self.waiting = False
        self.left_elsewhere = False
        self.before: Handler = signal.default_int_handler

    def enter(self) -> None:
        if not self.open:
            self.waiting = False
            present = _signal.getsignal(signal.SIGINT)
            if callable(present) and present is not self:
                self.before = present
                _signal.signal(signal.SIGINT, self)
        self.open += 1

    def leave(self) -> None:
        """End a block; what has waited is raised, unless a larger block is in its end, too."""
        self.open -= 1
        # somebody may have put another handler in its place meanwhile: that one stays
        mine = not self.open and cast(object, _signal.getsignal(signal.SIGINT)) is self
        if threading.current_thread() is not threading.main_thread():
            # only the main thread may change a handler: it is woken up to do so
            self.left_elsewhere = mine
            if self.left_elsewhere:
                _thread.interrupt_main()
            return
        if mine:
            _signal.signal(signal.SIGINT, self.before)
        if self.due():
            self.waiting = False
            self.before(signal.SIGINT, None)

    def due(self) -> bool:
        """Whether what has waited may be raised: no block but this one is in its begin or end."""
        return self.waiting and _uninterrupted(sys._getframe()) <= 1

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.left_elsewhere:
            self.left_elsewhere = False
            if not self.open:
                _signal.signal(signal.SIGINT, self.before)
        elif _uninterrupted(frame):
            self.waiting = True
        else:
            self.before(number, frame)


_ctrl_c = _CtrlC()


class Uninterrupted:
    """A block whose `begin` and `end` run to their ends; `end` also follows a `begin` that failed.

    >>> class Counted(Uninterrupted):
    ...     count = 0
    ...     def begin(self): Counted.count += 1
    ...     def end(self): Counted.count -= 1
    >>> with Counted():
    ...     Counted.count
    1
    >>> Counted.count
    0
    """

    _main = False

    def ask(self) -> None:
        """Raise if the block must not begin; then nothing of it is begun or ended."""

    def begin(self) -> None:
        """Change something."""

    def given(self) -> Any:
        """What `with ... as` gives."""
        return self

    def done(self) -> None:
        """The body of the block has come to its end, and no exception has ended it."""

    def end(self) -> None:
        """Put it back, as far as `begin` has come."""

    def __enter__(self) -> Any:
        self.ask()
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            _ctrl_c.enter()
        try:
            self.begin()
        except BaseException:
            self._close()
            raise
        if self._main and _ctrl_c.due():
            self._close()
        return self.given()

    def __exit__(self, kind: object = None, *_: object) -> None:
        try:
            if kind is None:
                self.done()
        finally:
            self._close()

    def _close(self) -> None:
        try:
            self.end()
        finally:
            if self._main:
                _ctrl_c.leave()


# unwrapped: where annotations are checked at run time, something else stands around them
_CODES = {
    inspect.unwrap(method).__code__ for method in (Uninterrupted.__enter__, Uninterrupted.__exit__)
}


def _uninterrupted(frame: FrameType | None) -> int:
    """How many blocks are in their begin or end."""
    count = 0
    while frame is not None:
        count += frame.f_code in _CODES
        frame = frame.f_back
    return count


def acquire(lock: Any) -> None:
    """Wait for a lock in the beginning of a block; Ctrl-C ends the waiting."""
    while not lock.acquire(timeout=0.1):
        if _ctrl_c.waiting:
            raise KeyboardInterrupt


class grads(Uninterrupted):  # noqa: N801 - called as torch.set_grad_enabled is
    """torch's grad mode inside a block.

    >>> with grads(False):
    ...     torch.is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self.before = torch.is_grad_enabled()

    def begin(self) -> None:
        self.before = torch.is_grad_enabled()
        torch._C._set_grad_enabled(self.mode)

    def end(self) -> None:
        torch._C._set_grad_enabled(self.before)


class random_kept(Uninterrupted):  # noqa: N801 - called as torch.random.fork_rng is
    """Afterwards torch's random numbers go on as if nothing had been drawn inside the block.

    Args:
        state: where the processor's generator begins inside; None is where it stands.
        devices: the CUDA devices whose generators are kept, too.

    >>> with random_kept():
    ...     inside = torch.rand(1)
    >>> bool(torch.rand(1) == inside)
    True
    """

    def __init__(self, state: Tensor | None = None, devices: Iterable[int] = ()) -> None:
        self.state = state
        self.devices = tuple(devices)

    def begin(self) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = {index: torch.cuda.get_rng_state(index) for index in self.devices}
        if self.state is not None:
            torch.set_rng_state(self.state)

    def end(self) -> None:
        torch.set_rng_state(self.cpu)
        for index, state in self.cuda.items():
            torch.cuda.set_rng_state(state, index)
