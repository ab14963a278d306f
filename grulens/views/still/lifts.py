"""How many times as often each label holds at some places, as a still picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np

from grulens.views.corpus.lifts import Logs, rising
from grulens.views.figure.palette import AGAINST, FOR
from grulens.views.figure.tokens import visible_name
from grulens.words import say

_CELL: Final = 'style="text-align:right;padding:1px 10px;background:transparent"'


def lifts(labels: Sequence[str], logs: Logs, share: Logs, chance: Logs, *, title: str = "") -> str:
    """A table of the labels, the largest lift first, each with a bar of its logarithm.

    Args:
        labels: (label,), their names.
        logs: (label,), the base-2 logarithm of each lift.
        share: (label,), the share of the steps there at which it holds.
        chance: (label,), the share of all steps.
        title: over the table.

    >>> some = np.array([1.0]), np.array([0.5]), np.array([0.25])
    >>> table = lifts(["<b>"], *some, title="a")
    >>> "&lt;b&gt;" in table, "2.00" in table, "width:50px" in table
    (True, True, True)
    """
    order, said = rising(logs)
    widest = float(np.abs(logs[order]).max(initial=0.0)) or 1.0
    rows = ""
    for i in order:
        size = round(50 * abs(float(logs[i])) / widest)
        left, color = (50, FOR) if logs[i] >= 0 else (50 - size, AGAINST)
        bar = (
            '<div style="width:100px;height:10px" aria-hidden="true"><div style="margin-left:'
            f'{left}px;width:{size}px;height:10px;background:{color}"></div></div>'
        )
        numbers = (bar, f"{2.0 ** logs[i]:.2f}", f"{share[i]:.3f}", f"{chance[i]:.3f}")
        cells = "".join(f"<td {_CELL}>{number}</td>" for number in numbers)
        name = escape(visible_name(labels[i]))
        rows += f'<tr style="background:transparent"><td {_CELL}>{name}</td>{cells}</tr>'
    heads = (say("label"), "", say("times as often"), say("there"), say("in the corpus"))
    head = "".join(f"<th {_CELL}>{escape(one)}</th>" for one in heads)
    return (
        f"<b>{escape(title)}</b>"
        '<table style="color:inherit;font:inherit;border-collapse:collapse">'
        f'<tr style="background:transparent">{head}</tr>{rows}</table>'
        + (f"<div>{escape(said)}</div>" if said else "")
    )
