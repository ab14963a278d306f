"""What each unit does to the output, measured some units at a time so that it can be watched.

A sweep of a whole layer may take longer than a person likes to wait. Here the session's lock is
free but for moments: a slider moved meanwhile is answered.
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np
from torch import Tensor

from grulens.job import Job
from grulens.probing.edits.edit import ablate
from grulens.probing.readout.readout import Answer, divergence
from grulens.probing.units.batched_runs import EditedRuns
from grulens.probing.units.experiment import prepare
from grulens.probing.units.grid import Grid
from grulens.probing.units.sweep import PATHS
from grulens.widgets.session.seen import Seen
from grulens.widgets.session.session import Session

#: Others wait for the model while units are measured; a pause lets one of them have it.
PAUSE: Final = 0.002

#: What the runs done at a time may take: bytes, and about so many seconds; a slider waits as long.
MEMORY: Final = 128 * 2**20
SECONDS: Final = 0.25

#: "effect", "direct" and "recurrent", each (unit,) float32, NaN where a unit is not measured; of
#: a folded state each (channel,), a channel being switched off at all its places at once.
Columns = dict[str, np.ndarray]


def measure_effects(session: Session, job: Job[Columns]) -> None:
    """How far the output of the row shown moves, mean a step, when a unit is switched off.

    The edits of the session are not in it: each unit is switched off in the model as it is.

    Args:
        session: what is looked at; its lock is held whenever the job advances.
        job: is stopped where the session shows something else by then.
    """
    with session.lock:
        job.check()
        layer, row, given = session.before, session.row, session.given
        batch, steps, units = layer.shape
        scale, own = session.answer_before.scale, session.answered
        seen = Seen(session)
        shown = range(units) if seen.fold is None else range(seen.fold.count)
        groups = None if seen.fold is None else [list(seen.units([one])) for one in shown]
        job.total = len(shown)

    def values(output: Any) -> Tensor:
        return session.answers.read(output, row, batch, steps).values

    def moved(after: Tensor) -> float:
        return float(divergence(before, Answer(after, scale)).abs()[own].mean())

    found = {name: np.full(len(shown), np.nan, np.float32) for name in PATHS}
    with session.studying():
        experiment = prepare(session.model, given, layer.name, values, session.call)
        grid = Grid.of(experiment.recording, groups, None, ablate)
        runs = EditedRuns(experiment, grid.edits, MEMORY, SECONDS)
        before = Answer(experiment.baseline, scale)
        for answers in map(list, runs.answers(grid.runs)):
            with session.lock:
                if session.before is not layer or (session.row, session.fold) != (row, seen.fold):
                    job.stop()
                job.check()
                for unit, edited, direct in answers:
                    found["effect"][unit], found["direct"][unit] = moved(edited), moved(direct)
                found["recurrent"] = found["effect"] - found["direct"]
                job.result = {name: column.copy() for name, column in found.items()}
                job.advance(len(answers))
            time.sleep(PAUSE)
