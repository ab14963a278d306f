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
from grulens.cells.batched.steps import Steps


def edited(
    runner: Steps,
    x: Float[Tensor, "rows time input"],
    state_0: Float[Tensor, "rows state"],
    changes: Stacked,
    *,
    known: Float[Tensor, "batch time state"] | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
    start: int = 0,
) -> Float[Tensor, "time batch copy state"]:
    """The states of all copies, each with its changes inside the recurrence.

    Args:
        runner: the cell's steps.
        x: input in the order in which the cell reads it; (batch, time, input) if all copies share
            it, else its rows are (batch and copy).
        state_0: state before the first step; (batch, state) if all copies share it, else rows as
            `x`.
        changes: what each copy changes; copies stand in the order of their first touched step.
        known: the states of the unedited run, if no copy is touched before `start`.
        lengths: (batch,) how far each row goes, or None.
        start: the step of the run at which `x` begins.
    """
    steps, copies = x.shape[1], changes.copies
    width = state_0.shape[1]
    states = x.new_empty(steps, runner.batch, copies, width)
    changes.lie(runner.lies)
    x, h = _by_copy(x, runner.batch), _by_copy(state_0, runner.batch)
    firsts = [0 if known is None else first - start for first in changes.first]
    begin = min(max(0, firsts[0]), steps)
    inputs = runner.inputs(x[:, :, begin:])
    buffers = [x.new_empty(copies, runner.batch, width) for _ in range(2)]
    active = 0  # so many copies, the first ones, have been touched
    targets = states.transpose(1, 2).unbind(0)
    for t, target in enumerate(targets):
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
                h = targets[t - 1][:computed].contiguous()
            places = () if changes.only_h else changes.at(start + t)
            runner.step(inputs[t - begin], h, places, out[:computed], computed)
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
    runner: Steps,
    x: Float[Tensor, "batch time input"],
    state: Float[Tensor, "batch time state"],
    known: Float[Tensor, "batch time state"],
    changes: Stacked,
    *,
    start: int = 0,
) -> Float[Tensor, "time batch copy state"]:
    """The states of all copies when every step starts from the unedited run's state before it.

    Args:
        runner: the cell's steps.
        x: the unedited run's input at these steps, at the positions of the sequence.
        state: its states before them.
        known: its states after them.
        changes: what each copy changes, by position.
        start: the position of the first of these steps.
    """
    batch, copies, width = runner.batch, changes.copies, state.shape[2]
    states = x.new_empty(x.shape[1], batch, copies, width)
    changes.lie(runner.lies)
    if changes.only_h:
        states[:] = known.transpose(0, 1)[:, :, None]
        for t, after in enumerate(states.flatten(1)):
            changes.act_on_h(start + t, after, copies_inside=True)
        return states
    buffer = x.new_empty(copies, batch, width)
    inputs = runner.inputs(x[None])
    for t in range(x.shape[1]):
        target = states[t].transpose(0, 1)
        places = changes.at(start + t)
        if not places:
            target[:] = known[:, t]
            continue
        out = _in_one_piece(target, copies, buffer)
        runner.step(inputs[t], state[None, :, t], places, out, copies)
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
