"""A run of a model that is made to look at it, and of which nothing remains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from torch import nn

from grulens.errors import RecordingError
from grulens.models.restore.interrupts import Uninterrupted, grads
from grulens.models.restore.untouched import untouched


class alone(Uninterrupted):  # noqa: N801 - called as a function is, in a `with`
    """A run without gradients, read by what is put into the model for it; nothing of it remains.

    Args:
        model: the model.
        run: the run.
        follow: puts what reads it into the model; each thing that is done comes with what undoes
            it.
        *modes: what else is open meanwhile, the last one innermost.

    Raises:
        RecordingError: it has taken from something that cannot be put back.

    >>> model = nn.Linear(2, 2)
    >>> with alone(model, lambda: model.eval()):
    ...     _ = model.eval()
    >>> model.training
    True
    """

    def __init__(
        self,
        model: nn.Module,
        run: Callable[[], Any],
        follow: Iterable[Callable[[], None]] = (),
        *modes: AbstractContextManager[Any],
    ) -> None:
        self._untouched = untouched(model, also=[run], told=False)
        self._follow, self._modes = follow, modes
        self._undo = ExitStack()
        self._whole = False

    def begin(self) -> None:
        self._undo.enter_context(self._untouched)
        self._undo.enter_context(grads(False))
        for one in self._follow:
            self._undo.callback(one)
        for mode in self._modes:
            self._undo.enter_context(mode)

    def done(self) -> None:
        self._whole = True

    def end(self) -> None:
        self._undo.close()
        if self._whole and self._untouched.lost:
            raise RecordingError(
                "a run that was made to look at this model, before the one to be recorded, has "
                f"gone by what cannot be put back: {', '.join(self._untouched.lost)}. The next run "
                "would not be what it is without that: hold what the code takes from as a list and "
                "a position, or make it anew in each call; or record what is opened by its weights "
                "alone, with observe=False"
            )
