"""How a cell moves a state under a constant input: where to, and which way it leaves a state."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import normalize

from grulens.cells.cell import RecurrentCell
from grulens.cells.dynamics.jacobian import check_cell, dense, fit, slope
from grulens.cells.dynamics.step_map import StepMap
from grulens.errors import CellError, PositionError, shown

MOST_STEPS = 10_000_000


def trajectories(
    cell: RecurrentCell, h: Tensor, steps: int, *, x: Tensor | None = None
) -> Float64[Tensor, "start step unit"]:
    """Where the cell takes states under a constant input.

    Args:
        cell: the cell: a GRU, an RNN, an LSTM; it is read in float64.
        h: the states it starts from (start, unit), of an LSTM h and c side by side.
        steps: how many steps.
        x: the input (input,); None is zero.

    Returns:
        (start, steps + 1, unit), the start first; float64.

    Raises:
        CellError: `cell` is no cell, or `h` or `x` does not fit it.
        PositionError: `steps` is no number of steps.

    >>> from grulens import Cell
    >>> weights = torch.zeros(6, 1), torch.zeros(6, 2)     # z = 1/2, n = 0
    >>> trajectories(Cell(*weights, None, None), torch.ones(1, 2), 2)[0, :, 0]
    tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64)
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise PositionError(f"steps must be a whole number from 1 up, got {shown(steps)}")
    cell, h, x = _in_float64(cell, h, x, "h", "start, unit")
    with torch.no_grad():
        product = cell.project(x).expand(len(h), -1)
        path = [h]
        for _ in range(steps):
            path.append(cell.step(product, path[-1]))
    return torch.stack(path, 1)


def unstable_directions(
    cell: RecurrentCell | StepMap, h: Tensor, *, x: Tensor | None = None, count: int | None = None
) -> Float64[Tensor, "direction unit"]:
    """The directions in which displacements from a state grow, the fastest first.

    Args:
        cell: the cell; it is read in float64. Or a step of an observed one (`observed_step`).
        h: the state, usually a fixed point (unit,).
        x: the constant input (input,); None is zero.
        count: how many eigenvalues grow, such as `FixedPoints.unstable_dims` says, which leaves
            away what is marginal; None is all of modulus above 1.

    Returns:
        Eigenvectors of the Jacobian whose eigenvalue has a modulus above 1, of length 1, real: a
        complex pair gives the two directions of the plane in which it turns.

    Raises:
        CellError: `cell` is no cell, or `h` or `x` does not fit it.
        PositionError: `count` is no number of eigenvalues.

    >>> from grulens import Cell
    >>> weights = torch.zeros(6, 1), torch.zeros(6, 2)     # every state decays
    >>> unstable_directions(Cell(*weights, None, None), torch.zeros(2)).shape
    torch.Size([0, 2])
    """
    if count is not None and (type(count) is not int or count < 0):
        raise PositionError(f"count must be a whole number from 0 up, or None, got {shown(count)}")
    if isinstance(cell, StepMap):
        dense(h, "h")
        if x is not None or tuple(h.shape) != (cell.state_size,):
            raise CellError(
                f"an observed step has the input of its own run, and a state of {cell.state_size} "
                f"numbers: leave x away; got h of {tuple(h.shape)}"
            )
        h = h.detach().to(cell.like)
        jacobian = cell.slope(h[None])[0]
    else:
        cell, h, x = _in_float64(cell, h, x, "h", "unit")
        with torch.no_grad():
            jacobian = slope(cell, cell.project(x)[None], h[None])[0]
    if not bool(torch.isfinite(jacobian).all()):
        raise CellError("the cell's weights are not finite: nothing grows or decays there")
    values, vectors = torch.linalg.eig(jacobian)
    found = []
    for place in values.abs().argsort(descending=True)[:count].tolist():
        if values[place].abs() <= 1 or values[place].imag < 0:  # of a pair one is enough
            continue
        parts = [vectors[:, place].real, vectors[:, place].imag]
        found += parts if values[place].imag > 0 else parts[:1]
    return normalize(torch.stack(found), dim=1) if found else h.new_zeros(0, len(h))


def _in_float64(
    cell: Any, h: Any, x: Any, name: str, sizes: str
) -> tuple[RecurrentCell, Tensor, Tensor]:
    """The cell, the state or states and the constant input, as float64 on the CPU."""
    check_cell(cell)
    dense(h, name)
    cell = cell.over(lambda weight: weight.detach().cpu().double())
    h = h.detach().cpu().double()
    if x is None:
        x = cell.weight_hh.new_zeros(cell.input_size)
    else:
        dense(x, "x")
        x = x.detach().cpu().double()
    if h.dim() != len(sizes.split()) or x.dim() != 1:
        raise CellError(
            f"{name} must be ({sizes}{',' * (',' not in sizes)}) and x (input,), got "
            f"{tuple(h.shape)} and {tuple(x.shape)}"
        )
    fit(cell, x, h)
    if not bool(torch.isfinite(h).all() and torch.isfinite(x).all()):
        raise CellError(f"{name} and x must be finite")
    return cell, h, x
