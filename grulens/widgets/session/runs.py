"""One model, run again and again: what differs between two runs is what the edits did.

So every run begins from the model as it was and leaves nothing behind, and two runs are compared
only where the model has not changed between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Final

import torch
from torch import Tensor, nn

from grulens.cells.precision import present
from grulens.errors import WeightsChangedError
from grulens.models.call.invocation import Given, fresh
from grulens.models.instrument.lock import LOCK
from grulens.models.record import record
from grulens.models.recording import Recording
from grulens.models.restore.interrupts import Uninterrupted, acquire
from grulens.models.restore.mode import evaluated, in_eval, in_training
from grulens.models.restore.standing import CHANGED, Standing, expecting, is_lazy
from grulens.models.restore.untouched import untouched
from grulens.probing.edits.edit import Edit
from grulens.words import message

#: What a screen says of runs in eval mode of a model in training mode.
EVAL: Final = message("these runs are in eval mode; the model itself is in training mode")


class Runs:
    """Records a model again and again, each time with the same random numbers and autocast.

    Autocast is that of the thread which made this: a widget computes in threads of its own. Torch's
    generator of random numbers is global, and a widget may compute while a cell of the notebook
    runs, so it is touched only for a model that draws from it.

    Attributes:
        seconds: how long the last run took.
        random: the state of torch's generator before the first run that drew random numbers.
        precision: gives a context with the autocast under which this was made.
        evaluate: whether runs are in eval mode, whatever mode the model is in.
        first: gives a block in which a run begins in other states than the model's own, or does
            nothing.
    """

    def __init__(self, model: nn.Module, call: Any = None) -> None:
        self.model, self.call = model, call
        self.seconds = 0.0
        self.random: Tensor | None = None
        self.evaluate = False
        self.first: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.precision = present(next(model.parameters(), torch.empty(0)).device)

    def __call__(self, given: Given, edits: Sequence[Edit] = ()) -> Recording:
        """The recording of one run."""
        done, self.seconds = self._recorded(given, edits=edits)
        return done

    def aside(self, given: Given, edits: Sequence[Edit] = ()) -> Recording:
        """The recording of one run that is not shown: `seconds` stays that of the one that is."""
        return self._recorded(given, edits=edits)[0]

    def with_graph(self, given: Given, edits: Sequence[Edit] = ()) -> Recording:
        """The recording of one run with its graph: see `record(grad=True)`."""
        return self._recorded(given, edits=edits, grad=True)[0]

    def _recorded(self, given: Given, **options: Any) -> tuple[Recording, float]:
        """The recording of one run, and how long it took."""
        with _AsItWas(self), _SameNumbers(self), self.precision(), self.first():
            began = time.perf_counter()
            done = record(self.model, call=self.call, inputs=fresh(given), **options)
            return done, time.perf_counter() - began

    def standing(self) -> Standing:
        """The model as it stands now."""
        return Standing(self.model, mode=not self.evaluate)

    @property
    def mode(self) -> str:
        """What of the model acts as in training in these runs, in words; "" where nothing does."""
        model = in_training(self.model)
        return EVAL if model and self.evaluate else model

    @contextmanager
    def studying(self, standing: Standing) -> Iterator[None]:
        """A context for analyses of the model: in the mode of these runs, with the same weights.

        Raises:
            WeightsChangedError: the model has changed since it stood so, or does meanwhile.
        """
        with in_eval(self.evaluate), expecting(standing), self.precision(), self.first():
            self.check(standing)
            yield
            self.check(standing)

    def check(self, standing: Standing) -> None:
        """Raise WeightsChangedError if the model has changed since it stood so."""
        with LOCK:
            if not standing.same_weights(self.model):
                raise WeightsChangedError(CHANGED)


class _AsItWas(Uninterrupted):
    """A block for one run that leaves nothing behind, in the mode that was chosen."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self._undo = ExitStack()

    def begin(self) -> None:
        acquire(LOCK)
        self._undo.callback(LOCK.release)
        # random numbers are looked after by whoever knows where they are to begin
        if not is_lazy(self.runs.model):
            self._undo.enter_context(untouched(self.runs.model, random=False))
        if self.runs.evaluate:
            self._undo.enter_context(evaluated(self.runs.model))

    def end(self) -> None:
        self._undo.close()


class _SameNumbers(Uninterrupted):
    """Random numbers from where the first run that drew any began."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    def begin(self) -> None:
        self.before = torch.get_rng_state()
        if self.runs.random is not None:
            torch.set_rng_state(self.runs.random)

    def end(self) -> None:
        if not torch.equal(torch.get_rng_state(), self.before):
            self.runs.random = self.before if self.runs.random is None else self.runs.random
            torch.set_rng_state(self.before)
