"""Cells of any convention as a module, so that weights from elsewhere run and can be opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from grulens.cells.cell import RecurrentCell
from grulens.cells.kinds.gru import Cell
from grulens.errors import CellError, shown
from grulens.models.adapters.torch_modules import WEIGHTS, OfStack
from grulens.models.call.call import Key


def keyed(cells: Any) -> dict[Key, RecurrentCell]:
    """Cells by level and direction, from one cell, one a level or one pair a level.

    Raises:
        CellError: they do not fit upon each other.

    >>> cell = Cell(torch.zeros(6, 3), torch.zeros(6, 2), None, None)
    >>> list(keyed(cell)), list(keyed([(cell, cell)]))
    ([(0, 0)], [(0, 0), (0, 1)])
    """
    given = [cells] if isinstance(cells, RecurrentCell) else cells
    given = list(given) if isinstance(given, Sequence) else given
    if not isinstance(given, list) or not given:
        raise CellError(
            "expected a cell (a Cell, or another kind of RecurrentCell) or a sequence of them, one "
            f"a level, got {shown(cells)}"
        )
    levels = [(level,) if isinstance(level, RecurrentCell) else level for level in given]
    for index, level in enumerate(levels):
        one_or_two = isinstance(level, Sequence) and len(level) in (1, 2)
        if not one_or_two or not all(isinstance(cell, RecurrentCell) for cell in level):
            raise CellError(
                f"level {index} must be a cell, or a pair of them (forward, reverse), got "
                f"{shown(level)}"
            )
        if len(level) != len(levels[0]):
            raise CellError(f"level {index} has {len(level)} directions, level 0 {len(levels[0])}")
    first = levels[0][0]
    width = first.input_size
    for index, level in enumerate(levels):
        for cell in level:
            if (cell.input_size, cell.hidden_size) != (width, first.hidden_size):
                raise CellError(
                    f"level {index} has {cell!r}; it takes {width} inputs, and all levels have "
                    f"{first.hidden_size} units: put levels of other widths in modules of their own"
                )
        width = len(level) * first.hidden_size
    return {(i, d): cell for i, level in enumerate(levels) for d, cell in enumerate(level)}


class GRUStack(nn.Module):
    """A GRU of any `Cell`s, called as `nn.GRU` is; where torch can express it, it is an `nn.GRU`.

    Its parameters are copies of the cells' weights and carry torch's names (`weight_ih_l0`,
    `bias_hh_l1_reverse`, ...), their rows in the order r, z, n. Gradients flow, and it can be
    trained.

    Args:
        cells: a `Cell`, or a sequence with one a level or one pair (forward, reverse) a level.
        batch_first: whether a sequence comes as (batch, time, input), or as torch's default,
            (time, batch, input).

    Raises:
        CellError: the cells do not fit upon each other.

    >>> torch_like = Cell(torch.zeros(6, 3), torch.zeros(6, 2), None, None)
    >>> GRUStack(torch_like)
    GRU(3, 2, bias=False, batch_first=True)
    >>> from dataclasses import replace
    >>> stack = GRUStack([replace(torch_like, reset_after=False)])
    >>> stack
    GRUStack(3, 2, reset before the product)
    >>> output, h_n = stack(torch.zeros(1, 5, 3))
    >>> output.shape, h_n.shape
    (torch.Size([1, 5, 2]), torch.Size([1, 1, 2]))
    """

    def __new__(cls, cells: Any = None, *, batch_first: bool = True) -> Any:
        if cells is not None and cls is GRUStack:
            by_key = _grus(cells)
            if all(cell.is_torch for cell in by_key.values()) and _alike(by_key):
                return _torch_gru(by_key, batch_first)
        return super().__new__(cls)

    def __init__(self, cells: Any, *, batch_first: bool = True) -> None:
        super().__init__()
        by_key = _grus(cells)
        first = by_key[0, 0]
        self.input_size, self.hidden_size = first.input_size, first.hidden_size
        self.num_layers = 1 + max(level for level, _ in by_key)
        self.bidirectional = (0, 1) in by_key
        self.batch_first, self.dropout = batch_first, 0.0
        self._conventions = {
            key: {name: getattr(c, name) for name in ("reset_after", "gate", "candidate")}
            for key, c in by_key.items()
        }
        for key, cell in by_key.items():
            for name in WEIGHTS:
                self.register_parameter(name + _suffix(key), _parameter(getattr(cell, name)))

    @property
    def cells(self) -> dict[Key, Cell]:
        """Its cells over its own parameters, by level and direction."""
        return {
            key: Cell(*(getattr(self, name + _suffix(key)) for name in WEIGHTS), **convention)
            for key, convention in self._conventions.items()
        }

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run it.

        Args:
            input: (batch, time, input), or as `batch_first` says; (time, input); or packed.
            hx: h_0 (level and direction, batch, unit), None is zero.

        Returns:
            output, as `input` with (direction, unit) for (input,), and h_n (level and direction,
            batch, unit).

        Raises:
            CellError: the arguments are not of these shapes and of the weights' dtype.
        """
        call = OfStack().open(self, (input, hx), {})
        if call is None or not call.steps:
            data = input.data if isinstance(input, PackedSequence) else input
            raise CellError(
                f"{self!r} takes {self.input_size} inputs over at least one step and states of "
                f"{self.hidden_size} units in {self.weight_hh_l0.dtype}; got an input "
                f"{_came(data)}, h_0 {_came(hx)}"
            )
        result: tuple[Tensor | PackedSequence, Tensor] = call.leave(call.run(self.cells))
        return result

    def extra_repr(self) -> str:
        parts = [str(self.input_size), str(self.hidden_size)]
        parts += [f"num_layers={self.num_layers}"] if self.num_layers > 1 else []
        parts += ["bidirectional=True"] if self.bidirectional else []
        parts += [] if self.batch_first else ["batch_first=False"]
        kinds = dict.fromkeys(cell.convention for cell in self.cells.values())
        return ", ".join(parts + list(kinds))


