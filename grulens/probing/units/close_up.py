"""One unit at one step, close up: what adds up to each of its pre-activations, and what they make.

`grulens.cells.sums` holds the mathematics; this asks it of a recording, with the edits of its run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from grulens.arguments import Frame, Integer, SignalName
from grulens.cells.cell import RecurrentCell
from grulens.cells.changes import Program
from grulens.cells.signal import Signal
from grulens.cells.sums import PreActivation, sums
from grulens.errors import CellError, PositionError, SignalError, shown
from grulens.models.observed import ObservedLayer
from grulens.models.recorded import LayerRecording
from grulens.models.recording import Recording
from grulens.probing.edits import positions
from grulens.probing.layer import layer_of
from grulens.results import Result, frame, row_of
from grulens.tables import html_table

#: So many parts of each sum stand in the table of a result.
MOST = 5


@dataclass(frozen=True, eq=False, repr=False)
class CloseUp(Result):
    """What one unit computed at one step. Sums are float64, of the numbers that were recorded.

        pre-activation = sum of inputs + sum of units + biases + shift

    for each signal whose rows the weights pack: r, z, n of a GRU. Of a GRU whose reset acts after
    the product, each unit's part in n is r W_hn h_prev, and b_hn's is r b_hn; where it acts before,
    a unit's part has the r of that unit. Parts are those of this run: where an edit holds r, with
    the r that is held.

    Attributes:
        layer: the layer.
        kind: what its cell is called.
        equation: what h is made of, in the names of `signals`.
        row: row of the batch.
        step: step, counted as in the input.
        unit: the unit.
        signals: what the step makes, h last.
        blocks: the names of those that have a pre-activation.
        inputs: what each input adds to each (block, input).
        units: what each unit of the state before adds to each (block, unit).
        biases: what b_ih and b_hh add (block, 2).
        shifts: what edits add before the activation (block,).
        pre: the pre-activations, after shifts (block,).
        x: the input (input,).
        h_prev: the output before the step (unit,).
        before: the states of this unit before the step, by name: h, and c of an LSTM.
        values: every signal of this unit, as recorded.
        edited: the signals that an edit changed here after they were made: what is shown of them
            is what the edit left, and not what the sums make.
        residual: the largest difference of a signal that the sums make from what was recorded.
    """

    layer: str
    kind: str
    equation: str
    row: int
    step: int
    unit: int
    signals: tuple[Signal, ...]
    blocks: tuple[str, ...]
    inputs: Float[Tensor, "block input"]
    units: Float[Tensor, "block unit"]
    biases: Float[Tensor, "block 2"]
    shifts: Float[Tensor, " block"]
    pre: Float[Tensor, " block"]
    x: Float[Tensor, " input"]
    h_prev: Float[Tensor, " unit"]
    before: dict[str, float]
    values: dict[str, float]
    edited: tuple[str, ...]
    residual: float

    def signal(self, name: str) -> Signal:
        """One of its signals by name."""
        return next(signal for signal in self.signals if signal.name == name)

    def parts(self, signal: SignalName) -> dict[str, float]:
        """The parts of one pre-activation by name, the largest first; they sum to `pre`.

        Args:
            signal: one of `blocks`.

        Raises:
            SignalError: it has no pre-activation.
        """
        if not isinstance(signal, str) or signal not in self.blocks:
            raise SignalError(
                f"signal must be one that has a pre-activation, {', '.join(self.blocks)}, got "
                f"{shown(signal)}"
            )
        at = self.blocks.index(signal)
        found = {f"input {i}": value for i, value in enumerate(self.inputs[at].tolist())}
        found |= {f"unit {i}": value for i, value in enumerate(self.units[at].tolist())}
        b_ih, b_hh = self.biases[at].tolist()
        found |= {"bias b_ih": b_ih, "bias b_hh": b_hh}
        if shift := float(self.shifts[at]):
            found["shift of an edit"] = shift
        return dict(sorted(found.items(), key=lambda part: -abs(part[1])))

    def total(self, signal: SignalName) -> dict[str, float]:
        """What the input, the state before, the biases and edits add to one pre-activation.

        Args:
            signal: one of `blocks`.

        Raises:
            SignalError: it has no pre-activation.
        """
        self.parts(signal)
        at = self.blocks.index(signal)
        found = {
            "x": float(self.inputs[at].sum()),
            "h_prev": float(self.units[at].sum()),
            "bias": float(self.biases[at].sum()),
        }
        if shift := float(self.shifts[at]):
            found["edit"] = shift
        return found

    @property
    def note(self) -> str:
        """What is shown that is no sum, in words; "" where everything is."""
        if not self.edited:
            return ""
        names = " and ".join(self.edited)
        is_, it = ("is", "it is") if len(self.edited) == 1 else ("are", "they are")
        return (
            f"{names} {is_} what an edit left here, and not what adds up to it: {it} held or scaled"
        )

    def to_frame(self) -> Frame:
        """The parts as a pandas DataFrame: a line a part, a column for each pre-activation.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        table = torch.cat([self.inputs, self.units, self.biases, self.shifts[:, None]], 1)
        names = [f"input {i}" for i in range(self.inputs.shape[1])]
        names += [f"unit {i}" for i in range(self.units.shape[1])]
        columns = dict(zip(self.blocks, table, strict=True))
        return frame({"part": [*names, "bias b_ih", "bias b_hh", "shift"], **columns})

    def __repr__(self) -> str:
        return f"CloseUp({self.layer!r}, step {self.step}, unit {self.unit}, row {self.row})"

    def _repr_html_(self) -> str:
        rows = []
        for name, pre in zip(self.blocks, self.pre.tolist(), strict=True):
            parts = list(self.parts(name).items())
            shown_, rest = parts[:MOST], parts[MOST:]
            words = [f"{part} {value:+z.3g}" for part, value in shown_]
            if rest:
                words.append(f"the other {len(rest)} {sum(value for _, value in rest):+z.3g}")
            rows.append((name, f"{self.values[name]:z.4g}", f"{pre:z.4g}", ", ".join(words)))
        note = f"; {self.note}" if self.note else ""
        return html_table(("signal", "value", "sum", "parts"), rows, f"{self!r}{note}")


