"""A recorded run as a file holds it: of every call of a layer its input, states and weights.

The signals are not written: they are computed from these, as in the run that was recorded. Of an
observed cell there are no weights: what was read of it is written, and its equation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grulens.cells.cell import RecurrentCell
from grulens.cells.mix import GatedForm, Polynomial
from grulens.cells.observed import ObservedCell
from grulens.cells.signal import Signal
from grulens.errors import FileError
from grulens.models.adapters.closed import Closed
from grulens.models.call.segment import Segment
from grulens.models.observe.reading.segment import BEFORE, ObservedSegment
from grulens.results import Result

NO_GRAPH = "a file holds no graph: record(model, ..., grad=True)"
EDITED = "ran with an edit: save the unedited run, and the edits by to_dict()"


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
            if segment.program is not None:
                why = EDITED
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


Sum = tuple[tuple[tuple[str, ...], float], ...]
"""A polynomial: of each product its symbols, and the number before it."""


@dataclass(frozen=True, eq=False)
class SavedForm:
    """A `GatedForm`, its sums as lists of products."""

    keep: Sum
    write: Sum
    gate: Sum | None
    candidate: Sum | None
    decay: Sum
    outside: Sum

    @staticmethod
    def of(form: GatedForm) -> SavedForm:
        """What a file holds of a form."""

        def sum_of(value: Polynomial) -> Sum:
            return tuple((product, float(factor)) for product, factor in value.terms.items())

        gate, candidate = (None if p is None else sum_of(p) for p in (form.gate, form.candidate))
        keep, write, decay, outside = map(sum_of, (form.keep, form.write, form.decay, form.outside))
        return SavedForm(keep, write, gate, candidate, decay, outside)

    @property
    def form(self) -> GatedForm:
        """The form."""
        gate, candidate = (
            None if held is None else Polynomial(dict(held)) for held in (self.gate, self.candidate)
        )
        keep, write, decay, outside = (
            Polynomial(dict(held)) for held in (self.keep, self.write, self.decay, self.outside)
        )
        return GatedForm(keep, write, gate, candidate, decay, outside)


@dataclass(frozen=True, eq=False)
class SavedObserved:
    """One layer whose cell was observed: its equation, and of each call what was read of it.

    The attributes are those of an `ObservedCell`; `calls` has of each call, by what was read, a
    tensor of all steps (time, ...), each step in the shape that it had in the code; `left_out` the
    rounds of its loop in which no state was made; `within` whether a call of these is a part of the
    one before.
    """

    name: str
    kind: str
    signals: tuple[Signal, ...]
    form: SavedForm
    equation: str
    carried: str
    shape: tuple[int, ...]
    others: tuple[Signal, ...]
    lines: dict[str, tuple[str, str]]
    bend: str
    calls: tuple[dict[str, Tensor], ...]
    loop: str = ""
    left_out: tuple[tuple[int, ...] | None, ...] = ()
    cut: dict[str, str] = field(default_factory=dict)
    hides: tuple[str, ...] = ()
    read_by: str = ""
    remark: str = ""
    axis: int = 0
    within: tuple[bool, ...] = ()
    comes_back: tuple[str, ...] = ()
    channel: int | None = None

    @staticmethod
    def of(name: str, segments: Sequence[ObservedSegment]) -> SavedObserved:
        """What a file holds of an observed layer.

        Raises:
            FileError: an edit was in force, or a value had several shapes.
        """
        calls = []
        for segment in segments:
            if segment.program is not None:
                raise FileError(f"layer {name!r} {EDITED}; no file holds that")
            calls.append({what: _stacked(held, name) for what, held in segment.read.items()})
        cell = segments[-1].cell
        return SavedObserved(
            name, cell.kind, cell.signals, SavedForm.of(cell.form), cell.equation, cell.carried,
            tuple(cell.shape), cell.others, dict(cell.lines), cell.bend, tuple(calls), cell.loop,
            tuple(segment.left_out for segment in segments), dict(cell.cut), cell.hides,
            cell.read_by, cell.remark, cell.axis,
            tuple(segment.within for segment in segments), cell.comes_back,
            cell.channel,
        )  # fmt: skip

    @property
    def segments(self) -> tuple[ObservedSegment, ...]:
        """Its calls as parts of a recording.

        Raises:
            FileError: there are none, or what was read does not obey the equation.
        """
        cell = ObservedCell(
            self.kind, self.signals, self.form.form, self.equation, self.carried, self.shape,
            self.others, self.lines, self.bend, self.cut, self.loop, self.hides, self.read_by,
            self.remark, self.axis, self.comes_back, self.channel,
        )  # fmt: skip
        names = {signal.name for signal in self.signals}
        found = []
        left_out = self.left_out or ((),) * len(self.calls)
        within = self.within or (False,) * len(self.calls)
        if not len(left_out) == len(within) == len(self.calls):
            raise FileError(f"what is said of the calls of layer {self.name!r} is of others")
        for call, left, inside in zip(self.calls, left_out, within, strict=True):
            needed = {BEFORE, "h", self.carried, *names, *cell.form.symbols}
            steps = {len(value) if value.dim() else 0 for value in call.values()}
            if not needed <= set(call) or len(steps) != 1 or steps == {0}:
                raise FileError(f"a call of layer {self.name!r} does not fit its cell")
            read = {what: value.unbind(0) for what, value in call.items()}
            part = ObservedSegment(cell, read, left_out=left, within=inside, no_graph=NO_GRAPH)
            try:
                sizes = {part.value(what).shape[2] for what in (BEFORE, "h", *names)}
                fits = sizes == {cell.hidden_size} and part.off() is None
            except (RuntimeError, ValueError, IndexError) as error:
                raise FileError(f"a call of layer {self.name!r} does not fit its cell") from error
            if not fits:
                raise FileError(
                    f"a call of layer {self.name!r} does not obey {self.equation}, as the run that "
                    "was saved did"
                )
            found.append(part)
        if not found:
            raise FileError(f"layer {self.name!r} has no calls")
        if self.channel is not None and not 0 <= self.channel < len(self.shape):
            raise FileError(f"layer {self.name!r} has no axis {self.channel} of channels")
        return tuple(found)


def _stacked(held: Sequence[Tensor], name: str) -> Tensor:
    """The values of all steps (time, ...); one row that serves for all stands for each."""
    shapes = {value.shape for value in held}
    whole = [max(sizes) for sizes in zip(*shapes, strict=False)]
    fits = all(
        len(shape) == len(whole)
        and all(size in (1, most) for size, most in zip(shape, whole, strict=True))
        for shape in shapes
    )
    if not fits or len({value.dtype for value in held}) > 1:
        raise FileError(f"layer {name!r} has values of several shapes; no file holds that")
    return torch.stack([value.expand(whole) for value in held])


@dataclass(frozen=True, eq=False)
class SavedRun(Result):
    """A recorded run: its layers, what it returned, and what its model holds beside them."""

    layers: tuple[SavedLayer | SavedObserved, ...]
    output: Any
    closed: tuple[Closed, ...]

    @staticmethod
    def of(
        layers: Mapping[str, Sequence[Segment] | Sequence[ObservedSegment]],
        output: object,
        closed: Sequence[Closed],
    ) -> SavedRun:
        """What a file holds of a run."""
        saved = tuple(_saved(name, segments) for name, segments in layers.items())
        return SavedRun(saved, output, tuple(closed))


def _saved(name: str, segments: Sequence[Any]) -> SavedLayer | SavedObserved:
    kind: Any = SavedObserved if isinstance(segments[0], ObservedSegment) else SavedLayer
    made: SavedLayer | SavedObserved = kind.of(name, segments)
    return made


def _autocast(precision: object) -> bool:
    return isinstance(precision, partial) and bool(precision.keywords.get("enabled", True))
