"""A sweep that lets others have a turn: for a screen that stays alive while it is measured.

A sweep for its own sake takes as many runs at a time as fit. Under a person's hand that is too
many: a slider needs the same model, and waits for its lock. So here a turn is as long as a person
does not notice, the lock is free in between, and whoever asked may stop after any of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from grulens.models.call.invocation import Given
from grulens.probing.edits.five import ablate
from grulens.probing.readout.readout import Readout
from grulens.probing.units.request import Asked
from grulens.probing.units.runs import Answer, SideBySide, one_by_one
from grulens.probing.units.sweep import ask, runs_at_once

FIRST = 4
SECONDS = 0.25
MEMORY = 128 * 2**20


class Turns:
    """Units switched off, each in a run of its own, some runs a turn.

    Args:
        model: any module that holds a GRU.
        given: its arguments, positional and named.
        layer: the layer.
        readout: from the model's output to a floating tensor of any one shape.
        call: the model's method that is the run, or None.
        seconds: how long a turn should take; four runs are always done, or memory would wait.

    Attributes:
        baseline: the readout of the unedited run.
        units: the units.

    >>> import torch
    >>> turns = Turns(nn.GRU(3, 4), ((torch.ones(5, 1, 3),), {}), "l0", lambda out: out[1])
    >>> [unit for turn in turns for unit, edited, direct in turn]
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        model: nn.Module,
        given: Given,
        layer: str,
        readout: Readout,
        *,
        call: str | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self._question, self._plain = ask(model, given, layer, readout, call)
        self._asked = Asked.of(self._question.recording, None, None, ablate)
        self._seconds = seconds
        self.units: tuple[int, ...] = self._asked.units
        self.baseline: Tensor = self._question.baseline

    def __iter__(self) -> Iterator[list[Answer]]:
        """The answers of each turn: unit, its readout edited, and edited behind the recurrence."""
        side_by_side = SideBySide(self._question, self._plain)
        runs, edits = self._asked.runs, self._asked.edits
        first = side_by_side.first(runs[:FIRST], edits) if runs else []
        if first is None:
            for answer in one_by_one(self._question, runs, edits):
                yield self._named([answer])
            return
        yield self._named(first)
        most, size, done = runs_at_once(self._question, self._plain, MEMORY), FIRST, len(first)
        while done < len(runs):
            began = time.perf_counter()
            turn = list(side_by_side.answers(runs[done : done + size], edits))
            took = time.perf_counter() - began
            yield self._named(turn)
            done += len(turn)
            # doubled at most: a first short turn says little
            wanted = int(len(turn) * self._seconds / max(took, 1e-6))
            size = max(1, min(most, max(FIRST, min(2 * size, wanted))))

    def _named(self, answers: Sequence[Answer]) -> list[Answer]:
        return [(self.units[run], *readouts) for run, *readouts in answers]  # type: ignore[misc]
