"""Which steps of two rows stand beside each other: those of one number, or those of one token.

A step without a partner stands alone, and nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final

import torch
from jaxtyping import Int
from torch import Tensor

#: What stands for no step.
NONE: Final = -1


def by_step(a: Int[Tensor, " a"], b: Int[Tensor, " b"]) -> Int[Tensor, "place 2"]:
    """Each step beside the one that is as far from its own row's start.

    Args:
        a: (a,), the steps that one row has, padding left out.
        b: (b,), those of the other.

    Returns:
        (place, 2): a step of each, -1 for none; the rest of the longer row stands alone.

    >>> by_step(torch.tensor([0, 1, 2]), torch.tensor([4, 5])).tolist()
    [[0, 4], [1, 5], [2, -1]]
    """
    found = torch.full((max(len(a), len(b)), 2), NONE)
    found[: len(a), 0] = a
    found[: len(b), 1] = b
    return found


def by_token(
    a: Int[Tensor, " a"], b: Int[Tensor, " b"], tokens: tuple[Sequence[str], Sequence[str]]
) -> Int[Tensor, "place 2"]:
    """Each step beside the one of the same token in the same order.

    Where as many others stand between two such tokens on one side as on the other, they replace
    each other one by one; of more or fewer, which replaces which is not known, and all stand alone.

    Args:
        a: (a,), the steps that one row has.
        b: (b,), those of the other.
        tokens: what each of these steps is called, of one row and of the other.

    Returns:
        (place, 2) as `by_step`.

    >>> words = "not bad at all".split(), "not good".split()
    >>> by_token(torch.arange(4), torch.arange(2), words).tolist()
    [[0, 0], [1, -1], [2, -1], [3, -1], [-1, 1]]
    """
    pairs = [
        (NONE if i is None else int(a[i]), NONE if j is None else int(b[j]))
        for i, j in _places(*map(list, tokens))
    ]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


def _places(a: list[str], b: list[str]) -> Iterator[tuple[int | None, int | None]]:
    # equal ends need no search, which grows with the square of what is sought in
    low, short = 0, min(len(a), len(b))
    while low < short and a[low] == b[low]:
        low += 1
    high = 0
    while high < short - low and a[-1 - high] == b[-1 - high]:
        high += 1
    last_a, last_b = len(a) - high, len(b) - high
    yield from ((i, i) for i in range(low))
    inside = SequenceMatcher(None, a[low:last_a], b[low:last_b], autojunk=False)
    for _, a0, a1, b0, b1 in inside.get_opcodes():
        ours, theirs = range(low + a0, low + a1), range(low + b0, low + b1)
        if len(ours) == len(theirs):
            yield from zip(ours, theirs, strict=True)
        else:
            yield from ((i, None) for i in ours)
            yield from ((None, j) for j in theirs)
    yield from zip(range(last_a, len(a)), range(last_b, len(b)), strict=True)
