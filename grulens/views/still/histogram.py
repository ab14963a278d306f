"""What values a unit has over a corpus, as a still picture."""

from __future__ import annotations

from html import escape
from typing import Final

from grulens.views.corpus.histogram import Counts, Edges, Shares, shares
from grulens.views.figure.palette import AFTER, BEFORE
from grulens.views.figure.tokens import number, visible_name
from grulens.words import say

WIDE: Final = 480
HIGH: Final = 90


def histogram(
    every: Counts, held: Counts | None, edges: Edges, *, label: str = "", title: str = ""
) -> str:
    """The steps where a label does not hold in grey, and over them those where it does.

    Args:
        every: (bin,), how many steps lie in each bin.
        held: those of them where the label holds; None where there is no label.
        edges: (bin + 1,), where the bins lie.
        label: the name of the label.
        title: over the picture.

    >>> import numpy as np
    >>> drawn = histogram(np.array([2, 2]), np.array([0, 1]), np.array([-1.0, 0.0, 1.0]),
    ...                   label="<b>", title="h of unit 3")
    >>> "where &lt;b&gt;" in drawn, drawn.count("<path")
    (True, 2)
    """
    shown, rest, there = shares(every, held, edges)
    most = float(max(rest.max(), there.max(), 1e-9))
    name = visible_name(label)
    said = escape(say("all steps") if held is None else say("where not {label}", label=name))
    drawn = f'<path d="{_path(rest, most)}" fill="{BEFORE}" fill-opacity="0.6"/>'
    legend = f'<span style="color:{BEFORE}">■</span> {said}'
    if held is not None:
        drawn += f'<path d="{_path(there, most)}" fill="none" stroke="{AFTER}" stroke-width="1.5"/>'
        said = escape(say("where {label}", label=name))
        legend += f' <span style="color:{AFTER}">■</span> {said}'
    return (
        f'<b>{escape(title)}</b> {legend}<br><svg role="img" aria-label="{escape(title)}" '
        f'width="{WIDE}" height="{HIGH}" style="max-width:100%">{drawn}</svg>'
        f'<div style="display:flex;justify-content:space-between;max-width:{WIDE}px">'
        + "".join(f"<span>{number(end, '.3g')}</span>" for end in (shown[0], shown[-1]))
        + "</div>"
    )


def _path(shares: Shares, most: float) -> str:
    wide = WIDE / len(shares)
    tops = [f"V{HIGH - 2 - share / most * (HIGH - 4):.1f}h{wide:.2f}" for share in shares]
    return f"M0 {HIGH - 2}{''.join(tops)}V{HIGH - 2}"
