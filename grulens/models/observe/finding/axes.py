"""Which axes of a state weights work on, and which lie side by side: its channels and its places.

Rows stand along an axis that no weights add up; channels along the one that they do, of a
convolution's result as of that of a Linear. So an axis is followed back, call by call, through
whatever turns, cuts or joins it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn

from grulens.models.observe.finding.carried import ancestors
from grulens.models.observe.trace import Node, Value

TURNS = frozenset({
    "T", "mT", "H", "mH", "t", "adjoint", "transpose", "swapaxes", "swapdims", "permute",
    "movedim", "moveaxis",
})  # fmt: skip
"""Functions that lay axes in another order."""
_SHAPED = {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel", "view_as",
           "reshape_as"}  # fmt: skip
_CUT = {"chunk", "split", "split_with_sizes", "tensor_split", "narrow", "index_select", "cat",
        "hstack", "vstack"}  # fmt: skip
_MATRICES = {"matmul", "mm", "bmm", "mv", "rmatmul", "linear", "addmm", "baddbmm", "einsum"}
_NORMS = {"layer_norm", "rms_norm", "group_norm", "batch_norm", "instance_norm"}
_UNKNOWN = {"tensordot", "kron", "outer", "ger"}
_Labels = list[Any]
_At = tuple[Value, int]
"""A value, and one of its axes."""


@dataclass(frozen=True)
class Act:
    """What weights do to the axes of a value.

    Attributes:
        value: what they act on.
        added: its axis of channels: they add up along it, or have a number for each part of it.
        made: the axis of the result along which what they make stands; None if it has none.
        places: the axes along which they do the same at every place.
        is_norm: whether they only scale.
        is_apart: whether there is a matrix of its own for each part of another axis.
    """

    value: Value
    added: int
    made: int | None
    places: tuple[int, ...] = ()
    is_norm: bool = False
    is_apart: bool = False


def added_along(nodes: Iterable[Node], before: Node) -> dict[int, Node]:
    """The axes of a state along which products with weights add it up, each with the call.

    Args:
        nodes: calls of torch, behind that which made the state.
        before: it.
    """
    found: dict[int, Node] = {}
    for node in nodes:
        act = act_of(node) if node.function in _MATRICES else None
        if act is not None and not act.is_apart:
            for _, axis in _origins(act.value, act.added, lambda one: one is before):
                found.setdefault(axis, node)
    return found


def channel_of(states: Sequence[Node], rows: int | None) -> int | None:
    """The axis of a state along which its channels lie; None where nothing tells, or not one axis.

    What makes the state tells, and what its next step does with it: products with weights before
    norms. Where a convolution says of all other axes that they are places, it is the last one left.
    Weights that differ along an axis, a matrix a layer, make no places of it: then neither is.

    Args:
        states: the calls that made states of its site, in order.
        rows: the axis along which its rows lie; None if it has none.
    """
    last, is_state = states[-1], {id(node) for node in states}
    axes = [axis for axis in range(last.results[0].tensor.dim()) if axis != rows]
    strong, weak, apart, places = set[int](), set[int](), set[int](), set[int]()
    for axis in axes:
        for act, at in _makers(last.results[0], axis, is_state):
            if at == act.made:
                (apart if act.is_apart else weak if act.is_norm else strong).add(axis)
            elif at in act.places:
                places.add(axis)
    met = set[Any]()
    for node in ancestors(last.results[0], states[0].number):
        used = None if node.site in met else act_of(node)
        if used is None:
            continue
        kinds = [(used.added, apart if used.is_apart else weak if used.is_norm else strong)]
        for at, kind in (*kinds, *((at, places) for at in used.places)):
            ends = {axis for _, axis in _origins(used.value, at, lambda one: id(one) in is_state)}
            kind.update(ends - {rows})
            met |= {node.site} if ends else set()
    found = strong or weak or ({*axes} - places if places else set[int]())
    return next(iter(found)) if len(found) == 1 and not apart else None


def act_of(node: Node) -> Act | None:
    """What a call does with weights; None if it has none, or does none of what is known here."""
    first = node.argument(0, "input")
    if node.function.startswith("conv") and isinstance(first, Value):
        return _of_conv(node, first)
    if node.function in _NORMS and isinstance(first, Value):
        axis = 1
        if node.function in ("layer_norm", "rms_norm"):
            shape = node.argument(1, "normalized_shape", ())
            axis = len(first.shape) - 1 if len(tuple(shape)) == 1 else len(first.shape)
        return Act(first, axis, axis, is_norm=True) if axis < len(first.shape) else None
    factors = _factors(node)
    if factors is None or len(factors[0]) != 2:
        return None
    (one, two), made = factors
    for (value, names), (weight, own) in ((one, two), (two, one)):
        shared = [name for name in own if name in names and name not in made]
        new = [name for name in own if name not in names and name in made]
        is_weight = (node.function == "linear" and weight is two[0]) or _is_weight(weight)
        if is_weight and len(shared) == 1 and len(new) <= 1:
            at = made.index(new[0]) if new else None
            is_apart = len(own) > len(shared) + len(new)
            return Act(value, names.index(shared[0]), at, is_apart=is_apart)
    return None


def _of_conv(node: Node, value: Value) -> Act | None:
    many = node.function[-2:-1]
    channel = len(value.shape) - 1 - int(many) if many in ("1", "2", "3") else -1
    if channel not in (0, 1):
        return None
    return Act(value, channel, channel, tuple(range(channel + 1, len(value.shape))))


def _is_weight(value: Value) -> bool:
    """Whether a value is a parameter, or made of parameters alone."""
    stack, seen = [value], {id(value)}
    while stack:
        one = stack.pop()
        made_of = one.node.values if one.node is not None else ()
        if not made_of and (one.node is not None or not isinstance(one.tensor, nn.Parameter)):
            return False
        stack += [each for each in made_of if id(each) not in seen]
        seen |= set(map(id, made_of))
    return True


def _factors(node: Node) -> tuple[list[tuple[Value, _Labels]], _Labels] | None:
    """The factors of a product of matrices, and what it makes: each with a name for every axis."""
    if node.function not in _MATRICES:
        return None
    given = [one for one in (*node.args, *node.kwargs.values()) if isinstance(one, Value)]
    if node.function == "einsum":
        return _of_einsum(node)
    if node.function in ("addmm", "baddbmm"):
        given = given[1:]
    if len(given) < 2 or not all(len(one.shape) for one in given[:2]):
        return None
    one, two = given[:2]
    if node.function == "linear":
        around: _Labels = list(range(len(one.shape) - 1))
        made = [*around, "new"] if len(two.shape) == 2 else around
        return [(one, [*around, "added"]), (two, ["new", "added"][-len(two.shape) :])], made
    if node.function == "rmatmul":
        one, two = two, one
    deep = max(len(one.shape), len(two.shape)) - 2
    left = [*range(deep - len(one.shape) + 2, deep), "left", "added"]
    right = [*range(deep - len(two.shape) + 2, deep), "added", "right"]
    left = left if len(one.shape) > 1 else ["added"]
    right = right if len(two.shape) > 1 else ["added"]
    names = [*range(deep), *(name for name in ("left", "right") if name in (*left, *right))]
    return [(one, left), (two, right)], names


def _of_einsum(node: Node) -> tuple[list[tuple[Value, _Labels]], _Labels] | None:
    form = node.args[0].replace(" ", "") if node.args and isinstance(node.args[0], str) else ""
    values: Any = node.args[1:]
    if len(values) == 1 and isinstance(values[0], tuple | list):
        values = values[0]
    given, arrow, made = form.partition("->")
    names = given.split(",")
    known = len(names) == len(values) and all(isinstance(one, Value) for one in values)
    if not arrow or "." in form or not known or any(len({*one}) < len(one) for one in names):
        return None
    return [(one, [*letters]) for one, letters in zip(values, names, strict=True)], [*made]


def _origins(value: Value, axis: int, is_end: Callable[[Node], bool]) -> Iterator[_At]:
    """The values that some calls made to which an axis of a value goes back, each with its own."""
    stack, seen = [(value, axis)], {(id(value), axis)}
    while stack:
        one = stack.pop()
        if one[0].node is not None and is_end(one[0].node):
            yield one
            continue
        for before in _back(*one):
            if (id(before[0]), before[1]) not in seen:
                seen.add((id(before[0]), before[1]))
                stack.append(before)


def _makers(value: Value, axis: int, is_state: set[int]) -> Iterator[tuple[Act, int]]:
    """What weights do on the way to an axis of a state, each with the axis of their result."""
    stack, seen, many = [(value, axis)], {(id(value), axis)}, value.shape.numel()
    while stack:
        one, at = stack.pop()
        node = one.node
        if node is None or (one is not value and id(node) in is_state):
            continue
        act = act_of(node)
        if act is not None:
            yield act, at
        for before in _back(one, at):
            # what has one number for many of the state's (a gate a head) tells nothing of those
            is_whole = before[0].shape.numel() >= many
            if is_whole and (id(before[0]), before[1]) not in seen:
                seen.add((id(before[0]), before[1]))
                stack.append(before)


def _back(value: Value, axis: int) -> Iterator[_At]:
    """Which axes of what a call was given an axis of its result is."""
    node = value.node
    if node is None or node.function in _UNKNOWN:
        return
    first = node.argument(0, "input")
    if node.function in _MATRICES:
        factors = _factors(node)
        name = factors[1][axis] if factors and axis < len(factors[1]) else None
        for one, names in factors[0] if factors else ():
            if name in names:
                yield one, names.index(name)
    elif node.function.startswith("conv"):
        act = act_of(node)
        if act is not None and axis != act.made:
            yield act.value, axis
    elif node.function == "stack":
        along = node.argument(1, "dim", 0) % len(value.shape)
        for one in first if axis != along and isinstance(first, tuple | list) else ():
            if isinstance(one, Value):
                yield one, axis - (axis > along)
    elif node.function in TURNS | _SHAPED | {"getitem", "select", "unbind"}:
        at = _turned(node, value, axis) if isinstance(first, Value) else None
        if at is not None:
            yield first, at
    else:
        yield from _kept(node, value, axis)


def _kept(node: Node, value: Value, axis: int) -> Iterator[_At]:
    """The axes of what a call was given that leaves all axes where they are."""
    for number, one in enumerate(node.values):
        own = axis - (len(value.shape) - len(one.shape))
        if not 0 <= own < len(one.shape):
            continue
        sizes = zip(reversed(one.shape), reversed(value.shape), strict=False)
        fits = len(one.shape) <= len(value.shape) and all(a in (1, b) for a, b in sizes)
        is_same = one.shape[own] == value.shape[axis] and (fits or (number == 0 and own == axis))
        if is_same or (node.function in _CUT and own == axis):
            yield one, own


def _turned(node: Node, value: Value, axis: int) -> int | None:
    """The axis of what a call was given that an axis of its result is; None if none is alone."""
    first = node.argument(0, "input")
    depth = len(first.shape)
    if node.function in TURNS:
        # of sizes that are all others, the result tells which axis is which
        told = torch.empty(tuple(range(2, depth + 2)), device="meta")
        given = [told if one is first else one for one in node.args]
        try:
            sizes = node.call(*given, **node.kwargs).shape
        except (RuntimeError, TypeError, IndexError):
            return None
        return sizes[axis] - 2 if axis < len(sizes) else None
    if node.function in _SHAPED:
        behind = prod(value.shape[axis + 1 :])
        fitting = [
            at
            for at, size in enumerate(first.shape)
            if size == value.shape[axis] and prod(first.shape[at + 1 :]) == behind
        ]
        return fitting[0] if len(fitting) == 1 else None
    if node.function == "getitem":
        return _indexed(node.argument(1, "index"), depth, axis)
    along = node.argument(1, "dim", 0)
    return axis + (axis >= along % depth) if isinstance(along, int) else None


def _indexed(index: Any, depth: int, axis: int) -> int | None:
    """The axis of a value that an axis of what an index takes of it is."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(
        one is None or one is ... or isinstance(one, slice) or type(one) is int for one in parts
    ):
        return None
    used = sum(one is not None and one is not ... for one in parts)
    whole = [slice(None)] * (depth - used)
    at = next((n for n, one in enumerate(parts) if one is ...), None)
    parts = [*parts, *whole] if at is None else [*parts[:at], *whole, *parts[at + 1 :]]
    sources, here = list[int | None](), 0
    for one in parts:
        if one is None:
            sources.append(None)
            continue
        if not isinstance(one, int):
            sources.append(here)
        here += 1
    return sources[axis] if axis < len(sources) else None
