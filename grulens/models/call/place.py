"""Where an edit acts, in sizes: what one call of one layer tells an edit, and what it asks of it.

`models` runs edits and `probing` defines them, and imports point down only; this is the face that
the lower side sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from grulens.cells.changes import Change
from grulens.cells.signal import Signalling


@dataclass(frozen=True, eq=False)
class Place:
    """One layer in one call.

    Attributes:
        layer: its name.
        batch: rows.
        steps: steps of this call.
        cell: the layer's cell.
        start: the position of this call's first step on the layer's time axis.
        total: the length of that axis: what a negative position counts from.
        lengths: (batch,) how far each row goes, or None; for a layer that is called once.
        like: a tensor of the run's dtype and device.
        mean: gives the mean unedited state (unit,) over valid steps and rows.
    """

    layer: str
    batch: int
    steps: int
    cell: Signalling
    start: int
    total: int
    lengths: Tensor | None
    like: Tensor
    mean: Callable[[], Tensor]

    @property
    def units(self) -> int:
        """Units of the layer."""
        return self.cell.hidden_size


@runtime_checkable
class EditLike(Protocol):
    """What a run asks of an edit."""

    @property
    def layer(self) -> str:
        """The layer it acts on."""

    @property
    def signal(self) -> str:
        """The signal that it changes."""

    @property
    def relative(self) -> bool:
        """Whether it refers to the unedited run (its mean, or positions from its end)."""

    def check_units(self, units: int) -> None:
        """Raise PositionError or EditError unless it fits a layer of so many units."""

    def check_steps(self, steps: int) -> None:
        """Raise PositionError unless it fits a run of so many steps."""

    def change(self, place: Place) -> Change:
        """The change it makes there."""
