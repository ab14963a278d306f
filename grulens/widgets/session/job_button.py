"""A button that begins and stops long work in the background, with a progress bar beside it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import ipywidgets as W

from grulens.job import Job
from grulens.widgets.session.controls import button
from grulens.widgets.session.panel import Panel
from grulens.words import message, say

T = TypeVar("T")

STOP: Final = message("stop")
#: From so many seconds on what is left is told in minutes.
MINUTES: Final = 90


class JobButton(Generic[T]):
    """A button, a bar, and the job that they are about.

    Args:
        panel: the screen, which shows what goes wrong.
        text: the message that the button says.
        tip: what it does, in a sentence.
        noun: what a piece of the work is called.
        work: does the work of a job, and keeps what is done in its `result`. It runs on another
            thread, and takes the session's lock where it needs it.
        show: shows how far the job is, and what there is by now; the session's lock is held.

    Attributes:
        job: the present job; a new one for each request.
        button: begins the work, and stops it.
        bar: how much of it is done, and how long the rest takes; seen while it runs.
    """

    def __init__(
        self,
        panel: Panel,
        *,
        text: str,
        tip: str,
        noun: str,
        work: Callable[[Job[T]], object],
        show: Callable[[], object],
    ) -> None:
        self._panel, self._text, self._noun = panel, text, noun
        self._work, self._show_panel = work, show
        self.job: Job[T] = Job(text, noun)
        # not cleared after the click: what it starts may have failed by then
        self.button = button(
            say(text), tip, panel.callbacks.guard(self._on_click, source=self, clears=False)
        )
        self.bar = W.IntProgress(
            style={"description_width": "auto"}, layout=W.Layout(width="240px", display="none")
        )
        self._began = 0.0
        self._worker = panel.callbacks.background(self._run, source=self, stop=self.stop)

    @property
    def percent(self) -> int:
        """How much is done, in tenths, unlike the bar: a screen reader says every change."""
        return self.job.done * 10 // max(1, self.job.total) * 10

    @property
    def left(self) -> str:
        """How long the rest takes if it goes on as it went; "" before a piece is done."""
        done, total = self.job.done, self.job.total
        if not 0 < done < total:
            return ""
        seconds = math.ceil((time.monotonic() - self._began) / done * (total - done))
        if seconds < MINUTES:
            return say("about {n} s left", n=seconds)
        return say("about {n} min left", n=math.ceil(seconds / 60))

    def begin(self) -> None:
        """Stop what runs, forget what was found, and begin anew."""
        self.job.stop()
        self.job = Job(self._text, self._noun, on_progress=self._show_locked)
        self.job.waiting = True
        self.show()
        self._worker.later(self.job)

    def stop(self) -> None:
        """Do no more; what is done stays."""
        self.job.stop()

    def clear(self) -> None:
        """Stop, and forget the result: it belongs to an earlier request."""
        self.job.stop()
        self.job = Job(self._text, self._noun)
        self._panel.callbacks.clear(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is done any more; whether that was reached in time."""
        return self._worker.wait(timeout)

    def show(self) -> None:
        """Show how far the job is."""
        running = self.job.running
        self.button.description = say(STOP if running else self._text)
        self.button.icon = "stop" if running else ""
        self.bar.max, self.bar.value = max(1, self.job.total), self.job.done
        self.bar.description = self.left if running else ""
        self.bar.layout.display = None if running else "none"
        self._show_panel()

    def _show_locked(self) -> None:
        with self._panel.session.lock:
            self.show()

    def _on_click(self, _: Any) -> None:
        if self.job.running:
            self.job.stop()
        else:
            self.begin()

    def _run(self, job: Job[T]) -> None:
        self._began = time.monotonic()
        try:
            with job.watched():
                job.check()
                self._work(job)
        finally:
            self._show_locked()
