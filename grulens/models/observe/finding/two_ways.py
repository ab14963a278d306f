"""Why the steps of a state are not all alike: a branch makes some of them by other lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from grulens.models.observe.flow import loops_of, start_of, tree_of
from grulens.models.observe.rivals import rivals_of
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node

NOT_IN_ONE_WAY = "its steps are not all made in one way"
ADVICE = (
    "Make every step in one way, with torch.where(mask, one, another); a mask that is True nowhere "
    "changes nothing"
)
SUMMED = (
    "Python's own sum adds it up, several times in one place, so that no step is told from another",
    "Write the sum out, z * h + (1 - z) * n, or torch.stack([z * h, ...]).sum(0)",
)
"""Why a state that Python's `sum` makes is not opened, and what can be done."""


def is_summed(site: Site) -> bool:
    """Whether Python's `sum`, of which no line is seen, makes what a site makes."""
    return site.text.startswith("sum(") and site.function.strip("_") in ("add", "radd")


def rival_on_the_way(site: Site, between: Sequence[set[Site]]) -> str:
    """The line by which a loop makes some of its states, where another line makes the others.

    No round of the loop comes by both, so from one state to the next of the same line lies more
    than one round.

    Args:
        site: where the states are made.
        between: of each step the sites on the way from the state before to the state.
    """
    on_the_way = set[Site]().union(*between)
    for rival in rivals_of(site):
        in_place_of_it = rival.is_state and not (rival.but or rival.always)
        if in_place_of_it and any(map(rival.holds, on_the_way)):
            return f"some are made in {rival}"
        # in one round of the only loop a call calls one thing: another is another round's
        others = [one for one in on_the_way if rival.but and rival.holds(one)]
        if others and _loops_around(site) == 1:
            last = max(others, key=lambda one: (one.line, len(one.text), one.path))
            inside = f", in {last.path!r}" if last.path != site.path else ""
            return f"some are made in {_said(last)}{inside}"
    return ""


def _loops_around(site: Site) -> int | None:
    """How many loops stand around a site, in all calls that lead there; None if nobody has them."""
    count = 0
    for code, (_, instruction) in zip(site.codes, site.chain, strict=True):
        tree = tree_of(code)
        if tree is None:
            return None
        count += len(loops_of(code, tree, start_of(code, instruction)))
    return count


def unlike(
    steps: Sequence[tuple[Node, Node]],
    between: Sequence[set[Site]],
    series: Mapping[Site, list[Node]],
) -> str:
    """By which lines some steps come and others do not, or more often; "" if there are none.

    Args:
        steps: of each step the call that makes the state before, and the one that makes the state.
        between: of each the sites on the way.
        series: the calls of the run by site.
    """
    many = len(steps)
    for site in sorted(set[Site]().union(*between), key=lambda one: -series[one][-1].number):
        some = sum(site in sites for sites in between)
        if some < many:
            return f"{_said(site)} stands in {some} of the {many} that were looked at"
    counts = [
        Counter(
            site
            for site, nodes in series.items()
            for node in nodes
            if before.number < node.number <= state.number
        )
        for before, state in steps
    ]
    for site in sorted(set().union(*counts), key=lambda one: -series[one][-1].number):
        times = {count[site] for count in counts}
        if len(times) > 1:
            return (
                f"from one to the next {_said(site)} is passed {min(times)} to {max(times)} times, "
                "so a round of the loop makes none by this line, or several"
            )
    return ""


def _said(site: Site) -> str:
    return repr(site) + (f" (`{site.text}`)" if site.text else "")
