"""How a person chooses in a figure: a tap, a drag over a box, a double tap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bokeh.events import DoubleTap, SelectionGeometry, Tap

#: The ends of a box along one axis, the lower one first.
Ends = tuple[float | int, float | int]


def on_choosing(
    root: Any,
    *,
    tap: Callable[[Any], object],
    drag: Callable[[Ends, Ends], object],
    clear: Callable[[], object],
) -> None:
    """Call these functions when a person chooses in a figure.

    Args:
        root: the figure.
        tap: called with the event of a tap.
        drag: called with the ends of the box in x and in y, when a drag has ended.
        clear: called for a double tap.
    """

    def dragged(event: Any) -> None:
        box = dict(event.geometry or {})
        if event.final and box.get("type") == "rect":
            (x0, x1), (y0, y1) = (sorted((box[f"{axis}0"], box[f"{axis}1"])) for axis in "xy")
            drag((x0, x1), (y0, y1))

    root.on_event(Tap, tap)
    root.on_event(DoubleTap, lambda _: clear())
    root.on_event(SelectionGeometry, dragged)
