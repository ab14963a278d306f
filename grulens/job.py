"""Long work that can be watched and stopped, and keeps what is done by then.

Ctrl-C in a cell and a button on a screen end the same work the same way. A program that goes on
with less than it asked for must not do so in silence: `stopped` says how much there is.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from grulens.errors import StoppedWarning
from grulens.words import Say, english, plural, say

T = TypeVar("T")

#: Whoever watches is told this often at most, in seconds.
INTERVAL: Final = 0.3


class Job(Generic[T]):
    """Long work in pieces, done inside its `watched` block.

    Args:
        name: what is done: "sweep".
        noun: what a piece is called: "unit".
        total: how many pieces there are; whoever does the work may set it later.
        on_progress: called after a piece, every 0.3 seconds at most.

    Attributes:
        done: how many pieces are done.
        result: what there is by now; set by whoever does the work.
        waiting: whether it is still to be begun.
        active: whether it is being done.

    >>> squares, job = [], Job("squares", "number", 3)
    >>> with job.watched():
    ...     for number in range(3):
    ...         squares.append(number**2)
    ...         if number == 1:
    ...             job.stop()
    ...         job.advance()
    >>> squares, job.note
    ([0, 1], 'stopped after 2 of 3 numbers')
    """

    def __init__(
        self,
        name: str = "",
        noun: str = "piece",
        total: int = 0,
        on_progress: Callable[[], object] | None = None,
    ) -> None:
        self.name, self.noun, self.total = name, noun, total
        self.done = 0
        self.result: T | None = None
        self.waiting = self.active = False
        self._stop = threading.Event()
        self._on_progress, self._told = on_progress, 0.0
        self._bar: Any = None

    @property
    def running(self) -> bool:
        """Whether it is being done, or is to be begun."""
        return self.waiting or self.active

    @property
    def note(self) -> str:
        """That it was stopped, and after how much; "" where all of it is done."""
        return stopped(self.done, self.total, self.noun)

    @property
    def said(self) -> str:
        """Its note, in the language of the screens."""
        return stopped(self.done, self.total, self.noun, say)

    def stop(self) -> None:
        """Do no further piece; what is done stays. It may be called from another thread."""
        self._stop.set()

    def check(self) -> None:
        """Leave the `watched` block if the work is to stop.

        Raises:
            KeyboardInterrupt: it is, as if by Ctrl-C.
        """
        if self._stop.is_set():
            raise KeyboardInterrupt

    def advance(self, pieces: int = 1) -> None:
        """Count pieces as done, tell whoever watches, and leave the block if the work is to stop.

        Args:
            pieces: how many more are done.

        Raises:
            KeyboardInterrupt: the work is to stop.
        """
        self.done += pieces
        if self._bar is not None:
            self._bar.update(pieces)
        if self._on_progress is not None and (now := time.monotonic()) - self._told > INTERVAL:
            self._told = now
            self._on_progress()
        self.check()

    def watched(self, *, bar: bool = False) -> Watched:
        """For the work: a block that Ctrl-C and `stop` end early, without an error.

        Args:
            bar: whether to show a progress bar.
        """
        return Watched(self, bar)

    def begin(self, *, bar: bool) -> None:
        """It is being done from now on; `watched` calls this and `end`."""
        self.waiting = False
        self._bar = self._shown() if bar else None
        self.active = True

    def end(self) -> None:
        """It is no longer being done."""
        self.active = False
        if self._bar is not None:
            self._bar.close()

    def _shown(self) -> Any:
        from tqdm.auto import tqdm  # noqa: PLC0415 - it looks for a notebook, and loads its widgets

        return tqdm(total=self.total, desc=self.name, unit=self.noun)


class Watched:
    """The block in which a job is done.

    No generator: one that is interrupted right before it yields would swallow the interrupt.

    Args:
        job: the job.
        bar: whether to show a progress bar.
    """

    def __init__(self, job: Job[Any], bar: bool) -> None:
        self._job, self._bar = job, bar

    def __enter__(self) -> None:
        self._job.begin(bar=self._bar)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> bool:
        self._job.end()
        return kind is not None and issubclass(kind, KeyboardInterrupt)


def stopped(done: int, total: int, noun: str, say: Say = english) -> str:
    """That work was stopped, and after how much of it; "" where all of it is done.

    A total of 0 is one that is not known.

    Args:
        done: how many pieces are done.
        total: of how many.
        noun: what a piece is called.
        say: says it in a language.

    >>> stopped(37, 128, "unit"), stopped(1, 1, "unit"), stopped(1, 0, "unit")
    ('stopped after 37 of 128 units', '', 'stopped after 1 unit')
    """
    if done == total:
        return ""
    nouns = plural(noun, total or done)
    if not total:
        return say("stopped after {done} {nouns}", done=f"{done:,}", nouns=nouns)
    return say("stopped after {done} of {total} {nouns}", done=f"{done:,}", total=f"{total:,}",
               nouns=nouns)  # fmt: skip


def tell(work: str, note: str) -> None:
    """Say at once that work was stopped; `note` is what `stopped` says of it."""
    warnings.warn(f"{work} {note}; what was done by then is kept", StoppedWarning, stacklevel=3)
