"""A phase portrait as a still picture: an image that needs no script, no network and no kernel."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np
from jaxtyping import Float

from grulens.views.dynamics.phase_figure import MARGINAL, STABLE, UNSTABLE, mark_of
from grulens.views.figure.palette import BEFORE, RECURRENT
from grulens.words import say

WIDTH: Final = 520
HEIGHT: Final = 430
DOTS: Final = 1500
#: One grey that can be read on light and dark ground.
INK: Final = "#808080"
_TEXT: Final = 'font-family="sans-serif" font-size="11" text-anchor="middle"'


def portrait(
    points: Float[np.ndarray, "row time 2"],
    fixed: Float[np.ndarray, "point 2"],
    ways: Sequence[int],
    *,
    kinds: Sequence[str],
    axes: tuple[str, str],
    title: str,
) -> str:
    """Trajectories and fixed points (point, 2) with the ways out of each, as an HTML image.

    `kinds` says what each point is: "stable", "unstable in 2", "marginal in 1".

    >>> line = np.array([[[0.0, 0.0], [1.0, 1.0]]])
    >>> made = portrait(line, np.zeros((1, 2)), [2], kinds=["unstable in 2"],
    ...                 axes=("PC 1", "PC 2"), title="<states>")
    >>> made.startswith("<img "), "&lt;states&gt;" in made
    (True, True)
    """
    there = points[np.isfinite(points).all(-1)]
    everything = np.concatenate([there, fixed]) if len(there) else fixed
    if not len(everything):
        return ""
    low, high = everything.min(0), everything.max(0)
    pixel = 1.2 * max((high - low) / (WIDTH, HEIGHT)) or 1.0

    def at(place: Float[np.ndarray, " 2"]) -> tuple[float, float]:
        x, y = (place - (low + high) / 2) / pixel
        return round(WIDTH / 2 + float(x), 1), round(HEIGHT / 2 - float(y), 1)

    every = -(-len(there) // DOTS) or 1
    parts = []
    for row in points[: max(1, DOTS // 20)]:
        places = row[np.isfinite(row).all(1)][::every]
        line = " ".join(f"{x},{y}" for x, y in map(at, places))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{BEFORE}" opacity=".45"/>')
        parts += [
            f'<circle cx="{x}" cy="{y}" r="1.8" fill="{BEFORE}"/>' for x, y in map(at, places)
        ]
    marks = [mark_of(kind) for kind in kinds]
    for place, count, mark in zip(fixed, ways, marks, strict=True):
        x, y = at(place)
        line = f'stroke="{RECURRENT}" stroke-width="2"'
        if mark is MARGINAL:
            ends = f"{x},{y - 9} {x + 7},{y} {x},{y + 9} {x - 7},{y}"
            parts.append(f'<polygon points="{ends}" fill="{mark.fill}" {line}/>')
        else:
            fill = mark.fill if mark is UNSTABLE else RECURRENT
            parts.append(f'<circle cx="{x}" cy="{y}" r="7" fill="{fill}" {line}/>')
        if count:
            parts.append(f'<text x="{x}" y="{y + 3.5}" {_TEXT} fill="#111">{count}</text>')
    parts.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT + 16}" {_TEXT} fill="{INK}">{escape(axes[0])}</text>'
    )
    turned = f'transform="translate(10 {HEIGHT / 2}) rotate(-90)"'
    parts.append(f'<text {turned} {_TEXT} fill="{INK}">{escape(axes[1])}</text>')
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 22}" '
        f'width="{WIDTH}" height="{HEIGHT + 22}">{"".join(parts)}</svg>'
    )
    data = base64.b64encode(svg.encode()).decode()
    caption = title
    if marks:
        found = {"title": title, "n": len(marks), "stable": marks.count(STABLE)}
        caption = say("{title}: {n} fixed points, {stable} stable", **found)
        if marginal := marks.count(MARGINAL):
            caption = say(
                "{title}: {n} fixed points, {stable} stable, {marginal} marginal (diamonds)",
                **found, marginal=marginal,
            )  # fmt: skip
    return (
        f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(caption)}" '
        f'style="max-width:100%"><div>{escape(caption)}</div>'
    )
