"""A sweep as a still picture: a table of its strongest units, with bars that need no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np
from jaxtyping import Float

from grulens.views.figure.palette import DIRECT, RECURRENT
from grulens.views.figure.tokens import number
from grulens.views.units.sweep_chart import falling
from grulens.words import say

MOST: Final = 12
_CELL: Final = 'style="text-align:right;padding:1px 10px;background:transparent"'


def effects(
    units: Sequence[object],
    effect: Float[np.ndarray, " unit"],
    direct: Float[np.ndarray, " unit"],
    recurrent: Float[np.ndarray, " unit"],
    *,
    title: str = "",
    noun: str = "unit",
) -> str:
    """The largest effects, with a bar for each of the two parts.

    Args:
        units: (unit,), what to call each row.
        effect: (unit,), NaN is left away.
        direct: (unit,), the direct part.
        recurrent: (unit,), the recurrent part.
        title: over the table.
        noun: what each row is.

    >>> table = effects(["<b>"], np.array([0.5]), np.array([0.25]), np.array([0.25]))
    >>> "&lt;b&gt;" in table, "0.25" in table
    (True, True)
    """
    effect, direct, recurrent = (np.asarray(v, np.float64) for v in (effect, direct, recurrent))
    order = falling(np.abs(effect))
    top = order[:MOST]
    ends = np.concatenate([direct[top], recurrent[top]])
    widest = float(np.abs(ends).max(initial=0.0)) or 1.0
    rows = "".join(
        f'<tr style="background:transparent"><td {_CELL}>{escape(str(units[i]))}</td>'
        f"<td {_CELL}>{number(effect[i], '.3g')}</td>"
        f"<td {_CELL}>{number(direct[i], '.3g')}</td>"
        f"<td {_CELL}>{_bar(direct[i] / widest, DIRECT)}</td>"
        f"<td {_CELL}>{number(recurrent[i], '.3g')}</td>"
        f"<td {_CELL}>{_bar(recurrent[i] / widest, RECURRENT)}</td></tr>"
        for i in top
    )
    heads = (say(noun), say("effect"), say("direct"), "", say("recurrent"), "")
    head = "".join(f"<th {_CELL}>{escape(name)}</th>" for name in heads)
    rest = len(order) - len(top)
    left = say("and {n} more with smaller effects", n=rest) if rest > 0 else ""
    return (
        f"<b>{escape(title)}</b>"
        '<table style="color:inherit;font:inherit;border-collapse:collapse">'
        f'<tr style="background:transparent">{head}</tr>{rows}</table>'
        + (f"<div>{escape(left)}</div>" if left else "")
    )


def _bar(share: float, color: str) -> str:
    """A bar from the middle of its cell, to the left where it is negative."""
    size = 50 * min(1.0, abs(float(share)))
    left = 50 - size if share < 0 else 50
    return (
        '<div style="width:120px;height:10px" aria-hidden="true"><div style="'
        f"margin-left:{left:.1f}%;width:{size:.1f}%;height:10px;background:{color}"
        '"></div></div>'
    )
