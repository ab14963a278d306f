"""Shares of the state before that a step adds beside its gate, in a value that is new by name.

What a unit keeps is said to be a of h = a h_prev + b, with everything else that stands in the step
held. That is all it keeps where b is bounded by an activation, however that reads the state: the
candidate of a GRU is made of h_prev too, and of a unit's own number in it. It is not where b has a
unit's own number in it past every activation, as W h or (n - h) / tau, or is made of nothing else,
as tanh(h). An activation that hands a number on as far as it likes, as relu, a wide hardtanh or
10 tanh(h / 10), bounds nothing, and makes a new value only of what weights have added up:
relu(W x + U h).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from grulens.cells.mix import Polynomial
from grulens.models.observe.finding.algebra import (
    FAKES,
    MADE_OF_NOTHING,
    adds_up,
    as_number,
    made_of,
    numbers_of,
    same_numbers,
)
from grulens.models.observe.finding.ranges import is_gate
from grulens.models.observe.trace import Node, Value

MIXING = frozenset({
    "linear", "matmul", "rmatmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "mv", "addmv",
    "bilinear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "einsum", "tensordot", "inner", "chain_matmul", "multi_dot",
})  # fmt: skip
"""Functions that add up several units, each by a weight."""
_DIVIDES = frozenset({"div", "rdiv", "divide", "addcdiv", "addcmul"})
LAYS = frozenset({
    "stack", "hstack", "vstack", "cat", "sum", "mean", "flip",
    "roll", "chunk", "split", "unbind", "getitem", "setitem", "transpose", "permute", "t", "T",
    "mT", "swapaxes", "movedim", "moveaxis", "repeat", "tile", "expand", "index_select", "gather",
    "take_along_dim", "narrow", "select", "pad", "cumsum", "unfold", "dropout",
})  # fmt: skip
"""Functions that lay numbers elsewhere, or add some up, and hand them on as they are."""
_BOUNDS = frozenset({
    "tanh", "sigmoid", "hardsigmoid", "softsign", "softmax", "softmin", "gumbel_softmax", "sin",
    "cos", "atan", "arctan", "atan2", "arctan2", "erf", "erfc", "sign", "sgn", "heaviside",
})  # fmt: skip
"""Functions of which no state comes further than 1 or 2, whatever they are given."""
WIDE = 2.0
"""What multiplies such a function by more lets a state pass as far as it goes."""
_WHOLE_CELLS = frozenset({
    "gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell", "gru", "lstm", "rnn_tanh",
    "rnn_relu", "multi_head_attention_forward", "scaled_dot_product_attention", "embedding",
})  # fmt: skip
"""Functions that add up units by weights and make something new of that, all in one."""
_BY_NUMBER = frozenset({"pow", "square", "sqrt", "abs", "reciprocal", "round", *FAKES})
"""Functions that leave a number what it is of."""
_DRAWN = frozenset({"dropout", "bernoulli", "batch_norm", "instance_norm"})
"""Functions that make another value, or write, when they are called again."""
MANY = 256
"""How many units are tried one by one, at most."""
_MOVES = (1.0, -1.0, 1e3, -1e3)
"""By how much a number is moved, to see what moves with it: relu may be shut where it is."""


class Shares:
    """What the calls of a step hand on of the state before.

    Args:
        before: the call that made the state before.
        nodes: the calls of the step, in order.

    Attributes:
        own: the calls that make something of the state and of constants alone, by id.
    """

    def __init__(self, before: Node, nodes: Iterable[Node]) -> None:
        self._before = before
        self._shape = before.results[0].shape
        # by call whether weights have added up units on the way
        self._reached: dict[int, bool] = {id(before): False}
        # what an activation has bounded, by how much that is multiplied since, and what so is wide
        self._bounded, self._wide = dict[int, float](), set[int]()
        # what of that something else opens and shuts: of a sum, each at another step
        self._shut = set[int]()
        self.own = {id(before)}
        for node in nodes:
            values = node.hands_on
            if values is None:
                values = node.hands_on = tuple(_handed_on(node))
            if not values:
                continue
            if self._is_own(node, values):
                self.own.add(id(node))
                self._reached[id(node)] = False
                continue
            makers = {id(value.node) for value in values}
            if node.function == "mul" and not makers.isdisjoint(self._reached):
                makers -= self._gates(values)
            ways = [self._reached[maker] for maker in makers if maker in self._reached]
            if ways and (way := _onwards(node, ways)) is not None:
                self._reached[id(node)] = way
            if (times := self._multiplied(node, values, ways)) > WIDE:
                self._wide.add(id(node))
                self._reached[id(node)] = False
            if times:
                self._bounded[id(node)] = times

    def _multiplied(self, node: Node, values: Sequence[Value], ways: Sequence[bool]) -> float:
        """By how much a call multiplies a unit's own state behind an activation; 0 if it does not.

        Args:
            node: it.
            values: what it hands on.
            ways: whether weights have added up what it is given of the state.
        """
        known = [self._bounded[id(one.node)] for one in values if id(one.node) in self._bounded]
        if node.function in _BOUNDS:
            return 1.0 if known or not all(ways) else 0.0
        if not known:
            return 0.0
        if not adds_up(node):
            return max(known) if node.function in LAYS else 0.0
        by = dict[str, Value]()

        def named(one: Any) -> Polynomial:
            if (number := as_number(one)) is not None or not isinstance(one, Value):
                return Polynomial.number(1.0 if number is None else number)
            by[str(id(same_numbers(one)))] = one
            return Polynomial.of(str(id(same_numbers(one))))

        total = made_of(node, named)
        assert total is not None, "it adds up"
        if any(self._reach(by[one])[1] for one in total.symbols):
            self._shut.add(id(node))
        return self.times(total, by, [one for one in by if self._is_bounded(by[one])])

    def times(self, total: Polynomial, by: Mapping[str, Value], symbols: Collection[str]) -> float:
        """By how much a sum multiplies one of some values at most, since an activation bounded it.

        Args:
            total: the sum.
            by: its values, by symbol.
            symbols: of those values; of what no activation has bounded it is 0.
        """
        if not any(self._is_bounded(by[one]) for one in symbols):
            return 0.0
        reach = {one: self._reach(by[one]) for one in total.symbols}
        sizes, own = defaultdict[Any, float](float), set[Any]()
        for product, factor in total.terms.items():
            if any(self._is_bounded(by[one]) for one in product):
                # what the same gates open adds up: tanh + tanh goes as far as 2 tanh
                gates = tuple(sorted(one for one in product if reach[one][1]))
                sizes[gates] += abs(factor) * math.prod(reach[one][0] for one in product)
                own |= set() if set(symbols).isdisjoint(product) else {gates}
        return max((sizes[gates] for gates in own), default=0.0)

    def _is_bounded(self, value: Value) -> bool:
        return id(same_numbers(value).node) in self._bounded

    def _reach(self, value: Value) -> tuple[float, bool]:
        """How far a value goes, gates and what else is no constant to 1; whether it may shut."""
        maker = id(same_numbers(value).node)
        if maker in self._bounded:
            return self._bounded[maker], maker in self._shut
        if not is_constant(value, self._shape):
            return 1.0, True
        held = value.tensor.detach()
        known = held.numel() and not held.is_complex()
        return (float(held.double().abs().max()) if known else 1.0), False

    def _gates(self, values: Sequence[Value]) -> set[int]:
        """The calls that make what opens and shuts another one of some values: no share."""
        others = [value for value in values if id(value.node) not in self._reached]
        many = len({id(value.node) for value in values if id(value.node) in self._reached})
        if many == 1 and all(map(is_gate, others)):
            return set()  # the only one that may be a share stays, whatever it is
        gates = {id(value.node) for value in values if is_gate(value)}
        return gates if {id(value.node) for value in values} - gates else set()

    def _is_own(self, node: Node, values: Sequence[Value]) -> bool:
        """Whether a call makes something of a unit's own state and of constants alone."""
        own = [id(value.node) in self.own for value in values]
        if not any(own) or (node.function in MIXING | LAYS and not adds_up(node)):
            return False
        return all(
            mine or is_constant(value, self._shape) for mine, value in zip(own, values, strict=True)
        )

    def are_in(self, value: Value, *, added: bool, alone: bool, times: float = 1.0) -> bool:
        """Whether a unit's own state before stands in a value past every activation.

        Args:
            value: what a step is made of.
            added: whether it is added, and not what the state before is multiplied by.
            alone: whether it is added as it is, and not as a gate of another value.
            times: by how much it is multiplied at most, with what an activation has bounded in it.
        """
        maker = id(same_numbers(value).node)
        if maker in self._bounded and times > WIDE:
            self._wide.add(maker)
            self._reached[maker] = False
        if maker not in self._reached or (not alone and is_gate(value)):
            return False
        return added if maker in self.own else self._moves(same_numbers(value))

    def _moves(self, value: Value) -> bool:
        """Whether a unit's own number of the state moves its own number of a value.

        Everything else is held, as the run has made it, but for masks that choose. Where it cannot
        be worked out again, it may.
        """
        path = self._path(value)
        start = self._before.results[0].tensor
        rows = len(start) if start.dim() > 1 else 1
        size = start.numel() // max(1, rows)
        if size > MANY or any(one.in_place or one.function in _DRAWN for one in path):
            return True
        plain = start.detach().double()
        try:
            with torch.no_grad():
                still = self._again(value, path, plain)
                for unit in range(size):
                    for by in _MOVES:
                        moved = plain.clone().reshape(rows, -1)
                        moved[:, unit] += by
                        change = self._again(value, path, moved.reshape(plain.shape)) - still
                        own = change.expand(plain.shape).reshape(rows, -1)[:, unit]
                        if not bool((own.abs() <= 1e-9 * still.abs().max().clamp(min=1)).all()):
                            return True
        except (RuntimeError, TypeError, ValueError, IndexError):
            return True
        return False

    def _path(self, value: Value) -> list[Node]:
        """The calls by which a value has numbers of the state, in order."""
        found, stack = dict[int, Node](), [(value.node, False)]
        seen = set[tuple[int, bool]]()
        while stack:
            node, is_wide = stack.pop()
            if node is None or node is self._before or (id(node), is_wide) in seen:
                continue
            seen.add((id(node), is_wide))
            is_wide = is_wide or id(node) in self._wide
            if id(node) in self._reached or (is_wide and id(node) in self._bounded):
                found[id(node)] = node
                stack += [(same_numbers(one).node, is_wide) for one in node.values]
        return sorted(found.values(), key=lambda one: one.number)

    def _again(self, value: Value, path: list[Node], state: Tensor) -> Tensor:
        """A value as it is made of another state before, all else held."""
        made: dict[int, Any] = {id(self._before.results[0]): state}

        def given(one: Any) -> Any:
            if isinstance(one, Value):
                plain = same_numbers(one)
                if id(plain) in made:
                    return made[id(plain)].reshape(one.shape)
                held = one.tensor.detach()
                return held.double() if held.is_floating_point() else held
            if type(one) in (tuple, list):
                return type(one)(map(given, one))
            return one

        for node in path:
            args = list(map(given, node.args))
            named = dict(zip(node.names, args, strict=False))
            more = named | {name: given(one) for name, one in node.kwargs.items()}
            result: Any
            if node.function in ("where", "masked_fill"):
                result = _both([*args, *more.values()])
            else:
                result = node.call(**more) if node.names else node.call(*args, **more)
            parts = result if isinstance(result, tuple | list) else [result]
            for one, part in zip(node.results, parts, strict=True):
                made[id(one)] = part
        again: Tensor = given(value)
        return again


