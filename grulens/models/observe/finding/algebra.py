"""What torch's functions make of numbers one by one, as sums of products.

Only what acts on each number by itself, by adding and multiplying, stands here: in that a mix of a
state before and a candidate is made. Everything else (a matrix product, an activation) makes a new
symbol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grulens.cells.mix import Polynomial
from grulens.models.observe.trace import Node, Value

Read = Callable[[Any], Polynomial]
"""From a value, or a number, to what it is made of."""


def made_of(node: Node, read: Read) -> Polynomial | None:
    """What a call of torch makes, as a sum of products of what it was given; None if it is none.

    Args:
        node: the call.
        read: from what it was given to what that is made of.
    """
    rule = _RULES.get(node.function)
    return None if rule is None else rule(node, read)


def adds_up(node: Node) -> bool:
    """Whether a call of torch makes a sum of products of what it was given."""
    if node.adds_up is None:
        node.adds_up = made_of(node, as_one) is not None
    return node.adds_up


def as_one(_: Any) -> Polynomial:
    """Anything as a number: to ask only whether a call is a sum of products."""
    return _ONE


_ONE = Polynomial.number(1)


def as_number(given: Any, eps: float = 0.0) -> float | None:
    """A number that is given to a call of torch, as Python or numpy has it; None if it is none.

    Args:
        given: it.
        eps: the spacing of numbers at 1 in what it is mixed with. What numpy holds as finely as
            that is read as numpy writes it: to what is float32 itself, float32's 0.1 is 0.1.

    >>> as_number(np.float32(0.1), 2**-23), as_number(np.float32(0.1)), as_number(True)
    (0.1, 0.10000000149011612, None)
    """
    if isinstance(given, np.ndarray) and given.size == 1:
        given = given.reshape(-1)[0]
    if isinstance(given, np.floating) and np.finfo(given.dtype).eps <= eps:
        return float(str(given))
    is_number = isinstance(given, Real) and not isinstance(given, bool)
    return float(given) if is_number else None


def same_numbers(value: Value) -> Value:
    """The value whose numbers another one holds in the same order, in another shape or dtype.

    It goes back through views, copies, casts, and through what is laid side by side and cut again.
    """
    if value.plain is None:
        plain = value
        while (before := plain.first or numbers_of(plain)) is not None:
            plain = before.plain or before
        value.plain = plain
    return value.plain


def alike(nodes: Iterable[Node]) -> None:
    """Mark the values of equal calls: what is worked out twice of the same values is one value.

    Args:
        nodes: the calls of a run, in order.
    """
    known: dict[Any, Node] = {}
    for node in nodes:
        if node.in_place or node.function not in _PURE:
            continue
        named = tuple(sorted((name, _key(value)) for name, value in node.kwargs.items()))
        key = node.function, _key(node.args), named
        before = known.setdefault(key, node)
        if before is node or len(before.results) != len(node.results):
            continue
        for one, other in zip(before.results, node.results, strict=True):
            if one is not other and one.node is before and other.node is node:
                other.first = one
                one.again.append(other)


def _key(given: Any) -> Any:
    """What makes two arguments the same."""
    if isinstance(given, Value):
        value = given
        while value.first is not None:
            value = value.first
        return id(value)
    if isinstance(given, tuple | list):
        return tuple(_key(part) for part in given)
    return f"{type(given).__name__} {given!r}"


def numbers_of(value: Value) -> Value | None:
    """The value of which another one is a view, a copy or a cast; None if it is none's."""
    node = value.node
    if node is not None and node.function == "setitem":
        return _filled_by(node)
    if node is None or node.in_place:
        return None
    if node.function in _COPIES or (node.function == "dropout" and not _drops(node)):
        first = node.argument(0, "input")
        return first if isinstance(first, Value) else None
    if node.function in _VIEWS and not _picks(node):
        first = node.argument(0, "input")
        if isinstance(first, Value) and first.shape.numel() == value.shape.numel():
            return first
    if node.function == "getitem" and (kept := _kept(node, value)) is not None:
        return kept
    if node.function in _CUTS:
        return _cut(node, value)
    return None


