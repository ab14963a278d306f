"""Opening and closing a watch: the only place where the user's model is touched and let go."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from weakref import WeakSet

from torch import nn

from grulens.arguments import LayerNames
from grulens.errors import RecordingError
from grulens.models.call.invocation import copied
from grulens.models.call.place import EditLike
from grulens.models.instrument import here
from grulens.models.instrument.block import Block, check_unedited
from grulens.models.instrument.lock import LOCK, locked
from grulens.models.instrument.outermost import Outermost
from grulens.models.instrument.tap import Tap
from grulens.models.instrument.watch import Watch
from grulens.models.instrument.watchable import Watchable
from grulens.models.observe.candidates import has_unopened
from grulens.models.observe.reading.reading import began
from grulens.models.recording import Recording
from grulens.models.restore.compiler import eagerly
from grulens.models.restore.interrupts import Uninterrupted, grads
from grulens.models.restore.untouched import untouched

_open: WeakSet[watching] = WeakSet()


class watching(Uninterrupted):  # noqa: N801 - called as a function is, in a `with`
    """Open a watch on its model; whatever happens inside, the model is afterwards as it was.

    Around a watch over one run the lock is held; a block of the user's own may last, and holds it
    only while it begins and ends.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._undo, self._added = ExitStack(), ExitStack()

    def ask(self) -> None:
        if self in _open:
            raise RecordingError(
                "this block is open already: make another one for a block inside it"
            )

    def begin(self) -> None:
        if isinstance(self.watch, Block):
            with locked():
                self._begin()
        else:
            self._undo.enter_context(locked())
            self._begin()

    def given(self) -> Any:
        return self.watch.given

    def done(self) -> None:
        self.watch.done()

    def end(self) -> None:
        with locked():
            self.put_back()
            self._undo.close()

    def put_back(self) -> None:
        """Take everything out of the model."""
        self._added.close()

    def _begin(self) -> None:
        watch = self.watch
        watch.thread = threading.get_ident()
        _open.add(self)
        self._undo.callback(_open.discard, self)
        self._undo.enter_context(eagerly())
        self._undo.callback(here.leave, watch)
        here.enter(watch)
        for module, adapter in watch.adapters.items():
            self._added.callback(Tap.on(module, adapter).add(watch))
        for undo in watch.follow():
            self._added.callback(undo)


def editing(model: nn.Module, *edits: EditLike) -> AbstractContextManager[object]:
    """Edit every run of a model inside a block, within its recurrence.

    A run is one outermost call into the model: of the model itself, of one of its methods, or of a
    part of it. Each has a time axis of its own, so two runs in one block are edited alike.
    Gradients flow through an edited run and follow torch's own grad mode. Blocks nest: the outer
    edits act first. What is saved, pickled or copied inside the block is the plain model. Inside
    it nothing runs as torch.compile made it, but as it was written.

    Only the code that opened the block is edited. A call from another thread runs plainly, with an
    `OtherThreadWarning`; so does one from another asyncio task, or from the next cell of a
    notebook while a task waits inside its block.

    Args:
        model: any module that holds an nn.GRU, nn.LSTM or nn.RNN, or cells of them.
        edits: what to change, in the order in which it acts.

    Raises:
        LayerError: an edit's layer is not in this model, or did not run when the model was called.
        PositionError: an edit's units, times or rows are out of range. Where nobody sees the end
            of a run, this is said at the end of the block.
        SourceError: the source of a patch does not fit.
        RecordingError: an edit refers to the unedited run (`to="mean"`, a position from the end)
            and that cannot be made: the run began by a method that was taken off the model before
            the block. Or a layer ran where no edit can follow: inside torch.vmap, or with gradients
            inside torch.utils.checkpoint, which runs it again in backward. Or the block is entered
            a second time before it has ended.

    Warns:
        OtherThreadWarning: a call that is not edited.
        NothingRanWarning: an edit's layer ran nowhere in the block.

    >>> import torch
    >>> from grulens import ablate
    >>> rnn = nn.GRU(2, 3)
    >>> with editing(rnn, ablate("l0", 1)):
    ...     output, _ = rnn(torch.ones(4, 2))
    >>> output[:, 1]
    tensor([0., 0., 0., 0.], grad_fn=<SelectBackward0>)
    """
    return watching(_block(model, edits))


