"""How the tutorials show a number and a drawing."""

from __future__ import annotations

import base64
import html
import io
import math
import re
import warnings
from typing import TYPE_CHECKING, Final

import numpy as np
from torch import Tensor

from grulens.words import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "about"]

#: Fonts that have Chinese, by the names that matplotlib has for them; each system brings another.
CHINESE: Final = (
    "Microsoft YaHei", "SimHei", "PingFang SC", "PingFang HK", "Hiragino Sans GB", "STHeiti",
    "Heiti TC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Noto Sans CJK SC", "Noto Sans CJK JP",
    "Noto Sans SC", "Source Han Sans SC", "Droid Sans Fallback",
)  # fmt: skip
_CHINESE: Final = "[\u4e00-\u9fff]"


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
        return say("{number} ({low} to {high})", number=shown, low=low, high=high)
    if low is not None:
        return say("{number} (over {low})", number=shown, low=low)
    return shown if high is None else say("{number} (under {high})", number=shown, high=high)


class Picture:
    """A drawing with words for whoever cannot see it; a notebook shows it no wider than the page.

    Args:
        figure: a matplotlib figure. It is drawn at once, at 110 dots per inch; the Chinese in it,
            in the first font of `CHINESE` that is there.
        words: what is to be seen in it: the picture's `alt` text, and its text without a page.

    Warns:
        UserWarning: these words are in Chinese, and none of those fonts is there; empty boxes stand
            for the characters in the figure.
    """

    def __init__(self, figure: Figure, words: str) -> None:
        png = io.BytesIO()
        with warnings.catch_warnings():
            if re.search(_CHINESE, words):
                warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
                _write_chinese(figure)
            figure.savefig(png, dpi=110)
        self._data = base64.b64encode(png.getvalue()).decode()
        self._words = words

    def __repr__(self) -> str:
        return self._words

    def _repr_html_(self) -> str:
        source = f"data:image/png;base64,{self._data}"
        return f'<img alt="{html.escape(self._words)}" src="{source}" style="max-width:100%">'


def _write_chinese(figure: Figure) -> None:
    """Give the Chinese in a figure a font that has it."""
    from matplotlib.font_manager import fontManager  # noqa: PLC0415  # only who draws has it
    from matplotlib.text import Text  # noqa: PLC0415

    figure.draw_without_rendering()  # labels of ticks are there when they are drawn
    there = {font.name for font in fontManager.ttflist}
    font = next((name for name in CHINESE if name in there), None)
    if font is None:
        warnings.warn(
            "matplotlib finds no font with Chinese, and draws empty boxes; on Debian and Ubuntu "
            "`apt-get install fonts-wqy-microhei` brings one",
            stacklevel=3,
        )
        return
    for text in figure.findobj(Text):
        if re.search(_CHINESE, text.get_text()):
            text.set_fontfamily(["DejaVu Sans", font])
