"""What each unit does to the output, measured turn by turn so that it can be watched and stopped.

A sweep of a whole layer may take longer than a person likes to wait, and it holds the model's lock.
Between two turns the lock is free: a slider moved meanwhile is answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from torch import Tensor

from grulens.probing.edits.edit import ablate
from grulens.probing.readout.readout import Answer, divergence
from grulens.probing.units.batched_runs import EditedRuns
from grulens.probing.units.experiment import prepare
from grulens.probing.units.grid import Grid
from grulens.probing.units.sweep import PATHS
from grulens.widgets.session.session import Session

#: Others wait for the lock while a turn runs; a pause lets one of them have it.
PAUSE: Final = 0.002

#: What runs done at a time may take: bytes, and about so many seconds; a slider waits as long.
MEMORY: Final = 128 * 2**20
SECONDS: Final = 0.25

#: One measurement; set once it is to end.
Job = threading.Event


class UnitEffects:
    """How far the output of the row shown moves, mean a step, when a unit is switched off.

    The edits of the session are not in it: each unit is switched off in the model as it is.

    Attributes:
        columns: "effect", "direct" and "recurrent", each (unit,) float32, NaN where a unit is not
            measured; empty before the first turn is done.
        done: how many units are measured.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.columns: dict[str, np.ndarray] = {}
        self.done = 0
        self._job = Job()

    def clear(self) -> None:
        """Forget what was measured, of another input, row or layer; and stop measuring."""
        self.stop()
        self.columns, self.done = {}, 0

    def stop(self) -> None:
        """Measure no further turn; what is measured stays."""
        self._job.set()

    def begin(self) -> Job:
        """Stop what is being measured, and say what the next measurement is known by."""
        self.stop()
        self._job = Job()
        return self._job

    def measure(self, job: Job, on_turn: Callable[[], object]) -> None:
        """Measure every unit; `on_turn` is called after each turn, with the lock held."""
        session = self.session
        with session.lock:
            if job.is_set():
                return
            self.columns, self.done = {}, 0
            layer, row, given = session.before, session.row, session.given
            batch, steps, units = layer.shape
            scale, mask = session.answer_before.scale, layer.mask[row].cpu()

        def values(output: Any) -> Tensor:
            return session.answers.read(output, row, batch, steps).values

        def moved(after: Tensor) -> float:
            change = divergence(before, Answer(after, scale)).abs()
            return float((change[mask] if len(change) == len(mask) else change).mean())

        found = {name: np.full(units, np.nan, np.float32) for name in PATHS}
        with session.studying():
            experiment = prepare(session.model, given, layer.name, values, session.call)
            grid = Grid.of(experiment.recording, None, None, ablate)
            edited_runs = EditedRuns(experiment, grid.edits, MEMORY, SECONDS)
            before = Answer(experiment.baseline, scale)
            for turn in map(list, edited_runs.answers(grid.runs)):
                with session.lock:
                    if job.is_set() or session.before is not layer or session.row != row:
                        return
                    for unit, edited, direct in turn:
                        found["effect"][unit], found["direct"][unit] = moved(edited), moved(direct)
                    found["recurrent"] = found["effect"] - found["direct"]
                    self.columns = {name: column.copy() for name, column in found.items()}
                    self.done += len(turn)
                    on_turn()
                time.sleep(PAUSE)
