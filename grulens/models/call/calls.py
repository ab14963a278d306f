"""The calls of one layer in a run: the rows they share, and their time axis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


class Row(NamedTuple):
    """Where a row of a recorded layer comes from.

    Attributes:
        calls: the calls of the layer that it runs through, by number.
        row: which row of those calls it is.
    """

    calls: tuple[int, ...]
    row: int


class Calls:
    """The rows and the time axis of all calls of a layer.

    Calls with as many rows share them, and a time axis that begins at 0. The rows of the others lie
    below them.

    Args:
        sizes: rows and steps of each call, in order.

    Attributes:
        starts: the step at which each call begins.
        shape: rows and steps of all calls together.
        rows: for each row a `Row`.
        counts: the different numbers of rows.

    >>> calls = Calls([(2, 3), (2, 1), (1, 5)])
    >>> calls.starts, calls.shape, calls.rows[0], calls.rows[2]
    ((0, 3, 0), (3, 5), Row(calls=(0, 1), row=0), Row(calls=(2,), row=0))
    """

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        steps: dict[int, int] = {}
        numbers: dict[int, list[int]] = {}
        starts = []
        for number, (rows, length) in enumerate(sizes):
            starts.append(steps.get(rows, 0))
            steps[rows] = starts[-1] + length
            numbers.setdefault(rows, []).append(number)
        self.starts = tuple(starts)
        self.shape = sum(steps), max(steps.values())
        self.rows = tuple(Row(tuple(numbers[rows]), row) for rows in steps for row in range(rows))
        self.counts = tuple(steps)
        self._sizes, self._steps, self._numbers = tuple(sizes), steps, numbers

    def steps_of(self, rows: int) -> int:
        """The length of the time axis of the calls with so many rows."""
        return self._steps.get(rows, self.shape[1])

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """The tensors of the calls (batch, time, ...) as one; zero where there is no step."""
        if len(parts) == 1:
            return parts[0]
        found = [torch.cat([parts[i] for i in numbers], 1) for numbers in self._numbers.values()]
        if len(found) == 1:
            return found[0]
        whole = found[0].new_zeros(*self.shape, *found[0].shape[2:])
        begin = 0
        for part in found:
            whole[begin : begin + len(part), : part.shape[1]] = part
            begin += len(part)
        return whole

    def split(self, value: Tensor) -> list[Tensor]:
        """The tensors of the calls, of one that `joined` gave."""
        begins = dict(zip(self.counts, accumulate([0, *self.counts]), strict=False))
        return [
            value[begins[rows] : begins[rows] + rows, start : start + steps]
            for (rows, steps), start in zip(self._sizes, self.starts, strict=True)
        ]
