"""What can colour the states of a phase portrait, and the values that do."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from grulens.cells.signal import Signal
from grulens.views.figure.raster import scale
from grulens.widgets.session.seen import Seen
from grulens.widgets.session.session import Session
from grulens.words import say

#: Roles of signals in the order in which they are offered.
ROLES: Final = ("state", "memory", "keep", "write", "reset", "read", "candidate")

Colored = tuple[np.ndarray, Any, tuple[float, float], str]


def unit_of(session: Session) -> int:
    """The unit that colours, or the channel: the first selected, else the one that varies most."""
    seen, layer = Seen(session), session.before
    chosen = seen.chosen(session.units)
    if chosen:
        return int(chosen[0])
    return int(seen.folded(layer.h)[layer.mask].var(0, correction=0).argmax())


def choices(session: Session) -> list[tuple[str, str]]:
    """What can colour the states, in words and by name."""
    batch, steps, _ = session.now.h.shape
    one = Seen(session).name(unit_of(session))
    found = [(say("step"), "step")]
    if batch > 1:
        found.append((say("row of the batch"), "row"))
    if not session.unread:
        answer = session.answer_now.values
        if answer.shape[1] > 1 and len(answer) == steps:
            found.append((say("largest of the output"), "class"))
    return found + [
        (say("{signal} of {unit}", signal=s.said, unit=one), s.name) for s in _by_role(session)
    ]


def _by_role(session: Session) -> list[Signal]:
    """The signals of the layer shown: what it remembers first, then what it keeps of that."""
    signals = session.now.cell.signals
    return sorted(signals, key=lambda signal: ROLES.index(signal.role))


def coloured(session: Session, by: str) -> Colored:
    """The value of each state (row, time), by which colours, their ends, and what they are."""
    batch, steps, _ = session.now.h.shape
    if by == "class":
        values = np.zeros((batch, steps))
        for place in range(batch):
            answer = session.answers.of(session.edited, place, batch, steps)
            values[place] = answer.values.argmax(1).numpy()
        count = session.answer_now.values.shape[1]
        names = list(session.labels or [str(i) for i in range(count)])
        return values, names, (0.0, 1.0), "class"
    if by in (signal.name for signal in session.now.cell.signals):
        unit, signal = unit_of(session), session.now.cell.signal(by)
        every = Seen(session).folded(session.now.signal(by))
        values = every[..., unit].double().cpu().numpy()
        return values, signal, scale(signal, values), f"{by} {unit}"
    index = np.indices((batch, steps))[0 if by == "row" else 1].astype(float)
    return index, "time", (0.0, float(index.max(initial=0.0))), by
