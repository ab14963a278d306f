"""A tree of phrases built in the background: the model is asked once, and then left to others."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import torch

from grulens.job import Job
from grulens.probing.credit.stack import Stack
from grulens.probing.credit.target import FINAL, class_logits
from grulens.probing.phrases.agglomerate import Growing, Hierarchy
from grulens.probing.readout.head import head_for
from grulens.widgets.session.session import Session
from grulens.widgets.session.unavailable import advised

#: No class: in a list of choices, a value None would show as no choice at all.
NONE: Final = -1
#: Others have a turn in between.
PAUSE: Final = 0.001


def step_read(session: Session) -> int | str:
    """Where the layer is read: the session's step, or "final" where it answers once a row."""
    if not session.unread and len(session.answer_before.values) == 1 < session.steps:
        return FINAL
    return min(session.step, session.steps - 1)


def build_tree(
    session: Session,
    job: Job[Hierarchy],
    *,
    target: int,
    against: int,
    by: str,
    on_classes: Callable[[int], object],
) -> None:
    """Build the tree of the row, layer and step shown, of the model without the session's edits.

    Args:
        session: what is looked at; its lock is held whenever the job advances.
        job: keeps the tree by its groups.
        target: the class; NONE is the likeliest.
        against: the class that it is held against, or NONE.
        by: what is joined first.
        on_classes: is told how many classes the readout has.

    Raises:
        ReadoutError: no linear readout is found.
    """
    with session.lock, session.studying(), torch.no_grad():
        job.check()
        step = step_read(session)
        with advised(session):
            head = head_for(
                session.model, session.given, session.baseline, session.layer, None, session.call
            )
        on_classes(len(head.bias))
        stack = Stack.of(session.model, session.baseline, session.layer)
        if target == NONE:
            target = int(class_logits(stack.row(session.row), head, step)[0].argmax())
        classes = target if against in (NONE, target) else (target, against)
        growing = Growing(stack, head, target=classes, step=step, row=session.row, by=by)
        job.total = growing.total
    for _ in growing:
        with session.lock:
            job.check()
            job.result = growing.tree
            job.advance()
        time.sleep(PAUSE)
