"""The runs of a sweep: which units or groups of them, at which times, and the edits of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from grulens.arguments import MakeEdit, Positions, Times, UnitGroups
from grulens.errors import EditError, PositionError, shown
from grulens.models.call.place import EditLike
from grulens.models.recording import LayerRecording
from grulens.probing.edits import positions
from grulens.probing.edits.edit import Edit


@dataclass(frozen=True, eq=False)
class Grid:
    """The runs of a sweep, numbered unit by unit and within a unit time by time.

    Attributes:
        layer: the layer.
        units: units or groups.
        times: times, or None.
        make_edit: gives the edit of one run.
        size: units of the layer.
        steps: steps of its run.
    """

    layer: str
    units: tuple[Positions, ...]
    times: tuple[int, ...] | None
    make_edit: MakeEdit
    size: int
    steps: int
    _made: dict[int, tuple[EditLike, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, recording: LayerRecording, units: UnitGroups, times: Times, make_edit: MakeEdit
    ) -> Grid:
        """The runs that a user asked for.

        Raises:
            PositionError: units or times that are not there.
        """
        layer, (_, steps, size) = recording.name, recording.shape
        padded = not bool(recording.mask.all())
        return cls(
            layer,
            _groups(units, size, f"layer {layer!r}"),
            None if times is None else _times(times, steps, layer, padded),
            make_edit,
            size,
            steps,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(unit,) or (unit, time)."""
        return (len(self.units),) if self.times is None else (len(self.units), len(self.times))

    @property
    def runs(self) -> list[int]:
        """Their numbers, in the order in which they are done: runs of one time together."""
        each = 1 if self.times is None else len(self.times)
        return [unit * each + time for time in range(each) for unit in range(len(self.units))]

    def index(self, run: int) -> tuple[int, ...]:
        """Where a run stands in `shape`."""
        return (run,) if self.times is None else divmod(run, len(self.times))

    def edits(self, run: int) -> tuple[EditLike, ...]:
        """The edits of one run.

        Raises:
            EditError: `make_edit` gave something else, or edits of another layer.
            PositionError, SourceError: they do not fit.
        """
        if run not in self._made:
            self._made[run] = self._checked(*self._make(run))
        return self._made[run]

    def _make(self, run: int) -> tuple[Any, str]:
        if self.times is None:
            unit = self.units[run]
            return self.make_edit(self.layer, unit), f"make_edit({self.layer!r}, {unit!r})"
        unit, at = self.units[run // len(self.times)], self.times[run % len(self.times)]
        call = f"make_edit({self.layer!r}, {unit!r}, at={at!r})"
        return self.make_edit(self.layer, unit, at=at), call

    def _checked(self, made: Any, call: str) -> tuple[EditLike, ...]:
        edits = tuple(made) if isinstance(made, Sequence) else (made,)
        for edit in edits:
            # to ask for a protocol takes longer than to make an edit
            if not isinstance(edit, Edit) and not isinstance(edit, EditLike):
                raise EditError(
                    f"{call} must give an edit (ablate, clamp, ...) or a sequence of them, got "
                    f"{shown(made)}"
                )
            if edit.layer != self.layer:
                raise EditError(f"{call} gave {edit!r}, of another layer; expected {self.layer!r}")
            edit.check_units(self.size)
            edit.check_steps(self.steps)
        return edits


def _groups(units: Any, size: int, where: str) -> tuple[Positions, ...]:
    if isinstance(units, Sequence) and not isinstance(units, str):
        items = [item.item() if isinstance(item, np.integer) else item for item in units]
        if any(not isinstance(item, int) for item in items):
            found = [positions.normal(item, "units") for item in items]
            for item in found:
                positions.check(item, size, "unit", where)
            return tuple(i % size if isinstance(i, int) else i for i in found)
    return _present(units, size, "unit", where)


def _times(times: Times, steps: int, layer: str, padded: bool) -> tuple[int, ...]:
    where = f"this run of layer {layer!r}"
    index = positions.normal(times, "times")
    if padded and (isinstance(index, int) or _is_ints(index)):
        # each row has an end of its own: what counts from it stays as it was asked for
        positions.check(index, steps, "time", where)
        found = (index,) if isinstance(index, int) else tuple(index)  # type: ignore[arg-type]
    else:
        found = _present(index, steps, "time", where)
    if not found:
        raise PositionError(f"times={times!r} names no time of {where}, which has {steps}")
    return found


def _present(index: Any, size: int, what: str, where: str) -> tuple[int, ...]:
    """The positions that an index means, in its own order."""
    index = positions.normal(index, f"{what}s")
    positions.check(index, size, what, where)
    if isinstance(index, int):
        return (index % size,)
    if _is_ints(index):
        return tuple(item % size for item in index)
    if isinstance(index, slice):
        return tuple(range(size)[index])
    chosen: Tensor = positions.mask(index, size)
    return tuple(chosen.nonzero().flatten().tolist())


def _is_ints(index: Any) -> bool:
    return isinstance(index, tuple) and not any(isinstance(item, bool) for item in index)
