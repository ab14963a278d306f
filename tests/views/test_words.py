"""No word of a figure is said past the catalogues: each is made in a language that marks all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bokeh.model import Model

from grulens import words
from grulens.cells.signal import Signal
from grulens.views.corpus.contexts import Contexts
from grulens.views.corpus.fidelity_chart import FidelityChart
from grulens.views.corpus.histogram import Histogram
from grulens.views.corpus.lifts import Lifts
from grulens.views.credit.bars import TokenBars
from grulens.views.credit.logit_lens import LensLines
from grulens.views.credit.waterfall import Waterfall
from grulens.views.dynamics.exponents import Exponents
from grulens.views.dynamics.phase_portrait import PhasePlot
from grulens.views.dynamics.spectrum import Spectrum
from grulens.views.gates.heatmap import Heatmap
from grulens.views.gates.input_lines import InputLines
from grulens.views.memory.attention_map import AttentionMap
from grulens.views.memory.gain_line import GainLine
from grulens.views.memory.gate_histograms import GateHistograms
from grulens.views.memory.half_lives import HalfLives
from grulens.views.memory.path_lines import PathLines
from grulens.views.memory.query_bars import QueryBars
from grulens.views.memory.saturation import SaturationPlot
from grulens.views.page.page import page
from grulens.views.phrases.tree import PhraseBoxes
from grulens.views.readout.class_bars import ClassBars
from grulens.views.units.sweep_chart import SweepChart
from grulens.views.units.table import UnitTable
from tests import spoken

Z = Signal("z", "update gate", 0.0, 1.0, "keep")
H = Signal("h", "state", -1.0, 1.0, "state")


@pytest.fixture(autouse=True)
def _marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_catalogue", lambda name: spoken.Marked())


def heatmap() -> Any:
    made = Heatmap(down="channel")
    made.update(np.zeros((4, 9), np.float32), signal=Z, units=np.arange(4), layer="l0")
    return made


def table() -> Any:
    made = UnitTable()
    columns = {"mean_h": np.zeros(2), "z_low": np.zeros(2), "half_life": np.ones(2)}
    made.update(columns, units=np.arange(2), h=np.zeros((2, 3)), signals=[Z, H])
    return made


def half_lives() -> Any:
    made = HalfLives()
    made.update(np.array([2.0, np.inf]), np.ones((2, 3)), noun="slice")
    return made


MADE: dict[str, Callable[[], Any]] = {
    "heatmap": heatmap, "table": table, "half-lives": half_lives, "contexts": Contexts,
    "fidelity": FidelityChart, "histogram": Histogram, "lifts": Lifts, "credit": TokenBars,
    "logit lens": LensLines, "waterfall": lambda: Waterfall(words.say("part")),
    "exponents": Exponents, "portrait": PhasePlot, "spectrum": Spectrum, "input": InputLines,
    "attention": AttentionMap, "gain": GainLine, "gates": lambda: GateHistograms([Z]),
    "paths": PathLines, "query": QueryBars, "saturation": lambda: SaturationPlot([Z]),
    "phrases": PhraseBoxes, "classes": ClassBars, "sweep": SweepChart,
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_every_word_of_a_figure_is_looked_up(name: str) -> None:
    root: Model = MADE[name]().root
    said = [
        one
        for model in root.references()
        for one in (*spoken.of_model(model), ("name", model.name or ""))
    ]
    assert said
    shapes = "inverted_triangle", "triangle", "circle", "diamond"
    left = spoken.past(said, ["l0", *shapes])
    assert not left, "\n".join(left)


def test_a_page_says_which_language_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_set", "zh")
    assert '<html lang="zh">' in page({H: np.zeros((2, 3))})[:200]
