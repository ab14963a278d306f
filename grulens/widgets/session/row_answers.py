"""What a model answers in each row, and whether that is true: one answer a row, at its last step.

Where there is an answer at each step, that of a row is at the last step that is no padding; a
truth is what that one should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from grulens.errors import GrulensError, shown
from grulens.models.recorded import LayerRecording
from grulens.models.recording import Recording
from grulens.widgets.session.answers import Answers
from grulens.words import so_many

Truth = list[Any] | None


def truth_of(given: Any) -> Truth:
    """What each row's answer should be, one item a row; None where nothing was given.

    Args:
        given: (batch,): numbers of classes, names of them, or numbers to come near to; None for a
            row of which it is not known.

    Raises:
        GrulensError: it is no list of these.

    >>> truth_of(torch.tensor([2, 0])), truth_of(["good", None])
    ([2, 0], ['good', None])
    """
    if given is None:
        return None
    expected = "truth must have one item a row: a class by number or name, or a number, or None"
    if isinstance(given, Tensor | np.ndarray) and given.ndim == 1:
        given = given.tolist()
    if isinstance(given, str | bytes | Mapping | Set) or not isinstance(given, Sequence):
        raise GrulensError(f"{expected}; got {shown(given)}")
    for row, item in enumerate(given):
        if not (item is None or isinstance(item, str | bool | int | float)):
            raise GrulensError(f"{expected}; that of row {row} is {shown(item)}")
    return list(given)


@dataclass(frozen=True, eq=False)
class RowAnswers:
    """The answers of all rows of a run.

    Attributes:
        names: what each row answers: the name of its likeliest or largest class; of one number,
            the number.
        values: how likely that is, or the number itself (row,).
        is_share: whether that is a probability.
        truths: what each answer should be, by name; "" where it is not known. None without a truth.
        right: whether it is, where that is known (row,); None without a truth, or of one number.
        is_number: whether an answer is one number, and no class.
        off: how far the number is from the truth (row,), NaN where that is not known; None where
            answers are classes.
    """

    names: list[str]
    values: Float[np.ndarray, " row"]
    is_share: bool
    truths: list[str] | None = None
    right: list[bool | None] | None = None
    is_number: bool = False
    off: Float[np.ndarray, " row"] | None = None


def row_answers(
    answers: Answers, run: Recording, layer: LayerRecording, truth: Truth = None
) -> RowAnswers:
    """Read the answer of every row of a run.

    Args:
        answers: reads outputs.
        run: the run.
        layer: the layer shown, whose rows and steps they are.
        truth: what each should be.

    Raises:
        GrulensError: `truth` has more or fewer rows, or names a class that is none.
        NoAnswerError: there is no answer for each row of the layer.

    >>> from torch import nn
    >>> from grulens import record
    >>> class Sum(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.rnn = nn.GRU(1, 2, batch_first=True)
    ...     def forward(self, x):
    ...         self.rnn(x)
    ...         return torch.cat([x.sum(1), -x.sum(1)], 1)
    >>> run = record(Sum(), torch.tensor([[[3.0]], [[-1.0]]]))
    >>> found = row_answers(Answers(None, None, ["up", "down"]), run, run["rnn.l0"], ["up", "up"])
    >>> found.names, found.right
    (['up', 'down'], [True, False])
    """
    batch, steps, _ = layer.shape
    check_truth(truth, batch)
    with torch.no_grad():
        every = answers.rows(run.output, batch, steps).detach().float().cpu()
    first = answers.of(run, 0, batch, steps)
    at = _last(layer) if every.shape[1] == steps else torch.full((batch,), every.shape[1] - 1)
    values = every[torch.arange(batch), at]
    classes = values.shape[1]
    if classes == 1:
        numbers = values[:, 0].double().numpy()
        named = None if truth is None else ["" if one is None else str(one) for one in truth]
        return RowAnswers(
            [f"{n:z.4g}" for n in numbers], numbers, False, named, is_number=True,
            off=None if truth is None else _off(numbers, truth),
        )  # fmt: skip
    shares = values.softmax(-1) if first.scale == "logits" else values
    best = shares.argmax(-1)
    names = answers.names(classes, range(classes))
    found = RowAnswers(
        [names[i] for i in best.tolist()],
        shares.gather(1, best[:, None])[:, 0].double().numpy(),
        first.scale != "value",
    )
    if truth is None:
        return found
    meant = [None if one is None else _class(one, names, row) for row, one in enumerate(truth)]
    right = [None if i is None else i == b for i, b in zip(meant, best.tolist(), strict=True)]
    truths = ["" if i is None else names[i] for i in meant]
    return RowAnswers(found.names, found.values, found.is_share, truths, right)


def check_truth(truth: Truth, batch: int) -> None:
    """Raise GrulensError unless there is one item for each row."""
    if truth is not None and len(truth) != batch:
        items, rows = so_many(len(truth), "item"), so_many(batch, "row")
        raise GrulensError(f"truth has {items}, and this run has {rows}")


def _last(layer: LayerRecording) -> Tensor:
    """The last step of each row that is no padding (row,)."""
    mask = layer.mask.cpu()
    return mask.shape[1] - 1 - mask.int().flip(1).argmax(1)


def _class(one: Any, names: Sequence[str], row: int) -> int:
    if isinstance(one, str):
        if one not in names:
            listed = ", ".join(shown(name, 40) for name in names[:8])
            more = ", …" if len(names) > 8 else ""
            raise GrulensError(f"the truth of row {row}, {shown(one)}, is no class: {listed}{more}")
        return names.index(one)
    if one != int(one) or not 0 <= one < len(names):
        raise GrulensError(
            f"the truth of row {row}, {shown(one)}, is no class: there are {len(names)}, "
            f"0 to {len(names) - 1}; None where it is not known"
        )
    return int(one)


def _off(numbers: Float[np.ndarray, " row"], truth: Sequence[Any]) -> Float[np.ndarray, " row"]:
    for row, one in enumerate(truth):
        if isinstance(one, str):
            raise GrulensError(
                f"the truth of row {row}, {shown(one)}, is no number, and the answer is one"
            )
    known = np.array([np.nan if one is None else float(one) for one in truth])
    found: Float[np.ndarray, " row"] = np.abs(numbers - known)
    return found
