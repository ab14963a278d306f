"""How strongly states depend on those before them, with the controls that choose a state.

weigh toward [no class: mean over units ▾]   state after step [17]
the state after step 17 feels the one before it by 0.71; less than 1 % of what was 12 steps before
┌ map: states down, the states they depend on across ┐
│ the gains of the chosen state as a line            │
│ by which way each state enters the next one        │
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from grulens.models.observed import ObservedLayer
from grulens.probing.memory.flow import GradientFlow, gradient_flow
from grulens.views.memory.attention_map import AttentionMap
from grulens.views.memory.gain_line import GainLine
from grulens.views.memory.past import has_past, own_past
from grulens.views.memory.path_lines import PathLines
from grulens.views.still import memory as still_memory
from grulens.widgets.memory.map_view import MapView
from grulens.widgets.memory.words import felt
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.session import Session
from grulens.words import message, say

#: Multiplications that a person waits for: some seconds, in the background.
MOST: Final = 1.5e11
#: Random directions stand in for all of them where all cost more than that.
SOME: Final = 16
EDITED: Final = message("An edit changes this layer: this is the run without edits.")


@dataclass(frozen=True, eq=False)
class Flow:
    """What was found for one row's own steps: the map unless it costs too much, and its lines."""

    found: GradientFlow
    row: int
    toward: Tensor | None
    values: Float[np.ndarray, "query key"] | None
    past: Any
    name: str
    note: str

    def query(self, t: int) -> tuple[Float[np.ndarray, " key"], float]:
        """The gains of one state, and that of h_0."""
        gains, initial = self.found.at(t, toward=self.toward)
        return gains[self.row, : len(self.past)].numpy(), float(initial[self.row])


def followed(
    found: GradientFlow, row: int, toward: Tensor | None = None, name: str = "", note: str = ""
) -> Flow:
    """What is shown of a row: its map unless it costs too much.

    Args:
        found: the gradient flow.
        row: a row that it follows.
        toward: a direction (unit,) or several (direction, unit); None is all, or some random ones
            where all cost too much.
        name: what the gains along `toward` are called.
        note: a sentence that stands with them.
    """
    steps, units, past = found.shape[1], found.state_size, own_past(found.past[row].numpy())
    own = len(past)
    each = 6.0 * units**2 * steps  # of one direction, for one state
    if toward is None:
        name = say("gain, all directions")
        if each * units * steps / 2 > MOST:
            generator = torch.Generator().manual_seed(0)
            toward = torch.randn(SOME, units, generator=generator)
            name = say("gain, random directions")
            note += " " + say("Estimated from {n} random directions.", n=SOME)
    count = units if toward is None else len(toward.reshape(-1, toward.shape[-1]))
    values = None
    if each * count * steps / 2 <= MOST:
        values = found.map(toward=toward)[row, :own, :own].float().numpy()
    else:
        note += " " + say("No map of {steps} steps: it would take too long.", steps=steps)
    return Flow(found, row, toward, values, past, name, note.strip())


class FlowFigure:
    """The map of gains, one state of it, and the ways into the next.

    Attributes:
        map: states down, the states they depend on across.
        line: the gains of the chosen state.
        paths: by which way each state enters the next.
    """

    def __init__(self) -> None:
        self.map = AttentionMap()
        self.map.root.xaxis.axis_label = say("state after step")
        axis = self.map.x_range
        self.line, self.paths = GainLine(x_range=axis), PathLines(x_range=axis)

    def update(self, flow: Flow, tokens: Sequence[object] | None) -> None:
        """Show another row or direction."""
        layer = flow.found.layer
        self.map.root.visible = flow.values is not None
        if flow.values is not None:
            self.map.update(
                flow.values, past=flow.past, tokens=tokens, name=flow.name, layer=layer
            )  # fmt: skip
        ways = flow.found.paths()
        # of a cell that is no GRU, or was observed, only the whole step is known
        self.paths.root.visible = len(ways) > 1
        if len(ways) == 1:
            return
        self.paths.update(
            {name: sizes[flow.row, : len(flow.past)].numpy() for name, sizes in ways.items()},
            mask=has_past(flow.past),
            title=say("ways into the next state · {layer}", layer=layer),
        )

    def select(self, flow: Flow, t: int, tokens: Sequence[object] | None) -> str:
        """Show the gains of one state, and say them."""
        self.map.select(t)
        gains, initial = flow.query(t)
        keys = np.arange(len(gains))
        mask = (keys >= flow.past[t, 0]) & (keys <= flow.past[t, 1])
        title = say("{name} · state after step {step}", name=flow.name, step=t)
        self.line.update(gains, mask=mask, title=title)
        return felt(gains, initial, at=t, past=flow.past[t], tokens=tokens)


def still_of(flow: Flow, t: int, tokens: Sequence[object] | None) -> str:
    """The map and one state as HTML that needs no kernel and no network."""
    gains, initial = flow.query(t)
    return still_memory.attention(
        flow.values, gains, past=flow.past, at=t, tokens=tokens, name=flow.name,
        layer=flow.found.layer,
        caption=" ".join(
            (felt(gains, initial, at=t, past=flow.past[t], tokens=tokens), flow.note)
        ).strip(),
    )  # fmt: skip


class FlowView(MapView[object]):
    """The figures of gradient flow on a session; see `MapView`."""

    def __init__(self, session: Session, callbacks: Callbacks) -> None:
        self._request: object = None
        self._flow: Flow | None = None
        self._figure = FlowFigure()
        below = self._figure.line.root, self._figure.paths.root
        super().__init__(session, callbacks, self._figure.map, *below)

    def refresh(self) -> None:
        """Show what the session has now, when it is made."""
        with self.session.lock:
            self.directions.offer()
            self._request = object()
        if self._flow is None:
            self._say(say("following the gradient …"))
            self.picture.layout.display = "none"  # an empty figure says nothing
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
        return still_of(flow, self._at(len(flow.past)), self._tokens(flow))

    def nothing(self) -> None:
        """Forget what was shown."""
        self._flow = None

    # making and drawing

    def _make(self, request: object) -> None:
        session = self.session
        with session.lock:
            layer, place, chosen = session.now, session.row, self.directions.chosen
            given, edits, note = session.given, session.on, ""
            if any(segment.program for segment in layer.segments):
                layer, edits, note = session.before, [], say(EDITED)
        if isinstance(layer, ObservedLayer):
            # its Jacobians go through its module's own code, by the graph of a run
            with session.studying():
                layer = session.runs.with_graph(given, edits)[layer.name]
        toward, name = (
            (None, "") if chosen is None else (chosen[0], say("gain on “{name}”", name=chosen[1]))
        )
        flow = followed(gradient_flow(layer, rows=place), place, toward, name, note)
        with self.picture.batch():
            if request is not self._request:
                return  # something newer is on its way
            self._flow = flow
            self._figure.update(flow, self._tokens(flow))
            self._note_that(flow.note)
            self._show_query(flow)

    def _show_query(self, flow: Flow) -> None:
        steps = len(flow.past)
        t = self._at(steps)
        self._show_step(t, steps)
        self._say(self._figure.select(flow, t, self._tokens(flow)))

    def _tokens(self, flow: Flow) -> list[str] | None:
        # of the layer that the map is of: another may be shown by the time it is made
        tokens = self.session.tokens_of(flow.found.layer, flow.row)
        return tokens and tokens[: len(flow.past)]
