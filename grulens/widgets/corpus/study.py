"""A scanned corpus beside one input: what the chosen units encode elsewhere, and where else.

scan [library.grulens            ] [open]   direction [none ▾]
── the direction, or the unit that was chosen last: its histogram, where it goes furthest ──
── similar moments, for as many steps as are chosen ──
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import ipywidgets as W
from torch import nn

from grulens.models.instrument.lock import LOCK
from grulens.probing.corpus.scan.found_by import directions_called
from grulens.probing.corpus.scan.place import Place
from grulens.probing.corpus.scan.scanned import open_scan
from grulens.views.figure.tokens import different, visible_name
from grulens.views.still.lens import compose
from grulens.widgets.corpus.moments import Moments
from grulens.widgets.corpus.places import open_in, size_of, steps_around, tell_again
from grulens.widgets.corpus.unit_view import UnitView
from grulens.widgets.session.controls import button, quiet, row
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.session import Session
from grulens.words import say

#: No direction; none has this name.
NONE: Final = ""


class CorpusStudy(Panel):
    """What the units chosen in a session do over a scanned corpus.

    A click on a place shows it in the session with some steps around it, the edits kept.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`; `scan` is the scan.

    Attributes:
        direction: chooses a direction, "" for none, where the scan followed any of the layer.
        view: what is looked at in the session (`Session.unit`): the unit that was chosen last, or
            a direction.
        moments: looks for similar moments.
        path: the folder of a scan; `attach` opens it.
        around: how many steps to either side of a place are shown with it.

    >>> import torch
    >>> CorpusStudy(nn.GRU(3, 4, batch_first=True), torch.randn(1, 6, 3)).session.scan is None
    True
    """

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        # controls
        self.path = W.Text(
            description=say("scan"), placeholder=say("the folder of a scan of this model"),
            style={"description_width": "auto"}, layout=W.Layout(width="320px"),
        )  # fmt: skip
        self.attach = button(
            say("open"), say("open this scan: the table of units says what each is found by"),
            self.callbacks.guard(self._on_attach),
        )  # fmt: skip
        self._said = W.HTML()
        self.around = steps_around(self.callbacks.guard(self._on_around))
        self.direction = W.Dropdown(
            options=[(say("none"), NONE)], description=say("direction"),
            tooltip=say("a direction of the states that the scan followed, in place of the unit"),
            style={"description_width": "auto"}, layout=W.Layout(width="auto", display="none"),
        )  # fmt: skip
        self._offering = False
        self._pressed: tuple[W.DOMWidget, ...] = ()
        # layout
        self.view = UnitView(self, self._open, lambda: tell_again(self.session))
        self.moments = Moments(self, self._open)
        self.fill(
            row(self.path, self.attach, self._said, self.direction, self.around),
            self.view, self.moments,
        )  # fmt: skip
        for picture in (self.view.picture, self.moments.picture):
            self.settles_with(picture)
        # both ways
        self.follow(self._on_chosen, "scan", "units", "unit", "times", "layer")
        self.follow(self._show, "scan", "unit", "layer")
        self.direction.observe(
            self.callbacks.guard(self._on_direction, source="direction"), "value"
        )
        self._on_chosen()
        self._show()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is computed; whether that was reached in time."""
        return self.view.wait(timeout) and self.moments.wait(timeout)

    def still(self) -> str:
        """What is shown of the corpus as HTML that needs no kernel and no network."""
        parts = [self.view.still(), self.moments.still()]
        return compose(*parts) if any(parts) else super().still()

    # what a change does

    def _on_attach(self, _: Any) -> None:
        path = self.path.value.strip()
        if not path:
            self._said.value = quiet(
                say("type the folder that corpus.scan(..., out=...) wrote, then open")
            )
            return
        with self.busy_marks.held(self.attach):
            self.session.scan = open_scan(Path(path).expanduser(), self.session.model)

    def _on_chosen(self) -> None:
        session, scan = self.session, self.session.scan
        there = scan is not None and session.layer in scan.layers
        if scan is None:
            self._said.value = quiet(say("no scan: Lens(..., scan=corpus.scan(...)), or a folder"))
        elif not there:
            self._said.value = quiet(say("layer {layer} was not scanned", layer=session.layer))
        else:
            self.path.value = str(scan.path)
            words = size_of(scan)
            if session.unit is None and session.directions:
                words = say("{parts}; choose units or a direction", parts=words)
            elif session.unit is None:
                words = say("{parts}; choose units", parts=words)
            self._said.value = quiet(words)
        self.moments.layout.display = None if there else "none"
        self._offer()
        if scan is not None and there:
            self.moments.ask(scan, session.layer, session.units, len(session.times) or None)

    def _offer(self) -> None:
        """Offer the directions of the layer, with what each is called."""
        session, scan, names = self.session, self.session.scan, self.session.directions
        said = [] if scan is None or not names else directions_called(scan, session.layer)
        called = different([visible_name(one, 40) for one in said])
        options = ((say("none"), NONE), *zip(called, names, strict=True))
        self._offering = True
        try:
            if options != self.direction.options:
                self.direction.options = options
            self.direction.value = session.unit if session.unit in names else NONE
        finally:
            self._offering = False
        self.direction.layout.display = None if names else "none"

    def _show(self) -> None:
        session, scan = self.session, self.session.scan
        if scan is None or session.layer not in scan.layers or session.unit is None:
            self.view.hide()
        else:
            self.view.show(scan, session.layer, session.unit, later=True, pressed=self._pressed)

    def _on_direction(self, _: Any) -> None:
        if self._offering:
            return
        self._pressed = (self.direction,)
        try:
            self.session.unit = self.direction.value or None
        finally:
            self._pressed = ()

    def _open(self, place: Place) -> None:
        session = self.session
        with LOCK:
            open_in(session, session.scan, place, session.layer, self.around.value)

    def _on_around(self, _: Any) -> None:
        excerpt = self.session.excerpt
        if excerpt is not None and self.session.scan is not None:
            with self.busy_marks.held(self.around):
                self._open(excerpt.asked)
