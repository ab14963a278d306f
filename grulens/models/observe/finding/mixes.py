"""The mix of a state: going back from it through sums and products to the state before.

What is met on the way and does not carry the state is a symbol: a gate, a candidate. So nothing is
guessed: the equation is the one that the code computes.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from grulens.cells.mix import GatedForm, Polynomial
from grulens.models.observe.finding.algebra import (
    MADE_OF_NOTHING,
    adds_up,
    as_number,
    bends,
    fits,
    laid,
    made_of,
    numbers_of,
    same_numbers,
)
from grulens.models.observe.finding.axes import added_along
from grulens.models.observe.finding.carried import ancestors, parents, way
from grulens.models.observe.finding.shares import handed_on
from grulens.models.observe.finding.two_ways import (
    ADVICE,
    NOT_IN_ONE_WAY,
    rival_on_the_way,
    summed,
    unlike,
)
from grulens.models.observe.form import Spot
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Value

STATE = "h_prev"
"""The symbol of the state before."""


class NoFormError(Exception):
    """A state has no gated form; the message says why.

    Attributes:
        advice: what can be done, where that is more than can be done of any.
    """

    def __init__(self, why: str, advice: str = "") -> None:
        super().__init__(why)
        self.advice = advice


class DepthError(NoFormError):
    """What is made of itself again and again goes through layers: it is no state."""


@dataclass(eq=False)
class Step:
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


class Mix:
    """The mix of one state, worked out at every step that was seen.

    Args:
        site: where the state is made.
        lag: how many states these lines carry in turn.
        series: the calls of the run by site.
        in_place: whether the code writes over values.
        unseen: by site the number of the first call that was not looked at.
        states: the sites at which the run makes states: each of these is one value in a mix.
    """

    def __init__(
        self,
        site: Site,
        lag: int,
        series: dict[Site, list[Node]],
        in_place: bool,
        unseen: dict[Site, int],
        states: Collection[Site] = (),
    ) -> None:
        self.states = frozenset(states) - {site}
        self.site, self.lag, self.series, self.in_place = site, lag, series, in_place
        self.unseen = unseen
        nodes = series[site]
        # a state that does not come from the one before begins a new run of the same lines
        ways = {i: way(nodes[i], set(map(id, nodes[:i]))) for i in range(lag, len(nodes))}
        self.steps = [
            Step(i, nodes[i - 1].number, nodes[i], nodes[i - lag], nodes[i])
            for i, way in ways.items()
            if way is not None
        ]
        self.begun = [i for i, way in ways.items() if way is None]
        """The steps that go on from no state before."""
        self._between = {i: way[1] for i, way in ways.items() if way is not None}
        # of a site by which a step comes several times, fewer steps were seen
        first, second = nodes[0].number, nodes[1].number
        inside = [s for s, seen in series.items() if any(first < n.number <= second for n in seen)]
        end = min((unseen[s] for s in inside if s in unseen), default=None)
        self.steps = [s for s in self.steps if end is None or s.node.number < end]
        last = nodes[-1].results[0].tensor
        self.shape, self.eps = last.shape, torch.finfo(last.dtype).eps
        self.size = last.numel()
        self.bend = ""
        self.bend_before = ""
        self.itself = False
        self._read_at: dict[Spot, set[Spot]] = {}
        """By where a value of the mix goes, where it is read in one step or another."""
        self.varying = set[Spot]()
        self.wholes, self.kept_whole, self.shares, self.met = False, False, set[int](), set[str]()
        # the calls that the equation is made of; what they make is no value of its own
        self.parts = set[int]()
        self.read: Spot | None = None
        self.symbols: dict[Spot, str] = {}
        self.spots: dict[str, Spot] = {}

    def form(self) -> GatedForm:
        """What the steps have in common.

        Raises:
            NoFormError: they obey no gated form, or what obeys one is no cell.
        """
        if not self.steps:
            raise NoFormError("one step comes by some of its lines more often than is looked at")
        between = [self._between[step.index] for step in self.steps]
        if other := rival_on_the_way(self.site, between):
            raise self._uneven(other, ADVICE)
        mixes = [self._mix(step) for step in self.steps]
        if len({*map(str, mixes)}) > 1 and (given := self._as_given()):
            mixes = given
        if len({*map(str, mixes)}) > 1:
            pairs = [(step.before, step.node) for step in self.steps]
            if other := unlike(pairs, between, self.series):
                raise self._uneven(other, ADVICE)
            said = sorted({self._said(mix) for mix in mixes})[:2]
            raise self._uneven(f"{' at one, '.join(said)} at another")
        form = GatedForm.of(mixes[-1], STATE)
        if form is None:
            raise NoFormError(
                f"it is no sum a h_prev + b of the state before: {self._said(mixes[-1])}"
            )
        self._check_carried()
        self._check_gated(form)
        self._check_weights()
        self._check_axes()
        return form

    def _uneven(self, other: str, advice: str = "") -> NoFormError:
        """The reason why steps are not all alike, and what can be done."""
        return NoFormError(*(summed(self.site) or (f"{NOT_IN_ONE_WAY}: {other}", advice)))

    def _as_given(self) -> list[Polynomial]:
        """The mixes, where a value that is made now here and now there is read where it goes.

        Returns:
            The mix of each step, all the same; none where they are not.
        """
        self.varying = {given for given, spots in self._read_at.items() if len(spots) > 1}
        kept = self.symbols, self.spots, [step.leaves for step in self.steps]
        self.symbols, self.spots = {}, {}
        for step in self.steps:
            step.leaves = {}
        with suppress(NoFormError):
            mixes = [self._mix(step) for step in self.steps]
            if len({*map(str, mixes)}) == 1:
                return mixes
        self.symbols, self.spots, leaves = kept
        self.varying = set()
        for step, one in zip(self.steps, leaves, strict=True):
            step.leaves = one
        return []

    def _check_carried(self) -> None:
        """Raise if what is bent into the state is carried too: that is the state, and this read."""
        if not self.bend:
            return
        mixes = {step.index: same_numbers(step.mix.results[0]).node for step in self.steps}
        for step in self.steps:
            node = mixes.get(step.index - self.lag)
            if node is None:
                continue
            # it may be added as it is, or where a mask lets it through, or laid elsewhere
            behind = (
                handed_on(leaf, node.number - 1, step.before) for leaf in step.leaves.values()
            )
            if any(id(node) in calls for calls in behind):
                raise NoFormError(
                    f"it is read out of {node.site!r}, which the loop carries itself: that is its "
                    "state"
                )

    def _check_gated(self, form: GatedForm) -> None:
        """Raise unless the state is a recurrent cell's: gated, or fed back."""
        step = self.steps[-1]
        made = [s for s in form.keep.symbols if self._is_made(s)]
        if made:
            return
        first, states = self.series[self.site][0].number, set(map(id, self.series[self.site]))
        behind = [step.leaves[symbol] for symbol in form.write.symbols]
        # by another state that the run carries it may come back a step later
        if any(id(node) in states for value in behind for node in ancestors(value, first)):
            return
        words = {symbol: self._called(symbol) for symbol in form.symbols}
        raise NoFormError(
            f"h = {form.named(words).said()} adds up what, as far as is seen, does not depend on "
            "it, and no gate stands in it"
        )

    def _called(self, symbol: str) -> str:
        """What the code calls a value that stands in the mix, or where it makes it."""
        if (spot := self.spots.get(symbol)) is None or symbol == STATE:
            return symbol
        site = spot.site
        text = site.text or f"line {site.line}"
        if spot.given:
            given = [isinstance(one, Value) for one in self.series[site][-1].args]
            said = site.argument(given, spot.part, spot.keyword)
            return f"[argument {spot.part + 1} of {text}]" if said == site.text else said
        return site.name(spot.part) or f"[{text}]"

    def _said(self, mix: Polynomial) -> str:
        return str(mix.named({symbol: self._called(symbol) for symbol in mix.symbols}))

    def _check_weights(self) -> None:
        """Raise if every step reads weights of its own: that is depth, and not time."""
        known = {step.index: step for step in self.steps}
        pairs = [(known[i - self.lag], known[i]) for i in known if i - self.lag in known]
        if not pairs:
            return
        one, other = map(self._reads, pairs[-1])
        # where one step reads more than the other, it takes another input; where an earlier one
        # read the same, several layers make a step in turn
        again = any(self._reads(step) == other for step in self.steps if step is not pairs[-1][1])
        if one - other and other - one and not again:
            raise DepthError(
                "its steps read weights of their own: it goes through layers, and not through time"
            )

    def _reads(self, step: Step) -> set[int]:
        """The parameters that a step reads."""
        return {
            id(value.tensor)
            for leaf in step.leaves.values()
            for node in ancestors(leaf, step.before.number + 1)
            for value in node.values
            if value.node is None and isinstance(value.tensor, nn.Parameter)
        }

    def _check_axes(self) -> None:
        """Raise if weights add up a state along its first axis alone: no rows stand there."""
        if len(self.shape) != 2:
            return
        step = self.steps[-1]
        made = [
            node
            for symbol in step.leaves
            for node in ancestors(step.leaves[symbol], step.before.number + 1)
            if any(self._depends(value, step) for value in node.values)
        ]
        along = added_along(made, step.before)
        if set(along) == {0}:
            raise NoFormError(
                f"weights add it up along its first axis ({along[0].site}) and never along its "
                "last: it is laid out (unit, batch), and is read as (batch, unit)",
                "Lay it out (batch, unit): h @ weight.T for weight @ h",
            )

    def _is_made(self, symbol: str) -> bool:
        """Whether a symbol is another value at every step."""
        values = {id(step.leaves[symbol].tensor) for step in self.steps if symbol in step.leaves}
        return len(values) > 1

    def _depends(self, value: Value, step: Step) -> bool:
        """Whether a value of a step is made of the state before it, whichever way."""
        return any(node is step.before for node in ancestors(value, step.before.number))

    def _mix(self, step: Step) -> Polynomial:
        value = step.node.results[0]
        value = same_numbers(value)
        outer = []
        while value.node is not None and bends(value.node):
            inner = same_numbers(next(iter(value.node.values)))
            outer.append(value.node.function)
            value = inner
        if value.node is None:
            raise NoFormError("it is made before the loop")
        self.bend = outer[0] if outer else ""
        if len(outer) > 1:
            raise NoFormError(f"it is bent more than once: {' of '.join(outer)}")
        step.mix = value.node
        # where the state itself is in the mix, what is bent of it is a value as any other
        self.itself = False
        self.itself = self._carries(value, step, bent=False)
        mix = self._carrying(value, step)
        keep = mix.split(STATE)
        if keep is None:
            raise NoFormError("the square of the state before stands in it")
        # a product of what is given to the step is one share, unless shares sum to 1 apart alone
        whole = self._taken_apart(*keep, step, wholes=True)
        if not self.kept_whole:
            return whole
        apart = self._taken_apart(*keep, step, wholes=False)
        return apart if _sums_to_1(apart) and not _sums_to_1(whole) else whole

    def _taken_apart(
        self, keep: Polynomial, write: Polynomial, step: Step, *, wholes: bool
    ) -> Polynomial:
        """The mix of a step, its shares taken apart; but for products of what is given to it."""
        self.wholes, self.kept_whole, self.shares = wholes, False, set()
        # z h + (1 - z) (h + m) keeps all of h, and z is a gate all the same
        self.met = set[str]()
        gates, met = self._deep(keep, step), set(self.met)
        return gates * Polynomial.of(STATE) + self._as_gates(write, met, step)

    def _is_whole(self, value: Value, step: Step) -> bool:
        """Whether a value is the product of what a step is given, none of it a gate of its own."""
        node = self._inner(value).node
        if not self.wholes or node is None or node.function != "mul":
            return False
        whole = all(isinstance(one, Value) for one in node.args) and not any(
            _bent(one) or self._depends(one, step) for one in node.values
        )
        self.kept_whole |= whole
        return whole

    def _is_share(self, value: Value, step: Step) -> bool:
        """Whether a value is such a product in the share of the state that is kept."""
        if whole := self._is_whole(value, step):
            self.shares.add(id(self._inner(value)))
        return whole

    def _is_pieced(self, value: Value) -> bool:
        """Whether a value is another sum of what no gate stands in here and there, by a mask."""
        node = self._inner(value).node
        return (
            node is not None
            and node.function == "where"
            and any(
                self._is_pieced(one) or (_is_sum(one) and not any(map(_bent, one.node.values)))
                for one in map(self._inner, node.values)
                if one.node is not None
            )
        )

    def _carrying(self, value: Value, step: Step) -> Polynomial:
        """What a value is made of; what does not carry the state stays a symbol."""
        return self._read(value, step, lambda inner: self._carries(inner, step))

    def _carries(self, value: Value, step: Step, bent: bool = True) -> bool:
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
        return any(self._carries(inner, step, bent) for inner in parents(node))

    def _read(self, value: Value, step: Step, opens: Any) -> Polynomial:
        """A value as a sum of products; `opens` says which values are taken apart."""

        def read(given: Any, by: Node | None = None) -> Polynomial:
            if not isinstance(given, Value):
                number = as_number(given, self.eps)
                if number is None:
                    raise NoFormError(f"it is made with {type(given).__name__}, which is no number")
                return Polynomial.number(number)
            inner = self._inner(given)
            node = inner.node
            if node is not None and node.function in MADE_OF_NOTHING and not node.in_place:
                return MADE_OF_NOTHING[node.function](node, read)
            if node is step.before:
                self._note(STATE, given, by, step)
                return Polynomial.of(STATE)
            # an equal call may have been made before: this step's own is read
            here = node and (self._here(given, step).node or node)
            if node is not None and here and opens(inner) and self._is_inner(here, step):
                if bends(node):
                    under = next(iter(node.values))
                    self.bend_before = node.function
                    self._note(STATE, under, node, step)
                    self.read = Spot(*self._place(node, step))
                    return Polynomial.of(STATE)
                try:
                    found = made_of(here, lambda one: read(one, here))
                except NoFormError:
                    if self._is_in(here, step):
                        raise
                    found = None  # what is made before the loop is a value as it is
                if found is not None:
                    if not fits(inner.tensor, self.shape):
                        self._check_rows(inner)
                        raise NoFormError(f"it is mixed in another shape, {tuple(inner.shape)}")
                    self.parts.add(id(here))
                    return found
            return Polynomial.of(self._symbol(given, by, step))

        return read(value)

    def _is_inner(self, node: Node, step: Step) -> bool:
        """Whether a call is a part of a step's mix: of this step or before all, and no state."""
        earlier = self.series[self.site][0].number < node.number < step.before.number
        return not earlier and (node is step.mix or node.site not in self.states)

    def _inner(self, value: Value) -> Value:
        """The value whose numbers are read; one that broadcasts is taken in the shape it has."""
        if value.tensor.numel() == self.size:
            return same_numbers(value)
        while value.first is not None:
            value = value.first
        return value

    def _here(self, value: Value, step: Step) -> Value:
        """The value whose numbers are read, as a step itself makes it, if it does.

        Of equal values that is the one which the mix is given; else the first one in the step.
        """
        inner, own = self._inner(value), value
        while own.tensor.numel() == self.size and (before := numbers_of(own)) is not None:
            own = before
        every = (own, inner, *inner.again)
        return next((one for one in every if one.node and self._is_in(one.node, step)), inner)

    def _deep(self, total: Polynomial, step: Step) -> Polynomial:
        """A sum whose symbols are taken apart as far as sums and products go."""
        return self._opened(
            total, step, lambda one: not self._is_share(one, step) and not self._is_pieced(one)
        )

    def _as_gates(self, total: Polynomial, gates: set[str], step: Step) -> Polynomial:
        """A sum in which only what is made of gates is taken apart."""

        def made_of_gates(value: Value) -> bool:
            node = self._inner(value).node
            if node is None or id(self._inner(value)) in self.shares or self._is_pieced(value):
                return False
            if node.function == "mul":
                return True  # a gate and what it lets through
            for inner in node.values if adds_up(node) else ():
                known = self._known(inner, step)
                if known in gates or made_of_gates(inner):
                    return True
            return False

        return self._opened(total, step, made_of_gates)

    def _opened(self, total: Polynomial, step: Step, opens: Any) -> Polynomial:
        made = Polynomial({})
        for product, factor in total.terms.items():
            part = Polynomial.number(factor)
            for symbol in product:
                value = step.leaves[symbol]
                node = self._here(value, step).node
                inside = node is not None and (
                    node.number > step.after or node.function in MADE_OF_NOTHING
                )
                if symbol != STATE and inside and opens(value) and not _bent(value):
                    part = part * self._read(value, step, lambda v: opens(v) and not _bent(v))
                else:
                    part = part * Polynomial.of(symbol)
            self.met |= set(part.symbols)
            made = made + part
        return made

    def _known(self, value: Value, step: Step) -> str | None:
        inner = self._inner(value)
        for symbol, leaf in step.leaves.items():
            if self._inner(leaf) is inner:
                return symbol
        return None

    def _symbol(self, value: Value, by: Node | None, step: Step) -> str:
        """The symbol of a value that is not taken apart."""
        if (known := self._known(value, step)) is not None:
            return known
        if not fits(value.tensor, self.shape):
            self._check_rows(value)
            raise NoFormError(
                f"it is mixed with a value of shape {tuple(value.shape)}, which is not one number "
                f"for each of its own {tuple(self.shape)}"
            )
        spot = self._spot(value, by, step)
        symbol = self.symbols.setdefault(spot, f"s{len(self.symbols)}")
        self.spots[symbol] = spot
        step.leaves[symbol] = value
        return symbol

    def _check_rows(self, value: Value) -> None:
        """Raise if a value is of a step that has another number of rows."""
        if value.shape[1:] == self.shape[1:]:
            raise NoFormError(
                f"its steps have {value.shape[0]} rows and {self.shape[0]}: rows end or begin on "
                "the way, so that none is followed from the first step to the last",
                "Keep the rows where they are, with a mask: h = torch.where(mask, new, h)",
            )

    def _note(self, symbol: str, value: Value, by: Node | None, step: Step) -> None:
        """Note by whom the state before is read."""
        if by is None:
            raise NoFormError("it is the state before itself")
        step.leaves[symbol] = value
        self.spots[symbol] = self._given(value, by, step)

    def _spot(self, value: Value, by: Node | None, step: Step) -> Spot:
        """Where a value is read: where it is made, if that is in the step; else where it goes."""
        inner = self._here(value, step)
        is_timely = inner.node is not None and self._is_timely(inner.node, by, step)
        is_laid = by is not None and laid(by) is not None and is_timely
        given = None if by is None or is_laid else self._given(value, by, step)
        made = given
        if inner.node is not None and is_timely:
            made = Spot(*self._place(inner.node, step), inner.part)
        if made is None:
            raise NoFormError("it does not depend on the state before")
        if given is None:
            return made
        self._read_at.setdefault(given, set()).add(made)
        return given if given in self.varying else made

    def _given(self, value: Value, by: Node, step: Step) -> Spot:
        for part, argument in enumerate(by.args):
            if argument is value:
                keyword = by.names[part] if by.names else ""
                return Spot(*self._place(by, step), part, given=True, keyword=keyword)
        raise NoFormError(f"{by.site} is given it in no place of its own")

    def _place(self, node: Node, step: Step) -> tuple[Site, int, int]:
        """The site of a call of a step, how often a step comes by, and which time it is."""
        nodes = self.series[node.site]
        states = self.series[self.site]
        first = states[step.index - 1].number if step.index else -1
        last = states[step.index].number
        here = [one for one in nodes if first < one.number <= last]
        if node in here:
            return node.site, len(here), here.index(node)
        end = states[step.index + 1].number if step.index + 1 < len(states) else None
        here = [one for one in nodes if last < one.number and (end is None or one.number <= end)]
        if node not in here:
            raise NoFormError(f"what {node.site} makes for a step is made before the one before it")
        return node.site, len(here), here.index(node)

    def _is_near(self, node: Node, step: Step) -> bool:
        """Whether a call is made in a step, or after it and before the next one."""
        states = self.series[self.site]
        then = states[step.index + 1].number if step.index + 1 < len(states) else None
        return step.after < node.number and (then is None or node.number < then)

    def _is_timely(self, node: Node, by: Node | None, step: Step) -> bool:
        """Whether a call is one of the step that uses it, and not made by the one before for it."""
        if node.number <= step.after:
            return False
        # in the first step it stands before its use, or it is none of that
        return by is None or self.series[node.site][0].number < self.series[by.site][0].number

    def _is_in(self, node: Node, step: Step) -> bool:
        return step.after < node.number <= step.node.number


def _sums_to_1(mix: Polynomial) -> bool:
    """Whether a mix has two shares that sum to 1."""
    form = GatedForm.of(mix, STATE)
    return form is not None and form.gate is not None and form.candidate is not None


def _is_sum(value: Value) -> bool:
    """Whether a value is the sum or the product of others."""
    node = value.node
    return node is not None and node.function in ("add", "sub", "rsub", "mul", "div", "addcmul")


def _bent(value: Value) -> bool:
    node = same_numbers(value).node
    return node is not None and bends(node)
