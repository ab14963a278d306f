"""What stands in for the forward of one recurrent module while a watch is open on it.

A tap gets exactly what the module's own hooks let through, so the user's hooks work as always. It
acts only for the code that opened the watch: a widget that runs a model again in the background
does not change what the user's own cell computes meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from grulens.cells.changes import Program
from grulens.errors import AdapterError, RecordingError, WeightsChangedError
from grulens.models.adapters.adapter import Adapter
from grulens.models.adapters.beside import Beside
from grulens.models.call.call import Call, Cells, Inside, Key, Replay, Run, kept
from grulens.models.call.segment import Node, Segment
from grulens.models.call.unwatchable import check_call
from grulens.models.instrument.outermost import Outermost
from grulens.models.instrument.watch import Watch
from grulens.models.layers import article
from grulens.models.restore import added
from grulens.models.restore.parametrized import computed_once
from grulens.models.restore.untouched import untouched
from grulens.models.restore.versions import version

_taps: WeakKeyDictionary[nn.Module, Tap] = WeakKeyDictionary()


class Tap:
    """Stands in for the forward of one module; shared by all watches that are open on it."""

    def __init__(self, module: nn.Module, adapter: Adapter) -> None:
        self.module = module
        self.adapter = adapter
        self.original: Callable[..., Any] = module.forward
        self.watches: tuple[Watch, ...] = ()
        self._take_out = added.put(module, "forward", self)
        _taps[module] = self

    @classmethod
    def on(cls, module: nn.Module, adapter: Adapter) -> Tap:
        """The tap of a module, a new one if there is none."""
        # somebody may have wrapped it meanwhile: one tap sees everything
        return _taps.get(module) or cls(module, adapter)

    @staticmethod
    def open_on(module: nn.Module) -> tuple[Watch, ...]:
        """The watches that are open on a module, the outer ones first."""
        tap = _taps.get(module)
        return tap.watches if tap else ()

    def add(self, watch: Watch) -> Callable[[], None]:
        """Let a watch see the module; what comes back takes it off again."""
        self.watches = (*self.watches, watch)

        def leave() -> None:
            # a new tuple: a call in another thread may be going through the old one
            self.watches = tuple(other for other in self.watches if other is not watch)
            if not self.watches and _taps.get(self.module) is self:
                del _taps[self.module]
                self._take_out()

        return leave

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, adapter = self.module, self.adapter
        here = [watch for watch in self.watches if watch.is_here]
        if not here:
            for watch in self.watches:
                watch.tell(module)
        keeping = [watch for watch in here if watch.keeps(module)]
        edited = any(watch.edits_here(module) for watch in here)
        if not (keeping or edited):
            for watch in here:
                watch.under_way(module)
                watch.saw(module, (args, kwargs))
            return self.original(*args, **kwargs)
        runs = {watch: watch.under_way(module) for watch in here}
        try:
            call = adapter.open(module, args, kwargs)
        except AdapterError:
            self.original(*args, **kwargs)  # what the module itself refuses, it refuses first
            raise
        if call is None:
            result = self.original(*args, **kwargs)  # which says what does not fit
            if adapter.vouched:
                return result
            raise AdapterError(
                f"the forward of this {type(module).__name__} is not torch's own and takes, at "
                f"layer {self.name(here)!r}, arguments that torch's does not: say how they are "
                "read with grulens.adapters.register"
            )
        if not adapter.vouched:
            # what somebody else wrote may change what it is given
            call.body, call.h_0 = call.body.clone(), call.h_0.clone()
        with_grad = torch.is_grad_enabled() or any(run.grad for run in runs.values())
        differentiated = any(watch.graph for watch in keeping) or (edited and with_grad)
        name = self.name(here)
        check_call(call, module, name, vouched=adapter.vouched, differentiated=differentiated)
        for watch in here:
            watch.opened(module, call)
        before = self._versions()
        result = self._run(call, args, kwargs, runs, keeping, edited)
        if before != self._versions():
            raise WeightsChangedError(
                f"the weights of layer {name!r} were changed while it ran (does another thread "
                "train the model?): what was seen of it is of no one set of weights. Run it again, "
                "or pause the training meanwhile"
            )
        for watch, run in runs.items():
            watch.passed(module, call.h_0.shape[1], call.steps, run)
        return result

    def name(self, watches: Iterable[Watch]) -> str:
        """The module's first layer, for messages."""
        return next(name for watch in watches for name in watch.names[self.module].values())

    def _program(self, runs: Mapping[Watch, Outermost], inside: Inside) -> Program | None:
        found = [watch.changes(self.module, inside, run) for watch, run in runs.items()]
        changes = [change for some in found for change in some]
        return Program(changes, inside.x.shape[1], inside.h_0) if changes else None

    def _run(
        self,
        call: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        runs: Mapping[Watch, Outermost],
        keeping: list[Watch],
        edited: bool,
    ) -> Any:
        module, adapter, name = self.module, self.adapter, self.name(runs)
        graph = any(watch.graph for watch in keeping)
        programs: dict[Key, Program] = {}
        bodies: Sequence[Tensor] = ()
        call.graph = graph
        last = list(runs)[-1]
        start = runs[last].start(name, call.h_0.shape[1])
        beside = Beside(adapter, module, self.original, last.names[module], start)
        seen = call.body
        instead = edited or (graph and call.levels > 1)
        if instead and not (adapter.vouched or last.has_seen(module, call)):
            seen = beside.compare(call, args, kwargs, replaced=True)
        if instead:
            live = adapter.cells_of(module)
            if graph:
                check_graph(live, name)
            cells = live if graph or not keeping else self._copied(live, keeping[0])
            done = last.run_levels(module, call, live, partial(self._program, runs))
            programs, bodies = done.programs, done.bodies
            if programs and call.steps > 1 and not adapter.vouched:
                beside.compare_edited(call, done, args, kwargs, seen)
            result, body = call.leave(done), done.body
            if keeping:
                done.keep_copies(graph)
            inputs: Callable[[Key], Tensor] = done.inputs_of
            states: Callable[[Key], Tensor] = done.states_of
        else:
            rng = torch.get_rng_state() if call.dropout else None
            around = untouched(module) if graph and not adapter.vouched else None
            with computed_once(module):
                result = self.original(*args, **kwargs)
                if around:
                    beside.check_kept(around.left())
                live = adapter.ran(module)
                if graph:
                    check_graph(live, name)
                if not adapter.vouched:
                    beside.check(call, live, result, rng)
            body = call.enter(result)
            if graph:
                read = Run()
                read.body = call.seen(body, read)
                read.h_n, bodies = call.last(read.body), read.bodies
                made = call.leave(read)
                if not adapter.vouched:
                    beside.check_graph(result, made)
                result = made
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
                    call.steps, call.layout.lengths, bool(key[1]), programs.get(key),
                    call.precision,
                    Node(bodies[key[0]], call.layout, call.directions) if bodies else None,
                )
                for key, cell in cells.items()
            }  # fmt: skip
            for watch in keeping:
                if not finite:
                    watch.warn_nonfinite(module, segments[0, 0].inputs(), runs[watch])
                watch.add(module, segments, runs[watch])
        return result

    def _versions(self) -> list[int | None]:
        """How often its weights were changed in place; a module that changes its own may."""
        if not self.adapter.vouched:
            return []
        # torch's own modules hold their weights themselves; to walk below costs a step's time
        held = self.module._parameters.values()
        return [version(tensor) for tensor in held if tensor is not None]

    def _copied(self, live: Cells, watch: Watch) -> Cells:
        """One copy of the weights for all calls, unless they moved between two."""
        tensors = [tensor for cell in live.values() for tensor in cell.parameters]
        states = [(id(tensor), tensor.data_ptr(), version(tensor)) for tensor in tensors]
        held, _, cells = watch.weights.get(self.module, (None, tensors, live))
        if held != states:
            cells = {k: cell.over(lambda t: t.detach().clone()) for k, cell in live.items()}
            # the tensors too: let go, another could come to lie where one of them lay
            watch.weights[self.module] = states, tensors, cells
        return cells


def check_graph(cells: Cells, name: str) -> None:
    """Raise RecordingError if a run of these cells cannot be differentiated by their signals."""
    for cell in cells.values():
        if len(cell.states) > 1:
            raise RecordingError(
                f"layer {name!r} is {article(cell.kind)}, whose state is "
                f"{' and '.join(cell.states)}; record(grad=True) keeps the graph of cells with one "
                "state: record it with grad=False, or leave it out with layers=[...]"
            )


def _finite(tensor: Tensor) -> bool:
    # a sum is quicker than a look at every value, which only a sum that overflows still needs
    tensor = tensor.detach()
    return math.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())
