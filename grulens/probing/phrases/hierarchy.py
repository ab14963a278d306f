"""Phrases within phrases: which tokens belong together for a model, from single ones to the whole.

The tree begins with every token by itself and joins two neighbours at a time, scored by contextual
decomposition (Singh, Murdoch & Yu 2019, "Hierarchical interpretations for neural network
predictions", arXiv:1806.05337). What is joined first acts together most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from grulens.errors import PositionError, shown
from grulens.job import stopped
from grulens.probing.credit.reader import Target
from grulens.tables import html_table

By = Literal["interaction", "score"]
BY = ("interaction", "score")

Span = tuple[int, int]
Score = Callable[[Sequence[Span]], Sequence[float]]


@dataclass(frozen=True)
class Group:
    """Tokens that follow one another.

    Attributes:
        first: position of its first token.
        stop: the position after its last one.
        score: what its tokens contribute to the class together, without the rest.
        interaction: its score minus those of its two parts; 0 for a token.
        parts: the two groups it was made of, by number; () for a token.
        order: when it was made: 1 is the first merge; 0 for a token.
        height: how many groups lie over each other in it; 0 for a token.
    """

    first: int
    stop: int
    score: float
    interaction: float = 0.0
    parts: tuple[int, ...] = ()
    order: int = 0
    height: int = 0

    @property
    def tokens(self) -> tuple[int, ...]:
        """The positions of its tokens."""
        return tuple(range(self.first, self.stop))


@dataclass(frozen=True, eq=False, repr=False)
class Hierarchy:
    """Groups of tokens, each with what it contributes to a class.

    Attributes:
        layer: the layer that is read.
        row: which row of the batch.
        target: the class, or a class and the one it is held against.
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

    def at(self, first: Any, stop: Any) -> Group:
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

    def to_frame(self) -> Any:
        """A line a group as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas as pd  # noqa: PLC0415 - pandas is optional

        names = ("first", "stop", "score", "interaction", "order", "height")
        return pd.DataFrame({n: [getattr(group, n) for group in self.groups] for n in names})

    def __repr__(self) -> str:
        target = (
            f"class {self.target}"
            if isinstance(self.target, int)
            else f"class {self.target[0]} against {self.target[1]}"
        )
        end = self.note or f"{len(self.merges)} merges"
        return f"Hierarchy({self.layer!r}, {target}, {len(self.tokens)} tokens, {end})"

    def _repr_html_(self) -> str:
        rows = [
            (g.order, f"{g.first} to {g.stop - 1}", f"{g.score:.4g}", f"{g.interaction:.4g}")
            for g in self.merges[:12]
        ]
        return html_table(("merge", "steps", "score", "together"), rows, repr(self))


def merging(score: Score, count: int, by: By) -> Iterator[Group]:
    """Every token, and then one merge after the other until all are one group.

    At each merge two new unions become possible, so a tree of many tokens costs about four scores
    for each of them.

    Args:
        score: the scores of some spans (first, stop).
        count: how many tokens.
        by: what is merged first: the pair of neighbours with the largest size of "interaction", or
            of the union's "score".

    >>> groups = merging(lambda spans: [float(b - a == 2 and a == 1) for a, b in spans], 3, "score")
    >>> [(group.first, group.stop) for group in groups]
    [(0, 1), (1, 2), (2, 3), (1, 3), (0, 3)]
    """
    groups = [
        Group(t, t + 1, value)
        for t, value in enumerate(score([(t, t + 1) for t in range(count)]) if count else [])
    ]
    yield from groups
    row = list(range(count))  # the groups that are in no other, from left to right
    unions: dict[Span, float] = {}
    while len(row) > 1:
        pairs = list(pairwise(row))
        spans = [(groups[a].first, groups[b].stop) for a, b in pairs]
        new = [span for span in spans if span not in unions]
        unions.update(zip(new, score(new), strict=True))
        made = [
            Group(
                *span,
                unions[span],
                unions[span] - groups[a].score - groups[b].score,
                (a, b),
                len(groups) - count + 1,
                1 + max(groups[a].height, groups[b].height),
            )
            for span, (a, b) in zip(spans, pairs, strict=True)
        ]
        best = max(range(len(made)), key=lambda i: _size(getattr(made[i], by)))
        row[best : best + 2] = [len(groups)]
        groups.append(made[best])
        yield made[best]


def _size(value: float) -> float:
    # what is not a number comes last, and does not stop the others
    return abs(value) if value == value else -1.0  # noqa: PLR0124
