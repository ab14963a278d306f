"""One model, run again and again: what differs between two runs is what the edits did."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from grulens.models.record import record
from grulens.models.recording import Recording
from grulens.probing.edit import Edit

Input = tuple[tuple[Any, ...], dict[str, Any]]


class Runs:
    """Records a model, every time with the same random numbers, and leaves torch's own alone.

    The generator is global, and a widget may compute while a cell runs: it is touched only for a
    model that draws from it.

    Attributes:
        seconds: how long the last run took.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seconds = 0.0
        self._random: Tensor | None = None

    def __call__(self, given: Input, edits: Sequence[Edit] = ()) -> Recording:
        """The recording of one run."""
        args, kwargs = given
        before = torch.get_rng_state()
        if self._random is not None:
            torch.set_rng_state(self._random)
        began = time.perf_counter()
        try:
            return record(self.model, *args, edits=edits, **kwargs)
        finally:
            self.seconds = time.perf_counter() - began
            if not torch.equal(torch.get_rng_state(), before):
                self._random = before if self._random is None else self._random
                torch.set_rng_state(before)
