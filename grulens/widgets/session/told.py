"""A session as the page that runs is told it: the network, what is shown of it, in which words."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor, isfinite
from typing import Any, Final, get_args

import numpy as np
from torch import Tensor

from grulens.cells.signal import Signal
from grulens.models.recorded import LayerRecording
from grulens.probing.units.order import Order, order_units
from grulens.views.figure.palette import INPUTS
from grulens.views.figure.raster import SHARES
from grulens.views.figure.tokens import valid
from grulens.views.page.running import colors, signal_of, table
from grulens.widgets.session.picture import found
from grulens.widgets.session.running import TOLERANCE, Running
from grulens.widgets.session.session import Session
from grulens.words import message, say

#: To what a signal without bounds can be set at least.
FAR: Final = 4.0


def told(
    session: Session, run: Running, shown: dict[str, Any], columns: Mapping[str, Any]
) -> dict[str, Any]:
    """All that the page is told.

    Args:
        session: what it shows.
        run: the network, found in its runs.
        shown: the signal, the order, what the colours reach over, whether the difference is shown,
            and what the sliders do.
        columns: of the table of units, name to (unit,).
    """
    with session.lock:
        on = {slot.key for slot in session.slots if slot.on}
        signals = [s for layer in session.baseline.values() for s in layer.cell.signals]
        tokens = session.tokens
        return {
            "title": f"{type(session.model).__name__} · {session.layer}",
            "model": type(session.model).__name__,
            "warnings": _warnings(session, run),
            "notes": _notes(session, run),
            "network": run.described.network,
            "arrays": run.described.packed(run.dtype),
            "given": run.given,
            "tokens": None if tokens is None else [valid(t) for t in tokens[: session.steps]],
            "layers": {name: _layer(session, layer) for name, layer in session.baseline.items()},
            "colors": colors(signals),
            "table": table(columns, session.now.cell.signals),
            "answer": _answer(session, run),
            "spelling": None
            if run.spelling is None
            else {"words": run.spelling.words, "ids": run.spelling.ids},
            "pins": [
                {"layer": layer, "unit": unit, "name": valid(name)}
                for layer, held in session.pins.items() for unit, name in held.items()
            ],
            "reaches": SHARES, "inputs": INPUTS,
            "edits": [edit | {"on": edit["key"] in on} for edit in run.edits],
            "shown": {
                **shown, "layer": session.layer, "units": [*session.units],
                "times": [t for t in session.times if t < session.steps], "step": session.step,
            },
            "recorded": {
                name: layer.h[session.row, session.steps - 1].double().cpu().tolist()
                for name, layer in session.baseline.items()
            },
            "tolerance": TOLERANCE if run.dtype == "f4" else max(0.05, 10 * run.apart),
        }  # fmt: skip


def _warnings(session: Session, run: Running) -> list[str]:
    """What must be known before a number is read."""
    rounded = (
        message(
            "The weights that stand here are rounded to float16: the answer is within {apart} of "
            "the model's, in parts of the largest number."
        )
        if run.answered
        else message(
            "The weights that stand here are rounded to float16: the states are within {apart} of "
            "the model's, in parts of the largest number."
        )
    )
    unanswered = say("The answer is not made here: {why}.", why=say(run.unanswered))
    return [
        *([say(rounded, apart=f"{run.apart:.0e}")] if run.dtype == "f2" else []),
        *([unanswered] if run.unanswered else []),
        *([say(session.mode)] if session.mode else []),
    ]


def _notes(session: Session, run: Running) -> list[str]:
    exact = (
        message(
            "The answer is within {apart} of the model's on the input it was saved with, in parts "
            "of the largest number."
        )
        if run.answered
        else message(
            "The states are within {apart} of the model's on the input it was saved with, in parts "
            "of the largest number."
        )
    )
    stepped = [name for name, layer in session.baseline.items() if len(layer.segments) > 1]
    loop = message(
        "The model calls {layers} step by step. In the runs that were compared its code did "
        "nothing to the states between two calls; whatever it would do there in others is not "
        "made here."
    )
    unspelled = say("Another input cannot be given here: {why}.", why=say(run.unspelled))
    batch = len(session.before.h)
    return [
        *filter(
            None,
            [
                say(
                    "Edits act inside the recurrence, and what they do is computed here, from the "
                    "weights that stand in this file. Nothing is fetched, and nothing is sent."
                ),
                say(exact, apart=f"{max(run.apart, 1e-7):.0e}") if run.dtype == "f4" else "",
                say(loop, layers=", ".join(stepped)) if stepped else "",
                unspelled if run.unspelled else "",
                say("This is row {row} of {batch}.", row=session.row, batch=batch)
                if batch > 1
                else "",
                say("The order of the units is that of the input it was saved with."),
                found(session),
            ],
        )
    ]


def _layer(session: Session, layer: LayerRecording) -> dict[str, Any]:
    h = _rows(session, layer.h)
    return {
        "signals": [
            signal_of(
                signal,
                state=signal.name in layer.cell.states,
                span=_span(signal, _rows(session, layer.signal(signal.name))),
            )
            for signal in layer.cell.signals
        ],
        "orders": {order: order_units(h, order).tolist() for order in get_args(Order)},
    }  # fmt: skip


def _rows(session: Session, signal: Tensor) -> np.ndarray:
    values: np.ndarray = signal[session.row, : session.steps].detach().float().cpu().numpy().T
    return values


def _span(signal: Signal, values: np.ndarray) -> tuple[float, float]:
    """From where to where a signal can be set: its bounds, else what it was in this run."""
    if isfinite(signal.low) and isfinite(signal.high):
        return signal.low, signal.high
    least, most = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    low, high = min(-FAR, floor(least)), max(FAR, ceil(most))
    return float(max(signal.low, low)), float(min(signal.high, high))


def _answer(session: Session, run: Running) -> dict[str, Any] | None:
    made = run.answered
    if made is None:
        return None
    answer = session.answer_before
    classes = answer.values.shape[1]
    return {
        "each": made.read.each, "read": len(made.read.bias), "finish": made.finish,
        "pick": made.pick, "scale": answer.scale,
        "labels": [valid(name) for name in session.answers.names(classes, range(classes))],
    }  # fmt: skip
