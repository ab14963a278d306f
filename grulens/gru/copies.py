"""Many runs of one cell side by side, which differ only in what is changed on their way.

A run alone multiplies a vector by the recurrent weights, step after step, and the processor waits
for memory. Runs of one model on one input share everything but their states: stacked, they make a
matrix product of every step, their input's product is done once, and until a run is first changed
it is the unedited run, whose states are known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

from grulens.gru.cell import Cell
from grulens.gru.stacked import Places, Stacked, act

QUICK_TANH = (torch.float32, torch.float64)


class Side:
    """The steps of one cell for rows (copy, batch): the formulas of `Cell`, in place.

    Args:
        cell: the cell.
        copies: at most so many runs.
        batch: rows of each.
        like: a tensor of the run's dtype and device.
    """

    def __init__(self, cell: Cell, copies: int, batch: int, like: Tensor) -> None:
        self.cell, self.batch, self.units = cell, batch, cell.hidden_size
        # the transpose, once and in one piece: 1.5 x faster per step than a view of it
        self.weight = cell.weight_hh.t().contiguous()
        self.gates = like.new_empty(copies * batch, 3 * self.units)
        self.n = like.new_empty(copies * batch, self.units)
        # torch's tanh on a processor costs 10 x its sigmoid; tanh(v) = 2 sigmoid(2 v) - 1
        quick = cell.candidate is torch.tanh and like.dtype in QUICK_TANH
        self.quick_tanh = quick and like.device.type == "cpu"

    def step(
        self, product: Tensor, h: Tensor, places: Sequence[Places], out: Tensor, copies: int
    ) -> None:
        """One step.

        Args:
            product: W_i x + b_i (copy or 1, batch, 3 unit).
            h: the state before it (copy or 1, batch, unit).
            places: what is changed; not yet the state itself.
            out: where the state after it goes (copy, batch, unit), in one piece of memory.
            copies: how many there are.
        """
        units, cell = self.units, self.cell
        rows = copies * self.batch
        flat, n_flat = self.gates[:rows], self.n[:rows]
        shape = (copies, self.batch, -1)
        r, z, recurrent_n = torch.split(flat.view(shape), units, 2)
        rz, n = flat.view(shape)[..., : 2 * units], n_flat.view(shape)
        self._recurrent(h, flat, copies, slice(None if cell.reset_after else 2 * units))
        rz.add_(product[..., : 2 * units])
        memory = flat.view(-1)
        act(places, memory, ("r", True), ("z", True))
        if cell.gate is torch.sigmoid:
            rz.sigmoid_()
        else:
            rz.copy_(cell.gate(rz))
        act(places, memory, ("r", False), ("z", False))
        if cell.reset_after:
            torch.addcmul(product[..., 2 * units :], r, recurrent_n, out=n)
        else:
            product_n = torch.mm((r * h).view(rows, units), self.weight[:, 2 * units :])
            torch.add(product_n.view(shape), product[..., 2 * units :], out=n)
            if cell.bias_hh is not None:
                n.add_(cell.bias_hh[2 * units :])
        act(places, n_flat.view(-1), ("n", True))
        if self.quick_tanh:
            n_flat.mul_(2).sigmoid_().mul_(2).sub_(1)
        elif cell.candidate is torch.tanh:
            n_flat.tanh_()
        else:
            n_flat.copy_(cell.candidate(n_flat))
        act(places, n_flat.view(-1), ("n", False))
        torch.lerp(n, h.expand_as(n), z, out=out)

    def _recurrent(self, h: Tensor, out: Tensor, copies: int, part: slice) -> None:
        """W_hh h + b_hh; done once where all copies have one state."""
        weight, bias = self.weight[:, part], self.cell.bias_hh
        rows = h.reshape(-1, self.units)
        shared = len(h) < copies or part.stop is not None
        into = None if shared else out
        if bias is None:
            product = torch.mm(rows, weight, out=into)
        else:
            product = torch.addmm(bias[part], rows, weight, out=into)
        if shared:
            spread = out.view(copies, self.batch, -1)[..., part]
            spread.copy_(product.view(-1, self.batch, product.shape[1]))


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
    states = x.new_empty(steps, side.batch, copies, side.units)
    x, h = _by_copy(x, side.batch), _by_copy(h_0, side.batch)
    firsts = [0 if known is None else first - start for first in changes.first]
    begin = min(max(0, firsts[0]), steps)
    products = linear(x[:, :, begin:], side.cell.weight_ih, side.cell.bias_ih)
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
            if not active and known is not None:
                h = h if t == 0 else known[:, t - 1][None]
            elif active < computed:
                # those that join were the unedited run until now
                h = states[t - 1].transpose(0, 1)[:computed].contiguous()
            places = changes.at(start + t)
            side.step(products[:, :, t - begin], h, places, out[:computed], computed)
            if lengths is not None:
                over = (start + t >= lengths)[:, None]
                out[:computed] = torch.where(over, h, out[:computed])
        if known is not None and computed < ready and out.data_ptr() != target.data_ptr():
            out[computed:] = known[:, t]
        changes.act_on_h(start + t, out)
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
    states = x.new_empty(x.shape[1], side.batch, changes.copies, side.units)
    buffer = x.new_empty(changes.copies, side.batch, side.units)
    products = None
    if not changes.only_h:
        products = linear(x, side.cell.weight_ih, side.cell.bias_ih)
    for t in range(x.shape[1]):
        target = states[t].transpose(0, 1)
        places = changes.at(start + t)
        if not places:
            target[:] = known[:, t]
            continue
        out = _in_one_piece(target, changes.copies, buffer)
        if products is None:
            out[:] = known[:, t]
        else:
            side.step(products[None, :, t], h_prev[None, :, t], places, out, changes.copies)
        changes.act_on_h(start + t, out)
        if out.data_ptr() != target.data_ptr():
            target[:] = out
    return states


def _in_one_piece(target: Tensor, copies: int, buffer: Tensor) -> Tensor:
    part = target[:copies]
    return part if part.is_contiguous() else buffer[:copies]


def _by_copy(rows: Tensor, batch: int) -> Tensor:
    """Rows (batch and copy) as (copy, batch); those that all copies share as (1, batch)."""
    return rows.reshape(batch, -1, *rows.shape[1:]).transpose(0, 1)
