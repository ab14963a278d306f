"""Opening and closing a watch: the only place where the user's model is touched and let go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from torch import nn

from grulens.models.compiler import eagerly
from grulens.models.place import EditLike
from grulens.models.recording import Recording
from grulens.models.tap import Tap
from grulens.models.untouched import untouched
from grulens.models.watch import Watch
from grulens.models.whole import Whole, acquire, grads

LOCK = threading.RLock()
"""Guards every model and its taps; held while a watch is open."""


class watching(Whole):  # noqa: N801 - called as a function is, in a `with`
    """Open a watch on its model; whatever happens inside, the model is afterwards as it was."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._undo = ExitStack()

    def begin(self) -> None:
        acquire(LOCK)
        self._undo.callback(LOCK.release)
        self._undo.enter_context(eagerly())
        for module, adapter in self.watch.adapters.items():
            self._undo.callback(Tap.leave, module, self.watch)
            Tap.on(module, adapter).watches.append(self.watch)
        if self.watch.edits:
            follower = _Follower(self.watch)
            self._undo.callback(follower.leave)
            follower.follow()

    def end(self) -> None:
        self._undo.close()


def editing(model: nn.Module, *edits: EditLike) -> AbstractContextManager[object]:
    """Run the model's own forward with the edits inside its recurrence.

    Inside the block every call of `model` is edited; gradients flow through it and follow torch's
    own grad mode. Blocks nest: the outer edits act first. A copy of the model made inside the
    block, by `copy.deepcopy` or pickle, is not edited. Inside it nothing runs as torch.compile made
    it, but as it was written.

    Args:
        model: any module that holds an nn.GRU or nn.GRUCell.
        edits: what to change, in the order in which it acts.

    Raises:
        LayerError: an edit's layer is not in this model, or did not run.
        PositionError: an edit's units, times or rows are out of range.
        SourceError: the source of a patch does not fit.
        RecordingError: a GRU ran where no edit can follow: inside torch.vmap, or with gradients
            inside torch.utils.checkpoint, which runs it again in backward.

    >>> import torch
    >>> from grulens import ablate
    >>> rnn = nn.GRU(2, 3)
    >>> with editing(rnn, ablate("l0", 1)):
    ...     output, _ = rnn(torch.ones(4, 2))
    >>> output[:, 1]
    tensor([0., 0., 0., 0.], grad_fn=<SelectBackward0>)
    """
    return watching(Watch(model, edits))


def edits_in_force(watch: Watch) -> list[EditLike]:
    """The edits of every watch that is open on the same modules, the outer ones first."""
    return [edit for other in _open_on_the_same(watch) for edit in other.edits]


def unedited_run(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recording:
    """The run that relative edits refer to, of which nothing else remains."""
    recorder = Watch(watch.model, keep=[edit.layer for edit in watch.edits if edit.relative])
    others = [other for other in _open_on_the_same(watch) if not other.paused]
    with _Paused(others), grads(False), untouched(watch.model), watching(recorder):
        watch.model(*args, **kwargs)
    return recorder.recording(None, ())


class _Paused(Whole):
    """Watches that look away for a while."""

    def __init__(self, watches: list[Watch]) -> None:
        self.watches = watches

    def begin(self) -> None:
        for watch in self.watches:
            watch.paused = True

    def end(self) -> None:
        for watch in self.watches:
            watch.paused = False


def _open_on_the_same(watch: Watch) -> list[Watch]:
    found: dict[int, Watch] = {}
    for module in watch.modules.values():
        tap = Tap.on(module, watch.adapters[module])
        found |= {id(other): other for other in tap.watches}
    return list(found.values())


class _Follower:
    """Follows the forwards of the model itself, and tells its watch when one begins and ends."""

    def __init__(self, watch: Watch | None) -> None:
        self.watch = watch
        self.thread = threading.get_ident()
        self._undo: list[Callable[[], None]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return _Follower, (None,)  # in a copy of the model it follows nothing

    def follow(self) -> None:
        """Begin."""
        if self.watch:
            hooks = self.watch.model
            before = hooks.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True)
            self._undo.append(before.remove)
            self._undo.append(hooks.register_forward_hook(self._after).remove)

    def leave(self) -> None:
        """End."""
        while self._undo:
            self._undo.pop()()

    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        watch = self._watch_here()
        if watch:
            if any(edit.relative for edit in watch.edits):
                watch.unedited = unedited_run(watch, args, kwargs)
            watch.begin()

    def _after(self, _: nn.Module, args: tuple[Any, ...], output: object) -> None:
        watch = self._watch_here()
        if watch:
            watch.finish()

    def _watch_here(self) -> Watch | None:
        """The watch, unless this is another thread's call, or the unedited run."""
        watch = self.watch
        return (
            watch if watch and not watch.paused and threading.get_ident() == self.thread else None
        )
