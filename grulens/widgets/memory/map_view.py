"""What the maps of a memory screen share: a direction to weigh toward, and the state looked at.

weigh toward [no class: mean over units ▾]   state after step [17]
what the numbers of that state say
┌ figures ┐
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from html import escape
from typing import Any, Final, Generic, TypeVar

import ipywidgets as W
from bokeh.layouts import column
from bokeh.model import Model

from grulens.errors import CellError, RecordingError
from grulens.views.memory.attention_map import AttentionMap
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.memory.directions import Directions
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.controls import row
from grulens.widgets.session.latest import Latest
from grulens.widgets.session.session import Session
from grulens.words import say

Request = TypeVar("Request")

#: The source of what goes wrong in the background: another picture that succeeds is its cure.
COMPUTED: Final = "computed"


class MapView(ABC, Generic[Request]):
    """A map of states by steps, one state of it, and their controls.

    Args:
        session: what is looked at.
        callbacks: makes those of its controls.
        map_: the map.
        *below: the figures under it.

    Attributes:
        box: all of it.
        directions: the classes that can be chosen.
        toward: their list; -1 is none.
        step: the state that is looked at.
        picture: the figures.
    """

    def __init__(
        self,
        session: Session,
        callbacks: Callbacks,
        map_: AttentionMap,
        *below: Model,
    ) -> None:
        self.session = session
        self._map = map_
        self._showing = False

        # controls
        self.directions = Directions(session)
        self.toward = self.directions.control
        self.step = W.BoundedIntText(
            min=0, max=0, description=say("state after step"), layout=W.Layout(width="180px"),
            style={"description_width": "auto"},
        )  # fmt: skip
        self._note, self._status = W.HTML(), W.HTML()

        # layout
        figures = column(map_.root, *below, sizing_mode="stretch_width")
        self.picture = BokehView(figures, lock=session.lock, retire=False)
        self.box = W.VBox([row(self.toward, self.step), self._note, self._status, self.picture])

        # both ways
        map_.on_query(self._choose)
        self.toward.observe(callbacks.guard(self._on_toward), "value")
        self.step.observe(callbacks.guard(self._on_step), "value")
        self._making: Latest[Request] = callbacks.background(self._try, source=COMPUTED)

    @abstractmethod
    def refresh(self) -> None:
        """Show what the session has now."""

    @abstractmethod
    def mark(self) -> None:
        """Show the state that the session's step means."""

    @abstractmethod
    def still(self) -> str:
        """What is shown as HTML that needs no kernel and no network; "" before there is any."""

    @abstractmethod
    def _make(self, request: Request) -> None:
        """Compute what was requested, and draw it unless there is a newer request."""

    def _try(self, request: Request) -> None:
        """Make it; where a cell, or a run of it, has no such thing, that stands in its place."""
        try:
            self._make(request)
        except (CellError, RecordingError) as error:
            with self.session.lock:
                self.nothing()
                self._note_that("")
                text = f"{error}."
                self._say(text[:1].upper() + text[1:])
                self.picture.layout.display = "none"
        else:
            self.picture.layout.display = None

    @abstractmethod
    def nothing(self) -> None:
        """Forget what was shown: the layer shown now has no such thing."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being made; whether that was reached in time."""
        return self._making.wait(timeout)

    # what a person does

    def _choose(self, query: int) -> None:
        self.session.step = query

    def _on_toward(self, _: Any) -> None:
        if not self.directions.offering:
            self.refresh()

    def _on_step(self, change: Any) -> None:
        if not self._showing:
            self.session.step = change["new"]

    # what is shown around the figures

    def _at(self, steps: int) -> int:
        """The state that is looked at, of so many."""
        return min(self.session.step, steps - 1)

    def _show_step(self, t: int, steps: int) -> None:
        self._showing = True
        try:
            self.step.max = steps - 1
            self.step.value = t
        finally:
            self._showing = False
        self._map.select(t)

    def _note_that(self, text: str) -> None:
        self._note.value = f'<span class="grulens-quiet">{escape(text)}</span>'
        self._note.layout.display = None if text else "none"

    def _say(self, text: str) -> None:
        self._status.value = f'<span role="status">{escape(text)}</span>'
