"""The changes of many runs side by side, as the single values that they touch.

Stacked as masks, k runs would take k x time x unit of each of a mask, a factor and an offset; and
nearly all of it would say that nothing is changed. So a change becomes indices into the memory of
its signal, and a step touches what is changed at that step and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, cast

import torch
from torch import Tensor

from grulens.cells.changes import Change


@dataclass(frozen=True, eq=False)
class Touch:
    """A change of single values: s -> factor * s + offset at places of one signal."""

    signal: str
    before_activation: bool
    copy: Tensor
    row: Tensor
    unit: Tensor
    factor: Tensor
    offset: Tensor

    @property
    def key(self) -> tuple[str, bool]:
        return self.signal, self.before_activation

    def places(self, copies: int, batch: int, stride: int, offset: int) -> Places:
        index = (self.copy * batch + self.row) * stride + offset + self.unit
        is_set = self.factor == 0
        scaled = None if bool(is_set.all()) else self.factor
        keeps = None if scaled is None or not bool(is_set.any()) else is_set
        inside = (self.row * copies + self.copy) * stride + offset + self.unit
        return Places(self.key, index, inside, self.offset, scaled, keeps)


@dataclass(frozen=True, eq=False)
class Places:
    """A touch as indices into the memory of its signal, whose rows are (copy, batch).

    `inside` is the index where the copies of a row lie next to each other, rows (batch, copy).
    """

    key: tuple[str, bool]
    index: Tensor
    inside: Tensor
    offset: Tensor
    factor: Tensor | None
    is_set: Tensor | None

    def act(self, memory: Tensor, index: Tensor) -> None:
        values = self.offset
        if self.factor is not None:
            values = torch.addcmul(values, self.factor, memory[index])
            if self.is_set is not None:
                # where a signal is set, what it was does not count, not even NaN
                values = torch.where(self.is_set, self.offset, values)
        memory.index_copy_(0, index, values)


class Stacked:
    """The changes of many runs, found by step.

    Args:
        runs: what each copy changes, in the order in which it acts; steps as the caller counts.
        batch: rows of one copy.
        units: units of the cell.
        steps: length of a run.
        like: a tensor of the run's dtype and device.

    Before a run, `lie` has to say where the signals lie.

    Attributes:
        copies: how many runs there are.
        first: the first step that each of them touches; `steps` if none.
        only_h: whether nothing but states is changed.

    >>> one = torch.ones(1, 1, 1)
    >>> third = (torch.arange(4) == 2).reshape(1, 4, 1)
    >>> runs = [[Change("h", one.bool(), 0 * one, one)], [Change("h", third, 0 * one, one)], []]
    >>> Stacked(runs, batch=1, units=1, steps=4, like=one).first
    [0, 2, 4]
    """

    def __init__(
        self, runs: Sequence[Sequence[Change]], batch: int, units: int, steps: int, like: Tensor
    ) -> None:
        self.copies, self.batch, self.units, self.steps = len(runs), batch, units, steps
        self.like = like
        self.first = [min((first_step(c, steps) for c in run), default=steps) for run in runs]
        self.only_h = all(change.signal == "h" for run in runs for change in run)
        self._always: list[tuple[int, Touch]] = []
        self._at: dict[int, list[tuple[int, Touch]]] = {}
        # one change a run at a time: within a run their order has a meaning, between runs none
        for place, column in enumerate(zip_longest(*runs)):
            groups: dict[tuple[str, bool, bool], list[tuple[int, Change]]] = {}
            for number, change in enumerate(column):
                if change is not None:
                    key = (change.signal, change.before_activation, _is_constant(change, steps))
                    groups.setdefault(key, []).append((number, change))
            for (signal, before, always), group in groups.items():
                self._add(place, signal, before, always, group)
        self._made: dict[int, list[Places]] = {}
        self._constant: list[Places] = []
        self._lies: Callable[[str], tuple[int, int]] | None = None

    def lie(self, lies: Callable[[str], tuple[int, int]]) -> None:
        """Say where each signal lies in its memory: its stride and offset, as `Steps` has them."""
        if self._lies is None:
            self._lies = lies
            self._constant = self._merged(self._always)

    def _add(
        self,
        place: int,
        signal: str,
        before: bool,
        always: bool,
        group: Sequence[tuple[int, Change]],
    ) -> None:
        parts: dict[int | None, list[tuple[Any, ...]]] = {}
        for number, change in group:
            tensors = (change.where, change.factor, change.offset)
            if always:
                parts.setdefault(None, []).append((number, *tensors))
                continue
            touched = change.where.any(2).any(0).expand(self.steps)
            for t in touched.nonzero().flatten().tolist():
                here = [v[:, t if v.shape[1] > 1 else 0] for v in tensors]
                parts.setdefault(t, []).append((number, *here))
        for step, entries in parts.items():
            copies = torch.tensor([entry[0] for entry in entries], device=self.like.device)
            stacked = [_stacked([entry[i] for entry in entries]) for i in (1, 2, 3)]
            where, factor, offset = (
                (t[:, :, 0] if always else t).expand(-1, self.batch, self.units) for t in stacked
            )
            copy, row, unit = where.nonzero().unbind(1)
            touch = Touch(
                signal, before, copies[copy], row, unit,
                factor[copy, row, unit].to(self.like.dtype),
                offset[copy, row, unit].to(self.like.dtype),
            )  # fmt: skip
            found = self._always if step is None else self._at.setdefault(step, [])
            found.append((place, touch))

    def _merged(self, touches: Sequence[tuple[int, Touch]]) -> list[Places]:
        ordered = [touch for _, touch in sorted(touches, key=lambda item: item[0])]
        lies = cast(Callable[[str], tuple[int, int]], self._lies)
        return [t.places(self.copies, self.batch, *lies(t.signal)) for t in ordered]

    def at(self, step: int) -> list[Places]:
        """What is changed at a step, in the order in which it acts."""
        here = self._at.get(step)
        if here is None:
            return self._constant
        if step not in self._made:
            self._made[step] = self._merged([*self._always, *here])
        return self._made[step]

    def act_on_h(self, step: int, memory: Tensor, *, copies_inside: bool = False) -> None:
        """Change the states of a step.

        Args:
            step: the step.
            memory: (copy, batch, state) in one piece, flat.
            copies_inside: whether it is (batch, copy, state) instead.
        """
        for place in self.at(step):
            if place.key == ("h", False):
                place.act(memory, place.inside if copies_inside else place.index)


def first_step(change: Change, steps: int) -> int:
    """The first step that a change may touch; `steps` if it touches none."""
    if change.where.shape[1] == 1:
        return 0
    touched = change.where.any(2).any(0)
    return int(touched.to(torch.uint8).argmax()) if bool(touched.any()) else steps


def _is_constant(change: Change, steps: int) -> bool:
    tensors = (change.where, change.factor, change.offset)
    return all(tensor.shape[1] == 1 for tensor in tensors) and steps != 1


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors that broadcast to one shape, stacked: (copy, ...)."""
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) > 1:
        shape = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
        tensors = [tensor.expand(shape) for tensor in tensors]
    return torch.stack(list(tensors))


def act(places: Sequence[Places], memory: Tensor, *keys: tuple[str, bool]) -> None:
    """Apply those places that belong to one of the signals `keys` to their memory."""
    for place in places:
        if place.key in keys:
            place.act(memory.view(-1), place.index)
