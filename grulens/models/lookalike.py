"""Modules that look like a GRU and are not known: named, with the lines that register them.

A GRU can be told from its weights: two of 3 H rows, or three pairs, one of each pair square; and
from a forward that takes a state. Its convention cannot, so it is not guessed: the comparison on
first use finds it.
"""

from __future__ import annotations

import inspect
import re
from itertools import pairwise

import torch
from torch import Tensor, nn

STATE = re.compile(r"^(h|hx|h_?0|h_?prev|prev_?h|h_?t?m?1|h_?last|hid|hidden.*|state.*|init.*)$")


def how_to_register(module: nn.Module) -> str | None:
    """What to say, after its name, about a module that looks like a GRU, or None.

    >>> class Mine(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.x2h, self.h2h = nn.Linear(2, 9), nn.Linear(3, 9)
    ...     def forward(self, x, hidden): ...
    >>> print(how_to_register(Mine()))
    (Mine) looks like a GRU of 3 units: it has weights of 3 x 3 rows and a forward that takes a \
state. If it is one, say so:
        from grulens import Cell, StepAdapter, register
        cell = lambda m: Cell(m.x2h.weight, m.h2h.weight, m.x2h.bias, m.h2h.bias)
        register(Mine, StepAdapter(cell))
    with its rows in the order r, z, n; SequenceAdapter, if it takes whole sequences. What you say \
is compared with what it computes.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return None  # it has no forward that could be looked at
    if not any(STATE.match(name.lower()) for name in _takes(module)[1:]):
        return None
    weights = _weights(module)
    found = _packed(weights) or _split(weights)
    if found is None:
        return None
    units, ih, hh = found
    b_ih, b_hh = (_bias(module, names) for names in (ih, hh))
    parts = ", ".join([_stacked(ih), _stacked(hh), b_ih, b_hh])
    rows = "weights of 3 x {0} rows" if len(ih) == 1 else "three pairs of weights of {0} rows"
    kind = type(module).__name__
    return (
        f"({kind}) looks like a GRU of {units} units: it has "
        f"{rows.format(units)} and a forward that takes a state. If it is one, say so:\n"
        "    from grulens import Cell, StepAdapter, register\n"
        f"    cell = lambda m: Cell({parts})\n"
        f"    register({kind}, StepAdapter(cell))\n"
        "with its rows in the order r, z, n; SequenceAdapter, if it takes whole sequences. What "
        "you say is compared with what it computes."
    )


def _takes(module: nn.Module) -> tuple[str, ...]:
    """The names of what its forward takes; every module of a model is asked, so no signature."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return () if code is None else code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]


def _weights(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Its own matrices and those of its linear parts, (rows, columns) by how they are written."""
    own = module.named_parameters(recurse=False)
    found: dict[str, Tensor] = {f"m.{name}": weight for name, weight in own if weight.dim() == 2}
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            found[f"m.{name}.weight"] = child.weight
    shapes, transposed = {}, _transposed(found)
    for name, weight in found.items():
        rows, columns = weight.shape
        turned = rows != 3 * columns and columns == 3 * rows
        turned = turned or (rows, columns) in transposed
        shapes[name + (".t()" if turned else "")] = (columns, rows) if turned else (rows, columns)
    return shapes


def _transposed(found: dict[str, Tensor]) -> set[tuple[int, int]]:
    """Shapes (input, 3 H) that stand beside a state's weight of (H, 3 H)."""
    states = [w.shape for w in found.values() if w.shape[1] == 3 * w.shape[0]]
    return {(w.shape[0], w.shape[1]) for w in found.values() for s in states if w.shape[1] == s[1]}


def _packed(weights: dict[str, tuple[int, int]]) -> tuple[int, list[str], list[str]] | None:
    """One weight of 3 H rows for the input and one for the state."""
    for (one, a), (other, b) in pairwise(weights.items()):
        if a[0] == b[0] and a[0] == 3 * b[1]:
            return b[1], [one], [other]
        if a[0] == b[0] == 3 * a[1]:
            return a[1], [other], [one]
    return None


def _split(weights: dict[str, tuple[int, int]]) -> tuple[int, list[str], list[str]] | None:
    """Three weights for the input and three square ones for the state."""
    heights = {shape[0] for shape in weights.values()}
    for units in sorted(heights):
        mine = {name: shape for name, shape in weights.items() if shape[0] == units}
        square = [name for name, shape in mine.items() if shape[1] == units]
        other = [name for name, shape in mine.items() if shape[1] != units]
        if len(square) == len(other) == 3:
            return units, other, square
        if len(square) == 6 and not other:  # as many inputs as units
            return units, square[::2], square[1::2]
    return None


def _stacked(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"torch.cat([{', '.join(names)}])"


def _bias(module: nn.Module, weights: list[str]) -> str:
    """The biases that go with weights, by their names; None where there is none."""
    names = []
    for weight in weights:
        parts = weight.removesuffix(".t()").split(".")[1:]
        parts[-1] = parts[-1].replace("weight", "bias").replace("W", "b").replace("w", "b")
        holder = module.get_submodule(".".join(parts[:-1]))
        bias = getattr(holder, parts[-1], None)
        if ".".join(["m", *parts]) == weight or not isinstance(bias, Tensor) or bias.dim() != 1:
            return "None"
        names.append(".".join(["m", *parts]))
    return _stacked(names)
