"""The edited runs of a sweep: side by side where the model's rows can be repeated, else in turn.

Done side by side, runs take as much memory as there are of them; how many fit is counted before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from grulens.cells.batched.changes import Stacked, first_step
from grulens.cells.changes import Change, reverse
from grulens.models.call.place import EditLike
from grulens.models.instrument.batched import CopiesRun, DirectRun
from grulens.models.instrument.editing import edits_in_force, ran
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.instrument.watch import Watch
from grulens.probing.units.batching import (
    BatchDims,
    count_bytes,
    guess_batch_dims,
    repeat_rows,
    split_copies,
)
from grulens.probing.units.copies import Copies
from grulens.probing.units.direct_observed import NotDirectError, direct_output, reads_signals
from grulens.probing.units.experiment import Experiment
from grulens.probing.units.peak_memory import PeakMemory

STEP_BYTES = 3 * 2**20
"""What the gates of one step may take; more, and they leave the cache before they are used."""
FEWEST = 4
"""Runs done at a time where others wait: with fewer, the processor waits for memory."""

Answer = tuple[int, Tensor, Tensor]
"""Which run, its readout when it is edited, and when the edit is put on the layer's output."""

Edits = Callable[[int], Sequence[EditLike]]


class EditedRuns:
    """The runs of a sweep.

    Args:
        experiment: the model, its input and its readout.
        edits: the edits of a run, by its number.
        memory: bytes that the runs done at a time may hold.
        seconds: how long one time may take, at least four runs; None is as long as it takes.

    Attributes:
        batched: whether runs are done side by side; known after the first of them.
    """

    def __init__(
        self, experiment: Experiment, edits: Edits, memory: int, seconds: float | None = None
    ) -> None:
        self.experiment, self.edits, self.memory = experiment, edits, memory
        self.seconds = seconds
        self._side_by_side = SideBySide(experiment)

    @property
    def batched(self) -> bool:
        return self._side_by_side.dims is not None

    def answers(self, runs: Sequence[int]) -> Iterator[Iterable[Answer]]:
        """The answers of runs, as many at a time as fit."""
        size = FEWEST
        if self.seconds is None:
            size = _even(len(runs), runs_at_once(self.experiment, self.memory, len(runs)))
        first = self._side_by_side.first(runs[:size], self.edits) if runs else []
        if first is None:
            for run in runs:
                yield [one_run(self.experiment, run, self.edits(run))]
            return
        yield first
        rest = runs[len(first) :]
        if self.seconds is None:
            for start in range(0, len(rest), size):
                yield self._side_by_side.answers(rest[start : start + size], self.edits)
        else:
            yield from self._timed(rest, self.seconds)

    def _timed(self, runs: Sequence[int], seconds: float) -> Iterator[list[Answer]]:
        """The same, as many at a time as that time allows."""
        most, size = runs_at_once(self.experiment, self.memory, len(runs)), FEWEST
        while runs:
            began = time.perf_counter()
            found = list(self._side_by_side.answers(runs[:size], self.edits))
            took = time.perf_counter() - began
            yield found
            runs = runs[size:]
            # doubled at most: a first short time says little
            wanted = int(len(found) * seconds / max(took, 1e-6))
            size = max(1, min(most, max(FEWEST, min(2 * size, wanted))))


