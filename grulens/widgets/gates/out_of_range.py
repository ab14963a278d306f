"""What to say of a gate that an edit takes to where no gate goes: beyond open, or beyond shut."""

from __future__ import annotations

from grulens.cells.signal import Signal
from grulens.widgets.session.session import Session
from grulens.words import say, say_n


def out_of_range(session: Session, *, cut: bool = True) -> str:
    """Which edited gates of the layer shown leave 0 to 1 in the row shown; "" where none does.

    Args:
        session: whose run it is.
        cut: whether the colours end where a gate ends.

    >>> import torch
    >>> from grulens.probing.edits.edit import clamp
    >>> session = Session(torch.nn.GRU(3, 2, batch_first=True), torch.ones(1, 4, 3))
    >>> out_of_range(session)
    ''
    >>> session.add(clamp("l0", "z", value=2.0))
    >>> out_of_range(session)
    'z is out of 0 to 1 at 4 steps, where no gate goes by itself; its colours end there.'
    """
    run = session.now
    edited = {edit.signal for edit in session.on if edit.layer == session.layer}
    said = []
    for gate in run.cell.signals:
        if gate.is_gate and gate.name in edited and (steps := _steps(session, gate)):
            text = say_n(
                "{gate} is out of 0 to 1 at {n} step, where no gate goes by itself",
                "{gate} is out of 0 to 1 at {n} steps, where no gate goes by itself",
                steps, gate=gate.name,
            )  # fmt: skip
            said.append(say("{text}; its colours end there.", text=text) if cut else
                        say("{sentence}.", sentence=text))  # fmt: skip
    return " ".join(said)


def _steps(session: Session, gate: Signal) -> int:
    """At how many steps of the row any unit of a gate is out of its range."""
    values, mask = session.now.signal(gate.name)[session.row], session.now.mask[session.row]
    out = (values < gate.low) | (values > gate.high)
    return int((out.flatten(1).any(1) & mask).sum())
