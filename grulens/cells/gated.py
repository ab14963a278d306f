"""A step of a cell as h = a h_prev + b, read off the cell's own last line.

What a kind of cell says of its gates are words: that a gate keeps the memory, that it is a share.
What `output` makes of them is what the cell does. With the signals of a step held, `output` is
asked for the state after it from several states before it; where these lie on a line, unit by unit,
the slope of that line is the share a that the step keeps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float64
from torch import Tensor

from grulens.cells.cell import RecurrentCell

#: How far a state may lie off the line, of its size; all of it is computed in float64.
EXACT = 1e-9


class Gated(NamedTuple):
    """A step as h = keep * h_prev + write.

    Attributes:
        keep: the share of the state before that is kept (..., unit).
        write: what is added (..., unit).
        candidate: the signal of which the step takes the other share, `write = (1 - keep) *
            candidate`; None where there is none.
    """

    keep: Float64[Tensor, "*any unit"]
    write: Float64[Tensor, "*any unit"]
    candidate: str | None


def gated(cell: RecurrentCell, signals: Mapping[str, Tensor], state: Tensor) -> Gated | None:
    """The gated form of some steps; None where the state after is no line in the state before.

    Args:
        cell: the cell, in float64; one with a single state.
        signals: every signal but h at these steps, each (..., unit).
        state: the state before each of them (..., unit).

    >>> from grulens.cells.kinds.gru import Cell
    >>> cell = Cell(torch.zeros(3, 1).double(), torch.zeros(3, 1).double(), None, None)
    >>> one = torch.ones(2, 1)
    >>> signals = {"r": one, "z": torch.tensor([[0.25], [0.75]]), "n": 2 * one}
    >>> form = gated(cell, signals, torch.zeros(2, 1))
    >>> form.keep.tolist(), form.write.tolist(), form.candidate
    ([[0.25], [0.75]], [[1.5], [0.5]], 'n')
    """
    if len(cell.states) > 1:
        return None
    with torch.no_grad():
        held = {name: value.detach().double() for name, value in signals.items()}
        state = state.detach().double()
        write = cell.output(held, torch.zeros_like(state))
        keep = cell.output(held, torch.ones_like(state)) - write
        # another number for each unit, so that a unit that is made of others is seen
        apart = torch.linspace(-2, 3, state.shape[-1], dtype=state.dtype, device=state.device)
        for before in (state, apart.expand_as(state)):
            after = cell.output(held, before)
            size = 1 + before.abs() + after.abs()
            if after.shape != state.shape or not _near(after, keep * before + write, size):
                return None
        if not bool(keep.any()):
            return None
        for signal in cell.signals:
            if signal.role == "candidate" and signal.name in held:
                new = held[signal.name]
                if _near(write, (1 - keep) * new, 1 + new.abs()):
                    return Gated(keep, write, signal.name)
    return Gated(keep, write, None)


def is_gated(cell: RecurrentCell) -> bool:
    """Whether steps of a cell keep a share of its state, whatever its weights and gates are.

    It is asked once of every kind of cell, each convention and size.

    >>> from grulens.cells.kinds.gru import Cell
    >>> from grulens.cells.kinds.rnn import RNN
    >>> is_gated(Cell(torch.ones(3, 1), torch.ones(3, 1), None, None))
    True
    >>> is_gated(RNN(torch.ones(1, 1), torch.ones(1, 1), None, None))
    False
    """
    kind, weights = type(cell), ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    convention = [getattr(cell, one.name) for one in fields(cell) if one.name not in weights]
    key = getattr(kind.output, "__code__", kind.output), cell.hidden_size, *convention
    known = _KNOWN.setdefault(kind, {})
    try:
        hash(key)
    except TypeError:
        return _keeps(cell)
    if any(isinstance(one, Tensor) for one in convention):  # its numbers may change
        return _keeps(cell)
    if key not in known:
        known[key] = _keeps(cell)
    return known[key]


_KNOWN: WeakKeyDictionary[type[RecurrentCell], dict[Any, bool]] = WeakKeyDictionary()


def _keeps(cell: RecurrentCell) -> bool:
    cell = cell.over(lambda weight: _made_up(weight.shape, 0).to(weight.device))
    signals = {}
    for number, signal in enumerate(cell.signals[:-1], 1):
        low, high = max(signal.low, -2.0), min(signal.high, 2.0)
        share = _made_up((3, cell.hidden_size), number).to(cell.weight_hh)
        signals[signal.name] = low + (high - low) * share
    return gated(cell, signals, cell.weight_hh.new_zeros(3, cell.hidden_size)) is not None


def _made_up(shape: Sequence[int], number: int) -> Float64[Tensor, "*any"]:
    """Shares of 1, others in each place, and others for each number."""
    places = torch.arange(math.prod(shape), dtype=torch.double).view(*shape)
    return (places * 0.618 + number * 0.37) % 1


def _near(one: Tensor, other: Tensor, size: Tensor) -> bool:
    return bool(((one - other).abs() <= EXACT * size).all())
