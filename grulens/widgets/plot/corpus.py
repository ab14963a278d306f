"""What was found over a corpus as figures: an automaton, what units encode, where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from bokeh.layouts import column

from grulens.errors import GrulensError
from grulens.probing.corpus.automata.automaton import Automaton
from grulens.probing.corpus.automata.dfa import DFA
from grulens.probing.corpus.automata.fidelity import WORDS
from grulens.probing.corpus.probes.probe import Probe
from grulens.probing.corpus.scan.match import Match
from grulens.probing.corpus.scan.place import Context
from grulens.probing.corpus.scan.statistics import Statistics
from grulens.probing.corpus.scan.top import Top
from grulens.probing.corpus.similarity.cka import CKA
from grulens.views.corpus.contexts import Contexts
from grulens.views.corpus.fidelity_chart import FidelityChart
from grulens.views.corpus.lifts import Lifts
from grulens.views.figure.tokens import number, visible_name
from grulens.views.still import lens as still
from grulens.views.still.automaton import MOST, automaton
from grulens.views.still.contexts import contexts as still_contexts
from grulens.views.still.fidelity import fidelity
from grulens.views.still.lifts import lifts as still_lifts
from grulens.widgets.plot.matrix import matrix
from grulens.widgets.plot.registry import Figure, PlotOptions, draws
from grulens.widgets.plot.units import array
from grulens.words import say, say_n


@draws(Automaton)
def draw_automaton(found: Automaton, options: PlotOptions) -> Figure:
    """How often it answers as the network does, by length and kind of words.

    Where nothing but a picture is shown, a small automaton stands above, state by state.

    Raises:
        GrulensError: its fidelity was not measured.
    """
    if not found.fidelity:
        raise GrulensError(f"there is no fidelity to draw: {found.why_not}")
    lines = {}
    for kind, name in WORDS.items():
        by = {one.length: one for one in found.fidelity if one.kind == kind}
        none = (np.nan,) * 4
        lines[say(name)] = np.array([
            (one.share, *one.interval, one.words) if (one := by.get(length)) else none
            for length in found.lengths
        ])  # fmt: skip
    holds = say("no automaton of the network") if found.why_not else say("automaton of the network")
    title = f"{holds} · {found.method}"
    chart = FidelityChart()
    chart.update(found.lengths, lines, threshold=found.threshold, title=title)
    drawn = fidelity(found.lengths, lines, threshold=found.threshold, title=title)
    states = "" if found.why_not else _states(found.dfa)
    return chart.root, lambda: still.compose(states, drawn)


def _states(dfa: DFA) -> str:
    """A small automaton as a picture; none of a large one."""
    if len(dfa) > MOST:
        return ""
    names = [str(symbol) for symbol in dfa.alphabet]
    return automaton(dfa.transitions, dfa.accepting, dfa.start, names, title=repr(dfa))


@draws(Statistics)
def draw_statistics(found: Statistics, options: PlotOptions) -> Figure:
    """The AUC of each unit for each label, from 0.5 down or up; without labels the correlations."""
    over = say("{signal} of {layer}, {steps} steps", signal=found.signal, layer=found.layer,
               steps=f"{found.steps:,}")  # fmt: skip
    if not found.labels:
        names = [str(unit) for unit in range(len(found.mean))]
        return matrix(
            found.correlation, rows=names, down=say("unit"), across=say("unit"),
            measure=say("correlation"),
            title=over,
        )  # fmt: skip
    widest = float(found.half_width.nan_to_num(0).max())
    return matrix(
        found.auc - 0.5, rows=list(found.labels), down=say("label"), across=say("unit"),
        measure="AUC − 0.5",
        title=say("{over}, each within {width}", over=over, width=f"{widest:.2g}"),
    )  # fmt: skip


@draws(Probe)
def draw_probe(found: Probe, options: PlotOptions) -> Figure:
    """What each unit adds to the score of each label when it moves by its standard deviation."""
    control = found.control_accuracy
    rows = [
        f"{name} {share:.3f}"
        if control is None
        else say("{name}, control {share}", name=f"{name} {share:.3f}", share=f"{control[at]:.3f}")
        for at, (name, share) in enumerate(zip(found.labels, found.accuracy, strict=True))
    ]
    return matrix(
        found.contributions, rows=rows, down=say("label and accuracy"), across=say("unit"),
        measure=say("weight × std"),
        title=say("probes of {layer}, {steps} steps tested", layer=found.layer,
                  steps=f"{found.steps:,}"),
    )  # fmt: skip


@draws(CKA)
def draw_cka(found: CKA, options: PlotOptions) -> Figure:
    """The CKA of each layer of a scan, a row, and each of another's, a column."""
    columns = ", ".join(f"{place}: {name}" for place, name in enumerate(found.others))
    return matrix(
        found.value, rows=list(found.layers), down=say("layer"),
        across=say("layer of the other scan, {columns}", columns=columns), measure="CKA",
        title=say("{steps} steps", steps=f"{found.steps:,}"),
    )  # fmt: skip


