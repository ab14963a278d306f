"""Between which numbers a value lies, as far as the functions that made it say so.

A gate is what goes from 0 to 1: a sigmoid, and 1 / (1 + exp(-p)), a product of gates or one minus
such, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from grulens.cells.mix import Polynomial
from grulens.models.observe.finding.algebra import (
    FAKES,
    MADE_OF_NOTHING,
    RANGES,
    as_one,
    made_of,
    same_numbers,
)
from grulens.models.observe.trace import Node, Value

Range = tuple[float, float]
ANY: Range = (-math.inf, math.inf)
DEEP = 12
"""How many calls behind one another are looked at."""


def range_of(value: Any) -> Range:
    """The least and the largest number that a value may have; infinite where nobody says.

    Args:
        value: a `Value`, or a number.
    """
    return _range(value, DEEP)[0]


def _range(value: Any, deep: int) -> tuple[Range, float]:
    """The range of a value behind so many calls, and behind how many more it is the same.

    It is worked out once, whoever asks for it; where all calls behind it were looked at, once for
    however many may be.
    """
    if isinstance(value, bool | int | float):
        return (float(value), float(value)), 0.0
    if not isinstance(value, Value):
        return ANY, 0.0
    value = same_numbers(value)
    if value.tensor.dtype is torch.bool:
        return (0.0, 1.0), 0.0
    node = value.node
    if node is None:
        return ANY, 0.0
    if not deep:
        return ANY, math.inf
    known: dict[int, tuple[Range, float]] = value.ranges or {}
    value.ranges = known
    if deep in known:
        return known[deep]
    needed = 1.0

    def of(one: Any) -> Range:
        nonlocal needed
        range_, behind = _range(one, deep - 1)
        needed = max(needed, behind + 1)
        return range_

    found = _made(node, of), needed
    every = (deep,) if needed > deep else range(int(needed), DEEP + 1)
    known |= dict.fromkeys(every, found)
    return found


def _made(node: Node, of: Callable[[Any], Range]) -> Range:
    """The range of what a call makes, from those of what it is given."""
    if node.function in MADE_OF_NOTHING and not node.in_place:
        number = MADE_OF_NOTHING[node.function](node, as_one).terms.get((), 0.0)
        return number, number
    if node.function in RANGES and node.function != "hardtanh":
        return RANGES[node.function]

    first = node.argument(0, "input")
    if node.function in _PARTS | FAKES:
        parts = first if isinstance(first, tuple | list) else [first]
        return _around(*map(of, parts))
    if node.function in ("where", "lerp"):
        return _chosen(node, of)
    if node.function == "pow":
        return _power(of(first), node.argument(1, "exponent"))
    if (act := _ACT.get(node.function)) is not None:
        return act(node, of(first), of)
    return _of_sum(node, of)


def is_gate(value: Value) -> bool:
    """Whether a value goes from 0 to 1, as a gate does."""
    return range_of(value) == (0, 1)


def _around(*ranges: Range) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _chosen(node: Node, of: Callable[[Any], Range]) -> Range:
    """What takes one number or another, or lies between two."""
    values = [*node.args, *node.kwargs.values()]
    if len(values) != 3:
        return ANY
    is_share = node.function == "lerp" and of(values[2]) == (0, 1)
    if node.function == "lerp":
        return _around(of(values[0]), of(values[1])) if is_share else ANY
    both = [one for one in values if not _is_bool(one)]
    return _around(*map(of, both)) if len(both) == 2 else ANY


def _is_bool(one: Any) -> bool:
    return isinstance(one, Value) and one.tensor.dtype is torch.bool


def _power(base: Range, by: Any) -> Range:
    if isinstance(by, bool) or not isinstance(by, int | float) or base[0] < 0:
        even = isinstance(by, int) and by % 2 == 0 and by > 0
        most = max(-base[0], base[1])
        return (0.0, _raised(most, by)) if even else ANY
    ends = _raised(base[0], by), _raised(base[1], by)
    return min(ends), max(ends)


def _raised(base: float, by: int | float) -> float:
    if base == 0 and by < 0:
        return math.inf
    if base == math.inf:
        return math.inf if by > 0 else 0.0
    try:
        return float(base**by)
    except OverflowError:
        return math.inf


def _clamped(node: Node, inner: Range, of: Callable[[Any], Range]) -> Range:
    names = ("min_val", "max_val") if node.function == "hardtanh" else ("min", "max")
    least, most = node.argument(1, names[0]), node.argument(2, names[1])
    if node.function == "hardtanh":
        least, most = (-1.0 if least is None else least), (1.0 if most is None else most)
    low, high = inner
    if isinstance(least, int | float):
        low, high = max(low, float(least)), max(high, float(least))
    if isinstance(most, int | float):
        low, high = min(low, float(most)), min(high, float(most))
    return low, high


def _upside_down(range_: Range) -> Range:
    low, high = range_
    return (_raised(high, -1), _raised(low, -1)) if low >= 0 else ANY


def _quotient(node: Node, above: Range, below: Range) -> Range:
    if node.kwargs.get("rounding_mode") is not None:
        return ANY
    under = _upside_down(below)
    return _times(above, under) if under != ANY else ANY


def _times(one: Range, other: Range) -> Range:
    ends = [0.0 if 0 in (a, b) else a * b for a in one for b in other]
    return min(ends), max(ends)


def _of_sum(node: Node, of: Callable[[Any], Range]) -> Range:
    """What is a sum of products."""
    ranges: dict[str, Range] = {}
    total = made_of(node, lambda one: _named(one, of, ranges))
    if total is None:
        return ANY
    low = high = 0.0
    for product, factor in total.terms.items():
        part = (factor, factor)
        for name in dict.fromkeys(product):
            times = product.count(name)
            part = _times(part, _power(ranges[name], times) if times > 1 else ranges[name])
        low, high = low + part[0], high + part[1]
    return low, high


def _named(one: Any, of: Callable[[Any], Range], ranges: dict[str, Range]) -> Polynomial:
    """A number, or a symbol of a value, whose range is noted under the symbol."""
    if isinstance(one, int | float):
        return Polynomial.number(one)
    name = str(id(same_numbers(one))) if isinstance(one, Value) else "?"
    ranges[name] = of(one)
    return Polynomial.of(name)


_Act = Callable[[Node, Range, Callable[[Any], Range]], Range]


def _grows(function: Callable[[float], float]) -> _Act:
    """The range behind a function that grows with what it is given."""
    return lambda node, inner, of: (function(inner[0]), function(inner[1]))


def _exp(number: float) -> float:
    return math.inf if number > 700 else math.exp(number)


_ACT: dict[str, _Act] = {
    "relu": _grows(lambda n: max(n, 0.0)),
    "relu6": _grows(lambda n: min(max(n, 0.0), 6.0)),
    "exp": _grows(_exp),
    "sqrt": _grows(lambda n: math.sqrt(max(n, 0.0))),
    "softplus": lambda node, inner, of: (0.0, math.inf),
    "square": lambda node, inner, of: _power(inner, 2),
    "abs": lambda node, inner, of: (0.0, max(-inner[0], inner[1])),
    "hardtanh": _clamped,
    "clamp": _clamped,
    "clip": _clamped,
    "reciprocal": lambda node, inner, of: _upside_down(inner),
    "rdiv": lambda node, inner, of: _quotient(node, of(node.argument(1, "other")), inner),
    "div": lambda node, inner, of: _quotient(node, inner, of(node.argument(1, "other"))),
}
"""From a call and the range of its first argument to that of what it makes."""
_PARTS = {
    "chunk", "split", "unbind", "getitem", "tensor_split", "split_with_sizes", "select", "narrow",
    "transpose", "permute", "t", "view", "reshape", "unsqueeze", "expand", "expand_as", "repeat",
    "stack", "cat", "mean", "flip", "roll", "squeeze", "flatten", "unflatten",
}  # fmt: skip
"""Functions that make numbers which lie between those that they are given."""
