"""The edits of many runs as those of one, whose rows are the rows of all of them.

An observed cell runs in its module's own code, and an edit acts in it a step at a time. What each
copy changes is laid out beforehand, (row, copy) as `repeat_rows` lays out what a model is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grulens.cells.changes import Change
from grulens.models.call.place import Place
from grulens.models.instrument.batched import NoCopiesError


@dataclass(frozen=True, eq=False)
class Copies:
    """What each copy changes in one signal; it is asked as an edit is.

    Attributes:
        layer: the layer.
        signal: the signal.
        before_activation: as of a `Change`.
        rows: rows of one copy.
        copies: how many there are.
        steps: length of a run.
        where, factor, offset: as of a `Change`, by row, copy, time and unit.
    """

    layer: str
    signal: str
    before_activation: bool
    rows: int
    copies: int
    steps: int
    where: Bool[Tensor, "#row copy #time #unit"]
    factor: Float[Tensor, "#row copy #time #unit"]
    offset: Float[Tensor, "#row copy #time #unit"]

    relative = False

    @classmethod
    def of(cls, runs: Sequence[Sequence[Change]], place: Place) -> list[Copies]:
        """The changes of some runs, in the order in which each acts.

        Args:
            runs: what each copy changes.
            place: the layer in the whole unedited run.
        """
        found = []
        # one change a run at a time: within a run their order has a meaning, between runs none
        for column in zip_longest(*runs):
            groups: dict[tuple[str, bool], dict[int, Change]] = {}
            for copy, change in enumerate(column):
                if change is not None:
                    key = change.signal, change.before_activation
                    groups.setdefault(key, {})[copy] = change
            for (signal, before), group in groups.items():
                tensors = (
                    _stacked({c: getattr(one, name) for c, one in group.items()}, len(runs))
                    for name in ("where", "factor", "offset")
                )
                found.append(
                    cls(place.layer, signal, before, place.batch, len(runs), place.steps, *tensors)
                )
        return found

    def check_units(self, units: int) -> None:
        """It fits: the edits that it is made of were asked."""

    def check_steps(self, steps: int) -> None:
        """The same."""

    def change(self, place: Place) -> Change:
        """The change of all copies in some steps.

        Raises:
            NoCopiesError: the run has other rows or steps than the unedited one.
        """
        stop = place.start + place.steps
        if place.batch != self.rows * self.copies or stop > self.steps:
            raise NoCopiesError("other rows or steps than the unedited run's")
        where, factor, offset = (
            self._at(part, place.start, stop) for part in (self.where, self.factor, self.offset)
        )
        return Change(self.signal, where, factor, offset, self.before_activation)

    def _at(self, part: Tensor, start: int, stop: int) -> Tensor:
        here = part if part.shape[2] == 1 else part[:, :, start:stop]
        return here.expand(self.rows, *here.shape[1:]).flatten(0, 1)


def _stacked(parts: dict[int, Tensor], copies: int) -> Tensor:
    """What each copy has, (row, copy, time, unit); 0 of those that have nothing."""
    first = next(iter(parts.values()))
    shapes = {part.shape for part in parts.values()}
    rows, steps, units = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    made = first.new_zeros(rows, copies, steps, units)
    for copy, part in parts.items():
        made[:, copy] = part
    return made
