"""The fidelity of an automaton as a figure."""

from __future__ import annotations

import numpy as np

from grulens.errors import GrulensError
from grulens.probing.corpus.automata.automaton import Automaton
from grulens.probing.corpus.automata.fidelity import WORDS
from grulens.views.corpus.fidelity_chart import FidelityChart
from grulens.views.still import lens as still
from grulens.views.still.fidelity import fidelity
from grulens.widgets.plot.registry import Figure, PlotOptions, draws


@draws(Automaton)
def draw_automaton(found: Automaton, options: PlotOptions) -> Figure:
    """How often it answers as the network does, by length and kind of words.

    Raises:
        GrulensError: its fidelity was not measured.
    """
    if not found.fidelity:
        raise GrulensError(f"there is no fidelity to draw: {found.why_not}")
    lines = {}
    for kind, name in WORDS.items():
        by = {one.length: one for one in found.fidelity if one.kind == kind}
        none = (np.nan,) * 4
        lines[name] = np.array([
            (one.share, *one.interval, one.words) if (one := by.get(length)) else none
            for length in found.lengths
        ])  # fmt: skip
    holds = "no automaton of the network" if found.why_not else "automaton of the network"
    title = f"{holds} · {found.method}"
    chart = FidelityChart()
    chart.update(found.lengths, lines, threshold=found.threshold, title=title)
    drawn = fidelity(found.lengths, lines, threshold=found.threshold, title=title)
    return chart.root, lambda: still.compose(drawn)
