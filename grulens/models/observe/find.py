"""Finds the gates of a run: the states that it carries, and the mixes that make them.

A state is what a step makes out of what the step before it made at the same place. Going back from
it through sums and products alone, one comes to the state before, and to what it is mixed with:
gates and a candidate. So nothing is guessed: the equation is the one that the code computes.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from grulens.cells.cell import Role
from grulens.cells.mix import GatedForm, Polynomial
from grulens.models.observe.algebra import (
    MADE_OF_NOTHING,
    RANGES,
    alike,
    bends,
    fits,
    made_of,
    same_numbers,
)
from grulens.models.observe.form import Observed, ObservedForm, Spot
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Trace, Value

STATE = "h_prev"
RESERVED = frozenset({
    "x", "h", "c", "r", "a", "b", "h_prev", "c_prev", "cell", "calls", "form", "joined", "mask",
    "mean", "name", "names", "one_batch", "read", "residual", "rows", "segments", "shape",
    "signal", "state", "state_edited", "state_prev", "steps_of", "to_numpy", "check_one_batch",
})  # fmt: skip
"""Names that no signal is given after the code: a layer has them already."""


@dataclass(frozen=True)
class NotFound:
    """A state that is carried from step to step, and that no gated form explains.

    Attributes:
        site: where it is made.
        why: the reason, in words.
    """

    site: Site
    why: str

    def __str__(self) -> str:
        return f"the state of {self.site}: {self.why}"


class _NoFormError(Exception):
    """A state has no gated form; the message says why."""


def find(trace: Trace) -> tuple[list[ObservedForm], list[NotFound]]:
    """The observed cells of a run, in the order in which it came by them, and what was refused.

    Args:
        trace: what the run called.
    """
    alike(trace.nodes)
    series = defaultdict[Site, list[Node]](list)
    for node in trace.nodes:
        series[node.site].append(node)
    carried = _carried(series)
    in_place = any(node.in_place and _is_value(node) for node in trace.nodes)
    found: list[ObservedForm] = []
    refused: list[NotFound] = []
    for site, lag in carried.items():
        try:
            found += _each(_Form(site, lag, series, in_place, trace.unseen).found())
        except _NoFormError as no:
            refused.append(NotFound(site, str(no)))
    return _named(found), refused


def _is_value(node: Node) -> bool:
    """Whether what a call writes over may be a value of a cell, and no counter of calls."""
    return any(one.tensor.is_floating_point() and one.tensor.dim() for one in node.results)


# ---------------------------------------------------------------------------------- the states


def _carried(series: dict[Site, list[Node]]) -> dict[Site, int]:
    """The sites that carry a state, each with how many states it carries in turn."""
    ways: dict[Site, tuple[int, set[Site]]] = {}
    for site, nodes in series.items():
        if len(nodes) > 1 and _is_state(nodes[-1]):
            steps = [_way(nodes[i], site, set(map(id, nodes[:i]))) for i in range(1, len(nodes))]
            reached = [(i - nodes.index(way[0]), way[1]) for i, way in enumerate(steps, 1) if way]
            if reached and len({lag for lag, _ in reached}) == 1:
                ways[site] = reached[-1]
    # what lies on the way from a state to itself are places of one and the same cycle
    cycles: list[set[Site]] = []
    for site, (_, between) in ways.items():
        touched = [one for one in cycles if one & ({site} | between)]
        cycles = [one for one in cycles if one not in touched]
        cycles.append({site}.union((between & ways.keys()), *touched))
    lasts = [max(cycle, key=lambda one: series[one][0].number) for cycle in cycles]
    lasts.sort(key=lambda site: series[site][0].number)
    return {site: ways[site][0] for site in lasts}


def _is_state(node: Node) -> bool:
    if len(node.results) != 1 or node.results[0].node is not node:
        return False
    value = node.results[0]
    return (
        value.tensor.is_floating_point()
        and value.tensor.dim() > 0
        and (bends(node) or made_of(node, lambda _: Polynomial.number(1)) is not None)
    )


def _way(node: Node, site: Site, earlier: set[int]) -> tuple[Node, set[Site]] | None:
    """The latest earlier call at a site out of which a call is made number by number.

    Returns:
        That call, and the sites on the way; None if there is none.
    """
    reached: list[Node] = []
    above: dict[int, list[Node]] = {}
    # bends may stand outside of the mix, and right at the state before; not in between
    stack = [(node, False)]
    seen = {(id(node), False)}
    while stack:
        one, inside = stack.pop()
        bent = bends(one)
        for value in _parents(one):
            by = same_numbers(value).node
            if by is None or (bent and inside and id(by) not in earlier):
                continue
            above.setdefault(id(by), []).append(one)
            key = id(by), inside or not bent
            if id(by) in earlier:
                reached.append(by)
            elif key not in seen:
                seen.add(key)
                stack.append((by, inside or not bent))
    if not reached:
        return None
    last = max(reached, key=lambda one: one.number)
    between, back = set[Site](), [last]
    walked = {id(last)}
    while back:
        for one in above.get(id(back.pop()), ()):
            between.add(one.site)
            if id(one) not in walked:
                walked.add(id(one))
                back.append(one)
    return last, between


def _parents(node: Node) -> Iterable[Value]:
    """What a call works on number by number."""
    if bends(node):
        return list(node.values)[:1]
    if made_of(node, lambda _: Polynomial.number(1)) is not None:
        return list(node.values)
    return []


# ------------------------------------------------------------------------------------ the mix


@dataclass(eq=False)
class _Step:
    """One step: the calls between the state before and the state.

    Attributes:
        index: its number.
        after: the number of the call that made the state before.
        node: the call that makes the state.
        mix: the call that makes the mix, before what bends it.
        leaves: the values that stand in its mix, by symbol.
    """

    index: int
    after: int
    node: Node
    before: Node
    mix: Node
    leaves: dict[str, Value] = field(default_factory=dict)


class _Form:
    """The mix of one state, worked out at every step that was seen."""

    def __init__(
        self,
        site: Site,
        lag: int,
        series: dict[Site, list[Node]],
        in_place: bool,
        unseen: dict[Site, int],
    ) -> None:
        self.site, self.lag, self.series, self.in_place = site, lag, series, in_place
        nodes = series[site]
        # a state that does not come from the one before begins a new run of the same lines
        ways = {i: _way(nodes[i], site, set(map(id, nodes[:i]))) for i in range(lag, len(nodes))}
        self.steps = [
            _Step(i, nodes[i - 1].number, nodes[i], nodes[i - lag], nodes[i])
            for i, way in ways.items()
            if way is not None
        ]
        # of a site by which a step comes several times, fewer steps were seen
        first, second = nodes[0].number, nodes[1].number
        inside = [s for s, seen in series.items() if any(first < n.number <= second for n in seen)]
        end = min((unseen[s] for s in inside if s in unseen), default=None)
        self.steps = [s for s in self.steps if end is None or s.node.number < end]
        self.shape = nodes[-1].results[0].shape
        self.bend = ""
        self.bend_before = ""
        self.itself = False
        self.read: Spot | None = None
        self.symbols: dict[Spot, str] = {}
        self.spots: dict[str, Spot] = {}

    def found(self) -> ObservedForm:
        """The form; raises _NoFormError."""
        if not self.steps:
            raise _NoFormError("one step comes by some of its lines more often than is looked at")
        mixes = [self._mix(step) for step in self.steps]
        if len({str(mix) for mix in mixes}) > 1:
            raise _NoFormError(
                "its steps are not all made in one way: "
                + " at one, ".join(sorted({str(mix) for mix in mixes})[:2])
                + " at another"
            )
        form = GatedForm.of(mixes[-1], STATE)
        if form is None:
            raise _NoFormError(f"it is no sum a h_prev + b of the state before: {mixes[-1]}")
        self._check_gated(form)
        self._check_weights(form)
        return self._signals(form)

    def _check_gated(self, form: GatedForm) -> None:
        """Raise unless the state is a recurrent cell's: gated, or fed back."""
        step = self.steps[-1]
        made = [s for s in form.keep.symbols if self._is_made(s)]
        if made:
            return
        behind = [step.leaves[symbol] for symbol in form.write.symbols]
        if any(self._depends(value, step) for value in behind):
            return
        raise _NoFormError(
            f"h = {form.said()} adds up what does not depend on it, and no gate stands in it"
        )

    def _check_weights(self, form: GatedForm) -> None:
        """Raise if every step reads weights of its own: that is depth, and not time."""
        known = {step.index: step for step in self.steps}
        pairs = [(known[i - self.lag], known[i]) for i in known if i - self.lag in known]
        read = [
            {
                id(value.tensor)
                for symbol in form.symbols
                for node in _ancestors(step.leaves[symbol], step.before.number + 1)
                for value in node.values
                if value.node is None and isinstance(value.tensor, nn.Parameter)
            }
            for step in (pairs[-1] if pairs else ())
        ]
        if len(read) == 2 and read[0] != read[1]:
            raise _NoFormError(
                "its steps read weights of their own: it goes through layers, and not through time"
            )

    def _is_made(self, symbol: str) -> bool:
        """Whether a symbol is another value at every step."""
        values = {id(step.leaves[symbol].tensor) for step in self.steps if symbol in step.leaves}
        return len(values) > 1

    def _depends(self, value: Value, step: _Step) -> bool:
        """Whether a value of a step is made of the state before it, whichever way."""
        return any(node is step.before for node in _ancestors(value, step.before.number))

    def _mix(self, step: _Step) -> Polynomial:
        value = step.node.results[0]
        value = same_numbers(value)
        outer = []
        while value.node is not None and bends(value.node):
            inner = same_numbers(next(iter(value.node.values)))
            outer.append(value.node.function)
            value = inner
        if value.node is None:
            raise _NoFormError("it is made before the loop")
        self.bend = outer[0] if outer else ""
        if len(outer) > 1:
            raise _NoFormError(f"it is bent more than once: {' of '.join(outer)}")
        step.mix = value.node
        # where the state itself is in the mix, what is bent of it is a value as any other
        self.itself = False
        self.itself = self._carries(value, step, bent=False)
        mix = self._carrying(value, step)
        keep = mix.split(STATE)
        if keep is None:
            raise _NoFormError("the square of the state before stands in it")
        gates = self._deep(keep[0], step)
        written = self._as_gates(keep[1], set(gates.symbols), step)
        return gates * Polynomial.of(STATE) + written

    def _carrying(self, value: Value, step: _Step) -> Polynomial:
        """What a value is made of; what does not carry the state stays a symbol."""
        return self._read(value, step, lambda inner: self._carries(inner, step))

    def _carries(self, value: Value, step: _Step, bent: bool = True) -> bool:
        """Whether the state before stands in a value, number by number."""
        value = same_numbers(value)
        node = value.node
        if node is None or node.number < step.before.number:
            return False
        if node is step.before:
            return True
        if bends(node):
            inner = same_numbers(next(iter(node.values)))
            return bent and not self.itself and inner.node is step.before
        if made_of(node, lambda _: Polynomial.number(1)) is None:
            return False
        return any(self._carries(inner, step, bent) for inner in node.values)

    def _read(self, value: Value, step: _Step, opens: Any) -> Polynomial:
        """A value as a sum of products; `opens` says which values are taken apart."""

        def read(given: Any, by: Node | None = None) -> Polynomial:
            if not isinstance(given, Value):
                if isinstance(given, bool) or not isinstance(given, int | float):
                    raise _NoFormError(
                        f"it is made with {type(given).__name__}, which is no number"
                    )
                return Polynomial.number(given)
            inner = self._inner(given)
            node = inner.node
            if node is not None and node.function in MADE_OF_NOTHING and not node.in_place:
                return MADE_OF_NOTHING[node.function](node, read)
            if node is step.before:
                self._note(STATE, given, by, step)
                return Polynomial.of(STATE)
            if node is not None and opens(inner):
                if bends(node):
                    under = next(iter(node.values))
                    self.bend_before = node.function
                    self._note(STATE, under, node, step)
                    self.read = Spot(*self._place(node, step))
                    return Polynomial.of(STATE)
                # an equal call may have been made before: this step's own is read
                here = self._here(inner, step).node or node
                found = made_of(here, lambda one: read(one, here))
                if found is not None:
                    if not fits(inner.tensor, self.shape):
                        raise _NoFormError(f"it is mixed in another shape, {tuple(inner.shape)}")
                    return found
            return Polynomial.of(self._symbol(given, by, step))

        return read(value)

    def _inner(self, value: Value) -> Value:
        """The value whose numbers are read; one that broadcasts is taken in the shape it has."""
        if value.shape.numel() == self.shape.numel():
            return same_numbers(value)
        while value.first is not None:
            value = value.first
        return value

    def _here(self, value: Value, step: _Step) -> Value:
        """Of equal values the first one that is made in a step, if any is."""
        every = (one for one in (value, *value.again) if one.node and self._is_in(one.node, step))
        return next(every, value)

    def _deep(self, total: Polynomial, step: _Step) -> Polynomial:
        """A sum whose symbols are taken apart as far as sums and products go."""
        return self._opened(total, step, lambda value: True)

    def _as_gates(self, total: Polynomial, gates: set[str], step: _Step) -> Polynomial:
        """A sum in which only what is made of gates is taken apart."""

        def made_of_gates(value: Value) -> bool:
            node = self._inner(value).node
            if node is None:
                return False
            if node.function == "mul":
                return True  # a gate and what it lets through
            for inner in node.values if made_of(node, _one) is not None else ():
                known = self._known(inner, step)
                if known in gates or made_of_gates(inner):
                    return True
            return False

        return self._opened(total, step, made_of_gates)

    def _opened(self, total: Polynomial, step: _Step, opens: Any) -> Polynomial:
        made = Polynomial({})
        for product, factor in total.terms.items():
            part = Polynomial.number(factor)
            for symbol in product:
                value = step.leaves[symbol]
                node = self._here(self._inner(value), step).node
                inside = node is not None and (
                    node.number > step.after or node.function in MADE_OF_NOTHING
                )
                if symbol != STATE and inside and opens(value) and not _bent(value):
                    part = part * self._read(value, step, lambda v: opens(v) and not _bent(v))
                else:
                    part = part * Polynomial.of(symbol)
            made = made + part
        return made

    def _known(self, value: Value, step: _Step) -> str | None:
        inner = self._inner(value)
        for symbol, leaf in step.leaves.items():
            if self._inner(leaf) is inner:
                return symbol
        return None

    def _symbol(self, value: Value, by: Node | None, step: _Step) -> str:
        """The symbol of a value that is not taken apart."""
        if (known := self._known(value, step)) is not None:
            return known
        if not fits(value.tensor, self.shape):
            raise _NoFormError(
                f"it is mixed with a value of shape {tuple(value.shape)}, which is not one number "
                f"for each of its own {tuple(self.shape)}"
            )
        spot = self._spot(value, by, step)
        symbol = self.symbols.setdefault(spot, f"s{len(self.symbols)}")
        self.spots[symbol] = spot
        step.leaves[symbol] = value
        return symbol

    def _note(self, symbol: str, value: Value, by: Node | None, step: _Step) -> None:
        """Note by whom the state before is read."""
        if by is None:
            raise _NoFormError("it is the state before itself")
        step.leaves[symbol] = value
        self.spots[symbol] = self._given(value, by, step)

    def _spot(self, value: Value, by: Node | None, step: _Step) -> Spot:
        """Where a value is read: where it is made, if that is in the step; else where it goes."""
        inner = self._here(self._inner(value), step)
        if inner.node is not None and inner.node.number > step.after:
            return Spot(*self._place(inner.node, step), inner.part)
        if by is None:
            raise _NoFormError("it does not depend on the state before")
        return self._given(value, by, step)

    def _given(self, value: Value, by: Node, step: _Step) -> Spot:
        for part, argument in enumerate(by.args):
            if argument is value:
                keyword = by.names[part] if by.names else ""
                return Spot(*self._place(by, step), part, given=True, keyword=keyword)
        raise _NoFormError(f"{by.site} is given it in no place of its own")

    def _place(self, node: Node, step: _Step) -> tuple[Site, int, int]:
        """The site of a call of a step, how often a step comes by, and which time it is."""
        nodes = self.series[node.site]
        states = self.series[self.site]
        first, last = states[step.index - 1].number, states[step.index].number
        here = [one for one in nodes if first < one.number <= last]
        if node in here:
            return node.site, len(here), here.index(node)
        end = states[step.index + 1].number if step.index + 1 < len(states) else None
        here = [one for one in nodes if last < one.number and (end is None or one.number <= end)]
        if node not in here:
            raise _NoFormError(
                f"what {node.site} makes for a step is made before the one before it"
            )
        return node.site, len(here), here.index(node)

    # ------------------------------------------------------------------------------ the names

    def _signals(self, form: GatedForm) -> ObservedForm:
        step = self.steps[-1]
        output = self._output(form)
        names = self._names(form, output is not None)
        signals = [self._signal(symbol, *names[symbol]) for symbol in names]
        if (reset := self._reset(form, output and output[0].site)) is not None:
            signals.insert(0, reset)
        state = Spot(*self._place(step.node, step))
        order = {signal.name: self._number(signal.spot) for signal in signals}
        signals.sort(key=lambda signal: order[signal.name])
        mix = Spot(*self._place(step.mix, step))
        low, high = _range(self.bend)
        rename = {symbol: name for symbol, (name, _, _) in names.items()}
        plain = form.named(rename)
        # a state without a batch is one row
        shape = tuple(self.shape[1:] if len(self.shape) > 1 else self.shape)
        made = ObservedForm(
            self.site.path, "", (), plain, mix, state, self.spots[STATE], self.bend,
            self.bend_before, self.lag, read=self.read, shape=shape,
            others=tuple(self._others()), in_place=self.in_place,
        )  # fmt: skip
        if output is None:
            signals.append(Observed("h", "state", "state", state, low=low, high=high))
            return replace(made, signals=tuple(signals))
        place, value, gate, bend = output
        if gate is not None:
            signals.append(gate)
        signals.append(Observed("c", "cell state", "memory", state, low=low, high=high))
        signals.append(Observed("h", "state", "state", place))
        by = Polynomial.number(1) if gate is None else Polynomial.of(gate.name)
        return replace(made, signals=tuple(signals), output=by * value, output_bend=bend)

    def _others(self) -> Iterator[Observed]:
        """What a step makes that is one number for each of the state's."""
        step, counts = self.steps[-1], Counter[int]()
        nodes = (node for nodes in self.series.values() for node in nodes)
        for node in sorted(nodes, key=lambda one: one.number):
            if not self._is_in(node, step) or node is step.node or len(node.results) != 1:
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
            bounded = [s for s in gates if _range(_bend_of(step.leaves[s])) == (0, 1)]
            # of several, the one that is made of the state: others are given (attention, a mask)
            own = [s for s in bounded or gates if self._depends(step.leaves[s], step)]
            main = (own or bounded or gates)[0]
            keeps = form.gate.equals(Polynomial.of(main))
            share = "keeps the state at 1" if keeps else "takes the candidate at 1"
            if not keeps and not (1 - form.gate).equals(Polynomial.of(main)):
                share = "stands in the share that is kept"
            word = "forget gate" if has_output else "update gate"
            if form.gate.symbols:
                give(main, z, f"{word} ({share})", "keep" if keeps else "write")
            if len(form.candidate.symbols) == 1:
                give(form.candidate.symbols[0], n, "candidate", "candidate")
            for symbol in form.decay.symbols:
                give(symbol, self._word(symbol, "d"), "decay of the state before", "keep")
        else:
            kept = [s for s in form.keep.symbols if s not in form.write.symbols]
            if len(form.keep.terms) == 1 and len(kept) == 1:
                give(kept[0], "f", "forget gate", "keep")
            written = form.write.symbols
            if len(form.write.terms) == 1 and len(written) == 2:
                first, second = sorted(
                    written, key=lambda s: _range(_bend_of(step.leaves[s])) != (0, 1)
                )
                if _range(_bend_of(step.leaves[first])) == (0, 1):
                    give(first, "i", "input gate", "write")
                    give(second, "g", "candidate", "candidate")
        for symbol in (*form.keep.symbols, *form.write.symbols):
            role: Role = "keep" if symbol in form.keep.symbols else "write"
            give(symbol, self._word(symbol, "b"), "part of the mix", role)
        return names

    def _word(self, symbol: str, otherwise: str) -> str:
        """How the code calls a value."""
        value = self.steps[-1].leaves[symbol]
        while value.node is not None:
            site = value.node.site
            if (name := site.name(value.part)) and name.isidentifier():
                return name
            taken = re.match(r"([A-Za-z]\w*)\[", site.text)
            if taken is not None and taken.group(1) not in RESERVED:
                return taken.group(1)
            before = same_numbers(value)
            if before is value:
                break
            value = before
        return otherwise

    def _signal(self, symbol: str, name: str, words: str, role: Role) -> Observed:
        step, spot = self.steps[-1], self.spots[symbol]
        made = _observed(name, words, role, spot, step.leaves[symbol])
        inner = self._inner(step.leaves[symbol])
        if not spot.given:
            # equal calls make it again
            every = (inner, *inner.again)
            again = [one for one in every if one.node and self._is_near(one.node, step)]
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
        return replace(made, also=tuple(also - {spot}))

    def _is_near(self, node: Node, step: _Step) -> bool:
        """Whether a call is made in a step, or after it and before the next one."""
        states = self.series[self.site]
        then = states[step.index + 1].number if step.index + 1 < len(states) else None
        return step.after < node.number and (then is None or node.number < then)

    def _is_in(self, node: Node, step: _Step) -> bool:
        return step.after < node.number <= step.node.number

    def _reset(self, form: GatedForm, read_out: Site | None) -> Observed | None:
        """The reset gate: what opens and shuts the state on its way into the candidate."""
        step = self.steps[-1]
        known = (*form.keep.symbols, *form.write.symbols)
        gates = {id(same_numbers(step.leaves[s])) for s in known}
        targets = form.candidate.symbols if form.candidate else form.write.symbols
        # it works on the first state too; a gate behind the state does not
        first = self.series[self.site][0].number
        for symbol in targets:
            for node in _ancestors(step.leaves[symbol], step.before.number):
                if node.function not in ("mul", "addcmul") or node.number <= step.before.number:
                    continue
                if node.site == read_out or self.series[node.site][0].number > first:
                    continue
                values = list(node.values)
                if node.function == "addcmul":
                    values = values[1:]
                for value, other in (values[:2], values[1::-1]) if len(values) == 2 else ():
                    inner = same_numbers(value)
                    if id(inner) in gates or _range(_bend_of(inner)) != (0, 1):
                        continue
                    if inner.node is None or not self._depends(other, step):
                        continue
                    if inner.node.number <= step.after:
                        continue
                    if not fits(inner.tensor, self.shape) or inner.shape.numel() == 1:
                        continue
                    return _observed(
                        "r", "reset gate", "reset",
                        Spot(*self._place(inner.node, step), inner.part), inner
                    )  # fmt: skip
        return None

    def _output(self, form: GatedForm) -> tuple[Spot, float, Observed | None, str] | None:
        """The h that is made of the carried state and fed back, where that is another value.

        Returns:
            Where it is, the number before it, its gate, and what bends the state in it.
        """
        if len(self.steps) < 2:
            return None
        step, then = self.steps[-2], self.steps[-1]
        state = step.node
        fed = set()
        for symbol in (*form.keep.symbols, *form.write.symbols):
            fed |= {id(node) for node in _ancestors(then.leaves[symbol], state.number)}
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
            if bends(node) or made_of(node, _one) is not None
            for value in node.values
        }
        ends = [node for node in between if id(node) not in taken]
        found = [one for node in ends if (one := self._read_out(node, step)) is not None]
        # a gate before the bent state says more than the bent state alone
        return next((one for one in found if one[2] is not None), found[0] if found else None)

    def _read_out(self, node: Node, step: _Step) -> tuple[Spot, float, Observed | None, str] | None:
        """A call as gate times bent state, or bent state alone."""
        state = step.node
        bends = {"tanh", "relu", "sigmoid", "softsign", "elu", "gelu", "hardtanh", "layer_norm"}

        def bent(value: Value) -> str | None:
            inner = same_numbers(value)
            bend = ""
            while inner.node is not None and inner.node is not state:
                if inner.node.function not in bends or bend:
                    return None
                bend, inner = inner.node.function, same_numbers(next(iter(inner.node.values)))
            return bend if inner.node is state else None

        if node.function == "mul" and len(list(node.values)) == 2:
            one, other = node.values
            for value, gate in ((one, other), (other, one)):
                bend = bent(value)
                if bend is None or bent(gate) is not None:
                    continue
                shut = self._inner(gate)
                made = shut.node
                if made is None or made.number <= step.after:
                    continue
                if not fits(shut.tensor, self.shape) or not self._opens(shut, state):
                    continue
                spot = Spot(*self._place(made, step), shut.part)
                read = _observed("o", "output gate", "read", spot, shut)
                return Spot(*self._place(node, step)), 1.0, read, bend
        if node.function in ("tanh", "relu", "softsign", "elu") and node.results:
            inner = same_numbers(next(iter(node.values)))
            if inner.node is state:
                return Spot(*self._place(node, step)), 1.0, None, node.function
        return None

    def _opens(self, gate: Value, state: Node) -> bool:
        """Whether a value may be the output gate of a state: a matrix of that is not in it."""
        if not any(node is state for node in _ancestors(gate, state.number)):
            return True
        stack, seen = [gate.node], set[int]()
        while stack:  # it may look at the state number by number (a peephole)
            node = stack.pop()
            if node is state:
                return True
            if node is None or id(node) in seen or node.number <= state.number:
                continue
            seen.add(id(node))
            stack += [same_numbers(value).node for value in _parents(node)]
        return False


