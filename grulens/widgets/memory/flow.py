"""How strongly states depend on those before them, with the controls that choose a state.

weigh toward [no class: mean over units ▾]   state after step [17]
the state after step 17 feels the one before it by 0.71; less than 1 % of what was 12 steps before
┌ map: states down, the states they depend on across ┐
│ the gains of the chosen state as a line            │
│ by which way each state enters the next one        │
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from grulens.models.recording import LayerRecording
from grulens.probing.memory.flow import GradientFlow, gradient_flow
from grulens.views.memory.attention_map import AttentionMap
from grulens.views.memory.gain_line import GainLine
from grulens.views.memory.path_lines import PathLines
from grulens.views.still import memory as still_memory
from grulens.widgets.memory.map_view import MapView
from grulens.widgets.memory.words import felt
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.session import Session

#: Multiplications that a person waits for: some seconds, in the background.
MOST: Final = 1.5e11
#: Random directions stand in for all of them where all cost more than that.
SOME: Final = 16
EDITED: Final = "An edit changes this layer: this is the run without edits."


@dataclass(frozen=True, eq=False)
class Flow:
    """What was found for one row: the map unless it costs too much, and how to get a line of it."""

    layer: LayerRecording
    row: int
    found: GradientFlow
    toward: Tensor | None
    values: Float[np.ndarray, "query key"] | None
    past: Any
    name: str
    note: str

    def query(self, t: int) -> tuple[Float[np.ndarray, " key"], float]:
        """The gains of one state, and that of h_0."""
        gains, initial = self.found.at(t, toward=self.toward)
        return gains[self.row].numpy(), float(initial[self.row])


class FlowView(MapView[object]):
    """The map of gains, one state of it, and the ways into the next; see `MapView`."""

    def __init__(self, session: Session, callbacks: Callbacks) -> None:
        self._request: object = None
        self._flow: Flow | None = None
        gains = AttentionMap()
        gains.root.xaxis.axis_label = "state after step"
        self._line, self._paths = GainLine(x_range=gains.x_range), PathLines(x_range=gains.x_range)
        below = self._line.root, self._paths.root
        super().__init__(session, callbacks, gains, *below)

    def refresh(self) -> None:
        """Show what the session has now, when it is made."""
        with self.session.lock:
            self.directions.offer()
            self._request = object()
        if self._flow is None:
            self._say("following the gradient …")
        self._making.later(self._request)

    def mark(self) -> None:
        """Show the state that the session's step means."""
        if self._flow is not None:
            with self.picture.batch():
                self._show_query(self._flow)

    def still(self) -> str:
        """What is shown as HTML that needs no kernel and no network."""
        flow = self._flow
        if flow is None:
            return ""
        t = self._at(flow.found.shape[1])
        gains, initial = flow.query(t)
        return still_memory.attention(
            flow.values, gains, past=flow.past, at=t, tokens=self._tokens(flow), signed=False,
            name=flow.name, layer=flow.layer.name, caption=self._words(flow, t, gains, initial),
        )  # fmt: skip

    # making and drawing

    def _make(self, request: object) -> None:
        session = self.session
        with session.lock:
            layer, place, chosen = session.now, session.row, self.directions.chosen
            note = ""
            if any(segment.program for segment in layer.segments):
                layer, note = session.before, EDITED
        _, steps, units = layer.shape
        each = 6.0 * units**2 * steps  # of one direction, for one state
        found, toward, name = gradient_flow(layer, rows=place), None, "gain, all directions"
        if chosen is not None:
            toward, name = chosen[0], f"gain on “{chosen[1]}”"
        elif each * units * steps / 2 > MOST:
            generator = torch.Generator().manual_seed(0)
            toward = torch.randn(SOME, units, generator=generator)
            name = "gain, random directions"
            note += f" Estimated from {SOME} random directions."
        count = 1 if toward is None or toward.dim() == 1 else len(toward)
        count = units if toward is None else count
        values = None
        if each * count * steps / 2 <= MOST:
            values = found.map(toward=toward)[place].float().numpy()
        else:
            note += f" No map of {steps} steps: it would take too long."
        past = found.past[place].numpy()
        with self.picture.batch():
            if request is not self._request:
                return  # something newer is on its way
            self._flow = Flow(layer, place, found, toward, values, past, name, note.strip())
            self._draw(self._flow)

    def _draw(self, flow: Flow) -> None:
        self._map.root.visible = flow.values is not None
        if flow.values is not None:
            self._map.update(
                flow.values, past=flow.past, tokens=self._tokens(flow), name=flow.name,
                layer=flow.layer.name,
            )  # fmt: skip
        self._paths.update(
            {name: sizes[flow.row].numpy() for name, sizes in flow.found.paths().items()},
            mask=flow.past[:, 0] <= flow.past[:, 1],
            title=f"ways into the next state · {flow.layer.name}",
        )
        self._note_that(flow.note)
        self._show_query(flow)

    def _show_query(self, flow: Flow) -> None:
        steps = flow.found.shape[1]
        t = self._at(steps)
        self._show_step(t, steps)
        gains, initial = flow.query(t)
        keys = np.arange(len(gains))
        mask = (keys >= flow.past[t, 0]) & (keys <= flow.past[t, 1])
        self._line.update(gains, mask=mask, title=f"{flow.name} · state after step {t}")
        self._say(self._words(flow, t, gains, initial))

    def _words(self, flow: Flow, t: int, gains: Float[np.ndarray, " key"], initial: float) -> str:
        return felt(gains, initial, at=t, past=flow.past[t], tokens=self._tokens(flow))

    def _tokens(self, flow: Flow) -> list[str] | None:
        # of the layer that the map is of: another may be shown by the time it is made
        return self.session.tokens_of(flow.layer.name, flow.row)
