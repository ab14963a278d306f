"""Phrases within phrases: which tokens belong together for a model, from single ones to the whole.

The tree begins with every token by itself and joins two neighbours at a time, scored by contextual
decomposition. What is joined first acts together most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from grulens.arguments import (
    Frame,
    HeadLike,
    Inputs,
    Integer,
    MergeBy,
    MethodName,
    Precision,
    Step,
    TargetClass,
)
from grulens.errors import EditError, PositionError, shown
from grulens.job import Job, stopped, tell
from grulens.models.call.invocation import arguments
from grulens.probing.credit.stack import Stack
from grulens.probing.credit.target import Target, stack_and_head
from grulens.probing.phrases.merging import BY, Group, Span, merging
from grulens.probing.phrases.split import PhraseScore
from grulens.probing.readout.head import Head
from grulens.results import Result, frame
from grulens.tables import html_table
from grulens.words import so_many


@dataclass(frozen=True, eq=False, repr=False)
class Hierarchy(Result):
    """Groups of tokens, each with what it contributes to a class.

    Attributes:
        layer: the layer that is read.
        row: which row of the batch.
        target: the class, or a class and the one it is compared with.
        by: what the merges follow.
        groups: every token, and then every merge in order.
        score: the whole score of the class.
        bias: the readout's part of it.
        complete: False where an interrupt came before everything was one group.
    """

    layer: str
    row: int
    target: Target
    by: str
    groups: tuple[Group, ...]
    score: float
    bias: float
    complete: bool

    @property
    def tokens(self) -> tuple[Group, ...]:
        """The single tokens."""
        return tuple(group for group in self.groups if not group.order)

    @property
    def merges(self) -> tuple[Group, ...]:
        """The groups of several tokens, in the order in which they were made."""
        return tuple(group for group in self.groups if group.order)

    @property
    def rest(self) -> float:
        """What no token has a part in: the score without the readout's bias and without the root.

        It is what biases and the first state made; NaN where the tree is not complete.
        """
        if not self.complete or not self.groups:
            return float("nan")
        return self.score - self.bias - self.groups[-1].score

    @property
    def note(self) -> str:
        """What a reader of the tree has to know, in words; "" if nothing."""
        if self.complete:
            return ""
        # every token is a group before the first merge
        return stopped(len(self.merges), max(len(self.tokens) - 1, 1), "merge")

    def at(self, first: Integer, stop: Integer) -> Group:
        """The group of the tokens `first` up to `stop`.

        Raises:
            PositionError: there is none in the tree.
        """
        whole = type(first) is int and type(stop) is int
        for group in self.groups:
            if whole and (group.first, group.stop) == (first, stop):
                return group
        raise PositionError(
            f"no group holds exactly the steps {shown(first)} up to {shown(stop)} in {self!r}"
        )

    def to_frame(self) -> Frame:
        """A line a group as a pandas DataFrame.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        names = ("first", "stop", "score", "interaction", "order", "height")
        return frame({n: [getattr(group, n) for group in self.groups] for n in names})

    def __repr__(self) -> str:
        target = (
            f"class {self.target}"
            if isinstance(self.target, int)
            else f"class {self.target[0]} against {self.target[1]}"
        )
        end = self.note or so_many(len(self.merges), "merge")
        tokens = so_many(len(self.tokens), "token")
        return f"Hierarchy({self.layer!r}, {target}, {tokens}, {end})"

    def _repr_html_(self) -> str:
        rows = [
            (g.order, f"{g.first} to {g.stop - 1}", f"{g.score:z.4g}", f"{g.interaction:z.4g}")
            for g in self.merges[:12]
        ]
        return html_table(("merge", "steps", "score", "together"), rows, repr(self))


def agglomerate(
    model: nn.Module,
    *args: Any,
    target: TargetClass,
    row: Integer = 0,
    by: MergeBy = "interaction",
    step: Step = -1,
    layer: str | None = None,
    head: HeadLike = None,
    dtype: Precision = None,
    progress: bool = True,
    call: MethodName = None,
    inputs: Inputs = None,
    **kwargs: Any,
) -> Hierarchy:
    """Join neighbouring tokens into ever larger phrases, those first that act together most.

    Agglomerative contextual decomposition (Singh, Murdoch & Yu 2019, arXiv:1806.05337), two
    neighbours at a time. Only tokens that reach the state at that step take part: those up to it,
    or all of them where a layer is a reverse one.

    Args:
        model: any module that holds a GRU.
        *args: the model's own arguments.
        target: the class; or a pair, a class and the one it is compared with.
        row: which row of the batch.
        by: what decides which neighbours are joined next: the largest size of their "interaction",
            score(A and B) - score(A) - score(B), or of the union's "score".
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
        A `Hierarchy`; `grulens.plot` draws it. A KeyboardInterrupt ends it early: the merges done
        by then are returned.

    Raises:
        PositionError: there is no such row or step.
        EditError: `by` is neither.
        ReadoutError: there is no such class, no readout is found, or it does not fit.

    >>> rnn, head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
    >>> tree = agglomerate(rnn, torch.randn(1, 6, 3), target=1, head=head, progress=False)
    >>> tree
    Hierarchy('l0', class 1, 6 tokens, 5 merges)
    >>> tree.groups[-1].tokens
    (0, 1, 2, 3, 4, 5)
    """
    if not isinstance(by, str) or by not in BY:
        raise EditError(f"by must be one of {', '.join(BY)}, got {shown(by)}")
    given = arguments(args, kwargs, inputs)
    stack, found = stack_and_head(model, given, layer, head, dtype, call)
    growing = Growing(stack, found, target=target, step=step, row=row, by=by)
    job: Job[Hierarchy] = Job("phrases", "phrase", growing.total)
    with job.watched(bar=progress):
        for _ in growing:
            job.advance()
    if growing.tree.note:
        tell("agglomerate", growing.tree.note)
    return growing.tree


class Growing:
    """A tree on its way: go through it for the next groups; what it is by now is its `tree`.

    Args:
        stack: the stack.
        head: what reads its top level.
        target: the class, or a class and the one it is compared with.
        step: where it is read.
        row: which row of the batch.
        by: what the merges follow.

    Attributes:
        total: how many groups the whole tree has.
        done: those made by now.
    """

    def __init__(
        self, stack: Stack, head: Head, *, target: Any, step: Any, row: Any, by: Any
    ) -> None:
        batch = len(stack.mask)
        if type(row) is not int or not -batch <= row < batch:
            raise PositionError(f"row must be 0 to {batch - 1}, got {shown(row)}")
        self.row, self.by = row % batch, by
        # the other rows may end before the step
        self._class = PhraseScore(stack.row(self.row), head, target, step)
        self._tokens = self._class.steps_read[0]
        self.total = 2 * self._tokens - 1
        self.done: list[Group] = []

    def __iter__(self) -> Iterator[Group]:
        for group in merging(self._score, self._tokens, self.by):
            self.done.append(group)
            yield group

    @property
    def tree(self) -> Hierarchy:
        """What there is by now."""
        score = self._class
        return Hierarchy(
            score.stack.layer, self.row, score.target, self.by, tuple(self.done),
            float(score.value), float(score.bias), len(self.done) == self.total,
        )  # fmt: skip

    def _score(self, spans: Sequence[Span]) -> list[float]:
        inside = torch.zeros(len(spans), 1, self._class.stack.mask.shape[1], dtype=torch.bool)
        for place, (first, stop) in enumerate(spans):
            inside[place, 0, first:stop] = True
        scores: list[float] = self._class.of_phrases(inside)[:, 0].tolist()
        return scores
