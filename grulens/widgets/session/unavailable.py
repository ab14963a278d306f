"""Why a screen cannot show something for a layer, in the place where it would stand.

Three things can be missing: a linear readout of the layer (a screen takes no `head=`), the weights
of its cell, and the equation of a GRU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from grulens.cells.kinds import GRU
from grulens.errors import ReadoutError
from grulens.models.layers import article
from grulens.models.observed import ObservedLayer
from grulens.models.restore.mode import in_training
from grulens.widgets.session.session import Session
from grulens.words import say

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


def no_head(error: BaseException) -> bool:
    """Whether an error only says, in the words of `advised`, that no linear readout was found.

    That is no fault of anybody: it is said where the result would stand, and not as an alarm.
    """
    return isinstance(error, ReadoutError) and str(error).endswith(OTHER)


def needs_weights(session: Session, what: str) -> str:
    """Why the layer shown has no such thing; "" if its cell is known by its weights.

    Args:
        session: the session of the screen.
        what: the message that says what needs the weights: "fixed points".
    """
    if not isinstance(session.before, ObservedLayer):
        return ""
    return say(
        "No {what} here: this screen computes them from the weights of a cell, and layer {layer} "
        "was observed in its module's own forward ({equation}).",
        what=say(what), layer=repr(session.layer), equation=session.before.cell.equation,
    )  # fmt: skip


def needs_gru(session: Session, what: str) -> str:
    """Why the layer shown has no such thing; "" if its cell is a GRU's.

    Args:
        session: the session of the screen.
        what: the message that says what rests on a GRU's own equation: "phrases".

    >>> import torch
    >>> session = Session(torch.nn.RNN(2, 3, batch_first=True), torch.ones(1, 4, 2))
    >>> needs_gru(session, "phrases").partition(", and ")[2]
    "layer 'l0' is an RNN."
    """
    why, cell = needs_weights(session, what), session.before.cell
    if why or isinstance(cell, GRU):
        return why
    return say(
        "No {what} here: this screen takes a run apart by a GRU's own equation, and layer {layer} "
        "is {kind}.",
        what=say(what), layer=repr(session.layer), kind=article(cell.kind),
    )  # fmt: skip
