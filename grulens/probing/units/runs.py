"""The runs of a sweep, done one after another or many side by side, with the same results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from grulens.cells.batched.changes import Stacked, first_step
from grulens.cells.batched.room import Room
from grulens.cells.changes import Change, reverse
from grulens.models.call.place import EditLike
from grulens.models.instrument.batched import CopiesRun, DirectRun
from grulens.models.instrument.editing import edits_in_force, ran
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.instrument.watch import Watch
from grulens.probing.units.question import Question
from grulens.probing.units.repeat import Guess, guesses, repeated, taken_apart

Answer = tuple[int, Tensor, Tensor]
"""Which run, its readout when it is edited, and when the edit is put on the layer's output."""

Edits = Callable[[int], Sequence[EditLike]]


def one_by_one(question: Question, runs: Sequence[int], edits: Edits) -> Iterator[Answer]:
    """Each run by itself."""
    for run in runs:
        chosen = edits(run)
        yield run, edited_alone(question, chosen), direct_alone(question, chosen)


def edited_alone(question: Question, edits: Sequence[EditLike]) -> Tensor:
    """The readout of one edited run."""
    with as_it_was(question.model):
        output = ran(question.run, Watch(question.model, edits))
        return question.answer(output, edits)


def direct_alone(question: Question, edits: Sequence[EditLike]) -> Tensor:
    """The readout of one run with the edits put on the layer's states alone."""
    watch = DirectRun(question.model, question.layer, question.known, edits)
    with as_it_was(question.model):
        output = ran(question.run, watch)
        return question.answer(output, edits)


class SideBySide:
    """Many runs at once, as repeated rows.

    Args:
        question: what is asked.
        plain: the model's output unedited.
    """

    def __init__(self, question: Question, plain: Any) -> None:
        self.question, self.plain = question, plain
        self.guess: Guess | None = None
        self.room = Room()

    def first(self, runs: Sequence[int], edits: Edits) -> list[Answer] | None:
        """The answers of the first runs, compared with ordinary runs; None if that fails.

        Compared are the copy that nothing is changed in, and the one with the largest effect: a
        model that couples its rows, or draws random numbers, or means something else by a
        dimension, shows in these.
        """
        question = self.question
        if (
            question.looks
            or self._others()
            or (len(question.recording.calls) > 1 and self._padded())
        ):
            return None
        batch = question.recording.shape[0]
        for guess in guesses(question.given, batch):
            self.guess = guess
            try:
                answers = list(self.answers([*runs, -1], lambda r: () if r < 0 else edits(r)))
            except Exception:
                continue
            if self._holds(answers, edits):
                return [answer for answer in answers if answer[0] >= 0]
        self.guess = None
        return None

    def answers(self, runs: Sequence[int], edits: Edits) -> Iterator[Answer]:
        """The answers of some runs."""
        question = self.question
        chosen = {run: edits(run) for run in runs}
        changes = {run: [e.change(question.place) for e in chosen[run]] for run in runs}
        read = {run: [self._as_read(c) for c in changes[run]] for run in runs}
        steps = question.place.steps
        begins = {r: min((first_step(c, steps) for c in read[r]), default=steps) for r in runs}
        order = sorted(runs, key=begins.__getitem__)
        stacked = Stacked([read[run] for run in order], *self._sizes)
        by_position = stacked
        if question.reverse:
            by_position = Stacked([changes[run] for run in order], *self._sizes)
        outputs = [self._outputs(stacked, False), self._outputs(by_position, True)]
        for run, *pair in zip(order, *outputs, strict=True):
            edited, direct = (question.answer(output, chosen[run]) for output in pair)
            # a view would hold the outputs of all copies
            yield run, edited.clone(), direct.clone()

    def _outputs(self, stacked: Stacked, is_direct: bool) -> Iterator[Any]:
        question = self.question
        given = repeated(question.given, self.guess or (), stacked.copies)
        watch = CopiesRun(
            question.model, question.layer, question.known, stacked, is_direct, self.room
        )
        with as_it_was(question.model):
            output = ran(lambda: question.run(given), watch)
        return taken_apart(output, self.plain, stacked.batch, stacked.copies)

    @property
    def _sizes(self) -> tuple[int, int, int, Tensor]:
        place = self.question.place
        return place.batch, place.units, place.steps, place.like

    def _as_read(self, change: Change) -> Change:
        """A change at the steps at which a reverse layer reads its positions."""
        if not self.question.reverse:
            return change
        place, calls = self.question.place, self.question.recording.calls
        ends = [*calls[1:], place.steps]

        def turned(tensor: Tensor) -> Tensor:
            if tensor.shape[1] == 1:
                return tensor
            parts = [
                reverse(tensor[:, start:end], place.lengths)
                for start, end in zip(calls, ends, strict=True)
            ]
            return torch.cat(parts, 1)

        return Change(
            change.signal,
            turned(change.where),
            turned(change.factor),
            turned(change.offset),
            change.before_activation,
        )

    def _holds(self, answers: Sequence[Answer], edits: Edits) -> bool:
        question, baseline = self.question, self.question.baseline
        runs = [run for run, *_ in answers]
        # of all runs at once: one by one these small numbers would cost as much as the runs
        edited = torch.stack([answer for _, answer, _ in answers])
        direct = torch.stack([answer for *_, answer in answers])
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
        once = len(question.recording.calls) == 1
        if once and moved_directly[nearest] > moved[most] / 8:
            return _close(
                direct[nearest], direct_alone(question, self._alone(runs[nearest], edits)), size
            )
        return _close(edited[most], edited_alone(question, self._alone(runs[most], edits)), size)

    def _alone(self, run: int, edits: Edits) -> Sequence[EditLike]:
        return () if run < 0 else edits(run)

    def _others(self) -> bool:
        """Whether somebody else edits this model just now."""
        return bool(edits_in_force(Watch(self.question.model)))

    def _padded(self) -> bool:
        return not bool(self.question.recording.mask.all())


def _size(answer: Tensor) -> float:
    return float(answer.abs().nan_to_num(posinf=0).max()) if answer.numel() else 0.0


def _close(one: Tensor, other: Tensor, size: float) -> bool:
    """Whether two answers of about a size differ by no more than sums of another order round."""
    limit = min(1000 * torch.finfo(one.dtype).eps, 0.05)
    return torch.allclose(one, other, rtol=limit, atol=limit * size, equal_nan=True)
