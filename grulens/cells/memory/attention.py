"""A state as a weighted sum of everything the layer ever proposed: the exact memory of a GRU.

Unrolling h = (1 - z) n + z h_prev gives

    h_t = (z_1 ... z_t) h_0 + sum over k <= t of a(t, k) n_k,   a(t, k) = (1 - z_k) z_(k+1) ... z_t

for every unit by itself: weights in [0, 1] that sum to 1 with the share of h_0. Products are taken
as products, never as exponentials of sums of logarithms or as quotients, so that gates of exactly
0 and 1 are no special case.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 64


def weights(z: Float[Tensor, "batch time unit"], t: int) -> tuple[Tensor, Tensor]:
    """The weight of every candidate, and of h_0, in the state after step t.

    Args:
        z: update gate (batch, time, unit), in [0, 1].
        t: the step, 0 to time - 1.

    Returns:
        weights (batch, key, unit), keys 0 to t; the share of h_0 (batch, unit). Their sum over
        keys and h_0 is 1 for every unit.

    >>> a, initial = weights(torch.full((1, 3, 1), 0.5), 2)
    >>> a.flatten(), initial
    (tensor([0.1250, 0.2500, 0.5000]), tensor([[0.1250]]))
    """
    past = z[:, : t + 1]
    kept = past.flip(1).cumprod(1).flip(1)  # z_k ... z_t
    later = torch.cat([kept[:, 1:], torch.ones_like(kept[:, :1])], 1)
    return (1 - past) * later, kept[:, 0]


def first_shares(z: Float[Tensor, "batch time unit"]) -> Float[Tensor, "batch time unit"]:
    """The share of h_0 in the state after every step: z_1 ... z_t.

    >>> first_shares(torch.full((1, 3, 1), 0.5)).flatten()
    tensor([0.5000, 0.2500, 0.1250])
    """
    return z.cumprod(1)


def weight_map(
    z: Float[Tensor, "batch time unit"], value: Float[Tensor, "#batch #time unit"]
) -> Float[Tensor, "batch query key"]:
    """Sum over units of value_k a(t, k) for every query t and key k; zero for keys after t.

    Blocks of keys that lie wholly before a block of queries factor into a product of matrices;
    each factor is a product of gates, so nothing can overflow. Memory grows with time squared and
    with time times unit, never with their product.

    Args:
        z: update gate (batch, time, unit).
        value: what a unit's weight on a key counts (batch, time, unit), broadcasting.

    >>> weight_map(torch.full((1, 3, 2), 0.5), torch.full((1, 1, 2), 0.5))[0]
    tensor([[0.5000, 0.0000, 0.0000],
            [0.2500, 0.5000, 0.0000],
            [0.1250, 0.2500, 0.5000]])
    """
    batch, steps, units = z.shape
    count = -(-steps // BLOCK)
    fill = count * BLOCK - steps
    # a step that keeps everything adds nothing
    padded = torch.cat([z, z.new_ones(batch, fill, units)], 1)
    shape = (batch, count, BLOCK, units)
    blocks = padded.reshape(shape)
    entering = ((1 - padded) * _filled(value.expand_as(z), fill)).reshape(shape)
    since = blocks.cumprod(2)  # from the block's first step to the query
    until = blocks.flip(2).cumprod(2).flip(2)
    until = torch.cat([until[:, :, 1:], torch.ones_like(until[:, :, :1])], 2)
    leaving = entering * until  # what of a key is there at its block's end
    result = z.new_zeros(batch, count, BLOCK, count, BLOCK)
    result.diagonal(dim1=1, dim2=3).copy_(_within(blocks, entering).permute(0, 2, 3, 1))
    for query in range(count):
        reached = since[:, query]
        for key in range(query - 1, -1, -1):
            result[:, query, :, key] = reached @ leaving[:, key].mT
            reached = reached * since[:, key, -1:]
            if not bool(reached.any()):
                break  # nothing of what is older is left
    return result.reshape(batch, count * BLOCK, count * BLOCK)[:, :steps, :steps]


def _within(blocks: Tensor, entering: Tensor) -> Tensor:
    """The map inside each block (batch, block, query, key), one query after the other."""
    batch, count, size, _ = blocks.shape
    result = blocks.new_zeros(batch, count, size, size)
    held = torch.zeros_like(entering)
    for t in range(size):
        held = held * blocks[:, :, t : t + 1]
        held[:, :, t] = entering[:, :, t]
        result[:, :, t] = held.sum(3)
    return result


def _filled(value: Tensor, fill: int) -> Tensor:
    return torch.cat([value, value.new_zeros(value.shape[0], fill, value.shape[2])], 1)
