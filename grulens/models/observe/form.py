"""An observed cell: the sites of its signals in somebody's code, and the equation they obey."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from grulens.cells.mix import GatedForm, Polynomial
from grulens.cells.signal import Role
from grulens.models.observe.rivals import Rival
from grulens.models.observe.rounds import Loop
from grulens.models.observe.sites import Site


@dataclass(frozen=True)
class Spot:
    """One value of every step: what a site makes or is given.

    Attributes:
        site: the site.
        each: how often a step comes by there.
        ordinal: which of these times it is.
        part: which part of the result it is, or which argument.
        given: whether it is an argument.
        keyword: by what name it is given; empty if by its place.
        among: its place in that argument, where that is a list of values; -1 where it is one.
    """

    site: Site
    each: int
    ordinal: int
    part: int = 0
    given: bool = False
    keyword: str = ""
    among: int = -1

    def __repr__(self) -> str:
        which = f", time {self.ordinal + 1} of {self.each} in a step" if self.each > 1 else ""
        what = f"argument {self.part + 1} of " if self.given else ""
        return f"{what}{self.site}{which}"


@dataclass(frozen=True)
class Observed:
    """A signal of an observed cell.

    Attributes:
        name: by which it is asked for.
        words: what it is.
        role: what it does in the cell.
        spot: where its value is read.
        bend: the function that made it ("sigmoid"); empty if it is none of those that are known.
        pre: where the argument of its activation is read, that function's or another one that the
            signal is made of: in every equal call that makes it; empty if no shift reaches it.
        barred: why a shift does not reach its activation; empty if it does, or there is none.
        low: its least value, as far as the function says it.
        high: its largest one.
        also: where else a value that is made before the loop goes in the step.
        late: whether it is made in the step before the one that uses it.
        varies: whether it is made now by one line, and now by another.
        unseen: whether every step is given another tensor, which no call made that was seen.
        made: where a value is made that is given to the loop; None where nobody saw that.
        text: the expression that makes it, or by which the code gives it to the step.
    """

    name: str
    words: str
    role: Role
    spot: Spot
    bend: str = ""
    pre: tuple[Spot, ...] = ()
    low: float = -float("inf")
    high: float = float("inf")
    also: tuple[Spot, ...] = ()
    late: bool = False
    varies: bool = False
    unseen: bool = False
    made: Site | None = None
    text: str = ""
    barred: str = ""

    @property
    def where(self) -> str:
        """Where the code makes it, or reads it: "line 41 of mynet.py, sigmoid"."""
        site = self.made or self.spot.site
        made = f", {self.bend}" if self.bend else ""
        if self.spot.given:
            before = "in the step before" if self.late else "before the loop"
            before = "by several lines" if self.varies else before
            made = f", made {'outside of what was seen' if self.unseen else before}"
        return f"line {site.line} of {site.file}{made}"


def row_of(shape: torch.Size, axis: int = 0) -> tuple[int, ...]:
    """The shape of one row of a state: all but the axis of rows, unless that is the only one.

    >>> row_of(torch.Size([2, 3, 4])), row_of(torch.Size([2, 3, 4]), 1), row_of(torch.Size([3]))
    ((3, 4), (2, 4), (3,))
    """
    return tuple(shape[:axis] + shape[axis + 1 :] if len(shape) > 1 else shape)


@dataclass(frozen=True, eq=False)
class ObservedForm:
    """One state that a run carries from step to step, and how a step mixes it with new values.

    Attributes:
        path: the module whose forward makes the mix.
        name: what the layer is called.
        signals: what stands in the mix and before it, in the order in which a step makes them; the
            states last.
        form: the mix, its symbols the names of signals.
        mix: where the mix is read, before what bends it.
        state: where the state after the step is read.
        before: where the state before the step is read.
        bend: the function between the mix and the state; empty if there is none.
        bend_before: the function through which the mix reads the state before; empty if none.
        lag: how many states the same lines carry in turn.
        turn: which of these it is.
        output: the state as what makes it out of the mix; h = o tanh(c) of an LSTM; None if h is
            the mixed state itself.
        output_read: how the mixed state is read in `output`: "tanh({})".
        read: where the bent state before is read, if it is bent.
        others: what else a step makes that is one number for each of the state's: "line 44", and
            "line 44.2" where that line makes more. An edit may name it.
        shape: the shape of one row's state.
        in_place: whether the code writes over values that are read.
        rivals: what the code may run in place of the line that makes the state, and did not when it
            was looked at.
        loop: the loop in which the state is made; None if that cannot be read.
        hides: the signals in which a share of a unit's own state before may stand that the form
            does not see; see `shares`.
        comes_back: the signals in which older states stand than the one before, past every
            activation, as another state hands them on.
        read_by: by which code the next step reads the state, where that is no read-out that is
            known: "`o * c * c` (line 41)"; empty if it reads the state itself, or `output`.
        rounds: what must be known where a step is a round that makes several states; empty if it
            makes one.
        alias: the sites that are read as if they were others: a round makes several steps, each by
            a line of its own.
        axis: along which axis of the state, as the code makes it, its rows lie.
        unsure: whether that could not be seen, and the first one is taken.
        laid: what must be said of that then; empty of one row, which is the same either way.
        channel: along which axis of a row its channels lie; None where nothing tells.
    """

    path: str
    name: str
    signals: tuple[Observed, ...]
    form: GatedForm
    mix: Spot
    state: Spot
    before: Spot
    bend: str = ""
    bend_before: str = ""
    lag: int = 1
    turn: int = 0
    output: Polynomial | None = None
    output_read: str = "{}"
    read: Spot | None = None
    shape: tuple[int, ...] = ()
    others: tuple[Observed, ...] = ()
    in_place: bool = False
    rivals: tuple[Rival, ...] = ()
    loop: Loop | None = None
    hides: tuple[str, ...] = ()
    comes_back: tuple[str, ...] = ()
    read_by: str = ""
    rounds: str = ""
    alias: Mapping[Site, Site] = field(default_factory=dict)
    axis: int = 0
    unsure: bool = False
    laid: str = ""
    channel: int | None = None

    @property
    def carried(self) -> str:
        """The name of the signal that the mix carries: h, or c where h is made of it."""
        return "h" if self.output is None else "c"

    @property
    def equation(self) -> str:
        """The step in one line: "h = z h_prev + (1 - z) n"."""
        name = self.carried
        before = f"{name}_prev"
        if self.bend_before:
            before = f"{self.bend_before}({before})"
        order = [signal.name for signal in self.signals]
        mix = self.form.said(before, order)
        lines = [f"{name} = {self.bend}({mix})" if self.bend else f"{name} = {mix}"]
        if self.output is not None:
            read = self.output_read.format(name)
            lines.append(f"h = {GatedForm(self.output, Polynomial({})).said(read, order)}")
        return "; ".join(lines)