def _both(given: Sequence[Any]) -> Tensor:
    """Some of each of two values between which a mask chooses: another step takes the other one."""
    one, other = (it for it in given if not isinstance(it, Tensor) or it.dtype != torch.bool)
    mixed: Tensor = 0.375 * one + 0.625 * other
    return mixed


def handed_on(value: Value, down_to: int, state: Node | None = None) -> set[int]:
    """The calls whose numbers a value is made of, by no activation and no weights between; by id.

    Args:
        value: it.
        down_to: the number of the last call behind which none is looked at.
        state: a call behind which none is looked at either.
    """
    found, stack = set[int](), [same_numbers(value).node]
    while stack:
        node = stack.pop()
        if node is None or id(node) in found or node.number <= down_to:
            continue
        found.add(id(node))
        if node is state or (node.function in MIXING and not adds_up(node)):
            continue
        if node.function in _BY_NUMBER | _DIVIDES | LAYS or adds_up(node):
            stack += [same_numbers(one).node for one in node.values]
    return found


def _onwards(node: Node, ways: list[bool]) -> bool | None:
    """Whether weights have added up what a call hands on of the state; None if it hands on none."""
    if node.function in MIXING:
        # number by number it is a product as any other
        return not adds_up(node) or any(ways)
    if node.function in _DIVIDES | LAYS or adds_up(node):
        return all(ways)
    # what weights have added up is a new value behind whatever bends it
    new = all(ways) or node.function in _BOUNDS | _WHOLE_CELLS
    return None if new else False


