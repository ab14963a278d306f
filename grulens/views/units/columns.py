"""The columns of the table of units: what each is called, what it says and how it is written.

The state over time is written as letters, one a bar, and drawn in the row by a template that reads
nothing but the codes of the letters: whatever the column holds, only numbers reach the page.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from bokeh.models.widgets import HTMLTemplateFormatter, StringFormatter, TableColumn
from jaxtyping import Bool, Float

from grulens.cells.signal import Signal
from grulens.views.figure import raster
from grulens.views.figure.palette import ACCENT, COLORS
from grulens.views.figure.tokens import visible_name
from grulens.words import message, say

#: The format of numbers of any size: see `_NUMBER`.
ANY: Final = "any"
#: Numbers from here on would not fit between the lines of a column, and be read without their end.
LARGE: Final = 1e5


class Column(NamedTuple):
    """How a column of numbers is shown: its title, what it says, format, width in pixels.

    The format is a 0 with as many decimals as are shown, a % behind it for shares, or ANY. Where
    a table has too little room, the columns with the highest `fold` go first; 0 always stays.
    """

    title: str
    meaning: str
    format: str = "0.00"
    width: int = 56
    fold: int = 2


#: The columns that every kind of cell has; those of its gates: `about`.
COLUMNS: Final = {
    "unit": Column(message("unit"), message("coordinate of the hidden state"), "0", 42, 0),
    "channel": Column(
        message("channel"),
        message("channel of the hidden state: its places are folded"),
        "0",
        62,
        0,
    ),
    "slice": Column(
        message("slice"), message("first axis of the hidden state: the other is folded"), "0", 46, 0
    ),
    "direction": Column(
        message("direction"),
        message("which way in the space of the states; a star: it is pinned"),
        width=140,
        fold=0,
    ),
    "row": Column(message("row"), message("row of the batch"), "0", 46, 0),
    "text": Column(message("text"), message("what the row says"), width=240, fold=0),
    "steps": Column(message("steps"), message("steps of the row, padding left out"), "0", 52, 5),
    "answer": Column(
        message("answer"),
        message("what the model answers at the row's last step"),
        width=92,
        fold=0,
    ),
    "share": Column(message("share"), message("how likely that answer is"), "0%", 52, 3),
    "largest": Column(
        message("its number"), message("the number of that answer, the largest"), ANY, 76, 3
    ),
    "value": Column(
        message("answer"), message("what the model answers at the row's last step"), ANY, 76, 0
    ),
    "unedited": Column(
        message("unedited"), message("what it answers without the edits"), width=92, fold=4
    ),
    "truth": Column(message("truth"), message("what the answer should be"), width=92, fold=2),
    "off": Column(message("off by"), message("how far the answer is from the truth"), ANY, 66, 1),
    "judged": Column(
        message("right"), message("whether the answer is the truth"), width=56, fold=1
    ),
    "apart": Column(
        message("apart"), message("mean size of its difference over the steps"), ANY, 72, 0
    ),
    "most": Column(
        message("furthest"), message("its largest difference, with its sign"), ANY, 76, 1
    ),
    "most_at": Column(message("there"), message("the step at which that is"), width=96, fold=2),
    "place": Column(
        message("place"),
        message("where the unit stands in a state of several axes"),
        width=128,
        fold=1,
    ),
    "mean_h": Column(message("mean h"), message("mean of the state over valid steps"), fold=1),
    "spread_h": Column(
        message("sd h"), message("standard deviation of the state over valid steps"), fold=5
    ),
    "last_h": Column(
        message("last h"),
        message("state at the step read last: a row's end; its beginning in a reverse layer"),
        fold=6,
    ),
    "called": Column(
        message("name"),
        message("what it was called; a star: it is pinned, an arrow: a direction"),
        width=112,
        fold=1,
    ),
    "found_by": Column(
        message("found by"),
        message("the label that the unit follows best over the corpus"),
        width=112,
        fold=3,
    ),
    "found_auc": Column(
        message("its AUC"),
        message("0.5 is chance; below it the unit is low where it holds"),
        "0.000",
        fold=4,
    ),
    "mean": Column(message("mean"), message("mean over the corpus")),
    "std": Column(message("sd"), message("standard deviation over the corpus"), fold=5),
    "on": Column(
        message("on"), message("share of steps with the unit above the scan's threshold"), "0%", 48
    ),
    "effect": Column(
        message("effect"),
        message("how far the output moves, mean a step, when the unit is switched off"),
        ANY,
        fold=0,
    ),
    "direct": Column(
        message("direct"),
        message("the same if only what leaves the layer is switched off, not its memory"),
        ANY,
        fold=5,
    ),
    "recurrent": Column(
        message("recurrent"),
        message("effect less direct: what came through the memory"),
        ANY,
        68,
        5,
    ),
}


def about(name: str, signals: Sequence[Signal] = ()) -> Column:
    """How a column is shown; one that nobody has described, under its own name.

    Args:
        name: of the column.
        signals: those of the layer's cell.

    >>> z = Signal("z", "update gate", 0.0, 1.0, "keep")
    >>> about("mean_z", [z]), about("z_low", [z]).title
    (Column(title='mean z', meaning='mean of the update gate; 1 keeps the memory', ...), 'z < 0.1')
    """
    if name in COLUMNS:
        found = COLUMNS[name]
        return found._replace(title=say(found.title), meaning=say(found.meaning))
    if name == "half_life":
        keep = next((s.name for s in signals if s.is_gate and s.role == "keep"), "")
        meaning = say("steps until half of a memory is gone")
        if keep:
            meaning = say("steps until half of a memory is gone, from {signal}", signal=keep)
        return Column(say("half-life"), meaning, "0.0", 60)
    known = {signal.name: signal for signal in signals}
    first, _, last = name.partition("_")
    if first == "auc":
        meaning = say(
            "area under the ROC curve for {label} over the corpus; 0.5 is chance",
            label=visible_name(last),
        )
        title = visible_name(last, 14)
        return Column(title, meaning, "0.000", max(72, 7 * len(title)), 8)
    if first == "mean" and last in known:
        meaning = say("mean of the {signal}; 1 keeps the memory", signal=known[last].said)
        return Column(say("mean {signal}", signal=last), meaning)
    if first in known and last in ENDS:
        bound, words = ENDS[last]
        meaning = say(words, signal=known[first].said)
        return Column(f"{first} {bound}", meaning, "0%", 48, 7)
    return Column(name, "", ANY, 84, 8)


ENDS: Final = {
    "low": ("< 0.1", message("share of steps with the {signal} below 0.1")),
    "high": ("> 0.9", message("share of steps with the {signal} above 0.9")),
}

BARS: Final = 40
_LEVELS: Final = 28
_ZERO: Final = ord("A") + _LEVELS
#: Wide where there is room for it, and as narrow as its title where many columns stand before it.
_BARS_WIDTHS: Final = (150, 84)
#: What a window of 900 pixels has for a table, in a notebook.
_ROOM: Final = 696

# Three decimals; what they would show as 0.000 has its power of ten, and 0 is nothing at all. Not
# Math.abs: the template reads the row's columns by name, and one from data may have that name.
_NUMBER = f"""<div style="text-align:right"><%=
  value != value ? "–" : value == 0 ? "0"
    : (value > -0.0005 && value < 0.0005 ? value.toExponential(0)
      : value > -{LARGE:.0f} && value < {LARGE:.0f} ? value.toFixed(3)
      : value.toExponential(1)).replaceAll("-", "−")
