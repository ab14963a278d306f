"""A run of the model that leaves nothing behind, and that no other thread disturbs."""

from __future__ import annotations

from contextlib import ExitStack

from torch import nn

from grulens.models.instrument.lock import LOCK
from grulens.models.restore.interrupts import Uninterrupted, acquire, grads
from grulens.models.restore.mode import mode_for_run
from grulens.models.restore.standing import check_expected
from grulens.models.restore.untouched import untouched


class as_it_was(Uninterrupted):  # noqa: N801 - called as a function is, in a `with`
    """A run that leaves nothing behind, and that no other thread disturbs."""

    def __init__(self, model: nn.Module, *, grad: bool = False) -> None:
        self.model, self.grad = model, grad
        self._undo = ExitStack()

    def begin(self) -> None:
        acquire(LOCK)
        self._undo.callback(LOCK.release)
        self._undo.enter_context(grads(self.grad))
        check_expected(self.model)
        self._undo.enter_context(untouched(self.model))
        self._undo.enter_context(mode_for_run(self.model))

    def end(self) -> None:
        self._undo.close()
