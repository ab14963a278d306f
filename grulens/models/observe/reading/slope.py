"""How an observed cell's state moves the next one: by autograd, through its module's own step.

A run that was recorded with its graph holds each state as the tensor that the module handed on. So
the derivative of a state by the one before is what torch makes of it; nobody need know the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from grulens.errors import RecordingError
from grulens.models.observe.reading.segment import BEFORE, ObservedSegment

MEMORY = 2**28
"""Bytes of the directions that go back through a step side by side."""


def slope(segment: ObservedSegment, step: int, name: str) -> Float[Tensor, "batch state state"]:
    """The derivative of the state after a step by the state before it, each row by its own.

    Args:
        segment: steps of one cell, recorded with their graph.
        step: which of them.
        name: the layer's, for what is said.

    Returns:
        Row the number that is moved, column by which; of a cell that carries c, h and c side by
        side.

    Raises:
        RecordingError: the run has no graph, or the step begins with a state that is no part of it,
            or hands numbers of it on without it; or rows act on each other.
    """
    after = _states(segment, step)
    before = _states(segment, step - 1) if step else _first(segment)
    if before is None:
        raise RecordingError(
            f"the state before the first step of layer {name!r} is made outside of its steps and "
            "is no part of the run's graph: give the model a first state that requires gradients, "
            "or ask about a later step"
        )
    if not after[-1].requires_grad:
        raise RecordingError(
            f"the derivative of a step of layer {name!r}, which was observed, goes through its "
            f"module's own code, and {segment.no_graph}"
        )
    way = None
    if before[-1].requires_grad:
        (way,) = torch.autograd.grad(
            after[-1], before[-1], torch.ones_like(after[-1]), retain_graph=True, allow_unused=True
        )
    if way is None:
        raise RecordingError(
            f"the state of layer {name!r} is handed on without its graph (.detach(), .data, "
            f"torch.no_grad()) before step {step} of its call, so nothing can be differentiated "
            "through it"
        )
    if segment.cuts is not None and (where := segment.cuts.between(after, before)):
        raise RecordingError(
            f"numbers of the state of layer {name!r} go into the next one without their graph "
            f"({where}), at step {step} of its call, so the derivative of the step is none that "
            "autograd knows. Let the code take no such number: keep it out of torch.no_grad(), "
            ".detach() and .data. Where they cancel, as a largest number that is taken off, "
            "observed_step(model, ...).slope has it: that compares it with differences"
        )
    axis = segment.cell.axis
    check_rows(after, before, name, segment.spacing, axis)
    rows, sizes = _rows(after[0], axis), [_size(one, axis) for one in after]
    like, columns = after[-1], []
    at_once = max(1, MEMORY // (rows * sum(sizes) * like.element_size()))
    for number, size in enumerate(sizes):
        for begin in range(0, size, at_once):
            some = torch.eye(size, dtype=like.dtype, device=like.device)[begin : begin + at_once]
            given = [one.new_zeros(len(some), rows, n) for one, n in zip(after, sizes, strict=True)]
            given[number] += some[:, None]
            columns.append(_back(after, before, given, axis))
    return torch.cat(columns).transpose(0, 1)


def _states(segment: ObservedSegment, step: int) -> list[Tensor]:
    return [segment.read[name][step] for name in segment.cell.states]


def slopes(segment: ObservedSegment, name: str) -> Float64[Tensor, "batch time state state"]:
    """The derivatives of every step of a cell, of one that carries c of h and c side by side.

    Args:
        segment: its steps, recorded with their graph.
        name: the layer's.

    Returns:
        Each as `slope` gives it; NaN at a first step whose state is no part of the graph.

    Raises:
        RecordingError: as `slope`; or a state reaches a later one by another way than from step to
            step.
    """
    made = [slope(segment, step, name).double() for step in range(1, segment.steps)]
    if _first(segment) is None:
        state, size = segment.read[segment.cell.carried][0], segment.cell.state_size
        shape = _rows(state, segment.cell.axis), size, size
        first = state.new_full(shape, torch.nan, dtype=torch.double)
    else:
        first = slope(segment, 0, name).double()
    found = torch.stack([first, *made], 1)
    _check_products(segment, found, name)
    return found


def _first(segment: ObservedSegment) -> list[Tensor] | None:
    """The state before the first step, where the mix reads that itself and no part of it."""
    held, cell = segment.read, segment.cell
    after, read = held[cell.carried], held[BEFORE]
    itself = all(one is before for one, before in zip(after, read[1:], strict=False))
    known = len(cell.states) == 1 and len(after) > 1 and itself and read[0].requires_grad
    return [read[0]] if known else None


def _back(
    after: Sequence[Tensor], before: Sequence[Tensor], given: Sequence[Tensor], axis: int
) -> Float[Tensor, "direction batch state"]:
    """What directions of the state after a step, (direction, batch, unit) each, are before it."""
    found = pulled(after, before, given, axis)
    if len(before) > 1:
        # c before reaches the step by h before too: that way is h's own
        h, c = before
        found[1] = found[1] - pulled([h], [c], [found[0]], axis)[0]
    return torch.cat(found, 2)


def pulled(
    after: Sequence[Tensor], before: Sequence[Tensor], given: Sequence[Tensor], axis: int = 0
) -> list[Float[Tensor, "direction batch unit"]]:
    """The derivative of some tensors by others along directions, of all side by side if possible.

    Args:
        after: what is differentiated, each (batch, ...).
        before: by what.
        given: for each of `after` the directions (direction, batch, unit).
        axis: along which axis of each of them its rows lie.
    """
    pairs = [(one, way) for one, way in zip(after, given, strict=True) if one.requires_grad]
    ways = [
        way.reshape(len(way), *one.movedim(axis, 0).shape).movedim(1, axis + 1)
        for one, way in pairs
    ]
    outputs, count = [one for one, _ in pairs], len(given[0])
    asked = [one for one in before if one.requires_grad]

    def back(directions: Sequence[Tensor], batched: bool) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(
            outputs, asked, directions, retain_graph=True, allow_unused=True,
            is_grads_batched=batched,
        )  # fmt: skip

    if not pairs or not asked:
        return [one.new_zeros(count, _rows(one, axis), _size(one, axis)) for one in before]
    try:
        found = back(ways, True)
    except RuntimeError:  # a step may hold what torch cannot run for many directions at once
        each = [back([way[i] for way in ways], False) for i in range(count)]
        found = tuple(
            None if parts[0] is None else torch.stack([p for p in parts if p is not None])
            for parts in zip(*each, strict=True)
        )
    made = iter(found)
    every = [next(made) if one.requires_grad else None for one in before]
    return [
        one.new_zeros(count, _rows(one, axis), _size(one, axis))
        if part is None
        else part.detach().movedim(axis + 1, 1).reshape(count, _rows(one, axis), _size(one, axis))
        for one, part in zip(before, every, strict=True)
    ]


def _rows(state: Tensor, axis: int) -> int:
    """How many rows it has: one without a batch is one row."""
    return state.shape[axis] if state.dim() > 1 else 1


def _size(state: Tensor, axis: int) -> int:
    return math.prod(
        state.shape[:axis] + state.shape[axis + 1 :] if state.dim() > 1 else state.shape
    )


def check_rows(
    after: Sequence[Tensor], before: Sequence[Tensor], name: str, spacing: float, axis: int = 0
) -> None:
    """Raise where rows act on each other: a row's derivative would hold the others' too.

    Args:
        after: the states after a step.
        before: those before it.
        name: the layer's.
        spacing: the spacing of numbers at 1 in the coarsest dtype of the step.
        axis: along which axis of a state its rows lie.

    Rows are weighted, and must come back so. Powers of two pass any rounding as they are.
    """
    rows = _rows(after[0], axis)
    if rows == 1:
        return
    generator = torch.Generator().manual_seed(0)
    plain, scaled = [], []
    weight = 1 + torch.rand(rows, generator=generator, dtype=torch.double)
    finest = torch.finfo(torch.float32).eps
    if spacing > finest:
        weight = 2.0 ** (torch.randperm(rows, generator=generator) % 8).double()
    for one in after:
        way = torch.randn(rows, _size(one, axis), generator=generator, dtype=torch.double)
        plain.append(way[None].to(one))
        scaled.append((weight[:, None] * way)[None].to(one))
    pairs = (pulled(after, before, given, axis) for given in (plain, scaled))
    for one, other in zip(*pairs, strict=True):
        apart = (other - weight.to(one)[:, None] * one).abs().max()
        if float(apart) > min(finest, spacing) ** 0.5 * float(other.abs().max()):
            raise RecordingError(
                f"the rows of layer {name!r} act on each other (normalised over the batch, or "
                "nodes of one graph), so no row has a derivative of its own"
            )


def _check_products(segment: ObservedSegment, found: Tensor, name: str) -> None:
    """Raise unless the products of the steps are the derivatives of the last state."""
    steps = [_states(segment, step) for step in range(segment.steps)]
    if len(steps) < 3:
        return
    last, before = steps[-1], [one for states in steps[:-1] for one in states]
    generator = torch.Generator().manual_seed(0)
    way = torch.randn(len(found), found.shape[-1], generator=generator, dtype=torch.double)
    given = [part[None].to(one) for part, one in zip(way.chunk(len(last), 1), last, strict=True)]
    wanted = pulled(last, before, given, segment.cell.axis)
    held, eps = way.to(found), torch.finfo(last[-1].dtype).eps
    for step in range(len(steps) - 1, 0, -1):
        held = (held[:, None] @ found[:, step])[:, 0]
        whole = _with_h(held, steps[step - 1], segment.cell.axis)
        first = len(last) * (step - 1)
        for mine, one in zip(whole, wanted[first : first + len(last)], strict=True):
            other = one[0].double()
            least = segment.spacing**0.5 * float(other.abs().max()) + 64 * eps
            if float((mine - other).abs().max()) > least:
                raise _another_way(name)


def check_apart(segments: Sequence[ObservedSegment], name: str) -> None:
    """Raise where a state reaches one behind a step that began anew: no product goes there."""
    generator = torch.Generator().manual_seed(0)
    earlier: list[Tensor] = []
    begin = 0
    for segment in segments:
        own = [one for step in range(segment.steps) for one in _states(segment, step)]
        own = [one for one in own if one.requires_grad]
        ways = [torch.randn(one.shape, generator=generator).to(one) for one in own]
        if own and earlier:
            found = torch.autograd.grad(own, earlier, ways, retain_graph=True, allow_unused=True)
            if any(one is not None and bool(one.any()) for one in found):
                raise RecordingError(
                    f"layer {name!r} begins step {begin} with another state than that after step "
                    f"{begin - 1}, and what it makes from there on depends on earlier states all "
                    "the same, in another way than from step to step (as where a gate is made of "
                    "the state before a branch resets that), so products of its Jacobians are not "
                    "what they do"
                )
        earlier += own
        begin += segment.steps


def _another_way(name: str) -> RecordingError:
    return RecordingError(
        f"the states of layer {name!r} reach later ones in another way than from step to step (by "
        "another layer, or by what the model reads of older states), so products of its Jacobians "
        "are not what they do"
    )


def _with_h(held: Tensor, states: Sequence[Tensor], axis: int) -> list[Tensor]:
    """What reaches each state of a step, (batch, unit): c by the h that is made of it too."""
    parts = [*held.chunk(len(states), 1)]
    if len(states) > 1:
        h, c = states
        parts[1] = parts[1] + pulled([h], [c], [parts[0][None].to(h)], axis)[0][0].double()
    return parts
