"""One model, run again and again: what differs between two runs is what the edits did."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from grulens.gru.precision import present
from grulens.models.record import record
from grulens.models.recording import Recording
from grulens.models.whole import Whole
from grulens.probing.edit import Edit

Input = tuple[tuple[Any, ...], dict[str, Any]]


class Runs:
    """Records a model, every time with the same random numbers, and leaves torch's own alone.

    Autocast, too, is every time as it was when this was made: it belongs to a thread, and a widget
    computes in threads of its own.

    The generator is global, and a widget may compute while a cell runs: it is touched only for a
    model that draws from it.

    Attributes:
        seconds: how long the last run took.
        random: where torch's random numbers stood before the first run that drew any.
        precision: gives the autocast under which this was made, for a block.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seconds = 0.0
        self.random: Tensor | None = None
        self.precision = present(next(model.parameters(), torch.empty(0)).device)

    def __call__(self, given: Input, edits: Sequence[Edit] = ()) -> Recording:
        """The recording of one run."""
        args, kwargs = given
        with _SameNumbers(self), self.precision():
            began = time.perf_counter()
            done = record(self.model, *args, edits=edits, **kwargs)
            self.seconds = time.perf_counter() - began
        return done


class _SameNumbers(Whole):
    """Random numbers from where the first run that drew any began."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    def begin(self) -> None:
        self.before = torch.get_rng_state()
        if self.runs.random is not None:
            torch.set_rng_state(self.runs.random)

    def end(self) -> None:
        if not torch.equal(torch.get_rng_state(), self.before):
            self.runs.random = self.before if self.runs.random is None else self.runs.random
            torch.set_rng_state(self.before)
