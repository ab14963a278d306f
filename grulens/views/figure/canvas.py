"""The frame all figures share: the same margins, so that steps stand under each other.

No ground, text or grid colours here: whoever shows the figure takes those from the page's theme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
from bokeh.models import (
    AdaptiveTicker,
    BoxSelectTool,
    BoxZoomTool,
    ColumnDataSource,
    FixedTicker,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.models.annotations import Legend, LegendItem
from bokeh.plotting import figure
from jaxtyping import Float

from grulens.words import message, say

LEFT: Final = 66
RIGHT: Final = 84

#: So many steps stand beside each other without a zoom.
ROOMY: Final = 120

#: What the page calls these tools, where a figure calls them nothing else.
_TOOLS: Final[Mapping[type, str]] = {
    BoxZoomTool: message("Box Zoom"),
    PanTool: message("Pan"),
    WheelZoomTool: message("Wheel Zoom"),
    ResetTool: message("Reset"),
}

Positions = tuple[int, ...]
Listener = Callable[[Positions], object]


def frame(*, height: int, tools: Iterable[Any] = (), **options: Any) -> Any:
    """An empty figure as wide as its place, `height` pixels tall, with the shared margins.

    A title that is "" will be another: it has room from the beginning, which BokehJS 3.9 would not
    give it later.

    >>> frame(height=90, title="").title.text, frame(height=90).title.text
    (' ', '')
    """
    settings: dict[str, Any] = {
        "height": height,
        "sizing_mode": "stretch_width",
        "min_border_left": LEFT,
        "min_border_right": RIGHT,
        "toolbar_location": None,
        "output_backend": "canvas",
        **options,
    }
    tools = list(tools)
    for tool in tools:
        if tool.description is None and type(tool) in _TOOLS:
            tool.description = _said(tool)
    made: Any = figure(tools=tools, **settings)
    made.toolbar.logo = None
    made.grid.visible = False
    if options.get("title") == "":
        made.title.text = " "
    made.title.text_font_size = "13px"
    made.title.text_font_style = "bold"
    for axis in made.axis:
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "12px"
        axis.major_label_text_font_size = "11px"
        axis.minor_tick_line_color = None
    return made


def _said(tool: Any) -> str:
    """What a tool does, as BokehJS says it in English."""
    name = say(_TOOLS[type(tool)])
    match getattr(tool, "dimensions", "both"):
        case "width":
            return say("{tool} (x-axis)", tool=name)
        case "height":
            return say("{tool} (y-axis)", tool=name)
    return name


def steps(length: int = 1) -> Range1d:
    """The range of a time axis: step t lies from t - 0.5 to t + 0.5."""
    made = Range1d(start=-0.5, end=length - 0.5, min_interval=2)
    fit(made, length)
    return made


def zooming() -> dict[str, Any]:
    """Tools that zoom along time, as options of a `frame`: drag, ctrl and the wheel, and back."""
    box = BoxZoomTool(dimensions="width")
    wheel = WheelZoomTool(dimensions="width", modifiers="ctrl")
    return {
        "tools": [box, wheel, ResetTool()],
        "active_drag": box,
        "active_scroll": wheel,
        "toolbar_location": "above",
        # beside the title, BokehJS folds the tools away when the page's theme changes
        "toolbar_sticky": False,
    }


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


def inside(low: float | int, high: float | int, length: int) -> Positions:
    """The cells a drag from `low` to `high` chose: those it holds the middle of, at least one.

    >>> inside(1.2, 4.4, 10), inside(2.6, 2.9, 10), inside(-9, 99, 3)
    ((2, 3, 4), (3,), (0, 1, 2))
    """
    low, high = sorted((low, high))
    chosen = tuple(
        i for i in range(max(0, round(low)), min(length, round(high) + 1)) if low <= i <= high
    )
    if chosen or not length:
        return chosen
    return (min(max(round((low + high) / 2), 0), length - 1),)


def tell(listeners: Iterable[Listener], positions: Iterable[int]) -> None:
    """Call every listener with the positions, sorted and each once."""
    chosen = tuple(sorted({int(p) for p in positions}))
    for listener in tuple(listeners):
        listener(chosen)


def tapped(event: Any, position: int, chosen: Iterable[int]) -> set[int]:
    """What is chosen after a tap on `position`: that alone, or toggled with shift or ctrl held."""
    held = event.modifiers or {}
    if held.get("shift") or held.get("ctrl"):
        return set(chosen) ^ {position}
    return {position}


def set_data(source: ColumnDataSource, data: Mapping[str, Any]) -> None:
    """Set a source's data if it differs from what is there: whatever is set goes to the page.

    >>> source = ColumnDataSource({"x": [1, 2]})
    >>> source.on_change("data", lambda attr, old, new: print("sent"))
    >>> set_data(source, {"x": np.array([1, 2])})
    >>> set_data(source, {"x": [1, 3]})
    sent
    """
    held = source.data
    if data.keys() != held.keys() or any(
        not np.array_equal(values, held[name]) for name, values in data.items()
    ):
        source.data = dict(data)


def without_choosing(root: Any) -> None:
    """Take the tool away that chooses units and steps, where nobody listens. Zoom stays."""
    root.tools = [tool for tool in root.tools if not isinstance(tool, BoxSelectTool)]
    zooms = [tool for tool in root.tools if isinstance(tool, BoxZoomTool)]
    root.toolbar.active_drag = zooms[0] if zooms else None


def whole_steps(axis: Any) -> None:
    """Let an axis name whole positions only."""
    axis.ticker = AdaptiveTicker(min_interval=1, mantissas=[1, 2, 5], num_minor_ticks=0)


def log_ticks(axis: Any, low: float, high: float, most: int = 6) -> None:
    """Let a logarithmic axis name at most so many numbers: BokehJS names them on one another.

    They are powers of ten, with 2 and 5 between them where there is room.

    >>> axis = frame(height=90, y_axis_type="log").yaxis[0]
    >>> log_ticks(axis, 0.3, 40.0)
    >>> axis.ticker.ticks
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    >>> log_ticks(axis, 1e-6, 2.0)
    >>> axis.ticker.ticks
    [1e-06, 0.0001, 0.01, 1.0]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for mantissas, stride in ((1, 2, 5), 1), *(((1,), n) for n in range(1, last - first + 2)):
        powers = range(first - first % stride, last + 1, stride)
        found = [float(f"{m}e{power}") for power in powers for m in mantissas]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= most:
            break
    axis.ticker = FixedTicker(ticks=found)


