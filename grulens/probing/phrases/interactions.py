"""What two phrases contribute together beyond what each does alone.

"not" and "good" may each say little; it is their being together that turns the answer. The score
of the union minus the scores of both, by contextual decomposition, is that (Murdoch, Liu & Yu 2018,
arXiv:1801.05453, section 4.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from grulens.arguments import (
    Frame,
    HeadLike,
    Inputs,
    MethodName,
    Pairs,
    Phrases,
    Precision,
    Step,
    TargetClass,
)
from grulens.errors import EditError, shown
from grulens.job import Job, stopped, tell
from grulens.models.call.invocation import arguments
from grulens.probing.credit.target import stack_and_head
from grulens.probing.edits import positions
from grulens.probing.edits.positions import Index
from grulens.probing.phrases.split import PhraseScore, indices, masks
from grulens.results import Result, frame, row_of
from grulens.tables import html_table
from grulens.words import so_many

PAIRS = ("adjacent", "all")
AT_ONCE = 64


@dataclass(frozen=True, eq=False, repr=False)
class Interactions(Result):
    """The scores of phrases, and what pairs of them contribute together.

    Attributes:
        layer: the layer that is read.
        phrases: the phrases, as they were given.
        scores: what each contributes by itself (phrase, batch).
        pairs: pairs of places in `phrases`.
        values: score(A and B) - score(A) - score(B) of each pair (pair, batch); NaN where an
            interrupt came first.
        done: bool (pair,), False where an interrupt came first.
    """

    layer: str
    phrases: tuple[Index, ...]
    scores: Float[Tensor, "phrase batch"]
    pairs: tuple[tuple[int, int], ...]
    values: Float[Tensor, "pair batch"]
    done: Bool[Tensor, " pair"]

    def matrix(self, row: int = 0) -> Float[Tensor, "phrase phrase"]:
        """The interactions of a row, symmetric, its scores on the diagonal; NaN for other pairs.

        Args:
            row: which row of the batch.
        """
        found = torch.diag(self.scores[:, row])
        off = ~torch.eye(len(self.phrases), dtype=torch.bool, device=found.device)
        found[off] = float("nan")
        for (a, b), value in zip(self.pairs, self.values[:, row], strict=True):
            found[a, b] = found[b, a] = value
        return found

    def to_frame(self, row: int = 0) -> Frame:
        """A row's pairs as a pandas DataFrame: both phrases in words, and what they make together.

        Args:
            row: which row of the batch.

        Raises:
            PositionError: there is no such row.
            MissingPackageError: pandas is not installed.
        """
        row = row_of(row, self.scores.shape[1])
        words = [positions.words(phrase, "step") for phrase in self.phrases]
        return frame(
            {
                "phrase": [words[first] for first, _ in self.pairs],
                "and": [words[second] for _, second in self.pairs],
                "together": self.values[:, row].double(),
            }
        )

    @property
    def note(self) -> str:
        """What a reader of the numbers has to know, in words; "" if nothing."""
        return stopped(int(self.done.sum()), len(self.done), "pair")

    def __repr__(self) -> str:
        return (
            f"Interactions({self.layer!r}, {so_many(len(self.phrases), 'phrase')}, "
            f"{so_many(len(self.pairs), 'pair')}, "
            f"batch {self.scores.shape[1]}{', ' * bool(self.note)}{self.note})"
        )

    def _repr_html_(self) -> str:
        # those of no row have no order
        sizes = self.values[:, :1].nan_to_num().abs().sum(1)
        order = sizes.argsort(descending=True)[:12].tolist() if self.values.numel() else []
        words = [positions.words(phrase, "step") for phrase in self.phrases]
        rows = [
            (words[a], words[b], f"{float(self.values[place, 0]):z.4g}")
            for place in order
            for a, b in [self.pairs[place]]
        ]
        return html_table(("phrase", "and", "together, in row 0"), rows, repr(self))


def interactions(
    model: nn.Module,
    *args: Any,
    target: TargetClass,
    phrases: Phrases = None,
    pairs: Pairs = "adjacent",
    step: Step = -1,
    layer: str | None = None,
    head: HeadLike = None,
    dtype: Precision = None,
    progress: bool = True,
    call: MethodName = None,
    inputs: Inputs = None,
    **kwargs: Any,
) -> Interactions:
    """What pairs of phrases contribute to a class together, beyond what each does alone.

    Args:
        model: any module that holds a GRU.
        *args: the model's own arguments.
        target: the class; or a pair, a class and the one it is compared with.
        phrases: the phrases, as for `contextual_decomposition`; None is each step by itself.
        pairs: "adjacent", each phrase with the next one; "all"; or a sequence of pairs of places in
            `phrases`.
        step: where the layer is read: a step, negative from each row's end; or "final", each
            direction's own last state.
        layer: as for `contextual_decomposition`, and so are `head`, `dtype` and the errors.
        head: the linear readout.
        dtype: the precision.
        progress: whether to show a progress bar.
        call: the name of the method that is the run; None is the model itself; as for `record`.
        inputs: all arguments of the run as (args, kwargs), as for `record`.
        **kwargs: the model's own keyword arguments.

    Returns:
        An `Interactions`. A KeyboardInterrupt ends it early: what is done by then is returned.

    Raises:
        EditError: `pairs` is none of these.
        ReadoutError: there is no such class, no readout is found, or it does not fit.
        PositionError: a phrase or the step is out of range.

    >>> rnn, head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
    >>> interactions(rnn, torch.randn(1, 6, 3), target=1, head=head, progress=False)
    Interactions('l0', 6 phrases, 5 pairs, batch 1)
    """
    given = arguments(args, kwargs, inputs)
    stack, linear = stack_and_head(model, given, layer, head, dtype, call)
    score = PhraseScore(stack, linear, target, step)
    steps = indices(phrases, stack)
    chosen = _pairs(pairs, len(steps))
    inside = masks(steps, stack)
    scores = score.of_phrases(inside)
    values = scores.new_full((len(chosen), scores.shape[1]), float("nan"))
    done = torch.zeros(len(chosen), dtype=torch.bool)
    job: Job[Interactions] = Job("interactions", "pair", len(chosen))
    with job.watched(bar=progress):
        for start in range(0, len(chosen), AT_ONCE):
            part = chosen[start : start + AT_ONCE]
            first, second = (torch.tensor([pair[i] for pair in part]) for i in (0, 1))
            both = score.of_phrases(inside[first] | inside[second])
            values[start : start + AT_ONCE] = both - scores[first] - scores[second]
            done[start : start + AT_ONCE] = True
            job.advance(len(part))
    found = Interactions(stack.layer, steps, scores, tuple(chosen), values, done)
    if found.note:
        tell("interactions", found.note)
    return found


def _pairs(pairs: Any, count: int) -> list[tuple[int, int]]:
    if isinstance(pairs, str) and pairs in PAIRS:
        if pairs == "all":
            return list(combinations(range(count), 2))
        return [(i, i + 1) for i in range(count - 1)]
    try:
        found = [] if isinstance(pairs, str) else [tuple(pair) for pair in pairs]
    except Exception:
        found = [()]
    whole = all(
        len(pair) == 2
        and all(type(i) is int and -count <= i < count for i in pair)
        and pair[0] % count != pair[1] % count
        for pair in found
    )
    if isinstance(pairs, str) or not whole:
        raise EditError(
            f'pairs must be "adjacent", "all" or a sequence of pairs of two of the {count} '
            f"phrases, got {shown(pairs)}"
        )
    return [(pair[0] % count, pair[1] % count) for pair in found]
