"""The cell, close up: one unit at one step, with all that adds up to what it does.

step [17] unit [3]  [←][→][↑][↓]      sum of [r] [z] [n]   [unfold the input]
h = (1 − z) n + z h_prev = (1 − 0.9) · 0.4 + 0.9 · (−0.1); h is −0.05
┌ drawing: x, h_prev ▶ r, z, n ▶ h, with their numbers          ┐
└ bars: what adds up to one of them, the largest first, and all ┘
"""

from __future__ import annotations

from html import escape
from typing import Any, Final

import ipywidgets as W
import torch
from torch import Tensor, nn

from grulens.errors import CellError, PositionError
from grulens.probing.units.close_up import CloseUp, close_up
from grulens.views.figure.tokens import visible_name
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.session.controls import choice, quiet, row
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.session import Session
from grulens.widgets.session.unavailable import needs_weights
from grulens.widgets.units.arrow_keys import ArrowKeys
from grulens.widgets.units.close_up import CloseUpFigure, equation, still
from grulens.words import message, say

KEYS: Final = message("arrow keys: ← → steps, ↑ ↓ units")


class CellView(Panel):
    """What each input, each unit and each bias adds to the gates of one unit at one step.

    It shows the run with the edits that are on. The step is the session's, the unit the first of
    those that are selected, or unit 0; the arrow keys move both.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`.

    Attributes:
        found: the `CloseUp` that is shown; None where there is none, and a sentence says why.
        signal: the buttons that choose whose sum stands part by part.
        unfold: whether each number of an input is a part of its own. A vector that a
            `nn.Embedding` of the model made is one part at first, under the name of its token.

    >>> from grulens import CellView
    >>> screen = CellView(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> screen.session.step = 3
    >>> screen.move(across=-1, down=1)
    >>> screen.found
    CloseUp('l0', step 2, unit 1, row 0)
    """

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        session = self.session
        self.found: CloseUp | None = None
        self.add_class("grulens-cell")

        # controls
        width = {"style": {"description_width": "auto"}, "layout": W.Layout(width="110px")}
        self.step = W.BoundedIntText(min=0, max=0, description=say("step"), **width)
        self.unit = W.BoundedIntText(min=0, max=0, description=say("unit"), **width)
        self.arrows = ArrowKeys(self.callbacks.guard(self.move), say(KEYS))
        label, self.signal = choice(say("sum of"), [("h", "h")], [""])
        self.unfold = W.ToggleButton(
            description=say("unfold the input"), tooltip=say("a bar for each number of the input"),
            layout=W.Layout(width="auto"),
        )  # fmt: skip
        self._said, self._words = W.HTML(), W.HTML()

        # layout
        self._figure = CloseUpFigure()
        self.picture = BokehView(self._figure.root, lock=session.lock, retire=False)
        self._controls = row(self.step, self.unit, self.arrows)
        self._choices = row(label, self.signal, self.unfold)
        self.fill(self._controls, self._said, self._choices, self.picture, self._words)
        self.settles_with(self.picture)

        # both ways
        self._filling = False
        for control in (self.step, self.unit):
            control.observe(self.callbacks.guard(lambda _: self._on_number()), "value")
        for control in (self.signal, self.unfold):
            control.observe(self.callbacks.guard(lambda _: self._on_choice()), "value")
        self._figure.drawing.on_signal(lambda name: setattr(self.signal, "value", name))
        self.follow(self._on_run, "edited", "baseline", "layer", "row", "step", "units")
        self._on_run()

    def move(self, across: int = 0, down: int = 0) -> None:
        """Go so many steps on and so many units down; past an end it stays there."""
        _, steps, units = self.session.before.shape
        step, unit = self._place
        step, unit = min(max(step + across, 0), steps - 1), min(max(unit + down, 0), units - 1)
        self._go(step, unit)

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        if self.found is None:
            return f"<p>{escape(self._why)}</p>" if self._why else super().still()
        return still(self.found, token=self._token, group=self._group, caption=self._caption)

    def wait(self, timeout: float | None = None) -> bool:
        """Nothing is computed in the background: it is always there."""
        return True

    # what a change does

    @property
    def _place(self) -> tuple[int, int]:
        """The step and the unit that are shown."""
        steps = self.session.before.shape[1]
        return min(self.session.step, max(0, steps - 1)), next(iter(self.session.units), 0)

    def _go(self, step: int, unit: int) -> None:
        session = self.session
        at = self._place
        with session.lock, session.hold_trait_notifications():
            if unit != at[1]:
                session.units = (unit,)
            if step != at[0]:
                session.step = step

    def _on_number(self) -> None:
        if not self._filling:
            self._go(self.step.value, self.unit.value)

    def _on_choice(self) -> None:
        if not self._filling:
            self._draw()

    def _on_run(self) -> None:
        session = self.session
        with session.lock:
            self.found, self._why = None, needs_weights(session, message("sums of pre-activations"))
            (step, unit), (_, steps, units) = self._place, session.before.shape
            if not self._why and not steps:
                self._why = say("There is no step to show.")
            if not self._why:
                try:
                    self.found = close_up(session.now, step=step, unit=unit, row=session.row)
                except (CellError, PositionError) as error:
                    self._why = str(error)
            self._token, self._is_token = self._named(step), False
            found = self.found
            if found is not None:
                self._is_token = _is_embedded(session.model, session.now.x[session.row, step])
            self._filling = True
            try:
                self.step.max, self.unit.max = max(0, steps - 1), units - 1
                self.step.value, self.unit.value = step, unit
                if found is not None:
                    self._offer(found)
            finally:
                self._filling = False
            self._draw()

    def _offer(self, found: CloseUp) -> None:
        """The signals that can be looked at; what was chosen stays, where it is there."""
        options = tuple((found.signal(name).called, name) for name in found.blocks)
        if tuple(self.signal.options) != options:
            chosen = self.signal.value
            self.signal.options = options
            self.signal.value = chosen if chosen in found.blocks else found.blocks[0]
        for place, name in enumerate(found.blocks, 1):
            self.signal.add_class(f"grulens-{found.signal(name).role}-{place}")

    def _draw(self) -> None:
        found = self.found
        there = None if found is not None else "none"
        self.picture.layout.display = self._choices.layout.display = there
        self._said.value = quiet(self._why)
        self._said.layout.display = "none" if found is not None else None
        self._words.value = ""
        if found is None:
            return
        self.unfold.layout.display = None if self._is_token else "none"
        with self.picture.batch():
            self._figure.update(found, self.signal.value, token=self._token, group=self._group)
        lines = [line for line in (equation(found), self._caption) if line]
        self._words.value = "<br>".join(map(quiet, lines))

    @property
    def _group(self) -> str:
        """What all inputs together are called, where they are one part."""
        if not self._is_token or self.unfold.value:
            return ""
        if not self._token:
            return say("the token")
        return say("token {token}", token=visible_name(self._token))

    @property
    def _caption(self) -> str:
        found = self.found
        if found is None:
            return ""
        residual = f"{found.residual:.0e}"
        note = f"{found.note[0].upper()}{found.note[1:]}. " if found.note else ""
        if self.session.edited is not self.session.baseline:
            return note + say(
                "The run with edits: what the sums make is {residual} from what was recorded.",
                residual=residual,
            )
        return note + say("what the sums make is {residual} from what was recorded.",
                          residual=residual)  # fmt: skip

    def _named(self, step: int) -> str:
        names = self.session.tokens
        return names[step] if names is not None and step < len(names) else ""


def _is_embedded(model: nn.Module, x: Tensor) -> bool:
    """Whether a vector is a line of an embedding of a model, number by number."""
    tables = [part.weight for part in model.modules() if isinstance(part, nn.Embedding)]
    with torch.no_grad():
        return any(
            bool((table == x.to(table)).all(1).any())
            for table in tables
            if table.shape[1:] == x.shape
        )