def _filled_by(node: Node) -> Value | None:
    """What was laid over all numbers of a tensor: `o[:] = h`; None if it was over some."""
    if len(node.args) != 3:
        return None
    whole, index, given = node.args
    parts = index if isinstance(index, tuple) else (index,)
    is_all = all(part is ... or (isinstance(part, slice) and part == slice(None)) for part in parts)
    if not is_all or not isinstance(whole, Value) or not isinstance(given, Value):
        return None
    return given if given.shape == whole.shape else None


def _kept(node: Node, value: Value) -> Value | None:
    """What was laid into a buffer at an index, and is now taken from there; or None."""
    buffer, index = node.argument(0, "input"), node.argument(1, "index")
    while isinstance(buffer, Value) and (by := buffer.node) is not None:
        if by.function != "setitem" or len(by.args) != 3:
            return None
        if not (_is_plain(index) and _is_plain(by.args[1])):
            return None
        if by.args[1] == index:
            given = by.args[2]
            same = isinstance(given, Value) and given.shape == value.shape
            return given if same else None
        if not _apart(index, by.args[1]):
            return None
        buffer = by.args[0]
    return None


def _is_plain(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(isinstance(part, int) or part == slice(None) for part in parts)


def _apart(one: Any, other: Any) -> bool:
    """Whether two plain indices have no number in common: one of their places is another."""
    one = one if isinstance(one, tuple) else (one,)
    other = other if isinstance(other, tuple) else (other,)
    pairs = zip(one, other, strict=False)
    return any(
        isinstance(a, int) and isinstance(b, int) and a != b and (a < 0) == (b < 0)
        for a, b in pairs
    )


def _cut(node: Node, value: Value) -> Value | None:
    """The part that was laid beside others and is now cut out again, or None."""
    whole = node.argument(0, "input")
    if not isinstance(whole, Value):
        return None
    whole = same_numbers(whole) if whole.node is not None else whole
    by = whole.node
    if by is None or by.function not in ("cat", "stack"):
        return None
    parts = by.argument(0, "tensors")
    if not isinstance(parts, tuple | list) or not all(isinstance(p, Value) for p in parts):
        return None
    if node.function == "getitem" and (sliced := _sliced(node, parts, by)) is not None:
        return sliced
    place = value.part if node.function != "getitem" else _place(node)
    same = len(parts) == len(node.results) or node.function == "getitem"
    if place is None or not same or not -len(parts) <= place < len(parts):
        return None
    part: Value = parts[place]
    if by.argument(1, "dim", 0) != _axis(node) or part.shape.numel() != value.shape.numel():
        return None
    return part


def _sliced(node: Node, parts: Any, by: Node) -> Value | None:
    """The part that a slice takes out of what was laid side by side, if it takes just that."""
    index = node.argument(1, "index")
    index = index if isinstance(index, tuple) else (index,)
    cut = [i for i, part in enumerate(index) if part != slice(None)]
    if by.function != "cat" or len(cut) != 1 or not isinstance(index[cut[0]], slice):
        return None
    axis = by.argument(1, "dim", 0)
    if axis % parts[0].tensor.dim() != cut[0]:
        return None
    sizes = [part.shape[cut[0]] for part in parts]
    first, last, step = index[cut[0]].indices(sum(sizes))
    begin = 0
    for part, size in zip(parts, sizes, strict=True):
        if (first, last, step) == (begin, begin + size, 1):
            found: Value = part
            return found
        begin += size
    return None


def _picks(node: Node) -> bool:
    """Whether an index may take numbers out of order: a tensor or a list does."""
    index = node.argument(1, "index") if node.function == "getitem" else None
    parts = index if isinstance(index, tuple) else (index,)
    return not all(part is None or isinstance(part, int | slice) or part is ... for part in parts)


def _place(node: Node) -> int | None:
    """Which part an index takes, if it is one number."""
    index = node.argument(1, "index")
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _axis(node: Node) -> Any:
    """The axis along which a call cuts."""
    if node.function == "getitem":
        return 0
    return node.argument(1 if node.function == "unbind" else 2, "dim", 0)


def _drops(node: Node) -> bool:
    return bool(node.argument(2, "training", True)) and node.argument(1, "p", 0.5) != 0


def _add(node: Node, read: Read) -> Polynomial:
    return read(node.argument(0, "input")) + _other(node, read)


def _sub(node: Node, read: Read) -> Polynomial:
    return read(node.argument(0, "input")) - _other(node, read)


def _other(node: Node, read: Read) -> Polynomial:
    """What is added to something, or taken from it."""
    other = read(node.argument(1, "other"))
    return other * read(node.kwargs["alpha"]) if "alpha" in node.kwargs else other


def _rsub(node: Node, read: Read) -> Polynomial:
    return read(node.argument(1, "other")) - read(node.argument(0, "input"))


def _mul(node: Node, read: Read) -> Polynomial:
    return read(node.argument(0, "input")) * read(node.argument(1, "other"))


def _div(node: Node, read: Read) -> Polynomial | None:
    by = node.argument(1, "other")
    if isinstance(by, Value) or not as_number(by):
        return None
    if node.kwargs.get("rounding_mode") is not None:
        return None
    (inverse,) = (1 / factor for factor in read(by).terms.values())
    return read(node.argument(0, "input")) * inverse


def _einsum(node: Node, read: Read) -> Polynomial | None:
    """A product of numbers one by one: "bu,bu->bu", "u,bu->bu"; None of any other."""
    form = node.args[0] if node.args else None
    factors = node.args[1:]
    if len(factors) == 1 and isinstance(factors[0], tuple | list):
        factors = tuple(factors[0])
    if not isinstance(form, str) or form.count("->") != 1 or node.kwargs:
        return None
    given, made = form.replace(" ", "").split("->")
    names = given.split(",")
    same = all(made.endswith(name) for name in names) and made in names
    if not same or len(set(made)) < len(made) or "." in form or len(names) != len(factors):
        return None
    product = Polynomial.number(1)
    for factor in factors:
        product = product * read(factor)
    return product


def laid(node: Node) -> tuple[Value, ...] | None:
    """What a sum over an axis adds up that was made by laying values side by side; or None."""
    whole, axis = node.argument(0, "input"), node.argument(1, "dim")
    if node.function != "sum" or not isinstance(whole, Value) or not isinstance(axis, int):
        return None
    by = whole.node
    if by is None or by.function != "stack" or set(node.kwargs) - {"dim"} or len(node.args) > 2:
        return None
    parts, depth = by.argument(0, "tensors"), whole.tensor.dim()
    along = by.argument(1, "dim", 0)
    if not isinstance(parts, tuple | list) or along % depth != axis % depth:
        return None
    return tuple(parts) if all(isinstance(one, Value) for one in parts) else None


def _sum(node: Node, read: Read) -> Polynomial | None:
    parts = laid(node)
    return None if parts is None else sum(map(read, parts), Polynomial({}))


def _neg(node: Node, read: Read) -> Polynomial:
    return -read(node.argument(0, "input"))


def _lerp(node: Node, read: Read) -> Polynomial:
    start, end = read(node.argument(0, "input")), read(node.argument(1, "end"))
    return start + read(node.argument(2, "weight")) * (end - start)


def _addcmul(node: Node, read: Read) -> Polynomial:
    one, other = read(node.argument(1, "tensor1")), read(node.argument(2, "tensor2"))
    return read(node.argument(0, "input")) + read(node.kwargs.get("value", 1)) * one * other


def _where(node: Node, read: Read) -> Polynomial | None:
    if len(node.args) + len(node.kwargs) != 3:
        return None
    if node.function == "where" and _is_method(node):
        # x.where(condition, other)
        yes, condition, no = node.args[0], node.argument(1, "condition"), node.argument(2, "other")
    else:
        condition, yes, no = (
            node.argument(0, "condition"), node.argument(1, "input"), node.argument(2, "other")
        )  # fmt: skip
    share = read(condition)
    return share * read(yes) + (1 - share) * read(no)


def _is_method(node: Node) -> bool:
    first = node.args[0] if node.args else None
    return isinstance(first, Value) and first.tensor.dtype is not torch.bool


def _masked_fill(node: Node, read: Read) -> Polynomial:
    mask, value = read(node.argument(1, "mask")), read(node.argument(2, "value"))
    return (1 - mask) * read(node.argument(0, "input")) + mask * value


def _copy(node: Node, read: Read) -> Polynomial:
    return read(node.argument(1, "other"))


def _logical_not(node: Node, read: Read) -> Polynomial | None:
    first = node.argument(0, "input")
    is_bool = isinstance(first, Value) and first.tensor.dtype is torch.bool
    return 1 - read(first) if is_bool else None


def _ones(node: Node, read: Read) -> Polynomial:
    return Polynomial.number(1)


def _zeros(node: Node, read: Read) -> Polynomial:
    return Polynomial.number(0)


MADE_OF_NOTHING: dict[str, Callable[[Node, Read], Polynomial]] = {
    "ones_like": _ones, "ones": _ones, "new_ones": _ones,
    "zeros_like": _zeros, "zeros": _zeros, "new_zeros": _zeros,
}  # fmt: skip
"""Functions that make numbers out of none."""

_RULES: dict[str, Callable[[Node, Read], Polynomial | None]] = {
    "add": _add, "sub": _sub, "rsub": _rsub, "mul": _mul, "div": _div, "neg": _neg, "lerp": _lerp,
    "addcmul": _addcmul, "einsum": _einsum, "where": _where, "masked_fill": _masked_fill,
    "logical_not": _logical_not, "copy": _copy, "sum": _sum,
}  # fmt: skip
_COPIES = {
    "clone", "contiguous", "detach", "to", "type", "type_as", "float", "double", "half", "bfloat16",
    "cpu", "cuda", "positive", "requires_grad", "alias", "data",
}  # fmt: skip
_VIEWS = {"view", "reshape", "squeeze", "unsqueeze", "flatten", "unflatten", "getitem", "view_as",
          "reshape_as", "expand", "expand_as", "ravel", "select", "narrow"}  # fmt: skip
_CUTS = {"chunk", "split", "unbind", "tensor_split", "split_with_sizes", "getitem"}


FAKES = {
    "fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine",
    "fake_quantize_learnable_per_tensor_affine", "fake_quantize_learnable_per_channel_affine",
    "fused_moving_avg_obs_fake_quant",
}  # fmt: skip
"""Functions that round a value to what an integer can say of it, by a scale and a zero point."""
BENDS = {
    *FAKES,
    "tanh", "relu", "sigmoid", "clamp", "clip", "hardtanh", "hardsigmoid", "softsign", "elu",
    "gelu", "silu", "leaky_relu", "selu", "celu", "relu6", "softplus", "layer_norm", "group_norm",
    "rms_norm", "batch_norm", "instance_norm", "normalize", "dropout", "softmax", "exp", "sqrt",
    "log", "abs", "nan_to_num", "mish", "hardswish", "clamp_min", "clamp_max",
    "round", "sign", "sin", "cos", "square", "tanhshrink", "logsigmoid", "threshold",
}  # fmt: skip
"""Functions that bend a value: numbers in, as many numbers out, and no sum of products of them."""
_NORMS = {"layer_norm", "group_norm", "rms_norm", "batch_norm", "instance_norm"}


def bends(node: Node) -> bool:
    """Whether a call bends one value; bounds or a power that are tensors make it one of several."""
    if node.function not in BENDS:
        return False
    return node.function in _NORMS | FAKES or len(node.values) == 1


_PURE = (
    set(_RULES) | _COPIES | _VIEWS | _CUTS | BENDS | {"transpose", "permute", "t", "cat", "stack"}
) - {"dropout", "batch_norm", "fused_moving_avg_obs_fake_quant"}
"""Functions that make the same of the same, and nothing else."""

RANGES = {
    "sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0), "softsign": (-1.0, 1.0), "sin": (-1.0, 1.0), "cos": (-1.0, 1.0),
}  # fmt: skip
"""Least and largest value of what some functions make."""


def fits(value: Tensor, shape: torch.Size) -> bool:
    """Whether a value is one number for each number of a shape, or broadcasts to it."""
    if value.numel() == prod(shape):
        return True
    if value.dim() > len(shape):
        return False
    sizes = zip(reversed(value.shape), reversed(shape), strict=False)
    return all(one in (1, size) for one, size in sizes)
