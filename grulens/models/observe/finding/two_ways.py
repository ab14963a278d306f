"""Why the steps of a state are not all alike: a branch makes some of them by other lines."""

from __future__ import annotations

import re
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
GO_ON = (
    "Let every step go on with the last state, and a mask say which rows change: "
    "h = torch.where(mask, new, h)"
)
"""What can be done where steps go on with an older state."""
_ADDING = {"sum", "fsum", "prod", "reduce"}
"""Python's functions that work through all that they are given, in one place."""


def summed(site: Site) -> tuple[str, str] | None:
    """Why a state is not opened that Python's `sum` or `reduce` makes, and what can be done.

    Args:
        site: where it is made.

    Returns:
        None if none of them makes it, of which no line is seen.
    """
    called = re.match(r"(?:\w+\.)*(\w+)\(", site.text)
    name = called.group(1) if called else ""
    if name not in _ADDING or name == site.function.strip("_"):
        return None
    plain = site.function.strip("_") in ("add", "radd")
    return (
        f"Python's own {name} {'adds it up' if plain else 'makes it'}, several times in one place, "
        "so that no step is told from another",
        "Write the sum out, z * h + (1 - z) * n, or torch.stack([z * h, ...]).sum(0)",
    )


def older(lags: Mapping[int, int]) -> tuple[str, str]:
    """Why a state is not opened whose steps go on with states of different age, and what to do.

    Args:
        lags: by step how many states before its own that is with which it goes on, 1 for the last.
    """
    apart = [(step, lag) for step, lag in lags.items() if lag > 1]
    listed = ", ".join(f"step {step} with that of step {step - lag}" for step, lag in apart[:3])
    more = ", ..." if len(apart) > 3 else ""
    return (
        "not every step goes on with the state that was made last: counted by the states that are "
        f"made, from 0, {listed}{more}. Its code leaves states aside in some rounds",
        GO_ON,
    )


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
