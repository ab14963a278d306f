"""One observed cell in one run: what was read of it, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grulens.cells.changes import Program
from grulens.cells.observed import ObservedCell

BEFORE, MIX, READ = "h_prev", "its mix", "its state before, as the mix reads it"
"""What is read of a cell besides its signals. The last two are no signals' names."""
ROUNDING = 16
"""How many times the spacing of numbers a step may be off the equation that it obeys."""
BLOCK = 1 << 16
"""How many numbers of a signal are compared at a time: what fits into the cache."""


@dataclass(frozen=True, eq=False)
class ObservedSegment:
    """Consecutive steps of one observed cell, with one number of rows.

    Attributes:
        cell: what is known of it.
        read: what was read, by signal, a tensor a step in the shape that it had in the code; after
            edits, but for the mix.
        program: what edits changed, or None.
    """

    cell: ObservedCell
    read: Mapping[str, Sequence[Tensor]]
    program: Program | None = None

    reverse = False
    lengths = None
    node = None
    moved = False

    @property
    def h_0(self) -> Float[Tensor, "batch unit"]:
        """The state before its first step."""
        return self.value(BEFORE, slice(0, 1))[:, 0]

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return len(self.read[BEFORE])

    @property
    def mask(self) -> Bool[Tensor, "batch time"]:
        """All True: what a row's own end is, only its model knows."""
        state = self.read[self.cell.carried][0]
        return torch.ones(len(state), self.steps, dtype=torch.bool, device=state.device)

    def value(self, name: str, steps: slice = slice(None)) -> Float[Tensor, "batch time unit"]:
        """A signal, or what else was read, of some steps."""
        values = self.read[name][steps]
        like = self.read[self.cell.carried][steps]
        pairs = list(zip(values, like, strict=True))
        if not all(one.shape == state.shape and one.dtype is state.dtype for one, state in pairs):
            values = [_full(one, state) for one, state in pairs]
        return torch.stack(list(values), 1).flatten(2)

    @property
    def _spacing(self) -> float:
        """The spacing of numbers at 1, of the coarsest dtype that was read: autocast mixes them."""
        dtypes = {values[0].dtype for values in self.read.values() if len(values)}
        return max(torch.finfo(one).eps for one in dtypes if one.is_floating_point)

    def errors(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """How far the mix is from what its signals make, a block of steps at a time.

        Returns:
            The number of the first step, the distance, and the distance that rounding explains;
            both (batch, time, unit).
        """
        state = self.read[self.cell.carried][0]
        size = max(1, BLOCK // max(1, state.numel()))
        needed = (*self.cell.form.keep.symbols, *self.cell.form.write.symbols)
        for start in range(0, self.steps, size):
            steps = slice(start, start + size)
            values = {name: self.value(name, steps) for name in needed}
            before = self.value(READ if READ in self.read else BEFORE, steps)
            mix = self.value(MIX if MIX in self.read else self.cell.carried, steps)
            error = (self.cell.mixed(values, before) - mix).abs_()
            allowed = ROUNDING * self._spacing
            if not bool((error <= allowed).all()):
                scale = torch.maximum(self.cell.size(values, before), mix.abs())
                # where the state itself is no number, nothing can be said of it
                error = error.masked_fill(~mix.isfinite(), 0).nan_to_num(float("inf"))
                yield start, error, allowed * scale.clamp(min=1)
            else:
                yield start, error, error.new_full((), allowed)


def _full(value: Tensor, state: Tensor) -> Tensor:
    """A value of one step in the shape and dtype of the state."""
    shaped = value.reshape(state.shape) if value.numel() == state.numel() else value
    return shaped.to(state.dtype).expand(state.shape)
