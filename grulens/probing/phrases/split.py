"""Phrases of an input on their way through a stack of GRU layers to the score of a class.

The split of one level's states is the split of the next one's input, in both directions and for
rows of several lengths; a linear readout turns parts of states into parts of a class. A score needs
the states of one step only, so many phrases can be asked about without keeping all they made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grulens.cells.phrases.decomposition import contextual
from grulens.cells.precision import exact
from grulens.errors import PositionError, shown
from grulens.probing.credit.stack import Stack
from grulens.probing.credit.target import ClassScore
from grulens.probing.edits import positions
from grulens.probing.edits.positions import Index

ELEMENTS = 2**22
"""Numbers that the phrases done at a time may have in a level: more of them leave the cache."""


class PhraseScore(ClassScore):
    """The score of a class at a step, and what phrases contribute to it by themselves."""

    def of_phrases(
        self, inside: Bool[Tensor, "phrase batch time"]
    ) -> Float[Tensor, "phrase batch"]:
        """The scores of the phrases that hold these steps."""
        return torch.cat([self.of(part) for part in _parts(self.stack, inside)])

    @property
    def steps_read(self) -> list[int]:
        """How many steps of each row the score depends on, from the first."""
        if self.stack.reads_from_end:
            return [int(n) for n in self.stack.mask.sum(1)]
        return [int(place) + 1 for place in next(iter(self.positions.values()))]


def indices(phrases: Any, stack: Stack) -> tuple[Index, ...]:
    """The phrases as normal indices; None is each step by itself.

    Raises:
        PositionError: they are no sequence of phrases.
    """
    if phrases is None:
        return tuple(range(stack.mask.shape[1]))
    try:
        listed = [] if isinstance(phrases, str | Mapping) else list(phrases)
    except Exception:
        listed = []
    if not listed:
        raise PositionError(
            f"phrases must be a sequence of phrases, such as [slice(0, 3), [4, 6]], got "
            f"{shown(phrases)}"
        )
    return tuple(positions.normal(phrase, "a phrase") for phrase in listed)


def masks(phrases: Sequence[Index], stack: Stack) -> Bool[Tensor, "phrase batch time"]:
    """Which steps each phrase holds, in each row.

    Raises:
        PositionError: a step is out of range.
    """
    batch, steps = stack.mask.shape
    one_call = len(stack.calls) == 1
    ends = stack.mask.sum(1).tolist() if one_call else [steps] * batch
    inside = torch.zeros(len(phrases), batch, steps, dtype=torch.bool)
    for place, phrase in enumerate(phrases):
        positions.check(phrase, steps, "step", f"layer {stack.layer!r}")
        by_end = {end: positions.mask(phrase, steps, end) for end in set(ends)}
        for row, end in enumerate(ends):
            inside[place, row] = by_end[end]
    return inside


def split(
    stack: Stack, inside: Bool[Tensor, "phrase batch time"]
) -> dict[str, Float[Tensor, "phrase batch time unit"]]:
    """The phrases' part of every state of the top level, by direction and position."""
    parts = list(_parts(stack, inside))
    return {name: torch.cat([part[name] for part in parts]) for name in stack.top}


def _parts(stack: Stack, inside: Tensor) -> Iterator[dict[str, Tensor]]:
    """`split`, some phrases at a time."""
    layers = [part for call in stack.calls for level in call for part in level]
    width = max(max(part.h.shape[2], part.x.shape[2]) for part in layers)
    each = max(1, width * stack.mask.numel())
    at_once = max(1, ELEMENTS // each)
    for start in range(0, max(1, len(inside)), at_once):
        with torch.no_grad(), exact(stack.mask.device):
            part = _through(stack, inside[start : start + at_once])
        yield part


def _through(stack: Stack, inside: Tensor) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {name: [] for name in stack.top}
    ended: dict[str, Tensor] = {}
    start = 0
    for call in stack.calls:
        first = call[0][0]
        here = inside[:, :, start : start + first.x.shape[1], None].to(first.x.device)
        start += first.x.shape[1]
        below = first.flipped(first.x) * here
        for level in call:
            made = []
            for part in level:
                begun = ended.get(part.layer) if part.continues else None
                beta = contextual(part.cell, part.x, part.h_prev, part.flipped(below), begun)
                beta = part.valid(beta)
                ended[part.layer] = part.last(beta)
                made.append(part.flipped(beta))
            below = torch.cat(made, 3)
        for part, beta in zip(call[-1], made, strict=True):
            found[part.layer].append(beta)
    return {name: torch.cat(betas, 2) for name, betas in found.items()}
