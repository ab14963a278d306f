"""The answers of a model in its runs, each read once from its output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from grulens.errors import NoAnswerError, ReadoutError, shown
from grulens.models.recording import Recording
from grulens.probing.readout.readout import (
    SCALES,
    Answer,
    Readout,
    Scale,
    check_readout,
    first_tensor,
    read,
    rows,
)
from grulens.widgets.session.class_list import numbered
from grulens.words import so_many

Array = Float[np.ndarray, " klass"]


class Answers:
    """Reads runs through one readout.

    Args:
        readout: from the model's output to (batch, time, class), (batch, class), (batch, time)
            or (batch,).
        scale: what the numbers are; None takes named classes for logits.
        labels: names of the classes.

    Raises:
        ReadoutError: `readout` is no function, or `scale` is not one of these.
    """

    def __init__(
        self, readout: Readout | None, scale: Scale | None, labels: Sequence[str] | None
    ) -> None:
        if readout is not None:
            check_readout(readout)
        if scale is not None and (not isinstance(scale, str) or scale not in SCALES):
            raise ReadoutError(f"scale must be one of {', '.join(SCALES)}, got {shown(scale)}")
        self.given = readout is not None
        self.readout = first_tensor if readout is None else readout
        self.scale = scale
        self.labels = labels
        self._held: list[tuple[Recording, tuple[int, ...], Answer | NoAnswerError]] = []

    def check_labels(self, output: Any, batch: int, steps: int) -> None:
        """Raise ReadoutError unless an output has as many classes as names were given.

        An output that the readout does not fit raises nothing here; reading it says so.
        """
        if self.labels is None:
            return
        try:
            classes = self.read(output, 0, batch, steps).values.shape[1]
        except ReadoutError:
            return
        if len(self.labels) != classes:
            raise ReadoutError(
                f"{so_many(len(self.labels), 'label')} for a readout of "
                f"{so_many(classes, 'class')}; labels has one name a class "
                f"(readout=... and scale=... say what the classes are, tokens=... names steps), "
                f"got {shown(self.labels, 100)}"
            )

    def of(self, run: Recording, row: int, batch: int, steps: int) -> Answer:
        """The answer of one row of a run.

        Raises:
            NoAnswerError: there is none for each of so many rows.
        """
        place = (row, batch, steps)
        held = next((a for other, of, a in self._held if other is run and of == place), None)
        if held is None:
            try:
                held = self.read(run.output, row, batch, steps)
            except NoAnswerError as error:
                held = error
            # the baseline and the last few edited runs: what a slider goes back and forth between
            self._held = [*self._held[-3:], (run, place, held)]
        if isinstance(held, NoAnswerError):
            raise NoAnswerError(str(held), held.lines)
        return held

    def read(self, output: Any, row: int, batch: int, steps: int) -> Answer:
        """The answer of one row of an output."""
        with torch.no_grad():
            answer = read(output, self.readout, self.scale, row, batch, steps, self._named)
        if self.scale is None and answer.scale == "value" and self._names(answer.values.shape[1]):
            answer = replace(answer, scale="logits")
        return answer

    def rows(self, output: Any, batch: int, steps: int) -> Tensor:
        """The answers of all rows of an output (batch, time, class), in its graph."""
        return rows(output, self.readout, self.scale, batch, steps, self._named)

    def names(self, classes: int, places: Iterable[int]) -> list[str]:
        """What to call some of so many classes."""
        labels = self._names(classes)
        if labels:
            return [str(labels[i]) for i in places]
        return numbered(classes, places)

    def top(
        self, before: Answer, now: Answer, step: int, most: int = 8
    ) -> tuple[list[str], Array, Array]:
        """The classes that count most at a step, in either answer.

        Returns:
            Their names, and what is shown of them before and after, each (class,) float32; the
            likeliest before comes first.
        """
        was, is_ = before.shown[step], now.shown[step]
        best = torch.maximum(was.abs(), is_.abs()).topk(min(most, len(was))).indices
        best = best[was[best].argsort(descending=True)]
        names = self.names(len(was), best.tolist())
        return names, was[best].numpy(), is_[best].numpy()

    @property
    def _named(self) -> int | None:
        return None if self.labels is None else len(self.labels)

    def _names(self, classes: int) -> Sequence[str] | None:
        return self.labels if self.labels is not None and len(self.labels) == classes else None
