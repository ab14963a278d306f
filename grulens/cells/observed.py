"""A cell that is known by the equation its states obey, and not by its weights.

Its signals are read where the module's own code makes them. What is known of it is how they make
the state: h = a h_prev + b.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from torch import Tensor

from grulens.arguments import Space
from grulens.cells.mix import GatedForm, Polynomial
from grulens.cells.signal import Signal
from grulens.cells.space import Fold

HIDDEN = (
    "past every activation that bounds it (by a product with weights, a division by a tensor, "
    "through relu or what is as wide as 10 tanh(h / 10)), or as all that is in it"
)
"""How a share of a unit's own state stands in a signal beside the gate."""
COMES_BACK = (
    "another state hands them on, past every activation that bounds them: a unit keeps what goes "
    "round through both"
)
"""How numbers of older states stand in a signal."""


@dataclass(frozen=True, eq=False)
class ObservedCell:
    """What is known of a cell whose signals were observed.

    Attributes:
        kind: the class of its module.
        signals: its signals, the states last.
        form: how they make the state, its symbols the names of signals.
        equation: the same in words: "h = z h_prev + (1 - z) n".
        carried: the name of the signal that is carried on: h, or c where h is made of it.
        lines: by signal, where the code makes it: "line 41 of mynet.py, sigmoid"; and the code.
        others: what else of a step an edit may name: "line 44".
        shape: the shape of one row's state; a unit is one number of it, in the order in which torch
            lays them out.
        cut: the signals that no shift reaches before their activation, each with why: "is cut out
            of a larger result, or rounded, behind its activation".
        bend: the function between the mix and the state, or through which the mix reads the state
            before; empty if there is none.
        loop: the line of the loop that makes its steps: "line 38 of mynet.py"; empty if unknown.
        hides: the signals in which a share of a unit's own state before may stand that the equation
            does not show: no activation bounds it there (W h, a division by a tensor), or it is
            all that they are made of (tanh(h)). What a step keeps beside its gates is not known.
        read_by: by which code the next step reads the state, where no equation says it: "`o * c *
            c` (line 41)"; empty if one does.
        remark: what must be known where its line makes other states between one and the next, or
            where its rows may lie along another axis; empty if neither is so.
        axis: along which axis of the state, as the code makes it, its rows lie.
        comes_back: the signals in which older states stand than the one before, handed on by
            another state that is made of this one number by number: the position of an oscillator
            in its velocity. What a unit keeps is no share of this state alone.
        channel: along which axis of `shape` its channels lie, as the code that makes the state
            tells: behind a convolution the first one, behind a Linear the last; None where nothing
            tells it.
    """

    kind: str
    signals: tuple[Signal, ...]
    form: GatedForm
    equation: str
    carried: str
    shape: tuple[int, ...]
    others: tuple[Signal, ...] = ()
    lines: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    bend: str = ""
    cut: Mapping[str, str] = field(default_factory=dict)
    loop: str = ""
    hides: tuple[str, ...] = ()
    read_by: str = ""
    remark: str = ""
    axis: int = 0
    comes_back: tuple[str, ...] = ()
    channel: int | None = None

    @property
    def hidden_size(self) -> int:
        """Number of units."""
        return prod(self.shape)

    @property
    def has_space(self) -> bool:
        """Whether a row's state has several axes; one of a single layer or step tells nothing."""
        return len(self.shape) > 1 and not (len(self.shape) == 2 and self.shape[0] == 1)

    @property
    def states(self) -> tuple[str, ...]:
        """The signals that the next step reads, h first."""
        return ("h",) if self.carried == "h" else ("h", self.carried)

    @property
    def state_size(self) -> int:
        """Numbers of one state."""
        return len(self.states) * self.hidden_size

    @property
    def convention(self) -> str:
        """The equation that it obeys."""
        return self.equation

    def signal(self, name: str) -> Signal:
        """One of its signals, or of its other values, by name; KeyError if it has none."""
        for signal in (*self.signals, *self.others):
            if signal.name == name:
                return signal
        raise KeyError(name)

    @property
    def is_convex(self) -> bool:
        """Whether each state is a part of the one before and a part of a candidate, which sum to 1.

        Nothing decays the state before, scales the mix or bends it: unrolled, a state is a weighted
        mean of all candidates and the first state.
        """
        one, form = Polynomial.number(1), self.form
        plain = form.decay.equals(one) and form.outside.equals(one) and not self.bend
        return form.is_convex and plain

    def mixed(self, signals: Mapping[str, Tensor], before: Tensor) -> Tensor:
        """The mix a h_prev + b (batch, time, unit), before what bends it.

        Args:
            signals: its signals by name, each (batch, time, unit).
            before: what the mix reads of the state before, the same.
        """
        return self.form.value(signals, before)

    def size(self, signals: Mapping[str, Tensor], before: Tensor) -> Tensor:
        """The size of the numbers that are added up in the mix: what its rounding is a part of."""
        sizes = {name: value.abs() for name, value in signals.items()}
        keep, write = self.form.keep.absolute, self.form.write.absolute
        return keep.value(sizes, before) * before.abs() + write.value(sizes, before)

    def unit_name(self, unit: int) -> str:
        """What a unit is called: its number, or its place where a row's state has several axes.

        Of three axes or more the first is called the channel where nothing tells which it is; of
        two such axes neither is.

        >>> from dataclasses import replace
        >>> from grulens.cells.mix import Polynomial
        >>> one = Polynomial.number(1)
        >>> cell = ObservedCell("ConvGRU", (), GatedForm(one, one), "", "h", (4, 8, 8))
        >>> cell.unit_name(203)
        'channel 3 at (1, 3)'
        >>> replace(cell, shape=(8, 8, 4), channel=2).unit_name(203)
        'channel 3 at (6, 2)'
        """
        if not self.has_space:
            return str(unit)
        fold = self.fold("mean")
        channel, at = fold.where(unit)
        if fold.noun == "slice":
            return f"unit {(channel, *at)}"
        return f"channel {channel} at {at if len(at) > 1 else at[0]}"

    def fold(self, space: Space) -> Fold:
        """How its units are folded to a number a channel; arguments and errors as for `Fold.of`."""
        return Fold.of(self.shape, space, self.channel)

    @property
    def assumed(self) -> str:
        """What must be said where axes are named by habit alone; empty where they are not."""
        if self.channel is not None or len(self.shape) < 3:
            return ""
        return (
            f"which axis of a row's state, {self.shape}, is its channel could not be seen: the "
            "first one is taken for it, and those behind it for places"
        )

    @property
    def words(self) -> str:
        """The equation, where the code makes its signals, and what is assumed, in one line."""
        made = [_said(name, *line) for name, line in self.lines.items() if name not in "hc"]
        return "; ".join(filter(None, [*made, self.equation, self.assumed]))

    def __repr__(self) -> str:
        return f"ObservedCell({self.kind}, hidden {self.hidden_size}, {self.equation})"


def _said(name: str, where: str, text: str) -> str:
    """Where the code makes a signal, with its expression where it has no name for it there."""
    unnamed = bool(text) and re.fullmatch(r"b\d+", name)
    return f"{name}: {text}, {where}" if unnamed else f"{name}: {where}"
