"""The search for fixed points behind a screen: in the background, watched, and stopped at a touch.

The weights are the recording's own copy, so the model and its lock are free all the while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from grulens.cells.dynamics.fixed_points import FixedPoints, find_fixed_points
from grulens.cells.gru import Cell

#: Starts of a search.
STARTS: Final = 512
#: How far the first and the last start are moved from the states they come from, standard
#: deviation. States of a run are alike: saddles that no run comes near are found from afar.
NOISE: Final = (0.05, 0.5)
#: A page is told this often at most, in seconds.
TELL: Final = 0.3


class Search:
    """One search after the other.

    Attributes:
        found: what the last one found, None before the first.
        done: how many starts of the present one have arrived.
        total: how many it has.
        running: whether there is one.
    """

    def __init__(self) -> None:
        self.found: FixedPoints | None = None
        self.done = self.total = 0
        self.running = False
        self._job = threading.Event()
        self._told = 0.0

    def clear(self) -> None:
        """Forget what was found; end a search that runs."""
        self.stop()
        self._job = threading.Event()
        self.found, self.running = None, False

    def stop(self) -> None:
        """End the search; what has arrived stays."""
        self._job.set()

    def begin(self) -> threading.Event:
        """End what runs, and say what the next search is known by."""
        self.stop()
        self._job = threading.Event()
        self.running, self.done = True, 0
        return self._job

    def run(
        self,
        job: threading.Event,
        cell: Cell,
        states: Tensor,
        x: Tensor | None,
        on_change: Callable[[], Any],
    ) -> None:
        """Search from some of the states (state, unit); `on_change` is called now and then."""
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(states), generator=generator)[:STARTS]
        starts = states[order.to(states.device)].detach().cpu().double()
        far = torch.linspace(*NOISE, len(starts), dtype=torch.double)[:, None]
        starts = starts + far * torch.randn(starts.shape, generator=generator).double()
        self.total = len(starts)

        def told(count: int) -> None:
            self.done += count
            if job.is_set():
                raise KeyboardInterrupt
            if time.monotonic() - self._told > TELL:
                self._told = time.monotonic()
                on_change()

        cell = cell.over(lambda weight: weight.detach().cpu())
        try:
            found = find_fixed_points(cell, x=x, starts=starts, progress=told)
            if job is self._job:
                self.found = found
        finally:
            if job is self._job:
                self.running = False
            on_change()
