"""Every kind of cell that grulens has: what a test of them all draws from."""

from __future__ import annotations

from typing import Any

import torch

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