def called(unit: int | str) -> str:
    """A unit by its number, a direction by its name."""
    if isinstance(unit, int):
        return say("unit {unit}", unit=unit)
    return say("direction {name}", name=unit)


def top_title(unit: str, layer: str, end: str, where: str | None) -> str:
    """Of which unit windows are, at which end, and where: "unit 3 of rnn.l0, high where bold"."""
    named = say("high") if end == "high" else say("low")
    given = {"unit": unit, "layer": layer, "end": named}
    if where:
        return say("{unit} of {layer}, {end} where {label}", label=where, **given)
    return say("{unit} of {layer}, {end}", **given)


@draws(Top)
def draw_top(found: Top, options: PlotOptions) -> Figure:
    """The windows in which the unit goes furthest, as lines of text.

    Raises:
        GrulensError: there is none.
    """
    if not found.contexts:
        raise GrulensError("there is no window to draw: the label holds nowhere in the corpus")
    title = top_title(called(found.unit), found.layer, found.end, found.where)
    title += say(", ") + say("values to {near}", near=f"{found.near:g}") if found.note else ""
    low, high = (-1.0, 1.0) if max(map(abs, found.values)) <= 1 else _ends(found.contexts)
    lines = _Lines(found.contexts, [number(value, ".4f") for value in found.values])
    shown: dict[str, Any] = {
        "signal": "state", "ends": (low, high), "down": say("value"), "title": title
    }  # fmt: skip
    view = Contexts()
    view.update(*lines.parts, **shown, across=say("step of the window"))
    return view.root, lambda: still.compose(still_contexts(*lines.parts, **shown))


@draws(Match)
def draw_match(found: Match, options: PlotOptions) -> Figure:
    """The lift of each label, and the first places as lines of text.

    Raises:
        GrulensError: there is no place.
    """
    if not found.found:
        raise GrulensError("there is no place to draw: these units are nowhere on together so long")
    view = Contexts()
    above, below = _match_titles(found)
    lines, shown = _match_lines(found)
    view.update(*lines.parts, **shown, title=below)
    if not found.labels:
        return view.root, lambda: match_still(found)
    chart = Lifts()
    chart.update(found.labels, _logs(found), array(found.share), array(found.chance), title=above)
    both = column(chart.root, view.root, sizing_mode="stretch_width")
    return both, lambda: match_still(found)


def match_still(found: Match) -> str:
    """What is drawn of a match as HTML that needs no kernel; a line where there is no place."""
    above, below = _match_titles(found)
    if not found.found:
        return still.compose(f"<b>{escape(_match_title(found))}</b>")
    lines, shown = _match_lines(found)
    drawn = [still_contexts(*lines.parts, **shown, title=below)]
    if found.labels:
        share, chance = array(found.share), array(found.chance)
        drawn.insert(0, still_lifts(found.labels, _logs(found), share, chance, title=above))
    return still.compose(*drawn)


def _match_title(found: Match) -> str:
    """What was looked for, and how many places there are."""
    return say(
        "{least} of {n} units of {layer} on for {long}: {places}",
        least=found.at_least, n=len(found.units), layer=found.layer,
        long=say_n("{n} step", "{n} steps", found.length),
        places=say_n("{many} place", "{many} places", found.found, many=f"{found.found:,}"),
    )  # fmt: skip


def _match_titles(found: Match) -> tuple[str, str]:
    """What stands over the labels, "" without any, and what over the places."""
    title, many = _match_title(found), len(found.contexts)
    places = say_n("the first place", "the first {n} places", many)
    if found.labels:
        return say("labels at {places}", places=title), places
    return "", say("{places} of {all}", places=places, all=title)


def _logs(found: Match) -> Any:
    with np.errstate(divide="ignore"):
        return np.log2(array(found.lift))


def _match_lines(found: Match) -> tuple[_Lines, dict[str, Any]]:
    """The places as lines, and how they are shown."""
    lines = _Lines(found.contexts, [say("{n} on", n=many) for many in found.together])
    ends = (0.0, float(len(found.units)))
    return lines, {"signal": "weight", "ends": ends, "down": say("units on")}


@dataclass(frozen=True)
class _Lines:
    """Contexts as the lines of a figure."""

    contexts: Sequence[Context]
    names: Sequence[str]

    @property
    def parts(self) -> tuple[list[str], list[int], list[Any], Any]:
        """What to call each, its steps, its tokens, and its values (line, step)."""
        lengths = [one.place.stop - one.place.start for one in self.contexts]
        values = np.full((len(lengths), max(lengths)), np.nan)
        names = []
        for line, one in enumerate(self.contexts):
            if one.values is not None:
                values[line, : lengths[line]] = one.values
            labels = (visible_name(label, 40) for label in one.labels[:2])
            names.append(" · ".join([self.names[line], *labels]))
        return names, lengths, [one.tokens for one in self.contexts], values


def _ends(contexts: Sequence[Context]) -> tuple[float, float]:
    most = max((abs(v) for one in contexts for v in one.values or ()), default=1.0) or 1.0
    return -most, most
