"""The sliders of the three gates: what a hand on them does to the selected units and times.

A slider shows the edit that the list holds for exactly this selection and mode, or rests where it
changes nothing. So selecting other units never loses what was done to the last ones.

    act by [scale | set | shift]
    r reset gate   ───●─── 1.00 [reset]
    z update gate  ───●─── 1.00 [reset]
    n candidate    ───●─── 1.00 [reset]
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, isclose, isfinite
from threading import get_ident
from typing import Any, Final
from unicodedata import east_asian_width

import ipywidgets as W

from grulens.cells.observed import ObservedCell
from grulens.cells.signal import Signal
from grulens.probing.edits.edit import Edit, clamp, scale, shift
from grulens.views.figure.palette import ACCENT
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.controls import button, choice, row
from grulens.widgets.session.latest import Latest
from grulens.widgets.session.screen import parts_of
from grulens.widgets.session.session import Session
from grulens.words import message, say

MODES: Final = {
    "scale": message("multiply the gate"),
    "set": message("hold the gate at a value"),
    "shift": message("add before the activation: the gate leans one way"),
}
#: What each does, to a signal.
DOES: Final = {
    "scale": message("scale the {signal}: {how}"),
    "set": message("set the {signal}: {how}"),
    "shift": message("shift the {signal}: {how}"),
}
SPAN: Final = {"scale": (0.0, 2.0), "shift": (-8.0, 8.0)}
#: To what a signal without bounds can be set at least.
FAR: Final = 4.0
REST: Final = {"scale": 1.0, "set": 0.5, "shift": 0.0}
KIND: Final = {"scale": "scale", "set": "clamp", "shift": "shift"}


class GateControls:
    """Mode, sliders and resets.

    Args:
        session: what they act on.
        callbacks: makes those of its controls.

    Attributes:
        box: the controls.
        mode: "scale", "set" or "shift".
    """

    def __init__(self, session: Session, callbacks: Callbacks) -> None:
        self.session = session
        # the thread that sets sliders to what is in force, and the slider under the hand
        self._syncing: int | None = None
        self._moving: str | None = None
        # what each slider is known to show: a page may send back what it was told
        self._known: dict[str, float] = {}
        act, self.mode = choice(
            say("Act by"),
            list(zip([say("scale"), say("set"), say("shift")], MODES, strict=True)),
            [say(how) for how in MODES.values()],
        )
        self.mode.observe(callbacks.guard(lambda _: self.sync()), "value")
        self._callbacks = callbacks
        self._of: tuple[Signal, ...] = ()
        self._cut: dict[str, str] = {}
        self._wide = 120
        self._all: dict[tuple[str, str], W.FloatSlider] = {}
        self._moves: dict[tuple[str, str], Latest[float]] = {}
        self.resets: dict[str, W.Button] = {}
        self._lines = W.VBox()
        self.box = W.VBox([row(act, self.mode), self._lines])
        self.sync()

    def _offer(self) -> None:
        """Make the sliders of what the layer's cell computes on its way to a new state."""
        cell = self.session.before.cell
        signals = tuple(signal for signal in cell.signals if signal.name not in cell.states)
        cut = dict(cell.cut) if isinstance(cell, ObservedCell) else {}
        if (signals, cut) == (self._of, self._cut):
            return
        before = self._lines.children
        self._of, self._cut = signals, cut
        # as wide as the longest name needs: an observed cell says what its gates do
        longest = max((_wide(f"{one.name}  {one.said}") for one in signals), default=0)
        self._wide = min(max(120, 7 * longest + 8), 300)
        # a slider each for every mode: a page that is told another range clamps to the old one
        # first and sends that back, as if a person had moved it
        self._all = {
            (mode, signal.name): self._slider(mode, signal) for mode in MODES for signal in signals
        }
        self.resets = {
            signal.name: button(
                say("reset"),
                say("take the {signal}'s edit of this selection away", signal=signal.said),
                self._callbacks.guard(lambda _, name=signal.name: self._reset(name)),
            )
            for signal in signals
        }  # fmt: skip
        self._moves = {
            (mode, name): self._callbacks.background(self._mover(name), lock=self.session.lock)
            for mode, name in self._all
        }
        for key, slider in self._all.items():
            slider.observe(self._moves[key], "value")
        self._lines.children = tuple(
            row(*(self._all[mode, name] for mode in MODES), reset)
            for name, reset in self.resets.items()
        )
        for line in before:
            for part in [*parts_of(line)]:
                part.close()
            line.close()

    def sync(self, *, unanswered: bool = True) -> None:
        """Let the sliders show what is in force for this selection.

        Args:
            unanswered: whether those too that a hand has moved since and that wait for their run.
        """
        self._syncing = get_ident()
        try:
            self._offer()
            for (mode, _), slider in self._all.items():
                slider.layout.display = None if mode == self.mode.value else "none"
            for gate, slider in self.sliders.items():
                held = self._held(gate)
                self.resets[gate].disabled = held is None
                if gate == self._moving:
                    continue  # it may be further than the run that has just ended
                if not unanswered and self._moves[self.mode.value, gate].pending:
                    continue
                value = self._rest(gate) if held is None else held.amount
                slider.value = self._known[gate] = min(max(value, slider.min), slider.max)
        finally:
            self._syncing = None

    @property
    def sliders(self) -> dict[str, W.FloatSlider]:
        """The sliders of the present mode, by gate."""
        return {name: self._all[self.mode.value, name] for name in self.resets}

    def _slider(self, mode: str, signal: Signal) -> W.FloatSlider:
        name, words = signal.name, signal.said
        does = say(DOES[mode], signal=words, how=say(MODES[mode]))
        # no activation keeps it in its bounds: beyond them it is none of what its name says
        kept = not signal.activated and isfinite(signal.low) and isfinite(signal.high)
        low, high = SPAN.get(mode) or self._range(signal)
        if kept and mode == "scale":
            high = REST[mode]
        elif mode == "shift" and not signal.activated:
            does = say(
                message("the {signal} comes out of no activation: scale or set it") if kept
                else message("shift the {signal}: add to it"),
                signal=words,
            )  # fmt: skip
        cut = mode == "shift" and name in self._cut
        if cut:
            does = say("the {signal} {why}: scale or set it", signal=words, why=self._cut[name])
        slider = W.FloatSlider(
            min=low,
            max=high,
            value=REST[mode],
            step=0.01,
            description=f"{name}  {words}",
            tooltip=does,
            disabled=cut or (kept and mode == "shift"),
            readout_format=".2f",
            layout=W.Layout(width=f"min({320 + self._wide}px, calc(100% - 72px))"),
            style={"description_width": f"{self._wide}px", "handle_color": ACCENT[signal]},
        )
        slider.add_class(f"grulens-signal-{name}")
        slider.add_class(f"grulens-act-{mode}")
        return slider

    def _range(self, signal: Signal) -> tuple[float, float]:
        """From where to where a signal can be set: its bounds, else what it was in this run."""
        if isfinite(signal.low) and isfinite(signal.high):
            return signal.low, signal.high
        values = self.session.before.signal(signal.name).detach()
        least, most = (float(end) for end in values.aminmax()) if values.numel() else (0.0, 0.0)
        if not (isfinite(least) and isfinite(most)):
            least, most = 0.0, 0.0
        low, high = min(-FAR, floor(least)), max(FAR, ceil(most))
        return float(max(signal.low, low)), float(min(signal.high, high))

    def _rest(self, gate: str) -> float:
        """Where a slider stands while it changes nothing; to set, at the selection's mean."""
        if self.mode.value != "set":
            return REST[self.mode.value]
        recording = self.session.before
        values = recording.signal(gate)[self.session.row].detach().float()
        values = values[recording.mask[self.session.row]]
        units = list(self.session.units)
        return round(float((values[:, units] if units else values).mean()), 2)

    def _edit(self, gate: str, value: float) -> Edit:
        session = self.session
        units = session.chosen_units
        at: Any = list(session.times) or None
        if at and at == list(range(at[0], at[-1] + 1)):
            at = slice(at[0], at[-1] + 1)
        if self.mode.value == "scale":
            return scale(session.layer, gate, units, by=value, at=at)
        if self.mode.value == "shift":
            return shift(session.layer, gate, units, by=value, at=at)
        return clamp(session.layer, gate, units, value=value, at=at)

    def _held(self, gate: str) -> Edit | None:
        """The edit in the list that this slider made, if there is one."""
        like = self._edit(gate, 0.0)
        for slot in self.session.slots:
            edit: Edit = slot.edit
            if isinstance(edit.amount, float) and edit == self._with(like, edit.amount):
                return edit
        return None

    @staticmethod
    def _with(edit: Edit, amount: float) -> Edit:
        return Edit(edit.kind, edit.layer, edit.signal, edit.units, amount, edit.at, edit.rows)

    def _mover(self, gate: str) -> Callable[[float], None]:
        def move(value: float) -> None:
            if self._syncing == get_ident() or isclose(value, self._known[gate], abs_tol=1e-6):
                return
            self._known[gate] = value
            self._moving = gate
            try:
                # a page adds its steps up: 0.3 arrives as 0.30000000000000004
                self.session.put(self._held(gate), self._edit(gate, round(value, 6)))
            finally:
                self._moving = None

        return move

    def _reset(self, gate: str) -> None:
        self.session.put(self._held(gate), None)


def _wide(text: str) -> int:
    """How many letters a text is wide; a Chinese one takes the room of two."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)
