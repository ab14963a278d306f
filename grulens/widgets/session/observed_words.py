"""What a screen cannot do with an observed cell, said in the place where it would stand."""

from __future__ import annotations

from grulens.models.observed import ObservedLayer
from grulens.widgets.session.session import Session


def needs_weights(session: Session, what: str) -> str:
    """Why the layer shown has no such thing; "" if its cell is known by its weights.

    Args:
        session: what is looked at.
        what: what needs them: "fixed points".
    """
    if not isinstance(session.before, ObservedLayer):
        return ""
    return (
        f"No {what} here: this screen computes them from the weights of a cell, and layer "
        f"{session.layer!r} was observed in its module's own forward "
        f"({session.before.cell.equation})."
    )
