"""Places of a corpus as lines of text on the page, each of which a click or a key opens.

[ 0.998]  "Return␣a␣copy␣of␣the␣list⏎      in_text
[ 0.997]  "Read␣from␣the␣underlying␣…      in_text
          ▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔       bars under the text, from the top: in_text
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import anywidget
import numpy as np
import traitlets as tl
from jaxtyping import Bool, Float

from grulens.probing.corpus.scan.place import Context, Place
from grulens.views.corpus.contexts import CUT, inks
from grulens.views.figure.palette import ACCENT, COLORS, INPUTS, PAGES, mixed, needs_white
from grulens.views.figure.tokens import number, set_apart, valid, visible_name, visible_text
from grulens.widgets.jupyter.script import script
from grulens.words import of_script, say

#: So many labels have a bar under the text.
TRACKS: Final = 3
#: So much of a token is said where one points at it.
LONG: Final = 200
#: The opacity of the ground of a step beside those that are meant.
BESIDE: Final = 0.62
#: The signal whose values count something: none of it has no colour, all of it the state's.
COUNT: Final = "weight"


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
        words: what the script says, in the language of the screens.
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

    _esm = script(Path(__file__).with_name("context_list.js"))
    _css = Path(__file__).with_name("context_list.css").read_text(encoding="utf-8")

    name = tl.Unicode("contexts").tag(sync=True)
    words = tl.Dict().tag(sync=True)
    shown = tl.Dict(
        {"lines": [], "tracks": [], "under": "text", "inputs": [], "said": "", "opens": False}
    ).tag(sync=True)
    old = tl.Bool(False).tag(sync=True)

    def __init__(self, on_open: Callable[[Any], object] | None = None, **traits: Any) -> None:
        super().__init__(words=of_script(self._esm), **traits)
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
        called: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Show other places.

        Args:
            lines: the places.
            tracks: the labels that have bars.
            ends: the values at the ends of the colours.
            signal: whose colours; a "weight" counts something, from 0 to the end of the colours.
            said: a sentence over them.
            called: what labels are called, where that is not their name.
        """
        names = {label: visible_name(label) for line in lines for label in line.context.labels}
        names |= {label: visible_name(label) for label in tracks} | dict(called)
        self._places = tuple(line.place for line in lines)
        every = [one.inputs.ravel() for one in lines if one.inputs is not None]
        kept = np.concatenate([np.zeros(0), *every])
        kept = kept[np.isfinite(kept)]
        far = (float(kept.min()), float(kept.max())) if kept.size else (0.0, 1.0)
        many = max((one.inputs.shape[1] for one in lines if one.inputs is not None), default=0)
        drawn = [_drawn(line, tracks, names, ends, signal, far) for line in lines]
        barred = any(line["holds"] for line in drawn)
        self.shown = {
            "lines": drawn,
            "tracks": [names[label] for label in tracks] if barred else [],
            "under": say("lines") if drawn and drawn[0]["tokens"] is None else say("text"),
            "inputs": [
                {"name": ", ".join(map(str, range(i, many, len(INPUTS)))), "color": color}
                for i, color in enumerate(INPUTS[:many])
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


#: Where no value is known, no step has a colour.
NO_LOOKS: Final[dict[str, Any]] = {"looks": [], "look": []}


def looks(
    values: Float[np.ndarray, " step"],
    inside: Sequence[bool],
    signal: str,
    ends: tuple[float, float],
) -> dict[str, Any]:
    """The ground and the ink of each step, on a light page and on a dark one.

    A ground pales into the page beside the steps that are meant, and where little is counted; ink
    never does, and is black or white as that ground needs it.

    Args:
        values: (step,).
        inside: (step,), whether the step is meant.
        signal: whose colours.
        ends: the values at their ends.

    Returns:
        The looks that there are, "" for a ground that is the page, and for each step which it has.

    >>> looks(np.array([0.0, 2.0]), [True, True], "weight", (0.0, 2.0))["looks"]
    [['', '', '', ''], ['#CC79A7', '#000', '#CC79A7', '#000']]
    """
    grounds = inks(values[None], signal, ends)[0][0]
    shares = [1.0 if one else BESIDE for one in inside]
    if signal == COUNT:
        counted = (values - ends[0]) / (ends[1] - ends[0] or 1.0)
        shares = [one * part for one, part in zip(shares, counted.tolist(), strict=True)]
        grounds = [ACCENT["state"]] * len(shares)
    found: dict[tuple[str, float], int] = {}
    look = [found.setdefault(each, len(found)) for each in zip(grounds, shares, strict=True)]
    made = [
        [part for page in PAGES.values() for part in _ink(mixed(ground, share, page))]
        if share
        else [""] * 2 * len(PAGES)
        for ground, share in found
    ]
    return {"looks": made, "look": look}


def _ink(ground: str) -> tuple[str, str]:
    """A ground, and the ink that is read on it."""
    return ground, "#fff" if needs_white((ground,))[0] else "#000"


def _drawn(
    line: Line,
    tracks: Sequence[str],
    names: Mapping[str, str],
    ends: tuple[float, float],
    signal: str,
    far: tuple[float, float],
) -> dict[str, Any]:
    """One line as the page takes it; `far` are the least and the largest of all inputs."""
    one, place = line.context, line.context.place
    steps = range(place.start, place.stop)
    at = say(
        "part {part}, input {input}, steps {first} to {last}", part=place.part,
        input=place.document, first=place.offset + line.place.start,
        last=place.offset + line.place.stop - 1,
    )  # fmt: skip
    found: dict[str, Any] = {
        "name": line.name,
        "about": at,
        "labels": [
            *(names[label] for label in tracks if label in one.labels),
            *(names[label] for label in one.labels if label not in tracks),
        ],
        "closed": line.closed,
        "holds": line.holds.T.tolist() if len(line.holds) else [],
    }
    values = np.array(one.values or [np.nan] * len(steps))
    known = one.values is not None
    inside = [line.place.start <= step < line.place.stop for step in steps]
    if one.tokens is None and line.inputs is not None:
        return found | {
            "tokens": None,
            "curves": [
                {"values": each, "color": INPUTS[i % len(INPUTS)]}
                for i, each in enumerate(np.clip(np.nan_to_num(line.inputs.T), *far).tolist())
            ],
            **(looks(values, [True] * len(steps), signal, ends) if known else NO_LOOKS),
            "place": [line.place.start - place.start, line.place.stop - place.start],
            "ends": list(far),
        }
    if one.tokens is None:
        return found | _curves(line, ends)
    texts, wholes = (
        [valid(visible_text(token, most)) for token in one.tokens] for most in (CUT * 3, LONG)
    )
    return found | {
        "tokens": texts,
        "spaced": set_apart(one.tokens),
        **(looks(values, inside, signal, ends) if known else NO_LOOKS),
        "tips": [
            say("step {numbers}", numbers=place.offset + step)
            + (f": {number(value, '.3f')}" if known else "")
            + (f" · {whole}" if whole != text else "")  # it is cut where it stands
            for step, value, text, whole in zip(steps, values.tolist(), texts, wholes, strict=True)
        ],
        "inside": inside,
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
        return {"tokens": None, "curves": curves, "place": meant, "ends": list(ends),
                "holds": [], **NO_LOOKS}  # fmt: skip
    else:
        curves, meant = [], [0, 0]
    return {"tokens": None, "curves": curves, "place": meant, "ends": list(ends), **NO_LOOKS}
