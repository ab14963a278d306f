"""Steps of one cell for many copies of a run side by side, each with changes of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from grulens.cells.batched.changes import Places, act


@runtime_checkable
class Steps(Protocol):
    """What runs copies of a cell step by step; rows are (copy, batch).

    A signal lies in a piece of memory whose rows are (copy and batch); `stride` says how many
    numbers a row has, and `offset` at which of them the signal begins.
    """

    batch: int

    def lies(self, signal: str) -> tuple[int, int]:
        """The stride and the offset of a signal."""

    def inputs(self, x: Float[Tensor, "copy batch time input"]) -> Sequence[Any]:
        """What the input adds to each step; one copy stands for all that share it."""

    def step(
        self, given: Any, state: Tensor, places: Sequence[Places], out: Tensor, copies: int
    ) -> None:
        """One step.

        Args:
            given: what the input adds.
            state: the state before it (copy or 1, batch, state).
            places: what is changed; not yet h itself.
            out: where the state after it goes (copy, batch, state), in one piece of memory.
            copies: how many there are.
        """


class PlainSteps:
    """The steps of any cell, by its own reference.

    Args:
        cell: a `RecurrentCell`.
        batch: rows of each copy.
    """

    def __init__(self, cell: Any, batch: int) -> None:
        self.cell, self.batch = cell.by_columns, batch

    def lies(self, signal: str) -> tuple[int, int]:
        if signal == "h":
            return self.cell.state_size, 0
        return self.cell.hidden_size, 0

    def inputs(self, x: Float[Tensor, "copy batch time input"]) -> Sequence[Any]:
        products: Tensor = self.cell.project(x)
        return products.unbind(2)

    def step(
        self, given: Any, state: Tensor, places: Sequence[Places], out: Tensor, copies: int
    ) -> None:
        def edit(name: str, value: Tensor, before: bool) -> Tensor:
            if name == "h" or not any(place.key == (name, before) for place in places):
                return value
            # in one piece: it may be a view of a product that others share
            memory = value.clone(memory_format=torch.contiguous_format)
            act(places, memory, (name, before))
            return memory

        given, state = (t.expand(copies, -1, -1) for t in (given, state))
        out[:] = self.cell.step(given, state, edit if places else None)
