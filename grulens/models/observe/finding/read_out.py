"""What the next step reads in place of a state c: the h = o tanh(c) that a step makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from grulens.cells.mix import GatedForm
from grulens.models.observe.finding.activation import Activations, bend_of
from grulens.models.observe.finding.algebra import adds_up, bends, fits, numbers_of, same_numbers
from grulens.models.observe.finding.carried import ancestors, parents
from grulens.models.observe.finding.mixes import Step
from grulens.models.observe.finding.ranges import is_gate
from grulens.models.observe.finding.shares import LAYS, Shares, handed_on
from grulens.models.observe.form import Observed, Spot
from grulens.models.observe.trace import Node, Value

_BY_NUMBER = frozenset({
    "pow", "square", "sqrt", "rsqrt", "abs", "reciprocal", "sign", "clamp", "clip", "log", "log1p",
})  # fmt: skip
"""Functions that act on each number by itself, and are no activations."""


_ADDS = frozenset({"sum", "mean", "nansum"})
"""Functions that add up numbers along an axis, by no weights."""


class ReadOut(Activations):
    """A mix, and what is made of its state; arguments as for `Mix`."""

    read_by = ""
    """What the next step reads, where that is no read-out that is known."""

    def _output(self, form: GatedForm) -> tuple[Spot, float, Observed | None, str] | None:
        """The h that is made of the carried state and fed back, where that is another value.

        Returns:
            Where it is, the number before it, its gate, and how it reads the state: "tanh({})".
        """
        then = self.steps[-1]
        # of states that are carried in turn, the one before is that of another layer
        own = [one for one in self.steps[:-1] if (then.index - one.index) % self.lag == 0]
        if not own and then.index >= 2 * self.lag:
            return None
        step = own[-1] if own else self._first_step(then.index - self.lag)
        state = step.node
        fed = set()
        for symbol in (*form.keep.symbols, *form.write.symbols):
            fed |= {id(node) for node in ancestors(then.leaves[symbol], state.number)}
        between = sorted(
            (node for nodes in self.series.values() for node in nodes if id(node) in fed),
            key=lambda node: node.number,
        )
        between = [n for n in between if state.number < n.number <= then.node.number]
        # what works on the first state too, before any step, is made of the state before
        first = self.series[self.site][0].number
        between = [n for n in between if self.series[n.site][0].number > first]
        # what is taken further number by number is on its way to h, and not h itself
        taken = {
            id(same_numbers(value).node)
            for node in between
            for value in (node.values if _is_by_number(node) else _bent_by(node))
        }
        ends = [node for node in between if id(node) not in taken]
        self._alone = Shares(state, between).own
        users = [node for node in between if not _is_view(node)]
        found = [
            one
            for node in ends
            if not self._is_weighing(node, users) and (one := self._read_out(node, step))
        ]
        if not found:
            self.read_by = self._otherwise(ends, step)
        # a gate before the bent state says more than the bent state alone
        return next((one for one in found if one[2] is not None), found[0] if found else None)

    def _first_step(self, index: int) -> Step:
        """The step that makes a first state, out of what the run was given or began with."""
        node = self.series[self.site][index]
        return Step(index, -1, node, replace(node, number=-1), node)

    def _is_weighing(self, node: Node, users: list[Node]) -> bool:
        """Whether a product weighs parts of the state, to be added up, and is no state itself."""
        if node.function != "mul" or len(node.values) != 2:
            return False
        made = same_numbers(node.results[0])
        parts, sums, is_read_so = {id(made)}, set[int](), False
        for one in users:
            given = [v for v in map(same_numbers, one.values) if id(v) in parts | sums]
            if not any(id(v) in parts for v in given):
                continue
            results = {id(result) for result in one.results}
            if one.function in LAYS - _ADDS:
                parts |= results
                continue
            size = sum(result.shape.numel() for result in one.results)
            is_less = one.function in _ADDS and size < given[0].shape.numel()
            if not is_less and not (one.function == "add" and len(given) > 1):
                return False
            sums, is_read_so = sums | results, True
        # a gate of each number is none that weighs parts, but for the shares of a softmax
        return is_read_so and any(
            value.shape.numel() < made.shape.numel() or bend_of(value) == "softmax"
            for value in map(self._inner, node.values)
        )

    def _otherwise(self, ends: list[Node], step: Step) -> str:
        """What is made of a state number by number, and read; empty if nothing is."""
        since, mine = step.before.number, handed_on(step.node.results[0], step.before.number)
        others = {id(node) for site in self.states for node in self.series[site]}
        for node in reversed(ends):
            if id(node) in self.parts or same_numbers(node.results[0]).node is not node:
                continue
            made = node.results[0]
            if made.shape.numel() != self.shape.numel():
                continue
            if bends(node) and (under := same_numbers(node.values[0])).node is not None:
                made = under if under.node.function in ("mul", "div") else made
            of = handed_on(made, since)
            if self._alone & of and not others & (of - mine):
                return f"`{node.site.text or node.function}` (line {node.site.line})"
        return ""

    def _read_out(self, node: Node, step: Step) -> tuple[Spot, float, Observed | None, str] | None:
        """A call as gate times bent state, or bent state alone."""
        state = step.node

        def read(value: Value) -> str | None:
            """How a value is made of the state and no other number of its own."""
            inner, said = same_numbers(value), "{}"
            while inner.node is not None and inner.node is not state:
                if not (under := _bent_by(inner.node)):
                    return None
                over = inner.node.args[1:] if inner.node.function == "div" else ()
                by = self._said_by(over[0]) if over else ""
                said = said.format(f"({{}} / {by})" if over else f"{inner.node.function}({{}})")
                inner = same_numbers(under[0])
            return said if inner.node is state else None

        value, over = node.results[0] if node.results else None, ""
        if node.function == "div" and (under := _bent_by(node)):
            over, node_in = f" / {self._said_by(node.args[1])}", same_numbers(under[0]).node
        else:
            node_in = node
        if node_in is not None and node_in.function == "mul" and len(node_in.values) == 2:
            one, other = node_in.values
            for value, gate in ((one, other), (other, one)):
                said = read(value)
                if said is None or read(gate) is not None:
                    continue
                shut = self._inner(gate)
                made = shut.node
                if made is None or made.number <= step.after:
                    continue
                if self._alone & handed_on(shut, state.number - 1):
                    continue  # the state stands in it as well: o c is no gate of c
                if not fits(shut.tensor, self.shape) or not self._opens(shut, state):
                    continue
                spot = self._used(gate, shut, node_in, step)
                words = "output gate" if is_gate(shut) else "factor of what is read out"
                gated = self._dated(self._observed("o", words, "read", spot, shut, step=step), shut)
                return Spot(*self._place(node, step)), 1.0, gated, said + over
        if node.function in ("tanh", "relu", "softsign", "elu") and node.results:
            said = read(node.results[0])
            if said is not None and said.count("(") == 1:
                return Spot(*self._place(node, step)), 1.0, None, said
        return None

    def _said_by(self, value: Any) -> str:
        """What the code calls a value by which the state is divided."""
        if not isinstance(value, Value):
            return f"{value:g}" if isinstance(value, int | float) else "a number"
        node = same_numbers(value).node
        if node is None:
            return "[what is given]"
        if "norm" in node.function:
            return "its norm"
        return node.site.name() or f"({node.site.text or f'line {node.site.line}'})"

    def _dated(self, made: Observed, value: Value) -> Observed:
        """A signal with what is known of when its value is made."""
        node, first = same_numbers(value).node, self.series[self.site][0].number
        spot = made.spot
        if not spot.given:
            return made
        if node is not None and spot not in self.varying:
            late = node.number > first
            return replace(made, late=late, made=node.site, text=node.site.text)
        given = [isinstance(one, Value) for one in self.series[spot.site][-1].args]
        text = spot.site.argument(given, spot.part, spot.keyword)
        return replace(made, varies=spot in self.varying, text=text)

    def _used(self, value: Value, inner: Value, by: Node, step: Step) -> Spot:
        """Where a gate is read: where a step makes it; where it is used, if that is a later one."""
        assert inner.node is not None, "what no call has made is no gate"
        if self._is_timely(inner.node, by, step):
            return Spot(*self._place(inner.node, step), inner.part)
        return self._given(value, by, step)

    def _opens(self, gate: Value, state: Node) -> bool:
        """Whether a value may be the output gate of a state: a matrix of that is not in it."""
        if not any(node is state for node in ancestors(gate, state.number)):
            return True
        stack, seen = [gate.node], set[int]()
        while stack:  # it may look at the state number by number (a peephole)
            node = stack.pop()
            if node is state:
                return True
            if node is None or id(node) in seen or node.number <= state.number:
                continue
            seen.add(id(node))
            stack += [same_numbers(value).node for value in parents(node)]
        return False


_READ = {
    "tanh", "relu", "sigmoid", "softsign", "elu", "gelu", "hardtanh", "layer_norm", "group_norm",
    "rms_norm", "batch_norm", "instance_norm", "silu", "clamp", "normalize",
}  # fmt: skip
"""The functions through which a state is read."""


def _is_view(node: Node) -> bool:
    return bool(node.results) and numbers_of(node.results[0]) is not None


def _is_by_number(node: Node) -> bool:
    by_number = bends(node) or node.function in _BY_NUMBER
    return by_number or adds_up(node)


def _bent_by(node: Node) -> tuple[Value, ...]:
    """What a call bends, or divides by another value; nothing if it does neither."""
    first = node.argument(0, "input")
    if node.function == "div" and len(node.args) == 2 and isinstance(first, Value):
        return (first,)
    return node.values[:1] if bends(node) and node.function in _READ else ()
