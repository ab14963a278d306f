"""Every kind of cell that grulens has: what a test of them all draws from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from grulens.cells.cell import RecurrentCell
from grulens.cells.kinds import KINDS

EVERY = list(KINDS.values())


def made(
    kind: type[RecurrentCell],
    seed: int,
    units: int,
    size: float = 1.0,
    inputs: int = 2,
    **more: Any,
) -> Any:
    """A cell in float64, its weights of that size."""
    torch.manual_seed(seed)
    rows = len(kind.blocks) * units
    shapes = ((rows, inputs), (rows, units), (rows,), (rows,))
    return kind(*(size * torch.randn(shape).double() for shape in shapes), **more)


class Step(nn.Module):
    """A module that computes a step of a cell."""

    def __init__(self, cell: RecurrentCell) -> None:
        super().__init__()
        self.of = cell

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.of.step(self.of.project(x), h)


class Loop(nn.Module):
    """A model that steps a cell, and returns its last state."""

    def __init__(self, cell: RecurrentCell) -> None:
        super().__init__()
        self.cell = Step(cell)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.cell.of.hidden_size)
        for now in x.unbind(1):
            h = self.cell(now, h)
        return h
