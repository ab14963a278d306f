"""Whether a loop makes all of its states by one line.

What comes by the state's own line is all that is recorded of a cell. A branch that makes the first
state or the last one elsewhere would be a step that nobody counts, and after the first one every
step would have another number than it has in the code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch

from grulens.models.observe.finding.algebra import same_numbers
from grulens.models.observe.finding.carried import ancestors
from grulens.models.observe.rivals import Rival, rivals_of
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Value


def made_in_the_loop(site: Site, first: Node, series: Mapping[Site, list[Node]]) -> bool:
    """Whether a loop had begun before its first state was made.

    Then some line came by before that one, once again before the next state, and in every step.

    Args:
        site: where the states are made.
        first: the call that made the state before the first of them.
        series: the calls of the run by site.
    """
    one, two = series[site][0].number, series[site][1].number
    return any(
        nodes[0].number < first.number < nodes[1].number < one < nodes[2].number < two
        for nodes in series.values()
        if len(nodes) > 2
    )


def other_line(
    site: Site,
    steps: Sequence[tuple[Node, Node]],
    first: Node | None,
    series: Mapping[Site, list[Node]],
    states: frozenset[Site],
) -> tuple[str, str] | None:
    """A line by which a loop makes its first state, its last or one between, and not the others.

    Args:
        site: where the states are made.
        steps: of each step that was seen the call that makes the state before, and the state.
        first: the call that made the state before the first of them; None if nobody saw one.
        series: the calls of the run by site.
        states: where the run makes other states: these are steps of their own.

    Returns:
        "first", "last" or "one", and where the line stands; None if there is none.
    """
    mine = series[site]
    shape = mine[-1].results[0].shape
    for place, is_state, nodes in _others(site, series):
        if any(node.site in states for node in nodes):
            continue
        # what runs between a state and the one that is made of it stands in for neither
        if any(one.number < node.number < two.number for one, two in steps for node in nodes):
            continue
        made = [node for node in nodes if any(_is_numbers(value) for value in node.results)]
        if not made or made[-1].results[0].shape != shape:
            continue
        if first is not None and first in nodes:
            return "first", place
        behind = made[-1].number > mine[0].number
        goes_on = any(node in mine for node in ancestors(made[-1].results[0], mine[0].number))
        # of long runs the last states were not looked at
        goes_on = goes_on or any(
            _is_unseen(value, shape) for node in nodes for value in node.values
        )
        once = is_state and max(Counter(node.site for node in made).values()) == 1
        if behind and (goes_on or once):
            return ("one" if mine[-1].number > made[-1].number else "last"), place
    return None


def not_run(site: Site, series: Mapping[Site, list[Node]]) -> tuple[Rival, ...]:
    """What the code may run in place of the line that makes a state, and did not in a run."""
    return tuple(
        rival for rival in rivals_of(site) if not any(rival.holds(one.chain) for one in series)
    )


def _others(
    site: Site, series: Mapping[Site, list[Node]]
) -> Iterator[tuple[str, bool, list[Node]]]:
    """What ran in place of a line: where that is, whether it makes the state, and its calls."""
    for rival in rivals_of(site):
        of = [node for one in series if rival.holds(one.chain) for node in series[one]]
        yield str(rival), rival.is_state, sorted(of, key=lambda node: node.number)
    for one, nodes in series.items():
        # another module of the same class, in the same line
        if one.path != site.path and (one.chain, one.function) == (site.chain, site.function):
            yield f"{one!r}, in {one.path!r}", True, nodes


def _is_numbers(value: Value) -> bool:
    return value.tensor.is_floating_point() and value.tensor.dim() > 0


def _is_unseen(value: Value, shape: torch.Size) -> bool:
    held = same_numbers(value)
    is_weight = isinstance(held.tensor, torch.nn.Parameter)
    return held.node is None and held.shape == shape and not is_weight
