"""How long the units hold their states and how far gates saturate, in step with the selection.

over [this row | all rows]
of all 192 units, the middle one has lost half of its state after 1.2 steps …
┌ saturation plot ┐ ┌ histograms of gates   ┐
┌ half-life of every unit                   ┐
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import ipywidgets as W
import numpy as np
import torch
from bokeh.layouts import column
from bokeh.layouts import row as beside

from grulens.cells.signal import Signal
from grulens.errors import CellError
from grulens.models.recording import LayerRecording
from grulens.probing.memory.timescales import Timescales, counted, gates_of
from grulens.views.memory.gate_histograms import GateHistograms
from grulens.views.memory.half_lives import HalfLives
from grulens.views.memory.saturation import SaturationPlot
from grulens.views.still import memory as still_memory
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.memory.map_view import COMPUTED
from grulens.widgets.memory.words import lives
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.controls import choice, row
from grulens.widgets.session.latest import Latest
from grulens.widgets.session.seen import Seen
from grulens.widgets.session.session import Session
from grulens.words import say

#: So many gate values are counted at once; more of them in the background.
QUICK: Final = 500_000


@dataclass(frozen=True, eq=False)
class Request:
    """What is to be shown: a layer of a run, one row of it or all, its units or its channels."""

    layer: LayerRecording
    row: int | None
    seen: Seen


class TimescalesFigure:
    """The three figures of time scales, told of units by a tap on any of them.

    Args:
        gates: the gates of the layer's cell.
    """

    def __init__(self, gates: Sequence[Signal]) -> None:
        self.saturation, self.histograms = SaturationPlot(gates), GateHistograms(gates)
        self.lives = HalfLives()
        top = beside(
            self.saturation.root, self.histograms.root, sizing_mode="stretch_width", spacing=0
        )
        self.root = column(top, self.lives.root, sizing_mode="stretch_width")

    def on_units(self, listener: Callable[[tuple[int, ...]], object]) -> None:
        """Call `listener(units)` when a person chooses units; never from `select`."""
        self.saturation.on_units(listener)
        self.lives.on_units(listener)

    def update(
        self,
        found: Timescales,
        units: tuple[int, ...] = (),
        *,
        noun: str = "unit",
        layer: str | None = None,
    ) -> None:
        """Show other time scales.

        Args:
            found: they.
            units: which are selected.
            noun: what they are.
            layer: named in the title; None is the name of its layer.
        """
        shut = named(shares(found))
        self.saturation.update(shut, low=found.low, high=found.high, noun=noun)
        order = np.argsort(found.quantiles, kind="stable")
        three = order[[0, len(order) // 2, -1]]
        self.lives.update(
            found.half_life.numpy(), found.spread.numpy()[:, three],
            quantiles=tuple(found.quantiles[i] for i in three), layer=layer or found.layer,
            noun=noun,
        )  # fmt: skip
        self.select(found, units)

    def select(self, found: Timescales, units: tuple[int, ...]) -> None:
        """Show other units as selected."""
        self.saturation.select(units)
        self.lives.select(units)
        chosen = named(histograms(found, units)) if units else None
        self.histograms.update(found.edges.numpy(), named(histograms(found)), chosen)


class TimescalesView:
    """The figures of time scales and their controls.

    Args:
        session: what is looked at.
        callbacks: makes those of its controls.
        made: is told of every picture that is made: one for each set of gates that layers have.

    Attributes:
        box: all of it.
        over: "row" or "all": which rows of the batch are counted.
        figure: the figures.
        picture: where they stand.
        found: what is shown.
    """

    def __init__(
        self, session: Session, callbacks: Callbacks, made: Callable[[BokehView], object]
    ) -> None:
        self.session, self._made = session, made
        self.found: Timescales | None = None
        self._pictures: dict[tuple[Signal, ...], tuple[TimescalesFigure, BokehView]] = {}
        self._request: Request | None = None
        self._seen = Seen(session)

        # controls
        word, self.over = choice(
            say("over"), [(say("this row"), "row"), (say("all rows"), "all")],
            [say("count the steps of the row shown"), say("count the steps of the whole batch")],
        )  # fmt: skip
        self._rows = row(word, self.over)
        self._status = W.HTML()

        # layout
        self.box = W.VBox([self._rows, self._status])
        self._choose(gates_of(session.now.cell))

        # both ways
        self.over.observe(callbacks.guard(lambda _: self.refresh()), "value")
        self._counting: Latest[Request] = callbacks.background(self._count, source=COMPUTED)

    def refresh(self) -> None:
        """Show what the session has now: at once if that is quick, else when it is counted."""
        session = self.session
        with session.lock:
            batch, steps, units = session.now.shape
            self._rows.layout.display = None if batch > 1 else "none"
            whole = self.over.value == "all"
            self._request = Request(session.now, None if whole else session.row, Seen(session))
            self._choose(gates_of(session.now.cell))
        quick = (batch if whole else 1) * steps * units < QUICK
        (self._counting.now if quick else self._counting.later)(self._request)

    def _choose(self, gates: tuple[Signal, ...]) -> None:
        """Show the picture for these gates and no other."""
        session = self.session
        if gates not in self._pictures:
            figure = TimescalesFigure(gates)
            figure.on_units(lambda units: setattr(session, "units", Seen(session).units(units)))
            view = BokehView(figure.root, lock=session.lock, retire=False)
            self._pictures[gates] = figure, view
            self.box.children = (*self.box.children, view)
            self._made(view)
        self.figure, self.picture = self._pictures[gates]
        for _, view in self._pictures.values():
            view.layout.display = None if view is self.picture else "none"

    def mark(self) -> None:
        """Show which units are selected."""
        if self.found is not None:
            with self.picture.batch():
                self.figure.select(self.found, self._chosen)
                self._tell(self.found)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being counted; whether that was reached in time."""
        return self._counting.wait(timeout)

    def still(self) -> str:
        """What is shown as HTML that needs no kernel and no network."""
        found = self.found
        if found is None:
            return ""
        return picture(found, self._words(found), self._seen.noun, self._seen.layer)

    def _count(self, request: Request) -> None:
        try:
            with torch.no_grad():
                found = counted(request.layer, rows=request.row, fold=request.seen.fold)
        except CellError as error:
            with self.session.lock:
                self.found = None
                self._status.value = f'<span role="status">{escape(str(error))}.</span>'
                self.picture.layout.display = "none"
            return
        with self.picture.batch():
            if request is self._request:
                self.picture.layout.display = None
                self.found, self._seen, seen = found, request.seen, request.seen
                self.figure.update(found, self._chosen, noun=seen.noun, layer=seen.layer)
                self._tell(found)

    def _tell(self, found: Timescales) -> None:
        self._status.value = f'<span role="status">{escape(self._words(found))}</span>'

    def _words(self, found: Timescales) -> str:
        return lives(found, self._chosen, self._seen.noun)

    @property
    def _chosen(self) -> tuple[int, ...]:
        """What is selected of what was counted."""
        return self._seen.chosen(self.session.units)


def shares(found: Timescales) -> dict[Signal, Any]:
    """Of each gate the share of time shut and open, (2, unit)."""
    return {
        gate: np.stack([found.shares[f"{gate.name}_{end}"] for end in ("low", "high")])
        for gate in found.gates
    }


def histograms(found: Timescales, units: tuple[int, ...] = ()) -> dict[Signal, Any]:
    """Of each gate the share of time in each part of [0, 1], (bin,)."""
    return {gate: found.histogram(gate.name, units or None).numpy() for gate in found.gates}


def named(values: dict[Signal, Any]) -> dict[str, Any]:
    """The same by the gates' names."""
    return {gate.name: value for gate, value in values.items()}


def picture(
    found: Timescales, caption: str = "", noun: str = "unit", layer: str | None = None
) -> str:
    """Time scales as HTML that needs no kernel and no network.

    Args:
        found: they.
        caption: the numbers in words.
        noun: what each is of.
        layer: named in the title; None is the name of its layer.
    """
    return still_memory.timescales(
        shares(found),
        histograms(found),
        found.half_life.numpy(),
        layer=layer or found.layer,
        caption=caption,
        noun=noun,
    )  # fmt: skip
