"""One observed cell in one run: what was read of it, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grulens.cells.changes import Program
from grulens.cells.observed import ObservedCell
from grulens.errors import RecordingError

BEFORE, MIX, READ = "h_prev", "its mix", "its state before, as the mix reads it"
"""What is read of a cell besides its signals. The last two are no signals' names."""
BLOCK = 1 << 14
"""How many numbers of a signal are compared at a time, at least."""
ROUNDING = 16
"""How many times the spacing of numbers a step may be off the equation that it obeys."""


@dataclass(frozen=True, eq=False)
class ObservedSegment:
    """Consecutive steps of one observed cell, with one number of rows.

    Attributes:
        cell: what is known of it.
        read: what was read, by signal, a tensor a step in the shape that it had in the code; after
            edits, but for the mix.
        program: what edits changed, or None.
        writes: by signal, how many writes torch had counted to each tensor when the run was over;
            empty of what nobody else holds.
    """

    cell: ObservedCell
    read: Mapping[str, Sequence[Tensor]]
    program: Program | None = None
    writes: Mapping[str, Sequence[int | None]] = field(default_factory=dict)

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
        rows = len(state) if state.dim() > 1 else 1
        return torch.ones(rows, self.steps, dtype=torch.bool, device=state.device)

    def value(self, name: str, steps: slice = slice(None)) -> Float[Tensor, "batch time unit"]:
        """A signal, or what else was read, of some steps."""
        values = self._full(name, steps)
        if values[0].dim() == 1:  # a state without a batch is one row
            return torch.stack(values)[None]
        return torch.stack(values, 1).flatten(2)

    def _full(self, name: str, steps: slice) -> list[Tensor]:
        """What was read in some steps, each in the shape and dtype of its state.

        Raises:
            RecordingError: one of them was written over since the run.
        """
        self._check_writes(name)
        pairs = zip(self.read[name][steps], self.read[self.cell.carried][steps], strict=True)
        return [
            one if one.shape == state.shape and one.dtype is state.dtype else full_value(one, state)
            for one, state in pairs
        ]

    def _check_writes(self, name: str) -> None:
        then = self.writes.get(name, ())
        for step, (value, many) in enumerate(zip(self.read[name], then, strict=False)):
            if many is not None and value._version != many:
                raise RecordingError(
                    f"{name} of step {step} was written over after the run: what the model "
                    "returned, or holds, shares its memory with the recording. Read its signals "
                    "before that, or write to a copy"
                )

    @property
    def spacing(self) -> float:
        """The spacing of numbers at 1, of the coarsest dtype that was read: autocast mixes them."""
        dtypes = {values[0].dtype for values in self.read.values() if len(values)}
        return max(torch.finfo(one).eps for one in dtypes if one.is_floating_point)

    @property
    def errors(self) -> Float[Tensor, " time"]:
        """The largest difference of each step's mix from what its signals make."""
        with_one = self.read[self.cell.carried][0].numel()
        # large states step by step, as they lie in the cache; small ones many steps at a time
        size = max(1, BLOCK // max(1, with_one))
        found = [
            self._error(slice(start, start + size)).flatten(1).amax(1)
            for start in range(0, self.steps, size)
        ]
        return torch.cat(found)

    def _error(self, steps: slice) -> Tensor:
        mix = self._read(MIX if MIX in self.read else self.cell.carried, steps)
        return self.cell.mixed(*self._of(steps)).sub_(mix).abs_()

    def _of(self, steps: slice) -> tuple[dict[str, Tensor], Tensor]:
        """The signals of steps that stand in the mix, and the state before as the mix reads it."""
        values = {name: self._read(name, steps) for name in self.cell.form.symbols}
        return values, self._read(READ if READ in self.read else BEFORE, steps)

    def _read(self, name: str, steps: slice) -> Tensor:
        """What was read in some steps, (time, ...) in the shape of the state."""
        full = self._full(name, steps)
        return full[0][None] if len(full) == 1 else torch.stack(full)

    def off(self) -> tuple[int, float] | None:
        """The first step that is off the equation by more than rounding, and by how much."""
        errors, allowed = self.errors, ROUNDING * self.spacing
        for step in (~(errors <= allowed)).nonzero().flatten().tolist():
            steps = slice(step, step + 1)
            mix = self._read(MIX if MIX in self.read else self.cell.carried, steps)
            size = torch.maximum(self.cell.size(*self._of(steps)), mix.abs()).clamp(min=1)
            # where the state itself is no number, nothing can be said of it
            error = self._error(steps).masked_fill(~mix.isfinite(), 0).nan_to_num(float("inf"))
            if bool((error > allowed * size).any()):
                return step, float(error.max())
        return None


def full_value(value: Tensor, state: Tensor) -> Tensor:
    """A value of one step in the shape and dtype of the state."""
    shaped = value.reshape(state.shape) if value.numel() == state.numel() else value
    return shaped.to(state.dtype).expand(state.shape)