%></div>"""

# The minus is as long as the figures', and none stands before a zero.
_FIXED = """<div style="text-align:right"><%=
  value != value || value == null ? "–"
    : (value * FACTOR).toFixed(DECIMALS).replace(/^-(?=[0.]*$)/, "").replace("-", "−") + "UNIT"
%></div>"""

# One letter a bar, A to y, its middle zero; a blank is no step, "!" is NaN.
_TEMPLATE = f"""<%
  let up = "", down = "";
  for (let i = 0; i < value.length; i++) {{
    const height = value.charCodeAt(i) - {_ZERO};
    if (height >= -{_LEVELS}) {{
      const bar = "M" + (i + 0.5) + " {_LEVELS}v" + -height;
      if (height >= 0) up += bar; else down += bar;
    }}
  }}
%><svg role="img" aria-label="WORDS" width="100%" height="19"
  viewBox="0 0 <%= value.length %> {2 * _LEVELS}" preserveAspectRatio="none" style="display:block">
<path d="M0 {_LEVELS}H<%= value.length %>" stroke="currentColor" stroke-opacity="0.35"
  vector-effect="non-scaling-stroke"/>
<path d="<%= up %>" stroke="{ACCENT["state"]}" stroke-width="0.9"/>
<path d="<%= down %>" stroke="{COLORS["state"][54]}" stroke-width="0.9"/></svg>"""


def bars(
    h: Float[np.ndarray, "unit time"], mask: Bool[np.ndarray, " time"] | None = None
) -> list[str]:
    """Each unit's state over time as at most 40 letters, A for -1 over ] for 0 to y for 1.

    >>> bars(np.array([[-1.0, 0.0, 1.0, np.nan]]))
    ['A]y!']
    """
    units, time = h.shape
    if not time:
        return [""] * units
    columns = raster.Span(0, time, -(-time // BARS))
    if mask is not None:
        h = np.where(mask, h, h.dtype.type(0))
    drawn = raster.reduce(h, raster.Span(0, units, 1), columns, 0.0)
    levels = np.nan_to_num(drawn * _LEVELS, nan=0.0).round().clip(-_LEVELS, _LEVELS)
    letters = (levels.astype(np.int64) + _ZERO).astype(np.uint8)
    letters[np.isnan(drawn)] = ord("!")
    if mask is not None:
        there = np.logical_or.reduceat(mask, np.arange(0, time, columns.block))
        letters[:, ~there] = ord(" ")
    return [row.tobytes().decode("ascii") for row in letters]


def bar_paths(letters: str) -> tuple[str, str, int]:
    """Letters of `bars` as paths of SVG: the bars up, those down, and how high their picture is.

    >>> bar_paths("A]y!")
    ('M1.5 28v0M2.5 28v-28', 'M0.5 28v28', 56)
    """
    up = down = ""
    for place, letter in enumerate(letters):
        height = ord(letter) - _ZERO
        if height >= -_LEVELS:  # not a blank, and not "!"
            bar = f"M{place + 0.5} {_LEVELS}v{-height}"
            up, down = (up + bar, down) if height >= 0 else (up, down + bar)
    return up, down, 2 * _LEVELS


def column_of(values: Any) -> Any:
    """Numbers as 4-byte numbers, anything else as texts."""
    array = np.asarray(values)
    if array.dtype.kind in "fiub":
        return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
    return [str(value) for value in array.tolist()]


def is_large(values: Any) -> bool:
    """Whether some of a column's numbers have too many digits for it.

    >>> is_large(np.array([0.5, np.nan])), is_large(np.array([-2e6, np.inf]))
    (False, True)
    """
    if isinstance(values, list):
        return False
    return bool(
        (np.abs(values, where=np.isfinite(values), out=np.zeros(len(values))) >= LARGE).any()
    )


def described(
    name: str, values: Any, signals: Sequence[Signal] = (), field: str = ""
) -> TableColumn:
    """The table column of a name; `signals` as for `about`, `field` if it is not the name."""
    if name == "bars":
        meaning = say("state over valid steps, from −1 to 1 around the line")
        title = _header(say("h over time"), meaning, words=True)
        words = html.escape(say("state over time"))
        return TableColumn(
            field=name,
            title=title,
            width=_BARS_WIDTHS[0],
            tags=[4, _BARS_WIDTHS[1]],
            sortable=False,
            formatter=HTMLTemplateFormatter(template=_TEMPLATE.replace("WORDS", words)),
        )
    shown = about(name, signals)
    # a title is HTML to the table: a name that came with the data is not
    title = _header(shown.title, shown.meaning, words=isinstance(values, list))
    formatter: Any
    if isinstance(values, list):
        formatter = StringFormatter()
    elif shown.format == ANY or is_large(values):
        formatter = HTMLTemplateFormatter(template=_NUMBER)
    else:
        formatter = HTMLTemplateFormatter(template=_fixed(shown.format))
    field = field or name
    return TableColumn(
        field=field,
        title=title,
        width=shown.width,
        tags=[shown.fold, shown.width],
        formatter=formatter,
        default_sort="ascending" if field == "unit" else "descending",
    )


def _fixed(form: str) -> str:
    """The template of numbers with so many decimals, or of shares in per cent.

    >>> "(value * 100).toFixed(0)" in _fixed("0%"), "(value * 1).toFixed(3)" in _fixed("0.000")
    (True, True)
    """
    shown = form.removesuffix("%")
    decimals = len(shown.partition(".")[2])
    factor, unit = (1, "") if shown == form else (100, "%")
    found = _FIXED.replace("FACTOR", f"{factor}").replace("DECIMALS", f"{decimals}")
    return found.replace("UNIT", unit)


def side_by_side(columns: Sequence[TableColumn]) -> list[TableColumn]:
    """Columns as they stand in a table: the bars of the state are what gives way.

    >>> z = Signal("z", "update gate", 0.0, 1.0, "keep")
    >>> many = [described(name, np.zeros(1), [z]) for name in (*["z_low"] * 12, "bars")]
    >>> side_by_side(many[-1:])[-1].width, side_by_side(many)[-1].width
    (150, 120)
    """
    others = sum(column.width for column in columns if column.field != "bars")
    widest, narrowest = _BARS_WIDTHS
    for column in columns:
        if column.field == "bars":
            column.width = max(narrowest, min(widest, _ROOM - others))
    return list(columns)


def _header(title: str, meaning: str, *, words: bool = False) -> str:
    """A title above numbers stands at their right, above words at their left."""
    shown = html.escape(title)
    of_words = ' class="words"' if words else ""
    if not (meaning or words):
        return shown
    return f'<span title="{html.escape(meaning)}"{of_words}>{shown}</span>'
