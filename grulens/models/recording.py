"""What a recorded run holds: the states as they were, and the gates when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from grulens.errors import SignalError, WeightsChangedError, shown
from grulens.gru.cell import Cell, Gates
from grulens.models.closed import Closed
from grulens.models.find import check_layer
from grulens.models.segment import Segment, version
from grulens.models.whole import grads
from grulens.tables import html_table

SIGNALS = ("x", "h_prev", "r", "z", "n", "h")


class LayerRecording:
    """One layer of a recorded run. Every signal is (batch, time, unit), computed on first use.

    Rows are the user's, times are positions of the input sequence (for a reverse layer too). A
    layer that was called several times has one time axis over its calls. Padding is zero.

    Attributes:
        name: the layer.
        calls: the step at which each call began; (0,) for an ordinary run.
        segments: its part of each call, in order.
        cell: the weights that ran (those of the last call).

    >>> from grulens import record
    >>> layer = record(torch.nn.GRU(3, 4), torch.zeros(5, 2, 3))["l0"]
    >>> layer
    LayerRecording('l0', batch 2, time 5, unit 4)
    >>> layer.z.shape, layer.mask.all().item(), layer.residual < 1e-6
    (torch.Size([2, 5, 4]), True, True)
    """

    def __init__(self, name: str, segments: Sequence[Segment]) -> None:
        self.name = name
        self.segments = tuple(segments)
        self._versions = [[version(t) for t in s.cell.parameters] for s in segments]
        starts = [0, *accumulate(segment.steps for segment in segments)]
        self.calls = tuple(starts[:-1])
        self.shape = (len(segments[0].h_0), starts[-1], segments[0].cell.hidden_size)

    @property
    def cell(self) -> Cell:
        """The weights that ran."""
        return self.segments[-1].cell

    @cached_property
    def x(self) -> Float[Tensor, "batch time input"]:
        """Input (batch, time, input)."""
        return self._joined([segment.inputs() for segment in self.segments])

    @cached_property
    def h(self) -> Float[Tensor, "batch time unit"]:
        """State after the step."""
        return self._joined([segment.states() for segment in self.segments])

    @cached_property
    def h_prev(self) -> Float[Tensor, "batch time unit"]:
        """State before the step; h_0 at the first step of each call."""
        return self._delayed()

    def _delayed(self) -> Tensor:
        """`h_prev`, which is kept only for whoever asks for it: it is as large as the states."""
        if "h_prev" in vars(self):
            return self.h_prev
        parts = self._split(self.h)
        return self._joined([s.before(h) for s, h in zip(self.segments, parts, strict=True)])

    @cached_property
    def _gates(self) -> Gates:
        for segment, versions in zip(self.segments, self._versions, strict=True):
            if [version(t) for t in segment.cell.parameters] != versions:
                raise WeightsChangedError(
                    f"the weights of layer {self.name!r} were changed in place after this "
                    "recording was made with grad=True, so its gates can no longer be computed; "
                    "read them before the optimizer steps, or record with grad=False, which keeps "
                    "a copy"
                )
        with grads(self.h.requires_grad):
            parts = [
                segment.gates(x, h_prev)
                for segment, x, h_prev in zip(
                    self.segments, self._split(self.x), self._split(self._delayed()), strict=True
                )
            ]
            return Gates(*(self._joined(list(signal)) for signal in zip(*parts, strict=True)))

    @property
    def r(self) -> Float[Tensor, "batch time unit"]:
        """Reset gate, in [0, 1]."""
        return self._gates.r

    @property
    def z(self) -> Float[Tensor, "batch time unit"]:
        """Update gate, in [0, 1]; 1 keeps the memory."""
        return self._gates.z

    @property
    def n(self) -> Float[Tensor, "batch time unit"]:
        """Candidate, in [-1, 1]."""
        return self._gates.n

    @cached_property
    def mask(self) -> Bool[Tensor, "batch time"]:
        """False on padding."""
        return torch.cat([segment.mask for segment in self.segments], 1)

    @cached_property
    def residual(self) -> float:
        """Max `|(1 - z) n + z h_prev - h|` over valid steps, where no edit set the state itself.

        It says how exactly the recorded gates explain the recorded states; about 1e-7 in float32.
        """
        with grads(False):
            error = torch.lerp(self.n, self._delayed(), self.z).sub_(self.h).abs_()
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
        """A signal by its name: x, h_prev, r, z, n or h."""
        if not isinstance(name, str) or name not in SIGNALS:
            raise SignalError(f"signal {shown(name)} is none of {', '.join(SIGNALS)}")
        value: Tensor = getattr(self, name)
        return value

    def to_numpy(self) -> dict[str, NDArray[Any]]:
        """Every signal and the mask as numpy arrays (bfloat16 becomes float32)."""
        values = {name: self.signal(name) for name in SIGNALS} | {"mask": self.mask}
        return {
            name: (v.float() if v.dtype is torch.bfloat16 else v).detach().cpu().numpy()
            for name, v in values.items()
        }

    def _joined(self, parts: list[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _split(self, value: Tensor) -> Sequence[Tensor]:
        return torch.split(value, [segment.steps for segment in self.segments], 1)

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
        output: the model's own output.
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
        self.output = output
        self.edits = tuple(edits)
        self.closed = tuple(closed)

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

    def __repr__(self) -> str:
        edits = f", {len(self.edits)} edits" if self.edits else ""
        return f"Recording({', '.join(self)}{edits})"

    def _repr_html_(self) -> str:
        head = ("layer", "batch", "time", "unit", "calls")
        rows = [(layer.name, *layer.shape, len(layer.calls)) for layer in self.values()]
        edits = f", {len(self.edits)} edits" if self.edits else ""
        return html_table(head, rows, f"Recording{edits}")
