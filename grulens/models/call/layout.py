"""The layout of a module's sequences, and the way from it to rows and back.

A sequence comes batch first, time first, unbatched or packed. Everything that grulens shows is in
rows (batch, time, feature) in the user's order. What the kernel reads is `body`: (time, batch,
feature), or the data of a packed sequence. Dropout masks are drawn in the body's shape, so layers
that are run one by one stay in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from grulens.cells.cell import RecurrentCell


@runtime_checkable
class Layout(Protocol):
    """The layout of the sequences of one call."""

    @property
    def lengths(self) -> Tensor | None:
        """Row lengths (batch,), int64, or None when all rows are full."""

    def steps(self, body: Tensor) -> int:
        """How many steps a body has."""

    def enter(self, given: Any) -> Tensor:
        """The body of a sequence that the module was given or returned."""

    def rows(self, body: Tensor) -> Tensor:
        """(batch, time, feature), zero on padding."""

    def body(self, rows: Tensor) -> Tensor:
        """The body of rows (batch, time, feature)."""

    def leave(self, body: Tensor) -> Tensor | PackedSequence:
        """What the module returns for `body`."""

    def state(self, h_n: Tensor) -> Tensor:
        """What the module returns for the last states (level and direction, batch, unit)."""

    def kernel(
        self, body: Tensor, h_0: Tensor, cells: list[RecurrentCell], training: bool
    ) -> tuple[Tensor, Tensor]:
        """One layer by torch's kernel, both directions if two cells are given.

        Its body, and the last states (direction, batch, state) in the user's order of rows.
        """


@dataclass(frozen=True)
class Dense:
    """A tensor: batch first, time first, or without a batch."""

    batch_first: bool
    batched: bool

    @property
    def lengths(self) -> None:
        return None

    def steps(self, body: Tensor) -> int:
        return len(body)

    def enter(self, given: Any) -> Tensor:
        tensor: Tensor = given
        if not self.batched:
            return tensor[:, None]
        return tensor.transpose(0, 1) if self.batch_first else tensor

    def rows(self, body: Tensor) -> Tensor:
        return body.transpose(0, 1)

    def body(self, rows: Tensor) -> Tensor:
        return rows.transpose(0, 1)

    def leave(self, body: Tensor) -> Tensor:
        return self.enter(body) if self.batched else body[:, 0]

    def state(self, h_n: Tensor) -> Tensor:
        return h_n if self.batched else h_n[:, 0]

    def kernel(
        self, body: Tensor, h_0: Tensor, cells: list[RecurrentCell], training: bool
    ) -> tuple[Tensor, Tensor]:
        return cells[0].fused(body, None, h_0, cells, training)


@dataclass(frozen=True)
class Packed:
    """A PackedSequence: rows sorted by length, and their padding left out."""

    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None

    def steps(self, body: Tensor) -> int:
        return len(self.batch_sizes)

    def enter(self, given: Any) -> Tensor:
        data: Tensor = given.data
        return data

    @property
    def lengths(self) -> Tensor:
        index = self.unsorted_indices
        present = self._present.sum(0)
        return self._user(present if index is None else present.to(index.device), 0)

    @property
    def _present(self) -> Tensor:
        """(time, sorted row), bool: which rows still run."""
        return torch.arange(int(self.batch_sizes[0])) < self.batch_sizes[:, None]

    def _user(self, tensor: Tensor, dim: int) -> Tensor:
        index = self.unsorted_indices
        return tensor if index is None else tensor.index_select(dim, index)

    def sorted(self, tensor: Tensor, dim: int) -> Tensor:
        """From the user's order of rows to the packed one."""
        index = self.sorted_indices
        return tensor if index is None else tensor.index_select(dim, index)

    def rows(self, body: Tensor) -> Tensor:
        present = self._present.to(body.device)
        padded = body.new_zeros(*present.shape, body.shape[1])
        return self._user(padded.masked_scatter(present[..., None], body), 1).transpose(0, 1)

    def body(self, rows: Tensor) -> Tensor:
        return self.sorted(rows.transpose(0, 1), 1)[self._present.to(rows.device)]

    def leave(self, body: Tensor) -> PackedSequence:
        return PackedSequence(body, self.batch_sizes, self.sorted_indices, self.unsorted_indices)

    def state(self, h_n: Tensor) -> Tensor:
        return h_n

    def kernel(
        self, body: Tensor, h_0: Tensor, cells: list[RecurrentCell], training: bool
    ) -> tuple[Tensor, Tensor]:
        h_0 = self.sorted(h_0, 1)
        output, last = cells[0].fused(body, self.batch_sizes, h_0, cells, training)
        return output, self._user(last, 1)