def _observed(name: str, words: str, role: Role, spot: Spot, value: Value) -> Observed:
    bend = _bend_of(value)
    low, high = _range(bend, value)
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


def _bend_of(value: Value) -> str:
    """The function that bent a value, also where it was bent before it was cut out of a larger."""
    seen = 0
    while value.node is not None and seen < 12:
        node = value.node
        if bends(node):
            return node.function
        inner = same_numbers(value)
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


def _bent(value: Value) -> bool:
    node = same_numbers(value).node
    return node is not None and bends(node)


def _range(bend: str, value: Value | None = None) -> tuple[float, float]:
    if bend in ("clamp", "clip", "hardtanh") and value is not None:
        node = same_numbers(value).node
        if node is not None and node.function == bend:
            low, high = node.argument(1, "min"), node.argument(2, "max")
            if isinstance(low, int | float) and isinstance(high, int | float):
                return float(low), float(high)
    if bend in ("relu", "exp", "softplus", "square", "abs"):
        return 0.0, float("inf")
    return RANGES.get(bend, (-float("inf"), float("inf")))


def _ancestors(value: Value, down_to: int) -> Iterable[Node]:
    """The calls out of which a value is made, the nearest first, down to one of a number."""
    queue = [same_numbers(value).node]
    seen = set[int]()
    while queue:
        node = queue.pop(0)
        if node is None or id(node) in seen or node.number < down_to:
            continue
        seen.add(id(node))
        yield node
        queue += [inner.node for inner in node.values]


