"""A session as arrays: for the still picture that a saved notebook keeps, and for a saved page."""

from __future__ import annotations

from textwrap import fill
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from grulens.cells.signal import Signal
from grulens.models.observed import ObservedLayer
from grulens.models.recording import LayerRecording
from grulens.probing.units.order import Order, order_units
from grulens.views.figure import raster
from grulens.views.still import lens as draw
from grulens.widgets.session.display_names import words
from grulens.widgets.session.seen import Seen
from grulens.widgets.session.session import Session

#: So many letters of a sentence stand in a line beside lines of code.
WIDTH: Final = 96


def still(
    session: Session,
    signal: str = "h",
    *,
    difference: bool = False,
    order: Order = "similarity",
    colors: str = raster.REACHES[0],
) -> str:
    """The present state as HTML that needs no kernel and no network."""
    with session.lock:
        seen = Seen(session)
        values = seen.values(session.now.signal(signal))
        if difference:
            values = values - seen.values(session.before.signal(signal))
        units = order_units(seen.values(session.before.h), order)
        chosen = seen.chosen(session.units)
        shown = "difference" if difference else session.now.cell.signal(signal)
        mask = session.before.mask[session.row].cpu().numpy()
        unit = chosen[0] if chosen else int(units[0])
        there = values if colors == raster.REACHES[0] else values[:, mask]
        ends = raster.reach(shown, there, colors)
        parts = [
            draw.heatmap(
                values[units], signal=shown, units=units, mask=mask, layer=seen.layer,
                selected=chosen, times=session.times, down=seen.noun, ends=ends,
            )
        ]  # fmt: skip
        if session.tokens is not None:
            parts.append(
                draw.tokens(
                    values[unit], signal=shown, tokens=session.tokens, mask=mask,
                    name=seen.name(unit), ends=ends,
                )
            )  # fmt: skip
        if not session.unread:
            steps = len(session.answer_before.values)
            step = min(session.step, steps - 1)
            quantity = "value" if session.answer_before.scale == "value" else "probability"
            which = step if steps > 1 else None
            parts.append(draw.output(*session.top(step), step=which, quantity=quantity))
        parts.append(draw.edits([words(session, slot.edit) for slot in session.slots if slot.on]))
        return draw.compose(*parts)


def found(session: Session) -> str:
    """The equation of an observed cell and its lines of code, and what changes its state between.

    And why its steps have no names, where the input's have. It is "" of a cell with known weights
    whose states are handed on.
    """
    layer = session.before
    lines = layer.explain() if isinstance(layer, ObservedLayer) else layer.note
    return "\n".join(filter(None, [lines, fill(session.unnamed, WIDTH)]))


def page_arrays(session: Session) -> dict[str, Any]:
    """The present state as the arguments of `views.page.page`."""
    with session.lock:
        edited, seen = session.edited is not session.baseline, Seen(session)
        return {
            "baseline": _signals(seen, session.before),
            "edited": _signals(seen, session.now) if edited else None,
            "tokens": session.tokens,
            "mask": session.before.mask[session.row].cpu().numpy(),
            "layer": seen.layer,
            "edits": [repr(s.edit) + ("" if s.on else "  # off") for s in session.slots],
            "title": f"{type(session.model).__name__} · {session.layer}",
            "unit_names": seen.names,
            "noun": seen.noun,
            "about": found(session),
            "units": seen.chosen(session.units),
            "times": session.times,
        } | ({} if session.unread else _output(session))


def _output(session: Session) -> dict[str, Any]:
    """What of a page is about the answer, where there is one."""
    before = session.answer_before
    one, value = before.values.shape[1] == 1, before.scale == "value"
    tops = [] if one else [session.top(step) for step in range(len(before.values))]
    return {
        "divergence": session.divergence.numpy(),
        "answered": session.answered.numpy(),
        "measure": "difference" if value else "bits",
        "labels": [names for names, _, _ in tops],
        "before": None if one else np.stack([was for _, was, _ in tops]),
        "after": None if one else np.stack([now for _, _, now in tops]),
        "quantity": "value" if value else "probability",
        "values": (before.values[:, 0].numpy(), session.answer_now.values[:, 0].numpy())
        if one
        else None,
        "step": min(session.step, len(before.values) - 1),
    }


def _signals(seen: Seen, layer: LayerRecording) -> dict[Signal, Float[np.ndarray, "unit time"]]:
    return {signal: seen.values(layer.signal(signal.name)) for signal in layer.cell.signals}
