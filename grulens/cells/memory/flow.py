"""How much of a state reaches later states: norms of products of Jacobians, for all pairs of steps.

    d h_t / d h_k = J_t J_(t-1) ... J_(k+1)

is what vanishes or explodes when a network is trained through time. Directions are pulled back
through the steps one by one, so a product is never built unless all directions are asked for, and
one query costs time in proportion to its past.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from grulens.cells.dynamics.jacobian import Matrices, Slopes


def gains(
    slopes: Slopes | Matrices, toward: Tensor, begin: int, stop: int
) -> tuple[Tensor, Tensor]:
    """Norms of toward d h_t / d h_k over the norm of toward, for steps in reading order.

    With the identity as `toward` that is the root mean square of the product's singular values, 1
    for k = t (Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, for such products).

    Args:
        slopes: of every step of one row, (time, unit).
        toward: directions (direction, unit).
        begin: the first query t.
        stop: the step behind the last query; all of them are pulled back side by side.

    Returns:
        gains (query, key), zero for k > t; and those with respect to h_0, (query,).
    """
    size = toward.norm()
    found = toward.new_zeros(stop - begin, len(slopes))
    # the last query first: the others join when their step is reached
    held = toward.new_zeros(0, *toward.shape)
    for k in range(stop - 1, -1, -1):
        if k >= begin:
            held = torch.cat([held, toward[None]])
        found[-len(held) :, k] = vector_norm(held, dim=(1, 2)).flip(0) / size
        held = slopes.step(k).pulled(held)
    return found, vector_norm(held, dim=(1, 2)).flip(0) / size


def product(slopes: Slopes | Matrices, t: int, k: int) -> Tensor:
    """D h_t / d h_k (unit, unit) for k <= t; k = -1 is the state before the first step."""
    like = slopes.total if isinstance(slopes, Matrices) else slopes.z
    held = torch.eye(like.shape[1], dtype=like.dtype, device=like.device)
    for step in range(t, k, -1):
        held = slopes.step(step).pulled(held)
    return held
