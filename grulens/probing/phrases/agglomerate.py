"""The tree of phrases of one input, for one class at one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from grulens.errors import EditError, PositionError, shown
from grulens.job import Job, tell
from grulens.models.call.invocation import arguments
from grulens.probing.credit.reader import Reader, ask
from grulens.probing.credit.stack import Levels
from grulens.probing.phrases.hierarchy import BY, Group, Hierarchy, Span, merging
from grulens.probing.phrases.phrases import Scorer


def agglomerate(
    model: nn.Module,
    *args: Any,
    target: Any,
    row: Any = 0,
    by: Any = "interaction",
    step: Any = -1,
    layer: str | None = None,
    head: Any = None,
    dtype: Any = None,
    progress: bool = True,
    call: Any = None,
    inputs: Any = None,
    **kwargs: Any,
) -> Hierarchy:
    """Join neighbouring tokens into ever larger phrases, those first that act together most.

    Agglomerative contextual decomposition (Singh, Murdoch & Yu 2019, arXiv:1806.05337), two
    neighbours at a time. Only tokens that can be heard at the step take part: those up to it, or
    all where a layer reads from the end.

    Args:
        model: any module that holds a GRU.
        *args: the model's own arguments.
        target: the class; or a pair, a class and the one it is held against.
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
    levels, reader = ask(model, given, layer, head, dtype, call)
    growing = Growing(levels, reader, target=target, step=step, row=row, by=by)
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
        levels: the stack.
        reader: what reads its top level.
        target: the class, or a class and the one it is held against.
        step: where it is read.
        row: which row of the batch.
        by: what the merges follow.

    Attributes:
        total: how many groups the whole tree has.
        done: those made by now.
    """

    def __init__(
        self, levels: Levels, reader: Reader, *, target: Any, step: Any, row: Any, by: Any
    ) -> None:
        batch = len(levels.mask)
        if type(row) is not int or not -batch <= row < batch:
            raise PositionError(f"row must be 0 to {batch - 1}, got {shown(row)}")
        self.row, self.by = row % batch, by
        # the other rows may end before the step
        self._scorer = Scorer(levels.row(self.row), reader, target, step)
        self._tokens = self._scorer.heard[0]
        self.total = 2 * self._tokens - 1
        self.done: list[Group] = []

    def __iter__(self) -> Iterator[Group]:
        for group in merging(self._score, self._tokens, self.by):
            self.done.append(group)
            yield group

    @property
    def tree(self) -> Hierarchy:
        """What there is by now."""
        scorer = self._scorer
        return Hierarchy(
            scorer.levels.layer, self.row, scorer.target, self.by, tuple(self.done),
            float(scorer.score), float(scorer.bias), len(self.done) == self.total,
        )  # fmt: skip

    def _score(self, spans: Sequence[Span]) -> list[float]:
        inside = torch.zeros(len(spans), 1, self._scorer.levels.mask.shape[1], dtype=torch.bool)
        for place, (first, stop) in enumerate(spans):
            inside[place, 0, first:stop] = True
        scores: list[float] = self._scorer(inside)[:, 0].tolist()
        return scores
