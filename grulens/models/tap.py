"""What stands in for the forward of one GRU module while a watch is open on it.

A tap gets exactly what the module's own hooks let through, so the user's hooks work as always. It
acts only in the thread that opened the watch: a widget that runs a model again in the background
does not change what the user's own cell computes meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from grulens.gru.cell import Cell
from grulens.gru.changes import Program
from grulens.models.calls import Inside, Key, Replay, SequenceCall, cells_of, check_masks
from grulens.models.find import GRU
from grulens.models.recording import Segment
from grulens.models.watch import Watch

SEQUENCE_DIMS = (2, 3)


class Tap:
    """Stands in for the forward of one module; shared by all watches that are open on it."""

    def __init__(self, module: GRU) -> None:
        self.module = module
        self.thread = threading.get_ident()
        self.original: Callable[..., Any] = module.forward
        self.watches: list[Watch] = []
        self._shadowed = module.__dict__.get("forward")
        module.__dict__["forward"] = self

    @classmethod
    def on(cls, module: GRU) -> Tap:
        """The tap of a module, a new one if there is none."""
        present = module.__dict__.get("forward")
        return present if isinstance(present, Tap) else cls(module)

    def leave(self, watch: Watch) -> None:
        """Forget a watch; with the last one the module is as it was."""
        if watch in self.watches:
            self.watches.remove(watch)
        if not self.watches and self.module.__dict__.get("forward") is self:
            if self._shadowed is None:
                del self.module.__dict__["forward"]
            else:
                self.module.__dict__["forward"] = self._shadowed

    def __call__(self, input: Any, hx: Tensor | None = None) -> Any:
        if threading.get_ident() != self.thread:
            return self.original(input, hx)
        module = self.module
        keeping = [watch for watch in self.watches if watch.keeps(module)]
        edited = any(
            watch.edits_at(module, key) for watch in self.watches for key in watch.names[module]
        )
        if isinstance(input, Tensor) and input.dim() not in SEQUENCE_DIMS:
            return self.original(input, hx)  # which says what is wrong with it
        if isinstance(module, nn.GRUCell):
            steps = 1
            result = self._cell(module, input, hx, keeping, edited)
        else:
            result, steps = self._sequence(module, input, hx, keeping, edited)
        for watch in self.watches:
            watch.passed(module, steps)
        return result

    def _program(self, inside: Inside) -> Program | None:
        changes = [c for watch in self.watches for c in watch.changes(self.module, inside)]
        return Program(changes, inside.x.shape[1], inside.x) if changes else None

    def _sequence(
        self, module: nn.GRU, given: Any, hx: Tensor | None, keeping: list[Watch], edited: bool
    ) -> tuple[Any, int]:
        name = next(iter(self.watches[-1].names[module].values()))
        call = SequenceCall(module, given, hx, name)
        graph = any(watch.graph for watch in keeping)
        programs: dict[Key, Program] = {}
        result: tuple[Tensor | PackedSequence, Tensor]
        if edited or (graph and module.num_layers > 1):
            check_masks(call, name)
            done = call.run(cells_of(module, copy=False), self._program)
            programs = done.programs
            result = call.form.leave(done.body), call.form.state(done.h_n)
            inputs: Callable[[Key], Tensor] = lambda key: done.inputs[key[0]]  # noqa: E731
            states: Callable[[Key], Tensor] = done.states.__getitem__
            cells = cells_of(module, copy=not graph) if keeping else {}
        elif keeping:
            check_masks(call, name)
            rng = torch.get_rng_state() if call.dropout else None
            result = self.original(given, hx)
            cells = cells_of(module, copy=not graph)
            replay = Replay(call, cells, call.form.enter(result[0]), rng)
            if not graph:
                replay.keep_copies()
            inputs, states = replay.inputs, replay.states
        else:
            return self.original(given, hx), call.steps
        if keeping:
            segments = {
                key: Segment(
                    cell, partial(inputs, key), partial(states, key), call.state_of(key),
                    call.steps, call.form.lengths, bool(key[1]), programs.get(key),
                )
                for key, cell in cells.items()
            }  # fmt: skip
            self._keep(keeping, segments, result[1])
        return result, call.steps

    def _cell(
        self, module: nn.GRUCell, x: Tensor, hx: Tensor | None, keeping: list[Watch], edited: bool
    ) -> Tensor:
        graph = any(watch.graph for watch in keeping)
        rows = x if x.dim() == 2 else x[None]
        h_0 = rows.new_zeros(len(rows), module.hidden_size) if hx is None else hx
        h_0 = h_0 if h_0.dim() == 2 else h_0[None]
        program = None
        if edited:
            inside = Inside((0, 0), cells_of(module, copy=False)[0, 0], rows[:, None], h_0, None)
            program = self._program(inside)
            h = inside.states(program)[1]
            result = h if x.dim() == 2 else h[0]
        else:
            result = self.original(x, hx)
            h = result if x.dim() == 2 else result[None]
        if keeping:
            rows, h, h_0 = (t if graph else t.detach().clone() for t in (rows, h, h_0))
            cell = self._cell_weights(module, keeping[0], graph)
            segment = Segment(
                cell, lambda: rows[:, None], lambda: h[:, None], h_0, 1, None, False, program
            )
            self._keep(keeping, {(0, 0): segment}, h)
        return result

    def _cell_weights(self, module: nn.GRUCell, watch: Watch, graph: bool) -> Cell:
        """One copy of the weights for all steps of a loop, unless they moved between two."""
        live = cells_of(module, copy=False)[0, 0]
        if graph:
            return live
        versions = [(tensor.data_ptr(), tensor._version) for tensor in live.parameters]
        held, cell = watch.weights.get(module, (None, live))
        if held != versions:
            cell = cells_of(module, copy=True)[0, 0]
            watch.weights[module] = versions, cell
        return cell

    def _keep(self, keeping: list[Watch], segments: dict[Key, Segment], last: Tensor) -> None:
        with torch.no_grad():
            finite = bool(torch.isfinite(last).all())
        for watch in keeping:
            if not finite:
                watch.warn_nonfinite(self.module, segments[0, 0].inputs())
            watch.add(self.module, segments)
