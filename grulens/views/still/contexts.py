"""What stands at some places of a corpus as a still picture: a line of text for each."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from grulens.views.corpus.contexts import LINES, Tokens, Values, inks
from grulens.views.figure.tokens import set_apart, visible_text
from grulens.words import say

_CELL: Final = 'style="text-align:left;padding:1px 8px;background:transparent"'


def contexts(
    names: Sequence[str],
    lengths: Sequence[int],
    tokens: Tokens,
    values: Values,
    *,
    signal: str,
    ends: tuple[float, float],
    down: str,
    title: str = "",
) -> str:
    """A table with a line for each place, its tokens on the colours of their values.

    Args:
        names: (line,), what to call each line.
        lengths: (line,), how many steps each has.
        tokens: (line,), what was read at each step; a step that has no token is a block.
        values: (line, step), NaN where it is not known.
        signal: whose colours.
        ends: the values at the ends of the colours.
        down: what the names are.
        title: over the table.

    >>> import numpy as np
    >>> one = contexts(["<i>"], [1], [["<b>"]], np.ones((1, 1)), signal="weight", ends=(0.0, 1.0),
    ...                down="value", title="a")
    >>> "&lt;b&gt;" in one, "&lt;i&gt;" in one, "background:#3E0C29" in one
    (True, True, True)
    >>> "</span> <span" in contexts(["a"], [2], [["the", "cat"]], np.ones((1, 2)), signal="weight",
    ...                             ends=(0.0, 1.0), down="value")
    True
    """
    grounds, colors = inks(values, signal, ends)
    body = ""
    for line, name in enumerate(names[:LINES]):
        texts = tokens[line]
        between = " " if texts is not None and set_apart(texts) else ""
        shown = between.join(
            f'<span style="background:{grounds[line][step]};color:{colors[line][step]}">'
            f"{'&nbsp;' if texts is None else escape(visible_text(texts[step]))}</span>"
            for step in range(lengths[line])
        )
        body += (
            f'<tr style="background:transparent"><td {_CELL}>{escape(name)}</td><td {_CELL}>'
            '<span style="font-family:monospace;line-height:1.5;overflow-wrap:anywhere">'
            f"{shown}</span></td></tr>"
        )
    more, head = len(names) - LINES, escape(say(down))
    return (
        f'<b>{escape(title)}</b><table style="color:inherit;font:inherit">'
        f'<tr style="background:transparent"><th {_CELL}>{head}</th><th {_CELL}></th></tr>'
        f"{body}</table>"
        + (f"<div>{escape(say('and {n} more', n=more))}</div>" if more > 0 else "")
    )
