"""An edit in the words and the colour that its own layer's cell has for the signal."""

from __future__ import annotations

from grulens.cells.cell import Signal
from grulens.probing.edits import positions
from grulens.probing.edits.edit import Edit
from grulens.widgets.session.session import Session
from grulens.widgets.session.unit_names import places


def words(session: Session, edit: Edit) -> str:
    """What an edit does, as a person says it; and where its units stand, if they stand in space."""
    layer, text = session.baseline.get(edit.layer), edit.words(signal_of(session, edit))
    if layer is None or edit.units is None:
        return text
    chosen = positions.mask(edit.units, layer.shape[2]).nonzero()[:, 0].tolist()
    where = places(layer.cell, chosen)
    return f"{text} · {where}" if where else text


def signal_of(session: Session, edit: Edit) -> Signal | None:
    """The signal that an edit changes; None where its layer did not run, or has no such signal."""
    layer = session.baseline.get(edit.layer)
    try:
        return None if layer is None else layer.cell.signal(edit.signal)
    except KeyError:
        return None
