"""The GRU's steps in place: many copies of a run, step by step.

What a step costs beside its matrix product is passes over memory; so there is one piece of memory
for the gates of all rows, every formula writes into it, and it stays in the cache. `Cell.terms` is
the same in plain words, and the two are held equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from grulens.cells.batched.changes import Places, act


class Input(NamedTuple):
    """What the input adds to one step.

    Attributes:
        bias: (3 unit,) or, if the reset gate acts before the product, (2 unit,): what is added to
            every row of the recurrent product; with one row for all copies that is all there is of
            r and z, for the matrix product adds it at no cost.
        rz: (copy or 1, batch, 2 unit): what else is added to r and z; None if nothing.
        n: (copy or 1, batch, unit): what is added to n.
    """

    bias: Tensor | None
    rz: Tensor | None
    n: Tensor


class _Views(NamedTuple):
    """The memory of one step for so many copies, in all the shapes in which it is used."""

    gates: Tensor
    rz: Tensor
    r: Tensor
    z: Tensor
    recurrent_n: Tensor
    n: Tensor
    n_rows: Tensor


class GRUSteps:
    """The steps of one cell for rows (copy, batch): the formulas of `Cell`, in place.

    Args:
        cell: the cell.
        copies: at most so many runs.
        batch: rows of each.
        like: a tensor of the run's dtype and device.
    """

    def __init__(self, cell: Any, copies: int, batch: int, like: Tensor) -> None:
        self.cell, self.batch, self.units = cell, batch, cell.hidden_size
        # the transposes, once and in one piece: 1.5 x faster per step than views
        weight, first = cell.weight_hh.t(), 2 * self.units
        self.weight = (weight if cell.reset_after else weight[:, :first]).contiguous()
        self.weight_n = weight[:, first:].contiguous()
        self._gates = like.new_empty(copies * batch, 3 * self.units)
        self._n = like.new_empty(copies * batch, self.units)
        self._views: tuple[int, _Views] = copies, self._seen(copies)

    def lies(self, signal: str) -> tuple[int, int]:
        if signal == "r":
            return 3 * self.units, 0
        if signal == "z":
            return 3 * self.units, self.units
        return self.units, 0

    def inputs(self, x: Float[Tensor, "copy batch time input"]) -> list[Input]:
        cell, first = self.cell, 2 * self.units
        products = linear(x, cell.weight_ih, cell.bias_ih)
        bias = cell.bias_hh
        if not cell.reset_after and bias is not None:
            products[..., first:] += bias[first:]
            bias = bias[:first]
        n = products[..., first:].unbind(2)
        rz = products[..., :first].unbind(2)
        if products.shape[:2] != (1, 1):
            return [Input(bias, *pair) for pair in zip(rz, n, strict=True)]
        added = products[0, 0].clone() if cell.reset_after else products[0, 0, :, :first].clone()
        added[:, first:] = 0
        if bias is not None:
            added += bias
        return [Input(row, None, part) for row, part in zip(added.unbind(0), n, strict=True)]

    def step(
        self, given: Input, state: Tensor, places: Sequence[Places], out: Tensor, copies: int
    ) -> None:
        cell, h = self.cell, state
        if self._views[0] != copies:
            self._views = copies, self._seen(copies)
        gates, rz, r, z, recurrent_n, n, n_rows = self._views[1]
        self._recurrent(given, h, copies)
        if given.rz is not None:
            rz.add_(given.rz)
        act(places, gates, ("r", True), ("z", True))
        if cell.gate is torch.sigmoid:
            rz.sigmoid_()
        else:
            rz.copy_(cell.gate(rz))
        act(places, gates, ("r", False), ("z", False))
        if cell.reset_after:
            torch.addcmul(given.n, r, recurrent_n, out=n)
        else:
            torch.mm((r * h).view(n_rows.shape), self.weight_n, out=n_rows)
            n.add_(given.n)
        act(places, n_rows, ("n", True))
        if cell.candidate is torch.tanh:
            n_rows.tanh_()
        else:
            n_rows.copy_(cell.candidate(n_rows))
        act(places, n_rows, ("n", False))
        torch.lerp(n, h if len(h) == copies else h.expand_as(n), z, out=out)

    def _recurrent(self, given: Input, h: Tensor, copies: int) -> None:
        """W_hh h and the bias into the gates; done once where all copies have one state."""
        views = self._views[1]
        rows = h.reshape(-1, self.units)
        whole = len(h) == copies and self.cell.reset_after
        into = views.gates if whole else None
        if given.bias is None:
            recurrent = torch.mm(rows, self.weight, out=into)
        else:
            recurrent = torch.addmm(given.bias, rows, self.weight, out=into)
        if not whole:
            gates = views.gates.view(copies, self.batch, -1)
            gates[..., : recurrent.shape[1]] = recurrent.view(len(h), self.batch, -1)

    def _seen(self, copies: int) -> _Views:
        rows, shape = copies * self.batch, (copies, self.batch, -1)
        gates, n_rows = self._gates[:rows], self._n[:rows]
        r, z, recurrent_n = torch.split(gates.view(shape), self.units, 2)
        rz = gates.view(shape)[..., : 2 * self.units]
        return _Views(gates, rz, r, z, recurrent_n, n_rows.view(shape), n_rows)
