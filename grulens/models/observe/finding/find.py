"""Finds the gates of a run: the states that it carries, and the mixes that make them.

A state is what a step makes out of what the step before it made at the same place. `carried` finds
these, `mixes` what they are mixed of, and `signals` what that is called.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from torch._C._functorch import is_batchedtensor

from grulens.models.observe.finding.algebra import alike
from grulens.models.observe.finding.carried import carried
from grulens.models.observe.finding.mixes import DepthError, NoFormError, Step
from grulens.models.observe.finding.refused import (
    ONE_BATCH,
    NotFound,
    Remade,
    from_elsewhere,
    nearest,
)
from grulens.models.observe.finding.signals import Signals
from grulens.models.observe.finding.two_ways import GO_ON
from grulens.models.observe.finding.unrolled import Unrolled, joined, unrolled
from grulens.models.observe.form import Observed, ObservedForm, Spot
from grulens.models.observe.rivals import behind, words_of
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Node, Trace, Value


def find(trace: Trace, taken: Collection[str] = ()) -> tuple[list[ObservedForm], list[NotFound]]:
    """The observed cells of a run, in the order in which it came by them, and what was refused.

    Args:
        trace: what the run called.
        taken: names that no cell is given: other layers have them.
    """
    alike(trace.nodes)
    series = _series(trace)
    states = carried(series)
    own = [node.site for node in trace.nodes], dict(trace.unseen)
    alias, apart = joined(trace, states, series)
    if alias:
        series = _series(trace)
        found, refused = _found(trace, series, carried(series), apart, alias, taken)
        if not refused:
            return found, refused
        # what cannot be read as one line is read as it stands
        for node, site in zip(trace.nodes, own[0], strict=True):
            node.site = site
        trace.unseen, series = own[1], _series(trace)
        apart = {site: one for site in states if (one := unrolled(site, series)) is not None}
    return _found(trace, series, states, apart, {}, taken)


def _series(trace: Trace) -> dict[Site, list[Node]]:
    """The calls of a run by site."""
    series = defaultdict[Site, list[Node]](list)
    for node in trace.nodes:
        series[node.site].append(node)
    return series


def _found(
    trace: Trace,
    series: dict[Site, list[Node]],
    states: dict[Site, int],
    apart: Mapping[Site, Unrolled],
    alias: Mapping[Site, Site],
    taken: Collection[str],
) -> tuple[list[ObservedForm], list[NotFound]]:
    """What is found of some states, and what is refused.

    Args:
        trace: what the run called.
        series: the same by site.
        states: where it makes states, and how many in turn.
        apart: those whose rounds make several, which are no steps of the layer.
        alias: the sites that are read as others.
        taken: names that no cell is given.
    """
    in_place = any(node.in_place and _is_value(node) for node in trace.nodes)
    found: list[ObservedForm] = []
    refused: list[NotFound] = []
    layered = set[Site]()
    for site, lag in states.items():
        if is_batchedtensor(series[site][-1].results[0].tensor):
            refused.append(NotFound(site, "it is made inside torch.vmap", advice=ONE_BATCH))
            continue
        try:
            signals = Signals(site, lag, series, in_place, trace.unseen, states.keys())
            form = signals.found()
            form = replace(form, in_place=in_place and _is_written_over(trace, signals.steps))
            if site in alias.values():
                # what rounds leave over has lines of its own, which this run may not have come by
                more = (one for one in behind(site) if not any(map(one.holds, series)))
                every = (*form.rivals, *more)
                own = (one for one in every if one.but or not any(map(one.holds, alias)))
                form = replace(form, rivals=tuple(own))
            rounds = apart[site].words if site in apart else ""
            found += _each(replace(form, rounds=rounds, alias=alias))
        except NoFormError as no:
            layered |= {site} if isinstance(no, DepthError) else set()
            # what is written over is no longer what it was
            near = None if in_place or no.advice else nearest(series, site, lag)
            refused.append(NotFound(site, str(no), near, advice=no.advice))
    if found:
        refused = [one for one in refused if one.site not in layered]
    # of rounds that make several states, the lines are read as others, and come by more often
    remade = Remade(series, states).found(bool(found)) if not (found and alias) else ()
    for one in remade:
        near = None if found or in_place or one.advice == GO_ON else nearest(series, one.site)
        refused.append(replace(one, nearest=near, beside=bool(found)))
    refused += from_elsewhere(series) if not (found or refused) else ()
    return _named(found, taken), refused


def _is_written_over(trace: Trace, steps: Sequence[Step]) -> bool:
    """Whether the run writes over what its steps read or make: `out[:, t] = h` does not.

    Args:
        trace: what the run called.
        steps: those of a cell.
    """
    first, last = steps[0].before.number, steps[-1].node.number
    inside = (node for node in trace.nodes if first <= node.number <= last and not node.in_place)
    read = {_memory(one) for node in inside for one in node.results}
    read |= {_memory(leaf) for step in steps for leaf in step.leaves.values()}
    over = [node for node in trace.nodes if node.in_place and _is_value(node)]
    written = (one for node in over for one in (*node.values[:1], *node.results))
    return any(_memory(one) in read for one in written)


def _memory(value: Value) -> int:
    """Where the numbers of a value lie, with those that share their memory."""
    return value.tensor.untyped_storage().data_ptr()


def _is_value(node: Node) -> bool:
    """Whether what a call writes over may be a value of a cell, and no counter of calls."""
    return any(one.tensor.is_floating_point() and one.tensor.dim() for one in node.results)


def _each(form: ObservedForm) -> list[ObservedForm]:
    """A form for each of the states that the same lines carry in turn."""
    if form.lag == 1:
        return [form]

    def turned(spot: Spot, turn: int) -> Spot:
        return replace(spot, each=spot.each * form.lag, ordinal=turn * spot.each + spot.ordinal)

    def moved(given: Sequence[Observed], turn: int) -> tuple[Observed, ...]:
        return tuple(
            replace(
                signal,
                spot=turned(signal.spot, turn),
                pre=tuple(turned(spot, turn) for spot in signal.pre),
                also=tuple(turned(spot, turn) for spot in signal.also),
            )
            for signal in given
        )

    def one(turn: int) -> ObservedForm:
        return replace(
            form, signals=moved(form.signals, turn), others=moved(form.others, turn),
            mix=turned(form.mix, turn), state=turned(form.state, turn),
            before=turned(form.before, turn), turn=turn,
            read=None if form.read is None else turned(form.read, turn),
        )  # fmt: skip

    return [one(turn) for turn in range(form.lag)]


def _named(forms: Sequence[ObservedForm], taken: Collection[str]) -> list[ObservedForm]:
    """The forms under the names of their layers.

    That is the module's path; where several states are carried in one module, the variable, or that
    of a call around it; and a number, where lines carry several states in turn.
    """
    many = defaultdict[str, list[ObservedForm]](list)
    for form in forms:
        many[form.path].append(form)
    names = list[str]()
    for form in forms:
        # what torch.compile puts around a module is none of the model's own places
        name = ".".join(part for part in form.path.split(".") if part != "_orig_mod") or "cell"
        others = {one.state.site for one in many[form.path]} - {form.state.site}
        if others:
            name = f"{name}.{_own_word(form.state.site, others)}"
        if form.lag > 1:
            name = f"{name}.{form.turn}"
        count, plain = 2, name
        while name in names or name in taken:
            name, count = f"{plain}_{count}", count + 1
        names.append(name)
    return [replace(form, name=name) for form, name in zip(forms, names, strict=True)]


def _own_word(site: Site, others: set[Site]) -> str:
    """What the code calls what it makes at a site, or a call around it, and nothing at others.

    That may be a list in which it keeps it. Where it has no such word it is the line, of the
    outermost call that is another one than at all others.
    """
    for depth in range(len(site.chain)):
        word = site.name(0, depth)
        if word and all(other.name(0, depth) != word for other in others):
            return word
    theirs = {word for other in others for word in words_of(other)}
    for word in words_of(site):
        if word.isidentifier() and word not in theirs:
            return word
    return f"line{site.line_apart(others)}"
