"""What stands in for the forward of one GRU module while a watch is open on it.

A tap gets exactly what the module's own hooks let through, so the user's hooks work as always. It
acts only in the thread that opened the watch: a widget that runs a model again in the background
does not change what the user's own cell computes meanwhile.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from grulens.errors import AdapterError
from grulens.gru.cell import Cell
from grulens.gru.changes import Program
from grulens.models.adapters import Adapter
from grulens.models.agreement import agreed, compare
from grulens.models.calls import Call, Inside, Key, Replay, kept
from grulens.models.parametrized import computed_once
from grulens.models.segment import Segment, version
from grulens.models.untouched import untouched
from grulens.models.unwatchable import check_call
from grulens.models.watch import Watch
from grulens.models.whole import grads


class Tap:
    """Stands in for the forward of one module; shared by all watches that are open on it."""

    def __init__(self, module: nn.Module, adapter: Adapter) -> None:
        self.module = module
        self.adapter = adapter
        self.thread = threading.get_ident()
        self.original: Callable[..., Any] = module.forward
        self.watches: list[Watch] = []
        self._shadowed = module.__dict__.get("forward")
        module.__dict__["forward"] = self

    @classmethod
    def on(cls, module: nn.Module, adapter: Adapter) -> Tap:
        """The tap of a module, a new one if there is none."""
        present = module.__dict__.get("forward")
        return present if isinstance(present, Tap) else cls(module, adapter)

    @staticmethod
    def leave(module: nn.Module, watch: Watch) -> None:
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

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, adapter = self.module, self.adapter
        keeping = [watch for watch in self.watches if watch.keeps(module)]
        edited = any(watch.edits_here(module) for watch in self.watches)
        if threading.get_ident() != self.thread or not (keeping or edited):
            return self.original(*args, **kwargs)
        try:
            call = adapter.open(module, args, kwargs)
        except AdapterError:
            self.original(*args, **kwargs)  # what the module itself refuses, it refuses first
            raise
        if call is None:
            return self.original(*args, **kwargs)  # which says what does not fit
        with_grad = torch.is_grad_enabled() or any(watch.grad for watch in self.watches)
        differentiated = any(watch.graph for watch in keeping) or (edited and with_grad)
        check_call(call, module, self.name, vouched=adapter.vouched, differentiated=differentiated)
        result = self._run(call, args, kwargs, keeping, edited)
        for watch in self.watches:
            watch.passed(module, call.steps)
        return result

    @property
    def name(self) -> str:
        """The module's first layer, for messages."""
        return next(iter(self.watches[-1].names[self.module].values()))

    def _program(self, inside: Inside) -> Program | None:
        changes = [c for watch in self.watches for c in watch.changes(self.module, inside)]
        return Program(changes, inside.x.shape[1], inside.h_0) if changes else None

    def _run(
        self,
        call: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        keeping: list[Watch],
        edited: bool,
    ) -> Any:
        module, adapter = self.module, self.adapter
        graph = any(watch.graph for watch in keeping)
        programs: dict[Key, Program] = {}
        if edited and not agreed(adapter, module):
            with grads(False), untouched(module):
                compare(adapter, module, call, self.original(*args, **kwargs), self.name)
        if edited or (graph and call.levels > 1):
            live = adapter.cells_of(module)
            cells = live if graph or not keeping else self._copied(live, keeping[0])
            done = self.watches[-1].run(module, call, live, self._program)
            programs = done.programs
            result, body = call.leave(done), done.body
            if keeping:
                done.keep_copies(graph)
            inputs: Callable[[Key], Tensor] = lambda key: done.inputs[key[0]]  # noqa: E731
            states: Callable[[Key], Tensor] = done.states.__getitem__
        else:
            rng = torch.get_rng_state() if call.dropout else None
            with computed_once(module):
                result = self.original(*args, **kwargs)
                live = adapter.ran(module)
                if not agreed(adapter, module):
                    compare(adapter, module, call, result, self.name)
            body = call.enter(result)
            trained = any(t.requires_grad for cell in live.values() for t in cell.parameters)
            cells = live if graph else self._copied(live, keeping[0])
            replay = Replay(call, cells, body, rng, trained)
            replay.keep_copies(graph)
            inputs, states = replay.inputs, replay.states
        if keeping:
            finite = _finite(call.body) and _finite(body)
            call.h_0 = kept(call.h_0, graph)
            segments = {
                key: Segment(
                    cell, partial(inputs, key), partial(states, key), call.state_of(key),
                    call.steps, call.form.lengths, bool(key[1]), programs.get(key), call.precision,
                )
                for key, cell in cells.items()
            }  # fmt: skip
            for watch in keeping:
                if not finite:
                    watch.warn_nonfinite(module, segments[0, 0].inputs())
                watch.add(module, segments)
        return result

    def _copied(self, live: dict[Key, Cell], watch: Watch) -> dict[Key, Cell]:
        """One copy of the weights for all calls, unless they moved between two."""
        tensors = [tensor for cell in live.values() for tensor in cell.parameters]
        states = [(id(tensor), tensor.data_ptr(), version(tensor)) for tensor in tensors]
        held, _, cells = watch.weights.get(self.module, (None, tensors, live))
        if held != states:
            cells = {k: cell.over(lambda t: t.detach().clone()) for k, cell in live.items()}
            # the tensors too: let go, another could come to lie where one of them lay
            watch.weights[self.module] = states, tensors, cells
        return cells


def _finite(tensor: Tensor) -> bool:
    # a sum is quicker than a look at every value, which only a sum that overflows still needs
    tensor = tensor.detach()
    return math.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())