def _one(_: Any) -> Polynomial:
    return Polynomial.number(1)


def _each(form: ObservedForm) -> list[ObservedForm]:
    """A form for each of the states that the same lines carry in turn."""
    if form.lag == 1:
        return [form]

    def turned(spot: Spot, turn: int) -> Spot:
        return replace(spot, each=spot.each * form.lag, ordinal=turn * spot.each + spot.ordinal)

    def moved(given: Sequence[Observed], turn: int) -> tuple[Observed, ...]:
        return tuple(
            replace(
                signal,
                spot=turned(signal.spot, turn),
                pre=None if signal.pre is None else turned(signal.pre, turn),
                also=tuple(turned(spot, turn) for spot in signal.also),
            )
            for signal in given
        )

    def one(turn: int) -> ObservedForm:
        return replace(
            form, signals=moved(form.signals, turn), others=moved(form.others, turn),
            mix=turned(form.mix, turn), state=turned(form.state, turn),
            before=turned(form.before, turn), turn=turn,
            read=None if form.read is None else turned(form.read, turn),
        )  # fmt: skip

    return [one(turn) for turn in range(form.lag)]


def _named(forms: Sequence[ObservedForm]) -> list[ObservedForm]:
    """The forms under the names of their layers.

    That is the module's path; where several states are carried in one module, the variable, or that
    of a call around it; and a number, where lines carry several states in turn.
    """
    many = defaultdict[str, list[ObservedForm]](list)
    for form in forms:
        many[form.path].append(form)
    names = list[str]()
    for form in forms:
        name = form.path or "cell"
        others = {one.state.site for one in many[form.path]} - {form.state.site}
        if others:
            name = f"{name}.{_own_word(form.state.site, others)}"
        if form.lag > 1:
            name = f"{name}.{form.turn}"
        count, plain = 2, name
        while name in names:
            name, count = f"{plain}_{count}", count + 1
        names.append(name)
    return [replace(form, name=name) for form, name in zip(forms, names, strict=True)]


def _own_word(site: Site, others: set[Site]) -> str:
    """What the code calls what it makes at a site, or a call around it, and nothing at others."""
    for depth in range(len(site.chain)):
        word = site.name(0, depth)
        if word and all(other.name(0, depth) != word for other in others):
            return word
    return f"line{site.line}"
