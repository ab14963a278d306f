"""What a recorded run holds: the states as they were, and the gates when somebody asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from grulens.cells.cell import RecurrentCell
from grulens.errors import FileError, RecordingError, SignalError, WeightsChangedError, shown
from grulens.models.adapters.closed import Closed
from grulens.models.call.segment import Segment
from grulens.models.derivative import Recorded
from grulens.models.layers import article, check_layer
from grulens.models.observe.segment import ObservedSegment
from grulens.models.restore.interrupts import grads
from grulens.models.saved import SavedRun
from grulens.tables import html_table


class _NotSeen(Enum):
    """What stands for an output that is not there; each is the same in every copy."""

    RUN = 1
    FILE = 2

    def __repr__(self) -> str:
        return "an output that nobody saw"


NOT_SEEN = _NotSeen.RUN
"""The output of a run that ended where nobody saw it."""
NOT_SAVED = _NotSeen.FILE
"""The output of a run that was saved without it."""


class Row(NamedTuple):
    """Where a row of a recorded layer comes from.

    Attributes:
        calls: the calls of the layer that it runs through, by number.
        row: which row of those calls it is.
    """

    calls: tuple[int, ...]
    row: int


class LayerRecording:
    """One layer of a recorded run. Every signal is (batch, time, unit), computed on first use.

    The signals are x, h_prev, h, and those of its kind of cell by their names: r, z, n of a GRU, i,
    f, g, o, c of an LSTM, a (the pre-activation) of an RNN.

    Rows are the user's, times are positions of the input sequence (for a reverse layer too). A
    layer that was called several times has one time axis over its calls. Padding is zero.

    A layer that was called with other numbers of rows in one run (documents and a query, beams
    that end) has the rows of them all, one below the other: calls with as many rows share them and
    a time axis, which begins at 0 for each number of rows. `rows` says which row of which call.

    Attributes:
        name: the layer.
        calls: the step at which each call began; (0,) for an ordinary run.
        rows: where each row comes from, a `Row` each (calls, row).
        segments: its part of each call, in order.
        cell: the weights that ran (those of the last call).

    >>> from grulens import record
    >>> layer = record(torch.nn.GRU(3, 4), torch.zeros(5, 2, 3))["l0"]
    >>> layer
    LayerRecording('l0', batch 2, time 5, unit 4)
    >>> layer.z.shape, layer.mask.all().item(), layer.residual < 1e-6
    (torch.Size([2, 5, 4]), True, True)
    """

    def __init__(self, name: str, segments: Sequence[Segment | ObservedSegment]) -> None:
        self.name = name
        # what was observed has the same face; its layer reads what only it has
        self.segments = cast(tuple[Segment, ...], tuple(segments))
        steps: dict[int, int] = {}
        calls: dict[int, list[int]] = {}
        starts = []
        for number, segment in enumerate(segments):
            rows = len(segment.h_0)
            starts.append(steps.get(rows, 0))
            steps[rows] = starts[-1] + segment.steps
            calls.setdefault(rows, []).append(number)
        self.calls = tuple(starts)
        self.shape = (sum(steps), max(steps.values()), segments[0].cell.hidden_size)
        self.rows = tuple(Row(tuple(calls[rows]), row) for rows in steps for row in range(rows))
        self._steps, self._numbers = steps, calls

    @property
    def one_batch(self) -> bool:
        """Whether all calls had the same number of rows."""
        return len(self._steps) == 1

    def check_one_batch(self, what: str) -> None:
        """Raise unless all calls had the same number of rows.

        Args:
            what: what needs that, in words.

        Raises:
            RecordingError: they had not.
        """
        if not self.one_batch:
            counts = " and with ".join(map(str, self._steps))
            raise RecordingError(
                f"layer {self.name!r} was called with {counts} rows in one run; {what} needs calls "
                "with one number of rows: ask it of a part of the model that makes one such call"
            )

    def steps_of(self, rows: int) -> int:
        """The length of the time axis of the calls with so many rows."""
        return self._steps.get(rows, self.shape[1])

    @property
    def cell(self) -> RecurrentCell:
        """The weights that ran."""
        return self.segments[-1].cell

    @cached_property
    def x(self) -> Float[Tensor, "batch time input"]:
        """Input (batch, time, input)."""
        return self._of("x", self.joined([segment.inputs() for segment in self.segments]))

    @cached_property
    def h(self) -> Float[Tensor, "batch time unit"]:
        """State after the step."""
        return self._of("h", self.joined([segment.states() for segment in self.segments]))

    @cached_property
    def h_prev(self) -> Float[Tensor, "batch time unit"]:
        """State before the step; h_0 at the first step of each call."""
        return self._of("h_prev", self._delayed())

    def _of(self, signal: str, value: Tensor) -> Tensor:
        return Recorded.of(self, signal, value)

    def _delayed(self) -> Tensor:
        """`h_prev`, which is kept only for whoever asks for it: it is as large as the states."""
        if "h_prev" in vars(self):
            return self.h_prev
        parts = self._split(self.h)
        return self.joined([s.before(h) for s, h in zip(self.segments, parts, strict=True)])

    @cached_property
    def state(self) -> Float[Tensor, "batch time state"]:
        """The whole state after the step: of an LSTM h and c side by side, else h."""
        several = len(self.cell.states) > 1
        return self.segments[-1].whole(self.h, self._signals) if several else self.h

    @property
    def state_prev(self) -> Float[Tensor, "batch time state"]:
        """The whole state before the step."""
        if len(self.cell.states) == 1:
            return self._delayed()
        parts = zip(self.segments, self._split(self.state), strict=True)
        return self.joined([segment.before(state) for segment, state in parts])

    @cached_property
    def _signals(self) -> dict[str, Tensor]:
        for segment in self.segments:
            if segment.moved:
                raise WeightsChangedError(
                    f"the weights of layer {self.name!r} were changed in place after this "
                    "recording was made with grad=True, so its gates can no longer be computed; "
                    "read them before the optimizer steps, or record with grad=False, which keeps "
                    "a copy"
                )
        with grads(self.h.requires_grad):
            known = "h_prev" in vars(self)
            before = self._split(self.h_prev) if known else [None] * len(self.segments)
            every = zip(self.segments, *map(self._split, (self.x, self.h)), before, strict=True)
            parts = [segment.signals(x, h, prev) for segment, x, h, prev in every]
            return {
                name: self._of(name, self.joined([part[name] for part in parts]))
                for name in parts[0]
            }

    @property
    def names(self) -> tuple[str, ...]:
        """Its signals by name: x and h_prev, and those of its cell."""
        return ("x", "h_prev", *(signal.name for signal in self.cell.signals))

    def __getattr__(self, name: str) -> Tensor:
        """A signal of its cell (batch, time, unit), by name: `layer.z`."""
        # only what is no attribute comes here; a copy asks before it has a cell
        segments = vars(self).get("segments", ())
        if not name.startswith("_") and segments:
            if any(signal.name == name for signal in segments[-1].cell.signals):
                return self._signals[name]
            raise AttributeError(
                f"layer {self.name!r} is {article(self.cell.kind)} and has no {name!r}; its "
                f"signals are {', '.join(self.names)}"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.names]

    @cached_property
    def mask(self) -> Bool[Tensor, "batch time"]:
        """False on padding."""
        return self.joined([segment.mask for segment in self.segments])

    @cached_property
    def residual(self) -> float:
        """Largest difference of h from what its signals make, where no edit set h itself.

        Of a GRU that is max `|(1 - z) n + z h_prev - h|` over valid steps. It says how exactly the
        recorded gates explain the recorded states; about 1e-7 in float32.
        """
        with grads(False):
            error = (self.cell.output(self._signals, self.state_prev) - self.h).abs_()
            error.masked_fill_(~self.mask[..., None], 0)
            for segment, part in zip(self.segments, self._split(error), strict=True):
                touched = segment.program.touched("h") if segment.program else None
                if touched is not None:
                    part.masked_fill_(touched, 0)
            return float(error.max()) if error.numel() else 0.0

    @property
    def state_edited(self) -> bool:
        """Whether an edit changed the state itself, after the step that made it."""
        programs = [segment.program for segment in self.segments]
        return any(program and program.touched("h") is not None for program in programs)

    def mean(self) -> Float[Tensor, " unit"]:
        """The mean state (unit,) over valid steps and rows."""
        return self.h[self.mask].mean(0)

    def signal(self, name: Any) -> Tensor:
        """A signal by its name: x, h_prev, or one of its cell's.

        Raises:
            SignalError: it has none of that name.
        """
        if not isinstance(name, str) or name not in self.names:
            raise SignalError(
                f"signal {shown(name)} is none of {', '.join(self.names)}, which layer "
                f"{self.name!r} ({article(self.cell.kind)}) has"
            )
        value: Tensor = getattr(self, name)
        return value

    def to_numpy(self) -> dict[str, NDArray[Any]]:
        """Every signal and the mask as numpy arrays (bfloat16 becomes float32)."""
        values = {name: self.signal(name) for name in self.names} | {"mask": self.mask}
        return {
            name: (v.float() if v.dtype is torch.bfloat16 else v).detach().cpu().numpy()
            for name, v in values.items()
        }

    def read(self, signal: str) -> list[Tensor]:
        """A signal that is part of a graph, if somebody has read it."""
        held = vars(self)
        value = held.get(signal)
        if "_signals" in held:
            value = self._signals.get(signal, value)
        return [value] if isinstance(value, Tensor) and value.requires_grad else []

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """What belongs to each call (batch, time, ...) as one tensor for all."""
        if len(parts) == 1:
            return parts[0]
        found = [torch.cat([parts[i] for i in numbers], 1) for numbers in self._numbers.values()]
        if self.one_batch:
            return found[0]
        whole = found[0].new_zeros(*self.shape[:2], *found[0].shape[2:])
        begin = 0
        for part in found:
            whole[begin : begin + len(part), : part.shape[1]] = part
            begin += len(part)
        return whole

    def _split(self, value: Tensor) -> Sequence[Tensor]:
        """The way back from `joined`."""
        begins = dict(zip(self._steps, accumulate([0, *self._steps]), strict=False))
        return [
            value[begins[rows] : begins[rows] + rows, start : start + segment.steps]
            for segment, start in zip(self.segments, self.calls, strict=True)
            for rows in [len(segment.h_0)]
        ]

    def __repr__(self) -> str:
        batch, time, unit = self.shape
        return f"LayerRecording({self.name!r}, batch {batch}, time {time}, unit {unit})"

    def _repr_html_(self) -> str:
        head = ("layer", "batch", "time", "unit", "calls", "residual")
        row = (self.name, *self.shape, len(self.calls), f"{self.residual:.1e}")
        return html_table(head, [row])


class Recording(Mapping[str, LayerRecording]):
    """A recorded run: its layers by name, in execution order.

    Attributes:
        output: what the run returned: the model's own output.
        edits: the edits that were in force, in the order in which they acted.
        closed: what the model holds beside them and cannot be opened; see `layers`.
    """

    def __init__(
        self,
        layers: Mapping[str, LayerRecording],
        output: object,
        edits: Sequence[object] = (),
        closed: Sequence[Closed] = (),
    ) -> None:
        self._layers = dict(layers)
        self._output = output
        self.edits = tuple(edits)
        self.closed = tuple(closed)

    @property
    def output(self) -> Any:
        """What the run returned.

        Raises:
            RecordingError: nobody saw it.
        """
        if self._output is NOT_SAVED:
            raise RecordingError("what this run returned was not saved with it")
        if self._output is NOT_SEEN:
            raise RecordingError(
                "what this run returned was not seen: its method was taken off the model before "
                "the block. Call it on the model inside the block"
            )
        return self._output

    def __getitem__(self, name: Any) -> LayerRecording:
        check_layer(
            name, list(self._layers), "is not in this recording; it has", closed=self.closed
        )
        return self._layers[name]

    def __contains__(self, name: object) -> bool:
        return name in self._layers  # Mapping's own asks __getitem__, which raises LayerError

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    @property
    def residual(self) -> float:
        """The largest residual of its layers."""
        return max(layer.residual for layer in self.values())

    def save(self, path: str | os.PathLike[str], *, output: bool = True) -> Path:
        """Write the run to a file of safetensors and JSON, which `load` reads; no graph.

        Inputs, states and weights are written, and come back bit for bit; the signals are computed
        from these again, equal to rounding.

        Args:
            path: where to; a file that is there is overwritten.
            output: whether what the run returned is written too: tensors, numbers and texts, in
                tuples, lists and dicts.

        Raises:
            FileError: a layer was edited, or ran under autocast; or the output holds something
                that no file can hold (leave it out: `output=False`).
            OSError: the file cannot be written.

        >>> from tempfile import TemporaryDirectory
        >>> from grulens import Recording, record
        >>> run = record(torch.nn.GRU(3, 4), torch.rand(5, 2, 3))
        >>> with TemporaryDirectory() as folder:
        ...     again = Recording.load(run.save(f"{folder}/run.safetensors"))
        >>> torch.equal(again["l0"].h, run["l0"].h), torch.equal(again.output[0], run.output[0])
        (True, True)
        """
        layers = {name: layer.segments for name, layer in self.items()}
        kept = (self._output,) if output and self._output is not NOT_SEEN else ()
        return SavedRun.of(layers, kept, self.closed).save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read what `save` wrote.

        Args:
            path: the file.

        Raises:
            FileError: it holds no recording, or is damaged.
            OSError: the file cannot be read.
        """
        run = SavedRun.load(path)
        layers = {layer.name: LayerRecording(layer.name, layer.segments) for layer in run.layers}
        if not isinstance(run.output, tuple) or len(run.output) > 1 or not layers:
            raise FileError(f"{path} holds a run that is none: no layers, or outputs of several")
        return cls(layers, run.output[0] if run.output else NOT_SAVED, closed=run.closed)

    def __repr__(self) -> str:
        edits = f", {len(self.edits)} edits" if self.edits else ""
        return f"Recording({', '.join(self)}{edits})"

    def _repr_html_(self) -> str:
        head = ("layer", "batch", "time", "unit", "calls")
        rows = [(layer.name, *layer.shape, len(layer.calls)) for layer in self.values()]
        edits = f", {len(self.edits)} edits" if self.edits else ""
        return html_table(head, rows, f"Recording{edits}")
