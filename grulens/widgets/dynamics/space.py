"""The space that a phase portrait shows: its plane, the points in it, and the constant input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grulens.cells.dynamics.fixed_points import FixedPoints
from grulens.errors import RecordingError
from grulens.models.recording import LayerRecording
from grulens.probing.dynamics.portrait import Plane, Portrait, portrait
from grulens.widgets.session.session import Session
from grulens.words import say

Pair = tuple[int, int]


class PhaseSpace:
    """The states of a session's layer in the principal components of its unedited run.

    Args:
        session: what is looked at.
        found: gives the fixed points found, or None.
    """

    def __init__(self, session: Session, found: Callable[[], FixedPoints | None]) -> None:
        self.session, self._found = session, found
        self._portrait: Portrait | None = None

    def renew(self) -> None:
        """Take the layer and the run that the session shows now.

        Raises:
            RecordingError: its states span no plane.
        """
        self._portrait = None
        self._portrait = portrait(self.session.before)

    @property
    def portrait(self) -> Portrait:
        """The components."""
        if self._portrait is None:
            raise RecordingError(f"the states of layer {self.session.layer!r} span no plane")
        return self._portrait

    @property
    def there(self) -> bool:
        """Whether there are components."""
        return self._portrait is not None

    def pairs(self) -> list[tuple[str, Pair]]:
        """The planes that can be shown."""
        count = len(self.portrait.axes)
        pairs = [(i, j) for i, j in ((0, 1), (0, 2), (1, 2)) if j < count]
        return [(f"PC {i + 1} × PC {j + 1}", (i, j)) for i, j in pairs]

    def axes(self, pair: Pair) -> tuple[str, str]:
        """What the two directions of a plane are."""
        first, second = (
            say(
                "PC {n} ({share} of the variance)",
                n=i + 1,
                share=f"{float(self.portrait.explained[i]):.0%}",
            )
            for i in pair
        )
        return first, second

    def plane(self, pair: Pair, index: int | None) -> Plane:
        """A plane through a fixed point, or through the mean."""
        found = self._found()
        through = None if found is None or index is None else found.states[index]
        return self.portrait.plane(*pair, through=through)

    def project(self, plane: Plane, layer: LayerRecording) -> np.ndarray:
        """The states of a run of the layer in a plane (row, time, 2), NaN on padding."""
        points = plane.project(layer.state)
        points[~self.session.before.mask.cpu()] = torch.nan
        return points.numpy()

    def places(self, plane: Plane) -> tuple[np.ndarray, np.ndarray]:
        """The fixed points in a plane (point, 2), and in how many directions each is left."""
        found = self._found()
        if found is None:
            return np.zeros((0, 2)), np.zeros(0, int)
        return plane.project(found.states).numpy(), found.unstable_dims.numpy()

    def x(self, kind: Any) -> Tensor | None:
        """The constant input: None for zero, or (input,)."""
        layer, session = self.session.before, self.session
        if kind == "mean":
            mean: Tensor = layer.x.detach()[layer.mask].mean(0)
            return mean
        if kind == "step":
            one: Tensor = layer.x.detach()[session.row, min(session.step, session.steps - 1)]
            return one
        return None
