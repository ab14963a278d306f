"""What the mouse reads off a byte picture: token, step, unit and value, worked out in the browser.

The picture's source carries what its bytes mean; a few constant lines of JavaScript read it back.
Bokeh escapes what they return before it reaches the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from bokeh.models import CustomJSHover, HoverTool
from jaxtyping import Float

from grulens.views.figure.raster import Span, digits
from grulens.words import message, say

VALUE: Final = """
const d = image.data;
if (value == 254) return blank;
if (value == 253) return "NaN";
const sign = value == 252 && d.over[0] ? "≥ " : value == 0 && d.under[0] ? "≤ " : "";
const number = d.low[0] + value / 252 * (d.high[0] - d.low[0]);
return sign + number.toFixed(d.digits[0]).replace(/^-(0\\.0*)$/, "$1").replace("-", "−");
"""
STEP: Final = """
const d = image.data, block = d.column_block[0];
const first = d.column[0] + Math.floor((special_vars.x + 0.5 - d.column[0]) / block) * block;
const last = Math.min(first + block, d.steps[0]) - 1;
return first == last ? `${first}` : `${first} – ${last}`;
"""
TOKEN: Final = """
const d = image.data;
const i = Math.floor((special_vars.x + 0.5 - d.column[0]) / d.column_block[0]);
return cells.data.token[i] ?? "";
"""
UNIT: Final = """
const d = image.data, block = d.row_block[0];
const i = Math.floor((special_vars.y + 0.5 - d.row[0]) / block);
const rest = Math.min(block, d.units[0] - d.row[0] - i * block) - 1;
return `${rows.data.unit[i]}` + (rest ? more.replace("{n}", rest) : "");
"""
# The columns only lend their names: the code decides what is shown.
_FIELDS: Final = {"token": "@x", "step": "@dw", "unit": "@dh", "value": "@image"}
_NAMES: Final = {
    "token": message("token"), "step": message("step"), "unit": message("unit"),
    "value": message("value"),
}  # fmt: skip
#: The field in a tooltip that says which unit it is.
UNIT_FIELD: Final = f"{_FIELDS['unit']}{{custom}}"


def meaning(
    values: Float[np.ndarray, "*shape"], ends: tuple[float, float], columns: Span, steps: int
) -> dict[str, Any]:
    """What the bytes of a picture mean, for the source it is drawn from.

    >>> meaning(np.array([2.0]), (0.0, 1.0), Span(0, 9, 1), 9)["over"]
    True
    """
    low, high = ends
    return {
        "low": low,
        "high": high,
        # a byte at the end of the map may stand for anything beyond it: the tooltip then says ≥
        "over": bool((values > high).any()),
        "under": bool((values < low).any()),
        "digits": digits(ends),
        "column": columns.start,
        "column_block": columns.block,
        "steps": steps,
    }


def hover(
    picture: Any,
    codes: Mapping[str, str],
    args: Mapping[str, Any],
    names: Mapping[str, str] | None = None,
    blank: str = message("no step"),
) -> HoverTool:
    """A tooltip over a picture, one line for each named code; `names` calls some by other names.

    Where nothing is drawn it says `blank`.
    """
    called = {**_NAMES, **(names or {})}
    words = {"blank": say(blank), "more": say(" and {n} more: zoom in")}
    return HoverTool(
        renderers=[picture],
        tooltips=[(say(called[name]), _FIELDS[name] + "{custom}") for name in codes],
        description=say("Hover"),
        formatters={
            _FIELDS[name]: CustomJSHover(args={**args, **words}, code=code)
            for name, code in codes.items()
        },
    )
