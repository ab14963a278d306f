"""The frame all figures share: the same margins, so that steps stand under each other.

No ground, text or grid colours here: whoever shows the figure takes those from the page's theme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from bokeh.models import Range1d
from bokeh.plotting import figure

LEFT: Final = 64
RIGHT: Final = 84

Positions = tuple[int, ...]
Listener = Callable[[Positions], object]


def frame(*, height: int, tools: Iterable[Any] = (), **options: Any) -> figure:
    """An empty figure as wide as its place, `height` pixels tall, with the shared margins."""
    settings: dict[str, Any] = {
        "height": height,
        "sizing_mode": "stretch_width",
        "min_border_left": LEFT,
        "min_border_right": RIGHT,
        "toolbar_location": None,
        "output_backend": "canvas",
        **options,
    }
    made = figure(tools=list(tools), **settings)
    made.toolbar.logo = None
    made.grid.visible = False
    made.title.text_font_size = "13px"
    made.title.text_font_style = "bold"
    for axis in made.axis:
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "12px"
        axis.major_label_text_font_size = "11px"
        axis.minor_tick_line_color = None
    return made


def steps(length: int = 1) -> Range1d:
    """The range of a time axis: step t lies from t - 0.5 to t + 0.5."""
    made = Range1d(-0.5, length - 0.5, min_interval=2)
    fit(made, length)
    return made


def fit(axis: Range1d, length: int, *, downwards: bool = False) -> bool:
    """Show `length` cells if the axis was made for another number; keeps a person's zoom else.

    Returns:
        Whether the axis changed.
    """
    low, high = -0.5, max(1, length) - 0.5
    if axis.bounds == (low, high):
        return False
    first, last = (high, low) if downwards else (low, high)
    axis.bounds = (low, high)
    axis.update(start=first, end=last, reset_start=first, reset_end=last)
    return True


def inside(low: float, high: float, length: int) -> Positions:
    """The cells a drag from `low` to `high` chose: those it holds the middle of, at least one.

    >>> inside(1.2, 4.4, 10), inside(2.6, 2.9, 10), inside(-9, 99, 3)
    ((2, 3, 4), (3,), (0, 1, 2))
    """
    low, high = sorted((low, high))
    chosen = tuple(i for i in range(max(0, round(low)), min(length, round(high) + 1)) if low <= i <= high)
    if chosen or not length:
        return chosen
    return (min(max(round((low + high) / 2), 0), length - 1),)


def tell(listeners: Iterable[Listener], positions: Iterable[int]) -> None:
    """Call every listener with the positions, sorted and each once."""
    chosen = tuple(sorted({int(p) for p in positions}))
    for listener in tuple(listeners):
        listener(chosen)
