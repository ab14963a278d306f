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
from grulens.models.watch import Watch

LOCK = threading.RLock()
"""Guards every model and its taps; held while a watch is open."""


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """Open a watch on its model; whatever happens inside, the model is afterwards as it was."""
    with LOCK, ExitStack() as undo:
        for module in watch.modules.values():
            tap = Tap.on(module)
            undo.callback(tap.leave, watch)
            tap.watches.append(watch)
        if watch.edits:
            undo.callback(_follow(watch))
        yield watch


@contextmanager
def editing(model: nn.Module, *edits: EditLike) -> Iterator[None]:
    """Run the model's own forward with the edits inside its recurrence.

    Inside the block every call of `model` is edited; gradients flow through it and follow torch's
    own grad mode. Blocks nest: the outer edits act first.

    Args:
        model: any module that holds an nn.GRU or nn.GRUCell.
        edits: what to change, in the order in which it acts.

    Raises:
        LayerError: an edit's layer is not in this model, or did not run.
        PositionError: an edit's units, times or rows are out of range.
        SourceError: the source of a patch does not fit.

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
    found: dict[int, Watch] = {}
    for module in watch.modules.values():
        found |= {id(other): other for other in Tap.on(module).watches if not other.paused}
    return [edit for other in found.values() for edit in other.edits]


def unedited_run(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recording:
    """The run that relative edits refer to; random numbers and buffers stay as they were."""
    model = watch.model
    buffers = [(buffer, buffer._version, buffer.clone()) for buffer in model.buffers()]
    devices = {p.device.index for p in model.parameters() if p.is_cuda}
    recorder = Watch(model, keep=())
    watch.paused = True
    try:
        with torch.no_grad(), torch.random.fork_rng(list(devices)), watching(recorder):
            model(*args, **kwargs)
    finally:
        watch.paused = False
        with torch.no_grad():
            for buffer, version, before in buffers:
                if buffer._version != version:
                    buffer.copy_(before)
    return recorder.recording(None, ())


def _follow(watch: Watch) -> Callable[[], None]:
    """Follow the forwards of the model itself; returns what ends that."""
    thread = threading.get_ident()
    relative = any(edit.relative for edit in watch.edits)

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if watch.paused or threading.get_ident() != thread:
            return
        if relative:
            watch.unedited = unedited_run(watch, args, kwargs)
        watch.begin()

    def after(_: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if not watch.paused and threading.get_ident() == thread:
            watch.finish()

    handles = [
        watch.model.register_forward_pre_hook(before, prepend=True, with_kwargs=True),
        watch.model.register_forward_hook(after),
    ]

    def end() -> None:
        for handle in handles:
            handle.remove()

    return end
