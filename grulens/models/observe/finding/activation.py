"""Where the activation of a signal is given its number, to which a shift is added.

A signal is an activation's own result, or is made of it by constants alone, as sigmoid(p) ** 2 and
1 / (1 + exp(-p)) are. Where it comes out of several, or no shift reaches the one, that is said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from grulens.cells.signal import Role
from grulens.models.observe.finding.algebra import FAKES, adds_up, bends, numbers_of, same_numbers
from grulens.models.observe.finding.mixes import Mix, Step
from grulens.models.observe.finding.ranges import range_of
from grulens.models.observe.finding.shares import handed_on, is_constant
from grulens.models.observe.form import Observed, Spot
from grulens.models.observe.trace import Node, Value

_GUARDS = frozenset({
    "clamp", "clip", "clamp_min", "clamp_max", "nan_to_num", "dropout", "square", "sqrt", "abs",
})  # fmt: skip
"""Functions that are an activation, or stand behind one."""
CUT = "is cut out of a larger result, or rounded, behind its activation"
_GIVEN = "is made before the step that uses it, where its activation is not read"
_SEVERAL = "comes out of several activations, or of one by more than constants"
_SHARED = "is made of what its activation makes, which is read elsewhere too"
_FALLS = "falls where what its activation is given grows"


class Activations(Mix):
    """A mix, and what makes its values; arguments as for `Mix`."""

    def _observed(
        self,
        name: str,
        words: str,
        role: Role,
        spot: Spot,
        value: Value,
        again: Sequence[Value] = (),
        *,
        step: Step | None = None,
        direct: bool = False,
    ) -> Observed:
        """A signal, as what made its value shows it.

        Args:
            name: its name.
            words: what it is.
            role: what it does.
            spot: where it is read.
            value: its value.
            again: the same value, as equal calls of the step make it.
            step: the step of the value; None is the last one.
            direct: whether an activation is one of it only where it is that one's own result.
        """
        bend, (low, high) = bend_of(value), range_of(value)
        step = step or self.steps[-1]
        again = again or (self._here(value, step),)
        pre, barred = tuple[Spot, ...](), ""
        if bend or not direct:
            pre, barred = self._before(spot, value, again, bend, step)
        return Observed(name, words, role, spot, bend, pre, low, high, barred=barred)

    def _before(
        self, spot: Spot, value: Value, made: Sequence[Value], bend: str, step: Step
    ) -> tuple[tuple[Spot, ...], str]:
        """Where the activation of a signal is given its number, or why no shift reaches it."""
        if spot.given:
            return (), _GIVEN if bend else ""
        inner = same_numbers(value)
        node = made[0].node
        if node is None:
            return (), ""
        if bend and node.function != bend:
            return (), CUT
        found = self._chain(node, step)
        if found is None:
            below = handed_on(inner, step.before.number)
            bent = any(id(one) in below and bends(one) for one in self._nodes(step))
            bounded = all(map(math.isfinite, range_of(value)))
            return (), _SEVERAL if bent and (bounded or not self._adds(node)) else ""
        last, sign, passed = found
        if not passed:
            if len(made) == 1 and node.site == spot.site:
                named = self._first(node)
                if named is None:
                    return (), CUT
                return (replace(spot, part=0, given=True, keyword=named),), ""
            spots = [self._argument(one.node, step) for one in made if one.node is not None]
            found_at = tuple(spot for spot in spots if spot is not None)
            return found_at, "" if found_at else CUT
        if len(made) > 1 or any(self._uses(step)[id(same_numbers(one))] > 1 for one in passed):
            return (), _SHARED
        if sign < 0:
            # 1 / (1 + exp(-p)) grows with p
            first = same_numbers(last.values[0])
            if (
                first.node is None
                or first.node.function != "neg"
                or self._uses(step)[id(first)] > 1
            ):
                return (), _FALLS
            last = first.node
        at = self._argument(last, step)
        return ((at,), "") if at is not None else ((), CUT)

    def _argument(self, node: Node, step: Step) -> Spot | None:
        """What an activation is given, if that is one number for each of its own."""
        keyword = self._first(node)
        if keyword is None:
            return None
        return Spot(*self._place(node, step), 0, given=True, keyword=keyword)

    def _first(self, node: Node) -> str | None:
        """By what name a call is given its first number for each of its own; None if it is none."""
        first = node.args[0] if node.args else None
        if not isinstance(first, Value) or first.shape != node.results[0].shape:
            return None
        return node.names[0] if node.names else ""

    def _chain(self, node: Node, step: Step) -> tuple[Node, int, list[Value]] | None:
        """The activation out of which a call makes its result by constants alone.

        Returns:
            It; -1 if what is made falls where that grows, else 1; and the values between. None if
            there is no such one.
        """
        sign, passed, found = 1, list[Value](), None
        while True:
            if bends(node):
                found = node, sign, [*passed]
                if node.function not in _GUARDS:
                    return found
            elif not _is_by_number(node):
                return found
            moving = {
                id(same_numbers(one)): same_numbers(one)
                for one in node.values
                if not is_constant(one, self.shape)
            }
            below = next(iter(moving.values())) if len(moving) == 1 else None
            if below is None or below.node is None or not self._is_near(below.node, step):
                return found
            sign, passed = sign * _direction(node, below), [*passed, below]
            node = below.node

    def _adds(self, node: Node) -> bool:
        """Whether a call makes a sum of products, or divides one by constants."""
        if node.function == "div":
            return is_constant(node.values[-1], self.shape)
        return adds_up(node)

    def _nodes(self, step: Step) -> list[Node]:
        """The calls of a step, in order."""
        every = (node for nodes in self.series.values() for node in nodes)
        near = (node for node in every if self._is_near(node, step))
        return sorted(near, key=lambda node: node.number)

    def _uses(self, step: Step) -> Counter[int]:
        """How many calls of a step are given a value, by id."""
        near = self._nodes(step)
        views = (n for n in near if n.results and numbers_of(n.results[0]) is not None)
        skipped = {id(node) for node in views}
        return Counter(
            id(value)
            for node in near
            if id(node) not in skipped
            for value in {id(v): v for v in map(same_numbers, node.values)}.values()
        )


def _is_by_number(node: Node) -> bool:
    return adds_up(node) or node.function in (
        "div", "rdiv", "pow", "reciprocal",
    )  # fmt: skip


def _direction(node: Node, below: Value) -> int:
    """-1 if what a call makes of a value falls where that grows, else 1."""
    numbers = [one for one in node.args if isinstance(one, int | float)]
    negative = any(one < 0 for one in numbers)
    if node.function in ("neg", "rdiv", "reciprocal", "rsub"):
        return 1 if node.function == "rdiv" and negative else -1
    if node.function == "sub" and same_numbers(node.values[-1]) is below:
        return 1 if len(node.values) == 1 else -1
    if node.function in ("mul", "div", "pow") and negative:
        return -1
    return 1


def bend_of(value: Value) -> str:
    """The function that bent a value, also where it was cut out of a larger or rounded since."""
    seen = 0
    while value.node is not None and seen < 12:
        node = value.node
        if bends(node) and node.function not in FAKES:
            return node.function
        inner = next(iter(node.values)) if node.function in FAKES else same_numbers(value)
        if inner is value:
            if node.function not in ("chunk", "split", "unbind", "getitem", "tensor_split",
                                     "split_with_sizes", "select", "narrow", "transpose",
                                     "permute", "view", "reshape", "unsqueeze"):  # fmt: skip
                return ""
            first = node.argument(0, "input")
            if not isinstance(first, Value):
                return ""
            inner = first
        value, seen = inner, seen + 1
    return ""
