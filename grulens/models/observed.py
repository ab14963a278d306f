"""What a recorded run holds of a cell that was observed: its signals as its own code made them."""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from grulens.arguments import Space
from grulens.cells.observed import COMES_BACK, HIDDEN, ObservedCell
from grulens.errors import PositionError, SignalError
from grulens.models.derivative import Recorded
from grulens.models.observe.reading.segment import BEFORE, ObservedSegment
from grulens.models.recording import LayerRecording
from grulens.models.restore.interrupts import grads

SHOWN = 6
"""How many places at which a loop made no state are named, at most."""


class ObservedLayer(LayerRecording):
    """One observed cell of a recorded run. Every signal is (batch, time, unit).

    The signals are h_prev, those that stand in the mix by the names of their roles (z, n, r; f, i,
    g, o, c) or those that the code gives them, `a` and `b` of the gated form h = a h_prev + b, and
    h. What its input is, only its module knows: it has no x. A state of several axes is laid out
    in its units as torch lays out its memory; `cell.shape` is a row's own shape.

    Attributes:
        form: the equation that the states obey, with the lines of code of its signals.

    >>> import torch
    >>> from torch import nn
    >>> from grulens import record
    >>> class Mine(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.gate, self.new = nn.Linear(7, 4), nn.Linear(7, 4)
    ...     def forward(self, x):
    ...         h = x.new_zeros(len(x), 4)
    ...         for t in range(x.shape[1]):
    ...             both = torch.cat([x[:, t], h], 1)
    ...             u = torch.sigmoid(self.gate(both))
    ...             h = u * h + (1 - u) * torch.tanh(self.new(both))
    ...         return h
    >>> layer = record(Mine(), torch.ones(2, 5, 3))["cell"]
    >>> layer.cell.equation, layer.z.shape
    ('h = z h_prev + (1 - z) n', torch.Size([2, 5, 4]))
    >>> layer.residual < 1e-6
    True
    """

    segments: tuple[ObservedSegment, ...]  # type: ignore[assignment]

    @property
    def cell(self) -> ObservedCell:  # type: ignore[override]
        """What is known of its cell."""
        return self.segments[-1].cell

    @property
    def x(self) -> Tensor:
        """It has none.

        Raises:
            SignalError: always.
        """
        raise SignalError(
            f"layer {self.name!r} was observed in its module's own forward, and what its input is, "
            f"only that knows; its signals are {', '.join(self.names)}"
        )

    @cached_property
    def h(self) -> Float[Tensor, "batch time unit"]:
        """State after the step."""
        return self._signals["h"]

    @property
    def state(self) -> Float[Tensor, "batch time unit"]:
        """What is carried to the next step: h, or the cell state of which h is made."""
        return self._signals[self.cell.carried]

    @cached_property
    def state_prev(self) -> Float[Tensor, "batch time unit"]:
        """What stood in each step as the state before."""
        return self.joined([segment.value(BEFORE) for segment in self.segments])

    @cached_property
    def h_prev(self) -> Float[Tensor, "batch time unit"]:
        """State before the step, as the step read it.

        Raises:
            SignalError: the cell carries another state than h.
        """
        if self.cell.carried != "h":
            raise SignalError(
                f"layer {self.name!r} carries {self.cell.carried}, of which h is made: the state "
                "before a step is its .state_prev"
            )
        return self.state_prev

    @property
    def state_edited(self) -> bool:
        """Whether an edit changed what is carried on, after the step that made it."""
        name, programs = self.cell.carried, [segment.program for segment in self.segments]
        return any(program and program.touched(name) is not None for program in programs)

    def candidate(self) -> Tensor:
        """What a step mixes with the state before it (batch, time, unit).

        Raises:
            SignalError: it is none whose two shares sum to 1.
        """
        made = self.cell.form.candidate
        if made is None:
            raise SignalError(f"layer {self.name!r} has no candidate: {self.cell.equation}")
        with grads(self.state.requires_grad):
            return made.value(self._signals, self.state)

    @cached_property
    def _signals(self) -> dict[str, Tensor]:
        names = [signal.name for signal in self.cell.signals]
        segments = self.segments
        graph = any(read.requires_grad for read in segments[0].read["h"])
        with grads(graph):
            found = {n: self.joined([s.value(n) for s in segments]) for n in names}
            like = found[self.cell.carried]
            found["a"] = self.cell.form.keep.value(found, like)
            found["b"] = self.cell.form.write.value(found, like)
        if graph and self.one_batch:
            axis, state = self.cell.axis, segments[0].read[self.cell.carried][0]
            laid = state[None].shape if state.dim() == 1 else state.shape
            for name in names:
                steps = [read for segment in segments for read in segment.read[name]]
                if all(read.numel() == like[:, 0].numel() for read in steps):
                    found[name] = Recorded.of_steps(self, name, found[name], steps, laid, axis)
        return found

    @property
    def note(self) -> str:
        """What must be known of its steps and states, in words; "" if nothing must.

        That is which rounds of its loop made no state, or another one in turn, so that its steps
        have other numbers than those; which steps begin anew within one call; which signals hide a
        share of the state, or of older ones; what the next step reads in place of it by no known
        rule; and what the model does to the state between two calls.

        >>> import torch
        >>> from torch import nn
        >>> from grulens import record
        >>> class Skipping(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.line = nn.Linear(5, 2)
        ...     def forward(self, x):
        ...         h = x.new_zeros(len(x), 2)
        ...         for t in range(x.shape[1]):
        ...             if t != 3:
        ...                 h = 0.5 * h + 0.5 * torch.tanh(self.line(torch.cat([x[:, t], h], 1)))
        ...         return h
        >>> layer = record(Skipping(), torch.ones(1, 6, 3))["cell"]
        >>> layer.shape[1], layer.note[-42:]
        (5, 'here is round 4 of it, both counted from 0')
        """
        own = [
            self.cell.remark, self.cell.assumed, self._left_out(), self._begun(), self._hidden(),
            self._older(), self._read_out(),
        ]  # fmt: skip
        return "; ".join(filter(None, [*own, super().note]))

    def _begun(self) -> str:
        """Which steps do not go on with the state before, where no call begins with them."""
        begun = [at for at, one in zip(self.calls, self.segments, strict=True) if one.within]
        if not begun:
            return ""
        listed = ", ".join(map(str, begun[:SHOWN])) + (", ..." if len(begun) > SHOWN else "")
        steps = "step" if len(begun) == 1 else "steps"
        return (
            f"{steps} {listed} did not go on with the state before, but began with zeros or with "
            "the state of the first step, within one call: the loop ran again, or was set back, or "
            "its code read no further what the step before had made"
        )

    def _hidden(self) -> str:
        """Which signals hide a share of the state before."""
        if not self.cell.hides:
            return ""
        return (
            f"a share of {self.cell.carried}_prev may stand in {' and '.join(self.cell.hides)}, "
            f"{HIDDEN}: a is what the gates keep, and a unit keeps more or less of itself. What "
            "of it is sums and products of numbers one by one, as (1 / tau) * (n - h), stands in "
            "the equation where it is written so"
        )

    def _older(self) -> str:
        """Which signals bring older states back."""
        if not self.cell.comes_back:
            return ""
        name = self.cell.carried
        return (
            f"numbers of {name} from before {name}_prev stand in "
            f"{' and '.join(self.cell.comes_back)}: {COMES_BACK}, and may swing; a is what the "
            f"gates keep of {name}_prev alone"
        )

    def _read_out(self) -> str:
        """What the next step reads, where no equation says it."""
        if not self.cell.read_by:
            return ""
        return (
            f"the next step reads what {self.cell.read_by} makes of the state, by a rule that is "
            "none of those that are known: h is the state that the mix makes, and not that"
        )

    def _left_out(self) -> str:
        """Which rounds of its loop made no state."""
        parts = [segment.left_out for segment in self.segments]
        loop = f"the loop in {self.cell.loop}" if self.cell.loop else "its loop"
        if None in parts:
            return (
                f"{loop} may go round without making a state, and could not be counted, as a "
                "debugger or a coverage tool follows the code: a step here may be a later round"
            )
        starts = [start + at for start, part in zip(self.calls, parts, strict=True)
                  for at in part or ()]  # fmt: skip
        if not starts:
            return ""
        before = [f"before step {at}" for at in dict.fromkeys(starts) if at < self.shape[1]]
        behind = ["behind the last step"] if starts[-1] >= self.shape[1] else []
        listed = [*before[:SHOWN], *(["..."] if len(before) > SHOWN else []), *behind]
        times = f"{len(starts)} times" if len(starts) > 1 else "once"
        said = f"{loop} went round {times} without making a state ({', '.join(listed)})"
        if len(parts) > 1 or not before:
            return said
        last = max(at for at in starts if at < self.shape[1])
        rounds = last + sum(at <= last for at in starts)
        return f"{said}: step {last} here is round {rounds} of it, both counted from 0"

    @property
    def form(self) -> str:
        """The equation, and where the code makes its signals, in one line."""
        return self.cell.words

    def explain(self) -> str:
        """What was found, in lines: the equation, each signal with its code, how exactly; the note.

        Which place of its input a step reads is not in it: the code may turn that round, and a lens
        finds it by runs of the model.

        >>> import torch
        >>> from torch import nn
        >>> from grulens import record
        >>> class Leaky(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.line = nn.Linear(5, 2)
        ...     def forward(self, x):
        ...         h = x.new_zeros(len(x), 2)
        ...         for x_t in x.unbind(1):
        ...             h = 0.5 * h + 0.5 * torch.tanh(self.line(torch.cat([x_t, h], 1)))
        ...         return h
        >>> print(record(Leaky(), torch.ones(1, 4, 3))["cell"].explain().splitlines()[0])
        cell (Leaky): h = 0.5 h_prev + 0.5 n
        """
        cell = self.cell
        rows = [(one.name, one.words, *cell.lines[one.name]) for one in cell.signals]
        wide = [max(len(row[i]) for row in rows) for i in range(3)]
        said = [
            "  " + "  ".join([*(t.ljust(w) for t, w in zip(row[:3], wide, strict=True)), row[3]])
            for row in rows
        ]
        head = f"{self.name} ({cell.kind}): {cell.equation}"
        batch, time, unit = self.shape
        check = (
            f"compared at all {batch} x {time} x {unit} numbers (batch, time, unit): it is off by "
            f"{self.residual:.1e} at most"
        )
        if cell.loop:
            check += (
                f"; its steps are rounds of the loop in {cell.loop}, in the order in which it runs"
            )
        lines = [head, *(line.rstrip() for line in said), check]
        return "\n".join(filter(None, [*lines, self.note]))

    def folded(
        self, space: Space = "mean", signal: str = "h"
    ) -> Float[Tensor, "batch time channel"]:
        """A signal of a state over space, with the space folded away.

        Args:
            space: "mean" or "max" over all places, or one place: (y, x).
            signal: its name.

        Returns:
            A number for each channel, or for each part along the first axis of a state of two axes
            of which nothing tells which is which.

        Raises:
            PositionError: the state has one axis only; or it has no such place.
            SignalError: no such signal.

        >>> import torch
        >>> from torch import nn
        >>> from grulens import record
        >>> class Leaky(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.line = nn.Conv2d(1 + 2, 2, 3, padding=1)
        ...     def forward(self, x):
        ...         h = x.new_zeros(len(x), 2, 4, 4)
        ...         for x_t in x.unbind(1):
        ...             h = 0.5 * h + 0.5 * torch.tanh(self.line(torch.cat([x_t, h], 1)))
        ...         return h
        >>> layer = record(Leaky(), torch.ones(1, 5, 1, 4, 4))["cell"]
        >>> layer.folded("max", "n").shape, layer.folded((0, 3)).shape
        (torch.Size([1, 5, 2]), torch.Size([1, 5, 2]))
        """
        shape = self.cell.shape
        if len(shape) < 2:
            raise PositionError(
                f"the state of layer {self.name!r} has one axis, of {self.shape[2]} units: there "
                "is no space to fold"
            )
        return self.cell.fold(space)(self.signal(signal))

    @property
    def names(self) -> tuple[str, ...]:
        """Its signals by name."""
        own = tuple(signal.name for signal in self.cell.signals)
        before = ("h_prev",) if self.cell.carried == "h" else ()
        return (*before, "a", "b", *own)

    def __getattr__(self, name: str) -> Tensor:
        if name in ("a", "b") and vars(self).get("segments"):
            return self._signals[name]
        return super().__getattr__(name)

    @cached_property
    def residual(self) -> float:
        """Largest difference between the mix of a step and what its signals make."""
        with grads(False):
            errors = torch.cat([segment.errors for segment in self.segments])
            return float(errors.max()) if len(errors) else 0.0


LayerRecording.kinds[ObservedSegment] = ObservedLayer
