"""One call of a recurrent module, and its layers run one by one, where torch's by the same kernel.

torch returns the states of the last layer only. Run layer by layer, in the body's own shape and
with the dropout masks drawn where the kernel would draw them, the others come out bit for bit as
the kernel computed them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout

from grulens.cells.cell import RecurrentCell
from grulens.cells.changes import Program, last_valid, reverse
from grulens.cells.precision import Precision, present
from grulens.cells.unroll import Ran, run, unroll
from grulens.models.call.layout import Layout
from grulens.models.restore.interrupts import grads, random_kept

Key = tuple[int, int]  # level, direction (1 is the reverse one)
Cells = Mapping[Key, RecurrentCell]


@dataclass(frozen=True, eq=False)
class Inside:
    """One direction of one level while it runs: what a program is made for.

    Attributes:
        key: level and direction.
        cell: its weights.
        x: its input, in rows, at the positions of the input sequence.
        h_0: the state before its first step (batch, state).
        lengths: row lengths or None.
    """

    key: Key
    cell: RecurrentCell
    x: Tensor
    h_0: Tensor
    lengths: Tensor | None

    def states(self, program: Program | None, unrolled: bool = False) -> Ran:
        """Its run: h (batch, time, unit) at the positions of the input, zero on padding."""
        x = self.x
        if self.key[1]:
            x = reverse(x, self.lengths)
            program = program and program.reversed(self.lengths)
        way = unroll if unrolled else run
        h, last = way(self.cell, x, self.h_0, program, lengths=self.lengths)
        return Ran(self.valid(reverse(h, self.lengths) if self.key[1] else h), last)

    def valid(self, h: Tensor) -> Tensor:
        """States (batch, time, unit) at the positions of the input, zero on padding."""
        if self.lengths is None:
            return h
        time = torch.arange(h.shape[1], device=h.device)
        return h.masked_fill((time >= self.lengths.to(h.device)[:, None])[..., None], 0)

    def mean(self) -> Tensor:
        """The mean unedited state (unit,) over valid steps and rows."""
        h = self.states(None).h
        if self.lengths is None:
            return h.mean((0, 1))
        return h.sum((0, 1)) / self.lengths.sum().to(h.device)


MakeProgram = Callable[[Inside], Program | None]
Level = Callable[[Tensor], tuple[Tensor, list[Tensor]]]
"""Runs one level: the body of its input -> (its own body, the last state of each direction)."""


@dataclass
class Run:
    """All layers of one call.

    Attributes:
        inputs: per level, rows (batch, time, feature).
        states: per level and direction, rows (batch, time, unit).
        programs: per level and direction, what was changed.
        bodies: per level, what the rest of the model reads of its states, if that is to be seen.
        body: the last level's output.
        h_n: the last states (level and direction, batch, state).
    """

    inputs: list[Tensor] = field(default_factory=list)
    states: dict[Key, Tensor] = field(default_factory=dict)
    programs: dict[Key, Program] = field(default_factory=dict)
    bodies: list[Tensor] = field(default_factory=list)
    body: Tensor = field(default_factory=lambda: torch.empty(0))
    h_n: Tensor = field(default_factory=lambda: torch.empty(0))

    def inputs_of(self, key: Key) -> Tensor:
        """Input rows of one level."""
        return self.inputs[key[0]]

    def states_of(self, key: Key) -> Tensor:
        """State rows of one level and direction."""
        return self.states[key]

    def keep_copies(self, graph: bool) -> None:
        """Hold copies, so that nothing the model or the user does to these tensors moves them."""
        self.inputs = [kept(rows, graph) for rows in self.inputs]
        self.states = {key: kept(h, graph) for key, h in self.states.items()}


@dataclass(eq=False)
class Call:
    """One call of a module, in one form whatever the module is.

    Attributes:
        layout: the layout of its sequences.
        body: its input.
        h_0: (level and direction, batch, state).
        levels: how many layers lie one upon the other.
        directions: 2 when each reads forwards and backwards.
        enter: the body of the last level's states, from what the module returned.
        leave: what the module returns for a run of its layers.
        dropout: between the levels, as it acts in this call.
        precision: the autocast under which it runs.
        graph: whether the states of each level are to be seen as the rest of the model reads them.
    """

    layout: Layout
    body: Tensor
    h_0: Tensor
    levels: int
    directions: int
    enter: Callable[[Any], Tensor]
    leave: Callable[[Run], Any]
    dropout: float = 0.0
    graph: bool = False
    precision: Precision = field(init=False)

    def __post_init__(self) -> None:
        self.precision = present(self.body.device)

    def __getstate__(self) -> dict[str, Any]:
        # a copy runs its layers again; what its module took and returned is code of the module's
        return vars(self) | {"enter": None, "leave": None}

    @property
    def steps(self) -> int:
        """How many steps it has, padding included."""
        return self.layout.steps(self.body)

    def state_of(self, key: Key) -> Tensor:
        """The state (batch, state) before the first step of one level and direction."""
        return self.h_0[key[0] * self.directions + key[1]]

    def run(
        self,
        cells: Cells,
        make_program: MakeProgram | None = None,
        instead: Mapping[int, Level] | None = None,
        *,
        inputs: Mapping[int, Tensor] | None = None,
        unrolled: bool = False,
    ) -> Run:
        """The layers one by one.

        Args:
            cells: by level and direction.
            make_program: those for which it gives a program are changed.
            instead: levels that do not run by themselves: what gives their body and last states.
            inputs: rows (batch, time, input) that levels read in place of what would reach them.
            unrolled: whether none of them runs by torch's kernel.
        """
        done = Run()
        body, last = self.body, list[Tensor]()
        for level in range(self.levels):
            if inputs and level in inputs:
                body = self.layout.body(inputs[level]).contiguous()
            if instead and level in instead:
                body, h_n = instead[level](body)
            else:
                body, h_n = self._level(level, body, cells, done, make_program, unrolled)
            last += h_n
            if self.dropout and level < self.levels - 1:
                body = dropout(body, self.dropout, training=True)
        done.body, done.h_n = body, torch.stack(last)
        return done

    def _level(
        self,
        level: int,
        body: Tensor,
        cells: Cells,
        done: Run,
        make_program: MakeProgram | None,
        unrolled: bool,
    ) -> tuple[Tensor, list[Tensor]]:
        """One level on a body: its own body, and the last state of each direction."""
        rows = self.layout.rows(body)
        done.inputs.append(rows)
        insides = [
            Inside(key, cells[key], rows, self.state_of(key), self.layout.lengths)
            for key in ((level, direction) for direction in range(self.directions))
        ]
        programs = {i.key: p for i in insides if make_program and (p := make_program(i))}
        done.programs |= programs
        if programs or unrolled or not all(inside.cell.is_torch for inside in insides):
            runs = [inside.states(programs.get(inside.key), unrolled) for inside in insides]
            states, last = [ran.h for ran in runs], torch.stack([ran.state for ran in runs])
            # in the memory order of the kernel's own output: dropout draws its mask along it
            body = self.layout.body(torch.cat(states, 2)).contiguous()
        else:
            body, last = self._fused(body, insides)
            states = list(self.layout.rows(body).chunk(self.directions, 2))
        done.states |= {inside.key: h for inside, h in zip(insides, states, strict=True)}
        if self.graph:
            body = self.seen(body, done)
            last = self.last(body)
        return body, list(last)

    def seen(self, body: Tensor, done: Run) -> Tensor:
        """Note a level's body; what comes back is what the rest of the model is to read."""
        done.bodies.append(body)
        # a model may write over what it reads
        return body.clone()

    def _fused(self, body: Tensor, insides: list[Inside]) -> tuple[Tensor, Tensor]:
        h_0 = torch.stack([inside.h_0 for inside in insides])
        return self.layout.kernel(body, h_0, [i.cell for i in insides], torch.is_grad_enabled())

    def last(self, body: Tensor) -> Tensor:
        """The last h (direction, batch, unit) of one level, from its body."""
        forward, *backward = self.layout.rows(body).chunk(self.directions, 2)
        last = last_valid(forward, self.layout.lengths)
        return torch.stack([last, *(h[:, 0] for h in backward)])


