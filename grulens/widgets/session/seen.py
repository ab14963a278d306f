"""What a screen shows of a layer, one below the other: its units, or the channels they fold to.

A selection and an edit are of units always. A channel that is chosen is all its places; where one
place is shown, it is the unit there.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from grulens.widgets.session.display_names import unit_name
from grulens.widgets.session.selection import has_space
from grulens.widgets.session.session import Session
from grulens.words import message, say


class Seen:
    """The rows of the map and of the table, of the layer and the row that a session shows.

    Args:
        session: what is looked at, as it is now.

    Attributes:
        fold: how they are made of units; None where each is a unit.
        noun: what each is: "unit", "channel", or "slice" of a state of two axes.
        layer: the name of the layer, and how it is folded.

    >>> import torch
    >>> seen = Seen(Session(torch.nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3)))
    >>> seen.name(2), seen.names, seen.units([2]), seen.layer
    ('unit 2', None, (2,), 'l0')
    """

    def __init__(self, session: Session) -> None:
        self.fold, self._row, self._cell = session.fold, session.row, session.now.cell
        self.noun = message("unit") if self.fold is None else self.fold.noun
        self.layer = session.layer if self.fold is None else f"{session.layer}, {self.fold.words}"

    def folded(self, signal: Float[Tensor, "*before unit"]) -> Float[Tensor, "*before one"]:
        """A signal of what is shown, without its graph."""
        return signal.detach() if self.fold is None else self.fold(signal.detach())

    def values(self, signal: Tensor) -> Float[np.ndarray, "unit time"]:
        """The row shown of a signal (batch, time, unit) as (unit, time) float32."""
        values: np.ndarray = self.folded(signal[self._row]).float().cpu().numpy().T
        return values

    def units(self, chosen: Iterable[int]) -> tuple[int, ...]:
        """The units of what was chosen."""
        return tuple(chosen) if self.fold is None else self.fold.units(chosen)

    def chosen(self, units: Iterable[int]) -> tuple[int, ...]:
        """What of it these units are; a channel is chosen if all its units are."""
        return tuple(units) if self.fold is None else self.fold.channels(units)

    def rows(self, units: Iterable[int]) -> tuple[int, ...]:
        """The row of each of some units: of a state over space its channel."""
        fold = self.fold
        return tuple(unit if fold is None else fold.where(unit)[0] for unit in units)

    @property
    def names(self) -> list[str] | None:
        """What each is called; None where that is its number and nothing more."""
        if self.fold is not None:
            return [self.name(channel) for channel in range(self.fold.count)]
        if not has_space(self._cell):
            return None
        return [unit_name(self._cell, unit) for unit in range(self._cell.hidden_size)]

    def name(self, one: int) -> str:
        """What one is called beside a figure: "unit 3", "channel 3", "channel 3 at (12, 7)"."""
        if self.fold is not None and isinstance(self.fold.how, str):
            named = message("slice {n}") if self.noun == "slice" else message("channel {n}")
            return say(named, n=one)
        return unit_name(self._cell, *self.units([one]))

    def key(self, one: int) -> str:
        """The same in English, whatever is spoken: the name of a column in a file or a frame."""
        if self.fold is not None and isinstance(self.fold.how, str):
            return f"{self.noun} {one}"
        if has_space(self._cell):
            return self._cell.unit_name(*self.units([one]))
        return f"unit {one}"
