"""A tree of phrases built in the background: the model is asked once, and then left to others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import torch

from grulens.probing.credit.reader import FINAL, read_by
from grulens.probing.credit.stack import Levels
from grulens.probing.phrases.agglomerate import Growing
from grulens.probing.phrases.hierarchy import Hierarchy
from grulens.probing.phrases.phrases import logits
from grulens.widgets.session.advice import advised
from grulens.widgets.session.session import Session

#: No class: in a list of choices, a value None would show as no choice at all.
NONE: Final = -1
#: Others have a turn in between.
PAUSE: Final = 0.001

#: One tree; set once it is to end.
Job = threading.Event


class GrowingTree:
    """The tree of the row, layer and step shown, of the model without the session's edits.

    Attributes:
        tree: what there is of it, or None.
        done: how many groups there are.
        total: how many there will be.
        classes: how many classes the readout has; 0 before it is found.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tree: Hierarchy | None = None
        self.done, self.total, self.classes = 0, 1, 0
        self._job = Job()

    @property
    def step(self) -> int | str:
        """Where the layer is read: the session's step, or "final" where it answers once a row."""
        session = self.session
        if not session.unread and len(session.answer_before.values) == 1 < session.steps:
            return FINAL
        return min(session.step, session.steps - 1)

    def clear(self) -> None:
        """Forget the tree, of another class or input; and build no further."""
        self.stop()
        self._job = Job()  # what is under way answers another question now
        self.tree, self.done, self.total = None, 0, 1

    def stop(self) -> None:
        """Build no further; what is built stays."""
        self._job.set()

    def begin(self) -> Job:
        """Forget the tree, and say what the next one is known by."""
        self.clear()
        return self._job

    def build(
        self,
        job: Job,
        target: int,
        against: int,
        by: str,
        on_group: Callable[[], object],
    ) -> None:
        """Build the tree; `on_group` is called after each group, with the lock held.

        Args:
            job: what `begin` gave.
            target: the class; NONE is the likeliest.
            against: the class that it is held against, or NONE.
            by: what is joined first.
            on_group: called after each group.

        Raises:
            ReadoutError: no linear readout is found.
        """
        session = self.session
        with session.lock, session.studying(), torch.no_grad():
            if job.is_set():
                return
            growing = self._asked(target, against, by)
            self.total = growing.total
        for _ in growing:
            with session.lock:
                if job.is_set():
                    return
                self.tree, self.done = growing.tree, len(growing.done)
                on_group()
            time.sleep(PAUSE)

    def _asked(self, target: int, against: int, by: str) -> Growing:
        session, step = self.session, self.step
        with advised(session):
            _, reader = read_by(
                session.model, session.given, session.baseline, session.layer, None, session.call
            )
        levels = Levels.below(session.model, session.baseline, session.layer)
        self.classes = reader.classes
        if target == NONE:
            target = int(logits(levels.row(session.row), reader, step)[0].argmax())
        asked = target if against in (NONE, target) else (target, against)
        return Growing(levels, reader, target=asked, step=step, row=session.row, by=by)
