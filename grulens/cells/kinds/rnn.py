"""The plain recurrent network (Elman 1990, Cogn. Sci. 14:179), as torch.nn.RNN computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import linear

from grulens.cells.activations import name_of, with_slope
from grulens.cells.cell import RecurrentCell
from grulens.cells.changes import Edit
from grulens.cells.signal import Signal
from grulens.errors import CellError, shown


@dataclass(frozen=True, eq=False, repr=False)
class RNN(RecurrentCell):
    """One direction of one layer of a plain recurrent network.

    The cell (torch.nn.RNN)::

        a = W_ih x + b_ih + W_hh h_prev + b_hh
        h = activation(a)

    Attributes:
        weight_ih: (unit, input), floating.
        weight_hh: (unit, unit), same dtype.
        bias_ih: (unit,) or None.
        bias_hh: (unit,) or None.
        activation: an elementwise function on tensors; torch's own are tanh and relu.

    >>> cell = RNN(torch.ones(1, 1), torch.ones(1, 1), None, None)
    >>> cell
    RNN(input 1, hidden 1, float32)
    >>> cell.step(cell.project(torch.ones(1, 1)), torch.zeros(1, 1))
    tensor([[0.7616]])
    """

    activation: Any = torch.tanh

    kind: ClassVar[str] = "RNN"
    blocks: ClassVar[tuple[str, ...]] = ("a",)
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("a", "pre-activation", -torch.inf, torch.inf, "candidate", activated=False),
        Signal("h", "state", -1.0, 1.0, "state", activated=False),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.activation):
            raise CellError(
                f"activation must be a function on tensors (torch.tanh, torch.relu), got "
                f"{shown(self.activation)}"
            )

    def compute(
        self, products: Tensor, state: Tensor, edit: Edit | None = None
    ) -> dict[str, Tensor]:
        a = products + linear(state, self.weight_hh, self.bias_hh)
        return {"a": a if edit is None else edit("a", a, False)}

    def output(self, signals: Mapping[str, Tensor], state: Tensor) -> Tensor:
        h: Tensor = self.activation(signals["a"])
        return h.to(state.dtype)

    def slope(self, products: Tensor, state: Tensor) -> Tensor:
        a = self.compute(products, state)["a"]
        return with_slope(self.activation, a)[1][..., None] * self.weight_hh

    @property
    def kernel(self) -> Callable[..., Any] | None:
        if (self.bias_ih is None) != (self.bias_hh is None):
            return None
        known = ((torch.tanh, torch._VF.rnn_tanh), (torch.relu, torch._VF.rnn_relu))
        return next((kernel for one, kernel in known if one is self.activation), None)

    @property
    def equation(self) -> str:
        return f"{name_of(self.activation)}(a)"

    @property
    def convention(self) -> str:
        return "" if self.activation is torch.tanh else name_of(self.activation)
