"""Every edit as a line that can be switched, and the selection switched off at a touch.

[ablate selection] to [zero|mean]                 output moved by 0.42 bits a step
[all on] [all off] [invert]  [undo] [redo]
☑ state of unit 3 set to 0                        0.31 bits   [↑] [↓] [remove]
☐ update gate of unit 7 times 0.5, steps 2 to 9   0.11 bits   [↑] [↓] [remove]
▸ the same as code
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import ipywidgets as W
import traitlets as tl
from jaxtyping import Float
from torch import Tensor, nn

from grulens.errors import WeightsChangedError
from grulens.probing.edits.edit import ablate
from grulens.views.figure.palette import ACCENT, BEFORE
from grulens.widgets.jupyter.copy_code import CopyCode
from grulens.widgets.session.controls import button, choice, row
from grulens.widgets.session.display_names import signal_of, words
from grulens.widgets.session.edit_list import Slot
from grulens.widgets.session.page import Paged
from grulens.widgets.session.screen import parts_of
from grulens.widgets.session.session import Session
from grulens.words import say, say_as


class AblationToggles(Paged):
    """The list of edits: on and off, order, undo; and units switched off.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`.

    Attributes:
        to: what "ablate selection" sets the units to: "zero" or "mean".
        lines: one line an edit, in order.

    >>> import torch
    >>> from grulens import AblationToggles
    >>> screen = AblationToggles(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> screen.session.units = (1, 2)
    >>> screen.ablate.click()
    >>> screen.session.slots[0].edit
    ablate('l0', [1, 2], to=0.0)
    """

    to = tl.Enum(("zero", "mean"), "zero")

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        session, guard = self.session, self.callbacks.guard

        # controls
        self.ablate = button(
            say("ablate selection"), say("switch the selected units off at the selected steps"),
            guard(self._on_ablate), icon="ban", button_style="",
        )  # fmt: skip
        to, self._to = choice(
            say_as("ablate to", "to"), [(say("zero"), "zero"), (say("its mean"), "mean")],
            [say("set the state to 0"), say("set the state to its mean over the unedited run")],
        )  # fmt: skip
        W.link((self, "to"), (self._to, "value"))
        self.all_on = button(say("all on"), say("switch every edit on"), guard(self._switch(True)))
        self.all_off = button(
            say("all off"), say("switch every edit off"), guard(self._switch(False))
        )
        self.invert = button(say("invert"), say("switch what is off on and the other way round"),
                             guard(lambda _: session.switch(lambda s: not s.wanted)))  # fmt: skip
        self.undo = button(
            say("undo"), say("take the last change back"), guard(lambda _: session.undo())
        )
        self.redo = button(say("redo"), say("do it again"), guard(lambda _: session.redo()))
        self._moved = W.HTML()
        self._empty = W.HTML(
            '<span class="grulens-quiet">'
            + say("No edits yet: move a slider, or select units and ablate them.")
            + "</span>"
        )
        self._code = W.HTML()
        self._code.add_class("grulens-code")
        self.lines: list[Line] = []
        # each edit alone costs a run: in the background, and only for the newest list
        self._effects = self.callbacks.background(
            self._show_effects, source=Line, lock=session.lock
        )
        self._list = W.VBox()
        self.copy = CopyCode()

        # layout
        self.fill(
            row(self.ablate, to, self._to, self._moved),
            row(self.all_on, self.all_off, self.invert, self.undo, self.redo),
            self._empty,
            self._list,
            row(self.copy, self._code),
        )

        self.follow(self._on_slots, "slots")
        self.follow(self._on_run, "edited", "row", "layer")
        self._on_slots()
        self._on_run()

    # what a change does

    def _on_slots(self) -> None:
        session = self.session
        slots: tuple[Slot, ...] = session.slots
        held = {line.key: line for line in self.lines}
        gone = held.keys() - {slot.key for slot in slots}
        # lines are kept while their edit is: a slider changes one many times a second
        self.lines = [held.get(slot.key) or Line(self, slot.key) for slot in slots]
        for place, (line, slot) in enumerate(zip(self.lines, slots, strict=True)):
            line.show(slot, first=place == 0, last=place == len(slots) - 1)
        self._list.children = tuple(self.lines)
        self._empty.layout.display = "none" if self.lines else None
        for key in gone:
            held[key].close()
        for control in (self.all_on, self.all_off, self.invert):
            control.disabled = not slots
        self.undo.disabled, self.redo.disabled = not session.can_undo, not session.can_redo
        self.copy.code = session.code()
        code = escape(self.copy.code)
        self._code.value = (
            f"<details><summary>{say('the same as code')}</summary><pre>{code}</pre></details>"
        )
        self._effects.later(self.lines)

    def _on_run(self) -> None:
        text = ""
        if not self.session.unread:
            text = f'<span role="status">{self._said(self.session.moved)}</span>'
        self._moved.value = text
        self._effects.later(self.lines)

    def _said(self, moved: Float[Tensor, " time"]) -> str:
        """How far the output moved, in words."""
        if lost := int((~moved.isfinite()).sum()):
            return say(
                "how far the output moved is not known: at {lost} of {steps} steps it is infinite "
                "or no number (NaN)", lost=lost, steps=len(moved),
            )  # fmt: skip
        amount = f"<b>{self._amount(float(moved.mean()))}</b>"
        if len(moved) == 1:
            return say("output moved by {amount}", amount=amount)
        return say("output moved by {amount} a step, {most} at most", amount=amount,
                   most=f"{float(moved.max()):.3g}")  # fmt: skip

    def _show_effects(self, lines: Sequence[Line]) -> None:
        for line, slot in zip(lines, self.session.slots, strict=False):
            if line.key == slot.key:
                line.effect.value = self._effect(slot)

    def _effect(self, slot: Slot) -> str:
        """What one edit does alone; "" where it cannot act, or nothing can be compared."""
        try:
            if slot.mismatch or self.session.unread:
                return ""
            return self._amount(self.session.effect(slot.edit))
        except WeightsChangedError:  # which the panel says, with what to do
            return ""

    def _amount(self, moved: float) -> str:
        if not math.isfinite(moved):
            return say("not known")
        value = self.session.answer_before.scale == "value"
        return f"{moved:.3g}" if value else say("{n} bits", n=f"{moved:.3g}")

    def _on_ablate(self, _: Any) -> None:
        session = self.session
        to: Any = "mean" if self.to == "mean" else 0.0
        units, times = session.chosen_units, list(session.times) or None
        session.add(ablate(session.layer, units, to=to, at=times))

    def _switch(self, on: bool) -> Any:
        return lambda _: self.session.switch(lambda _slot: on)


class Line(W.HBox):
    """One edit: its switch, what it does in words, and what can be done with it."""

    def __init__(self, panel: AblationToggles, key: int) -> None:
        self.key = key
        self._panel = panel
        self._showing = False
        session, guard = panel.session, panel.callbacks.guard
        self.on = W.Checkbox(indent=False, layout=W.Layout(width="24px"))
        self.on.observe(guard(self._on_switch), "value")
        self.words = W.HTML()
        self.words.add_class("grulens-words")
        self.effect = W.HTML()
        self.effect.add_class("grulens-effect")
        self.up = button("↑", say("act earlier"), guard(lambda _: session.move(key, -1)))
        self.down = button("↓", say("act later"), guard(lambda _: session.move(key, 1)))
        self.remove = button(
            say("remove"), say("take this edit away"), guard(lambda _: session.remove(key))
        )
        super().__init__([self.on, self.words, self.effect, self.up, self.down, self.remove])
        self.add_class("grulens-line")

    def show(self, slot: Slot, *, first: bool, last: bool) -> None:
        """Show the edit as it is now."""
        self._showing = True
        try:
            self.on.value, self.on.disabled = slot.on, bool(slot.mismatch)
            session = self._panel.session
            text, signal = words(session, slot.edit), signal_of(session, slot.edit)
            self.on.tooltip = say("on: {edit}", edit=text)
            color = BEFORE if signal is None else ACCENT[signal]
            self.words.value = (
                f'<span style="color:{color}" aria-hidden="true">■</span> {escape(text)} '
                f'<span class="grulens-quiet">· {escape(slot.edit.layer)}</span>'
            )
            if slot.mismatch:
                self.effect.value = ""
                why = say("does not fit this input: {why}", why=escape(slot.mismatch))
                self.words.value += f' <span class="grulens-note">{why}</span>'
            self.up.disabled, self.down.disabled = first, last
            (self.remove_class if slot.on else self.add_class)("grulens-off")
        finally:
            self._showing = False

    def _on_switch(self, change: Any) -> None:
        if not self._showing:
            key, on = self.key, change["new"]
            self._panel.session.switch(lambda slot: on if slot.key == key else slot.wanted)

    def close(self) -> None:
        """Close the line with its controls."""
        for part in [*parts_of(self)]:
            part.close()
        super().close()
