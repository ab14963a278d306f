"""A Lyapunov spectrum as a still picture: a dot for each exponent, and its band."""

from __future__ import annotations

from html import escape
from typing import Final

import numpy as np
from jaxtyping import Float

from grulens.views.figure.palette import BEFORE, RECURRENT
from grulens.views.figure.tokens import number
from grulens.words import say

WIDTH: Final = 420
HEIGHT: Final = 240
#: More dots than this no drawing of that width shows apart.
MOST: Final = 400


def exponents(
    values: Float[np.ndarray, " unit"], band: Float[np.ndarray, " unit"], *, title: str = ""
) -> str:
    """The exponents from the largest down, over the line at which nothing parts or comes together.

    Args:
        values: (unit,), descending; what is not finite is counted, not drawn.
        band: (unit,), the half width of each one's band.
        title: over the drawing.

    >>> drawn = exponents(np.array([0.5, -np.inf]), np.array([0.1, 0.0]), title="<l>")
    >>> drawn.count("<circle"), "&lt;l&gt;" in drawn, "1 are −∞" in drawn
    (1, True, True)
    """
    there = np.flatnonzero(np.isfinite(values))
    gone = len(values) - len(there)
    every = -(-len(there) // MOST) or 1
    shown = there[::every]
    ends = np.concatenate([values[shown] - band[shown], values[shown] + band[shown], [0.0]])
    low, high = float(ends.min()), float(ends.max())
    size = (high - low) or 1.0

    def up(value: float) -> float:
        return round(HEIGHT - 8 - (HEIGHT - 16) * (value - low) / size, 1)

    parts = []
    for place in shown.tolist():
        x, value, half = 8 + (WIDTH - 16) * (place + 0.5) / len(values), values[place], band[place]
        parts.append(
            f'<path d="M{x:.1f} {up(value - half)}V{up(value + half)}" stroke="{BEFORE}" '
            f'stroke-width="2"/><circle cx="{x:.1f}" cy="{up(value)}" r="3" fill="{RECURRENT}"/>'
        )
    zero = f'<path d="M0 {up(0.0)}H{WIDTH}" stroke="{BEFORE}" stroke-dasharray="5 4"/>'
    words = say(
        "exponents 0 to {last}, a step: {low} to {high}; dashed: 0",
        last=len(values) - 1, low=number(low, ".3g"), high=number(high, ".3g"),
    )  # fmt: skip
    if gone:
        words = say("{what}; {n} are −∞", what=words, n=gone)
    return (
        f"<b>{escape(title)}</b>"
        f'<svg role="img" aria-label="{escape(words, quote=True)}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'style="width:100%;max-width:{WIDTH}px;height:auto;display:block;'
        f'border-left:1px solid currentColor;border-bottom:1px solid currentColor">'
        f"{zero}{''.join(parts)}</svg><div>{escape(words)}</div>"
    )
