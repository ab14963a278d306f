"""Gate attention and time scales as figures of their own, without a session around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bokeh.layouts import column
from bokeh.model import Model

from grulens.errors import GrulensError, PositionError, shown
from grulens.probing.edits import positions
from grulens.probing.memory.attention import GateAttention
from grulens.probing.memory.timescales import Timescales
from grulens.views.memory.attention_map import AttentionMap
from grulens.views.memory.query_bars import QueryBars
from grulens.views.still import memory as still_memory
from grulens.widgets.memory.timescales import TimescalesFigure, picture
from grulens.widgets.memory.words import lives

Figure = tuple[Model, Callable[[], str]]


def of_attention(
    found: GateAttention, tokens: Sequence[str] | None, row: Any, toward: Any
) -> Figure:
    """The map of one row, and the state that a tap chooses; at first the one read last."""
    place, (batch, steps, _) = positions.normal(row, "row"), found.shape
    if not isinstance(place, int):
        raise PositionError(f"row must be an int, got {shown(row)}")
    positions.check(place, batch, "row", f"this attention of layer {found.layer!r}")
    if tokens is not None and len(tokens) != steps:
        raise GrulensError(f"{len(tokens)} tokens were given; this layer has {steps} steps")
    values = found.map(toward)[place].double().cpu().numpy()
    initial = found.initial(toward)[place].double().cpu().numpy()
    past, signed = found.past[place].numpy(), toward is not None
    named: dict[str, Any] = {
        "signed": signed, "tokens": tokens, "name": "toward" if signed else "mean weight",
    }  # fmt: skip
    view = AttentionMap()
    bars = QueryBars(x_range=view.x_range)
    view.update(values, past=past, layer=found.layer, **named)

    def show(query: int) -> None:
        view.select(query)
        mask = past[:, 0] <= past[:, 1]
        bars.update(values[query], float(initial[query]), query=query, mask=mask, **named)

    for part in (view, bars):
        part.on_query(show)
    show(int(found.last[place]))

    def draw() -> str:
        at = view.query or 0
        return still_memory.attention(
            values, values[at], past=past, at=at, layer=found.layer, **named
        )

    return column(view.root, bars.root, sizing_mode="stretch_width"), draw


def of_timescales(found: Timescales) -> Figure:
    """Saturation, histograms and half-lives; a tap or a drag marks units in all of them."""
    figure = TimescalesFigure()
    figure.update(found)
    figure.on_units(lambda units: figure.select(found, units))
    return figure.root, lambda: picture(found, lives(found, ()))
