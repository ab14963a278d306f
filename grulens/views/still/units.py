"""The table of units as a still picture: its first rows, and the columns there is room for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import isnan
from typing import Any, Final

import numpy as np
from jaxtyping import Int

from grulens.cells.signal import Signal
from grulens.views.figure.palette import ACCENT, COLORS
from grulens.views.figure.tokens import number
from grulens.views.units.columns import ANY, Column, about, bar_paths, is_large
from grulens.words import say

MOST: Final = 12
#: So many pixels are there for numbers, beside the bars.
ROOM: Final = 520
_CELL: Final = "padding:1px 8px;background:transparent;white-space:nowrap;text-align:"


def units(
    data: Mapping[str, Any],
    rows: Int[np.ndarray, " row"],
    *,
    signals: Sequence[Signal] = (),
    noun: str = "unit",
    title: str = "",
) -> str:
    """The first of these rows, with what they hold.

    Args:
        data: by name the numbers or texts of every unit; "bars" are states over time, as letters.
        rows: positions in them, in the order in which they are to stand.
        signals: those of the layer's cell, which some columns are of.
        noun: what each row is.
        title: over the table.

    >>> shown = units({"unit": np.array([7, 9]), "called": ["<b>", ""]}, np.array([1, 0]))
    >>> shown.index(">9<") < shown.index(">7<"), "&lt;b&gt;" in shown
    (True, True)
    """
    columns = {
        name: about(noun if name == "unit" else name, signals) for name in data if name != "bars"
    }
    names = list(_with_room(columns))
    head = "".join(
        _cell(escape(columns[name].title), data[name], "th", columns[name].meaning)
        for name in names
    )
    bars = data.get("bars")
    if bars is not None:
        head += _cell(escape(say("h over time")), [], "th")
    body = ""
    for row in rows[:MOST].tolist():
        cells = "".join(_cell(_written(data[n], row, columns[n].format), data[n]) for n in names)
        cells += "" if bars is None else _cell(_drawn(bars[row]), [])
        body += f'<tr style="background:transparent">{cells}</tr>'
    rest = len(rows) - MOST
    left = f"<div>{escape(say('and {n} more', n=rest))}</div>" if rest > 0 else ""
    return (
        f'<b>{escape(title)}</b><div style="overflow-x:auto">'
        '<table style="color:inherit;font:inherit;border-collapse:collapse">'
        f'<tr style="background:transparent">{head}</tr>{body}</table></div>{left}'
    )


def _with_room(columns: Mapping[str, Column]) -> Iterator[str]:
    """The columns that fold away last, in their own order, as many as there is room for."""
    left, shown = ROOM, set()
    for name in sorted(columns, key=lambda name: columns[name].fold):
        left -= columns[name].width + 16
        if left < 0:
            break
        shown.add(name)
    return (name for name in columns if name in shown)


def _cell(text: str, values: Any, tag: str = "td", meaning: str = "") -> str:
    side = "left" if isinstance(values, list) else "right"
    told = f' title="{escape(meaning, quote=True)}"' if meaning else ""
    return f'<{tag}{told} style="{_CELL}{side}">{text}</{tag}>'


def _written(values: Any, row: int, form: str) -> str:
    """A cell as the live table writes it.

    >>> _written(np.array([-0.001, 0.25]), 0, "0.00"), _written(np.array([0.25]), 0, "0%")
    ('0.00', '25%')
    """
    if isinstance(values, list):
        return escape(values[row])
    value = float(values[row])
    if isnan(value):
        return "–"
    if form == ANY or is_large(values):
        return number(value, ".3g")
    decimals = len(form.removesuffix("%").partition(".")[2])
    return number(value, f".{decimals}{'%' if form.endswith('%') else 'f'}")


def _drawn(letters: str) -> str:
    """A state over time, as bars up and down from a line."""
    up, down, high = bar_paths(letters)
    return (
        f'<svg role="img" aria-label="{escape(say("state over time"), quote=True)}" width="150" '
        f'height="19" viewBox="0 0 {max(len(letters), 1)} {high}" preserveAspectRatio="none" '
        f'style="display:block"><path d="M0 {high // 2}H{len(letters)}" stroke="currentColor" '
        'stroke-opacity="0.35" vector-effect="non-scaling-stroke"/>'
        f'<path d="{up}" stroke="{ACCENT["state"]}" stroke-width="0.9"/>'
        f'<path d="{down}" stroke="{COLORS["state"][54]}" stroke-width="0.9"/></svg>'
    )
