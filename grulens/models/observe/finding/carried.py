"""Which states a run carries from step to step, and out of what a call works number by number."""

from __future__ import annotations

from collections.abc import Iterable

from grulens.models.observe.finding.algebra import adds_up, bends, laid, same_numbers
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Value


def carried(series: dict[Site, list[Node]]) -> dict[Site, int]:
    """The sites that carry a state, each with how many states it carries in turn."""
    ways: dict[Site, tuple[int, set[Site]]] = {}
    for site, nodes in series.items():
        if len(nodes) > 1 and _is_state(nodes[-1]):
            ages = lags(nodes)
            if len({*ages.values()}) == 1:
                i = max(ages)
                if (found := way(nodes[i], set(map(id, nodes[:i])))) is not None:
                    ways[site] = ages[i], found[1]
    # what lies on the way from a state to itself are places of one and the same cycle
    cycles: list[set[Site]] = []
    for site, (_, between) in ways.items():
        touched = [one for one in cycles if one & ({site} | between)]
        cycles = [one for one in cycles if one not in touched]
        cycles.append({site}.union((between & ways.keys()), *touched))
    lasts = [max(cycle, key=lambda one: series[one][0].number) for cycle in cycles]
    lasts.sort(key=lambda site: series[site][0].number)
    return {site: ways[site][0] for site in lasts}


def lags(nodes: list[Node]) -> dict[int, int]:
    """By step how many states before its own that is out of which a step makes its state.

    Args:
        nodes: the calls that make the states; a step that goes on from none of them is left out.
    """
    earlier, ages = set[int](), dict[int, int]()
    for i, node in enumerate(nodes):
        if (last := _last(node, earlier)) is not None:
            ages[i] = i - nodes.index(last)
        earlier.add(id(node))
    return ages


def _is_state(node: Node) -> bool:
    if len(node.results) != 1 or node.results[0].node is not node:
        return False
    value = node.results[0]
    return (
        value.tensor.is_floating_point()
        and value.tensor.dim() > 0
        and (bends(node) or adds_up(node))
    )


def way(node: Node, earlier: set[int]) -> tuple[Node, set[Site]] | None:
    """The latest of some earlier calls out of which a call is made number by number.

    Args:
        node: the call.
        earlier: the earlier ones, by id.

    Returns:
        That call, and the sites on the way; None if there is none.
    """
    above: dict[int, list[Node]] = {}
    last = _last(node, earlier, above)
    if last is None:
        return None
    between, back = set[Site](), [last]
    walked = {id(last)}
    while back:
        for one in above.get(id(back.pop()), ()):
            between.add(one.site)
            if id(one) not in walked:
                walked.add(id(one))
                back.append(one)
    return last, between


def _last(node: Node, earlier: set[int], above: dict[int, list[Node]] | None = None) -> Node | None:
    """The call that `way` reaches.

    Args:
        node: as there.
        earlier: as there.
        above: where to note by which calls each one that was met is read, if that is asked for.
    """
    reached: list[Node] = []
    # bends may stand outside of the mix, and right at the state before; not in between
    stack = [(node, False)]
    seen = {(id(node), False)}
    while stack:
        one, inside = stack.pop()
        bent, makers = one.below or _below(one)
        for by in makers:
            is_earlier = id(by) in earlier
            if bent and inside and not is_earlier:
                continue
            if above is not None:
                above.setdefault(id(by), []).append(one)
            key = id(by), inside or not bent
            if is_earlier:
                reached.append(by)
            elif key not in seen:
                seen.add(key)
                stack.append((by, key[1]))
    return max(reached, key=lambda one: one.number) if reached else None


def _below(node: Node) -> tuple[bool, tuple[Node, ...]]:
    """Whether a call bends what it works on number by number, and which calls made that."""
    makers = (same_numbers(value).node for value in parents(node))
    node.below = bends(node), tuple(by for by in makers if by is not None)
    return node.below


def parents(node: Node) -> Iterable[Value]:
    """What a call works on number by number."""
    if node.works_on is None:
        if bends(node):
            node.works_on = node.values[:1]
        else:
            number_by_number = adds_up(node)
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
