"""An edit in the words and the colour that its own layer's cell has for the signal."""

from __future__ import annotations

from grulens.cells.cell import Signal
from grulens.probing.edits.edit import Edit
from grulens.widgets.session.session import Session


def words(session: Session, edit: Edit) -> str:
    """What an edit does, as a person says it."""
    return edit.words(signal_of(session, edit))


def signal_of(session: Session, edit: Edit) -> Signal | None:
    """The signal that an edit changes; None where its layer did not run, or has no such signal."""
    layer = session.baseline.get(edit.layer)
    signals = () if layer is None else layer.cell.signals
    return next((signal for signal in signals if signal.name == edit.signal), None)
