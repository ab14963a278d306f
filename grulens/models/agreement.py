"""Whether what an adapter says of a module is what the module does; and if not, what would be.

Step by step: each state is computed from the state that the module itself had before it, so that
a small difference cannot grow over time into one that looks like a wrong convention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations, product
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from grulens.errors import AdapterError, ConventionError
from grulens.gru.activations import HARD_SIGMOID_KERAS2, HARD_SIGMOID_KERAS3, Activation
from grulens.gru.cell import Cell
from grulens.models.adapters import Adapter
from grulens.models.calls import Call, Key
from grulens.models.segment import Segment
from grulens.models.whole import grads

_settled: WeakKeyDictionary[nn.Module, Adapter] = WeakKeyDictionary()
ROWS, STEPS = 4, 64
"""How much of a run is looked at to find the convention that fits."""


def agreed(adapter: Adapter, module: nn.Module) -> bool:
    """Whether this module has been compared with what its adapter says, and was told apart."""
    return adapter.vouched or _settled.get(module) is adapter


def compare(adapter: Adapter, module: nn.Module, call: Call, result: Any, name: str) -> None:
    """Compare one call with what the module returned for it.

    Raises:
        AdapterError: they differ; the message says by how much, and which convention would fit.
    """
    with grads(False):
        cells = adapter.cells_of(module)
        body = call.enter(result)
        run = call.run(cells)
        x, h = run.inputs[-1], call.form.rows(body)
        limit = torch.finfo(h.dtype).eps ** 0.5 / 4 * max(1.0, float(h.abs().max()))
        off = _off(call, cells, x, h)
        if not off <= limit:
            raise AdapterError(_mismatch(module, call, cells, x, h, off, limit, name))
        run.body, run.h_n = body, torch.cat([run.h_n[: -call.directions], call.last(body)])
        _compare_results(module, call.leave(run), result, limit, name)
        # an input on which the other place of the reset gate gives the same proves nothing yet
        other = {key: replace(c, reset_after=not c.reset_after) for key, c in cells.items()}
        if _off(call, other, x, h) > limit:
            _settled[module] = adapter


def _off(call: Call, cells: dict[Key, Cell], x: Tensor, h: Tensor) -> float:
    """Max difference between the module's states of the last level and one step from each."""
    worst = 0.0
    for direction, states in enumerate(h.chunk(call.directions, 2)):
        key = (call.levels - 1, direction)
        segment = Segment(
            cells[key], lambda: x, lambda: h, call.state_of(key), call.steps, call.form.lengths,
            bool(direction), None,
        )  # fmt: skip
        before = segment.before(states)
        gates = segment.gates(x, before)
        error = (torch.lerp(gates.n, before, gates.z) - states).abs()[segment.mask]
        worst = max(worst, float(error.max().nan_to_num(nan=torch.inf)))
    return worst


def _mismatch(
    module: nn.Module, call: Call, cells: dict[Key, Cell], x: Tensor, h: Tensor, off: float,
    limit: float, name: str,
) -> str:  # fmt: skip
    text = (
        f"the adapter of {type(module).__name__} does not say what the module computes: at layer "
        f"{name!r} their states differ by {off:.2g} (expected at most {limit:.0e})"
    )
    steps = min(call.steps, STEPS)
    if call.form.lengths is None and call.directions == 1:
        part = replace(call, body=call.body[:steps, :ROWS], h_0=call.h_0[:, :ROWS])
        x, h = x[:ROWS, :steps], h[:ROWS, :steps]
    else:
        part = call
    best = torch.inf
    for words, change in _alternatives(cells[0, 0]):
        try:
            other = _off(part, {key: change(cell) for key, cell in cells.items()}, x, h)
        except ConventionError:
            continue  # a gate for which z cannot be swapped
        if other <= limit:
            return f"{text}. What fits is {words} (a difference of {other:.0e})"
        best = min(best, other)
    text += f". No convention that grulens knows fits; the nearest differs by {best:.2g}"
    if module.training and call.levels > 1:
        text += "; it is in training mode: if it has dropout between its layers, use model.eval()"
    return text


def _alternatives(cell: Cell) -> Iterator[tuple[str, Callable[[Cell], Cell]]]:
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


def _compare_results(module: nn.Module, made: Any, result: Any, limit: float, name: str) -> None:
    """Raise AdapterError unless `result` of the adapter makes what the module returned."""
    ours, shape = tree_flatten(made)
    theirs, expected = tree_flatten(result)
    kind = type(module).__name__
    if shape != expected:
        raise AdapterError(
            f"'result' of the adapter of {kind} gives {_looks(made)}; the module returned "
            f"{_looks(result)} at layer {name!r}"
        )
    for one, other in zip(ours, theirs, strict=True):
        if not isinstance(other, Tensor):
            continue
        if not isinstance(one, Tensor) or one.shape != other.shape:
            raise AdapterError(
                f"'result' of the adapter of {kind} gives {_looks(one)} where the module returned "
                f"{_looks(other)} at layer {name!r}"
            )
        if other.is_floating_point():
            off = float((one - other).abs().max()) if one.numel() else 0.0
            if not off <= 10 * limit:
                raise AdapterError(
                    f"'result' of the adapter of {kind} gives values that differ from what the "
                    f"module returned by {off:.2g} at layer {name!r}"
                )


def _looks(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
