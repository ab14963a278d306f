"""What the values in a mix are called, and the gates around it: the reset and the output gate.

The update gate is z, the candidate n, as everywhere; where h is made of another state, c, they are
f and g. What has no such part has the name that the code gives it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import torch

from grulens.cells.mix import GatedForm, Polynomial
from grulens.cells.signal import Role
from grulens.models.observe.finding.activation import bend_of
from grulens.models.observe.finding.algebra import RANGES, adds_up, fits, same_numbers
from grulens.models.observe.finding.carried import ancestors
from grulens.models.observe.finding.mixes import STATE, NoFormError, Step
from grulens.models.observe.finding.one_line import (
    made_in_the_loop,
    not_run,
    other_line,
    stands_in_the_loop,
)
from grulens.models.observe.finding.ranges import ANY, is_gate, range_of
from grulens.models.observe.finding.read_out import ReadOut
from grulens.models.observe.finding.shares import Shares, handed_on, is_constant
from grulens.models.observe.form import Observed, ObservedForm, Spot, row_of
from grulens.models.observe.rounds import loop_of
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Value
from grulens.words import message

RESERVED = frozenset({
    "x", "h", "c", "r", "a", "b", "h_prev", "c_prev", "cell", "calls", "form", "joined", "mask",
    "mean", "name", "names", "one_batch", "read", "residual", "rows", "segments", "shape",
    "signal", "state", "state_edited", "state_prev", "steps_of", "to_numpy", "check_one_batch",
})  # fmt: skip
"""Names that no signal is given after the code: a layer has them already."""
OLDER = 3
"""How many states back another one is looked for that hands them on."""
#: What a mask does where it is 0, and where it is 1.
KEPT: Final = (message("keeps the state at 0"), message("keeps the state at 1"))
ZERO: Final = (message("makes the state zero at 0"), message("makes the state zero at 1"))
SHUT: Final = (
    message("lets nothing of the state before through at 0"),
    message("lets nothing of the state before through at 1"),
)


class Signals(ReadOut):
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
        if (reset := self._reset(form, names, output and output[0].site)) is not None:
            signals.insert(0, reset)
        state = Spot(*self._place(step.node, step))
        order = {signal.name: self._number(signal.spot) for signal in signals}
        signals.sort(key=lambda signal: order[signal.name])
        mix = Spot(*self._place(step.mix, step))
        low, high = range_of(step.node.results[0]) if self.bend else ANY
        rename = {symbol: name for symbol, (name, _, _) in names.items()}
        plain = form.named(rename)
        made = ObservedForm(
            self.site.path, "", (), plain, mix, state, self.spots[STATE], self.bend,
            self.bend_before, self.lag, read=self.read, shape=row_of(self.shape),
            others=tuple(self._others()), in_place=self.in_place,
            rivals=tuple(not_run(self.site, self.series)), loop=loop_of(self.site),
            hides=tuple(names[symbol][0] for symbol in self._hiding(form)),
            comes_back=tuple(names[symbol][0] for symbol in self._coming_back(form)),
            read_by=self.read_by,
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
        if self.bend or self.bend_before:
            return []  # no step keeps a share of a state that is bent
        step = self.steps[-1]
        return self._held_in(form, Shares(step.before, self._nodes(step)))

    def _coming_back(self, form: GatedForm) -> list[str]:
        """The symbols in which older states stand than the one before, handed on by another one."""
        if self.bend or self.bend_before:
            return []
        known, step = {id(step.node): step for step in self.steps}, self.steps[-1]
        if id(step.before) not in known:
            return self._begun_with(form, step)
        found, older = list[str](), known.get(id(step.before))
        for _ in range(OLDER):
            if older is None:
                break
            # what goes by the states in between is what a step is said to keep of each
            found += self._held_in(form, Shares(older.before, self._since(older.before, step)))
            older = known.get(id(older.before))
        return list(dict.fromkeys(found))

    def _begun_with(self, form: GatedForm, step: Step) -> list[str]:
        """The same where no state is seen before the one before: what else a step hands on."""
        found, shares = list[str](), Shares(step.before, self._nodes(step))
        for site, nodes in self.series.items():
            before = [node for node in nodes if node.number < step.before.number]
            after = [node for node in nodes if self._is_in(node, step)]
            if site == self.site or not before or not after:
                continue
            shapes = {one.shape for one in (*before[-1].results, *after[-1].results)}
            # what it makes now of this state, it has made then of the one before
            if shapes == {self.shape} and shares.are_in(
                after[-1].results[0], added=True, alone=True
            ):
                found += self._held_in(form, Shares(before[-1], self._since(before[-1], step)))
        return list(dict.fromkeys(found))

    def _since(self, first: Node, step: Step) -> list[Node]:
        """The calls from one to the end of a step, in order; but for those that make the state."""
        between = [
            node
            for nodes in self.series.values()
            for node in nodes
            if first.number < node.number <= step.node.number and node.site != self.site
        ]
        return sorted(between, key=lambda node: node.number)

    def _held_in(self, form: GatedForm, shares: Shares) -> list[str]:
        """The symbols in which a share of a state stands."""
        leaves = self.steps[-1].leaves

        def is_let_through(symbol: str) -> bool:
            """Whether it is added, and all else beside it are gates."""
            products = [term for term in form.write.terms if symbol in term]
            return any(
                all(one == symbol or is_gate(leaves[one]) for one in term) for term in products
            )

        return [
            symbol
            for symbol in form.symbols
            if shares.are_in(
                leaves[symbol],
                added=symbol not in form.keep.symbols,
                alone=is_let_through(symbol),
                times=shares.times(form.write, leaves, [symbol]),
            )
        ]

    def _check_one_line(self) -> None:
        """Raise if the loop makes one of its states by another line."""
        spot = self.spots[STATE]
        first = self._at(spot, min(spot.ordinal, len(self.series[spot.site]) - 1))
        made = first.node if first is not None else None
        late = first.maker if first is not None and first.late else None
        if made is not None and made_in_the_loop(self.site, made, self.series, self.unseen):
            which, where = "first", repr(made.site)
        elif late and first and first.tensor.any() and stands_in_the_loop(self.site, late):
            which, where = "first", repr(late)
        elif gone_on := first and self._gone_on(spot, first):
            which, where = "other", repr(gone_on.site)
        else:
            steps = [(step.before, step.node) for step in self.steps]
            other = other_line(self.site, steps, first, self.series, self.states)
            if other is None:
                return
            which, where = other
        away = {
            "first": ", or the first state before the loop",
            "last": ", or the last after it. What is only read of the last state is made after the "
            "loop too, under a name of its own: y = norm(h)",
        }
        which = which if which in away else "other"
        raise NoFormError(
            f"its steps are not all made in one way: the {which} is made in {where}, and would be "
            "missing",
            advice=f"Make every step in one way, with torch.where({which}, one, another)"
            + away.get(which, ""),
        )

    def _gone_on(self, spot: Spot, first: Value) -> Node | None:
        """The call of another line by which a first state is made out of the first one.

        Args:
            spot: where steps are given the state before.
            first: what the first of them was given there.
        """
        seen = len(self.series[spot.site])
        for step in self.begun:
            at = step * spot.each + spot.ordinal
            given = self._at(spot, at) if at < seen else None
            if given is None or given is first:
                continue
            if bool(given.tensor.any()) and not torch.equal(given.tensor, first.tensor):
                continue  # what is no first state to look at is refused as such in every run
            for one in ancestors(given, 0):
                if any(same_numbers(value) is first for value in one.values):
                    return given.node
        return None

    def _at(self, spot: Spot, number: int) -> Value | None:
        """What the run has at a spot when it comes by there for so many times; None if no value."""
        node = self.series[spot.site][number]
        read: Any = node.results[spot.part : spot.part + 1]
        if spot.given:
            read = [node.argument(spot.part, spot.keyword)]
        return next((same_numbers(one) for one in read if isinstance(one, Value)), None)

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
                words, spot = node.site.text or node.function, Spot(*self._place(node, step))
                yield self._observed(name, words, "read", spot, value, [value], direct=True)

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
        z, n, new = "z", "n", "candidate"
        takes = message("takes the candidate at 1")
        if has_output:
            z, n, new = "f", "g", "cell candidate"
            takes = message("takes the cell candidate at 1")
        if form.gate is not None and form.candidate is not None:
            gates = form.gate.symbols or form.candidate.symbols
            bounded = [s for s in gates if is_gate(step.leaves[s])]
            # of several, the one that is made of the state: others are given (attention, a mask)
            own = [s for s in bounded or gates if self._depends(step.leaves[s], step)]
            main = (own or bounded or gates)[0]
            keeps = form.gate.equals(Polynomial.of(main))
            share = message("keeps the state at 1") if keeps else takes
            if not keeps and not (1 - form.gate).equals(Polynomial.of(main)):
                share = message("stands in the share that is kept")
            word = message("update gate")
            if has_output:
                z, word = ("f", message("forget gate")) if keeps else ("i", message("input gate"))
            if self._is_constant(main):
                word = message("constant share")
            if form.gate.symbols:
                give(main, z, f"{word} ({share})", "keep" if keeps else "write")
            if len(form.candidate.symbols) == 1:
                give(form.candidate.symbols[0], n, new, "candidate")
            for symbol in form.decay.symbols:
                give(
                    symbol,
                    self._word(step.leaves[symbol], "d"),
                    message("decay of the state before"),
                    "keep",
                )
        else:
            kept = [s for s in form.keep.symbols if s not in form.write.symbols]
            if len(form.keep.terms) == 1 and len(kept) == 1:
                words = message("factor of the state before")
                if self._is_constant(kept[0]):
                    words = message("constant factor of the state before")
                elif is_gate(step.leaves[kept[0]]):
                    words = "forget gate"
                give(kept[0], "f", words, "keep")
            written = form.write.symbols
            if len(form.write.terms) == 1 and len(written) == 2:
                first, second = sorted(written, key=lambda s: not is_gate(step.leaves[s]))
                if is_gate(step.leaves[first]):
                    words = "constant share" if self._is_constant(first) else "input gate"
                    give(first, "i", words, "write")
                    give(second, "g", new, "candidate")
        for symbol in (*form.keep.symbols, *form.write.symbols):
            role: Role = "keep" if symbol in form.keep.symbols else "write"
            otherwise = "m" if self._is_mask(symbol) else "b"
            give(symbol, self._word(step.leaves[symbol], otherwise), "part of the mix", role)
        return names

    def _is_constant(self, symbol: str) -> bool:
        """Whether a value is the same at every step, and of no input."""
        values = [self._inner(one.leaves[symbol]) for one in self.steps if symbol in one.leaves]
        return len(set(map(id, values))) == 1 and is_constant(values[-1], self.shape)

    def _word(self, value: Value, otherwise: str) -> str:
        """How the code calls a value."""
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
        again = [] if spot.given else self._again(leaf, step)
        made = self._dated(self._observed(name, words, role, spot, leaf, again), leaf)
        if self._is_mask(symbol):
            made = replace(made, low=0.0, high=1.0, words=self._of_mask(symbol, words))
        inner = self._inner(leaf)
        if not spot.given:
            also = {Spot(*self._place(one.node, step), one.part) for one in again if one.node}
            return replace(made, also=tuple(also - {spot}))
        # another state goes on in its own mix as it is
        is_state = inner.node is not None and inner.node.site in self.states
        own = self._elsewhere(step) if is_state else set[int]()
        also = {
            replace(here, part=part, among=place)
            for nodes in self.series.values()
            for node in nodes
            if id(node) not in own and self._is_counted(node, step)
            for part, argument in enumerate(node.args)
            for place, one in _values_in(argument)
            if self._inner(one) is inner
            for keyword in [node.names[part] if node.names else ""]
            for here in [Spot(*self._place(node, step), given=True, keyword=keyword)]
        }
        given = {id(one.leaves[symbol].tensor) for one in self.steps if symbol in one.leaves}
        unseen = inner.node is None and len(given) > 1
        return replace(made, also=tuple(also - {spot}), unseen=unseen)

    def _is_counted(self, node: Node, step: Step) -> bool:
        """Whether a call near a step is read as one of that step, by how often it has come by."""
        if not self._is_near(node, step):
            return False
        site, each, _ = self._place(node, step)
        return self.series[site].index(node) // each == step.index

    def _again(self, leaf: Value, step: Step) -> list[Value]:
        """A value of a step as each of the equal calls makes it."""
        inner = self._inner(leaf)
        every = (inner, *inner.again)
        again = [one for one in every if one.node and self._is_counted(one.node, step)]
        if len(again) > 1:
            elsewhere = self._elsewhere(step)
            again = [one for one in again if id(one.node) not in elsewhere]
        return again

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
                return f"mask ({KEPT[at]})"
            if not write and not keep:
                return f"mask ({ZERO[at]})"
            if not keep:
                return f"mask ({SHUT[at]})"
        return message("mask")

    def _reset(
        self, form: GatedForm, names: dict[str, tuple[str, str, Role]], read_out: Site | None
    ) -> Observed | None:
        """The reset gate: what opens and shuts the state on its way into the candidate.

        Where no activation and no weights stand on that way, it is a gate of a share that is kept.
        """
        step = self.steps[-1]
        known = (*form.keep.symbols, *form.write.symbols)
        gates = {id(same_numbers(step.leaves[s])) for s in known}
        targets = form.candidate.symbols if form.candidate else form.write.symbols
        # it works on the first state too; a gate behind the state does not
        first = self.series[self.site][0].number
        for symbol in targets:
            beside = handed_on(step.leaves[symbol], step.before.number)
            for node in ancestors(step.leaves[symbol], step.before.number):
                if node.function not in ("mul", "addcmul", "einsum"):
                    continue
                if node.number <= step.before.number or not adds_up(node):
                    continue
                if node.site == read_out or self.series[node.site][0].number > first:
                    continue
                values = list(node.values)
                if node.function == "addcmul":
                    values = values[1:]
                for value, other in (values[:2], values[1::-1]) if len(values) == 2 else ():
                    inner = same_numbers(value)
                    if id(inner) in gates or not is_gate(inner):
                        continue
                    if inner.node is None or not self._lets_through(other, step):
                        continue
                    if id(inner.node) in self.parts:
                        continue  # the equation is made of its factors
                    if inner.node.number <= step.after:
                        continue
                    if not fits(inner.tensor, self.shape) or inner.shape.numel() == 1:
                        continue
                    spot = self._used(value, inner, node, step)
                    name, words = "r", "reset gate"
                    role: Role = "reset"
                    if id(node) in beside:
                        taken = {one for one, _, _ in names.values()} | RESERVED
                        name = self._word(inner, "k")
                        name = name if name not in taken else f"{name}_in"
                        words, role = f"gate of the state before, in {names[symbol][0]}", "keep"
                    return self._dated(self._observed(name, words, role, spot, inner), inner)
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


def _values_in(argument: Any) -> Iterator[tuple[int, Value]]:
    """The values of an argument, each with its place where it is one of a list; else -1."""
    several = isinstance(argument, tuple | list)
    for place, one in enumerate(argument) if several else [(-1, argument)]:
        if isinstance(one, Value):
            yield place, one
