"""What the values in a mix are called, and the gates around it: the reset and the output gate.

The update gate is z, the candidate n, as everywhere; where h is made of another state, c, they are
f and g. What has no such part has the name that the code gives it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from grulens.cells.mix import GatedForm, Polynomial
from grulens.cells.signal import Role
from grulens.models.observe.finding.algebra import FAKES, RANGES, bends, fits, made_of, same_numbers
from grulens.models.observe.finding.carried import ancestors, as_one, parents
from grulens.models.observe.finding.mixes import STATE, Mix, NoFormError, Step
from grulens.models.observe.finding.one_line import made_in_the_loop, not_run, other_line
from grulens.models.observe.finding.shares import Shares
from grulens.models.observe.form import Observed, ObservedForm, Spot, row_of
from grulens.models.observe.rounds import loop_of
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Value

RESERVED = frozenset({
    "x", "h", "c", "r", "a", "b", "h_prev", "c_prev", "cell", "calls", "form", "joined", "mask",
    "mean", "name", "names", "one_batch", "read", "residual", "rows", "segments", "shape",
    "signal", "state", "state_edited", "state_prev", "steps_of", "to_numpy", "check_one_batch",
})  # fmt: skip
"""Names that no signal is given after the code: a layer has them already."""


_BY_NUMBER = frozenset({
    "pow", "square", "sqrt", "rsqrt", "abs", "reciprocal", "sign", "clamp", "clip", "log", "log1p",
})  # fmt: skip
"""Functions that act on each number by itself, and are no activations."""


class Signals(Mix):
    """A mix whose values have names; arguments as for `Mix`."""

    gated: GatedForm | None = None
    """Its form, as soon as it is found."""

    def found(self) -> ObservedForm:
        """The observed cell.

        Raises:
            NoFormError: there is none.
        """
        form = self.gated = self.form()
        step = self.steps[-1]
        self._check_one_line()
        output = self._output(form)
        if output is not None and output[2] is None and form.candidate is not None:
            output = None  # what a GRU's state is read through makes no cell state of it
        names = self._names(form, output is not None)
        signals = [self._signal(symbol, *names[symbol]) for symbol in names]
        if (reset := self._reset(form, output and output[0].site)) is not None:
            signals.insert(0, reset)
        state = Spot(*self._place(step.node, step))
        order = {signal.name: self._number(signal.spot) for signal in signals}
        signals.sort(key=lambda signal: order[signal.name])
        mix = Spot(*self._place(step.mix, step))
        low, high = value_range(self.bend)
        rename = {symbol: name for symbol, (name, _, _) in names.items()}
        plain = form.named(rename)
        made = ObservedForm(
            self.site.path, "", (), plain, mix, state, self.spots[STATE], self.bend,
            self.bend_before, self.lag, read=self.read, shape=row_of(self.shape),
            others=tuple(self._others()), in_place=self.in_place,
            rivals=tuple(not_run(self.site, self.series)), loop=loop_of(self.site),
            hides=tuple(names[symbol][0] for symbol in self._hiding(form)),
        )  # fmt: skip
        if output is None:
            signals.append(Observed("h", "state", "state", state, low=low, high=high))
            return replace(made, signals=tuple(signals))
        place, value, gate, read = output
        if gate is not None:
            signals.append(gate)
        signals.append(Observed("c", "cell state", "memory", state, low=low, high=high))
        signals.append(Observed("h", "state", "state", place))
        by = Polynomial.number(1) if gate is None else Polynomial.of(gate.name)
        return replace(made, signals=tuple(signals), output=by * value, output_read=read)

    def _hiding(self, form: GatedForm) -> list[str]:
        """The symbols in which a share of the state before stands that the form does not see."""
        step = self.steps[-1]
        every = (node for nodes in self.series.values() for node in nodes)
        near = sorted((n for n in every if self._is_near(n, step)), key=lambda n: n.number)
        shares = Shares(step.before, near)
        return [
            symbol
            for symbol in form.symbols
            if shares.are_in(
                step.leaves[symbol],
                added=symbol not in form.keep.symbols,
                alone=(symbol,) in form.write.terms,
            )
        ]

    def _check_one_line(self) -> None:
        """Raise if the loop makes one of its states by another line."""
        spot = self.spots[STATE]
        nodes = self.series[spot.site]
        node = nodes[min(spot.ordinal, len(nodes) - 1)]
        read: Any = node.results[spot.part : spot.part + 1]
        if spot.given:
            read = [node.argument(spot.part, spot.keyword)]
        first = next((same_numbers(one).node for one in read if isinstance(one, Value)), None)
        if first is not None and made_in_the_loop(self.site, first, self.series):
            which, where = "first", repr(first.site)
        else:
            steps = [(step.before, step.node) for step in self.steps]
            other = other_line(self.site, steps, first, self.series, self.states)
            if other is None:
                return
            which, where = other
        away = {"first": ", or the first state before the loop", "last": ", or the last after it"}
        which = which if which in away else "other"
        raise NoFormError(
            f"its steps are not all made in one way: the {which} is made in {where}, and would be "
            "missing",
            advice=f"Make every step in one way, with torch.where({which}, one, another)"
            + away.get(which, ""),
            here=True,
        )

    def _inside(self, last: Node, step: Step) -> Iterator[Node]:
        """The calls of a step out of which one is made, but for those that make other states."""
        stack, seen = [last], {id(last)}
        while stack:
            node = stack.pop()
            yield node
            for value in node.values:
                by = value.node
                if by is None or id(by) in seen or not self._is_near(by, step):
                    continue
                if by.site not in self.states:
                    seen.add(id(by))
                    stack.append(by)

    def _elsewhere(self, step: Step) -> set[int]:
        """The calls by which a step makes other states, and not this one."""
        found = set[int]()
        for site in self.states:
            for last in self.series[site]:
                if self._is_near(last, step):
                    found |= {id(node) for node in self._inside(last, step)}
        return found - {id(node) for node in self._inside(step.node, step)}

    def _others(self) -> Iterator[Observed]:
        """What a step makes that is one number for each of the state's."""
        step, counts = self.steps[-1], Counter[int]()
        nodes = (node for nodes in self.series.values() for node in nodes)
        for node in sorted(nodes, key=lambda one: one.number):
            if not self._is_in(node, step) or node is step.node or len(node.results) != 1:
                continue
            if id(node) in self.parts:
                continue
            value = node.results[0]
            whole = value.shape.numel() == self.shape.numel()
            if value.node is node and whole and value.tensor.is_floating_point():
                line = node.site.line
                counts[line] += 1
                name = f"line {line}" + (f".{counts[line]}" if counts[line] > 1 else "")
                words = node.site.text or node.function
                yield _observed(name, words, "read", Spot(*self._place(node, step)), value)

    def _number(self, spot: Spot) -> int:
        return self.series[spot.site][-1].number

    def _names(self, form: GatedForm, has_output: bool) -> dict[str, tuple[str, str, Role]]:
        """By symbol its name, what it is, and its role."""
        names: dict[str, tuple[str, str, Role]] = {}

        def give(symbol: str, name: str, words: str, role: Role) -> None:
            if symbol in names:
                return
            taken = {one[0] for one in names.values()} | RESERVED | ({"o"} if has_output else set())
            count = 2
            plain = name
            while name in taken:
                name, count = f"{plain}{count}", count + 1
            names[symbol] = (name, words, role)

        step = self.steps[-1]
        z, n = ("f", "g") if has_output else ("z", "n")
        if form.gate is not None and form.candidate is not None:
            gates = form.gate.symbols or form.candidate.symbols
            bounded = [s for s in gates if value_range(bend_of(step.leaves[s])) == (0, 1)]
            # of several, the one that is made of the state: others are given (attention, a mask)
            own = [s for s in bounded or gates if self._depends(step.leaves[s], step)]
            main = (own or bounded or gates)[0]
            keeps = form.gate.equals(Polynomial.of(main))
            share = "keeps the state at 1" if keeps else "takes the candidate at 1"
            if not keeps and not (1 - form.gate).equals(Polynomial.of(main)):
                share = "stands in the share that is kept"
            word = "update gate"
            if has_output:
                z, word = ("f", "forget gate") if keeps else ("i", "input gate")
            if form.gate.symbols:
                give(main, z, f"{word} ({share})", "keep" if keeps else "write")
            if len(form.candidate.symbols) == 1:
                give(form.candidate.symbols[0], n, "candidate", "candidate")
            for symbol in form.decay.symbols:
                give(symbol, self._word(symbol, "d"), "decay of the state before", "keep")
        else:
            kept = [s for s in form.keep.symbols if s not in form.write.symbols]
            if len(form.keep.terms) == 1 and len(kept) == 1:
                bend = bend_of(step.leaves[kept[0]])
                turns = bend and value_range(bend)[0] < 0
                words = "factor of the state before" if turns else "forget gate"
                give(kept[0], "f", words, "keep")
            written = form.write.symbols
            if len(form.write.terms) == 1 and len(written) == 2:
                first, second = sorted(
                    written, key=lambda s: value_range(bend_of(step.leaves[s])) != (0, 1)
                )
                if value_range(bend_of(step.leaves[first])) == (0, 1):
                    give(first, "i", "input gate", "write")
                    give(second, "g", "candidate", "candidate")
        for symbol in (*form.keep.symbols, *form.write.symbols):
            role: Role = "keep" if symbol in form.keep.symbols else "write"
            otherwise = "m" if self._is_mask(symbol) else "b"
            give(symbol, self._word(symbol, otherwise), "part of the mix", role)
        return names

    def _word(self, symbol: str, otherwise: str) -> str:
        """How the code calls a value."""
        value = self.steps[-1].leaves[symbol]
        while value.node is not None:
            site = value.node.site
            if (name := site.name(value.part)) and name.isidentifier():
                return name
            taken = re.match(r"([A-Za-z]\w*)\[", site.text)
            if taken and value.node.function == "getitem" and taken.group(1) not in RESERVED:
                return taken.group(1)
            before = same_numbers(value)
            if before is value:
                break
            value = before
        return otherwise

    def _signal(self, symbol: str, name: str, words: str, role: Role) -> Observed:
        step, spot = self.steps[-1], self.spots[symbol]
        leaf = step.leaves[symbol]
        made = self._dated(_observed(name, words, role, spot, leaf), leaf)
        if self._is_mask(symbol):
            made = replace(made, low=0.0, high=1.0, words=self._of_mask(symbol, words))
        inner = self._inner(leaf)
        if not spot.given:
            # equal calls make it again
            every = (inner, *inner.again)
            again = [one for one in every if one.node and self._is_near(one.node, step)]
            if len(again) > 1:
                elsewhere = self._elsewhere(step)
                again = [one for one in again if id(one.node) not in elsewhere]
            also = {Spot(*self._place(one.node, step), one.part) for one in again if one.node}
            return replace(made, also=tuple(also - {spot}))
        also = {
            self._given(argument, node, step)
            for nodes in self.series.values()
            for node in nodes
            if self._is_near(node, step)
            for part, argument in enumerate(node.args)
            if isinstance(argument, Value) and self._inner(argument) is inner
        }
        given = {id(one.leaves[symbol].tensor) for one in self.steps if symbol in one.leaves}
        unseen = inner.node is None and len(given) > 1
        return replace(made, also=tuple(also - {spot}), unseen=unseen)

    def _is_mask(self, symbol: str) -> bool:
        """Whether a value is true or false, or was both 0 and 1 and nothing else."""
        leaves = [one.leaves[symbol] for one in self.steps if symbol in one.leaves]
        values = [leaf.tensor for leaf in leaves]
        if values[-1].dtype is torch.bool:
            return True
        if bend_of(leaves[-1]) or self.in_place:
            return False
        ones = [value == 1 for value in values]
        both = any(bool(one.any()) for one in ones) and not all(bool(one.all()) for one in ones)
        return both and all(
            bool((one | (value == 0)).all()) for one, value in zip(ones, values, strict=True)
        )

    def _of_mask(self, symbol: str, words: str) -> str:
        """What a mask does to the state before, where its words do not say it."""
        if "gate" in words or self.gated is None:
            return words
        for at in (1, 0):
            keep, write = (one.at(symbol, at) for one in (self.gated.keep, self.gated.write))
            if not write and keep.equals(Polynomial.number(1)):
                return f"mask (keeps the state at {at})"
            if not write and not keep:
                return f"mask (makes the state zero at {at})"
            if not keep:
                return f"mask (lets nothing of the state before through at {at})"
        return "mask"

    def _reset(self, form: GatedForm, read_out: Site | None) -> Observed | None:
        """The reset gate: what opens and shuts the state on its way into the candidate."""
        step = self.steps[-1]
        known = (*form.keep.symbols, *form.write.symbols)
        gates = {id(same_numbers(step.leaves[s])) for s in known}
        targets = form.candidate.symbols if form.candidate else form.write.symbols
        # it works on the first state too; a gate behind the state does not
        first = self.series[self.site][0].number
        for symbol in targets:
            for node in ancestors(step.leaves[symbol], step.before.number):
                if node.function not in ("mul", "addcmul", "einsum"):
                    continue
                if node.number <= step.before.number or made_of(node, as_one) is None:
                    continue
                if node.site == read_out or self.series[node.site][0].number > first:
                    continue
                values = list(node.values)
                if node.function == "addcmul":
                    values = values[1:]
                for value, other in (values[:2], values[1::-1]) if len(values) == 2 else ():
                    inner = same_numbers(value)
                    if id(inner) in gates or value_range(bend_of(inner)) != (0, 1):
                        continue
                    if inner.node is None or not self._lets_through(other, step):
                        continue
                    if inner.node.number <= step.after:
                        continue
                    if not fits(inner.tensor, self.shape) or inner.shape.numel() == 1:
                        continue
                    spot = self._used(value, inner, node, step)
                    return self._dated(_observed("r", "reset gate", "reset", spot, inner), inner)
        return None

    def _lets_through(self, value: Value, step: Step) -> bool:
        """Whether a value is the state before on its way, and no new value made of it by then."""
        stack, seen = [same_numbers(value).node], set[int]()
        while stack:
            node = stack.pop()
            if node is step.before:
                return True
            if node is None or id(node) in seen or node.number < step.before.number:
                continue
            seen.add(id(node))
            inner = [same_numbers(one).node for one in node.values]
            if node.function not in RANGES or step.before in inner:
                stack += inner
        return False

    def _output(self, form: GatedForm) -> tuple[Spot, float, Observed | None, str] | None:
        """The h that is made of the carried state and fed back, where that is another value.

        Returns:
            Where it is, the number before it, its gate, and how it reads the state: "tanh({})".
        """
        if len(self.steps) < 2:
            return None
        step, then = self.steps[-2], self.steps[-1]
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
        found = [one for node in ends if (one := self._read_out(node, step)) is not None]
        # a gate before the bent state says more than the bent state alone
        return next((one for one in found if one[2] is not None), found[0] if found else None)

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
                if not fits(shut.tensor, self.shape) or not self._opens(shut, state):
                    continue
                spot = self._used(gate, shut, node_in, step)
                gated = self._dated(_observed("o", "output gate", "read", spot, shut), shut)
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
        if node is not None:
            late = node.number > first
            return replace(made, late=late, made=node.site, text=node.site.text)
        given = [isinstance(one, Value) for one in self.series[spot.site][-1].args]
        return replace(made, text=spot.site.argument(given, spot.part, spot.keyword))

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


