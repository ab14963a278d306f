"""What stands in the page of a cell, and what no page is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import grulens
from grulens import CellPage, Session, ablate, record, words
from grulens.cells import activations
from grulens.demo import last_capital
from grulens.errors import CellError, GrulensError, LanguageError, PositionError, RecordingError

X = torch.ones(1, 4, 2)


@pytest.fixture(autouse=True)
def _no_language_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(words, "_set", None)
    return


def gru(units: int = 3, **options: Any) -> nn.GRU:
    return nn.GRU(2, units, batch_first=True, **options)


def data(page: CellPage) -> Any:
    found = re.search(r'id="grulens-data">(.*?)</script>', page.html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_it_speaks_both_languages_and_opens_in_the_one_that_was_meant() -> None:
    cell = data(CellPage(gru(), X))["cell"]
    assert cell["language"] is None  # the reader's own
    assert cell["words"]["zh"]["update gate"] == "更新门"
    assert cell["words"]["zh"]["next step"] == "下一步"
    assert cell["words"]["en"] == {}
    assert data(CellPage(gru(), X, language="zh_CN"))["cell"]["language"] == "zh"
    grulens.language("zh")
    assert data(CellPage(gru(), X))["cell"]["language"] == "zh"
    with pytest.raises(LanguageError, match="got 'fr'"):
        CellPage(gru(), X, language="fr")


def test_texts_are_of_one_language_or_of_several() -> None:
    made = data(CellPage(gru(), X, title="</script>", about={"zh": "记住"}))["cell"]
    assert made["title"] == {"en": "</script>"}
    assert made["about"] == {"en": "记住", "zh": "记住"}
    assert data(CellPage(gru(), X))["cell"]["about"] is None
    for wrong in ({"fr": "a"}, {}):
        with pytest.raises(GrulensError, match=r"about is a text, or one for each language"):
            CellPage(gru(), X, about=wrong)


def test_the_units_that_move_most_are_seen_or_those_that_are_asked_for() -> None:
    assert data(CellPage(gru(3), X))["cell"]["units"] == [0, 1, 2]
    many, x = gru(12), torch.randn(1, 9, 2)
    cell = data(CellPage(many, x))["cell"]
    moves = record(many, x)["l0"].h[0].var(0).detach()
    assert cell["units"] == sorted(moves.topk(8).indices.tolist()) != [*range(8)]
    assert cell["all"] == 12
    assert data(CellPage(many, X, units=(3, 1, 3)))["cell"]["units"] == [1, 3]
    for wrong in ([12], [-1], [True], range(9), []):
        with pytest.raises(PositionError, match=r"units 0 to 11|1 to 8 units"):
            CellPage(many, X, units=wrong)


def test_what_no_page_is_made_of_is_refused_with_a_way_out() -> None:
    with pytest.raises(CellError, match=r"draws a GRU; layer l0 is of another kind, LSTM"):
        CellPage(nn.LSTM(2, 3, batch_first=True), X)
    with pytest.raises(PositionError, match=r"1 to 100 steps; this row has 101: give a shorter"):
        CellPage(gru(), torch.ones(1, 101, 2))
    session = Session(gru(), X)
    assert repr(CellPage(session)) == "CellPage('l0', 3 units, 4 steps)"
    session.add(ablate("l0", 1))
    with pytest.raises(GrulensError, match="edits are on, which a page of the cell does not show"):
        CellPage(session)
    weights = torch.ones(9, 2), torch.ones(9, 3), None, None
    cell = grulens.Cell(*weights, gate=activations.Affine(0.2, 0.5))
    with pytest.raises(CellError, match=r"gates of layer \S+ are .*Affine.*, which may leave 0"):
        CellPage(grulens.adapters.GRUStack(cell), X)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = gru()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.rnn(x)[0]
            return self.rnn(x + h.mean())[0]

    with pytest.raises(RecordingError, match="was called 2 times"):
        CellPage(Wrapped(), X)


def test_a_notebook_shows_it_in_a_frame_that_reaches_nothing(tmp_path: Path) -> None:
    page = CellPage(last_capital.load(), "aB?")
    shown = page._repr_html_()
    assert shown.startswith(
        '<iframe class="stepped" sandbox="allow-scripts" title="A GRU cell to ste'
    )
    found = re.search(r'srcdoc="([^"]*)"', shown)
    assert found is not None
    assert unescape(found[1]) == page.html == page.save(tmp_path / "a.html").read_text("utf-8")
    assert data(page)["cell"]["symbols"] == [*last_capital.SYMBOLS]
    assert re.findall(r"https?:[^\s\"']+", page.html) == ["http://www.w3.org/2000/svg"]  # a name
