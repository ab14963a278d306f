"""One unit at one step as a drawing of its cell, the numbers in it.

x  ──────┬──▶ r  x +0.6  h_prev −1.8  sum −1.2 → 0.23 ─┐
├──▶ z  ...                                   ├──▶ h = (1 − 0.9) · 0.4 + 0.9 · −0.1
h_prev ──┴──▶ n  ...                                   │
└────────────────────────────────────────────────────┘
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Final, NamedTuple

from bokeh.events import Tap
from bokeh.models import ColumnDataSource, Range1d, Text

from grulens.cells.signal import Signal
from grulens.views.figure.canvas import frame, set_data
from grulens.views.figure.palette import ACCENT, AGAINST, FOR
from grulens.views.figure.tokens import number
from grulens.words import message, say, say_n

#: Pixels of a row of the drawing.
ROW: Final = 92
#: Where the boxes lie, in hundredths of the width.
SOURCE: Final = (0.5, 19.5)
BLOCK: Final = (26.0, 71.5)
RESULT: Final = (78.0, 99.5)
#: The thickest line of a sum, in pixels.
THICK: Final = 7.0
#: What adds to a pre-activation, but for x and the state before.
_ADDS: Final = (message("bias"), message("edit"))


class Shown(NamedTuple):
    """What is drawn of one unit at one step.

    Attributes:
        signals: what the step makes, h last.
        totals: of each signal with a pre-activation, what x, h_prev, bias and edit add, by name.
        values: every signal by name.
        before: the states before the step by name.
        inputs: how many inputs there are.
        units: how many units there are.
        equation: what h is made of, or "".
        edited: the signals that an edit left so, and which are not what their sums make.
        token: what the step is called, or "".
    """

    signals: tuple[Signal, ...]
    totals: Mapping[str, Mapping[str, float]]
    values: Mapping[str, float]
    before: Mapping[str, float]
    inputs: int
    units: int
    equation: str
    edited: tuple[str, ...] = ()
    token: str = ""


def with_numbers(equation: str, values: Mapping[str, float]) -> str:
    """An equation with numbers in place of its names; products get their dots.

    >>> with_numbers("(1 − z) n + z h_prev", {"z": 0.25, "n": 0.5, "h_prev": -2.0})
    '(1 − 0.25) · 0.5 + 0.25 · (−2)'
    """

    def filled(match: re.Match[str]) -> str:
        name = match[0]
        if name not in values:
            return name
        shown = number(values[name], ".3g")
        return f"({shown})" if shown.startswith("−") else shown

    dotted = re.sub(r"(?<=[\w)]) (?=[\w(])", " · ", equation)
    return re.sub(r"[A-Za-z_]\w*", filled, dotted)


class CellDrawing:
    """The drawing of a cell.

    Attributes:
        root: the Bokeh figure.
        boxes: the boxes and what stands in them.
        lines: the ways between them; those of a sum as thick as what they add.
    """

    def __init__(self) -> None:
        fields = ("x", "y", "width", "height", "title", "text", "left", "top", "color", "line")
        self.boxes = ColumnDataSource({field: [] for field in fields})
        self.bars = ColumnDataSource({field: [] for field in ("left", "right", "y", "color")})
        self.lines = ColumnDataSource({field: [] for field in ("xs", "ys", "color", "width")})
        self._listeners: list[Callable[[str], object]] = []
        self._places: dict[str, float] = {}
        self.root = self._draw()

    def on_signal(self, listener: Callable[[str], object]) -> None:
        """Call `listener(name)` when the box of a signal with a pre-activation is tapped."""
        self._listeners.append(listener)

    def update(self, shown: Shown, *, chosen: str = "", title: str = "") -> None:
        """Draw another unit or step.

        Args:
            shown: its numbers.
            chosen: the signal whose sum stands beside it: its box has a thick edge.
            title: over it.
        """
        names = {signal.name: signal for signal in shown.signals}
        blocks = list(shown.totals)
        results = [name for name in names if name not in blocks]
        sources = ["x", *(f"{state}_prev" for state in shown.before)]
        rows = max(len(blocks), len(sources), len(results))
        at = {
            **_spread(sources, rows), **_spread(blocks, rows), **_spread(results, rows),
        }  # fmt: skip
        boxes: list[dict[str, Any]] = []
        bars: list[dict[str, Any]] = []
        boxes += [
            _box(SOURCE, at[name], name, _source(name, shown), "#8C8C8C", 1.0) for name in sources
        ]
        for name in blocks:
            signal, color = names[name], ACCENT[names[name]]
            edge = 3.0 if name == chosen else 1.0
            boxes.append(_box(BLOCK, at[name], signal.called, _sum(name, shown), color, edge))
            if isfinite(signal.low) and isfinite(signal.high):
                bars.append(_bar(at[name], shown.values[name], signal, color))
        for name in results:
            said = _result(name, shown)
            boxes.append(_box(RESULT, at[name], names[name].called, said, ACCENT[names[name]], 1.0))
        lines = [*_fed(shown, at), *_read(shown, blocks, results, names, at, rows)]
        set_data(self.boxes, {key: [box[key] for box in boxes] for key in self.boxes.data})
        set_data(self.bars, {key: [bar[key] for bar in bars] for key in self.bars.data})
        set_data(self.lines, {key: [line[key] for line in lines] for key in self.lines.data})
        self._places = {name: at[name] for name in blocks}
        self.root.y_range.update(start=rows - 0.36, end=-0.5)
        self.root.title.text = title or " "
        self.root.update(height=round(ROW * (rows + 0.14)) + 32)

    def _draw(self) -> Any:
        root = frame(
            height=ROW, x_range=Range1d(start=0, end=100), y_range=Range1d(start=1, end=0),
            title="", name=say("the cell"), min_border_left=2, min_border_right=2,
            frame_align=False,
        )  # fmt: skip
        root.axis.visible = False
        root.outline_line_color = None
        root.multi_line(
            "xs", "ys", source=self.lines, line_color="color", line_width="width", line_alpha=0.75
        )
        root.rect(
            "x", "y", "width", "height", source=self.boxes, fill_color="color", fill_alpha=0.14,
            line_color="color", line_width="line", border_radius=5,
        )  # fmt: skip
        root.hbar(
            y="y", left="left", right="right", height=0.06, source=self.bars, fill_color="color",
            line_color=None,
        )  # fmt: skip
        at: dict[str, Any] = {"x": "left", "y": "top", "x_offset": 7, "text_baseline": "top"}
        at |= {"text_font_size": "12px"}
        # not `root.text`, which says black: the page's theme has the colour
        bold = Text(**at, text="title", y_offset=4, text_font_style="bold")
        for text in (bold, Text(**at, text="text", y_offset=21)):
            root.add_glyph(self.boxes, text)
        root.on_event(Tap, self._tapped)
        return root

    def _tapped(self, event: Any) -> None:
        if event.x is None or not BLOCK[0] <= event.x <= BLOCK[1]:
            return
        for name, y in self._places.items():
            if abs(event.y - y) < 0.5:
                for listener in tuple(self._listeners):
                    listener(name)


def _spread(names: Sequence[str], rows: int) -> dict[str, float]:
    """The rows of boxes that stand one below the other in the middle of so many rows."""
    step = rows / max(1, len(names))
    return {name: (i + 0.5) * step - 0.5 for i, name in enumerate(names)}


def _box(
    across: tuple[float, float], y: float, title: str, text: str, color: str, line: float
) -> dict[str, Any]:
    low, high = across
    return {
        "x": (low + high) / 2, "y": y, "width": high - low, "height": 0.86, "title": title,
        "text": text, "left": low, "top": y - 0.43, "color": color, "line": line,
    }  # fmt: skip


def _bar(y: float, value: float, signal: Signal, color: str) -> dict[str, Any]:
    """How far a signal is along its range, at the foot of its box; from zero where it has that."""
    low, high = BLOCK[0] + 0.4, BLOCK[1] - 0.4

    def at(number: float) -> float:
        share = (number - signal.low) / (signal.high - signal.low)
        return low + (high - low) * min(1.0, max(0.0, share))

    ends = sorted((at(max(0.0, signal.low)), at(value) if isfinite(value) else low))
    return {"left": ends[0], "right": ends[1], "y": y + 0.39, "color": color}


def _source(name: str, shown: Shown) -> str:
    if name == "x":
        said = say_n("{n} input", "{n} inputs", shown.inputs)
        return f"{shown.token}\n{said}" if shown.token else said
    state = name.removesuffix("_prev")
    said = number(shown.before[state], ".3g")
    return f"{said}\n{say_n('of {n} unit', 'of {n} units', shown.units)}" if state == "h" else said


def _sum(name: str, shown: Shown) -> str:
    parts = shown.totals[name]
    said = [f"{say(part)} {number(value, '.3g', '+')}" for part, value in parts.items()]
    pre, value = (number(one, ".3g") for one in (sum(parts.values()), shown.values[name]))
    lines = ["   ".join(said[:2]), "   ".join(said[2:])]
    if name in shown.edited:
        lines.append(say("sum {sum}; an edit left {value}", sum=pre, value=value))
    elif shown.signals and next(s for s in shown.signals if s.name == name).activated:
        lines.append(f"{say('sum {sum}', sum=pre)}  →  {value}")
    else:
        lines.append(say("sum {sum}", sum=pre))
    return "\n".join(lines)


def _result(name: str, shown: Shown) -> str:
    said = number(shown.values[name], ".3g")
    return f"{said}\n{say('as an edit left it')}" if name in shown.edited else said


def _fed(shown: Shown, at: Mapping[str, float]) -> list[dict[str, Any]]:
    """From x and h_prev to every sum: as thick as what they add, red adds, blue takes away."""
    sizes = [abs(parts[of]) for parts in shown.totals.values() for of in ("x", "h_prev")]
    largest = max([size for size in sizes if isfinite(size)], default=0.0) or 1.0
    found = []
    for name, parts in shown.totals.items():
        for of, lift in (("x", -0.12), ("h_prev", 0.12)):
            share = abs(parts[of]) / largest if isfinite(parts[of]) else 0.0
            found.append({
                "xs": [SOURCE[1], BLOCK[0]], "ys": [at[of], at[name] + lift],
                "color": AGAINST if parts[of] < 0 else FOR, "width": 0.75 + THICK * share,
            })  # fmt: skip
    return found


def _read(
    shown: Shown,
    blocks: Sequence[str],
    results: Sequence[str],
    names: Mapping[str, Signal],
    at: Mapping[str, float],
    rows: int,
) -> list[dict[str, Any]]:
    """From every signal to what is made of it, and from a state before to the one after it."""
    last = {"xs": [BLOCK[1], RESULT[0]], "width": 1.5}
    reads = set(re.findall(r"[A-Za-z_]\w*", shown.equation))
    kept = [one for one in results if one != "h"]
    found = []
    for name in blocks:
        # what the equation of h does not name goes through the state beside it
        to = kept if kept and shown.equation and name not in reads else ["h"]
        if shown.equation and name not in reads and not kept:
            continue  # it has acted within another signal, as r in n
        found += [{**last, "ys": [at[name], at[one]], "color": ACCENT[names[name]]} for one in to]
    for one in kept:
        middle = (RESULT[0] + RESULT[1]) / 2
        found.append({
            "xs": [middle, middle], "ys": [at[one] + 0.43, at["h"] - 0.43],
            "color": ACCENT[names[one]], "width": 1.5,
        })  # fmt: skip
    for state in shown.before:
        if state == "h" and "h_prev" not in reads:
            continue
        lane, left = rows - 0.5 + 0.06 * (1 + (state == "h")), SOURCE[1] + 1.5
        right = (BLOCK[1] + RESULT[0]) / 2
        found.append({
            "xs": [SOURCE[1], left, left, right, right, RESULT[0]],
            "ys": [at[f"{state}_prev"] + 0.2] * 2 + [lane] * 2 + [at[state] + 0.2] * 2,
            "color": ACCENT[names[state]], "width": 1.5,
        })  # fmt: skip
    return found
