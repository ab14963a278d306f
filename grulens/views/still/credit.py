"""Credit and a logit lens as still pictures: coloured tokens, sums as tables, lines in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from grulens.views.credit.bars import FLOOR, color
from grulens.views.credit.logit_lens import LINES
from grulens.views.figure import raster
from grulens.views.figure.palette import DIRECT
from grulens.views.figure.tokens import number, visible_name
from grulens.views.still.lens import tokens as coloured
from grulens.words import say

WIDTH: Final = 800
HEIGHT: Final = 160
DASHES: Final = {"solid": "", "dashed": "7 4", "dotdash": "2 4 7 4", "dotted": "2 4",
                 "dashdot": "7 4 2 4"}  # fmt: skip
_CELL: Final = 'style="text-align:right;padding:1px 10px;background:transparent"'


def credit(
    values: Float[np.ndarray, " time"],
    ledger: dict[str, float],
    *,
    tokens: Sequence[object] | None = None,
    mask: Bool[np.ndarray, " time"] | None = None,
    title: str = "",
) -> str:
    """The tokens coloured by their credit, and the ledger.

    Args:
        values: (time,), what each step adds.
        ledger: the parts of the score by name.
        tokens: (time,), what to call each step; None is its number.
        mask: (time,), False on padding.
        title: over it all.

    >>> page = credit(np.array([0.5]), {"inputs": 0.5, "gap": 0.0}, tokens=["<b>"])
    >>> "&lt;b&gt;" in page, "score" in page
    (True, True)
    """
    valid = values if mask is None else values[mask]
    names = tokens if tokens is not None else [f" {step} " for step in range(len(values))]
    text = coloured(
        values, signal="difference", tokens=names, mask=mask, name=say("blue takes away, red adds"),
        ends=raster.symmetric(valid, FLOOR),
    )  # fmt: skip
    sums = parts(list(ledger), list(ledger.values()), say("score"))
    return f"<b>{escape(title)}</b>{text}{sums}"


def parts(labels: Sequence[str], values: Sequence[float], whole: str, title: str = "") -> str:
    """A sum, part by part, as a table with bars.

    >>> "0.5" in parts(["<a>"], [0.5], "sum")
    True
    """
    ends = np.cumsum([0.0, *values])
    low, high = float(min(0.0, ends.min())), float(max(0.0, ends.max()))
    size = (high - low) or 1.0
    rows = [
        _part(label, value, (min(a, b) - low) / size, abs(b - a) / size, color(value))
        for label, value, a, b in zip(labels, values, ends, ends[1:], strict=False)
    ]
    last = float(ends[-1])
    rows.append(_part(whole, last, (min(0.0, last) - low) / size, abs(last) / size, DIRECT))
    head = f"<div>{escape(title)}</div>" if title else ""
    return (
        f'{head}<table style="color:inherit;font:inherit;border-collapse:collapse">'
        f"{''.join(rows)}</table>"
    )


def lines(
    values: Float[np.ndarray, "line time"],
    names: Sequence[object],
    *,
    quantity: str = "probability",
    title: str = "",
    step: int | None = None,
) -> str:
    """Lines along time as SVG, in the page's own text colour.

    Args:
        values: (line, time), NaN is left out.
        names: (line,), what to call them.
        quantity: what the values are; a "probability" is drawn from 0 to 1.
        title: over the lines.
        step: the marked step.

    >>> "<svg" in lines(np.array([[0.0, 1.0]]), ["<a>"]), "&lt;a&gt;" in lines(np.eye(1), ["<a>"])
    (True, True)
    """
    values = np.asarray(values, np.float64)[: len(LINES)]
    finite = values[np.isfinite(values)]
    low, high = 0.0, 1.0
    if quantity != "probability" and finite.size:
        low, high = float(finite.min()), float(finite.max())
    count = values.shape[1]
    across = WIDTH / max(1, count)
    drawn, told = [], []
    for line, name, (ink, dash) in zip(values, names, LINES, strict=False):
        points = _points(line, across, low, (high - low) or 1.0)
        style = f'stroke="{ink}" stroke-width="2" stroke-dasharray="{DASHES[dash]}"'
        drawn += [f'<polyline fill="none" {style} points="{part}"/>' for part in points]
        told.append(
            f'<svg width="26" height="8" aria-hidden="true"><line x2="26" y1="4" y2="4" {style}/>'
            f"</svg> <code>{escape(visible_name(name))}</code>"
        )
    mark = ""
    if step is not None:
        mark = (
            f'<rect x="{step * across:.1f}" width="{max(across, 1.5):.1f}" height="{HEIGHT}" '
            'fill="#E69F00" fill-opacity="0.3"/>'
        )
    label = escape(
        say("{quantity}: {low} to {high}, {n} steps", quantity=say(quantity),
            low=number(low, ".3g"), high=number(high, ".3g"), n=count),
        quote=True,
    )  # fmt: skip
    return (
        f"<b>{escape(title)}</b><div>{' &nbsp; '.join(told)}</div>"
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'style="width:100%;height:auto;border-bottom:1px solid currentColor">'
        f"{mark}{''.join(drawn)}</svg><div>{label}</div>"
    )


def _points(line: Float[np.ndarray, " time"], across: float, low: float, size: float) -> list[str]:
    """The pieces of a line between its gaps, as the points of an SVG polyline."""
    if len(line) > 2 * WIDTH:
        span = raster.visible(len(line), 0, len(line) - 1, 2 * WIDTH)
        middle = low + size / 2
        reduced = raster.reduce(line[None], raster.Span(0, 1, 1), span, middle)[0]
        at = np.array(span.firsts())
    else:
        reduced, at = line, np.arange(len(line))
    there = np.flatnonzero(np.isfinite(reduced))
    pieces = np.split(there, np.flatnonzero(np.diff(there) > 1) + 1) if len(there) else []
    return [
        " ".join(
            f"{(at[i] + 0.5) * across:.1f},"
            f"{HEIGHT - 4 - (HEIGHT - 8) * (reduced[i] - low) / size:.1f}"
            for i in piece
        )
        for piece in pieces
    ]


def _part(label: str, value: float, left: float, width: float, ink: str) -> str:
    return (
        f'<tr style="background:transparent"><td {_CELL}>{escape(label)}</td>'
        f"<td {_CELL}>{number(value, '.3g')}</td><td {_CELL}>"
        '<div style="width:240px;height:10px" aria-hidden="true"><div style="'
        f"margin-left:{100 * left:.1f}%;width:{100 * width:.1f}%;height:10px;background:{ink}"
        '"></div></div></td></tr>'
    )