def runs_at_once(experiment: Experiment, memory: int, runs: int) -> int:
    """How many of some runs fit: into the cache as far as their gates go, into `memory` altogether.

    Args:
        experiment: the model, its input and its readout.
        memory: bytes that they may hold.
        runs: how many there are.
    """
    layer = experiment.recording
    batch, steps, units = layer.shape
    value = layer.h.element_size()
    fast = max(1, min(runs, max(STEP_BYTES // (3 * units * value), 128) // batch))
    # the states, a copy of them in the model's own layout and a mask; what goes into the model, and
    # what comes out of it
    states = batch * steps * units
    each = (3 * value + 1) * states + count_bytes(experiment.given) + count_bytes(experiment.output)
    # a recorded run holds more than another one: only where that does not fit is one measured
    inside = experiment.peak
    if (fast + 1) * (each + inside) > memory:
        with as_it_was(experiment.model), PeakMemory() as measured:
            experiment.run()
        inside = measured.peak
    # one copy more than runs: the one in which nothing is changed
    return max(1, min(fast, memory // (each + inside) - 1))


def _even(runs: int, at_once: int) -> int:
    """How many runs at a time, so that each time has about as many."""
    times = -(-runs // at_once)
    return max(1, -(-runs // max(1, times)))


def one_run(experiment: Experiment, run: int, edits: Sequence[EditLike]) -> Answer:
    """The answer of a run by itself."""
    return run, edited_alone(experiment, edits), direct_alone(experiment, edits)


def unknown(experiment: Experiment) -> Tensor:
    """Direct answers that are not known, NaN."""
    return torch.full_like(experiment.baseline, float("nan"))


def edited_alone(experiment: Experiment, edits: Sequence[EditLike]) -> Tensor:
    """The readout of one edited run."""
    with as_it_was(experiment.model):
        output = ran(experiment.run, Watch(experiment.watchable, edits))
        return experiment.read(output, edits)


def direct_alone(experiment: Experiment, edits: Sequence[EditLike]) -> Tensor:
    """The readout of one run with the edits put on the layer's states alone; NaN if not known."""
    if experiment.is_observed:
        if reads_signals(experiment):
            return unknown(experiment)
        try:
            return experiment.read(direct_output(experiment, edits, experiment.run), edits)
        except NotDirectError:
            return unknown(experiment)
    watch = DirectRun(experiment.watchable, experiment.layer, experiment.unedited, edits)
    with as_it_was(experiment.model):
        output = ran(experiment.run, watch)
        return experiment.read(output, edits)


class SideBySide:
    """Many runs at once, as repeated rows.

    Args:
        experiment: the model, its input and its readout.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.dims: BatchDims | None = None

    def first(self, runs: Sequence[int], edits: Edits) -> list[Answer] | None:
        """The answers of the first runs, compared with ordinary runs; None if that fails.

        Compared are the copy that nothing is changed in, and the one with the largest effect: a
        model that couples its rows, or draws random numbers, or means something else by a
        dimension, shows in these.
        """
        experiment = self.experiment
        if (
            experiment.data_dependent
            or self._others()
            or (len(experiment.recording.calls) > 1 and self._padded())
        ):
            return None
        batch = experiment.recording.shape[0]
        for dims in guess_batch_dims(experiment.given, batch):
            self.dims = dims
            try:
                answers = list(self.answers([*runs, -1], lambda r: () if r < 0 else edits(r)))
            except Exception:
                continue
            if self._holds(answers, edits):
                return [answer for answer in answers if answer[0] >= 0]
        self.dims = None
        return None

    def answers(self, runs: Sequence[int], edits: Edits) -> Iterator[Answer]:
        """The answers of some runs."""
        experiment = self.experiment
        chosen = {run: edits(run) for run in runs}
        changes = {run: [e.change(experiment.place) for e in chosen[run]] for run in runs}
        read = {run: [self._as_read(c) for c in changes[run]] for run in runs}
        if experiment.is_observed:
            every = [changes[run] for run in runs]
            whole = [
                experiment.read(output, chosen[run]).clone()
                for run, output in zip(runs, self._observed(every), strict=True)
            ]
            direct = self._direct(every)
            for run, answer, output in zip(runs, whole, direct, strict=True):
                known = unknown(experiment)
                if output is not None:
                    known = experiment.read(output, chosen[run]).clone()
                yield run, answer, known
            return
        steps = experiment.place.steps
        begins = {r: min((first_step(c, steps) for c in read[r]), default=steps) for r in runs}
        order = sorted(runs, key=begins.__getitem__)
        stacked = Stacked([read[run] for run in order], *self._sizes)
        by_position = stacked
        if experiment.reverse:
            by_position = Stacked([changes[run] for run in order], *self._sizes)
        # the outputs of all copies are let go before the others come, which take their memory; and
        # a view would hold them
        edited = [
            experiment.read(output, chosen[run]).clone()
            for run, output in zip(order, self._outputs(stacked, False), strict=True)
        ]
        outputs = zip(order, edited, self._outputs(by_position, True), strict=True)
        for run, one, output in outputs:
            yield run, one, experiment.read(output, chosen[run]).clone()

    def _observed(self, changes: Sequence[Sequence[Change]]) -> Iterator[Any]:
        """The outputs of an observed cell's copies, each with what it changes."""
        experiment = self.experiment
        given = repeat_rows(experiment.given, self.dims or (), len(changes))
        watch = Watch(experiment.watchable, Copies.of(changes, experiment.place))
        with as_it_was(experiment.model):
            output = ran(lambda: experiment.run(given), watch)
        return split_copies(output, experiment.output, experiment.place.batch, len(changes))

    def _direct(self, changes: Sequence[Sequence[Change]]) -> Iterable[Any]:
        """The same with the changes put on its states alone; None where that is not known."""
        experiment, many = self.experiment, len(changes)
        nothing = [None] * many
        if reads_signals(experiment):
            return nothing
        given = repeat_rows(experiment.given, self.dims or (), many)
        edits = Copies.of(changes, experiment.place)
        try:
            output = direct_output(experiment, edits, lambda: experiment.run(given), many)
        except NotDirectError:
            return nothing
        return split_copies(output, experiment.output, experiment.place.batch, many)

    def _outputs(self, stacked: Stacked, is_direct: bool) -> Iterator[Any]:
        experiment = self.experiment
        given = repeat_rows(experiment.given, self.dims or (), stacked.copies)
        watch = CopiesRun(
            experiment.watchable, experiment.layer, experiment.unedited, stacked, is_direct
        )
        with as_it_was(experiment.model):
            output = ran(lambda: experiment.run(given), watch)
        return split_copies(output, experiment.output, stacked.batch, stacked.copies)

    @property
    def _sizes(self) -> tuple[int, int, int, Tensor]:
        place = self.experiment.place
        return place.batch, place.units, place.steps, place.like

    def _as_read(self, change: Change) -> Change:
        """A change at the steps at which a reverse layer reads its positions."""
        if not self.experiment.reverse:
            return change
        place, calls = self.experiment.place, self.experiment.recording.calls
        ends = [*calls[1:], place.steps]

        def reorder(tensor: Tensor) -> Tensor:
            if tensor.shape[1] == 1:
                return tensor
            parts = [
                reverse(tensor[:, start:end], place.lengths)
                for start, end in zip(calls, ends, strict=True)
            ]
            return torch.cat(parts, 1)

        return Change(
            change.signal,
            reorder(change.where),
            reorder(change.factor),
            reorder(change.offset),
            change.before_activation,
        )

    def _holds(self, answers: Sequence[Answer], edits: Edits) -> bool:
        experiment, baseline = self.experiment, self.experiment.baseline
        runs = [run for run, *_ in answers]
        # of all runs at once: one by one these small numbers would cost as much as the runs
        edited = torch.stack([answer for _, answer, _ in answers])
        direct = torch.stack([answer for *_, answer in answers])
        if experiment.is_observed and bool(direct.isnan().all()):
            direct = edited
        # a readout may be 0 for the unedited run by its meaning, a difference to it: what is
        # rounding is said by all answers together
        size = _size(torch.stack([edited, direct]))
        unedited = runs.index(-1)
        if not all(_close(way[unedited], baseline, size) for way in (edited, direct)):
            return False
        moved, moved_directly = (
            (way - baseline).abs().nan_to_num().reshape(len(runs), -1).sum(1)
            for way in (edited, direct)
        )
        most, nearest = int(moved.argmax()), int(moved_directly.argmax())
        # what lies behind the layer shows in either kind of run, and a direct one costs less; a
        # layer that is called again reads what lies behind it
        once = len(experiment.recording.calls) == 1 and not experiment.is_observed
        if once and moved_directly[nearest] > moved[most] / 8:
            return _close(
                direct[nearest], direct_alone(experiment, self._alone(runs[nearest], edits)), size
            )
        return _close(edited[most], edited_alone(experiment, self._alone(runs[most], edits)), size)

    def _alone(self, run: int, edits: Edits) -> Sequence[EditLike]:
        return () if run < 0 else edits(run)

    def _others(self) -> bool:
        """Whether somebody else edits this model just now."""
        return bool(edits_in_force(Watch(self.experiment.watchable)))

    def _padded(self) -> bool:
        return not bool(self.experiment.recording.mask.all())


def _size(answer: Tensor) -> float:
    return float(answer.abs().nan_to_num(posinf=0).max()) if answer.numel() else 0.0


def _close(one: Tensor, other: Tensor, size: float) -> bool:
    """Whether two answers of about a size differ by no more than sums of another order round."""
    limit = min(1000 * torch.finfo(one.dtype).eps, 0.05)
    return torch.allclose(one, other, rtol=limit, atol=limit * size, equal_nan=True)
