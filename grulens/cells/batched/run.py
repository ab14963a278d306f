"""Many runs of one cell side by side, which differ only in what is changed on their way.

A run alone multiplies a vector by the recurrent weights, step after step, and the processor waits
for memory. Runs of one model on one input share everything but their states: stacked, they make a
matrix product of every step, their input's product is done once, and until a run is first changed
it is the unedited run, whose states are known.
"""

from __future__ import annotations

from bisect import bisect_right

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grulens.cells.batched.changes import Stacked
from grulens.cells.batched.steps import Side


def edited(
    side: Side,
    x: Float[Tensor, "rows time input"],
    h_0: Float[Tensor, "rows unit"],
    changes: Stacked,
    *,
    known: Float[Tensor, "batch time unit"] | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
    start: int = 0,
) -> Float[Tensor, "time batch copy unit"]:
    """The states of all copies, each with its changes inside the recurrence.

    Args:
        side: the cell's steps.
        x: input in the order in which the cell reads it; (batch, time, input) if all copies share
            it, else its rows are (batch and copy).
        h_0: state before the first step; (batch, unit) if all copies share it, else rows as `x`.
        changes: what each copy changes; copies stand in the order of their first touched step.
        known: the states of the unedited run, if no copy is touched before `start`.
        lengths: (batch,) how far each row goes, or None.
        start: the step of the run at which `x` begins.
    """
    steps, copies = x.shape[1], changes.copies
    states = side.room.empty((steps, side.batch, copies, side.units), x)
    x, h = _by_copy(x, side.batch), _by_copy(h_0, side.batch)
    firsts = [0 if known is None else first - start for first in changes.first]
    begin = min(max(0, firsts[0]), steps)
    inputs = side.inputs(x[:, :, begin:])
    buffers = [x.new_empty(copies, side.batch, side.units) for _ in range(2)]
    active = 0  # so many copies, the first ones, have been touched
    for t in range(steps):
        target = states[t].transpose(0, 1)
        ready = bisect_right(firsts, t)
        # a state that is changed for the first time is known up to its change
        computed = active if changes.only_h and known is not None else ready
        if known is not None and computed < copies:
            target[computed:] = known[:, t]
        if not ready:
            continue
        out = _in_one_piece(target, ready, buffers[t % 2])
        if computed:
            if known is not None and not active:
                h = h if t == 0 else known[:, t - 1][None]
            elif known is not None and active < computed:
                # those that join were the unedited run until now
                h = states[t - 1].transpose(0, 1)[:computed].contiguous()
            places = changes.at(start + t)
            side.step(inputs[t - begin], h, places, out[:computed], computed)
            if lengths is not None:
                over = (start + t >= lengths)[:, None]
                out[:computed] = torch.where(over, h, out[:computed])
        if known is not None and computed < ready and out.data_ptr() != target.data_ptr():
            out[computed:] = known[:, t]
        changes.act_on_h(start + t, out.view(-1))
        if out.data_ptr() != target.data_ptr():
            target[:ready] = out
        h, active = out, ready
    return states


def direct(
    side: Side,
    x: Float[Tensor, "batch time input"],
    h_prev: Float[Tensor, "batch time unit"],
    known: Float[Tensor, "batch time unit"],
    changes: Stacked,
    *,
    start: int = 0,
) -> Float[Tensor, "time batch copy unit"]:
    """The states of all copies when every step starts from the unedited run's state before it.

    Args:
        side: the cell's steps.
        x: the unedited run's input at these steps, at the positions of the sequence.
        h_prev: its states before them.
        known: its states after them.
        changes: what each copy changes, by position.
        start: the position of the first of these steps.
    """
    batch, copies = side.batch, changes.copies
    states = side.room.empty((x.shape[1], batch, copies, side.units), x)
    if changes.only_h:
        states[:] = known.transpose(0, 1)[:, :, None]
        for t, state in enumerate(states.flatten(1)):
            changes.act_on_h(start + t, state, copies_inside=True)
        return states
    buffer = x.new_empty(copies, batch, side.units)
    inputs = side.inputs(x[None])
    for t in range(x.shape[1]):
        target = states[t].transpose(0, 1)
        places = changes.at(start + t)
        if not places:
            target[:] = known[:, t]
            continue
        out = _in_one_piece(target, copies, buffer)
        side.step(inputs[t], h_prev[None, :, t], places, out, copies)
        changes.act_on_h(start + t, out.view(-1))
        if out.data_ptr() != target.data_ptr():
            target[:] = out
    return states


def _in_one_piece(target: Tensor, copies: int, buffer: Tensor) -> Tensor:
    part = target[:copies]
    return part if part.is_contiguous() else buffer[:copies]


def _by_copy(rows: Tensor, batch: int) -> Tensor:
    """Rows (batch and copy) as (copy, batch); those that all copies share as (1, batch)."""
    return rows.reshape(batch, -1, *rows.shape[1:]).transpose(0, 1)
