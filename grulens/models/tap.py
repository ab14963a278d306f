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

from grulens.errors import RecordingError
from grulens.gru.cell import Cell
from grulens.gru.changes import Program
from grulens.models.calls import Inside, Key, Replay, SequenceCall, cells_of, check_masks, kept
from grulens.models.find import GRU
from grulens.models.fits import fits
from grulens.models.segment import Segment, version
from grulens.models.watch import Watch


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

    @staticmethod
    def leave(module: GRU, watch: Watch) -> None:
        """Take a watch off a module; with the last one the module is as it was."""
        tap = module.__dict__.get("forward")
        if not isinstance(tap, Tap):
            return
        if watch in tap.watches:
            tap.watches.remove(watch)
        if not tap.watches:
            if tap._shadowed is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = tap._shadowed

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy of the module gets the forward that is its own
        return getattr, (self.module, "forward")

    def __call__(self, input: Any, hx: Tensor | None = None) -> Any:
        module = self.module
        keeping = [watch for watch in self.watches if watch.keeps(module)]
        edited = any(watch.edits_here(module) for watch in self.watches)
        here = threading.get_ident() == self.thread
        if not here or not fits(module, input, hx):
            return self.original(input, hx)  # which says what does not fit
        if keeping or edited:
            self._refuse_autocast()
        if isinstance(module, nn.GRUCell):
            steps = 1
            result = self._cell(module, input, hx, keeping, edited)
        else:
            result, steps = self._sequence(module, input, hx, keeping, edited)
        for watch in self.watches:
            watch.passed(module, steps)
        return result

    @property
    def name(self) -> str:
        """The module's first layer, for messages."""
        return next(iter(self.watches[-1].names[self.module].values()))

    def _refuse_autocast(self) -> None:
        kind = next(self.module.parameters()).device.type
        if torch.is_autocast_enabled(kind):
            raise RecordingError(
                f"layer {self.name!r} runs under torch.autocast, which rounds inside the kernel "
                "where nobody can follow it; record and edit outside of it, with "
                "model.to(torch.bfloat16) if that is the precision wanted"
            )

    def _program(self, inside: Inside) -> Program | None:
        changes = [c for watch in self.watches for c in watch.changes(self.module, inside)]
        return Program(changes, inside.x.shape[1], inside.x) if changes else None

    def _sequence(
        self, module: nn.GRU, given: Any, hx: Tensor | None, keeping: list[Watch], edited: bool
    ) -> tuple[Any, int]:
        call = SequenceCall(module, given, hx, self.name)
        graph = any(watch.graph for watch in keeping)
        programs: dict[Key, Program] = {}
        result: tuple[Tensor | PackedSequence, Tensor]
        if edited or (graph and module.num_layers > 1):
            check_masks(call, self.name)
            done = call.run(cells_of(module, copy=False), self._program)
            programs = done.programs
            result = call.form.leave(done.body), call.form.state(done.h_n)
            if keeping:
                done.keep_copies(graph)
            cells = cells_of(module, copy=not graph) if keeping else {}
            inputs: Callable[[Key], Tensor] = lambda key: done.inputs[key[0]]  # noqa: E731
            states: Callable[[Key], Tensor] = done.states.__getitem__
        elif keeping:
            check_masks(call, self.name)
            rng = torch.get_rng_state() if call.dropout else None
            result = self.original(given, hx)
            cells = cells_of(module, copy=not graph)
            trained = any(parameter.requires_grad for parameter in module.parameters())
            replay = Replay(call, cells, call.form.enter(result[0]), rng, trained)
            replay.keep_copies(graph)
            inputs, states = replay.inputs, replay.states
        else:
            return self.original(given, hx), call.steps
        if keeping:
            call.h_0 = kept(call.h_0, graph)
            segments = {
                key: Segment(
                    cell, partial(inputs, key), partial(states, key), call.state_of(key),
                    call.steps, call.form.lengths, bool(key[1]), programs.get(key),
                )
                for key, cell in cells.items()
            }  # fmt: skip
            self._keep(keeping, segments, call.body, result[1])
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
            rows, h, h_0 = (kept(tensor, graph) for tensor in (rows, h, h_0))
            cell = self._cell_weights(module, keeping[0], graph)
            segment = Segment(
                cell, lambda: rows[:, None], lambda: h[:, None], h_0, 1, None, False, program
            )
            self._keep(keeping, {(0, 0): segment}, rows, h)
        return result

    def _cell_weights(self, module: nn.GRUCell, watch: Watch, graph: bool) -> Cell:
        """One copy of the weights for all steps of a loop, unless they moved between two."""
        live = cells_of(module, copy=False)[0, 0]
        if graph:
            return live
        versions = [(tensor.data_ptr(), version(tensor)) for tensor in live.parameters]
        held, cell = watch.weights.get(module, (None, live))
        if held != versions:
            cell = cells_of(module, copy=True)[0, 0]
            watch.weights[module] = versions, cell
        return cell

    def _keep(
        self, keeping: list[Watch], segments: dict[Key, Segment], given: Tensor, last: Tensor
    ) -> None:
        finite = _finite(given) and _finite(last)
        for watch in keeping:
            if not finite:
                watch.warn_nonfinite(self.module, segments[0, 0].inputs())
            watch.add(self.module, segments)


def _finite(tensor: Tensor) -> bool:
    # a sum is quicker than a look at every value, which only a sum that overflows still needs
    tensor = tensor.detach()
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