def recording(
    model: nn.Module, *edits: EditLike, layers: LayerNames = None
) -> AbstractContextManager[list[Recording]]:
    """Record every run of a model inside a block: one Recording each, in the order they end.

    A run is one outermost call into the model: of the model itself, of one of its methods, or of a
    part of it; runs in which no layer runs are left out. The list is whole when the block has
    ended. Runs that grulens makes itself (`record`, `sweep`, a lens) are not part of it.

    Args:
        model: any module that holds an nn.GRU, nn.LSTM or nn.RNN, or cells of them.
        edits: what to change on the way, in order; see `editing`.
        layers: names of the layers to keep; None keeps all.

    Raises:
        LayerError: a name that is not in this model, or an edit's layer did not run.
        EditError: an edit that does not fit; see `editing`.

    Warns:
        OtherThreadWarning: a call that is not recorded.
        NothingRanWarning: no layer that is kept ran in the block.

    >>> import torch
    >>> rnn = nn.GRU(3, 4)
    >>> with recording(rnn) as runs:
    ...     for steps in (5, 2):
    ...         _ = rnn(torch.ones(steps, 1, 3))
    >>> [run["l0"].shape for run in runs]
    [(1, 5, 4), (1, 2, 4)]
    """
    return watching(_block(model, edits, keep=names(layers)))


def names(layers: Any) -> tuple[Any, ...]:
    """The layers that a user named, one or several; none is all."""
    if layers is None:
        return ()
    several = isinstance(layers, Sequence) and not isinstance(layers, str)
    return tuple(layers) if several else (layers,)


def _block(model: nn.Module, edits: Sequence[EditLike], keep: Sequence[str] | None = None) -> Block:
    known = Watchable.of(model)
    opened = known.found.opened.values()
    may = keep is not None and not known.observed and has_unopened(model, opened)
    return Block(
        known, edits, keep=keep, may_observe=may, make_unedited=unedited_run,
        edits_in_force=edits_in_force,
    )  # fmt: skip


def ran(call: Callable[[], Any], *watches: Watch, unedited: Recording | None = None) -> Any:
    """What a call into the models of some watches returns, their runs begun and checked.

    Args:
        call: the call.
        *watches: the watches.
        unedited: the run to which their relative edits refer; None is the same call, unedited.

    Runs that grulens makes itself are not those of a recording around it.
    """
    with _all_open(watches):
        for watch in watches:
            check_unedited(watch)
            watch.run = watch.began(Outermost(call))
            if watch.relative:
                watch.run.unedited = unedited or unedited_run(watch, call)
        output = began(call)
        for watch in watches:
            watch.observed_ran(watch.observing, watch.run, call)
            watch.check(watch.run)
        return output


class _all_open(Uninterrupted):  # noqa: N801 - called as a function is, in a `with`
    """Some watches, each over one run, and no recording around them."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self.watches = watches
        self._undo = ExitStack()

    def begin(self) -> None:
        for watch in self.watches:
            self._undo.enter_context(watching(watch))
        outer = {one for watch in self.watches for one in open_on_the_same(watch)}
        recording_too = [one for one in outer - set(self.watches) if one.keep is not None]
        if recording_too:
            self._undo.enter_context(here.unseen(recording_too))

    def end(self) -> None:
        self._undo.close()


def edits_in_force(watch: Watch) -> list[EditLike]:
    """The edits of every watch that is open on the same modules, the outer ones first."""
    return [edit for other in open_on_the_same(watch) for edit in other.edits]


def unedited_run(watch: Watch, call: Callable[[], object]) -> Recording:
    """The run that relative edits refer to, of which nothing else remains."""
    known = Watchable(watch.model, watch.found, tuple(watch.observed.values()))
    recorder = Watch(known, keep=watch.relative)
    again = copied(call)
    around = [watch, *open_on_the_same(watch)]
    with locked(), here.unseen(around), grads(False), untouched(watch.model):
        ran(again, recorder)
    return recorder.recording(recorder.run, None)


def open_on_the_same(watch: Watch) -> list[Watch]:
    """The watches that are open on the modules of one, for this code; the outer ones first."""
    found: dict[int, Watch] = {}
    for module in watch.modules.values():
        found |= {other.mark: other for other in Tap.open_on(module) if other.is_here}
    return list(found.values())


def _after_fork() -> None:
    """In a forked process only the thread that forked goes on."""
    if LOCK._is_owned():  # type: ignore[attr-defined]  # an RLock that threading itself resets so
        return
    LOCK._at_fork_reinit()  # type: ignore[attr-defined]  # as above
    for block in list(_open):
        if block.watch.thread != threading.get_ident():
            block.put_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
