"""What units and edits are called on a screen.

A unit of a state with several axes is called by its channel and its place in space. An edit uses
the words that the cell of its layer has for the signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grulens.cells.signal import Signal, Signalling
from grulens.probing.edits import positions
from grulens.probing.edits.edit import Edit
from grulens.widgets.session.selection import has_space
from grulens.widgets.session.session import Session
from grulens.words import say, say_n

#: So many units are named one by one.
FEW: Final = 3


def unit_name(cell: Signalling, unit: int) -> str:
    """What one unit is called beside a figure: "unit 3", or "channel 3 at (12, 7)".

    Args:
        cell: whose unit it is.
        unit: its number.
    """
    if not has_space(cell):
        return say("unit {unit}", unit=unit)
    fold = cell.fold("mean")
    channel, at = fold.where(unit)
    if fold.noun == "slice":
        return say("unit {unit}", unit=(channel, *at))
    place = at if len(at) > 1 else at[0]
    return say("channel {channel} at {place}", channel=channel, place=place)


def places(cell: Signalling, units: Sequence[int]) -> str:
    """Where units stand in a state of several axes; "" where they are numbers and nothing more.

    >>> from grulens.cells.mix import GatedForm, Polynomial
    >>> from grulens.cells.observed import ObservedCell
    >>> one = Polynomial.number(1)
    >>> cell = ObservedCell("ConvGRU", (), GatedForm(one, one), "", "h", (2, 2, 2))
    >>> places(cell, [1, 6]), places(cell, [4, 5, 6, 7])
    ('channel 0 at (0, 1), channel 1 at (1, 0)', 'all of channel 1')
    """
    if not units or not has_space(cell):
        return ""
    fold = cell.fold("mean")
    channels = fold.channels(units)
    if {*fold.units(channels)} == {*units}:
        numbers = ", ".join(map(str, channels))
        if fold.noun == "slice":
            return say_n("all of slice {numbers}", "all of slices {numbers}", len(channels),
                         numbers=numbers)  # fmt: skip
        return say_n("all of channel {numbers}", "all of channels {numbers}", len(channels),
                     numbers=numbers)  # fmt: skip
    named = ", ".join(unit_name(cell, unit) for unit in units[:FEW])
    more = len(units) - FEW
    return say("{named} and {n} more", named=named, n=more) if more > 0 else named


def words(session: Session, edit: Edit) -> str:
    """What an edit does, as a person says it; and where its units stand, if they stand in space."""
    layer = session.baseline.get(edit.layer)
    text = edit.words(signal_of(session, edit), say=say)
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
