"""One observed cell in one run: what was read of it, step by step."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grulens.cells.changes import Program
from grulens.cells.observed import ObservedCell
from grulens.errors import RecordingError
from grulens.models.observe.reading.cuts import Cuts

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
        left_out: of each round of its loop in which no state was made, before which of its steps
            that was; None where the rounds could not be counted.
        within: whether its first step ran in the call in which the step before it ran.
        no_graph: why its states are no part of autograd's graph, in words; empty if they are.
        cuts: where the run handed numbers on without its graph; None if it kept none.
    """

    cell: ObservedCell
    read: Mapping[str, Sequence[Tensor]]
    program: Program | None = None
    writes: Mapping[str, Sequence[int | None]] = field(default_factory=dict)
    left_out: tuple[int, ...] | None = ()
    within: bool = False
    no_graph: str = ""
    cuts: Cuts | None = None

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
        rows = state.shape[self.cell.axis] if state.dim() > 1 else 1
        return torch.ones(rows, self.steps, dtype=torch.bool, device=state.device)

    def value(self, name: str, steps: slice = slice(None)) -> Float[Tensor, "batch time unit"]:
        """A signal, or what else was read, of some steps."""
        if self.read[self.cell.carried][0].dim() == 1:  # a state without a batch is one row
            return self._read(name, steps)[None]
        if axis := self.cell.axis:
            return self._read(name, steps).movedim(axis + 1, 0).flatten(2)
        return self._stacked(name, steps, 1).flatten(2)

    def _stacked(self, name: str, steps: slice, axis: int) -> Tensor:
        """What was read in some steps side by side, each in the shape and dtype of its state.

        Raises:
            RecordingError: one of them was written over since the run.
        """
        self._check_writes(name)
        values, states = self.read[name][steps], self.read[self.cell.carried][steps]
        if len(values) == 1:
            return full_value(values[0], states[0]).unsqueeze(axis)
        # their shapes are others than each other's, or have fewer axes
        with suppress(RuntimeError, IndexError):
            side_by_side = torch.stack([*values], axis)
            if side_by_side.dtype is states[0].dtype and values[0].shape == states[0].shape:
                return side_by_side
        pairs = zip(values, states, strict=True)
        return torch.stack([full_value(one, state) for one, state in pairs], axis)

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
        states, before = self.read[self.cell.carried], self.read[BEFORE]
        with_one = states[0].numel()
        # large states step by step, as they lie in the cache; small ones many steps at a time
        size = max(1, BLOCK // max(1, with_one))
        # most steps read the very state that the one before made: it is laid side by side once
        itself = not {MIX, READ} & self.read.keys() and all(map(operator.is_, before[1:], states))
        found = [
            self._error(slice(start, start + size), itself).flatten(1).amax(1)
            for start in range(0, self.steps, size)
        ]
        return torch.cat(found)

    def _error(self, steps: slice, itself: bool = False) -> Tensor:
        states = self.read[self.cell.carried][steps]
        if itself and len(states) > 1:
            first = full_value(self.read[BEFORE][steps.start], states[0])
            every = torch.stack([first, *states])
            before, mix = every[:-1], every[1:]
        else:
            before, mix = self._before(steps), self._mix(steps)
        return self.cell.mixed(self._values(steps), before).sub_(mix).abs_()

    def _values(self, steps: slice) -> dict[str, Tensor]:
        """The signals of steps that stand in the mix."""
        return {name: self._read(name, steps) for name in self.cell.form.symbols}

    def _before(self, steps: slice) -> Tensor:
        """The state before steps, as the mix reads it."""
        return self._read(READ if READ in self.read else BEFORE, steps)

    def _mix(self, steps: slice) -> Tensor:
        return self._read(MIX if MIX in self.read else self.cell.carried, steps)

    def _read(self, name: str, steps: slice) -> Tensor:
        """What was read in some steps, (time, ...) in the shape of the state."""
        return self._stacked(name, steps, 0)

    def off(self) -> tuple[int, float] | None:
        """The first step that is off the equation by more than rounding, and by how much."""
        errors, allowed = self.errors, ROUNDING * self.spacing
        for step in (~(errors <= allowed)).nonzero().flatten().tolist():
            steps = slice(step, step + 1)
            mix = self._mix(steps)
            added = self.cell.size(self._values(steps), self._before(steps))
            size = torch.maximum(added, mix.abs()).clamp(min=1)
            # where the state itself is no number, nothing can be said of it
            error = self._error(steps).masked_fill(~mix.isfinite(), 0).nan_to_num(float("inf"))
            if bool((error > allowed * size).any()):
                return step, float(error.max())
        return None


def full_value(value: Tensor, state: Tensor) -> Tensor:
    """A value of one step in the shape and dtype of the state."""
    if value.shape == state.shape and value.dtype is state.dtype:
        return value
    shaped = value.reshape(state.shape) if value.numel() == state.numel() else value
    return shaped.to(state.dtype).expand(state.shape)
