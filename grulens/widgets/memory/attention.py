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
from grulens.views.memory.query_bars import QueryBars
from grulens.views.still import memory as still_memory
from grulens.widgets.memory.part import MapPart
from grulens.widgets.memory.words import along, shares
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.session import Session

#: Longer runs have no map: it would hold the square of this many numbers.
LONGEST: Final = 4096
#: A map of so many multiplications keeps nobody waiting; larger ones are made in the background.
QUICK: Final = 3e8
STATE_EDITED: Final = (
    "An edit sets the state itself, which is then no sum of what was written: this is the run "
    "without edits."
)


@dataclass(frozen=True, eq=False)
class Asked:
    """What is to be shown: a run, a row of it, the units and the direction that count."""

    layer: LayerRecording
    row: int
    units: tuple[int, ...]
    toward: Tensor | None
    name: str
    note: str


@dataclass(frozen=True, eq=False)
class Answered:
    """What was found: the map unless it is too large, and the share of h_0."""

    asked: Asked
    found: GateAttention
    values: Float[np.ndarray, "query key"] | None
    initial: Float[np.ndarray, " query"]
    past: Any
    tokens: list[str] | None

    def query(self, t: int) -> Float[np.ndarray, " key"]:
        """The weights of one state."""
        if self.values is not None:
            row: np.ndarray = self.values[t]
            return row
        return _array(self.found.query(t, self.asked.toward, units=self.asked.units or None)[0])


class AttentionPart(MapPart[Asked]):
    """The map of weights, one state of it, and their controls; see `MapPart`."""

    def __init__(self, session: Session, callbacks: Callbacks) -> None:
        self._asked: Asked | None = None
        self._answered: Answered | None = None
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
                note = f"{STATE_EDITED} {note}"
            chosen = self.directions.chosen
            toward, name = (None, "mean weight") if chosen is None else chosen
            name = name if chosen is None else f"toward “{name}”"
            self._asked = Asked(layer, session.row, session.units, toward, name, note)
        _, steps, units = layer.shape
        quick = steps**2 * (len(session.units) or units) < QUICK
        if not quick and self._answered is None:
            self._say("weighing the past …")
        (self._making.now if quick else self._making.later)(self._asked)

    def mark(self) -> None:
        """Show the state that the session's step means."""
        if self._answered is not None:
            with self.picture.batch():
                self._show_query(self._answered)

    def still(self) -> str:
        """What is shown as HTML that needs no kernel and no network."""
        found = self._answered
        if found is None:
            return ""
        t = self._at(found.found.shape[1])
        return still_memory.attention(
            found.values, found.query(t), past=found.past, at=t, tokens=found.tokens,
            signed=found.asked.toward is not None, name=found.asked.name,
            layer=found.asked.layer.name, said=self._words(found, t),
        )  # fmt: skip

    # making and drawing

    def _make(self, asked: Asked) -> None:
        with torch.no_grad():
            found = attention(asked.layer, rows=asked.row)
            given = {"toward": asked.toward, "units": asked.units or None}
            small = found.shape[1] <= LONGEST
            values = _array(found.map(**given)[0]) if small else None
            initial, past = _array(found.initial(**given)[0]), found.past[0].numpy()
        with self.picture.batch():
            if asked is not self._asked:
                return  # something newer is on its way
            names = self.session.tokens
            tokens = names if names is not None and len(names) == found.shape[1] else None
            self._answered = Answered(asked, found, values, initial, past, tokens)
            self._draw(self._answered)

    def _draw(self, found: Answered) -> None:
        asked, steps = found.asked, found.found.shape[1]
        said = asked.note
        self._map.root.visible = found.values is not None
        if found.values is None:
            said = f"No map of {steps} steps: it is drawn up to {LONGEST}. {said}"
        else:
            self._map.update(
                found.values, past=found.past, signed=asked.toward is not None,
                tokens=found.tokens, name=asked.name, layer=asked.layer.name,
            )  # fmt: skip
        self._note_that(said)
        self._show_query(found)

    def _show_query(self, found: Answered) -> None:
        signed, steps = found.asked.toward is not None, found.found.shape[1]
        t = self._at(steps)
        self._show_step(t, steps)
        self._bars.update(
            found.query(t), float(found.initial[t]), query=t, signed=signed, tokens=found.tokens,
            mask=found.past[:, 0] <= found.past[:, 1], name=found.asked.name,
        )  # fmt: skip
        self._say(self._words(found, t))

    def _words(self, found: Answered, t: int) -> str:
        """The numbers of one state in words."""
        units = found.asked.units
        over = positions.words(units, "unit") if units else f"all {found.found.shape[2]} units"
        tell = shares if found.asked.toward is None else along
        return tell(
            found.query(t), float(found.initial[t]), at=t, past=found.past[t],
            tokens=found.tokens, over=over, name=found.asked.name,
        )  # fmt: skip


def _array(values: Tensor) -> Float[np.ndarray, "*shape"]:
    array: np.ndarray = values.detach().float().cpu().numpy()
    return array
