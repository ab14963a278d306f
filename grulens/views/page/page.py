"""The whole lens as one HTML file: no kernel, no network, and still alive under the mouse.

The same views as in the notebook, with every signal of both runs in the page as byte pictures and
a few lines of JavaScript where the notebook asks Python: choose a signal, tap units, tap steps.
Nothing is hidden in the scripts: they are constants; all data comes as data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np
from bokeh.embed import file_html
from bokeh.events import SelectionGeometry, Tap
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, CustomJS
from bokeh.models.widgets import Div, Select
from bokeh.resources import INLINE
from jaxtyping import Bool, Float, Int

from grulens.cells.signal import Signal
from grulens.views.figure import raster
from grulens.views.figure.palette import COLORS, PALETTE, WHITE_INK, BySignal
from grulens.views.figure.tokens import number, plain, visible_name
from grulens.views.gates.heatmap import Heatmap
from grulens.views.gates.token_strip import TokenStrip
from grulens.views.page import scripts as page_scripts
from grulens.views.readout.output_chart import OutputChart
from grulens.views.units.table import UnitTable
from grulens.words import language, message, say

RUNS: Final = (message("edited"), message("baseline"), message("edited − baseline"))

#: Cells of a picture: a page cannot ask for detail later, so it holds what a large screen shows.
COLUMNS, ROWS = 2 * raster.COLUMNS, 2 * raster.ROWS


def page(
    baseline: Mapping[Signal, Float[np.ndarray, "unit time"]],
    edited: Mapping[Signal, Float[np.ndarray, "unit time"]] | None = None,
    *,
    tokens: Sequence[object] | None = None,
    mask: Bool[np.ndarray, " time"] | None = None,
    layer: str = "",
    columns: Mapping[str, Any] | None = None,
    divergence: Float[np.ndarray, " answer"] | None = None,
    answered: Bool[np.ndarray, " answer"] | None = None,
    measure: str = "bits",
    labels: Sequence[Sequence[object]] = (),
    before: Float[np.ndarray, "answer top"] | None = None,
    after: Float[np.ndarray, "answer top"] | None = None,
    quantity: str = "probability",
    values: tuple[Float[np.ndarray, " answer"], Float[np.ndarray, " answer"]] | None = None,
    edits: Sequence[str] = (),
    title: str = "grulens",
    about: str = "",
    unit_names: Sequence[str] | None = None,
    noun: str = "unit",
    units: Sequence[int] = (),
    times: Sequence[int] = (),
    step: int | None = None,
    order: Int[np.ndarray, " unit"] | None = None,
    signal: str = "h",
    difference: bool = False,
    study: str = "",
) -> str:
    """A standalone interactive page of one recorded run, or of it and its edited twin.

    Args:
        baseline: each signal of the cell to (unit, time), in the order of the units; h last.
        edited: the same of the edited run; None is a page without edits.
        tokens: (time,), what to call each step.
        mask: (time,), False where there is no step (padding).
        layer: named in the titles.
        columns: for the table, name to (unit,) as UnitTable takes them.
        divergence: (time,), how far the output moved; None leaves the chart away.
        answered: False where the output has no step (padding); None is nowhere.
        measure: "bits" or "difference".
        labels: (time, top), the names of each step's top classes.
        before: (time, top), their readout in the unedited run.
        after: (time, top), in the edited run.
        quantity: what the readout measures.
        values: readout (time,) before and after, of a model without classes.
        edits: the edits in force, one a line.
        title: of the page.
        about: what is to be known of the layer's cell, in lines; escaped here.
        unit_names: (unit,), what the units are called; None is their numbers.
        noun: what they are, if they are no units.
        units: selected when the page opens.
        times: selected steps.
        step: whose output is shown first; None is the last one.
        order: the units from the top; None is that of their numbers.
        signal: shown first.
        difference: whether edited − baseline is shown first.
        study: HTML that stands at the end, escaped by whoever made it.

    >>> html = page({Signal("z", "update gate", 0.0, 1.0, "keep"): np.zeros((2, 3))}, title="a <b>")
    >>> "a &lt;b&gt;" in html, "<script src=" in html
    (True, False)
    """
    of = {signal.name: signal for signal in baseline}
    signals = list(baseline)
    count, time = baseline[signals[-1]].shape
    # rows of the picture and of the table are the same all along: their scripts count rows
    placed = np.arange(count) if order is None else np.asarray(order)
    baseline, edited = _placed(baseline, placed), _placed(edited, placed)
    columns = {name: np.asarray(values)[placed] for name, values in (columns or {}).items()}
    answers_there = time if divergence is None else len(divergence)
    heat = Heatmap(columns=COLUMNS, rows=ROWS, live=False)
    strip = TokenStrip(x_range=heat.x_range, columns=COLUMNS, live=False)
    chart = OutputChart(x_range=heat.x_range if answers_there == time else None, live=False)
    table = UnitTable(live=False)
    rows = raster.visible(count, 0, count - 1, ROWS)
    span = raster.visible(time, 0, time - 1, COLUMNS)
    runs = {"baseline": baseline}
    if edited:
        apart = {signal: edited[signal] - baseline[signal] for signal in signals}
        runs = {"edited": edited, **runs, RUNS[2]: apart}
    pictures = _store(runs, signals, rows, span, mask, layer)

    shown = of.get(signal, signals[-1])
    opened = RUNS[2] if difference and edited else next(iter(runs))
    first, drawn = runs[opened][shown], "difference" if opened == RUNS[2] else shown
    called = None if unit_names is None else [unit_names[unit] for unit in placed.tolist()]
    heat.update(
        first, signal=drawn, units=placed, tokens=tokens, mask=mask, layer=layer, labels=called,
        down=noun,
    )  # fmt: skip
    heat.root.title.text = pictures["title"][pictures["key"].index(f"{opened} {shown.name}")]
    chosen = next((unit for unit in units if 0 <= unit < count), int(placed[0]))
    strip.update(
        first[placed.tolist().index(chosen)],
        signal=drawn,
        tokens=tokens,
        mask=mask,
        name=say("unit {unit}", unit=chosen) if unit_names is None else unit_names[chosen],
        ends=raster.scale(drawn, first) if drawn == "difference" else None,
    )
    heat.select(units, times)
    strip.select(times)
    table.update(
        columns, units=placed, signals=signals, noun=noun,
        h=next((h for of_, h in next(iter(runs.values())).items() if of_.role == "state"), None),
    )  # fmt: skip
    table.select(units)

    outputs: list[Any] = []
    if step is None:
        step = time - 1 if mask is None else int(np.flatnonzero(mask)[-1])
    if divergence is not None:
        chart.update(divergence, measure=measure, mask=answered)
        outputs = [*chart.roots]
    if before is not None and after is not None and len(labels):
        chart.show_step(step, labels[step], before[step], after[step], quantity=quantity)
        outputs = [*chart.roots]
    elif values is not None:
        chart.update_values(*values, mask=answered, quantity=quantity)
        outputs = [*chart.roots]
    top = before.shape[1] if before is not None else 0
    answers = _answers(labels, before, after)

    names: list[Any] = [(s.name, s.called) for s in signals]
    which = Select(title=say("signal"), value=shown.name, options=names)
    choices: list[Any] = [(run, say(run)) for run in runs]
    run = Select(title=say("run"), value=opened, options=choices)
    shared: dict[str, Any] = {
        "image": heat.image, "rows": heat.rows, "table": table.source, "signal": which, "run": run,
        "runs": RUNS, "palettes": _of(PALETTE, signals), "ink": _of(WHITE_INK, signals),
        "cells": strip.cells,
        "strip": strip.image, "strip_mapper": strip.mapper, "unit_marks": heat.unit_marks,
        "unit_name": say("unit {unit}"),
    }  # fmt: skip
    follow = CustomJS(args=shared, code=page_scripts.FOLLOW)
    show = CustomJS(
        args={
            **shared, "store": ColumnDataSource(pictures), "colors": _of(COLORS, signals),
            "mapper": heat.mapper, "bar": heat.bar,
            "bar_mapper": heat.bar_mapper, "title": heat.root.title,
        },
        code=page_scripts.SHOW,
    )  # fmt: skip
    for select in (which, run):
        select.js_on_change("value", show)
    heat.image.js_on_change("data", follow)
    table.source.selected.js_on_change("indices", follow)
    tap_step = CustomJS(
        args={
            "steps": answers_there, "outputs": answers, "count": top, "mark": chart.mark,
            "bars": chart.classes.source, "title": chart.classes.root.title,
            "at_step": say("output at step {step}"),
        },
        code=page_scripts.TAP_STEP,
    )  # fmt: skip
    heat.root.js_on_event(Tap, CustomJS(args=shared, code=page_scripts.TAP_UNIT))
    heat.root.js_on_event(SelectionGeometry, CustomJS(args=shared, code=page_scripts.DRAG))
    # an answer of its own length has steps of its own: only a tap on it means one of them
    of_time = (heat.root, strip.root) if answers_there == time else ()
    for figure in (*of_time, *chart.along_time):
        figure.js_on_event(Tap, tap_step)
    head = row(which, run, sizing_mode="stretch_width")
    root = column(
        # no wider than the page: what is longer is scrolled to
        Div(
            text=_head(title, edits, about), disable_math=True, sizing_mode="stretch_width",
            styles={"min-width": "0"}, stylesheets=[".bk-clearfix { width: 100%; }"],
        ),
        head, heat.root, strip.root, *outputs, table.root,
        *([Div(text=study, disable_math=True)] if study else []),
        sizing_mode="stretch_width", styles={"max-width": "1000px", "margin": "0 auto"},
    )  # fmt: skip
    made = file_html(root, INLINE, title=title)
    return made.replace('<html lang="en">', f'<html lang="{language()}">', 1)


def _of(colors: BySignal[Any], signals: Sequence[Signal]) -> dict[str, Any]:
    """What the page can draw, by the names that its scripts know."""
    named = {signal.name: colors[signal] for signal in signals}
    return named | {"difference": colors["difference"]}


def _placed(signals: Mapping[Signal, Any] | None, placed: Any) -> dict[Signal, Any]:
    """Signals with their units in this order; none of no run."""
    return {signal: values[placed] for signal, values in (signals or {}).items()}


def _store(
    runs: Mapping[str, Mapping[Signal, Any]],
    signals: Sequence[Signal],
    rows: raster.Span,
    span: raster.Span,
    mask: Bool[np.ndarray, " time"] | None,
    layer: str,
) -> dict[str, list[Any]]:
    """Every signal of every run as a picture, with what the views say about it."""
    data: dict[str, list[Any]] = {}
    for run, recorded in runs.items():
        for signal in signals:
            values = recorded[signal]
            drawn_as = "difference" if run == RUNS[2] else signal
            low, high = ends = raster.scale(drawn_as, values)
            name = signal.called
            words = say("{what}, {run}", what=name, run=say(run))
            words += f" · {layer}" if layer else ""
            least, most = map(number, ends)
            reach = say("{low} to {high}", low=least, high=most)
            entry = {
                "key": f"{run} {signal.name}",
                "image": raster.picture(values, rows, span, ends, mask),
                "low": low,
                "high": high,
                "over": bool((values > high).any()),
                "under": bool((values < low).any()),
                "digits": raster.digits(ends),
                "bar": say("{what}, {range}", what=name, range=reach),
                "title": plain(words),
            }
            for key, value in entry.items():
                data.setdefault(key, []).append(value)
    return data


def _answers(labels: Sequence[Sequence[object]], before: Any, after: Any) -> ColumnDataSource:
    there = len(labels) > 0 and before is not None and after is not None
    return ColumnDataSource(
        {
            "label": [visible_name(name, 16) for names in labels for name in names]
            if there
            else [],
            "before": np.ravel(before).tolist() if there else [],
            "after": np.ravel(after).tolist() if there else [],
        }
    )


def _head(title: str, edits: Sequence[str], about: str) -> str:
    known = f'<pre style="overflow-x:auto">{escape(about)}</pre>' if about else ""
    lines = "".join(f"<li><code>{escape(line)}</code></li>" for line in edits)
    return f"<h2>{escape(title)}</h2>{known}" + (
        f"{escape(say('edits'))}<ul>{lines}</ul>" if lines else ""
    )