def _is_by_number(node: Node) -> bool:
    by_number = bends(node) or node.function in _BY_NUMBER
    return by_number or made_of(node, as_one) is not None


def _bent_by(node: Node) -> tuple[Value, ...]:
    """What a call bends, or divides by another value; nothing if it does neither."""
    first = node.argument(0, "input")
    if node.function == "div" and len(node.args) == 2 and isinstance(first, Value):
        return (first,)
    return node.values[:1] if bends(node) and node.function in _READ else ()


def _observed(name: str, words: str, role: Role, spot: Spot, value: Value) -> Observed:
    bend = bend_of(value)
    low, high = value_range(bend, value)
    pre = None
    inner = same_numbers(value)
    node = inner.node
    made_here = node is not None and node.function == bend and node.site == spot.site
    if bend and node is not None and made_here and not spot.given:
        first = node.args[0] if node.args else None
        if isinstance(first, Value) and first.shape == inner.shape:
            keyword = node.names[0] if node.names else ""
            pre = Spot(spot.site, spot.each, spot.ordinal, 0, given=True, keyword=keyword)
    return Observed(name, words, role, spot, bend, pre, low, high)


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


def value_range(bend: str, value: Value | None = None) -> tuple[float, float]:
    """The least and the largest value of what a function makes."""
    if bend in ("clamp", "clip", "hardtanh") and value is not None:
        node = same_numbers(value).node
        if node is not None and node.function == bend:
            low, high = node.argument(1, "min"), node.argument(2, "max")
            if isinstance(low, int | float) and isinstance(high, int | float):
                return float(low), float(high)
    if bend in ("relu", "exp", "softplus", "square", "abs"):
        return 0.0, float("inf")
    return RANGES.get(bend, (-float("inf"), float("inf")))
