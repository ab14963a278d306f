"""The present state as a still picture: HTML that needs no script, no network and no kernel.

A saved notebook, nbconvert and a mail show this where the live widget cannot run. Colours come
from pictures and from spans with their own ink; everything else is drawn in the page's own text
colour on the page's own ground, so it suits a light and a dark theme. Every text is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from grulens.cells.signal import Signal
from grulens.views.figure import raster
from grulens.views.figure.palette import (
    AFTER,
    BEFORE,
    BLANK_CODE,
    LEVELS,
    PALETTE,
    WHITE_INK,
)
from grulens.views.figure.tokens import number, several, visible_name, visible_text
from grulens.words import say

#: More tokens than this are counted, not shown.
TOKENS: Final = 800
#: As many rows with names of their own are named one by one.
NAMED_ROWS: Final = 20
_GRID = "display:grid;grid-template-columns:{} 1fr 14px 3.5em;gap:0 6px;font-size:12px"


def compose(*parts: str) -> str:
    """The parts under each other, as one block for a notebook output.

    >>> compose(edits(["clamp(...)"])).startswith('<div class="grulens-still"')
    True
    """
    body = "".join(f'<div style="margin:0 0 10px">{part}</div>' for part in parts if part)
    return (
        '<div class="grulens-still" style="max-width:900px;font-family:sans-serif;font-size:13px;'
        f'color:inherit;background:transparent">{body}</div>'
    )


def heatmap(
    values: Float[np.ndarray, "unit time"],
    *,
    signal: Signal | str,
    units: Sequence[object] | Int[np.ndarray, " unit"],
    mask: Bool[np.ndarray, " time"] | None = None,
    layer: str = "",
    selected: Iterable[int] = (),
    times: Iterable[int] = (),
    name: str | None = None,
    ends: tuple[float, float] | None = None,
    down: str = "unit",
    across: str = "step",
) -> str:
    """One signal of a layer as a picture with axes, a colour bar and what is selected.

    Args:
        values: (unit, time), in the order they are to be drawn.
        signal: a signal of the layer's cell, or "difference"; anything else raises SignalError.
        units: (unit,), which unit each row is, or what it is called.
        mask: (time,), False where there is no step (padding): left transparent.
        layer: named in the title.
        selected: units named under the picture.
        times: steps named under the picture; none is all.
        name: what the values are, if they are no signal of a layer but drawn like one.
        ends: the values at the ends of the map, else those of the signal.
        down: what the rows are, where they are no units.
        across: what the columns are, where they are no steps.

    >>> z = Signal("z", "update gate", 0.0, 1.0, "keep")
    >>> still = heatmap(np.zeros((2, 3)), signal=z, units=np.arange(2), layer="<rnn>")
    >>> "update gate z · &lt;rnn&gt;" in still, "data:image/png;base64," in still
    (True, True)
    >>> "unit, sorted" in heatmap(np.zeros((2, 3)), signal=z, units=np.array([160, 67]))
    True
    """
    count, time = values.shape
    ends = ends or raster.scale(signal, values)
    if name is None:
        name = signal.called if isinstance(signal, Signal) else say("edited − baseline")
    title = f"{name} · {layer}" if layer else name
    columns = raster.visible(time, 0, time - 1, 2 * raster.COLUMNS)
    rows = raster.visible(count, 0, count - 1, 2 * raster.ROWS)
    drawn = raster.picture(values, rows, columns, ends, mask)
    scale_picture = np.arange(LEVELS - 1, -1, -1, dtype=np.uint8)[:, None]
    height = min(320, max(60, 16 * count))
    style = f"width:100%;height:{height}px;image-rendering:pixelated;display:block;margin:0"
    low, high = map(number, ends)
    middle = number((ends[0] + ends[1]) / 2)
    named = count <= NAMED_ROWS and all(isinstance(unit, str) for unit in units)
    room = "minmax(3.5em,max-content)" if named else "3.5em"
    # the ends of rows that are not in the order of their numbers are no ends of an axis
    mixed = (
        down == "unit" and not named and bool((np.diff(np.asarray(units, dtype=object)) < 0).any())
    )
    what = escape(say("unit, sorted") if mixed else say(down))
    below = f'<span style="text-align:right">{what}</span>' if named else "<span></span>"
    beside = (
        row_names([str(unit) for unit in units])
        if named
        else ticks(escape(str(units[0])), what, escape(str(units[-1])), "right")
    )
    rows_there, columns_there = f"{count} {several(down)}", f"{time} {several(across)}"
    size = say("{rows} by {columns}", rows=rows_there, columns=columns_there)
    chosen = _chosen(down, selected) + _chosen("step", times)
    bar = escape(say("colour bar"), quote=True)
    said = escape(say("selected: {what}", what=" · ".join(chosen))) if chosen else ""
    return (
        f'<b>{escape(title)}</b><div style="{_GRID.format(room)}">'
        f"{beside}"
        f'<img alt="{escape(f"{title}: {size}", quote=True)}" '
        f'style="{style}" src="{uri(drawn, signal)}">'
        f'<img alt="{bar}" style="{style}" src="{uri(scale_picture, signal)}">'
        f"{ticks(high, middle, low, 'left')}"
        f'{below}<span style="display:flex;justify-content:space-between">'
        f"<span>0</span><span>{escape(say(across))}</span><span>{time - 1}</span></span></div>"
        + (f"<div>{said}</div>" if said else "")
    )


def tokens(
    values: Float[np.ndarray, " time"],
    *,
    signal: Signal | str,
    tokens: Sequence[object],
    mask: Bool[np.ndarray, " time"] | None = None,
    name: str = "",
    ends: tuple[float, float] | None = None,
) -> str:
    """The tokens as running text, each on the colour of the unit's value.

    >>> "&lt;b&gt;" in tokens(np.zeros(1), signal="difference", tokens=["<b>"])
    True
    """
    one, all_steps = raster.Span(0, 1, 1), raster.Span(0, min(len(values), TOKENS), 1)
    codes = raster.picture(
        values[None], one, all_steps, ends or raster.scale(signal, values), mask
    )[0]
    shown = "".join(
        f'<span style="background:{PALETTE[signal][code]};'
        f'color:{"#fff" if WHITE_INK[signal][code] else "#000"}">'
        f"{escape(visible_text(token))}</span>"
        for token, code in zip(tokens, codes.tolist(), strict=False)
        if code != BLANK_CODE
    )
    rest = ""
    if len(values) > TOKENS:
        rest = say(" … and {n} more steps", n=len(values) - TOKENS)
    return (
        f"<div>{escape(name)}</div>"
        '<div style="font-family:monospace;line-height:1.5;overflow-wrap:anywhere">'
        f"{shown}{rest}</div>"
    )


def output(
    labels: Sequence[object],
    before: Float[np.ndarray, " class"],
    after: Float[np.ndarray, " class"],
    *,
    step: int | None,
    quantity: str = "probability",
) -> str:
    """The readout of one step, before and after, as a table; of the only step where it is None.

    >>> "<td" in output(["a"], np.array([0.25]), np.array([0.5]), step=3)
    True
    """
    cell = 'style="text-align:right;padding:1px 10px;background:transparent"'
    which = "" if step is None else escape(say("step {numbers}", numbers=step))
    head = (
        f'<tr style="background:transparent"><th {cell}>{which}</th>'
        f'<th {cell}><span style="color:{BEFORE}">■</span> {escape(say("before"))}</th>'
        f'<th {cell}><span style="color:{AFTER}">■</span> {escape(say("after"))}</th></tr>'
    )
    rows = "".join(
        f'<tr style="background:transparent"><td {cell}><code>{escape(visible_name(label))}</code>'
        f"</td><td {cell}>{b:.3f}</td><td {cell}>{a:.3f}</td></tr>"
        for label, b, a in zip(labels, before.tolist(), after.tolist(), strict=True)
    )
    return (
        f"<div>{escape(say(quantity))}</div>"
        '<table style="color:inherit;font:inherit;border-collapse:collapse">'
        f"{head}{rows}</table>"
    )


def edits(lines: Sequence[str]) -> str:
    """The edits in force, one a line.

    >>> edits(["<x>"])
    '<div>edits</div><ul style="margin:2px 0"><li><code>&lt;x&gt;</code></li></ul>'
    """
    if not lines:
        return f"<div>{escape(say('no edits'))}</div>"
    items = "".join(f"<li><code>{escape(line)}</code></li>" for line in lines)
    return f'<div>{escape(say("edits"))}</div><ul style="margin:2px 0">{items}</ul>'


def png(codes: UInt8[np.ndarray, "row column"], signal: Signal | str) -> bytes:
    r"""Bytes of a picture on the signal's map, as a PNG with a palette; padding is transparent.

    >>> png(np.zeros((1, 1), np.uint8), "keep")[:4]
    b'\x89PNG'
    """
    picture = Image.fromarray(codes).convert("L")
    picture.putpalette([int(c[i : i + 2], 16) for c in PALETTE[signal] for i in (1, 3, 5)])
    file = io.BytesIO()
    opaque = bytes([255] * BLANK_CODE + [0])
    picture.save(file, "PNG", transparency=opaque, optimize=True)
    return file.getvalue()


def uri(codes: UInt8[np.ndarray, "row column"], signal: Signal | str) -> str:
    """The same PNG as an address that an <img> can show."""
    return "data:image/png;base64," + base64.b64encode(png(codes, signal)).decode("ascii")


def ticks(top: str, middle: str, bottom: str, align: str) -> str:
    """Three words under each other, as high as the picture beside them; escaped by the caller."""
    return (
        '<span style="display:flex;flex-direction:column;justify-content:space-between;'
        f'text-align:{align}"><span>{top}</span><span>{middle}</span><span>{bottom}</span></span>'
    )


def row_names(names: Sequence[str]) -> str:
    """A name beside each row of a picture; one that is too long is cut off, and whole on hover.

    >>> row_names(["<a>"]).count("&lt;a&gt;")
    2
    """
    style = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap;max-width:14em"
    return (
        '<span style="display:grid;grid-auto-rows:1fr;align-items:center;text-align:right;'
        'line-height:1.25">'
        + "".join(
            f'<span style="{style}" title="{escape(name, quote=True)}">{escape(name)}</span>'
            for name in names
        )
        + "</span>"
    )


def _chosen(noun: str, positions: Iterable[int]) -> list[str]:
    joined = raster.runs(positions)
    if not joined:
        return []
    parts = [f"{first}" if first == last else f"{first}–{last}" for first, last in joined]
    named = ", ".join(parts[:20])
    if len(parts) > 20:
        named = say("{ranges} and {n} more ranges", ranges=named, n=len(parts) - 20)
    if parts == [f"{joined[0][0]}"]:
        return [say("{noun} {numbers}", noun=say(noun), numbers=named)]
    return [say("{nouns} {numbers}", nouns=several(noun), numbers=named)]
