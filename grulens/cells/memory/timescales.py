"""How long a gate holds a state: the number of steps after which half of a state is gone.

A unit whose update gate stays at z keeps the share z^k of its state after k steps, so half of it
is left after ln(1/2) / ln z of them (a gate as a time scale: Tallec and Ollivier 2018,
arXiv:1804.11188; measured in trained networks: Mahto et al. 2021, arXiv:2009.12727).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def half_life(z: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Steps until half of a state is gone, -ln 2 / ln z, in the dtype of z.

    Args:
        z: update gate. At 1, which forgets nothing, the half-life is infinite; at 0, which forgets
            at once, it is 0. A gate that an edit moved beyond its range counts as the nearer end.

    >>> half_life(torch.tensor([0.0, 0.5, 0.75, 1.0]))
    tensor([0.0000, 1.0000, 2.4094,    inf])
    """
    # log 0 is -inf and its inverse 0; log 1 is 0, and the sign in front of the whole makes it +inf
    return math.log(2) / z.clamp(0, 1).log().abs()


def below(values: Float[Tensor, "step unit"], limit: float) -> Float[Tensor, " unit"]:
    """The share of steps at which each unit lies under a limit, float64."""
    return (values < limit).double().mean(0)


def above(values: Float[Tensor, "step unit"], limit: float) -> Float[Tensor, " unit"]:
    """The share of steps at which each unit lies over a limit, float64."""
    return (values > limit).double().mean(0)


def counts(values: Float[Tensor, "step unit"], bins: int) -> Int[Tensor, "unit bin"]:
    """How many steps of each unit fall into each of `bins` equal parts of [0, 1], int64.

    A value on an edge belongs to the part above it, 1 to the last one; beyond the range it counts
    at the nearer end, and NaN nowhere.

    >>> counts(torch.tensor([[0.0], [0.5], [1.0], [2.0]]), 2)
    tensor([[1, 3]])
    """
    units = values.shape[1]
    part = (values.double() * bins).nan_to_num(nan=0.0).floor().clamp(0, bins - 1).long()
    place = part + bins * torch.arange(units, device=values.device)
    kept = place[~values.isnan()]
    return torch.bincount(kept.flatten(), minlength=units * bins).reshape(units, bins)
