"""The fidelity of an automaton as a still picture: a bar for each length and kind of words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np

from grulens.views.corpus.fidelity_chart import COLORS, Lines
from grulens.words import say

_CELL: Final = "display:inline-block;height:10px;background:"


def fidelity(lengths: Sequence[int], lines: Lines, *, threshold: float, title: str = "") -> str:
    """A table of the shares, each with a bar as long as it.

    Args:
        lengths: how long words were.
        lines: by the name of a kind of words, (length, 4): share, low, high, number of words.
        threshold: the share that was asked for.
        title: over the table.

    >>> drawn = fidelity([5], {"<even>": np.array([[0.5, 0.4, 0.6, 9]])}, threshold=0.9, title="a")
    >>> "&lt;even&gt;" in drawn, "0.500" in drawn, "width:30px" in drawn
    (True, True, True)
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in lines)
    body = ""
    for row, length in enumerate(lengths):
        cells = ""
        for number, line in enumerate(lines.values()):
            share = float(line[row, 0])
            bar = (
                f"{_CELL}{COLORS[number % len(COLORS)]};width:{round(60 * share)}px"
                if (not np.isnan(share))
                else ""
            )
            shown = f'<span style="{bar}"></span> {share:.3f}' if bar else "–"
            cells += f'<td style="text-align:left;white-space:nowrap">{shown}</td>'
        body += f"<tr><th>{length}</th>{cells}</tr>"
    asked = say(
        "the share of words on which network and automaton agree; {share} was asked for",
        share=f"{threshold:g}",
    )
    first = escape(say("symbols"))
    return (
        f"<b>{escape(title)}</b><table><thead><tr><th>{first}</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table><div>{escape(asked)}</div>"
    )
