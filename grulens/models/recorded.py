"""One layer of a recorded run: the states as they were, and its gates when they are first read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from grulens.arguments import SignalName
from grulens.cells.cell import RecurrentCell
from grulens.errors import RecordingError, SignalError, WeightsChangedError, shown
from grulens.models.call.calls import Calls
from grulens.models.call.handing import Handing
from grulens.models.call.segment import Segment
from grulens.models.derivative import Recorded
from grulens.models.layers import article
from grulens.models.observe.reading.segment import ObservedSegment
from grulens.models.restore.interrupts import grads
from grulens.tables import html_table


class LayerRecording:
    """One layer of a recorded run. Every signal is (batch, time, unit), computed on first use.

    The signals are x, h_prev, h, and those of its kind of cell by their names: r, z, n of a GRU, i,
    f, g, o, c of an LSTM, a (the pre-activation) of an RNN.

    Rows are those of the user's batch; steps are counted as in the input, in a reverse layer too. A
    layer that was called several times has one time axis over its calls. Padding is zero.

    A layer may be called with several batch sizes in one run (documents and a query, beams that
    end). Its rows are then those of every batch size, one below the other; calls of one batch size
    share rows and a time axis that begins at 0. `rows` says from which calls each row comes.

    Attributes:
        name: the layer.
        calls: the step at which each call began; (0,) for an ordinary run.
        rows: for each row a `Row`: the numbers of its calls, and which row of them it is.
        segments: what it computed in each call, in order.
        cell: the weights that ran (those of the last call).

    >>> from grulens import record
    >>> layer = record(torch.nn.GRU(3, 4), torch.zeros(5, 2, 3))["l0"]
    >>> layer
    LayerRecording('l0', batch 2, time 5, unit 4)
    >>> layer.z.shape, layer.mask.all().item(), layer.residual < 1e-6
    (torch.Size([2, 5, 4]), True, True)
    """

    # by the class of its segments, what a layer is that is none of this class itself
    kinds: ClassVar[dict[type, type[LayerRecording]]] = {}

    def __init__(self, name: str, segments: Sequence[Segment | ObservedSegment]) -> None:
        self.name = name
        # what was observed has the same face; its layer reads what only it has
        self.segments = cast(tuple[Segment, ...], tuple(segments))
        self._calls = Calls([(len(segment.h_0), segment.steps) for segment in segments])
        self.calls, self.rows = self._calls.starts, self._calls.rows
        self.shape = (*self._calls.shape, segments[0].cell.hidden_size)

    @property
    def one_batch(self) -> bool:
        """Whether all calls had the same number of rows."""
        return len(self._calls.counts) == 1

    def check_one_batch(self, what: str) -> None:
        """Raise unless all calls had the same number of rows.

        Args:
            what: what needs that, in words.

        Raises:
            RecordingError: the calls had different numbers of rows.
        """
        if not self.one_batch:
            counts = " and with ".join(map(str, self._calls.counts))
            raise RecordingError(
                f"layer {self.name!r} was called with {counts} rows in one run; {what} needs calls "
                "with one number of rows: record a part of the model that makes one such call"
            )

    def steps_of(self, rows: int) -> int:
        """The length of the time axis of the calls with so many rows."""
        return self._calls.steps_of(rows)

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
        parts = self._calls.split(self.h)
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
        parts = zip(self.segments, self._calls.split(self.state), strict=True)
        return self.joined([segment.before(state) for segment, state in parts])

    @cached_property
    def handing(self) -> Handing:
        """Which states its calls were given; nothing is said of what follows a padded call."""
        plain = [
            (begin, stop)
            for one, begin, stop in zip(self.segments, self.calls, self.calls[1:], strict=False)
            if self.one_batch and not one.reverse and one.lengths is None
        ]
        # the whole state is not made of one call, which hands nothing on
        h = self.h
        if not plain:
            return Handing((), h, h)
        return Handing(plain, self.state_prev, self.state, self.shape[2])

    @property
    def note(self) -> str:
        """What the model does to the state between two calls, in words; "" if it hands it on.

        >>> import torch
        >>> from grulens import record
        >>> class Masked(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.cell = torch.nn.GRUCell(3, 4)
        ...     def forward(self, x, mask):
        ...         h = x.new_zeros(len(x), 4)
        ...         for x_t, there in zip(x.unbind(1), mask.unbind(1)):
        ...             h = torch.where(there[:, None], self.cell(x_t, h), h)
        ...         return h
        >>> mask = torch.tensor([[True, True, False, True]])
        >>> record(Masked(), torch.ones(1, 4, 3), mask)["cell"].note[:57]
        'of the 3 states that its calls were given, 1 is the one f'
        """
        return self.handing.words()

    @cached_property
    def _signals(self) -> dict[str, Tensor]:
        return self._made()

    def gates(self) -> dict[str, Tensor]:
        """Its gates by name, the same bits as its signals; they are made anew at each call.

        Of a cell with one state no other signal is made for them.

        >>> from grulens import record
        >>> [*record(torch.nn.GRU(3, 4), torch.zeros(5, 2, 3))["l0"].gates()]
        ['r', 'z']
        """
        names = [signal.name for signal in self.cell.signals if signal.is_gate]
        alone = len(self.cell.states) == 1 and "_signals" not in vars(self)
        alone = alone and all(isinstance(segment, Segment) for segment in self.segments)
        made = self._made(gates=True) if alone else self._signals
        return {name: made[name] for name in names}

    def _made(self, **options: bool) -> dict[str, Tensor]:
        """What is made of its input and its states; options as those of `Segment.signals`."""
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
            before = self._calls.split(self.h_prev) if known else [None] * len(self.segments)
            every = zip(
                self.segments, *map(self._calls.split, (self.x, self.h)), before, strict=True
            )
            parts = [segment.signals(x, h, prev, **options) for segment, x, h, prev in every]
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
            for segment, part in zip(self.segments, self._calls.split(error), strict=True):
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

    def signal(self, name: SignalName) -> Tensor:
        """A signal by its name: x, h_prev, or one of its cell's.

        Raises:
            SignalError: it has none of that name.
        """
        if not isinstance(name, str) or name not in self.names:
            raise SignalError(
                f"signal {shown(name)} is none of {', '.join(self.names)}, which layer "
                f"{self.name!r} ({article(self.cell.kind)}) has"
            )
        if name not in ("x", "h_prev", "h") and name in vars(type(self)):
            return self._signals[name]  # a cell may call a signal "mask"
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
        """The signal in a list, if it was read and is part of a graph; else an empty list."""
        held = vars(self)
        value = held.get(signal)
        if "_signals" in held:
            value = self._signals.get(signal, value)
        return [value] if isinstance(value, Tensor) and value.requires_grad else []

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """The tensors of its calls (batch, time, ...) as one; zero where there is no step."""
        return self._calls.joined(parts)

    def __repr__(self) -> str:
        batch, time, unit = self.shape
        return f"LayerRecording({self.name!r}, batch {batch}, time {time}, unit {unit})"

    def _repr_html_(self) -> str:
        head = ("layer", "batch", "time", "unit", "calls", "residual")
        row = (self.name, *self.shape, len(self.calls), f"{self.residual:.1e}")
        return html_table(head, [row], self.note)
