"""The close up of a unit at a step as figures: its cell drawn, and one sum part by part."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from bokeh.layouts import column

from grulens.probing.units.close_up import CloseUp
from grulens.views.credit.waterfall import Waterfall
from grulens.views.figure.tokens import number, visible_name
from grulens.views.still.close_up import close_up as drawn
from grulens.views.still.lens import compose
from grulens.views.units.cell_drawing import CellDrawing, Shown, with_numbers
from grulens.words import message, say

#: So many parts of a sum have a bar of their own.
MOST: Final = 12
#: What the parts of a sum are called that have no number.
_PARTS: Final = (message("bias b_ih"), message("bias b_hh"), message("shift of an edit"))


class CloseUpFigure:
    """Both figures of one `CloseUp`.

    Attributes:
        root: the figures.
        drawing: the cell.
        bars: the parts of one sum, the largest first.
    """

    def __init__(self) -> None:
        self.drawing, self.bars = CellDrawing(), Waterfall(say("what adds up"))
        self.root: Any = column(self.drawing.root, self.bars.root, sizing_mode="stretch_width")

    def update(self, found: CloseUp, signal: str, *, token: str = "", group: str = "") -> None:
        """Show another one.

        Args:
            found: the numbers.
            signal: whose sum stands part by part.
            token: what the step is called, or "".
            group: what all inputs together are called, where they are one bar; or "".
        """
        self.drawing.update(shown(found, token), chosen=signal, title=title(found, token))
        labels, values = listed(found, signal, group)
        name = found.signal(signal).called
        self.bars.update(
            labels,
            np.array(values),
            whole=say("sum of {signal}", signal=signal),
            title=say("what adds up to {signal}", signal=name),
        )


def still(found: CloseUp, *, token: str = "", group: str = "", caption: str = "") -> str:
    """All sums as HTML that needs no kernel and no network."""
    sums = {name: listed(found, name, group) for name in found.blocks}
    said = "; ".join(filter(None, [caption, found.note]))
    return compose(drawn(shown(found, token), sums, title=title(found, token), caption=said))


def title(found: CloseUp, token: str = "") -> str:
    """Which unit at which step."""
    given = {"unit": found.unit, "step": found.step, "layer": found.layer}
    if token:
        return say("unit {unit} at step {step}, {token} · {layer}", token=visible_name(token),
                   **given)  # fmt: skip
    return say("unit {unit} at step {step} · {layer}", **given)


def shown(found: CloseUp, token: str = "") -> Shown:
    """What the drawing of a cell takes."""
    return Shown(
        found.signals, {name: found.total(name) for name in found.blocks}, found.values,
        found.before, found.inputs.shape[1], found.units.shape[1], found.equation, found.edited,
        visible_name(token) if token else "",
    )  # fmt: skip


def equation(found: CloseUp) -> str:
    """The equation of the state, with its numbers; "" where the kind of cell names none."""
    if not found.equation:
        return ""
    before = {f"{state}_prev": value for state, value in found.before.items()}
    numbers = with_numbers(found.equation, {**found.values, **before})
    h = number(found.values["h"], ".3g")
    said = f"h = {found.equation} = {numbers}"
    if "h" in found.edited:
        return say("{equation}; h is {h} (as an edit left it)", equation=said, h=h)
    return say("{equation}; h is {h}", equation=said, h=h)


def listed(found: CloseUp, signal: str, group: str = "") -> tuple[list[str], list[float]]:
    """The parts of a sum, the largest first, and what the others add up to.

    Args:
        found: the numbers.
        signal: which sum.
        group: what all inputs together are called, where they are one part; or "".

    >>> import torch
    >>> from grulens import close_up, record
    >>> run = record(torch.nn.GRU(3, 40, batch_first=True), torch.randn(1, 6, 3))
    >>> labels, values = listed(close_up(run, step=2, unit=1), "r", "the word")
    >>> len(labels), "the word" in labels or labels[-1].startswith("the other"), labels[-1]
    (13, True, 'the other 31')
    """
    parts = found.parts(signal)
    if group:
        inputs = sum(parts.pop(f"input {i}") for i in range(found.inputs.shape[1]))
        parts = dict(sorted([*parts.items(), (group, inputs)], key=lambda part: -abs(part[1])))
    labels, values = list(map(_part, parts)), list(parts.values())
    rest = len(labels) - MOST
    if rest > 1:
        labels = [*labels[:MOST], say("the other {n}", n=rest)]
        values = [*values[:MOST], sum(values[MOST:])]
    return labels, values


def _part(label: str) -> str:
    """What a part of a sum is called: "input 3", "unit 3", "h_prev 3" or a bias."""
    kind, _, number = label.rpartition(" ")
    if number.isdecimal() and kind == "input":
        return say("input {n}", n=number)
    if number.isdecimal() and kind == "unit":
        return say("unit {unit}", unit=number)
    return say(label)
