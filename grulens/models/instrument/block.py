"""A model under watch for as long as a `with` block of the user's own lasts, in any number of runs.

Every way into the model is followed: forward hooks stand on the model and on each part that holds a
GRU, and their public methods are wrapped, so that what a run returns is seen and that a run can be
made once more where an edit refers to the unedited one. A way in that is not seen (a method that
was taken off the model before) is found on the stack.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import FrameType
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from grulens.errors import NothingRanWarning, OtherThreadWarning, RecordingError
from grulens.models.call.invocation import copied
from grulens.models.instrument import here
from grulens.models.instrument.outermost import (
    SUSPENDED,
    Outermost,
    called,
    may_go_on,
    on_stack,
    outermost,
    stack,
)
from grulens.models.instrument.watch import Watch
from grulens.models.layers import not_observed, own_states
from grulens.models.observe.again import tell_if_other
from grulens.models.observe.look import Look, is_outdated, look_at
from grulens.models.observe.reading.reading import began
from grulens.models.recording import NOT_SEEN, Recording
from grulens.models.restore import added

_OPEN: WeakSet[Block] = WeakSet()
"""The blocks that are open."""


class Block(Watch):
    """A watch over a block.

    Args:
        watchable, edits, keep: as for `Watch`.
        may_observe: whether cells that are read in their module's own forward may be found.
        make_unedited: from this watch and a call to the recording of that call without edits.
        edits_in_force: from this watch to every edit that acts on the model now.

    Attributes:
        recordings: those of the runs that are over, in the order in which they ended.
    """

    def __init__(
        self,
        *args: Any,
        make_unedited: Callable[[Watch, Callable[[], object]], Recording],
        edits_in_force: Callable[[Watch], list[Any]],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.recordings: list[Recording] = []
        self.told = False
        self._make_unedited, self._edits_in_force = make_unedited, edits_in_force
        self._may_observe = bool(self.observed) or kwargs.get("may_observe", False)
        self._inside = set(self.model.modules())
        # a method of the model may open a block itself: what runs in it are its calls
        self._outside: set[FrameType] = set()
        self._runs: dict[FrameType, Outermost] = {}
        self._ran: set[str] = set()
        self._look: Look | None = None
        self._broken = False
        self._ways: set[str] = set()
        """By which methods runs with observed cells began."""

    @property
    def given(self) -> object:
        return self if self.keep is None else self.recordings

    def follow(self) -> Iterator[Callable[[], None]]:
        """Stand at every way into the model; each thing that is done comes with what undoes it."""
        opened, self._outside = set(self.modules.values()), stack()
        _OPEN.add(self)
        yield functools.partial(_OPEN.discard, self)
        for module in self._inside:
            observed = self._may_observe and module is self.model
            if opened.isdisjoint(module.modules()) and not observed:
                continue
            before = module.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True)
            yield added.hook(module, before)
            yield added.hook(module, module.register_forward_hook(self._after))
            if module not in opened:
                for name, method in _methods(module):
                    yield added.put(module, name, self._entry(module, method))
        if self._may_observe:
            yield added.put(self.model, "forward", self._forward(self.model.forward))

    def under_way(self, module: nn.Module) -> Outermost:
        frame = on_stack(self._runs)
        if frame is None:
            self._settle()
            # a forward that is called by itself, `module.forward(x)`, is a frame of ours only
            frame = self._outermost() or sys._getframe(1)
            self._runs[frame] = self.began(Outermost(alone=called(frame) is module))
        run = self._runs[frame]
        self._ran.update(self.names[module].values())
        return run

    def done(self) -> None:
        """The block ends, and no exception ends it.

        Raises:
            PositionError, SourceError: an edit does not fit the steps of a run.

        Warns:
            NothingRanWarning: the layer of an edit, or any that is kept, ran in no run.
        """
        runs, self._runs = dict(self._runs), {}
        for run in runs.values():
            if run.again is None:
                self._finished(run, NOT_SEEN)
            else:
                self._broken = True
        if self._broken or self.told:
            return
        idle = [
            f"layer {edit.layer!r} did not run in this block, so {edit!r} did nothing"
            for edit in self.edits
            if edit.layer not in self._ran
        ]
        if self.keep is not None and not self.recordings:
            names = ", ".join(name for all_ in self.names.values() for name in all_.values())
            which = f" ({names})" if names else ""
            idle.append(f"no layer that was to be recorded ran in this block{which}")
            if names and not self.observed:
                idle[-1] += own_states(self.model, self.modules.values())
            elif self._look is not None:
                idle[-1] += f": {not_observed(self.model, self.found, self._look)}"
        if idle:
            warnings.warn("; ".join(idle) + self._not_there(), NothingRanWarning, stacklevel=4)

    def _outermost(self) -> FrameType | None:
        return outermost(self._inside, self._outside)

    def tell(self, module: nn.Module) -> None:
        concerns = self.keeps(module) or self.edits_here(module)
        if self.told or here.looks_away(self) or not concerns:
            return
        self.told = True
        what = "recorded" if self.keep is not None else "edited"
        layer = next(iter(self.names[module].values()))
        warnings.warn(
            f"layer {layer!r} ran in another thread or task than the one that opened the block of "
            f"{'recording' if self.keep is not None else 'editing'}: that call is not {what}. Open "
            "a block where the call is made",
            OtherThreadWarning,
            stacklevel=2,
        )

    def _begin(
        self, frame: FrameType, again: Callable[[], object], alone: bool = False
    ) -> Outermost | None:
        """A run begins, unless it is part of one that is under way."""
        if on_stack(self._runs) is not None:
            return None
        self._settle()
        run = self.began(Outermost(again, alone))
        if self.relative and not alone:
            run.unedited = self._make_unedited(self, again)
        self._runs[frame] = run
        return run

    def _finished(self, run: Outermost, output: object, *, whole: bool = False) -> None:
        if run.segments:
            self.recordings.append(self.recording(run, output, self._edits_in_force(self)))
        self.check(run, whole=whole)

    def _settle(self) -> None:
        """Forget the runs of this thread that are over and that nobody saw end."""
        for frame, run in list(self._runs.items()):
            if run.thread == threading.get_ident() and not may_go_on(frame):
                del self._runs[frame]
                if run.again is None:
                    self._finished(run, NOT_SEEN)
                else:
                    self._broken = True  # an exception has ended it

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self.is_here:
            return
        frame = self._outermost()
        if frame is not None and called(frame) is module:
            again = functools.partial(module, *args, **kwargs)
            self._begin(frame, again, alone=module in self.modules.values())

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if not self.is_here:
            return
        frame = on_stack(self._runs)
        if frame is not None and called(frame) is module and self._outermost() is frame:
            self._finished(self._runs.pop(frame), output, whole=module is self.model)

    def _entry(self, module: nn.Module, method: Callable[..., Any]) -> Any:
        """A method that tells when it is the outermost call into the model."""

        @functools.wraps(method)
        def entry(_: nn.Module, *args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe()
            if not self.is_here or self._outermost() is not None:
                return method(*args, **kwargs)
            run = self._begin(frame, functools.partial(method, *args, **kwargs))
            if run is None or not self._may_observe:
                output = method(*args, **kwargs)
            else:
                output = self._observed_in(run, method, args, kwargs, name=method.__name__)
            if run is not None and self._runs.pop(frame, None) is run:
                self._finished(run, output)
            return output

        return types.MethodType(entry, module)

    def _forward(self, forward: Callable[..., Any]) -> Any:
        """A forward of the model that reads its observed cells, where it is the run."""

        @functools.wraps(forward)
        def read(*args: Any, **kwargs: Any) -> Any:
            frame = on_stack(self._runs)
            if not self.is_here or frame is None or called(frame) is not self.model:
                return forward(*args, **kwargs)
            return self._observed_in(self._runs[frame], forward, args, kwargs)

        return read

    def _observed_in(
        self,
        run: Outermost,
        way: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
    ) -> Any:
        """What a way into the model returns, its observed cells read and edited."""
        call, before = functools.partial(way, *args, **kwargs), None
        if not self.observed or (self._look is None and is_outdated(self.model, name)):
            known = tuple(self.modules.values())
            with here.unseen([self]):
                look = look_at(self.model, copied(call), name, known)
            self._look, before = replace(look, output=None), look.output
            self.learn(look.forms)
        observing = self.observe(lambda: run)
        if observing is None:
            return way(*args, **kwargs)
        check_unedited(self)
        self._ways.add(name or "forward")
        with ExitStack() as undo:
            for one in observing.follow():
                undo.callback(one)
            output = began(call)
            self.observed_ran(observing, run, call)
        if not (self.edits or self._edits_in_force(self)):
            tell_if_other(output, before)
        self._ran.update(name for name, steps in observing.lengths().items() if steps)
        return output

    def _not_there(self) -> str:
        """Why no observed cell ran, where the runs came in by other ways than were looked at."""
        if self._ran & self.observed.keys() or not self._ways:
            return ""
        layers, ways = ", ".join(self.observed), ", ".join(f"{way}()" for way in sorted(self._ways))
        return (
            f". What is observed ({layers}) was found in runs that began elsewhere, and is read "
            f"where those come by; in this block they began with {ways}. Begin them as the run "
            "that was recorded; a method that makes several steps is recorded by its name, "
            f"record(model, ..., call={min(self._ways)!r})"
        )


def check_unedited(watch: Watch) -> None:
    """Raise where a block that is open around a watch edits an observed cell that it records.

    Args:
        watch: it is about to begin.
    """
    for block in () if watch.keep is None else _OPEN:
        around = block.model is watch.model and block.mark < watch.mark and block.is_here
        for edit in block.edits if around else ():
            if edit.layer in watch.observed and (not watch.keep or edit.layer in watch.keep):
                raise RecordingError(
                    f"a block of editing that is open here changes layer {edit.layer!r}, whose "
                    "signals are read in its own code, before the block changes them. Do this "
                    f"outside the block, and give {edit!r} to record(..., edits=...)"
                )


def _methods(module: nn.Module) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public methods that a module's own classes give it, bound."""
    if isinstance(module, torch.jit.ScriptModule):
        return
    kind = type(module)
    own = kind.__mro__[: kind.__mro__.index(nn.Module)]
    for name in {name for base in own if not _is_torchs(base) for name in vars(base)}:
        function = inspect.getattr_static(module, name)
        if name.startswith("_") or name == "forward" or not inspect.isfunction(function):
            continue
        # what these return is run later, where the stack says to which run it belongs
        if not inspect.unwrap(function).__code__.co_flags & SUSPENDED:
            yield name, getattr(module, name)


def _is_torchs(kind: type) -> bool:
    return kind.__module__.split(".")[0] == "torch"
