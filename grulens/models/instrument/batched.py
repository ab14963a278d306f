"""Watches under which one layer runs with given states: the two ways of a sweep to run a model.

In both the layer's unedited run is known. `DirectRun` puts an edit on its states one step at a
time, each step from the unedited run's state before it. `CopiesRun` runs a model whose input was
repeated, so that each copy of it carries changes of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from grulens.cells.batched.changes import Stacked
from grulens.cells.batched.run import direct, edited
from grulens.cells.batched.steps import Steps
from grulens.cells.changes import last_valid, reverse
from grulens.cells.unroll import Ran
from grulens.models.call.call import Call, Cells, Inside, MakeProgram, Run
from grulens.models.call.place import EditLike
from grulens.models.instrument.watch import Watch
from grulens.models.instrument.watchable import Watchable
from grulens.models.recording import LayerRecording, Recording


class NoCopiesError(Exception):
    """The rows of this run are no copies of each other. No user sees it: another way is taken."""


class _KnownRun(Watch, ABC):
    """A watch under which one layer of a module does not run by itself.

    Args:
        watchable: what of the user's model there is to watch.
        layer: the layer.
        known: its module's layers as they run unedited.
        edits: what is changed, where programs say it.
    """

    def __init__(
        self, watchable: Watchable, layer: str, known: Recording, edits: Sequence[EditLike] = ()
    ) -> None:
        super().__init__(watchable, edits, keep=None)
        self.layer, self.known = layer, known
        self.module, self.key = self.place_of(layer)

    def edits_here(self, module: nn.Module) -> bool:
        return module is self.module

    def has_seen(self, module: nn.Module, call: Call) -> bool:
        layers = {key: self.known.get(name) for key, name in self.names[module].items()}
        rows = call.h_0.shape[1]
        start = self.run.start(self.layer, rows)
        for key, layer in layers.items():
            if layer is None or start not in layer.calls or rows % layer.shape[0]:
                return False
            segment = layer.segments[layer.calls.index(start)]
            copies = rows // layer.shape[0]
            given = [(call.state_of(key), segment.h_0)]
            given += [(call.layout.rows(call.body), segment.inputs())] if key[0] == 0 else []
            for now, then in given:
                if not torch.equal(now, then.repeat_interleave(copies, 0)):
                    return False
        return True

    def run_levels(
        self, module: nn.Module, call: Call, cells: Cells, make_program: MakeProgram
    ) -> Run:
        start = self.run.start(self.layer, call.h_0.shape[1])
        if module is not self.module or start + call.steps > self.known[self.layer].shape[1]:
            return call.run(cells, make_program)

        def given(body: Tensor) -> tuple[Tensor, list[Tensor]]:
            return self._given(call, cells, body, start, make_program)

        return call.run(cells, instead={self.key[0]: given})

    def _given(
        self,
        call: Call,
        cells: Cells,
        body: Tensor,
        start: int,
        make_program: MakeProgram,
    ) -> tuple[Tensor, list[Tensor]]:
        """The level of the layer: its states given, those of the other direction run."""
        rows, lengths = call.layout.rows(body), call.layout.lengths
        parts, ends = [], []
        for direction in range(call.directions):
            key = (self.key[0], direction)
            inside = Inside(key, cells[key], rows, call.state_of(key), lengths)
            if key == self.key:
                ran = self.states(inside, start, make_program)
            else:
                ran = inside.states(None)
            parts.append(inside.valid(ran.h))
            ends.append(ran.state)
        h = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
        return call.layout.body(h).contiguous(), ends

    @abstractmethod
    def states(self, inside: Inside, start: int, make_program: MakeProgram) -> Ran:
        """The layer's run in this call, its h at the positions of its input."""


class DirectRun(_KnownRun):
    """One run in which every step of a layer starts from the unedited run's state before it."""

    def states(self, inside: Inside, start: int, make_program: MakeProgram) -> Ran:
        steps = slice(start, start + inside.x.shape[1])
        layer, cell = self.known[self.layer], inside.cell
        state = layer.state[:, steps]
        program = make_program(inside)
        if program is not None:
            h = state[..., : cell.hidden_size]
            if program.signals - {"h"}:
                before = layer.state_prev[:, steps]
                signals = cell.replay(layer.x[:, steps], before, program)
                h = cell.output(signals, before)
                state = torch.cat([h, *(signals[name] for name in cell.states[1:])], 2)
            state = torch.cat([program.apply("h", h), state[..., cell.hidden_size :]], 2)
        return ended(inside, state)


class CopiesRun(_KnownRun):
    """One run of repeated rows (batch, copy), each copy with changes of its own.

    Args:
        watchable: what of the user's model there is to watch.
        layer: the layer that is changed.
        known: its module's layers as they run unedited, one copy.
        changes: what each copy changes, copies in the order of their first touched step; by the
            order in which the layer reads its input, or by position for direct runs.
        is_direct: whether every step starts from the unedited run's state before it.
    """

    def __init__(
        self,
        watchable: Watchable,
        layer: str,
        known: Recording,
        changes: Stacked,
        is_direct: bool,
    ) -> None:
        super().__init__(watchable, layer, known)
        self.stacked, self.is_direct = changes, is_direct
        self._steps: Steps | None = None

    def run_levels(
        self, module: nn.Module, call: Call, cells: Cells, make_program: MakeProgram
    ) -> Run:
        layer: LayerRecording = self.known[self.layer]
        start = self.run.start(self.layer, call.h_0.shape[1])
        end = start + call.steps
        if call.h_0.shape[1] != layer.shape[0] * self.stacked.copies or end > layer.shape[1]:
            raise NoCopiesError("a call of other rows or steps than the unedited run's")
        return super().run_levels(module, call, cells, make_program)

    def states(self, inside: Inside, start: int, make_program: MakeProgram) -> Ran:
        layer: LayerRecording = self.known[self.layer]
        copies, batch = self.stacked.copies, layer.shape[0]
        steps = slice(start, start + inside.x.shape[1])
        if self._steps is None:
            self._steps = inside.cell.steps(copies, batch, layer.h)
        if self.is_direct:
            x, before, state = (s[:, steps] for s in (layer.x, layer.state_prev, layer.state))
            found = direct(self._steps, x, before, state, self.stacked, start=start)
            return ended(inside, _rows(found))
        lengths = inside.lengths if inside.lengths is None else inside.lengths[::copies]
        turn: Callable[[Tensor], Tensor] = lambda t: t  # noqa: E731
        if self.key[1]:
            turn = lambda t: reverse(t, lengths if len(t) == batch else inside.lengths)  # noqa: E731
        if start <= self.stacked.first[0]:
            # until a copy is touched, it is the unedited run, and so is what it reads
            h = edited(
                self._steps, turn(layer.x[:, steps]), inside.h_0[::copies], self.stacked,
                known=turn(layer.state[:, steps]), lengths=lengths, start=start,
            )  # fmt: skip
        else:
            h = edited(
                self._steps, turn(inside.x), inside.h_0, self.stacked, lengths=lengths, start=start
            )
        return ended(inside, turn(_rows(h)))


def ended(inside: Inside, state: Tensor) -> Ran:
    """A run from its whole states (batch, time, state) at the positions of its input."""
    last = state[:, 0] if inside.key[1] else last_valid(state, inside.lengths)
    return Ran(state[..., : inside.cell.hidden_size], last)


def _rows(h: Tensor) -> Tensor:
    """(time, batch, copy, unit) as rows (batch and copy, time, unit)."""
    return h.flatten(1, 2).transpose(0, 1)
