"""Which states a run carries from step to step, and out of what a call works number by number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from grulens.cells.mix import Polynomial
from grulens.models.observe.finding.algebra import bends, laid, made_of, same_numbers
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Value


def carried(series: dict[Site, list[Node]]) -> dict[Site, int]:
    """The sites that carry a state, each with how many states it carries in turn."""
    ways: dict[Site, tuple[int, set[Site]]] = {}
    for site, nodes in series.items():
        if len(nodes) > 1 and _is_state(nodes[-1]):
            steps = [way(nodes[i], site, set(map(id, nodes[:i]))) for i in range(1, len(nodes))]
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


def lags(site: Site, nodes: list[Node]) -> dict[int, int]:
    """By step how many states before its own that is out of which a step makes its state.

    Args:
        site: where the states are made.
        nodes: the calls there; a step that goes on from none of them is left out.
    """
    ways = {i: way(nodes[i], site, set(map(id, nodes[:i]))) for i in range(1, len(nodes))}
    return {i: i - nodes.index(one[0]) for i, one in ways.items() if one is not None}


def _is_state(node: Node) -> bool:
    if len(node.results) != 1 or node.results[0].node is not node:
        return False
    value = node.results[0]
    return (
        value.tensor.is_floating_point()
        and value.tensor.dim() > 0
        and (bends(node) or made_of(node, as_one) is not None)
    )


def way(node: Node, site: Site, earlier: set[int]) -> tuple[Node, set[Site]] | None:
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
        for value in parents(one):
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


def parents(node: Node) -> Iterable[Value]:
    """What a call works on number by number."""
    if node.works_on is None:
        if bends(node):
            node.works_on = node.values[:1]
        else:
            number_by_number = made_of(node, as_one) is not None
            node.works_on = (laid(node) or node.values) if number_by_number else ()
    return node.works_on


def ancestors(value: Value, down_to: int) -> Iterable[Node]:
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


def as_one(_: Any) -> Polynomial:
    """Anything as a number: to ask only whether a call is a sum of products."""
    return Polynomial.number(1)
