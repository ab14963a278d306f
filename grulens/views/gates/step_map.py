"""What was found at each step of a run, for a few or many units: a picture over the tokens.

    effect · rnn.l0                              [tools]
    unit  ┌──────────────────────────────────┐   ┌┐
     12   │ ▒▒░░██▒▒                         │   ││ −1 … 1       blue below zero, red above
     7    │ ░░██░░▒▒                         │   ││
          └──────────────────────────────────┘   └┘
  largest │ d e f ␣ f ( x ) : ⏎ │

One row alone has no need of colours to be read: it is a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import Span
from jaxtyping import Bool, Float

from grulens.views.figure import raster
from grulens.views.figure.canvas import fit, frame, steps, stretch, whole_steps, without_choosing
from grulens.views.figure.palette import BEFORE, RECURRENT
from grulens.views.figure.tokens import plain, visible_text
from grulens.views.gates.heatmap import Heatmap
from grulens.views.gates.token_strip import TokenStrip
from grulens.words import message, say

#: More points than this no screen shows.
POINTS: Final = 2 * raster.COLUMNS


def step_map(
    values: Float[np.ndarray, "row time"],
    *,
    rows: Sequence[object],
    tokens: Sequence[object] | None = None,
    mask: Bool[np.ndarray, " time"] | None = None,
    floor: float = 1e-9,
    guides: Sequence[float] = (),
    measure: str = message("effect"),
    layer: str = "",
    down: str = "unit",
) -> Any:
    """A diverging picture of rows by steps with the tokens beneath; a line if there is one row.

    Args:
        values: (row, time); NaN is drawn as such.
        rows: (row,), what to call each row.
        tokens: (time,), what to call each step; None is its number alone.
        mask: (time,), False where there is no value: left blank.
        floor: the colours reach at least this far from zero.
        guides: values that a line is read against.
        measure: what the values are.
        layer: named in the title.
        down: what the rows are.

    Returns:
        A Bokeh layout.

    >>> root = step_map(np.array([[0.0, -0.5], [0.25, 0.0]]), rows=[3, 5])
    >>> [figure.name for figure in root.children]
    ['effect by unit and step', 'tokens, coloured by the largest of each step']
    """
    ends = raster.symmetric(values, floor)
    if mask is not None:
        values = np.where(mask, values, 0.0)
    x_range = steps(values.shape[1])
    one = len(rows) == 1
    drawn: Any
    if one:
        drawn = _line(values[0], x_range, tokens, mask, guides, measure, layer)
    else:
        drawn = _heat(values, x_range, ends, rows, tokens, mask, measure, layer, down)
    strip = TokenStrip(x_range=x_range)
    strip.root.name = say("tokens, coloured by the largest of each step")
    without_choosing(strip.root)
    strip.update(
        largest(values), signal="difference", tokens=tokens, mask=mask, ends=ends,
        name=say(measure) if one else say("largest"),
    )  # fmt: skip
    return column(drawn, strip.root, sizing_mode="stretch_width")


def largest(values: Float[np.ndarray, "row time"]) -> Float[np.ndarray, " time"]:
    """Of each step the value farthest from zero; NaN only where there is nothing else.

    >>> largest(np.array([[0.5, np.nan], [-1.0, np.nan]])).tolist()
    [-1.0, nan]
    """
    size = np.where(np.isnan(values), -1.0, np.abs(values))
    chosen: Float[np.ndarray, " time"] = values[size.argmax(0), np.arange(values.shape[1])]
    return chosen


def _heat(
    values: Float[np.ndarray, "row time"],
    x_range: Any,
    ends: tuple[float, float],
    rows: Sequence[object],
    tokens: Sequence[object] | None,
    mask: Bool[np.ndarray, " time"] | None,
    measure: str,
    layer: str,
    down: str,
) -> Any:
    heat = Heatmap(x_range=x_range, height=min(380, max(190, 110 + 14 * len(rows))), down=down)
    heat.root.name = say("{measure} by {down} and step", measure=say(measure), down=say(down))
    without_choosing(heat.root)
    units = np.arange(len(rows))
    labels = [str(row) for row in rows]
    heat.update(
        values, signal="difference", units=units, tokens=tokens, mask=mask, layer=layer,
        name=say(measure), ends=ends, labels=labels,
    )  # fmt: skip
    return heat.root


def _line(
    values: Float[np.ndarray, " time"],
    x_range: Any,
    tokens: Sequence[object] | None,
    mask: Bool[np.ndarray, " time"] | None,
    guides: Sequence[float],
    measure: str,
    layer: str,
) -> Any:
    measure = say(measure)
    root = frame(
        height=220, x_range=x_range, x_axis_label=say("step"), y_axis_label=plain(measure),
        title=plain(f"{measure} · {layer}" if layer else measure),
        name=say("{measure} by step", measure=measure),
    )  # fmt: skip
    fit(x_range, len(values))
    whole_steps(root.xaxis)
    root.ygrid.visible = True
    span = raster.visible(len(values), 0, len(values) - 1, POINTS)
    shown = values if mask is None else np.where(mask, values, np.nan)
    reduced = raster.reduce(shown[None], raster.Span(0, 1, 1), span, 0.0)[0]
    stretch(root.y_range, np.append(reduced, guides), 0.0, None)
    for guide in (0.0, *guides):
        root.add_layout(
            Span(
                location=guide,
                dimension="width",
                line_color=BEFORE,
                line_width=1,
                line_dash="solid" if guide == 0 else "dashed",
            )
        )
    source = ColumnDataSource(
        {
            "step": np.array(span.firsts()),
            "value": reduced,
            "token": ["" if tokens is None else visible_text(tokens[t]) for t in span.firsts()],
        }
    )
    line = root.line("step", "value", source=source, line_color=RECURRENT, line_width=2)
    if span.count <= 120:
        root.scatter("step", "value", source=source, size=6, color=RECURRENT)
    fields = [(say("token"), "@token")] if tokens is not None else []
    root.add_tools(
        HoverTool(
            renderers=[line],
            mode="vline",
            tooltips=[*fields, (say("step"), "@step"), (measure, "@value{%.4g}")],
            formatters={"@value": "printf"},
        )
    )
    return root