@dataclass(eq=False)
class Replay:
    """The layers of a call that has run, found again when somebody asks for them.

    Nothing is computed for the input of the first level and the states of the last: they are the
    call's own input and output.
    """

    call: Call
    cells: Cells
    output: Tensor
    rng: Tensor | None
    trained: bool
    _run: Run | None = None

    def keep_copies(self, graph: bool) -> None:
        """Hold copies, so that nothing the model or the user does to these tensors moves them."""
        self.call.body, self.output = kept(self.call.body, graph), kept(self.output, graph)

    def inputs(self, key: Key) -> Tensor:
        """Input rows of one level."""
        return self.call.layout.rows(self.call.body) if key[0] == 0 else self._all().inputs[key[0]]

    def states(self, key: Key) -> Tensor:
        """State rows of one level and direction."""
        if key[0] < self.call.levels - 1:
            return self._all().states[key]
        return self.call.layout.rows(self.output).chunk(self.call.directions, 2)[key[1]]

    def _all(self) -> Run:
        if self._run is None:
            # torch's generator is global: it is touched only where masks were drawn from it
            random = nullcontext() if self.rng is None else random_kept(self.rng)
            with grads(False), random, self.call.precision():
                cells = {key: _like_live(c, self.trained) for key, c in self.cells.items()}
                self._run = self.call.run(cells)
        return self._run


def _like_live(cell: RecurrentCell, trained: bool) -> RecurrentCell:
    """The same weights, marked as the module's own: the kernel rounds another way for others."""
    return cell.over(lambda tensor: tensor.detach().requires_grad_(trained))


def kept(tensor: Tensor, graph: bool) -> Tensor:
    """A copy to keep, in the graph or out of it."""
    return tensor.clone() if graph else tensor.detach().clone()
