"""One unit at one step as a still picture: its equation with its numbers, each sum a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from grulens.views.figure.palette import ACCENT
from grulens.views.figure.tokens import number
from grulens.views.still.credit import parts as ledger
from grulens.views.units.cell_drawing import Shown, with_numbers
from grulens.words import say


def close_up(
    shown: Shown,
    sums: Mapping[str, tuple[Sequence[str], Sequence[float]]],
    *,
    title: str = "",
    caption: str = "",
) -> str:
    """The numbers of a cell, and what adds up to each pre-activation.

    Args:
        shown: the numbers.
        sums: of each signal with a pre-activation the names and the values of its parts.
        title: over it.
        caption: under it.

    >>> from grulens.cells.signal import Signal
    >>> h = Signal("h", "state", -1.0, 1.0, "state", activated=False)
    >>> shown = Shown((h,), {}, {"h": 0.5}, {"h": 0.0}, 1, 1, "")
    >>> "h 0.5" in close_up(shown, {}, title="<b>").replace("</b>", "")
    True
    """
    before = {f"{state}_prev": value for state, value in shown.before.items()}
    lines = [f"{name} = {number(value, '.3g')}" for name, value in before.items()]
    if shown.equation:
        numbers = with_numbers(shown.equation, {**shown.values, **before})
        lines.append(f"h = {shown.equation} = {numbers}")
    edited = say(" (as an edit left it)")
    head = "".join(
        f'<span style="margin-right:16px"><span style="color:{ACCENT[signal]}">■</span> '
        f"{escape(signal.said)} <b>{escape(signal.name)}</b> "
        f"{number(shown.values[signal.name], '.3g')}"
        f"{escape(edited) if signal.name in shown.edited else ''}</span>"
        for signal in shown.signals
    )
    tables = "".join(
        "<div>"
        + ledger(
            names,
            values,
            say("sum of {signal}", signal=name),
            say("what adds up to {signal}", signal=name),
        )
        + "</div>"
        for name, (names, values) in sums.items()
    )
    return (
        f"<b>{escape(title)}</b><div>{head}</div><div>{escape('; '.join(lines))}</div>"
        f'<div style="display:flex;flex-wrap:wrap;gap:8px 28px">{tables}</div>'
        f"<div>{escape(caption)}</div>"
    )
