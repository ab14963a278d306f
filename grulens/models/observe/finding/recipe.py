"""By which calls a cell's first state is made: what a run of zeros can still be compared by.

The equation of a cell is checked at every step of every run. Where all states before a step are
zero, as in a run of one step, what is kept of them is in no number, and every equation that makes
the same new values holds. Then the code is asked: an equation is made of calls of torch and of the
numbers that these are given, and a run that comes by the same calls with the same numbers obeys it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grulens.models.observe.finding.algebra import (
    MADE_OF_NOTHING,
    adds_up,
    as_number,
    bends,
    numbers_of,
    same_numbers,
)
from grulens.models.observe.finding.carried import parents
from grulens.models.observe.form import ObservedForm
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Value

GIVEN = "a value that is given to the step"


@dataclass(frozen=True)
class Made:
    """One call of those by which a state is made.

    Attributes:
        site: where it stands.
        given: what it is given: the place of another of these calls, or the site at which a signal
            is made, each with the part of its result; `GIVEN`; or a number as it is written.
    """

    site: Site
    given: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Recipe:
    """By which calls a run made the first state of a cell.

    Attributes:
        calls: these calls, the state itself first; of states that are carried in turn, those of
            each first one; and those of an h that is made of the state.
        inside: where a step calls torch.
        outside: where else the run did.
    """

    calls: tuple[tuple[Made, ...], ...]
    inside: frozenset[Site]
    outside: frozenset[Site]


def recipe_of(form: ObservedForm, nodes: Sequence[Node]) -> Recipe:
    """By which calls a run made the first state of a cell that was found in it.

    Args:
        form: the cell.
        nodes: what the run called.
    """
    series = _by_site(nodes)
    first, second = (node.number for node in series[form.state.site][:2])
    inside = frozenset(node.site for node in nodes if first < node.number <= second)
    return Recipe(tuple(_made(form, series, inside)), inside, frozenset({*series} - inside))


def made_otherwise(form: ObservedForm, recipe: Recipe, nodes: Sequence[Node]) -> str:
    """What a run makes otherwise than the one in which a cell was found, in words; "" if nothing.

    Args:
        form: the cell.
        recipe: by which calls its first state was made there.
        nodes: what the run called.
    """
    series = _by_site(nodes)
    if form.state.site not in series:
        return f"{form.state.site!r} did not run once more"
    new = {*series} - recipe.inside - recipe.outside
    inside = recipe.inside | new
    for calls, known in zip(_made(form, series, inside), recipe.calls, strict=False):
        for now, then in zip(calls, known, strict=False):
            if now != then:
                return _said(now, then)
    made = {id(node) for node in series[form.state.site]}
    for node in nodes:
        if any(id(same_numbers(value).node) in made for value in parents(node)):
            made.add(id(node))
            if node.site in new:
                return f"{node.site!r} makes more of its state, and did not run there"
    return ""


def _by_site(nodes: Sequence[Node]) -> Mapping[Site, list[Node]]:
    series = defaultdict[Site, list[Node]](list)
    for node in nodes:
        series[node.site].append(node)
    return series


def _made(
    form: ObservedForm, series: Mapping[Site, list[Node]], inside: Collection[Site]
) -> Iterator[tuple[Made, ...]]:
    """The calls that make the first states, and what is made of them."""
    ends = {one.spot.site for one in form.signals if not one.spot.given}
    roots = [(form.state.site, turn) for turn in range(form.lag)]
    if form.output is not None:
        roots.append((form.signals[-1].spot.site, form.signals[-1].spot.ordinal))
    for site, ordinal in roots:
        if len(series.get(site, ())) > ordinal:
            yield _calls(series[site][ordinal], ends - {site}, inside)


def _calls(root: Node, ends: Collection[Site], inside: Collection[Site]) -> tuple[Made, ...]:
    """The calls of a step by which a state is made, down to its signals and to what it is given."""
    order, places = [root], {id(root): 0}

    def said(given: Any) -> Any:
        if not isinstance(given, Value):
            number = as_number(given)
            plain = given if number is None else number
            return repr(plain) if isinstance(plain, _PLAIN) else type(given).__name__
        value = given
        while value.node not in (None, root) and (before := numbers_of(value)) is not None:
            if value.node.site in inside and _from_outside(before, inside):
                break  # a run of one step cuts nothing off what was made before its loop
            value = before
        node = value.node
        if node is None or _from_outside(value, inside):
            return GIVEN
        if node.site in ends or not _is_part(node):
            return node.site, value.part
        if id(node) not in places:
            places[id(node)] = len(order)
            order.append(node)
        return places[id(node)], value.part

    found: list[Made] = []
    for node in order:  # which grows on the way
        given = () if node.function in MADE_OF_NOTHING else (*node.args, *node.kwargs.values())
        found.append(Made(node.site, tuple(map(said, given))))
    return tuple(found)


def _from_outside(value: Value, inside: Collection[Site]) -> bool:
    """Whether no call of the step made a value."""
    return value.node is None or value.node.site not in inside


_PLAIN = int | float | str | None
"""What a sum of products or what bends a value is told besides tensors."""


def _is_part(node: Node) -> bool:
    """Whether a call may be one that an equation is made of."""
    return bends(node) or node.function in MADE_OF_NOTHING or adds_up(node)


def _said(now: Made, then: Made) -> str:
    text = f" (`{now.site.text}`)" if now.site.text else ""
    where = f"{now.site!r}{text}"
    if now.site != then.site:
        return f"{where} runs where {then.site!r} ran"
    pairs = [pair for pair in zip(now.given, then.given, strict=False) if pair[0] != pair[1]]
    numbers = [pair for pair in pairs if {*map(type, pair)} == {str} and GIVEN not in pair]
    if not numbers:
        return f"{where} is given another value"
    return f"{where} is given " + " and ".join(f"{one} for {other}" for one, other in numbers)
