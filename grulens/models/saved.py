"""A recorded run as a file holds it: of every call of a layer its input, states and weights.

The signals are not written: they are computed from these, as in the run that was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from grulens.cells.cell import RecurrentCell
from grulens.errors import FileError
from grulens.models.adapters.closed import Closed
from grulens.models.call.segment import Segment
from grulens.models.observe.segment import ObservedSegment
from grulens.results import Result


@dataclass(frozen=True, eq=False)
class SavedCall:
    """One call of a layer; the attributes are those of a `Segment`, `cell` which of its cells."""

    cell: int
    x: Float[Tensor, "_ time input"]
    h: Float[Tensor, "_ time unit"]
    h_0: Float[Tensor, "_ state"]
    lengths: Int[Tensor, _] | None
    reverse: bool

    def segment(self, cells: Sequence[RecurrentCell]) -> Segment:
        """The call as a part of a recording."""
        if not 0 <= self.cell < len(cells):
            raise FileError(f"a call names cell {self.cell} of {len(cells)}")
        x, h = self.x, self.h
        return Segment(
            cells[self.cell], lambda: x, lambda: h, self.h_0, x.shape[1], self.lengths,
            self.reverse, None,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class SavedLayer:
    """One layer: its cells, each once, and its calls in order."""

    name: str
    cells: tuple[RecurrentCell, ...]
    calls: tuple[SavedCall, ...]

    @staticmethod
    def of(name: str, segments: Sequence[Segment]) -> SavedLayer:
        """What a file holds of a layer.

        Raises:
            FileError: an edit was in force, it ran under autocast, or its weights were changed.
        """
        cells: list[RecurrentCell] = []
        calls = []
        for segment in segments:
            why = None
            read: object = segment
            if isinstance(read, ObservedSegment):
                why = "was observed in its module's own forward"
            elif segment.program is not None:
                why = "ran with an edit: save the unedited run, and the edits by to_dict()"
            elif _autocast(segment.precision):
                why = "ran under autocast"
            elif segment.moved:
                why = "has weights that were changed in place since it ran"
            if why is not None:
                raise FileError(f"layer {name!r} {why}; no file holds that")
            place = next((i for i, cell in enumerate(cells) if cell is segment.cell), len(cells))
            cells += [segment.cell][: place == len(cells)]
            x, h = segment.inputs(), segment.states()
            calls.append(SavedCall(place, x, h, segment.h_0, segment.lengths, segment.reverse))
        return SavedLayer(name, tuple(cells), tuple(calls))

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Its calls as parts of a recording.

        Raises:
            FileError: there are none, or their sizes are none of its cell.
        """
        found = tuple(call.segment(self.cells) for call in self.calls)
        for part in found:
            x, h, cell = part.inputs(), part.states(), part.cell
            state = len(cell.states) * cell.hidden_size
            rows, steps = len(part.h_0), x.shape[1]
            sizes = {(rows, steps, cell.input_size): x, (rows, steps, cell.hidden_size): h}
            fits = all(tuple(value.shape) == size for size, value in sizes.items())
            if not fits or part.h_0.shape[1] != state:
                raise FileError(f"a call of layer {self.name!r} does not fit its cell")
            if part.lengths is not None and part.lengths.shape != part.h_0.shape[:1]:
                raise FileError(f"a call of layer {self.name!r} has lengths of other rows")
        if not found:
            raise FileError(f"layer {self.name!r} has no calls")
        return found


@dataclass(frozen=True, eq=False)
class SavedRun(Result):
    """A recorded run: its layers, what it returned, and what its model holds beside them."""

    layers: tuple[SavedLayer, ...]
    output: Any
    closed: tuple[Closed, ...]

    @staticmethod
    def of(
        layers: Mapping[str, Sequence[Segment]], output: object, closed: Sequence[Closed]
    ) -> SavedRun:
        """What a file holds of a run."""
        saved = tuple(SavedLayer.of(name, segments) for name, segments in layers.items())
        return SavedRun(saved, output, tuple(closed))


def _autocast(precision: object) -> bool:
    return isinstance(precision, partial) and bool(precision.keywords.get("enabled", True))
