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
from math import isclose
from threading import get_ident
from typing import Any, Final

import ipywidgets as W

from grulens.probing.edits.edit import Edit, clamp, scale, shift
from grulens.views.figure.palette import ACCENT, NAME
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.panel import button, choice, row
from grulens.widgets.session.session import Session

GATES: Final = ("r", "z", "n")
MODES: Final = {
    "scale": "multiply the gate",
    "set": "hold the gate at a value",
    "shift": "add before the activation: the gate leans one way",
}
SPAN: Final = {"scale": (0.0, 2.0), "set": (0.0, 1.0), "shift": (-8.0, 8.0)}
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
        act, self.mode = choice("Act by", [(mode, mode) for mode in MODES], list(MODES.values()))
        # a slider each for every mode: a page that is told another range clamps to the old one
        # first and sends that back, as if a person had moved it
        self._all = {(mode, gate): self._slider(mode, gate) for mode in MODES for gate in GATES}
        self.resets = {
            gate: button(
                "reset", f"take the {NAME[gate]}'s edit of this selection away",
                callbacks.guard(lambda _, gate=gate: self._reset(gate)),
            )
            for gate in GATES
        }  # fmt: skip
        for (_, gate), slider in self._all.items():
            slider.observe(callbacks.background(self._mover(gate), lock=session.lock), "value")
        self.mode.observe(callbacks.guard(lambda _: self.sync()), "value")
        lines = [
            row(*(self._all[mode, gate] for mode in MODES), self.resets[gate]) for gate in GATES
        ]
        self.box = W.VBox([row(act, self.mode), *lines])
        self.sync()

    def sync(self) -> None:
        """Let the sliders show what is in force for this selection."""
        self._syncing = get_ident()
        try:
            for (mode, _), slider in self._all.items():
                slider.layout.display = None if mode == self.mode.value else "none"
            for gate, slider in self.sliders.items():
                held = self._held(gate)
                self.resets[gate].disabled = held is None
                if gate == self._moving:
                    continue  # it may be further than the run that has just ended
                value = self._rest(gate) if held is None else held.amount
                slider.value = self._known[gate] = min(max(value, slider.min), slider.max)
        finally:
            self._syncing = None

    @property
    def sliders(self) -> dict[str, W.FloatSlider]:
        """The sliders of the present mode, by gate."""
        return {gate: self._all[self.mode.value, gate] for gate in GATES}

    def _slider(self, mode: str, gate: str) -> W.FloatSlider:
        low, high = SPAN[mode]
        slider = W.FloatSlider(
            min=-1.0 if (mode, gate) == ("set", "n") else low,
            max=high,
            value=REST[mode],
            step=0.01,
            description=f"{gate}  {NAME[gate]}",
            tooltip=f"{mode} the {NAME[gate]}: {MODES[mode]}",
            readout_format=".2f",
            layout=W.Layout(width="min(440px, calc(100% - 90px))"),
            style={"description_width": "120px", "handle_color": ACCENT[gate]},
        )
        slider.add_class(f"grulens-{gate}")
        return slider

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
        units = list(session.units) or None
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
                self.session.put(self._held(gate), self._edit(gate, value))
            finally:
                self._moving = None

        return move

    def _reset(self, gate: str) -> None:
        self.session.put(self._held(gate), None)
