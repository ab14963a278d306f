"""The modes of fixed points, and of which of them arithmetic hides whether they grow or die.

An eigenvalue of modulus 1 is the border between stable and unstable, and no computed one lies on
it exactly. Three things move a computed eigenvalue:

- The Jacobian is rounded: its numbers come from weights of the cell's own dtype. A change E of it
  moves an eigenvalue by its condition number times |E|, and one that is defective by a root of |E|
  (Trefethen and Embree 2005, "Spectra and Pseudospectra", chapters 2 and 52). So it is asked
  whether an E of that size puts one onto the circle: whether the smallest singular value of
  J - w, w the nearest place of the circle, is at most |E|.
- Of several eigenvalues the one is meant whose own condition number lets it move so far.
- Where the slope of n(h) - h is singular the point itself is only known to a root of rounding. Its
  Jacobian is taken at all places where it may be.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from grulens.cells.dynamics.jacobian import Jacobian
from grulens.cells.dynamics.stationary import Standstill

DEFECT = 4
"""The largest Jordan block whose eigenvalues are looked at as far from the circle as rounding puts
them; it moves them by the DEFECT-th root of it."""
SINGULAR = 1e-5
"""Where a singular value of the slope is below this, the point's own place matters."""
WIDEST = 0.02
"""A place that is uncertain by more than this is a continuum of fixed points, each in its place."""
PLACES = 9
"""At so many places of where it may be a point's Jacobian is taken."""


def modes(
    still: Standstill, states: Float[Tensor, "point unit"], eps: float, memory: int
) -> tuple[Complex[Tensor, "point unit"], Bool[Tensor, "point unit"]]:
    """The eigenvalues at each point, largest modulus first, and which of them are marginal.

    Args:
        still: the cell with its input.
        states: the points.
        eps: rounding of the dtype that the cell's weights have: `torch.finfo(dtype).eps`.
        memory: bytes that may be held.
    """
    # in place: many small results would keep the large memory between them from being used again
    values = torch.empty(states.shape, dtype=torch.cdouble, device=states.device)
    marginal = torch.empty(states.shape, dtype=torch.bool, device=states.device)
    chunk = still.fitting(memory)
    for begin in range(0, len(states), chunk):
        some = states[begin : begin + chunk]
        parts = still.jacobian(some)
        found = torch.linalg.eigvals(parts.total)
        found = found.gather(1, found.abs().argsort(1, descending=True))
        values[begin : begin + chunk] = found
        marginal[begin : begin + chunk] = _marginal(still, some, parts, found, eps)
    return values, marginal


def _marginal(
    still: Standstill, states: Tensor, parts: Jacobian, values: Tensor, eps: float
) -> Bool[Tensor, "point unit"]:
    size = rounding(parts, eps)
    away = (values.abs() - 1).abs()
    found = away <= size[:, None]
    open_ = ~found & (away <= 4 * eps ** (1 / DEFECT))
    point, mode = open_.nonzero().T
    total = parts.total
    for i, j in zip(point.tolist(), mode.tolist(), strict=True):
        found[i, j] = _reached(total[i], values[i, j], float(away[i, j]), float(size[i]))
    left = open_ & ~found
    for i in left.any(1).nonzero()[:, 0].tolist():
        moved = _moved(still, states[i], values[i])
        found[i] |= left[i] & (away[i] <= 2 * moved + size[i])
    return found


def rounding(parts: Jacobian, eps: float) -> Float[Tensor, " point"]:
    """The size (Frobenius norm) of what rounding may change in a Jacobian, for each point.

    That of the cell's weights, and four times that of the float64 in which it is computed.
    """
    eps = max(eps, 4 * torch.finfo(parts.total.dtype).eps)
    ways = [part for name, part in parts.parts.items() if name != "total"] or [parts.total]
    size: Tensor = eps * torch.stack([way.norm(dim=(1, 2)) for way in ways]).sum(0)
    return size


def _reached(total: Tensor, value: Tensor, away: float, size: float) -> bool:
    """Whether a change of that size puts an eigenvalue (), so far from the circle, onto it."""
    # of a complex pair both are asked as one, so that both get the same answer
    value = torch.complex(value.real, value.imag.abs())
    eye = torch.eye(len(total), dtype=value.dtype, device=total.device)
    if float(torch.linalg.svdvals(total - value / value.abs() * eye)[-1]) > size:
        return False
    left, _, right = torch.linalg.svd(total - value * eye)
    turned = float((left[:, -1].conj() @ right[-1].conj()).abs())
    return away * turned <= 4 * size


def _moved(still: Standstill, state: Tensor, values: Tensor) -> Float[Tensor, " unit"]:
    """How far the modulus of each eigenvalue moves while the point is where it may be too."""
    moved = torch.zeros(len(values), dtype=torch.double, device=state.device)
    _, sizes, ways = torch.linalg.svd(still.slope(state[None])[0])
    for way in ways[sizes <= SINGULAR]:
        low, high = (_free_distance(still, state, sign * way) for sign in (-1.0, 1.0))
        if max(low, high) > WIDEST:
            continue
        places = torch.linspace(-low, high, PLACES, dtype=state.dtype, device=state.device)
        along = way.expand(PLACES, -1)
        there = still.beside(state + places[:, None] * way, along)
        others = torch.linalg.eigvals(still.jacobian(there).total).abs()
        apart = (others.sort(1, descending=True).values - values.abs()).abs()
        moved = torch.maximum(moved, apart.amax(0))
    # of several that are alike any may be the one that moves
    alike = (values[:, None] - values).abs() <= moved
    return torch.where(alike, moved, 0.0).amax(1)


def _free_distance(still: Standstill, state: Tensor, way: Tensor) -> float:
    """How far a state can go in a direction before n(h) - h is seen to grow; inf if it never is."""
    reach = 2.0 ** torch.arange(-52, 1, dtype=state.dtype, device=state.device)
    there = still.beside(state + reach[:, None] * way, way.expand(len(reach), -1))
    here = state[None]
    level = 2 * max(float(still.rounding(here)), float(still.off(here).norm()))
    seen = (still.off(there).norm(dim=1) > level).nonzero()[:, 0]
    return float(reach[seen[0]]) if len(seen) else float("inf")