def _grus(cells: Any) -> dict[Key, Cell]:
    by_key = keyed(cells)
    found = {key: cell for key, cell in by_key.items() if isinstance(cell, Cell)}
    if len(found) < len(by_key):
        other = next(cell for cell in by_key.values() if not isinstance(cell, Cell))
        raise CellError(f"a GRUStack holds GRUs, got {other!r}")
    return found


def _came(value: Any) -> str:
    return f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)


def _suffix(key: Key) -> str:
    return f"_l{key[0]}{'_reverse' if key[1] else ''}"


def _parameter(tensor: Tensor | None) -> nn.Parameter | None:
    return None if tensor is None else nn.Parameter(tensor.detach().clone())


def _alike(cells: dict[Key, Cell]) -> bool:
    """Whether the biases are there in all of the cells or in none: nn.GRU knows no other way."""
    kinds = {(cell.bias_ih is None, cell.bias_hh is None) for cell in cells.values()}
    return kinds in ({(True, True)}, {(False, False)})


def _torch_gru(cells: dict[Key, Cell], batch_first: bool) -> nn.GRU:
    first = cells[0, 0]
    gru = nn.GRU(
        first.input_size,
        first.hidden_size,
        num_layers=1 + max(level for level, _ in cells),
        bias=first.bias_ih is not None,
        batch_first=batch_first,
        bidirectional=(0, 1) in cells,
        device=first.weight_hh.device,
        dtype=first.weight_hh.dtype,
    )
    with torch.no_grad():
        for key, cell in cells.items():
            for name in WEIGHTS:
                tensor = getattr(cell, name)
                if tensor is not None:
                    getattr(gru, name + _suffix(key)).copy_(tensor)
    return gru
