"""Which past the states are made of, with the controls that choose a state and a direction.

weigh toward [no class: mean over units ▾]   state after step [17]
half of the state after step 17 was written within the last 3 steps; 4.1 % is h_0
┌ map: states down, the steps they were written at across ┐
│ tokens, bars and the share of h_0 for the chosen state   │
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from grulens.models.recording import LayerRecording
from grulens.probing.edits import positions
from grulens.probing.memory.attention import GateAttention, attention
from grulens.views.memory.attention_map import AttentionMap
from grulens.views.memory.past import has_past, own_past
from grulens.views.memory.query_bars import QueryBars
from grulens.views.still import memory as still_memory
from grulens.widgets.memory.map_view import MapView
from grulens.widgets.memory.words import along, is_shared, shares
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.display_names import places
from grulens.widgets.session.session import Session
from grulens.words import message, say, say_n

#: Longer runs have no map: it would hold the square of this many numbers.
LONGEST: Final = 4096
#: A map of so many multiplications keeps nobody waiting; larger ones are made in the background.
QUICK: Final = 3e8
STATE_EDITED: Final = message(
    "An edit sets the state itself, which is then no sum of what was written: this is the run "
    "without edits."
)


@dataclass(frozen=True, eq=False)
class Request:
    """What is to be shown: a run, a row of it, the units and the direction that count."""

    layer: LayerRecording
    row: int
    units: tuple[int, ...]
    toward: Tensor | None
    name: str
    note: str


@dataclass(frozen=True, eq=False)
class Result:
    """What was found for the row's own steps: the map unless it is too large, the share of h_0."""

    request: Request
    found: GateAttention
    values: Float[np.ndarray, "query key"] | None
    initial: Float[np.ndarray, " query"]
    past: Any
    tokens: list[str] | None

    @property
    def signed(self) -> bool:
        """Whether the weights are no shares: toward a direction, or with a gate out of 0 to 1."""
        shared = is_shared(self.initial) and (self.values is None or is_shared(self.values))
        return self.request.toward is not None or not shared

    def query(self, t: int) -> Float[np.ndarray, " key"]:
        """The weights of one state."""
        if self.values is not None:
            row: np.ndarray = self.values[t]
            return row
        found = self.found.query(t, self.request.toward, units=self.request.units or None)
        return _array(found[0])[: len(self.past)]


class AttentionView(MapView[Request]):
    """The map of weights, one state of it, and their controls; see `MapView`."""

    def __init__(self, session: Session, callbacks: Callbacks) -> None:
        self._request: Request | None = None
        self._result: Result | None = None
        weights = AttentionMap()
        self._bars = QueryBars(x_range=weights.x_range)
        self._bars.on_query(self._choose)
        super().__init__(session, callbacks, weights, self._bars.root)

    def refresh(self) -> None:
        """Show what the session has now: at once if that is quick, else when it is made."""
        session = self.session
        with session.lock:
            self.directions.offer()
            layer, note = session.now, self.directions.why
            if layer.state_edited:
                layer = session.before
                note = f"{say(STATE_EDITED)} {note}"
            chosen = self.directions.chosen
            toward, name = (None, say("mean weight")) if chosen is None else chosen
            name = name if chosen is None else say("toward “{name}”", name=name)
            self._request = Request(layer, session.row, session.units, toward, name, note)
        _, steps, units = layer.shape
        quick = steps**2 * (len(session.units) or units) < QUICK
        if not quick and self._result is None:
            self._say(say("weighing the past …"))
        (self._making.now if quick else self._making.later)(self._request)

    def mark(self) -> None:
        """Show the state that the session's step means."""
        if self._result is not None:
            with self.picture.batch():
                self._show_query(self._result)

    def still(self) -> str:
        """What is shown as HTML that needs no kernel and no network."""
        found = self._result
        if found is None:
            return ""
        t = self._at(len(found.past))
        return still_memory.attention(
            found.values, found.query(t), past=found.past, at=t, tokens=found.tokens,
            signed=found.signed, name=found.request.name,
            layer=found.request.layer.name,
            caption="; ".join(filter(None, [self._words(found, t), found.found.note])),
        )  # fmt: skip

    def nothing(self) -> None:
        """Forget what was shown."""
        self._result = None

    # making and drawing

    def _make(self, request: Request) -> None:
        with torch.no_grad():
            found = attention(request.layer, rows=request.row)
            given: dict[str, Any] = {"toward": request.toward, "units": request.units or None}
            small = found.shape[1] <= LONGEST
            values = _array(found.map(**given)[0]) if small else None
            initial, past = _array(found.initial(**given)[0]), own_past(found.past[0].numpy())
        steps = len(past)
        values = None if values is None else values[:steps, :steps]
        with self.picture.batch():
            if request is not self._request:
                return  # something newer is on its way
            names = self.session.tokens
            fits = names is not None and len(names) == found.shape[1]
            tokens = names[:steps] if names is not None and fits else None
            self._result = Result(request, found, values, initial[:steps], past, tokens)
            self._draw(self._result)

    def _draw(self, found: Result) -> None:
        request, steps = found.request, len(found.past)
        said = found.found.note
        note = " ".join(filter(None, [said and f"{said[0].upper()}{said[1:]}.", request.note]))
        self._map.root.visible = found.values is not None
        if found.values is None:
            note = " ".join(
                (say("No map of {steps} steps: it is drawn up to {longest}.", steps=steps,
                     longest=LONGEST), note)
            )  # fmt: skip
        else:
            self._map.update(
                found.values, past=found.past, signed=found.signed,
                tokens=found.tokens, name=request.name, layer=request.layer.name,
            )  # fmt: skip
        self._note_that(note)
        self._show_query(found)

    def _show_query(self, found: Result) -> None:
        signed, steps = found.signed, len(found.past)
        t = self._at(steps)
        self._show_step(t, steps)
        self._bars.update(
            found.query(t), float(found.initial[t]), query=t, signed=signed, tokens=found.tokens,
            mask=has_past(found.past), name=found.request.name,
        )  # fmt: skip
        self._say(self._words(found, t))

    def _words(self, found: Result, t: int) -> str:
        """The numbers of one state in words."""
        units = found.request.units
        over = (
            positions.words(units, "unit", say) if units
            else say_n("all {n} unit", "all {n} units", found.found.shape[2])
        )  # fmt: skip
        where = places(found.request.layer.cell, units)
        over += say(", ") + where if where else ""
        tell = shares if found.request.toward is None else along
        return tell(
            found.query(t), float(found.initial[t]), at=t, past=found.past[t],
            tokens=found.tokens, over=over, name=found.request.name,
        )  # fmt: skip


def _array(values: Tensor) -> Float[np.ndarray, "*shape"]:
    array: np.ndarray = values.detach().float().cpu().numpy()
    return array