def close_up(
    recording: Recording | LayerRecording,
    layer: str | None = None,
    *,
    step: Integer,
    unit: Integer,
    row: Integer = 0,
) -> CloseUp:
    """What each input, each unit and each bias adds to the pre-activations of a unit at a step.

    Args:
        recording: a recording, or one layer of it.
        layer: which layer; may be left out for a `LayerRecording`, or where there is one.
        step: which step, counted as in the input, negative from the end of the layer's time axis.
        unit: which unit.
        row: which row of the batch.

    Raises:
        CellError: the layer was observed: what its module makes its gates of, only that knows; or
            its kind of cell makes a pre-activation by no sum over its weights.
        LayerError: the recording holds no such layer.
        PositionError: there is no such step, unit or row; or the row has ended before the step.
        RecordingError: it is no recording, or `layer` is missing.
        WeightsChangedError: the weights were changed since a recording with a graph.

    >>> from grulens import record
    >>> run = record(torch.nn.GRU(3, 4, batch_first=True), torch.randn(1, 6, 3))
    >>> found = close_up(run, step=2, unit=1)
    >>> found
    CloseUp('l0', step 2, unit 1, row 0)
    >>> abs(sum(found.parts("n").values()) - float(found.pre[2])) < 1e-12, found.residual < 1e-6
    (True, True)
    """
    recorded = layer_of(recording, layer)
    if isinstance(recorded, ObservedLayer):
        raise CellError(
            f"layer {recorded.name!r} was observed in its module's own forward "
            f"({recorded.cell.equation}): what its gates are made of, only that knows. Its signals "
            f"are in the recording: {', '.join(recorded.names)}"
        )
    batch, steps, units = recorded.shape
    row = row_of(row, batch)
    step = _place(step, steps, "step", recorded)
    unit = _place(unit, units, "unit", recorded)
    if not bool(recorded.mask[row, step]):
        raise PositionError(
            f"row {row} of layer {recorded.name!r} has no step {step}: it is padding there"
        )
    with torch.no_grad():
        return _found(recorded, row, step, unit)


def _found(layer: LayerRecording, row: int, step: int, unit: int) -> CloseUp:
    values = {s.name: float(layer.signal(s.name)[row, step, unit]) for s in layer.cell.signals}
    x, state = layer.x[row, step], layer.state_prev[row, step]
    # the call that made the step, and which of its rows and steps it is
    number = max(n for n in layer.rows[row].calls if layer.calls[n] <= step)
    segment, place, at = layer.segments[number], layer.rows[row].row, step - layer.calls[number]
    cell, program = segment.cell, segment.program
    edit: Any = None if program is None else _at(program, at, place, len(segment.h_0))
    summed, made = sums(cell, x[None], state[None], unit, edit=edit)
    names = [s.name for s in cell.signals]
    edited = tuple(
        name
        for name in names
        if program is not None and _is_touched(program, name, place, at, unit)
    )
    parts = [summed[name] for name in cell.blocks]
    whole = state.double().tolist()
    size = cell.hidden_size
    return CloseUp(
        layer=layer.name,
        kind=cell.kind,
        equation=equation_of(cell),
        row=row,
        step=step,
        unit=unit,
        signals=cell.signals,
        blocks=cell.blocks,
        inputs=torch.stack([part.inputs for part in parts]).cpu(),
        units=torch.stack([part.units for part in parts]).cpu(),
        biases=torch.stack([part.biases for part in parts]).cpu(),
        shifts=_numbers(parts, "shift"),
        pre=_numbers(parts, "value"),
        x=x.detach().double().cpu(),
        h_prev=state[:size].detach().double().cpu(),
        before={name: whole[i * size + unit] for i, name in enumerate(cell.states)},
        values=values,
        edited=edited,
        residual=max(abs(made[name] - values[name]) for name in names),
    )


def equation_of(cell: RecurrentCell) -> str:
    """What h is made of, where its kind says it in the names of its signals; else ""."""
    return "" if type(cell).equation is RecurrentCell.equation else cell.equation


def _numbers(parts: list[PreActivation], name: str) -> Float[Tensor, " block"]:
    return torch.tensor([getattr(part, name) for part in parts], dtype=torch.float64)


def _place(value: Any, size: int, word: str, layer: LayerRecording) -> int:
    place = positions.normal(value, word)
    if not isinstance(place, int):
        raise PositionError(f"{word} must be an int, got {shown(value)}")
    positions.check(place, size, "time" if word == "step" else word, f"layer {layer.name!r}")
    return place % size


def _at(program: Program, step: int, row: int, rows: int) -> Any:
    """What a program does to one row of one step, (1, 1, unit)."""
    edit = program.edit(step)

    def one(name: str, value: Tensor, is_before: bool) -> Tensor:
        return edit(name, value.expand(rows, -1, -1), is_before)[row : row + 1]

    return one


def _is_touched(program: Program, name: str, row: int, step: int, unit: int) -> bool:
    touched = program.touched(name)
    if touched is None:
        return False
    index = [
        0 if size == 1 else i for size, i in zip(touched.shape, (row, step, unit), strict=True)
    ]
    return bool(touched[tuple(index)])
