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
from grulens.probing.credit.reader import Reader, Target, at, places
from grulens.probing.credit.stack import Levels
from grulens.probing.edits import positions
from grulens.probing.edits.positions import Index

ELEMENTS = 2**22
"""Numbers that the phrases done at a time may have in a level: more of them leave the cache."""


class Scorer:
    """What phrases contribute to one class at one step.

    Args:
        levels: the stack.
        reader: what reads its top level.
        target: a class, or a class and the one it is held against.
        step: where it is read.

    Attributes:
        levels: the stack.
        target: the class, or both.
        places: where each direction is read, (batch,) positions.
        bias: the readout's bias, ().
        score: the whole score (batch,).
    """

    def __init__(self, levels: Levels, reader: Reader, target: Any, step: Any) -> None:
        self.levels = levels
        self.target: Target = reader.check(target)
        self.places = places(levels, step)
        self._toward, bias = reader.toward(self.target)
        states = {name: levels.states(name) for name in self._toward}
        self.bias = bias.to(next(iter(states.values())))
        self.score: Float[Tensor, " batch"] = self._read(states) + self.bias

    def __call__(self, inside: Bool[Tensor, "phrase batch time"]) -> Float[Tensor, "phrase batch"]:
        """The scores of the phrases that hold these steps."""
        return torch.cat([self._read(part) for part in _parts(self.levels, inside)])

    @property
    def heard(self) -> list[int]:
        """How many steps of each row can be heard where it is read."""
        if self.levels.reads_from_end:
            return [int(n) for n in self.levels.mask.sum(1)]
        return [int(place) + 1 for place in next(iter(self.places.values()))]

    def _read(self, values: Mapping[str, Tensor]) -> Tensor:
        parts = [
            (at(values[name], self.places[name]) * toward.to(values[name])).sum(-1)
            for name, toward in self._toward.items()
        ]
        return torch.stack(parts).sum(0)


def logits(levels: Levels, reader: Reader, step: Any) -> Float[Tensor, "batch klass"]:
    """What the readout says of every class at a step; see `places`."""
    where = places(levels, step)
    parts = []
    for name, weight in reader.weights.items():
        states = at(levels.states(name), where[name])
        parts.append(states @ weight.to(states).mT)
    return torch.stack(parts).sum(0) + reader.bias.to(parts[0])


def asked(phrases: Any, levels: Levels) -> tuple[Index, ...]:
    """The phrases as normal indices; None is each step by itself.

    Raises:
        PositionError: they are no sequence of phrases.
    """
    if phrases is None:
        return tuple(range(levels.mask.shape[1]))
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


def held(phrases: Sequence[Index], levels: Levels) -> Bool[Tensor, "phrase batch time"]:
    """Which steps each phrase holds, in each row.

    Raises:
        PositionError: a step is out of range.
    """
    batch, steps = levels.mask.shape
    one_call = len(levels.calls) == 1
    ends = levels.mask.sum(1).tolist() if one_call else [steps] * batch
    inside = torch.zeros(len(phrases), batch, steps, dtype=torch.bool)
    for place, phrase in enumerate(phrases):
        positions.check(phrase, steps, "step", f"layer {levels.layer!r}")
        masks = {end: positions.mask(phrase, steps, end) for end in set(ends)}
        for row, end in enumerate(ends):
            inside[place, row] = masks[end]
    return inside


def split(
    levels: Levels, inside: Bool[Tensor, "phrase batch time"]
) -> dict[str, Float[Tensor, "phrase batch time unit"]]:
    """The phrases' part of every state of the top level, by direction and position."""
    parts = list(_parts(levels, inside))
    return {name: torch.cat([part[name] for part in parts]) for name in levels.top}


def _parts(levels: Levels, inside: Tensor) -> Iterator[dict[str, Tensor]]:
    """`split`, some phrases at a time."""
    width = max(max(run.h.shape[2], run.x.shape[2]) for c in levels.calls for v in c for run in v)
    each = max(1, width * levels.mask.numel())
    at_once = max(1, ELEMENTS // each)
    for start in range(0, max(1, len(inside)), at_once):
        with torch.no_grad(), exact(levels.mask.device):
            part = _through(levels, inside[start : start + at_once])
        yield part


def _through(levels: Levels, inside: Tensor) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {name: [] for name in levels.top}
    ended: dict[str, Tensor] = {}
    start = 0
    for call in levels.calls:
        first = call[0][0]
        here = inside[:, :, start : start + first.x.shape[1], None].to(first.x.device)
        start += first.x.shape[1]
        below = first.turned(first.x) * here
        for level in call:
            made = []
            for run in level:
                begun = ended.get(run.layer) if run.takes_up else None
                beta = contextual(run.cell, run.x, run.h_prev, run.turned(below), begun)
                beta = run.valid(beta)
                ended[run.layer] = run.last(beta)
                made.append(run.turned(beta))
            below = torch.cat(made, 3)
        for run, beta in zip(call[-1], made, strict=True):
            found[run.layer].append(beta)
    return {name: torch.cat(parts, 2) for name, parts in found.items()}
