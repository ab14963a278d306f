"""How the tutorials show a number and a drawing."""

from __future__ import annotations

import base64
import html
import io
import math
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "about"]


def about(value: float | np.generic | Tensor, *bounds: float) -> str:
    """A number as it came out here, with the bounds that it must keep on every machine.

    A tutorial stores the line that this gives. Another machine or another seed gives another
    number after ≈, which claims nothing; the bounds in brackets are the claim, and where the
    number leaves them, other bounds are printed.

    Args:
        value: a number, or a tensor of one element. Whole numbers are shown as such, others with
            three digits, or to the second place below 10.
        bounds: some numbers, in any order. The nearest one on each side of the value is shown; a
            bound that the value equals is on neither side.

    Raises:
        ValueError: the value is not a number (NaN): no bounds hold it.

    >>> about(0.926, 0.5)
    '≈ 0.93 (over 0.5)'
    >>> about(0.03, 0.1), about(12.34, 10, 20), about(1234.5)
    ('≈ 0.03 (under 0.1)', '≈ 12.3 (10 to 20)', '≈ 1234')
    >>> about(11, 5), about(5, 5)
    ('≈ 11 (over 5)', '≈ 5')
    """
    given = value.item() if isinstance(value, Tensor | np.generic) else value
    number = float(given)
    if math.isnan(number):
        raise ValueError("a number was expected, NaN came: no bounds hold it")
    low = max((bound for bound in bounds if bound < number), default=None)
    high = min((bound for bound in bounds if bound > number), default=None)
    whole = isinstance(given, int) or abs(number) >= 100
    digits = 0 if whole else 1 if abs(number) >= 10 else 2
    shown = f"≈ {number:.{digits}f}"
    if low is not None and high is not None:
        return f"{shown} ({low} to {high})"
    if low is not None:
        return f"{shown} (over {low})"
    return shown if high is None else f"{shown} (under {high})"


class Picture:
    """A drawing with words for whoever cannot see it; a notebook shows it no wider than the page.

    Args:
        figure: a matplotlib figure. It is drawn at once, at 110 dots per inch.
        words: what is to be seen in it: the picture's `alt` text, and its text without a page.
    """

    def __init__(self, figure: Figure, words: str) -> None:
        png = io.BytesIO()
        figure.savefig(png, dpi=110)
        self._data = base64.b64encode(png.getvalue()).decode()
        self._words = words

    def __repr__(self) -> str:
        return self._words

    def _repr_html_(self) -> str:
        source = f"data:image/png;base64,{self._data}"
        return f'<img alt="{html.escape(self._words)}" src="{source}" style="max-width:100%">'
