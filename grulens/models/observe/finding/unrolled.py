"""Loops whose round makes several steps, each by a line of its own: they are steps of one layer.

Where a round makes its state twice (`for t in range(0, steps, 2)`), the second line goes on with
what the first one made, and computes the same of it. That shows when both are taken apart side by
side: call by call they are the same, down to the state before. What stands in the second line is
then read as if it stood in the first one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from grulens.models.observe.finding.carried import way
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Trace, Value

_CUTS = {"getitem", "select", "narrow", "index_select"}
"""Functions that cut an input out of many: in another step, another one."""
_GATES = {"mul", "lerp", "addcmul", "where", "einsum", "masked_fill"}
"""Functions by which a share of a state is kept."""


@dataclass(frozen=True)
class Unrolled:
    """The lines of a round that make a state each, out of the one before.

    Attributes:
        lines: where they stand, the last one last.
        alias: by site of the later ones that of the first one where the same is made; empty where
            they have weights of their own, or stand in other modules.
    """

    lines: tuple[Site, ...]
    alias: Mapping[Site, Site]

    @property
    def words(self) -> str:
        """What must be known of a layer whose steps are its rounds."""
        where = [f"line {one.line}" + f" ({one.path!r})" * bool(one.path) for one in self.lines]
        return (
            f"a step here makes {len(where)} states, one out of the other ({', '.join(where)} of "
            f"{self.lines[-1].file}): all but the last one are no states of this layer, and their "
            "gates stand multiplied in its equation"
        )


def unrolled(site: Site, series: Mapping[Site, list[Node]]) -> Unrolled | None:
    """The lines by which a round makes its state several times; None if it does so once.

    Args:
        site: where the state is made, as the last of its round.
        series: the calls of a run by site.
    """
    nodes = series[site]
    before, node = nodes[-2], nodes[-1]
    found = way(node, set(map(id, nodes[:-1])))
    if found is None or found[0] is not before:
        return None
    between = [
        one
        for other in found[1]
        for one in series[other]
        if before.number < one.number < node.number
    ]
    gates = [one.number for one in between if one.function in _GATES]
    tops = sorted((n for n in between if n.function == node.function), key=lambda n: n.number)
    for top in tops:
        if any(number <= top.number for number in gates):
            step = _Step(before, top, series[top.site][0])
            lines = [top]
            while lines[-1] is not node:
                after = (one for one in (*tops, node) if one.number > lines[-1].number)
                again = next((one for one in after if step.is_again(one, lines[-1])), None)
                if again is None:
                    break
                lines.append(again)
            else:
                sites = [one.site for one in lines]
                return Unrolled(tuple(sites), {} if step.own else step.joined(sites, series))
    return None


def joined(
    trace: Trace, states: Mapping[Site, int], series: Mapping[Site, list[Node]]
) -> tuple[dict[Site, Site], dict[Site, Unrolled]]:
    """The sites of a run that are read as others, and the rounds that are steps of their own.

    Args:
        trace: the run; the sites of its calls are those as which they are read, from now on.
        states: where it makes states, and how many in turn.
        series: its calls by site.
    """
    alias, apart = dict[Site, Site](), dict[Site, Unrolled]()
    for site, lag in states.items():
        found = unrolled(site, series) if lag == 1 else None
        if found is not None and found.alias:
            alias |= found.alias
        elif found is not None:
            apart[site] = found
    for node in trace.nodes if alias else ():
        node.site = alias.get(node.site, node.site)
    late = defaultdict[Site, list[int]](list)
    for site, number in trace.unseen.items():
        late[alias.get(site, site)].append(number)
    trace.unseen = {site: min(numbers) for site, numbers in late.items()}
    return alias, apart


class _Step:
    """A step, and the other ones that compute the same of the state before them.

    Args:
        base: the call that makes the state before it.
        top: the call that makes its own.
        first: the call that makes the first state of the run.

    Attributes:
        own: whether some of them have weights or modules of their own.
    """

    def __init__(self, base: Node, top: Node, first: Node) -> None:
        self._base, self._top, self._first = base, top, first
        self._same: list[tuple[Site, Site]] = []
        self.own = False

    def is_again(self, top: Node, base: Node | None, makers: Collection[Site] = ()) -> bool:
        """Whether a call ends a step that is the same, call by call, down to the state before it.

        Args:
            top: the call.
            base: the call that makes the state before it; None if nobody looked at that.
            makers: where it may stand then.
        """
        sites, own = list[tuple[Site, Site]](), False
        stack, seen = [(self._top, top)], set[tuple[int, int]]()
        while stack:
            a, b = stack.pop()
            if (id(a), id(b)) in seen:
                continue
            seen.add((id(a), id(b)))
            if a.function != b.function or a.kwargs.keys() != b.kwargs.keys():
                return False
            own |= a.site.path != b.site.path
            sites.append((a.site, b.site))
            ones, others = ([*_leaves([n.args, *n.kwargs.values()])] for n in (a, b))
            if len(ones) != len(others):
                return False
            for x, y in zip(ones, others, strict=True):
                if x is y:
                    continue
                if not isinstance(x, Value) or not isinstance(y, Value):
                    if isinstance(x, Value) or isinstance(y, Value):
                        return False
                    if x != y and a.function not in _CUTS:
                        return False
                    continue
                late = y.late and y.maker in makers
                is_base = late if base is None else y.node is base
                if (x.node is self._base) != is_base or x.shape != y.shape:
                    return False
                if is_base or x.node is y.node:
                    own |= x.node is None and isinstance(x.tensor, nn.Parameter)
                elif x.node is None or y.node is None or x.node.function != y.node.function:
                    return False
                elif (
                    base is not None
                    and x.node.number < self._base.number < y.node.number < base.number
                ):
                    sites.append((x.node.site, y.node.site))  # handed on by the step before
                elif y.node.number > self._base.number:
                    stack.append((x.node, y.node))
                elif y.node.number > self._first.number:
                    return False  # it reads an older state
        if not makers:
            self.own |= own
        if not (makers and own):
            self._same += sites
        return True

    def joined(self, lines: Sequence[Site], series: Mapping[Site, list[Node]]) -> dict[Site, Site]:
        """By site that of the first line, or of the first that comes by, where the same is made.

        Args:
            lines: where a round makes its states.
            series: the calls of the run by site.
        """
        self._go_on(lines, series)
        groups: list[set[Site]] = []
        for pair in self._same:
            touched = [one for one in groups if not one.isdisjoint(pair)]
            groups = [one for one in groups if one not in touched]
            groups.append(set(pair).union(*touched))
        found = dict[Site, Site]()
        for group in groups:
            first = min(group, key=lambda one: series[one][0].number)
            found |= {one: first for one in group if one != first}
        return found

    def _go_on(self, lines: Sequence[Site], series: Mapping[Site, list[Node]]) -> None:
        """Find the lines that make the steps which are left over when the rounds have ended."""
        states = [node for line in lines for node in series[line]]
        last = max(states, key=lambda one: one.number)
        for nodes in series.values():
            node = nodes[0]
            if node.function == self._top.function and node.number > last.number:
                self.is_again(node, last, lines) or self.is_again(node, None, lines)


def _leaves(given: Any) -> Iterator[Any]:
    if isinstance(given, tuple | list):
        for part in given:
            yield from _leaves(part)
        yield len(given)
    else:
        yield given
