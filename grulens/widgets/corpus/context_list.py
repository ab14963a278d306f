"""Places of a corpus as lines of text on the page, each of which a click or a key opens.

[ 0.998]  "Return␣a␣copy␣of␣the␣list⏎      in_text
[ 0.997]  "Read␣from␣the␣underlying␣…      in_text
          ▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔       bars under the text, from the top: in_text
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anywidget
import numpy as np
import traitlets as tl
from jaxtyping import Bool, Float

from grulens.probing.corpus.scan.place import Context, Place
from grulens.views.corpus.contexts import CUT, inks
from grulens.views.figure.palette import ACCENT, COLORS
from grulens.views.figure.tokens import number, valid, visible_name, visible_text

#: So many labels have a bar under the text.
TRACKS: Final = 3
#: The colours of the numbers of an input.
LINES: Final = tuple(ACCENT[name] for name in ("keep", "reset", "candidate", "write", "read"))


@dataclass(frozen=True, eq=False)
class Line:
    """One place.

    Attributes:
        name: what stands before it: the unit's value, or how many units are on.
        context: what stands there.
        place: the steps meant, where the context holds more.
        holds: (label, step) for the labels that have bars.
        band: where nothing was read and nothing can be run again, the least and the largest value
            of the windows around (end, window), and which of them is meant.
        window: the number of that one.
        inputs: what stood at each step of the context (step, number), where that was numbers.
        closed: why the place cannot be opened; "" where it can.
    """

    name: str
    context: Context
    place: Place
    holds: Bool[np.ndarray, "label step"]
    band: Float[np.ndarray, "end window"] | None = None
    window: int = 0
    inputs: Float[np.ndarray, "step number"] | None = None
    closed: str = ""


class ContextList(anywidget.AnyWidget):
    """Lines of text, each on the colours of its values.

    Attributes:
        name: what the list is, for a screen reader.
        shown: what the page draws.
        old: whether that is of a question before the one that is being answered.

    >>> found = ContextList()
    >>> place = Place(0, 0, 0, 0, 0, 2)
    >>> context = Context(place, ("<b>", " "), ("bold",), (0.5, 1.0))
    >>> line = Line("1.000", context, place, np.array([[True, False]]))
    >>> found.show([line], ["bold"], (-1.0, 1.0))
    >>> found.shown["lines"][0]["tokens"], found.shown["lines"][0]["holds"]
    (['<b>', '␣'], [[True], [False]])
    """

    _esm = Path(__file__).with_name("context_list.js").read_text(encoding="utf-8")
    _css = Path(__file__).with_name("context_list.css").read_text(encoding="utf-8")

    name = tl.Unicode("contexts").tag(sync=True)
    shown = tl.Dict(
        {"lines": [], "tracks": [], "under": "text", "inputs": [], "said": "", "opens": False}
    ).tag(sync=True)
    old = tl.Bool(False).tag(sync=True)

    def __init__(self, on_open: Callable[[Any], object] | None = None, **traits: Any) -> None:
        super().__init__(**traits)
        self._places: tuple[Place, ...] = ()
        self._open = on_open
        self.on_msg(self._received)

    def show(
        self,
        lines: Sequence[Line],
        tracks: Sequence[str],
        ends: tuple[float, float],
        *,
        signal: str = "state",
        said: str = "",
    ) -> None:
        """Show other places.

        Args:
            lines: the places.
            tracks: the labels that have bars.
            ends: the values at the ends of the colours.
            signal: whose colours.
            said: a sentence over them.
        """
        self._places = tuple(line.place for line in lines)
        every = [one.inputs.ravel() for one in lines if one.inputs is not None]
        kept = np.concatenate([np.zeros(0), *every])
        kept = kept[np.isfinite(kept)]
        far = (float(kept.min()), float(kept.max())) if kept.size else (0.0, 1.0)
        many = max((one.inputs.shape[1] for one in lines if one.inputs is not None), default=0)
        drawn = [_drawn(line, tracks, ends, signal, far) for line in lines]
        barred = any(line["holds"] for line in drawn)
        self.shown = {
            "lines": drawn,
            "tracks": [visible_name(label) for label in tracks] if barred else [],
            "under": "lines" if drawn and drawn[0]["tokens"] is None else "text",
            "inputs": [
                {"name": ", ".join(map(str, range(i, many, len(LINES)))), "color": color}
                for i, color in enumerate(LINES[:many])
            ],
            "said": said,
            "opens": self._open is not None,
        }
        self.old = False

    def _received(self, _: object, content: Any, __: object) -> None:
        line = content.get("line") if isinstance(content, dict) else None
        if self._open is None or self.old:
            return
        if isinstance(line, int) and 0 <= line < len(self._places):
            self._open(self._places[line])


def _drawn(
    line: Line,
    tracks: Sequence[str],
    ends: tuple[float, float],
    signal: str,
    far: tuple[float, float],
) -> dict[str, Any]:
    """One line as the page takes it; `far` are the least and the largest of all inputs."""
    one, place = line.context, line.context.place
    steps = range(place.start, place.stop)
    at = f"part {place.part}, input {place.document}, steps {place.offset + line.place.start}"
    found: dict[str, Any] = {
        "name": line.name,
        "about": f"{at} to {place.offset + line.place.stop - 1}",
        "labels": [
            *(visible_name(label) for label in tracks if label in one.labels),
            *(visible_name(label) for label in one.labels if label not in tracks),
        ],
        "closed": line.closed,
        "holds": line.holds.T.tolist() if len(line.holds) else [],
    }
    values = np.array(one.values or [np.nan] * len(steps))
    grounds, colors = inks(values[None], signal, ends)
    known = one.values is not None
    if one.tokens is None and line.inputs is not None:
        return found | {
            "tokens": None,
            "curves": [
                {"values": each, "color": LINES[i % len(LINES)]}
                for i, each in enumerate(np.clip(np.nan_to_num(line.inputs.T), *far).tolist())
            ],
            "strip": grounds[0] if known else [],
            "place": [line.place.start - place.start, line.place.stop - place.start],
            "ends": list(far),
        }
    if one.tokens is None:
        return found | _curves(line, ends)
    return found | {
        "tokens": [valid(visible_text(token, CUT * 3)) for token in one.tokens],
        "grounds": grounds[0] if known else ["" for _ in steps],
        "inks": colors[0],
        "tips": [
            f"step {place.offset + step}" + (f": {number(value, '.3f')}" if known else "")
            for step, value in zip(steps, values.tolist(), strict=True)
        ],
        "inside": [line.place.start <= step < line.place.stop for step in steps],
    }


def _curves(line: Line, ends: tuple[float, float]) -> dict[str, Any]:
    """Where nothing was read: the values as a curve, or the ends of each window."""
    one, place = line.context, line.context.place
    state = ACCENT["state"]
    if one.values is not None:
        curves = [{"values": list(one.values), "color": state}]
        meant = [line.place.start - place.start, line.place.stop - place.start]
    elif line.band is not None:
        low, high = line.band.tolist()
        curves = [
            {"values": high, "color": state},
            {"values": low, "color": COLORS["state"][54]},
        ]
        meant = [line.window, line.window + 1]
        return {"tokens": None, "curves": curves, "strip": [], "place": meant, "ends": list(ends),
                "holds": []}  # fmt: skip
    else:
        curves, meant = [], [0, 0]
    return {"tokens": None, "curves": curves, "strip": [], "place": meant, "ends": list(ends)}
