"""A GRU cell as mathematics: its weights and its convention, apart from any module that holds them.

There are two published GRUs that differ in where the reset gate acts. Which of them a set of
weights belongs to cannot be seen from the weights, so a `Cell` says it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


class Gates(NamedTuple):
    """The gates of one step or of many.

    Attributes:
        r: reset gate (batch, time, unit).
        z: update gate (batch, time, unit).
        n: candidate (batch, time, unit).
    """

    r: Tensor
    z: Tensor
    n: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Cell:
    """One direction of one GRU layer, its rows packed in torch's order r, z, n.

    The cell (torch.nn.GRU; Cho et al. 2014, arXiv:1406.1078, with torch's reading of z)::

        r = gate(W_ir x + b_ir + W_hr h_prev + b_hr)
        z = gate(W_iz x + b_iz + W_hz h_prev + b_hz)
        n = candidate(W_in x + b_in + r * (W_hn h_prev + b_hn))      reset_after=True
        n = candidate(W_in x + b_in + W_hn (r * h_prev) + b_hn)      reset_after=False
        h = (1 - z) * n + z * h_prev

    Attributes:
        weight_ih: (3 unit, input), floating.
        weight_hh: (3 unit, unit), same dtype.
        bias_ih: (3 unit,) or None.
        bias_hh: (3 unit,) or None.
        reset_after: where the reset gate acts: after the recurrent product (torch, cuDNN) or
            before it (Cho's paper).
        gate: the activation of r and z.
        candidate: the activation of n.

    Raises:
        ValueError: the shapes do not fit together.

    >>> cell = Cell(torch.zeros(6, 3), torch.zeros(6, 2), None, None)
    >>> cell
    Cell(input 3, hidden 2, float32, reset after the product)
    >>> cell.input_size, cell.hidden_size, cell.is_torch
    (3, 2, True)
    """

    weight_ih: Float[Tensor, "_ input"]
    weight_hh: Float[Tensor, "_ unit"]
    bias_ih: Float[Tensor, _] | None
    bias_hh: Float[Tensor, _] | None
    reset_after: bool = True
    gate: Activation = torch.sigmoid
    candidate: Activation = torch.tanh

    def __post_init__(self) -> None:
        rows = 3 * self.weight_hh.shape[1]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            value = getattr(self, name)
            if value is not None and value.shape[0] != rows:
                raise ValueError(
                    f"{name} has {value.shape[0]} rows; a cell of {rows // 3} units packs r, z and "
                    f"n in 3 x {rows // 3} = {rows}"
                )

    @property
    def input_size(self) -> int:
        """Number of inputs."""
        return self.weight_ih.shape[1]

    @property
    def hidden_size(self) -> int:
        """Number of units."""
        return self.weight_hh.shape[1]

    @property
    def is_torch(self) -> bool:
        """Whether torch's fused kernel computes this cell."""
        alike = (self.bias_ih is None) == (self.bias_hh is None)
        standard = self.gate is torch.sigmoid and self.candidate is torch.tanh
        return self.reset_after and alike and standard

    def over(self, change: Callable[[Tensor], Tensor]) -> Cell:
        """The same cell over changed weights; `change` is asked for each that is there."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        held = {name: getattr(self, name) for name in names}
        changed: dict[str, Any] = {n: None if t is None else change(t) for n, t in held.items()}
        return replace(self, **changed)

    @property
    def convention(self) -> str:
        """Where its reset gate acts, in words."""
        return f"reset {'after' if self.reset_after else 'before'} the product"

    @property
    def parameters(self) -> list[Tensor]:
        """The weights and the biases that are there, in the order torch's kernel takes them."""
        found = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return [tensor for tensor in found if tensor is not None]

    def __repr__(self) -> str:
        sizes = f"input {self.input_size}, hidden {self.hidden_size}"
        dtype = str(self.weight_hh.dtype).removeprefix("torch.")
        return f"Cell({sizes}, {dtype}, {self.convention})"
