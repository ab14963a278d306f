"""Opening and closing a watch: the only place where the user's model is touched and let go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from grulens.models.place import EditLike
from grulens.models.recording import Recording
from grulens.models.tap import Tap
from grulens.models.untouched import untouched
from grulens.models.watch import Watch

LOCK = threading.RLock()
"""Guards every model and its taps; held while a watch is open."""


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """Open a watch on its model; whatever happens inside, the model is afterwards as it was."""
    with LOCK, ExitStack() as undo:
        for module in watch.modules.values():
            # first how to undo it, then the deed: Ctrl-C may come in between
            undo.callback(Tap.leave, module, watch)
            Tap.on(module, watch.adapters[module]).watches.append(watch)
        if watch.edits:
            follower = _Follower(watch)
            undo.callback(follower.leave)
            follower.follow()
        yield watch


@contextmanager
def editing(model: nn.Module, *edits: EditLike) -> Iterator[None]:
    """Run the model's own forward with the edits inside its recurrence.

    Inside the block every call of `model` is edited; gradients flow through it and follow torch's
    own grad mode. Blocks nest: the outer edits act first. A copy of the model made inside the
    block, by `copy.deepcopy` or pickle, is not edited.

    Args:
        model: any module that holds an nn.GRU or nn.GRUCell.
        edits: what to change, in the order in which it acts.

    Raises:
        LayerError: an edit's layer is not in this model, or did not run.
        PositionError: an edit's units, times or rows are out of range.
        SourceError: the source of a patch does not fit.
        RecordingError: a GRU ran under `torch.autocast`.

    >>> from grulens import ablate
    >>> rnn = nn.GRU(2, 3)
    >>> with editing(rnn, ablate("l0", 1)):
    ...     output, _ = rnn(torch.ones(4, 2))
    >>> output[:, 1]
    tensor([0., 0., 0., 0.], grad_fn=<SelectBackward0>)
    """
    with watching(Watch(model, edits)):
        yield


def edits_in_force(watch: Watch) -> list[EditLike]:
    """The edits of every watch that is open on the same modules, the outer ones first."""
    return [edit for other in _open_on_the_same(watch) for edit in other.edits]


def unedited_run(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recording:
    """The run that relative edits refer to, of which nothing else remains."""
    recorder = Watch(watch.model, keep=[edit.layer for edit in watch.edits if edit.relative])
    others = [other for other in _open_on_the_same(watch) if not other.paused]
    for other in others:
        other.paused = True
    try:
        with torch.no_grad(), untouched(watch.model), watching(recorder):
            watch.model(*args, **kwargs)
    finally:
        for other in others:
            other.paused = False
    return recorder.recording(None, ())


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
