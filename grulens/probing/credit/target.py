"""What is explained: a class, or one class against another, where a stack is read.

Such a score is a sum over states, and so can be shared out: a linear readout's weights, the units,
and the step at which each direction is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from grulens.errors import PositionError, ReadoutError, shown
from grulens.models.call.invocation import Given
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.record import record
from grulens.probing.credit.stack import Stack, check_dtype
from grulens.probing.edits import positions
from grulens.probing.readout.head import Head, head_for

Target = int | tuple[int, int]
"""A class; or a pair, a class and the one it is compared with."""
FINAL = "final"


class ClassScore:
    """The score of a class at a step, as the sum over states that it is.

    Args:
        stack: the stack whose top level is read.
        head: what reads it. What else that may read (another level, a feature of its own) is no
            part of the score.
        target: a class, or a class and the one it is compared with.
        step: where it is read; see `positions_read`.

    Attributes:
        stack: the stack.
        target: the class, or both.
        positions: where each direction is read, (batch,) by layer.
        directions: what the target reads of each direction's state (unit,), by layer.
        bias: the readout's bias, ().
        value: the whole score (batch,).

    Raises:
        ReadoutError: there is no such class.
        PositionError: there is no such step.
    """

    def __init__(self, stack: Stack, head: Head, target: Any, step: Any) -> None:
        self.stack = stack
        self.target: Target = check_target(target, len(head.bias))
        self.positions = positions_read(stack, step)
        states = {name: stack.states(name) for name in head.over(stack.top)}
        like = next(iter(states.values()))
        self.directions = {
            name: difference(weight, self.target).to(like)
            for name, weight in head.over(stack.top).items()
        }
        self.bias = difference(head.bias, self.target).to(like)
        self.value: Float[Tensor, " batch"] = self.of(states) + self.bias

    def shares(self, parts: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "*any batch unit"]]:
        """What each unit adds to the score, of parts of the states (*any, batch, time, unit)."""
        return {
            name: at(parts[name], self.positions[name]) * direction
            for name, direction in self.directions.items()
        }

    def of(self, parts: Mapping[str, Tensor]) -> Float[Tensor, "*any batch"]:
        """What parts of the states add to the score (*any, batch)."""
        return torch.stack([share.sum(-1) for share in self.shares(parts).values()]).sum(0)


def check_target(target: Any, classes: int) -> Target:
    """A target as an int, or a pair of them.

    Raises:
        ReadoutError: it is neither, or no such class.
    """
    pair = isinstance(target, tuple | list)
    numbers = target if pair else (target,)
    fits = len(numbers) == (2 if pair else 1) and all(
        isinstance(i, int) and not isinstance(i, bool) and -classes <= i < classes for i in numbers
    )
    if not fits:
        raise ReadoutError(
            f"target must be a class, or a pair (class, class it is compared with), of "
            f"0 to {classes - 1}; got {shown(target)}"
        )
    first, *other = (i % classes for i in numbers)
    return (first, other[0]) if other else first


def difference(values: Float[Tensor, klass * any], target: Target) -> Float[Tensor, "*any"]:
    """The values of a class, less those of the one it is compared with."""
    if isinstance(target, tuple):
        return values[target[0]] - values[target[1]]
    return values[target]


def positions_read(stack: Stack, step: Any) -> dict[str, Tensor]:
    """Where each direction of the top level is read, (batch,) positions.

    Args:
        stack: the stack.
        step: a position, negative from each row's end; or "final", each direction's own last
            state: the last position of a forward layer, the first of a reverse one.

    Raises:
        PositionError: there is no such step, or a row ends before it.
    """
    batch, steps = stack.mask.shape
    one_call = len(stack.calls) == 1
    ends = stack.mask.sum(1) if one_call else torch.full((batch,), steps)
    if isinstance(step, str) and step == FINAL:
        first = steps - stack.calls[-1][0][0].h.shape[1]
        return {
            part.layer: torch.full_like(ends, first) if part.reverse else ends - 1
            for part in stack.calls[-1][-1]
        }
    where = in_each_row(step, ends, steps, f"layer {stack.layer!r}")
    return dict.fromkeys(stack.top, where)


def in_each_row(step: Any, ends: Int[Tensor, " batch"], steps: int, of: str) -> Tensor:
    """The position (batch,) of a step in each row, which ends where `ends` says.

    Raises:
        PositionError: it is no int, or there is no such step, or a row ends before it.
    """
    place = positions.normal(step, "step")
    if not isinstance(place, int):
        raise PositionError(f'step must be an int or "{FINAL}", got {shown(step)}')
    positions.check(place, steps, "step", of)
    where = ends + place if place < 0 else torch.full_like(ends, place)
    for row, (found, end) in enumerate(zip(where.tolist(), ends.tolist(), strict=True)):
        if not 0 <= found < end:
            raise PositionError(f"step {place} is past row {row}, which has {end} steps")
    return where


def at(
    values: Float[Tensor, "*any batch time unit"], where: Tensor
) -> Float[Tensor, "*any batch unit"]:
    """The values at each row's own position (batch,)."""
    rows = torch.arange(len(where), device=values.device)
    return values[..., rows, where.to(values.device), :]


def class_logits(stack: Stack, head: Head, step: Any) -> Float[Tensor, "batch klass"]:
    """What the readout says of every class at a step; see `positions_read`."""
    where = positions_read(stack, step)
    parts = []
    for name, weight in head.over(stack.top).items():
        states = at(stack.states(name), where[name])
        parts.append(states @ weight.to(states).mT)
    return torch.stack(parts).sum(0) + head.bias.to(parts[0])


def stack_and_head(
    model: nn.Module,
    given: Given,
    layer: str | None,
    head: Any,
    dtype: Any,
    call: str | None = None,
) -> tuple[Stack, Head]:
    """Run a model once: the stack of the layer that is read, and what reads it.

    Args are those of `grulens.probing.readout.head.head_for`, and the dtype to compute in.
    """
    check_dtype(dtype)
    with as_it_was(model):
        recording = record(model, call=call, inputs=given)
    found = head_for(model, given, recording, layer, head, call)
    return Stack.of(model, recording, found.layer, dtype), found
