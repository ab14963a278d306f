"""What the parts of an input contribute to one number of a model's answer, whatever the method.

Each method hands out the same currency: a share for every coordinate of the layer's input at every
step, one for the first state, one for what is there whatever the input is. What they leave over
is never hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grulens.arguments import Frame
from grulens.results import Result, frame, row_of
from grulens.words import message


@dataclass(frozen=True, eq=False, repr=False)
class Credit(Result):
    """Shares of a score, a row of the batch each.

    Attributes:
        method: what gave the credit, such as "integrated gradients".
        layer: the layer whose input is credited, or the argument of the model. Of credit by a
            linear readout, the layer that the readout reads; `inputs` then belongs to the input of
            the lowest layer of its stack.
        score: the number that is explained (batch,).
        inputs: the share of each coordinate of the layer's input (batch, time, input); zero on
            padding.
        initial: the share of each unit of the first state h_0 (batch, unit).
        bias: the part of the score that does not depend on the input (batch,).
        others: further shares by name, (batch,) each.
        note: what a reader of the numbers has to know, in words; "" if nothing.
        mask: (batch, time), False on padding; None of credit to an argument of the model, of which
            only the model knows what is padding.
    """

    method: str
    layer: str
    score: Float[Tensor, " batch"]
    inputs: Float[Tensor, "batch time input"]
    initial: Float[Tensor, "batch unit"]
    bias: Float[Tensor, " batch"]
    others: dict[str, Tensor] = field(default_factory=dict)
    note: str = ""
    mask: Bool[Tensor, "batch time"] | None = None

    @property
    def tokens(self) -> Float[Tensor, "batch time"]:
        """The share of each step's whole input (batch, time)."""
        return self.inputs.sum(-1)

    @property
    def gap(self) -> Float[Tensor, " batch"]:
        """What is left of the score when every share is taken from it; 0 where the method is exact.

        It is computed in float64, so that it is the gap of the method and not rounding of the sum.
        """
        parts = [self.inputs.double().sum((1, 2)), self.initial.double().sum(1), self.bias.double()]
        parts += [share.double() for share in self.others.values()]
        return self.score.double() - torch.stack(parts).sum(0)

    def ledger(self, row: int = 0) -> dict[str, float]:
        """Where the score of a row comes from: its parts by name, which add up to it.

        >>> one = torch.ones(1)
        >>> Credit("m", "l0", 3 * one, torch.ones(1, 2, 1), torch.zeros(1, 4), one / 2).ledger()
        {'inputs': 2.0, 'h_0': 0.0, 'bias': 0.5, 'gap': 0.5}
        """
        return {
            message("inputs"): float(self.inputs[row].double().sum()),
            "h_0": float(self.initial[row].double().sum()),
            message("bias"): float(self.bias[row]),
            **{name: float(share[row]) for name, share in self.others.items()},
            message("gap"): float(self.gap[row]),
        }

    def to_frame(self, row: int = 0) -> Frame:
        """A row's credit as a pandas DataFrame: a line a step, its share in `credit`.

        Raises:
            PositionError: there is no such row.
            MissingPackageError: pandas is not installed.
        """
        shares = self.tokens[row_of(row, len(self.score))].double()
        return frame({"step": range(len(shares)), "credit": shares})

    def __repr__(self) -> str:
        batch, steps, _ = self.inputs.shape
        gap = float(self.gap.abs().max()) if batch else 0.0
        return (
            f"Credit({self.method!r} to {self.layer!r}, batch {batch}, time {steps}, "
            f"largest gap {gap:.1e}{', ' * bool(self.note)}{self.note})"
        )

    def _repr_html_(self) -> str:
        from grulens.tables import html_table  # noqa: PLC0415 - only for display

        rows = [
            (row, float(self.score[row]), *self.ledger(row).values())
            for row in range(min(len(self.score), 8))
        ]
        head = ("row", "score", *(self.ledger(0) if rows else ()))
        shown = [tuple(f"{v:z.4g}" if isinstance(v, float) else v for v in row) for row in rows]
        note = f" ({self.note})" if self.note else ""
        return html_table(head, shown, f"{self.method} to {self.layer}{note}")
