"""Groups of tokens that grow by joining neighbours, those first that act together most.

Singh, Murdoch & Yu 2019, "Hierarchical interpretations for neural network predictions",
arXiv:1806.05337. What a group contributes is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

By = Literal["interaction", "score"]
BY = ("interaction", "score")

Span = tuple[int, int]
"""The first token of a group, and the position after its last one."""
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
