"""What each unit does to the output, measured part by part so that it can be watched and stopped.

A sweep of a whole layer may take longer than a person likes to wait, and it holds the model's lock.
Between two parts the lock is free: a slider moved meanwhile is answered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from grulens.probing.readout import divergence
from grulens.probing.sweep import sweep
from grulens.widgets.session import Session

PART = 64
PATHS = ("effect", "direct", "recurrent")


class UnitEffects:
    """How far the output of the row shown moves, mean a step, when a unit is switched off.

    The edits of the session are not in it: each unit is switched off in the model as it is.

    Attributes:
        columns: "effect", "direct" and "recurrent", each (unit,) float32, NaN where a unit is not
            measured; empty before the first part is there.
        done: how many units are measured.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.columns: dict[str, np.ndarray] = {}
        self.done = 0
        self._stopped = False

    def clear(self) -> None:
        """Forget what was measured, of another input, row or layer; and stop measuring."""
        self._stopped = True
        self.columns, self.done = {}, 0

    def stop(self) -> None:
        """Measure no further part; what is measured stays."""
        self._stopped = True

    def measure(self, on_part: Callable[[], object]) -> None:
        """Measure every unit; `on_part` is called after each part, with the lock free."""
        session = self.session
        self._stopped = False
        asked = session.baseline, session.layer, session.row
        units = session.before.shape[2]
        columns = {name: np.full(units, math.nan, np.float32) for name in PATHS}
        self.done = 0
        for start in range(0, units, PART):
            part = list(range(start, min(start + PART, units)))
            with session.lock:
                if self._stopped or asked != (session.baseline, session.layer, session.row):
                    return
                found = self._part(part)
                for name, values in found.items():
                    columns[name][part] = values
                self.columns = {name: values.copy() for name, values in columns.items()}
                self.done = part[-1] + 1
            on_part()

    def _part(self, units: list[int]) -> dict[str, Any]:
        session = self.session
        before, (batch, steps, _) = session.answer_before, session.before.shape
        args, kwargs = session.given

        def moved(output: Any) -> Tensor:
            after = session.answers.read(output, session.row, batch, steps)
            return session.valid(divergence(before, after)).mean()

        with session.runs.precision():
            found = sweep(
                session.model, *args, layer=session.layer, readout=moved, units=units,
                progress=False, **kwargs,
            )  # fmt: skip
        return {name: getattr(found, name).numpy() for name in PATHS}
