"""Gate attention and time scales as figures of their own, without a session around them."""

from __future__ import annotations

from typing import Any

from bokeh.layouts import column

from grulens.errors import PositionError
from grulens.probing.memory.attention import GateAttention
from grulens.probing.memory.flow import GradientFlow
from grulens.probing.memory.timescales import Timescales
from grulens.views.memory.attention_map import AttentionMap
from grulens.views.memory.past import has_past, own_past
from grulens.views.memory.query_bars import QueryBars
from grulens.views.still import memory as still_memory
from grulens.widgets.memory.flow import FlowFigure, followed, still_of
from grulens.widgets.memory.timescales import TimescalesFigure, picture
from grulens.widgets.memory.words import lives
from grulens.widgets.plot.registry import Figure, PlotOptions, draws
from grulens.words import say


@draws(GateAttention)
def draw_attention(found: GateAttention, options: PlotOptions) -> Figure:
    """The map of one row, and the state that a tap chooses; at first the one read last."""
    batch, steps, _ = found.shape
    row = options.row_of(batch, f"this attention of layer {found.layer!r}")
    tokens, toward = options.tokens_of(steps), options.toward
    values = found.map(toward)[row].double().cpu().numpy()
    initial = found.initial(toward)[row].double().cpu().numpy()
    past, signed = own_past(found.past[row].numpy()), toward is not None
    own = len(past)
    values, initial = values[:own, :own], initial[:own]
    tokens = tokens and tokens[:own]
    named: dict[str, Any] = {
        "signed": signed, "tokens": tokens, "name": say("toward") if signed else say("mean weight"),
    }  # fmt: skip
    view = AttentionMap()
    bars = QueryBars(x_range=view.x_range)
    view.update(values, past=past, layer=found.layer, **named)

    def show(query: int) -> None:
        view.select(query)
        bars.update(
            values[query], float(initial[query]), query=query, mask=has_past(past), **named
        )  # fmt: skip

    for part in (view, bars):
        part.on_query(show)
    show(int(found.last[row]))

    def draw() -> str:
        at = view.query or 0
        return still_memory.attention(
            values, values[at], past=past, at=at, layer=found.layer, caption=found.note, **named
        )

    return column(view.root, bars.root, sizing_mode="stretch_width"), draw


@draws(GradientFlow)
def draw_flow(found: GradientFlow, options: PlotOptions) -> Figure:
    """The gains of one row, the state that a tap chooses, and the ways into the next.

    Shown at first is the state with the longest past. Where a map costs too much it is estimated
    from random directions, or left out.

    Raises:
        PositionError: the row is none of those that were followed.
    """
    batch, steps, _ = found.shape
    row = options.row_of(batch, f"this gradient flow of layer {found.layer!r}")
    if all(part.row != row for part in found.trajectories):
        raise PositionError(f"row {row} was not followed: gradient_flow(..., rows={row}) does")
    tokens = options.tokens_of(steps)
    flow = followed(found, row, options.toward, say("gain toward"))
    tokens = tokens and tokens[: len(flow.past)]
    figure = FlowFigure()
    figure.update(flow, tokens)
    figure.map.on_query(lambda t: figure.select(flow, t, tokens))
    figure.select(flow, int((flow.past[:, 1] - flow.past[:, 0]).argmax()), tokens)
    root = column(figure.map.root, figure.line.root, figure.paths.root, sizing_mode="stretch_width")
    return root, lambda: still_of(flow, figure.map.query or 0, tokens)


@draws(Timescales)
def draw_timescales(found: Timescales, _: PlotOptions) -> Figure:
    """Saturation, histograms and half-lives; a tap or a drag marks units in all of them."""
    figure = TimescalesFigure(found.gates)
    figure.update(found)
    figure.on_units(lambda units: figure.select(found, units))
    return figure.root, lambda: picture(found, lives(found, ()))
