"""How the next state depends on the state before it, of a GRU in four parts.

A state reaches the next one by staying (leak), by moving the update gate, by entering the
candidate, and by moving the reset gate in front of it. Each is a closed form; their sum is the
Jacobian that autograd finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from grulens.arguments import Frame
from grulens.cells.activations import with_slope
from grulens.cells.cell import RecurrentCell
from grulens.cells.kinds.gru import Cell
from grulens.cells.observed import ObservedCell
from grulens.errors import CellError, shown
from grulens.results import Result, frame, row_of


@dataclass(frozen=True, eq=False, repr=False)
class Jacobian(Result):
    """d state / d state_prev of one step: row the number that is moved, column by which.

    Attributes:
        total: (batch, state, state); the state of a GRU or an RNN is (unit,), that of an LSTM h
            and c side by side.
    """

    total: Float[Tensor, "batch state state"]

    @property
    def parts(self) -> dict[str, Float[Tensor, "batch state state"]]:
        """The parts that have a name, and the total."""
        return {"total": self.total}

    def to_frame(self, row: int = 0) -> Frame:
        """A row as a pandas DataFrame, a line a pair of units: how `by` moves `unit`, in parts.

        Args:
            row: which row of the batch.

        Raises:
            PositionError: there is no such row.
            MissingPackageError: pandas is not installed.
        """
        row = row_of(row, len(self.total))
        count = self.total.shape[1]
        unit, by = torch.arange(count).repeat_interleave(count), torch.arange(count).repeat(count)
        columns = {name: part[row].flatten().double() for name, part in self.parts.items()}
        return frame({"unit": unit, "by": by, **columns})

    def __repr__(self) -> str:
        batch, unit, _ = self.total.shape
        return f"Jacobian(batch {batch}, unit {unit})"

    def _repr_html_(self) -> str:
        from grulens.tables import html_table  # noqa: PLC0415 - only for display

        rows = [
            (name, *(f"{float(one.norm()) / len(one) ** 0.5:.4g}" for one in part[:5]))
            for name, part in self.parts.items()
        ]
        head = ("part", *(f"size, row {i}" for i in range(min(5, len(self.total)))))
        return html_table(head, rows, repr(self))


@dataclass(frozen=True, eq=False, repr=False)
class GRUJacobian(Jacobian):
    """d h / d h_prev of a GRU's step in its four parts, each (batch, unit, unit).

    Attributes:
        total: the sum of the four.
        leak: diag(z).
        update: diag((h_prev - n) z') W_hz.
        candidate: diag((1 - z) n') diag(r) W_hn; with the reset before the product
            diag((1 - z) n') W_hn diag(r).
        reset: diag((1 - z) n') diag((W_hn h_prev + b_hn) r') W_hr; with the reset before the
            product diag((1 - z) n') W_hn diag(h_prev r') W_hr.

    A prime is the activation's derivative: z (1 - z) for the sigmoid, 1 - n^2 for tanh.
    """

    leak: Float[Tensor, "batch unit unit"]
    update: Float[Tensor, "batch unit unit"]
    candidate: Float[Tensor, "batch unit unit"]
    reset: Float[Tensor, "batch unit unit"]

    @property
    def parts(self) -> dict[str, Float[Tensor, "batch unit unit"]]:
        named = {"leak": self.leak, "update": self.update, "candidate": self.candidate}
        return named | {"reset": self.reset, "total": self.total}


def jacobian(cell: RecurrentCell, x: Tensor, h: Tensor) -> Jacobian:
    """The Jacobian of one step, of a GRU in four parts and in closed form (`GRUJacobian`).

    Differentiating the cell's own equations (`Cell`) gives the four terms; Jordan, Sokół and Park
    2021 (Front. Comput. Neurosci. 15:678158) read the dynamics of a GRU from them.

    Args:
        cell: the cell: a GRU of any convention, an RNN, an LSTM.
        x: input of the step (batch, input), of the cell's dtype.
        h: the state before it (batch, unit), same dtype; of an LSTM h and c side by side.

    Raises:
        CellError: x or h does not fit the cell.

    >>> cell = Cell(torch.zeros(6, 1), torch.zeros(6, 2), None, None)      # z = 1/2, nothing else
    >>> jacobian(cell, torch.zeros(1, 1), torch.zeros(1, 2)).total
    tensor([[[0.5000, 0.0000],
             [0.0000, 0.5000]]])
    """
    fit(cell, x, h)
    if x.dim() != 2 or h.dim() != 2 or len(x) != len(h):
        raise CellError(
            f"x must be (batch, input) and h (batch, unit), got {tuple(x.shape)} and "
            f"{tuple(h.shape)}"
        )
    if isinstance(cell, Cell):
        return Slopes.at(cell, cell.project(x), h).jacobian()
    return Jacobian(cell.slope(cell.project(x), h).detach())


def slope(
    cell: RecurrentCell,
    products: Float[Tensor, "batch blocks"],
    state: Float[Tensor, "batch state"],
) -> Float[Tensor, "batch state state"]:
    """The whole Jacobian of a step of any cell, from what the input adds to it."""
    if isinstance(cell, Cell):
        return Slopes.at(cell, products, state).jacobian().total
    return cell.slope(products, state)


@dataclass(frozen=True, eq=False)
class Slopes:
    """The gates of one step and their slopes, each (batch, unit): what Jacobians are made of."""

    cell: Cell
    h: Tensor
    r: Tensor
    z: Tensor
    n: Tensor
    dr: Tensor
    dz: Tensor
    dn: Tensor
    inner: Tensor

    @classmethod
    def at(cls, cell: Cell, product: Tensor, h: Tensor) -> Slopes:
        """At states h (batch, unit), with the input's product W_i x + b_i (batch, 3 unit)."""
        made = cell.terms(product, h)
        r, dr = with_slope(cell.gate, made.pre_r)
        z, dz = with_slope(cell.gate, made.pre_z)
        n, dn = with_slope(cell.candidate, made.pre_n)
        return cls(cell, h, r, z, n, dr, dz, dn, made.inner)

    def __len__(self) -> int:
        return len(self.z)

    def jacobian(self) -> GRUJacobian:
        """D h / d h_prev in its four parts."""
        w_z = self.cell.weight_hh.chunk(3)[1]
        leak = torch.diag_embed(self.z)
        update = ((self.h - self.n) * self.dz)[..., None] * w_z
        candidate = (1 - self.z)[..., None] * self.by_candidate()
        reset = (1 - self.z)[..., None] * self.by_reset()
        total = leak + update + candidate + reset
        return GRUJacobian(total, leak, update, candidate, reset)

    def sizes(self) -> dict[str, Tensor]:
        """The size of each of the four parts, (batch,): its norm over that of the identity.

        That is the root mean square of its singular values. Where the reset acts after the product
        no part is built: a diagonal times a matrix has the norms of its rows.
        """
        w_r, w_z, w_n = (w.square().sum(1) for w in self.cell.weight_hh.chunk(3))
        c = (1 - self.z) * self.dn
        squares = {
            "leak": self.z.square(),
            "update": ((self.h - self.n) * self.dz).square() * w_z,
            "candidate": (c * self.r).square() * w_n,
            "reset": (c * self.inner * self.dr).square() * w_r,
        }
        if not self.cell.reset_after:
            keep = (1 - self.z)[..., None]
            squares["candidate"] = (keep * self.by_candidate()).square().sum(-1)
            squares["reset"] = (keep * self.by_reset()).square().sum(-1)
        return {name: square.mean(-1).sqrt() for name, square in squares.items()}

    def pulled(self, g: Tensor) -> Tensor:
        """Rows g times the Jacobian, (..., batch, unit), without building it: two products."""
        c = g * (1 - self.z) * self.dn
        moved = g * (self.h - self.n) * self.dz
        weight = self.cell.weight_hh
        if self.cell.reset_after:
            parts = [c * self.inner * self.dr, moved, c * self.r]
            return g * self.z + torch.cat(parts, -1) @ weight
        through = c @ weight[2 * len(weight) // 3 :]
        parts = [through * self.h * self.dr, moved]
        return (g * self.z + through * self.r
                + torch.cat(parts, -1) @ weight[: 2 * len(weight) // 3])  # fmt: skip

    def step(self, t: int) -> Slopes:
        """The t-th of its rows alone, to be broadcast."""
        own = (signal[t] for signal in (self.h, self.r, self.z, self.n))
        slopes = (signal[t] for signal in (self.dr, self.dz, self.dn, self.inner))
        return Slopes(self.cell, *own, *slopes)

    def by_candidate(self) -> Tensor:
        """D n / d h_prev with the reset gate held, (batch, unit, unit)."""
        w_n = self.cell.weight_hh.chunk(3)[2]
        if self.cell.reset_after:
            return (self.dn * self.r)[..., None] * w_n
        return self.dn[..., None] * w_n * self.r[..., None, :]

    def by_reset(self) -> Tensor:
        """D n / d h_prev through the reset gate alone, (batch, unit, unit)."""
        w_r, _, w_n = self.cell.weight_hh.chunk(3)
        if self.cell.reset_after:  # a diagonal times a matrix needs no product
            return (self.dn * self.inner * self.dr)[..., None] * w_r
        return (self.dn[..., None] * w_n * (self.h * self.dr)[..., None, :]) @ w_r


@dataclass(frozen=True, eq=False)
class Matrices:
    """The Jacobians of some steps as they are: what there is of a cell without a closed form.

    Attributes:
        total: (batch, unit, unit).
    """

    total: Tensor

    def __len__(self) -> int:
        return len(self.total)

    def sizes(self) -> dict[str, Tensor]:
        """The size of each, (batch,): the root mean square of its singular values.

        >>> Matrices(2 * torch.eye(3)[None]).sizes()["total"].round(decimals=6)
        tensor([2.])
        """
        return {"total": self.total.square().sum((1, 2)).div(self.total.shape[1]).sqrt()}

    def pulled(self, g: Tensor) -> Tensor:
        """Rows g (..., batch, unit) times the Jacobians."""
        return (g[..., None, :] @ self.total)[..., 0, :]

    def step(self, t: int) -> Matrices:
        """The t-th of them alone, to be broadcast."""
        return Matrices(self.total[t])


def fit(cell: Any, x: Any, h: Any) -> None:
    """Raise CellError unless input (..., input) and state (..., unit) fit a cell."""
    check_cell(cell)
    state = "unit" if len(cell.states) == 1 else f"{' and '.join(cell.states)} side by side"
    wanted = ((x, "x", cell.input_size, "input"), (h, "h", cell.state_size, state))
    dtype = cell.weight_hh.dtype
    for value, name, size, words in wanted:
        dense(value, name)
        if value.shape[-1:] != (size,) or value.dtype != dtype:
            raise CellError(
                f"{name} must be (batch, {words}) = (any, {size}) in {dtype}, got "
                f"{tuple(value.shape)} in {value.dtype}"
            )


def check_cell(cell: Any) -> None:
    """Raise CellError unless it is a Cell."""
    if isinstance(cell, ObservedCell):
        raise CellError(
            f"{cell!r} was observed and is no function of its input alone: of a recorded run take "
            "jacobian_at and lyapunov_along, of one step observed_step"
        )
    if not isinstance(cell, RecurrentCell):
        raise CellError(f"expected a Cell, such as record(model, x)[layer].cell, got {shown(cell)}")


def dense(value: Any, name: str) -> None:
    """Raise CellError unless a value is a floating tensor with numbers in it."""
    plain = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
    if not plain or not value.is_floating_point():
        came = f"{value.dtype}, {value.layout}" if isinstance(value, Tensor) else shown(value)
        raise CellError(f"{name} must be a dense floating tensor, got {came}")
