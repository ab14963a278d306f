"""One layer in one call: what is kept of it, and its gates when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from grulens.gru.cell import Cell, Gates
from grulens.gru.changes import Program, reverse
from grulens.gru.gates import gates
from grulens.gru.precision import Precision


@dataclass(frozen=True, eq=False)
class Segment:
    """One layer in one call: its part of the time axis.

    Attributes:
        cell: the weights that ran.
        inputs: gives its input rows (batch, time, input).
        states: gives its state rows (batch, time, unit).
        h_0: the state before its first step (batch, unit).
        steps: how many steps it has.
        lengths: row lengths, or None.
        reverse: whether it read its rows from their ends.
        program: what an edit changed, or None.
        precision: the autocast under which it ran.
    """

    cell: Cell
    inputs: Callable[[], Tensor]
    states: Callable[[], Tensor]
    h_0: Tensor
    steps: int
    lengths: Tensor | None
    reverse: bool
    program: Program | None
    precision: Precision = nullcontext

    def before(self, h: Tensor) -> Tensor:
        """The state before each step, from the states after them."""
        if not self.reverse:
            return self._valid(_delayed(self.h_0, h))
        delayed = _delayed(self.h_0, reverse(h, self.lengths))
        return self._valid(reverse(delayed, self.lengths))

    @property
    def mask(self) -> Tensor:
        """(batch, time), bool: False on padding."""
        time = torch.arange(self.steps, device=self.h_0.device)
        if self.lengths is None:
            return torch.ones(len(self.h_0), self.steps, dtype=torch.bool, device=time.device)
        return time < self.lengths.to(time.device)[:, None]

    def gates(self, x: Tensor, h_prev: Tensor) -> Gates:
        """r, z, n of these steps in the states' dtype, zero on padding."""
        with self.precision():
            found = gates(self.cell, x, h_prev, self.program)
        return Gates(*(self._valid(gate.to(h_prev.dtype)) for gate in found))

    def _valid(self, value: Tensor) -> Tensor:
        return value if self.lengths is None else value.masked_fill(~self.mask[..., None], 0)


def _delayed(h_0: Tensor, h: Tensor) -> Tensor:
    """`h` a step later, `h_0` before it; time first in memory, as the kernel leaves its output."""
    return torch.cat([h_0[None], h.transpose(0, 1)[:-1]]).transpose(0, 1)


def version(tensor: Tensor) -> int | None:
    """How often a tensor was changed in place; None where torch does not count."""
    return None if tensor.is_inference() else tensor._version
