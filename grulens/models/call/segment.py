"""One layer in one call: what is kept of it, and its gates when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from grulens.cells.cell import RecurrentCell
from grulens.cells.changes import Program, last_valid, reverse
from grulens.cells.precision import Precision
from grulens.cells.unroll import unroll
from grulens.errors import RecordingError
from grulens.models.call.layout import Layout
from grulens.models.restore.versions import version


@dataclass(frozen=True, eq=False)
class Node:
    """The states of a level in one call, as everything that depends on them reads them.

    Attributes:
        body: the states in that layout, both directions side by side.
        layout: the layout of the call's sequences.
        directions: how many there are.
    """

    body: Tensor
    layout: Layout
    directions: int


@dataclass(frozen=True, eq=False)
class Segment:
    """One layer in one call: its part of the time axis.

    Attributes:
        cell: the weights that ran.
        inputs: gives its input rows (batch, time, input).
        states: gives its state rows (batch, time, unit).
        h_0: the state before its first step (batch, state).
        steps: how many steps it has.
        lengths: row lengths, or None.
        reverse: whether it read its rows from their ends.
        program: what an edit changed, or None.
        precision: the autocast under which it ran.
        node: its states as the rest of the model reads them, where they are part of a graph.
        versions: how often each weight had been changed in place when it ran.
    """

    cell: RecurrentCell
    inputs: Callable[[], Tensor]
    states: Callable[[], Tensor]
    h_0: Tensor
    steps: int
    lengths: Tensor | None
    reverse: bool
    program: Program | None
    precision: Precision = nullcontext
    node: Node | None = None
    versions: tuple[int | None, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "versions", versions(self.cell))

    def __getstate__(self) -> dict[str, Any]:
        # torch counts the changes of a copy's weights anew
        return vars(self) | {"versions": () if self.moved else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if state["versions"] is None:
            self.__post_init__()

    @property
    def moved(self) -> bool:
        """Whether its weights have been changed in place since it ran."""
        return versions(self.cell) != self.versions

    def before(self, h: Tensor, h_0: Tensor | None = None) -> Tensor:
        """What was before each step, from what was after them and before the first one.

        Args:
            h: the state after each step (batch, time, state), or the output alone.
            h_0: the first one; None is the segment's own.
        """
        h_0 = self.h_0[:, : h.shape[2]] if h_0 is None else h_0
        if not self.reverse:
            return self.valid(_delayed(h_0, h))
        delayed = _delayed(h_0, reverse(h, self.lengths))
        return self.valid(reverse(delayed, self.lengths))

    def again(self, cell: RecurrentCell, x: Tensor, h_0: Tensor, program: Program) -> Tensor:
        """The states (batch, time, unit) of the same run, step by step."""
        if not self.reverse:
            return self.valid(unroll(cell, x, h_0, program, lengths=self.lengths).h)
        x, program = reverse(x, self.lengths), program.reversed(self.lengths)
        h = unroll(cell, x, h_0, program, lengths=self.lengths).h
        return self.valid(reverse(h, self.lengths))

    @property
    def body(self) -> Tensor:
        """The states of its level as the rest of the model reads them, part of a graph.

        Raises:
            RecordingError: there is no graph.
        """
        if self.node is None:
            raise RecordingError("this run was recorded without its graph: use record(grad=True)")
        return self.node.body

    def rows(self, body: Tensor) -> Tensor:
        """Its own states (batch, time, unit) in a body of its level."""
        if self.node is None:
            raise RecordingError("this run was recorded without its graph: use record(grad=True)")
        return self.node.layout.rows(body).chunk(self.node.directions, 2)[int(self.reverse)]

    def last(self) -> Tensor:
        """The state (batch, unit) with which it ended."""
        return self.states()[:, 0] if self.reverse else last_valid(self.states(), self.lengths)

    @property
    def mask(self) -> Tensor:
        """(batch, time), bool: False on padding."""
        time = torch.arange(self.steps, device=self.h_0.device)
        if self.lengths is None:
            return torch.ones(len(self.h_0), self.steps, dtype=torch.bool, device=time.device)
        return time < self.lengths.to(time.device)[:, None]

    def whole(self, h: Tensor, signals: Mapping[str, Tensor]) -> Tensor:
        """The whole state (batch, time, state) after each step, from its parts."""
        beside = [signals[name] for name in self.cell.states[1:]]
        return torch.cat([h, *beside], 2) if beside else h

    def signals(
        self, x: Tensor, h: Tensor, before: Tensor | None = None, *, gates: bool = False
    ) -> dict[str, Tensor]:
        """Every signal but h in the states' dtype, zero on padding.

        Args:
            x: its input (batch, time, input).
            h: its outputs (batch, time, unit).
            before: the output before each step, where somebody has it.
            gates: whether the gates are enough; of a cell with one state no others are made then.
        """
        if len(self.cell.states) == 1:
            made = self.cell.gates if gates else self.cell.replay
            with self.precision():
                found = made(x, self.before(h) if before is None else before, self.program)
            return {name: self.valid(value.to(h.dtype)) for name, value in found.items()}
        program = self.program
        if self.reverse:
            x, h = reverse(x, self.lengths), reverse(h, self.lengths)
            program = program and program.reversed(self.lengths)
        with self.precision():
            found = self.cell.reread(x, h, self.h_0, program)
        if self.reverse:
            found = {name: reverse(value, self.lengths) for name, value in found.items()}
        return {name: self.valid(value.to(h.dtype)) for name, value in found.items()}

    def valid(self, value: Tensor) -> Tensor:
        """A value (batch, time, unit), zero on padding."""
        return value if self.lengths is None else value.masked_fill(~self.mask[..., None], 0)


def _delayed(h_0: Tensor, h: Tensor) -> Tensor:
    """`h` a step later, `h_0` before it; time first in memory, as the kernel leaves its output."""
    return torch.cat([h_0[None], h.transpose(0, 1)[:-1]]).transpose(0, 1)


def versions(cell: RecurrentCell) -> tuple[int | None, ...]:
    """How often each weight of a cell was changed in place."""
    return tuple(version(tensor) for tensor in cell.parameters)
