"""A small automaton as a still picture: states in a line, steps to the right above, back below."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from grulens.views.figure.tokens import visible_name
from grulens.words import say

#: More states are a table, and no picture.
MOST: Final = 8
APART: Final = 96
RADIUS: Final = 17
_TEXT: Final = 'text-anchor="middle" font-size="12" fill="currentColor"'
_LINE: Final = 'fill="none" stroke="currentColor" stroke-opacity="0.7"'


def automaton(
    transitions: Sequence[Sequence[int]],
    accepting: Sequence[bool],
    start: int,
    alphabet: Sequence[object],
    *,
    title: str = "",
) -> str:
    """The states and where each symbol leads; a state that accepts has two circles.

    Args:
        transitions: (state, symbol), the next state.
        accepting: (state,), whether a word that ends there is accepted.
        start: the state before the first symbol.
        alphabet: what the symbols are called.
        title: over the picture.

    >>> drawn = automaton([[1, 0], [1, 0]], [False, True], 0, "<b", title="ends in <")
    >>> drawn.count("<circle"), drawn.count("marker-end"), "&lt;" in drawn, "<<" in drawn
    (3, 5, True, False)
    """
    states = range(len(transitions))
    ways = [to - state for state, row in enumerate(transitions) for to in row]
    middle = max(RADIUS + 52, _room(max(ways)))
    parts = [_arrow(f"M8 {middle}H{_x(start) - RADIUS}")] if start == 0 else []
    for state in states:
        names: dict[int, list[str]] = {}
        for symbol, to in zip(alphabet, transitions[state], strict=True):
            names.setdefault(to, []).append(visible_name(symbol))
        parts += [_step(state, to, ", ".join(said), middle) for to, said in names.items()]
        rings = (RADIUS, RADIUS - 4) if accepting[state] else (RADIUS,)
        parts += [f'<circle cx="{_x(state)}" cy="{middle}" r="{r}" {_LINE}/>' for r in rings]
        mark = f"→{state}" if state == start != 0 else f"{state}"
        parts.append(f'<text x="{_x(state)}" y="{middle + 4}" {_TEXT}>{mark}</text>')
    wide, high = _x(len(transitions) - 1) + 40, middle + max(RADIUS + 4, _room(-min(ways)))
    return (
        f'<b>{escape(title)}</b><br><svg role="img" aria-label="{escape(title, quote=True)}" '
        f'width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" style="max-width:100%">'
        '<marker id="grulens-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="currentColor"/></marker>'
        f"{''.join(parts)}</svg><div>"
        f"{escape(say('a word is accepted where it ends in two circles'))}</div>"
    )


def _x(state: int) -> int:
    return 56 + APART * state


def _rise(span: int) -> int:
    """How far the middle of a bow is pulled from the line of the states."""
    return 80 * span - 30


def _room(span: int) -> int:
    """How much room the bow and its name take on their side of that line."""
    return (12 + _rise(span)) // 2 + 20


def _arrow(path: str) -> str:
    return f'<path d="{path}" {_LINE} marker-end="url(#grulens-arrow)"/>'


def _step(state: int, to: int, name: str, middle: int) -> str:
    """A bow with its name: above to the right, below to the left, a loop to itself."""
    x, end = _x(state), _x(to)
    if state == to:
        top = middle - RADIUS
        path = f"M{x - 7} {top}C{x - 24} {top - 36} {x + 24} {top - 36} {x + 7} {top}"
        return _arrow(path) + f'<text x="{x}" y="{top - 31}" {_TEXT}>{escape(name)}</text>'
    side = 1 if to > state else -1  # to the right, and up; y grows downwards
    edge = middle - side * 12
    peak = middle - side * _rise(abs(to - state))
    path = f"M{x + side * 12} {edge}Q{(x + end) / 2:g} {peak} {end - side * 12} {edge}"
    at = (edge + peak) / 2 + (-5 if side > 0 else 14)
    return _arrow(path) + f'<text x="{(x + end) / 2:g}" y="{at:g}" {_TEXT}>{escape(name)}</text>'
