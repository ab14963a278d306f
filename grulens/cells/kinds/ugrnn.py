"""The update gate RNN (Collins et al. 2017, arXiv:1611.09913): one gate, and no reset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import linear

from grulens.cells.cell import RecurrentCell, activated
from grulens.cells.changes import Edit
from grulens.cells.signal import Signal


@dataclass(frozen=True, eq=False, repr=False)
class UGRNN(RecurrentCell):
    """One direction of one layer of update gate RNNs, its rows packed g, c.

    The cell (Collins et al. 2017, arXiv:1611.09913, section 2)::

        g = sigmoid(W_g x + U_g h_prev + b_g)
        c = tanh(W_c x + U_c h_prev + b_c)
        h = g * h_prev + (1 - g) * c

    Attributes:
        weight_ih: (2 unit, input), floating.
        weight_hh: (2 unit, unit), same dtype.
        bias_ih: (2 unit,) or None.
        bias_hh: (2 unit,) or None.

    >>> cell = UGRNN(torch.zeros(2, 1), torch.zeros(2, 1), None, None)      # g = 1/2, c = 0
    >>> cell
    UGRNN(input 1, hidden 1, float32)
    >>> cell.step(cell.project(torch.zeros(1, 1)), torch.ones(1, 1))
    tensor([[0.5000]])
    """

    kind: ClassVar[str] = "UGRNN"
    blocks: ClassVar[tuple[str, ...]] = ("g", "c")
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("g", "update gate", 0.0, 1.0, "keep"),
        Signal("c", "candidate", -1.0, 1.0, "candidate"),
        Signal("h", "state", -1.0, 1.0, "state", activated=False),
    )

    def compute(
        self, products: Tensor, state: Tensor, edit: Edit | None = None
    ) -> dict[str, Tensor]:
        pre_g, pre_c = (products + linear(state, self.weight_hh, self.bias_hh)).chunk(2, -1)
        _, g = activated("g", pre_g, torch.sigmoid, edit)
        _, c = activated("c", pre_c, torch.tanh, edit)
        return {"g": g, "c": c}

    def output(self, signals: Mapping[str, Tensor], state: Tensor) -> Tensor:
        return torch.lerp(signals["c"], state, signals["g"])

    @property
    def equation(self) -> str:
        return "g h_prev + (1 − g) c"
