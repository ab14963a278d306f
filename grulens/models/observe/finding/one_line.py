"""Whether a loop makes all of its states by one line.

What comes by the state's own line is all that is recorded of a cell. A branch that makes the first
state or the last one elsewhere would be a step that nobody counts, and after the first one every
step would have another number than it has in the code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from grulens.models.observe.finding.algebra import same_numbers
from grulens.models.observe.finding.carried import ancestors
from grulens.models.observe.flow import body_of, innermost, is_in, start_of, tree_of
from grulens.models.observe.rivals import Rival, rivals_of
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Value


def made_in_the_loop(
    site: Site, first: Node, series: Mapping[Site, list[Node]], unseen: Mapping[Site, int]
) -> bool:
    """Whether a loop had begun before its first state was made.

    Then some line came by before that one, once again before the next state, and in every step; or
    the line that made it does so.

    Args:
        site: where the states are made.
        first: the call that made the state before the first of them.
        series: the calls of the run by site.
        unseen: by site the number of the first call that was not looked at any more.
    """
    one, two = series[site][0].number, series[site][1].number
    again = [node.number for node in series[first.site] if node.number > first.number]
    again += [unseen[first.site]] if first.site in unseen else []
    is_over = first.site in unseen and len(again) == 1
    if again and again[0] < one and (is_over or one < [*again, one][1] < two):
        return True
    return any(
        nodes[0].number < first.number < nodes[1].number < one < nodes[2].number < two
        for nodes in series.values()
        if len(nodes) > 2
    )


def stands_in_the_loop(site: Site, maker: Site) -> bool:
    """Whether a line stands in the innermost loop around that which makes the states.

    Args:
        site: where the states are made.
        maker: the line, or a call in it.
    """
    for depth, (code, (number, instruction)) in enumerate(zip(site.codes, site.chain, strict=True)):
        tree, around = tree_of(code), site.chain[depth + 1 :]
        loop = None if tree is None else innermost(code, tree, start_of(code, instruction))
        if loop is None:
            continue
        at = len(maker.chain) - len(around) - 1
        if at < 0 or maker.chain[at + 1 :] != around or maker.chain[at][0] != number:
            return False
        return is_in(code, start_of(code, maker.chain[at][1]), body_of(loop))
    return False


def other_line(
    site: Site,
    steps: Sequence[tuple[Node, Node]],
    first: Value | None,
    series: Mapping[Site, list[Node]],
    states: frozenset[Site],
) -> tuple[str, str] | None:
    """A line by which a loop makes its first state, its last or one between, and not the others.

    Args:
        site: where the states are made.
        steps: of each step that was seen the call that makes the state before, and the state.
        first: the state before the first of them; None if the step is given none.
        series: the calls of the run by site.
        states: where the run makes other states: these are steps of their own.

    Returns:
        "first", "last" or "one", and where the line stands; None if there is none.
    """
    mine = series[site]
    shape = mine[-1].results[0].shape
    for rival, place, nodes in _others(site, series):
        # what runs between a state and the one that is made of it stands in for neither
        if any(one.number < node.number < two.number for one, two in steps for node in nodes):
            continue
        made = [node for node in nodes if any(_is_numbers(value) for value in node.results)]
        if not made or made[-1].results[0].shape != shape:
            continue
        if first is not None and _is_of(first, rival, nodes):
            if _ends_recursion(rival, made):
                continue  # the state before the first step
            return "first", place
        ways = [_goes_on(run, mine) for run in _runs(nodes)]
        if False in ways or made[-1].number < mine[0].number:
            continue
        goes_on = True in ways or _is_unseen(nodes, mine)
        is_other = any(node.site in states for node in nodes)
        # what has no name of the state's is read of it, and handed to no step
        if not rival.is_state or (not goes_on and (is_other or not _is_new(made))):
            continue
        if not rival.after or _takes(nodes, mine) or not _takes(_step(mine[:2]), mine[:1]):
            return ("one" if mine[-1].number > made[-1].number else "last"), place
    return None


def _is_of(first: Value, rival: Rival, nodes: Sequence[Node]) -> bool:
    """Whether a state was made by what stands in for a line, seen or not looked at any more."""
    if first.late:
        return rival.holds(first.maker) if first.maker else rival.is_state and not rival.but
    return first.node in nodes


def _ends_recursion(rival: Rival, made: Sequence[Node]) -> bool:
    """Whether a function that calls itself ends so, with a state that is made of no input.

    Args:
        rival: an expression of its code.
        made: the calls that make its numbers.
    """
    code = rival.code
    is_blank = all(not node.values or _is_blank(node) for node in made)
    return is_blank and code.co_name in (*code.co_names, *code.co_freevars)


def _runs(nodes: Sequence[Node]) -> list[list[Node]]:
    """The calls of each time that some code ran."""
    begins = [n for n, node in enumerate(nodes) if node.site == nodes[0].site]
    return [[*nodes[a:b]] for a, b in pairwise([*begins, len(nodes)])]


def _goes_on(run: Sequence[Node], mine: Sequence[Node]) -> bool | None:
    """Whether some calls go on with the last state that was made; None if they read no state.

    What reads an earlier one, or what was made of it, and not that is another layer over them all.
    """
    before = [node for node in mine if node.number < run[0].number]
    own, read = {node.site for node in run}, list[Node]()
    stack = [value for node in run for value in node.values]
    seen = set[int]()
    while stack:
        node = same_numbers(stack.pop()).node
        if node is None or id(node) in seen or node.site in own:
            continue
        seen.add(id(node))
        if node in before:
            read.append(node)
        elif before and node.number > before[0].number and not _is_blank(node):
            stack += () if _gathers(node, before) else node.values
    return before[-1] in read if read else None


def _gathers(node: Node, states: Sequence[Node]) -> bool:
    """Whether a call lays several states side by side, or what was made of each: that is no state.

    Args:
        node: the call.
        states: the calls that make states.
    """
    known, found = {*map(id, states)}, set[int]()
    deep = node.function in _GATHERS
    stack, seen = [*node.values], set[int]()
    while stack:
        by = same_numbers(stack.pop()).node
        if by is None or id(by) in seen or by.number < states[0].number:
            continue
        seen.add(id(by))
        if id(by) in known:
            found.add(id(by))
        elif deep:
            stack += by.values
    return len(found) > 1


_GATHERS = {"stack", "cat", "hstack", "vstack", "dstack", "column_stack", "setitem", "copy"}
"""Functions that put values beside one another."""


def _is_blank(node: Node) -> bool:
    """Whether a call takes no numbers of what it is given, but its shape."""
    return node.function.endswith("_like") or node.function.startswith("new_")


def _step(states: Sequence[Node]) -> list[Node]:
    """The calls that make the last of some states of those before."""
    found = [*ancestors(states[-1].results[0], states[0].number)]
    return [node for node in found if node not in states[:-1]]


def _takes(nodes: Sequence[Node], mine: Sequence[Node]) -> bool:
    """Whether some calls take an input that no state has taken."""
    taken = {
        id(same_numbers(value))
        for node in ancestors(mine[-1].results[0], 0)
        if node.function not in _CUTS
        for value in node.values
    }
    stack = [(value, True) for node in nodes for value in node.values]
    seen = set[int]()
    while stack:
        given, asked = stack.pop()
        value = same_numbers(given)
        if asked and (id(value) in taken or id(value) in seen):
            continue
        seen.add(id(value))
        node = value.node
        if node is None:
            if not isinstance(value.tensor, torch.nn.Parameter):
                return True
        elif node not in mine:
            # another part of what states have taken is another input
            stack += ((one, node.function not in _CUTS) for one in node.values)
    return False


_CUTS = {"getitem", "unbind", "select", "narrow", "chunk", "split", "index_select", "iter"}
"""Functions that cut an input out of many."""


def _is_new(made: Sequence[Node]) -> bool:
    """Whether calls make nothing of what they made before."""
    before = dict[Site, int]()
    for node in made:
        since = before.setdefault(node.site, node.number)
        every = ancestors(node.results[0], since)
        if any(one.site == node.site and one is not node for one in every):
            return False
    return True


def not_run(site: Site, series: Mapping[Site, list[Node]]) -> Iterator[Rival]:
    """What the code may run in place of the line that makes a state, and did not in a run."""
    for rival in rivals_of(site):
        held = [*filter(rival.holds, series)]
        if rival.varies:
            yield rival.besides(held)
        elif not (rival.but or rival.always or held):
            yield rival


def _others(
    site: Site, series: Mapping[Site, list[Node]]
) -> Iterator[tuple[Rival, str, list[Node]]]:
    """What ran in place of a line, where that is, and its calls."""
    for rival in rivals_of(site):
        apart = defaultdict[Any, list[Node]](list)
        for one in filter(rival.holds, series):
            apart[rival.called(one) if rival.but else ""] += series[one]
        for every in apart.values():
            nodes = sorted(every, key=lambda node: node.number)
            if rival.always:
                nodes = _one_more(nodes, series[site])
            if nodes:
                last = nodes[-1].site
                inside = f", in {last.path!r}" if last.path != site.path else ""
                yield rival, f"{last!r}{inside}" if rival.but else str(rival), nodes


def _one_more(nodes: Sequence[Node], mine: Sequence[Node]) -> list[Node]:
    """What runs once for each state, where it runs once more behind the last one: only that."""
    later = [node for node in nodes if node.number > mine[-1].number]
    before = [node for node in nodes if node.site == nodes[0].site and node not in later]
    return later if len(before) == len(mine) else []


def _is_numbers(value: Value) -> bool:
    return value.tensor.is_floating_point() and value.tensor.dim() > 0


def _is_unseen(nodes: Sequence[Node], mine: Sequence[Node]) -> bool:
    """Whether calls read what a call has made that was not looked at, in the shape of a state."""
    read = (same_numbers(value) for node in nodes for value in node.values)
    return any(one.late and one.shape == mine[-1].results[0].shape for one in read)
