"""The tokens as a text: wrapped as text is, coloured by one unit, with steps to choose in it.

unit 27 · state h  −1 ▒▒▒▒ 1                                        2 of 5 [search    ]
 the film was not bad at all , said nobody who had seen it …        click, drag: choose steps

A page has room for ten thousand words and none for ten thousand labels of an axis. All that is
shown is text; the colours come as one byte a token.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import anywidget
import numpy as np
import traitlets as tl
from jaxtyping import Bool, Float

from grulens.cells.signal import Signal
from grulens.views.figure import raster
from grulens.views.figure.canvas import Listener, Positions, tell
from grulens.views.figure.palette import PALETTE, WHITE_INK
from grulens.views.figure.tokens import number, set_apart, valid, visible_text
from grulens.widgets.jupyter.script import HEARD
from grulens.words import of_script

#: Of a longer token only so many characters are shown.
CUT: Final = 80
#: What a person could not see, as a text of one token.
_SEEN: Final = {" ": " ", "\n": "⏎", "\t": "⇥"}


class TokenText(anywidget.AnyWidget):
    """A text on the colours of a signal.

    Attributes:
        tokens: the texts as the page shows them, and whether it sets them apart as words.
        painted: the colour of each step, as a byte; what the bytes mean; the values.
        times: the chosen steps, as runs of first and last.
        step: the present step; -1 is none.
        words: what the script says, in the language of the screens.

    >>> text, z = TokenText(), Signal("z", "update gate", 0.0, 1.0, "keep")
    >>> text.name(["not", "bad"])
    >>> text.paint(np.array([0.0, 1.0]), signal=z, name="unit 3 · update gate z")
    >>> text.tokens["spaced"], [*text.painted["codes"]], text.painted["ends"]
    (True, [0, 252], ['0', '1'])
    """

    #: The script and its styles, which a saved page has as well.
    script: Final = Path(__file__).with_name("token_text.js").read_text(encoding="utf-8")
    style: Final = Path(__file__).with_name("token_text.css").read_text(encoding="utf-8")
    _esm, _css = f"{HEARD}\n{script}", style

    tokens = tl.Dict({"texts": [], "plain": [], "spaced": False, "rtl": False}).tag(sync=True)
    painted = tl.Dict().tag(sync=True)
    times: Any = tl.List([]).tag(sync=True)
    step = tl.Int(-1).tag(sync=True)
    words = tl.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(words=of_script(self.script), **traits)
        self._listeners: list[Listener] = []
        self._named: tuple[str, ...] = ()
        self._chosen: Positions = ()
        self.on_msg(self._received)

    def on_times(self, listener: Callable[[Positions], object]) -> None:
        """Call `listener(times)` when a person chooses steps, () for all; never from `select`."""
        self._listeners.append(listener)

    def name(self, tokens: Sequence[object]) -> None:
        """Show other tokens.

        Args:
            tokens: (time,), what each step is called.
        """
        given = tuple(valid(str(token)) for token in tokens)
        if given == self._named:
            return
        self._named = given
        self.tokens = {
            "texts": seen_tokens(given),
            "plain": [*given],
            "spaced": set_apart(given),
            "rtl": 2 * sum(map(_is_rtl, given)) > len(given),
        }

    def paint(
        self,
        values: Float[np.ndarray, " time"],
        *,
        signal: Signal | str,
        mask: Bool[np.ndarray, " time"] | None = None,
        ends: tuple[float, float] | None = None,
        name: str = "",
    ) -> None:
        """Colour the tokens by other values.

        Args:
            values: (time,), one for each token.
            signal: a signal of the layer's cell, or "difference".
            mask: (time,), False where there is no step (padding): left without colour.
            ends: the values at the ends of the colours; None are those of the signal.
            name: what the values are.
        """
        low, high = ends or raster.scale(signal, values)
        span = raster.Span(0, len(values), 1)
        row = raster.Span(0, 1, 1)
        codes = raster.picture(values[None], row, span, (low, high), mask)[0]
        self.painted = {
            "codes": codes.astype(np.uint8).tobytes(),
            "values": np.asarray(values, np.float32).tobytes(),
            "palette": [*PALETTE[signal]],
            "white": bytes(WHITE_INK[signal]),
            "ends": [number(low), number(high)],
            "name": name,
        }

    def select(self, times: Iterable[int] = (), step: int | None = None) -> None:
        """Mark these steps, and the present one; tells no listener."""
        self._chosen = tuple(sorted({int(t) for t in times}))
        self.times = [[*run] for run in raster.runs(self._chosen)]
        self.step = -1 if step is None else step

    def _received(self, _: object, content: Any, __: object) -> None:
        if not isinstance(content, dict) or content.get("kind") != "times":
            return
        ends, last = content.get("ends"), len(self._named) - 1
        if ends is None:
            tell(self._listeners, ())
        elif isinstance(ends, list) and len(ends) == 2 and all(type(end) is int for end in ends):
            low, high = (min(max(end, 0), last) for end in sorted(ends))
            meant = {*range(low, high + 1)}
            tell(self._listeners, meant ^ {*self._chosen} if content.get("toggle") else meant)


def seen_tokens(tokens: Sequence[object]) -> list[str]:
    """Tokens as the page shows them."""
    return [_seen(valid(str(token))) for token in tokens]


def _seen(token: str) -> str:
    """A token as the page shows it: itself, but for what nobody could see."""
    shown = "".join(
        _SEEN.get(char) or (visible_text(char) if unicodedata.category(char) in _UNSEEN else char)
        for char in token[:CUT]
    )
    return (shown or visible_text("")) + ("…" if len(token) > CUT else "")


#: Control characters and separators of lines; what joins an emoji is shown in it.
_UNSEEN: Final = ("Cc", "Zl", "Zp")


def _is_rtl(token: str) -> bool:
    """Whether a token is written from the right to the left."""
    return any(unicodedata.bidirectional(char) in ("R", "AL") for char in token[:CUT])
