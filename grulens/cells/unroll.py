"""A run of a cell over time, step by step where something is changed, fused where nothing is.

torch's fused kernel is the fastest way through a sequence and takes no changes. So a changed run
is the kernel up to the first changed step, a loop as far as the last one, and the kernel again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grulens.cells.cell import RecurrentCell
from grulens.cells.changes import Program
from grulens.errors import CellError

BLOCK_ROWS = 4096


class Ran(NamedTuple):
    """A run.

    Attributes:
        h: the output after each step (batch, time, unit). Past its end a row keeps its last one.
        state: the state after each row's last step (batch, state).
    """

    h: Tensor
    state: Tensor


def run(
    cell: RecurrentCell,
    x: Float[Tensor, "batch time input"],
    state: Float[Tensor, "batch state"],
    program: Program | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
) -> Ran:
    """A run, by the quickest exact way.

    Args:
        cell: the cell.
        x: input (batch, time, input), in the order in which the cell reads it.
        state: state before the first step (batch, state).
        program: what is changed on the way, or None.
        lengths: (batch,), int64: how far each row goes; None when all are full.

    >>> from grulens.cells.kinds.gru import Cell
    >>> cell = Cell(torch.zeros(3, 1), torch.zeros(3, 1), None, None)      # z = 1/2, n = 0
    >>> run(cell, torch.zeros(1, 3, 1), torch.ones(1, 1)).h.flatten()
    tensor([0.5000, 0.2500, 0.1250])
    """
    steps = x.shape[1]
    # the kernel runs on past the end of a short row, and what it keeps beside h is lost
    if not cell.is_torch or (lengths is not None and len(cell.states) > 1):
        return unroll(cell, x, state, program, lengths=lengths)
    first = steps if program is None else program.first
    stop = steps if program is None else program.stop
    parts = []

    def by_kernel(begin: int, end: int) -> None:
        nonlocal state
        h, last = fused(cell, x[:, begin:end], state)
        if lengths is not None:
            h = _keep_last_states(h, state, lengths, begin)
            last = h[:, -1]
        parts.append(h)
        state = last

    if first:
        by_kernel(0, first)
    if first < stop:
        ran = unroll(cell, x[:, first:stop], state, program, lengths=lengths, start=first)
        parts.append(ran.h)
        state = ran.state
    if stop < steps:
        by_kernel(stop, steps)
    return Ran(parts[0] if len(parts) == 1 else torch.cat(parts, 1), state)


def fused(
    cell: RecurrentCell, x: Float[Tensor, "batch time input"], state: Float[Tensor, "batch state"]
) -> Ran:
    """A run by torch's own kernel, for a cell with torch's convention."""
    # cuDNN has a backward only for what it ran as training
    h, last = cell.fused(x.transpose(0, 1), None, state[None], [cell], torch.is_grad_enabled())
    return Ran(h.transpose(0, 1), last[0])


def unroll(
    cell: RecurrentCell,
    x: Float[Tensor, "batch time input"],
    state: Float[Tensor, "batch state"],
    program: Program | None = None,
    *,
    lengths: Int[Tensor, " batch"] | None = None,
    start: int = 0,
) -> Ran:
    """A run, one step after another; arguments as `run`.

    Args:
        cell: the cell, of any convention.
        x: input (batch, time, input).
        state: state before the first of these steps (batch, state).
        program: what is changed, or None.
        lengths: row lengths in steps of the whole run, or None.
        start: the step of the run (of `program` and `lengths`) at which `x` begins.
    """
    batch, steps, _ = x.shape
    cell, units = cell.by_columns, cell.hidden_size
    states: list[Tensor] = []
    block = max(1, BLOCK_ROWS // max(1, batch))
    state = state[:, None]
    for begin in range(0, steps, block):
        # the input's product does not wait for the state: one product for many steps
        products = cell.project(x[:, begin : begin + block].transpose(0, 1))
        for offset, product in enumerate(products.unbind(0)):
            t = start + begin + offset
            if program is not None and not states:
                new = _first(cell, product[:, None], state, program, t)
            else:
                edit = None if program is None else program.edit(t)
                new = cell.step(product[:, None], state, edit)
            if lengths is not None:
                new = torch.where((t < lengths)[:, None, None], new, state)
            state = new
            states.append(state)
    # time first in memory, as the kernel leaves its output
    h = torch.stack(states)[:, :, 0, :units].transpose(0, 1)
    return Ran(h, state[:, 0])


def _first(
    cell: RecurrentCell, product: Tensor, state: Tensor, program: Program, t: int
) -> Float[Tensor, "batch 1 state"]:
    """A step that is looked at: does it ask the program for all that this changes?

    Raises:
        CellError: it does not, so an edit would be none.
    """
    edit, asked = program.edit(t), set[tuple[str, bool]]()

    def seen(name: str, value: Tensor, before: bool) -> Tensor:
        asked.add((name, before))
        return edit(name, value, before)

    new = cell.step(product, state, seen)
    for name, before in sorted(program.asked - asked):
        way = "before its activation" if before else "once it is made"
        raise CellError(
            f"`compute` of {type(cell).__name__} does not let {name!r} be edited {way}: give each "
            "signal by `activated(name, pre, activation, edit)`, or by `edit(name, value, False)`"
        )
    return new


def _keep_last_states(
    h: Float[Tensor, "batch time unit"],
    h_0: Float[Tensor, "batch unit"],
    lengths: Int[Tensor, " batch"],
    start: int,
) -> Float[Tensor, "batch time unit"]:
    """`h` of steps `start`..., where rows that end on the way keep their last state."""
    time = torch.arange(h.shape[1], device=h.device)
    last = (lengths.to(h.device) - start - 1)[:, None]
    index = torch.minimum(time, last.clamp(min=0))
    held = h.gather(1, index[..., None].expand(-1, -1, h.shape[2]))
    return torch.where((last < 0)[..., None], h_0[:, None], held)
