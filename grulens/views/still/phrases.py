"""A tree of phrases as a still picture: boxes over the tokens, and the largest ones in words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np

from grulens.views.figure import raster
from grulens.views.figure.palette import COLORS, LEVELS
from grulens.views.phrases.phrase import Phrase, as_score, words
from grulens.views.phrases.tree import LEVEL, MOST
from grulens.views.still import lens as still
from grulens.words import say

TOP: Final = 8
_CELL: Final = 'style="text-align:right;padding:1px 10px;background:transparent"'


def phrases(
    groups: Sequence[Phrase], *, tokens: Sequence[object] | None = None, title: str = ""
) -> str:
    """The boxes as an SVG, the tokens as text, and the groups that join most as a table.

    Args:
        groups: every token in order, and then every merge.
        tokens: (time,), what to call each token; None is its number.
        title: over the picture.

    >>> from grulens.probing.phrases.merging import Group
    >>> two = [Group(0, 1, 0.2), Group(1, 2, 0.5), Group(0, 2, -0.4, -1.1, (0, 1), 1, 1)]
    >>> drawn = phrases(two, tokens=["<b>", "good"])
    >>> drawn.count("<rect"), "&lt;b&gt; good" in drawn, "−1.10" in drawn
    (1, True, True)
    """
    singles = [group for group in groups if not group.order]
    merges = [group for group in groups if group.order]
    ends = raster.symmetric(np.array([group.score for group in groups] or [0.0]), 1e-9)
    levels = max((group.height for group in merges), default=1)
    count, height = max(1, len(singles)), min(MOST, LEVEL * levels)
    # the larger one first: what lies over it covers it
    boxes = "".join(
        f'<rect x="{group.first}" y="{levels - group.height}" width="{group.stop - group.first}" '
        f'height="{group.height}" fill="{_color(group.score, ends)}" stroke="#7F7F7F" '
        'vector-effect="non-scaling-stroke"/>'
        for group in reversed(merges)
    )
    name = escape(
        say("{title}: {groups} groups of {tokens} tokens", title=title, groups=len(merges),
            tokens=len(singles)),
        quote=True,
    )  # fmt: skip
    parts = [
        f"<b>{escape(title)}</b>",
        f'<svg role="img" aria-label="{name}" viewBox="0 0 {count} {levels}" width="100%" '
        f'height="{height}" preserveAspectRatio="none" style="display:block">{boxes}</svg>',
    ]
    if singles:
        called = [words(tokens, group) for group in singles] if tokens is None else tokens
        scores = np.array([group.score for group in singles])
        parts.append(
            still.tokens(
                scores, signal="difference", tokens=called, name=say("each token alone"), ends=ends
            )
        )
    order = sorted(merges, key=lambda group: -abs(np.nan_to_num(group.interaction)))[:TOP]
    rows = "".join(
        f'<tr style="background:transparent"><td {_CELL}><code>{escape(words(tokens, group))}'
        f"</code></td><td {_CELL}>{group.order}</td><td {_CELL}>{as_score(group.score)}</td>"
        f"<td {_CELL}>{as_score(group.interaction)}</td></tr>"
        for group in order
    )
    titles = say("phrase"), say("merge"), say("score"), say("together")
    heads = "".join(f"<th {_CELL}>{escape(title)}</th>" for title in titles)
    if rows:
        parts.append(
            '<table style="color:inherit;font:inherit;border-collapse:collapse">'
            f'<tr style="background:transparent">{heads}</tr>{rows}</table>'
        )
    return "".join(parts)


def _color(score: float, ends: tuple[float, float]) -> str:
    share = (score - ends[0]) / (ends[1] - ends[0])
    if share != share:  # noqa: PLR0124 - not a number
        return "#F0E442"
    return COLORS["difference"][round(min(1.0, max(0.0, share)) * (LEVELS - 1))]
