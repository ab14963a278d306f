"""Every result shows itself: a short stable repr, and a table in which text is escaped."""

from __future__ import annotations

from functools import cache
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from torch import nn

import grulens
from tests.cells.dynamics.test_fixed_points import switches

BAD = "<b>x</b>"


class Named(nn.Module):
    """A model whose layer is named by somebody who means ill."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module(BAD, nn.GRU(2, 3, batch_first=True))
        self.out = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(getattr(self, BAD)(x)[0])


class Last(nn.Module):
    """It accepts words by their last symbol."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return ids[:, -1] - 0.5


class Reader(nn.Module):
    """Reads two symbols, one of which is named by somebody who means ill."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2, 2)
        self.add_module(BAD, nn.GRU(2, 3, batch_first=True))

    def decode(self, ids: torch.Tensor) -> str:
        return BAD if int(ids) else "a"

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return getattr(self, BAD)(self.embedding(ids))[0]


@cache
def results() -> dict[str, Any]:
    torch.manual_seed(0)
    model, x = Named(), torch.randn(2, 6, 2)
    run, cell = grulens.record(model, x), switches(2)
    starts = torch.rand(9, 2).double()
    scan = grulens.corpus.scan(
        Reader(), [torch.arange(90) % 2] * 3, mkdtemp(), labels={BAD: lambda ids: ids == 1}, on=-1,
        progress=False,
    )  # fmt: skip
    return {
        "Statistics": scan.stats(),
        "Top": scan.top(0),
        "Match": scan.match([0, 2]),
        "Probe": grulens.corpus.probe(scan, progress=False),
        "FixedPoints": grulens.dynamics.find_fixed_points(cell, starts=starts, progress=False),
        "Lyapunov": grulens.dynamics.lyapunov(cell, torch.randn(30, 1)),
        "Jacobian": grulens.dynamics.jacobian(cell, torch.zeros(1, 1).double(), starts[:1]),
        "GradientFlow": grulens.memory.gradient_flow(run),
        "CloseUp": grulens.close_up(run, step=2, unit=1),
        "Comparison": grulens.compare(run, run, rows=(0, 1)),
        "GateAttention": grulens.memory.attention(run),
        "Timescales": grulens.memory.timescales(run),
        "Portrait": grulens.dynamics.portrait(run),
        "Head": grulens.credit.head_of(model, x),
        "Hierarchy": grulens.phrases.agglomerate(model, x, target=0, progress=False),
        "Interactions": grulens.phrases.interactions(model, x, target=0, progress=False),
        "Decomposition": grulens.phrases.contextual_decomposition(model, x, phrases=[slice(0, 2)]),
        "Credit": grulens.credit.layerwise_relevance(model, x, target=0),
        "Automaton": grulens.corpus.automaton(
            Last(), ["a", BAD], lengths=(3, 6), sample=9, tries=40, progress=False
        ),
    }


NAMES = (
    "CloseUp", "Comparison", "FixedPoints", "Lyapunov", "Jacobian", "GradientFlow",
    "GateAttention", "Timescales", "Portrait", "Head", "Hierarchy", "Interactions",
    "Decomposition", "Credit", "Automaton", "Statistics", "Top", "Match", "Probe",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_result_shows_itself(name: str) -> None:
    result = results()[name]
    assert name in [kind.__name__ for kind in type(result).__mro__]
    assert repr(result).startswith(f"{name}(")
    assert len(repr(result)) < 200
    html = result._repr_html_()
    assert "<table" in html
    assert BAD not in html
