"""What can be done on a screen where nothing linear reads a layer: a screen takes no `head=`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from grulens.errors import ReadoutError
from grulens.models.restore.mode import in_training
from grulens.widgets.session.session import Session

#: What stands behind it in a message is for whoever calls a function.
HEAD: Final = "; give head="
EVAL: Final = "training mode may be why: switch to “run in eval mode”; otherwise "
OTHER: Final = "credit by integrated gradients needs no linear readout"


@contextmanager
def advised(session: Session) -> Iterator[None]:
    """Whoever finds no linear readout in this block says what can be done on a screen.

    >>> import torch
    >>> with advised(Session(torch.nn.GRU(2, 3), torch.ones(4, 1, 2))):
    ...     raise ReadoutError("several nn.Linear read it; give head=...")
    Traceback (most recent call last):
    grulens.errors.ReadoutError: several nn.Linear read it; credit by integrated gradients needs ...
    """
    try:
        yield
    except ReadoutError as error:
        why, advice, _ = str(error).partition(HEAD)
        if not advice:
            raise
        acts = not session.evaluate and in_training(session.model)
        raise ReadoutError(f"{why}; {EVAL if acts else ''}{OTHER}") from None
