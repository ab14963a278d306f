"""The search for fixed points behind a screen.

The weights are the recording's own copy, so the model and its lock are free all the while.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from grulens.cells.cell import RecurrentCell
from grulens.cells.dynamics.fixed_points import FixedPoints, find_fixed_points
from grulens.job import Job

#: Starts of a search.
STARTS: Final = 512
#: How far the first and the last start are moved from the states they come from, standard
#: deviation. States of a run are alike: saddles that no run comes near are found from afar.
NOISE: Final = (0.05, 0.5)


def search(job: Job[FixedPoints], cell: RecurrentCell, states: Tensor, x: Tensor | None) -> None:
    """Search for fixed points from some of the states.

    Args:
        job: is told how many starts have arrived; stopped, it keeps what was found from those.
        cell: the cell.
        states: those of a run, (state, unit).
        x: the constant input, (input,); None is zero.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(states), generator=generator)[:STARTS]
    starts = states[order.to(states.device)].detach().cpu().double()
    far = torch.linspace(*NOISE, len(starts), dtype=torch.double)[:, None]
    starts = starts + far * torch.randn(starts.shape, generator=generator).double()
    job.total = len(starts)
    cell = cell.over(lambda weight: weight.detach().cpu())
    job.result = find_fixed_points(cell, x=x, starts=starts, progress=job.advance)