#: Entries that are wider than the axes and the margin left of them go on in another line, and one
#: that is so by itself ends in "…". BokehJS 3.9 would have the page cut them off.
_LINES: Final = f"""
:host {{ width: max-content; max-width: calc(100% + {LEFT}px); }}
:host {{ grid-template-columns: minmax(0, auto); }}
.bk-grid {{ display: flex; flex-wrap: wrap; justify-content: flex-end; width: auto; }}
.bk-grid {{ row-gap: 0 !important; }}
.bk-item {{ max-width: 100%; }}
.bk-glyph {{ flex: none; }}
.bk-label {{ display: block; min-width: 0; overflow: hidden; text-overflow: ellipsis; }}
"""


def legend(items: list[LegendItem]) -> Any:
    """One line of entries, to stand above a figure; several where the page has no room for one."""
    made: Any = Legend(
        items=items,
        orientation="horizontal",
        border_line_color=None,
        background_fill_alpha=0,
        glyph_height=12,
        glyph_width=16,
        label_height=14,
        label_text_font_size="12px",
        spacing=12,
        stylesheets=[_LINES],
    )
    made.update(padding=0, margin=0)
    return made


def stretch(
    axis: Any, values: Float[np.ndarray, " any"], low: float | None, high: float | None
) -> None:
    """Fit an axis to values, at least from `low` to `high`, with a little air above."""
    finite = np.asarray(values)[np.isfinite(values)]
    ends = [end for end in (low, high) if end is not None] + (
        [float(finite.min()), float(finite.max())] if finite.size else [0.0, 1.0]
    )
    first, last = min(ends), max(ends)
    air = 0.06 * ((last - first) or 1.0)
    axis.update(start=first if first == low == 0.0 else first - air, end=last + air)
