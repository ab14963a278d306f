"""Along which axes of a state its units are added up: rows stand along an axis that nobody adds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from grulens.models.observe.trace import Node, Value

_TURNING = {"t", "T", "mT", "transpose", "permute", "swapaxes", "moveaxis", "adjoint", "H", "mH"}
_PRODUCTS = {"matmul", "mm", "rmatmul", "linear", "addmm", "einsum"}


def added_along(nodes: Iterable[Node], shape: torch.Size) -> dict[int, Node]:
    """The axes of values of a shape along which products with weights add up, each with the call.

    Args:
        nodes: calls of torch.
        shape: of two axes.
    """
    found: dict[int, Node] = {}
    for node in nodes:
        for value, axis, other in _products(node) if node.function in _PRODUCTS else ():
            plain, turned = _plain(value)
            weight, _ = _plain(other)
            own = 1 - axis if turned else axis
            if (
                (plain.shape == shape or _is_beside(plain, own, shape))
                and weight.node is None
                and isinstance(weight.tensor, nn.Parameter)
            ):
                found.setdefault(own, node)
    return found


def _is_beside(value: Value, axis: int, shape: torch.Size) -> bool:
    """Whether a value is one of a shape, laid beside others along an axis."""
    node = value.node
    if node is None or node.function != "cat" or len(value.shape) != 2:
        return False
    parts, along = node.argument(0, "tensors"), node.argument(1, "dim", 0)
    return along % 2 == axis and any(isinstance(one, Value) and one.shape == shape for one in parts)


def _products(node: Node) -> Iterator[tuple[Value, int, Value]]:
    """The factors of a product of matrices: each with the axis that is added up, and the other."""
    factors = [value for value in node.args if isinstance(value, Value)]
    if node.function == "addmm":
        factors = factors[1:]
    if len(factors) < 2 or any(len(value.shape) != 2 for value in factors[:2]):
        return
    one, other = factors[:2]
    if node.function == "einsum":
        yield from _of_einsum(node, one, other)
        return
    if node.function == "rmatmul":
        one, other = other, one
    yield one, 1, other
    yield other, 1 if node.function == "linear" else 0, one


def _of_einsum(node: Node, one: Value, other: Value) -> Iterator[tuple[Value, int, Value]]:
    form = node.args[0].replace(" ", "") if isinstance(node.args[0], str) else ""
    given, _, made = form.partition("->")
    names = given.split(",")
    if len(names) != 2 or any(len(name) != 2 for name in names):
        return
    for value, name, beside in ((one, names[0], other), (other, names[1], one)):
        for axis, letter in enumerate(name):
            if letter not in made:
                yield value, axis, beside


def _plain(value: Value) -> tuple[Value, bool]:
    """The value of which another one is the transpose, and whether it is."""
    turned = False
    while value.node is not None and value.node.function in _TURNING and len(value.shape) == 2:
        first = value.node.argument(0, "input")
        if not isinstance(first, Value) or len(first.shape) != 2:
            break
        value, turned = first, not turned
    return value, turned
