"""Two texts as one that wraps: step over step, each on the colours of its own value.

unit 27 · state h  −1 ▒▒▒▒ 1          over: row 0, under: row 3
 the film was not   bad · at all
 the film was quite bad , at all      a dot is no step
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import traitlets as tl
from jaxtyping import Bool, Float

from grulens.cells.signal import Signal
from grulens.views.figure import raster
from grulens.widgets.session.token_text import TokenText, seen_tokens

#: What stands where a text has no step.
GAP: Final = "·"


class PairText(TokenText):
    """Two texts over each other, in places; a place that one has no step at is a dot there.

    Attributes:
        under: the texts of the second line as the page shows them, and its colours.

    >>> text, z = PairText(), Signal("z", "update gate", 0.0, 1.0, "keep")
    >>> text.name_pairs(["not", None], ["not", "bad"])
    >>> both = np.array([[0.0, np.nan], [0.0, 1.0]])
    >>> text.paint_pairs(both, signal=z, ends=(0.0, 1.0), name="unit 3")
    >>> text.tokens["texts"], text.under["texts"], [*text.under["codes"]]
    (['not', '·'], ['not', 'bad'], [0, 252])
    """

    under: Any = tl.Dict({}).tag(sync=True)

    def name_pairs(self, over: Sequence[str | None], under: Sequence[str | None]) -> None:
        """Show other texts.

        Args:
            over: (place,), what each step of the first is called; None is no step.
            under: (place,), of the second.
        """
        both = [[GAP if token is None else token for token in line] for line in (over, under)]
        self.under = {"texts": seen_tokens(both[1]), "codes": b"", "values": b""}
        self._named = ()  # the second line may be another where the first is not
        self.name(both[0])

    def paint_pairs(
        self,
        values: Float[np.ndarray, "2 place"],
        *,
        signal: Signal | str,
        ends: tuple[float, float],
        name: str,
        mask: Bool[np.ndarray, "2 place"] | None = None,
    ) -> None:
        """Colour both texts.

        Args:
            values: (2, place), of the first and of the second; NaN where there is no step.
            signal: a signal of the layer's cell.
            ends: the values at the ends of the colours, the same for both.
            name: what the values are.
            mask: (2, place), False where there is no step; None is where a value is not a number.
        """
        there = ~np.isnan(values) if mask is None else mask
        held = np.where(there, values, 0.0)
        span, one = raster.Span(0, values.shape[1], 1), raster.Span(0, 1, 1)
        codes = raster.picture(held[1:], one, span, ends, there[1])[0]
        self.under = {
            **self.under,
            "codes": codes.astype(np.uint8).tobytes(),
            "values": held[1].astype(np.float32).tobytes(),
        }
        self.paint(held[0], signal=signal, mask=there[0], ends=ends, name=name)
