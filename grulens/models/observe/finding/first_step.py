"""Whether a loop makes its first state by the line that makes all others.

What comes by the state's own line is all that is recorded of a cell. A branch that makes the first
state elsewhere would be a step that nobody counts, and every other step would have another number
than it has in the code.
"""

from __future__ import annotations

from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node


def made_in_the_loop(site: Site, first: Node, series: dict[Site, list[Node]]) -> bool:
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
