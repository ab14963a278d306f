"""Gate attention and time scales as still pictures: pictures and drawings that need no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from grulens.cells.signal import Signal
from grulens.views.figure import raster
from grulens.views.figure.palette import ACCENT, BEFORE, BLANK_CODE
from grulens.views.figure.tokens import number
from grulens.views.memory.attention_map import past_of
from grulens.views.memory.past import has_past
from grulens.views.memory.query_bars import FULL
from grulens.views.still import lens as still
from grulens.words import message, say

#: A drawing of more dots than this is a large file; the rest is counted.
DOTS: Final = 2000
_BOX: Final = "display:grid;grid-template-columns:3.5em minmax(0,420px);gap:0 6px;font-size:12px"


def attention(
    values: Float[np.ndarray, "query key"] | None,
    query: Float[np.ndarray, " key"],
    *,
    past: Int[np.ndarray, "query 2"],
    at: int,
    signed: bool = False,
    tokens: Sequence[object] | None = None,
    name: str = message("mean weight"),
    layer: str = "",
    caption: str = "",
) -> str:
    """The map of all queries, and the tokens coloured by the weights of one.

    Args:
        values: (query, key); None where the map is too large to be made.
        query: (key,), the weights of the chosen query.
        past: (query, 2), first and last key of each query's past.
        at: the chosen query.
        signed: whether the values have two signs.
        tokens: (key,), what to call each step.
        name: what the values are.
        layer: named in the title.
        caption: the numbers in words.

    >>> html = attention(np.eye(2), np.array([0.0, 1.0]), past=np.array([[0, 0], [0, 1]]), at=1,
    ...                  tokens=["<b>", "c"])
    >>> "data:image/png" in html, "&lt;b&gt;" in html, "<b>c" in html
    (True, True, False)
    """
    signal, name = "difference" if signed else "weight", say(name)
    title = f"<b>{escape(f'{name} · {layer}' if layer else name)}</b>"
    parts = [title]
    if values is not None:
        count = len(values)
        low, high = raster.symmetric(values, 1e-9)
        rows, columns = (raster.visible(n, 0, n - 1, raster.COLUMNS) for n in values.shape)
        # weights are coloured by their square root, as they are in the live figure
        shown = values if signed else np.sqrt(values.clip(0))
        ends = (low, high) if signed else (0.0, float(np.sqrt(high)))
        drawn = raster.picture(shown, rows, columns, ends, middle=0.0)
        drawn[~past_of(past, rows, columns)] = BLANK_CODE
        style = "width:100%;aspect-ratio:1.4;image-rendering:pixelated;display:block;margin:0"
        alt = escape(
            say("{what}: {n} states by {n} steps they were written at", what=name, n=count),
            quote=True,
        )
        after, across = escape(say("after step")), escape(say("written at step"))
        span = say(
            "colours from {low} to {high}", low=number(low if signed else 0), high=number(high)
        )
        parts.append(
            f'<div style="{_BOX}">{still.ticks("0", after, str(count - 1), "right")}'
            f'<img alt="{alt}" style="{style}" src="{still.uri(drawn, signal)}">'
            '<span></span><span style="display:flex;justify-content:space-between">'
            f"<span>0</span><span>{across}</span><span>{count - 1}</span></span></div>"
            f"<div>{escape(span)}</div>"
        )
    if tokens is not None:
        low, high = raster.symmetric(query, 1e-9)
        # of a long run the part around the state, most of it before: a still shows no more
        part = slice(max(0, at - still.TOKENS * 3 // 4), at + still.TOKENS // 4)
        title = say("{what} in the state after step {step}", what=name, step=at)
        if part.start:
            title = say("{what}, tokens from step {first}", what=title, first=part.start)
        parts.append(
            still.tokens(
                query[part], signal=signal, tokens=tokens[part],
                mask=has_past(past[part]),
                name=title,
                ends=(low, high) if signed else (0.0, min(high, FULL)),
            )
        )  # fmt: skip
    return still.compose(*parts, escape(caption))


def timescales(
    shares: Mapping[Signal, Float[np.ndarray, "2 unit"]],
    histograms: Mapping[Signal, Float[np.ndarray, " bin"]],
    half_life: Float[np.ndarray, " unit"],
    *,
    layer: str = "",
    caption: str = "",
    noun: str = "unit",
) -> str:
    """The saturation plot, the histograms, and the units with the longest half-lives.

    Args:
        shares: of each gate, share of time shut and open (2, unit).
        histograms: of each gate, share of time in each part of [0, 1] (bin,).
        half_life: (unit,), in steps.
        layer: named in the title.
        caption: the numbers in words.
        noun: what each is of.

    >>> dot, half = np.array([[0.5], [0.25]]), np.ones(2) / 2
    >>> z = Signal("z", "update gate", 0.0, 1.0, "keep")
    >>> html = timescales({z: dot}, {z: half}, np.array([3.0]), layer="<l>")
    >>> html.count("<circle"), "&lt;l&gt;" in html
    (1, True)
    """
    order = np.argsort(-np.nan_to_num(half_life, nan=-1.0), kind="stable")[:10]
    longest = ", ".join(f"{unit} ({half_life[unit]:.3g})" for unit in order)
    drawings = [
        _saturation(shares, noun),
        *(_histogram(g, values) for g, values in histograms.items()),
    ]
    title = say("gates over time")
    return still.compose(
        f"<b>{escape(f'{title} · {layer}' if layer else title)}</b>",
        f'<div style="display:flex;flex-wrap:wrap;gap:24px">{"".join(drawings)}</div>',
        f"<div>{escape(say('longest half-lives, in steps: {units}', units=longest))}</div>",
        escape(caption),
    )


def _saturation(shares: Mapping[Signal, Float[np.ndarray, "2 unit"]], noun: str) -> str:
    dots = "".join(
        f'<circle cx="{200 * x:.1f}" cy="{200 - 200 * y:.1f}" r="3.5" fill="{ACCENT[gate]}" '
        'fill-opacity="0.7"/>'
        for gate, values in shares.items()
        for x, y in values.T[:DOTS].tolist()
    )
    line = f'<path d="M0 0V200H200M0 0L200 200" fill="none" stroke="{BEFORE}"/>'
    return _drawing(
        f"{line}{dots}", "-8 -8 216 216",
        say("across: share of time shut, up: share of time open"),
        say("a dot for each {noun} and gate", noun=say(noun)),
    )  # fmt: skip


def _histogram(gate: Signal, values: Float[np.ndarray, " bin"]) -> str:
    width, top = 200 / len(values), float(values.max(initial=0.0)) or 1.0
    bars = "".join(
        f'<rect x="{i * width:.1f}" y="{200 - 200 * v / top:.1f}" width="{width:.1f}" '
        f'height="{200 * v / top:.1f}" fill="{ACCENT[gate]}"/>'
        for i, v in enumerate(values.tolist())
    )
    words = say("{signal}, from 0 to 1", signal=gate.called)
    line = f'<path d="M0 200H200" stroke="{BEFORE}"/>'
    up_to = say("share of time, up to {share}", share=f"{top:.0%}")
    return _drawing(f"{bars}{line}", "0 0 200 201", words, up_to)


def _drawing(body: str, view: str, words: str, label: Any) -> str:
    return (
        f'<figure style="margin:0"><svg viewBox="{view}" width="210" height="210" role="img" '
        f'aria-label="{escape(words, quote=True)}">{body}</svg>'
        f'<figcaption style="font-size:12px">{escape(words)}<br>{escape(label)}</figcaption>'
        "</figure>"
    )
