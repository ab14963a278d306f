"""Two runs of one model, without edits and with them, and what is read from them side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import traitlets as tl
from jaxtyping import Bool
from torch import Tensor

from grulens.errors import NoAnswerError, PositionError, shown
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.edits import positions
from grulens.probing.readout.readout import Answer, divergence
from grulens.probing.step_order import StepOrder
from grulens.widgets.session.answers import Answers, Array
from grulens.widgets.session.selection import Selection
from grulens.widgets.session.tokens import Rows


class Comparison(Selection):
    """The selected layer and row of two runs, which `Session` makes.

    Attributes:
        baseline: the run without edits.
        edited: the run with them; `baseline` itself where there is none.
        answers: reads the answers from the output of a run.
    """

    edited = tl.Instance(Recording)
    answers: Answers
    _names_by: Mapping[str, Rows | None]
    _order: StepOrder

    @property
    def before(self) -> LayerRecording:
        """The layer shown, without edits."""
        return self.baseline[self.layer]

    @property
    def now(self) -> LayerRecording:
        """The layer shown, with the edits that are on."""
        return self.edited[self.layer]

    @property
    def token_rows(self) -> Rows | None:
        """What to call each step of the layer shown, one list a row; None is its number."""
        return self._names_by.get(self.layer)

    @property
    def tokens(self) -> list[str] | None:
        """What to call each step of the row shown; None is its number."""
        return self.tokens_of(self.layer, self.row)

    def tokens_of(self, layer: str, row: int) -> list[str] | None:
        """What to call each step of a row of a layer; None is its number."""
        rows = self._names_by.get(layer)
        return rows[row] if rows else None

    @property
    def unnamed(self) -> str:
        """Why the steps of the layer shown have numbers, where the input's have names; or ""."""
        return "" if self.token_rows else self._order.why_of(self.before)

    @property
    def steps(self) -> int:
        """Valid steps of the row shown."""
        return int(self.before.mask[self.row].sum())

    @property
    def unread(self) -> NoAnswerError | None:
        """Why the output cannot be shown beside this layer, and the readout that would show it."""
        try:
            self._answer(self.baseline)
        except NoAnswerError as error:
            return error
        return None

    @property
    def answer_before(self) -> Answer:
        """The readout without edits, of the row shown."""
        return self._answer(self.baseline)

    @property
    def answer_now(self) -> Answer:
        """The readout with the edits, of the row shown."""
        return self._answer(self.edited)

    @property
    def divergence(self) -> Tensor:
        """How far the output has moved at each step (time,): bits, or a plain difference."""
        return divergence(self.answer_before, self.answer_now)

    @property
    def moved(self) -> Tensor:
        """How far the output has moved at each valid step, without its sign (time,)."""
        return self.valid(self.divergence)

    @property
    def answered(self) -> Bool[Tensor, " time"]:
        """Which steps of the output are the row's own.

        Padding is what is so in every layer of as many steps: a decoder goes on where the encoder
        before it has padding.
        """
        batch, count = self.before.shape[0], len(self.answer_before.values)
        masks = [
            layer.mask[self.row].cpu()
            for layer in self.baseline.values()
            if layer.mask.shape == (batch, count)
        ]
        return torch.stack(masks).any(0) if masks else torch.ones(count, dtype=torch.bool)

    def valid(self, change: Tensor) -> Tensor:
        """A change of the output at the row's own steps, without its sign."""
        return change.abs()[self.answered]

    def top(self, step: int, most: int = 8) -> tuple[list[str], Array, Array]:
        """The classes that count most at a step of the output, in either run.

        Returns:
            Their names, and what is shown of them before and after, each (class,) float32; the
            likeliest before comes first.
        """
        place, size = positions.normal(step, "step"), len(self.answer_now.values)
        if not isinstance(place, int):
            raise PositionError(f"step must be an int, got {shown(step)}")
        positions.check(place, size, "step", "this output")
        return self.answers.top(self.answer_before, self.answer_now, step, most)

    def _answer(self, run: Recording) -> Answer:
        batch, steps, _ = self.before.shape
        return self.answers.of(run, self.row, batch, steps)
