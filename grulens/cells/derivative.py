"""The derivative of what is made of states, row by row, along all axes at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def derivative(
    of: Callable[[Float[Tensor, "batch state"]], Float[Tensor, "batch made"]],
    state: Float[Tensor, "batch state"],
) -> Float[Tensor, "batch made state"]:
    """The derivative of each row of what a function makes by the same row of the state.

    Args:
        of: the function; its rows do not act on each other.
        state: where it is taken.

    >>> derivative(lambda h: h.square().sum(1, keepdim=True), torch.tensor([[1.0, 2.0]]))
    tensor([[[2., 4.]]])
    """
    with torch.enable_grad():
        state = state.detach().requires_grad_()
        made = of(state)
        axes = torch.eye(made.shape[1], dtype=made.dtype, device=made.device)
        (found,) = torch.autograd.grad(
            made, state, axes[:, None].expand(-1, len(state), -1), is_grads_batched=True
        )
    return found.transpose(0, 1)
