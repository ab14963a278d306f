"""The LSTM, as torch.nn.LSTM computes it.

Hochreiter & Schmidhuber 1997 (Neural Comput. 9:1735), with the forget gate of Gers et al. 2000
(Neural Comput. 12:2451).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import linear

from grulens.cells.cell import RecurrentCell, activated
from grulens.cells.changes import Edit, Program
from grulens.cells.signal import Signal


@dataclass(frozen=True, eq=False, repr=False)
class LSTM(RecurrentCell):
    """One direction of one LSTM layer, its rows packed in torch's order i, f, g, o.

    The cell (torch.nn.LSTM)::

        i = sigmoid(W_ii x + b_ii + W_hi h_prev + b_hi)
        f = sigmoid(W_if x + b_if + W_hf h_prev + b_hf)
        g = tanh(W_ig x + b_ig + W_hg h_prev + b_hg)
        o = sigmoid(W_io x + b_io + W_ho h_prev + b_ho)
        c = f * c_prev + i * g
        h = o * tanh(c)

    Attributes:
        weight_ih: (4 unit, input), floating.
        weight_hh: (4 unit, unit), same dtype.
        bias_ih: (4 unit,) or None.
        bias_hh: (4 unit,) or None.

    >>> cell = LSTM(torch.zeros(4, 1), torch.zeros(4, 1), None, None)      # all gates 1/2, g = 0
    >>> cell
    LSTM(input 1, hidden 1, float32)
    >>> cell.step(cell.project(torch.zeros(1, 1)), torch.tensor([[0.0, 2.0]]))      # h, c
    tensor([[0.3808, 1.0000]])
    """

    kind: ClassVar[str] = "LSTM"
    blocks: ClassVar[tuple[str, ...]] = ("i", "f", "g", "o")
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("i", "input gate", 0.0, 1.0, "write"),
        Signal("f", "forget gate", 0.0, 1.0, "keep"),
        Signal("g", "cell candidate", -1.0, 1.0, "candidate"),
        Signal("o", "output gate", 0.0, 1.0, "read"),
        Signal("c", "cell state", -torch.inf, torch.inf, "memory", activated=False),
        Signal("h", "state", -1.0, 1.0, "state", activated=False),
    )
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    def compute(
        self, products: Tensor, state: Tensor, edit: Edit | None = None
    ) -> dict[str, Tensor]:
        h, c = state.chunk(2, -1)
        blocks = (products + linear(h, self.weight_hh, self.bias_hh)).chunk(4, -1)
        made = {}
        for name, pre in zip(self.blocks, blocks, strict=True):
            activation = torch.tanh if name == "g" else torch.sigmoid
            made[name] = activated(name, pre, activation, edit)[1]
        made["c"] = made["f"] * c + made["i"] * made["g"]
        if edit is not None:
            made["c"] = edit("c", made["c"], False)
        return made

    def output(self, signals: Mapping[str, Tensor], state: Tensor) -> Tensor:
        return (signals["o"] * torch.tanh(signals["c"])).to(state.dtype)

    def reread(
        self, x: Tensor, h: Tensor, state_0: Tensor, edits: Program | None = None
    ) -> dict[str, Tensor]:
        # no gate waits for c, so only c goes step by step
        before = torch.cat([state_0[:, None, : self.hidden_size], h[:, :-1]], 1)
        found = self.replay(x, torch.cat([before, torch.zeros_like(before)], 2), edits)
        c, states = state_0[:, self.hidden_size :], []
        written = found["i"] * found["g"]
        for t, (f, new) in enumerate(zip(found["f"].unbind(1), written.unbind(1), strict=True)):
            c = f * c + new
            if edits is not None:
                c = edits.edit(t)("c", c[:, None], False)[:, 0]
            states.append(c)
        return found | {"c": torch.stack(states, 1)}

    @property
    def equation(self) -> str:
        return "o tanh(c)"

    @property
    def kernel(self) -> Callable[..., Any] | None:
        return torch._VF.lstm if (self.bias_ih is None) == (self.bias_hh is None) else None
