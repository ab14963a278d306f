"""A page that runs a network by itself: its scripts, its styles and its data in one HTML file.

The page asks for nothing: its policy lets one script run, the one whose hash it names, and nothing
be fetched. All data stands in a block that no browser runs.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np

from grulens.cells.signal import Signal
from grulens.views.figure import raster
from grulens.views.figure.palette import (
    ACCENT,
    NAN_CODE,
    PALETTE,
    WHITE_INK,
    is_diverging,
    range_of,
)
from grulens.views.figure.tokens import valid
from grulens.views.units.columns import about
from grulens.words import language, message, of_script, say

_HERE: Final = Path(__file__).parent
#: What stands in the page where its script was not let run.
_STOPPED: Final = message(
    "This page is a network that runs by its own script, and the script has not run. A page on a "
    "server needs a Content-Security-Policy that lets it: script-src {hash}; style-src "
    "'unsafe-inline'; img-src data:. Opened from disk it needs nothing."
)


def running_page(
    data: Mapping[str, Any], text_script: str, text_style: str, study: str = ""
) -> str:
    """The page of a lens.

    Args:
        data: all that running.js reads, JSON-ready.
        text_script: the module that draws a text, as a widget's `render`.
        text_style: its styles.
        study: HTML that stands at the end, escaped by whoever made it.

    >>> html = running_page({"title": "a </script><b>"}, "export default heard({ render });", "")
    >>> "</script><b>" in html, "http:" in html, "default-src 'none'" in html
    (False, False, True)
    """
    text = text_script.replace("export default heard({ render });", "return { render };")
    scripts = (
        source("words.js"), source("elements.js"), source("engine.js"),
        f"const grulensText = (() => {{\n{text}\n}})();",
        source("running_draw.js"), source("running_table.js"), source("running_cell.js"),
        source("running.js"),
    )  # fmt: skip
    end = f'<section class="study">{study}</section>' if study else ""
    data = {**data, "words": of_script("\n".join(scripts))}
    return whole_page(data, scripts, (text_style, source("running.css")), end)


@cache
def source(name: str) -> str:
    """A script or a style sheet of this folder."""
    return (_HERE / name).read_text(encoding="utf-8")


def whole_page(
    data: Mapping[str, Any], scripts: Sequence[str], styles: Sequence[str], end: str = ""
) -> str:
    """A page of one script and its data, which fetches nothing and lets nothing else run.

    Args:
        data: what the script reads, JSON-ready, with a "title".
        scripts: the parts of the script.
        styles: the parts of the style sheet.
        end: HTML that stands at the end, escaped by whoever made it.
    """
    script = "\n".join(scripts)
    hash_ = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{hash_}'; style-src 'unsafe-inline'; img-src data:"
    )
    # a block of data ends at the first "</script", so there is no "<" in it
    block = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    stopped = escape(say(_STOPPED, hash=f"'sha256-{hash_}'"))
    style = "\n".join(styles)
    return (
        f'<!doctype html>\n<html lang="{language()}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(str(data['title']))}</title>\n<style>{style}</style>\n"
        f'</head>\n<body>\n<main id="grulens-main"><p>{stopped}</p></main>\n{end}\n'
        f'<script type="application/json" id="grulens-data">{block}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def colors(signals: Sequence[Signal]) -> dict[str, Any]:
    """The maps of these signals by their roles, and that of a difference."""
    made: dict[str, Any] = {
        signal.role: {
            "palette": PALETTE[signal][: NAN_CODE + 1],
            "white": [int(white) for white in WHITE_INK[signal]],
            "accent": ACCENT[signal],
        }
        for signal in signals
    }
    made["difference"] = {
        "palette": PALETTE["difference"][: NAN_CODE + 1],
        "white": [int(white) for white in WHITE_INK["difference"]],
        "floor": raster.DIFFERENCE_FLOOR,
        "diverging": True,
    }
    return made


def table(columns: Mapping[str, Any], signals: Sequence[Signal]) -> list[dict[str, Any]]:
    """The columns of the table of units; the first one is their numbers. No columns are no table.

    Args:
        columns: name to (unit,) numbers or texts.
        signals: those of the layer's cell.

    >>> made = table({"mean_h": np.array([0.5, np.nan])}, [])
    >>> [(column["title"], column["values"]) for column in made]
    [('unit', [0, 1]), ('mean h', [0.5, None])]
    """
    held = {name: np.asarray(values) for name, values in columns.items()}
    if not held:
        return []
    count = len(next(iter(held.values())))
    made = []
    for name, values in {"unit": np.arange(count), **held}.items():
        kind, shown = about(name, signals), values.tolist()
        if values.dtype.kind == "f":
            shown = [float(f"{value:.6g}") if isfinite(value) else None for value in shown]
        elif values.dtype.kind not in "iub":
            shown = [valid(str(value)) for value in shown]
        made.append(
            {"name": name, "title": kind.title, "meaning": kind.meaning, "format": kind.format,
             "fold": kind.fold, "values": shown}
        )  # fmt: skip
    return made


def signal_of(signal: Signal, *, state: bool, span: tuple[float, float]) -> dict[str, Any]:
    """One signal as the page is told it.

    Args:
        signal: the signal.
        state: whether it is a state, which no slider moves.
        span: from where to where it can be set.
    """
    ends = range_of(signal)
    return {
        "name": signal.name, "words": signal.said, "title": signal.called, "role": signal.role,
        "activated": signal.activated, "state": state, "range": [*span],
        "ends": None if ends is None else [*ends],
        "gate": [signal.low, signal.high] if signal.is_gate else None,
        "fromZero": signal.low >= 0 and not is_diverging(signal), "diverging": is_diverging(signal),
    }  # fmt: skip
