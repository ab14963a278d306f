"""How a model says that it accepts a word: read from its output for a batch of words.

By default the answer stands at the last step of the output's first floating tensor: the sign of a
single logit, or the larger of two classes. Which axis is time is found by words of two lengths, and
what fits no such form is refused: a probability would be above 0 whatever the word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grulens.errors import ReadoutError, shown
from grulens.probing.readout.readout import first_tensor
from grulens.words import so_many

LINE = "accepts=lambda output: output[:, -1, 1] > 0.5"


@dataclass(frozen=True)
class Layout:
    """Which axis of the output's first floating tensor is what; None where it has no such axis."""

    rows: int | None
    time: int | None
    classes: int | None

    def scores(self, output: Any) -> Tensor:
        """One number a word (batch,), above 0 where it is accepted."""
        values = first_tensor(output)
        if self.time is not None:
            values = values.select(self.time, -1)
        values = values.movedim(0, -1) if self._rows_last() else values
        if self.classes is None:
            return values.reshape(-1)
        values = values.reshape(-1, values.shape[-1])
        return values[:, 0] if values.shape[1] == 1 else values[:, 1] - values[:, 0]

    def _rows_last(self) -> bool:
        """Whether the classes come before the rows."""
        both = self.rows is not None and self.classes is not None
        return both and (self.classes or 0) < (self.rows or 0)


def layout_of(outputs: list[Any], rows: int, lengths: list[int]) -> Layout:
    """The layout of a model's output, from those for words of two lengths.

    Args:
        outputs: two outputs.
        rows: how many words each is for.
        lengths: how long the words were.

    Raises:
        ReadoutError: it has no single logit and no two classes for each word.

    >>> layout_of([torch.zeros(9, n, 2) for n in (4, 6)], 9, [4, 6])
    Layout(rows=0, time=1, classes=2)
    >>> layout_of([torch.zeros(9) for _ in range(2)], 9, [4, 6])
    Layout(rows=0, time=None, classes=None)
    """
    shapes = [tuple(first_tensor(output).shape) for output in outputs]
    one, two = shapes
    if len(one) == len(two):
        axes = range(len(one))
        time = [i for i in axes if two[i] - one[i] == lengths[1] - lengths[0]]
        left = [i for i in axes if i not in time and one[i] == two[i]]
        batch = [i for i in left if one[i] == rows][:1]
        classes = [i for i in left if i not in batch]
        whole = len(time) + len(batch) + len(classes) == len(one)
        if (
            whole and len(time) < 2 and len(classes) < 2 and (batch or rows == 1)
            and all(one[i] in (1, 2) for i in classes)
        ):  # fmt: skip
            return Layout(*(axis[0] if axis else None for axis in (batch, time, classes)))
    raise ReadoutError(
        "whether a word is accepted is read from one logit or two classes for each word, at the "
        f"last step; for {rows} words of {lengths[0]} and of {lengths[1]} symbols the output's "
        f"first floating tensor is {one} and {two}: say what accepts, such as {LINE}"
    )


def check_sign(scores: Tensor, layout: Layout) -> None:
    """Raise ReadoutError where single numbers look like probabilities, of which none is below 0."""
    pair = layout.classes is not None and bool((scores < 0).any())
    if not pair and bool((scores >= 0).all() and (scores <= 1).all()):
        raise ReadoutError(
            f"by default a logit above 0 accepts; for {len(scores)} random words every number lies "
            f"between 0 and 1 ({float(scores.min()):.3g} to {float(scores.max()):.3g}), as "
            "probabilities do: say what accepts, such as "
            "accepts=lambda output: output[:, -1, 0] > 0.5"
        )


def given_scores(accepts: Callable[[Any], Any], output: Any, rows: int) -> Tensor:
    """One number a word (batch,), above 0 where it is accepted, by the user's own function.

    Raises:
        ReadoutError: it gives something else.
    """
    found = accepts(output)
    if isinstance(found, bool | float | np.ndarray | np.generic | list):
        try:
            found = torch.as_tensor(found)
        except (TypeError, ValueError, RuntimeError):
            found = shown(found)
    fits = (
        isinstance(found, Tensor) and found.layout is torch.strided and not found.is_meta
        and (found.dtype is torch.bool or found.is_floating_point()) and found.numel() == rows
        and tuple(found.shape) in ((rows,), (rows, 1), ())
    )  # fmt: skip
    if not fits:
        came = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else shown(found)
        raise ReadoutError(
            f"accepts must give, for {so_many(rows, 'word')}, {so_many(rows, 'truth value')}, or "
            f"numbers of which those above 0 accept, ({rows},); it gave {came}"
        )
    scores: Tensor = found.detach().reshape(-1)
    return scores.float() - 0.5 if scores.dtype is torch.bool else scores
