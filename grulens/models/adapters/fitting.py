"""What would fit, where a module does not do what its adapter says: another convention, or words.

Either the cell is read the wrong way, and then another convention holds at every step; or the
module does more than its cell, and then the values that are off say what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations, product

import torch
from torch import Tensor

from grulens.cells.activations import HARD_SIGMOID_KERAS2, HARD_SIGMOID_KERAS3, Activation
from grulens.cells.kinds.gru import Cell

ROUNDED = 1e-4
"""What is told apart in words; how exactly a module agrees is said by a number."""


def what_it_does(before: Tensor, said: Tensor, found: Tensor, anew: Tensor) -> str | None:
    """What a module does to its state at the steps at which it does not do what is said, or None.

    Args:
        before: the state before each of these steps, (step, unit).
        said: what the state after it would be, likewise.
        found: what it is.
        anew: what it would be after a step from a state of zeros.

    >>> before, said = torch.tensor([[0.1, 0.2]]), torch.tensor([[0.5, 0.9]])
    >>> what_it_does(before, said, before, said)
    'keeps the state before it, as a mask does'
    >>> what_it_does(before, said, said.clamp(max=0.6), said)
    'clips the state at 0.6'
    """
    off = ~_same(said, found)
    if not off.any():
        return None
    if _same(found, before).all():
        return "keeps the state before it, as a mask does"
    if _same(found, anew).all():
        return (
            "starts from a state of zeros, as a done flag does (`arguments` can give h_prev as "
            "the module makes it of its own arguments)"
        )
    if (found == 0).all():
        return "sets the state to 0"
    if _same(found, before)[off].all():
        return "keeps some units' state before it, as zoneout does"
    sizes = found[off].abs()
    if _same(sizes, sizes[0]).all() and (said[off].abs() > sizes - ROUNDED).all():
        return f"clips the state at {float(sizes[0]):.3g}"
    moved = (found != 0) & (said.abs() > ROUNDED)
    share = found[moved] / said[moved]
    if moved.any() and _same(share, share[0]).all():
        if ((found == 0) & (said.abs() > ROUNDED)).any():
            return (
                f"sets some units' state to 0 and multiplies others by {float(share[0]):.3g}, "
                "as dropout does"
            )
        return f"multiplies the state by {float(share[0]):.3g}"
    if (found == 0)[off].all():
        return "sets some units' state to 0, as dropout does"
    return None


def _same(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs() <= ROUNDED


def alternatives(cell: Cell) -> Iterator[tuple[str, Callable[[Cell], Cell]]]:
    """Other conventions in words and as what they make of a cell, the nearest first."""
    orders = [o for o in permutations("rzn") if o != tuple("rzn")]
    rows: list[tuple[str, Callable[[Cell], Cell]]] = [
        (
            f"rows in the order {', '.join(order)} (reorder them to r, z, n)",
            _reorder("".join(order)),
        )
        for order in orders
    ]
    gates: dict[str, Activation] = {
        "gate=torch.sigmoid": torch.sigmoid,
        "gate=Keras 2's hard sigmoid, 0.2 x + 0.5": HARD_SIGMOID_KERAS2,
        "gate=Keras 3's hard sigmoid, x / 6 + 0.5": HARD_SIGMOID_KERAS3,
    }
    candidates: dict[str, Activation] = {
        "candidate=torch.tanh": torch.tanh,
        "candidate=torch.relu": torch.relu,
    }
    same: tuple[str, Callable[[Cell], Cell]] = ("", lambda cell: cell)
    flip = f"the reset gate on the other side of the product (reset_after={not cell.reset_after})"
    other_gates = [
        (words, lambda c, gate=gate: replace(c, gate=gate))
        for words, gate in gates.items()
        if gate is not cell.gate
    ]
    other_candidates = [
        (words, lambda c, candidate=candidate: replace(c, candidate=candidate))
        for words, candidate in candidates.items()
        if candidate is not cell.candidate
    ]
    options = [
        [same, *rows],
        [same, (flip, lambda c: replace(c, reset_after=not c.reset_after))],
        [same, *other_gates],
        [same, *other_candidates],
        [same, ("z and 1 - z swapped (Cell.z_swapped)", Cell.z_swapped)],
    ]
    every = [[part for part in choice if part[0]] for choice in product(*options)]
    for parts in sorted(every, key=len):
        if parts:
            yield " and ".join(words for words, _ in parts), _all([f for _, f in parts])


def _all(changes: list[Callable[[Cell], Cell]]) -> Callable[[Cell], Cell]:
    def change(cell: Cell) -> Cell:
        for one in changes:
            cell = one(cell)
        return cell

    return change


def _reorder(order: str) -> Callable[[Cell], Cell]:
    def rows(tensor: Tensor) -> Tensor:
        blocks = tensor.chunk(3)
        return torch.cat([blocks[order.index(gate)] for gate in "rzn"])

    return lambda cell: cell.over(rows)