def _handed_on(node: Node) -> Iterable[Value]:
    """The values whose numbers a call works on, if it makes other numbers of them."""
    if node.results and numbers_of(node.results[0]) is not None:
        return ()  # it has the numbers of another one
    if node.function.endswith("_like") or node.function.startswith("new_"):
        return ()
    if not all(one.tensor.is_floating_point() for one in node.results):
        return ()  # what is true or false opens and shuts
    return map(same_numbers, node.values[:1] if node.function.endswith("_as") else node.values)


def is_constant(value: Value, shape: torch.Size) -> bool:
    """Whether a value is made of parameters, and of numbers that are the same for all rows.

    Args:
        value: it.
        shape: of the state.
    """
    # the nearest ones first: what a step is given stands near it, and older states far behind
    queue, seen = [same_numbers(value)], set[int]()
    for one in queue:  # which grows on the way
        if id(one) in seen:
            continue
        seen.add(id(one))
        node, tensor = one.node, one.tensor
        if node is not None and node.function in MADE_OF_NOTHING:
            continue
        if node is None:
            if not isinstance(tensor, nn.Parameter) and tensor.dim() >= max(1, len(shape)):
                return False
        elif node.in_place or (node.function in _TAKES and not _of_parameter(node)):
            return False
        else:
            queue += [same_numbers(inner) for inner in node.values]
    return True


_TAKES = {"getitem", "select", "unbind", "iter", "chunk", "split", "narrow", "rand", "randn",
          "rand_like", "randn_like", "bernoulli", "dropout"}  # fmt: skip
"""Functions that may give another value at every step out of the same one."""


def _of_parameter(node: Node) -> bool:
    return all(isinstance(same_numbers(one).tensor, nn.Parameter) for one in node.values[:1])
