"""Why a screen cannot show something for a layer, in the place where it would stand.

Two things can be missing: a linear readout of the layer (a screen takes no `head=`), and the
weights of its cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from grulens.errors import ReadoutError
from grulens.models.observed import ObservedLayer
from grulens.models.restore.mode import in_training
from grulens.widgets.session.session import Session

#: Where a message begins to say what the caller of a function can do.
HEAD: Final = "; give head="
EVAL: Final = "training mode may be why: switch to “run in eval mode”; otherwise "
OTHER: Final = "credit by integrated gradients needs no linear readout"


@contextmanager
def advised(session: Session) -> Iterator[None]:
    """Replace the advice in a ReadoutError of this block by what can be done on a screen.

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


def needs_weights(session: Session, what: str) -> str:
    """Why the layer shown has no such thing; "" if its cell is known by its weights.

    Args:
        session: the session of the screen.
        what: what needs the weights: "fixed points".
    """
    if not isinstance(session.before, ObservedLayer):
        return ""
    return (
        f"No {what} here: this screen computes them from the weights of a cell, and layer "
        f"{session.layer!r} was observed in its module's own forward "
        f"({session.before.cell.equation})."
    )
