"""Two runs on one screen: what can stand beside, what is aligned, what differs, what is said."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grulens import CompareView, Lens, Session, clamp
from grulens.errors import GrulensError
from grulens.widgets.comparison.side import MODEL, PLAIN, ROW, TEXT

WORDS = ["not", "bad", "good", "film", "<b>"]


class Classifier(nn.Module):
    def __init__(self, units: int = 4, *, by_step: bool = False) -> None:
        super().__init__()
        self.emb, self.by_step = nn.Embedding(5, 3), by_step
        self.rnn, self.out = nn.GRU(3, units, batch_first=True), nn.Linear(units, 2)
        self.labels = ["neg", "pos"]

    def encode(self, text: str) -> Tensor:
        return torch.tensor([[WORDS.index(word) for word in text.split()]])

    def decode(self, ids: Tensor) -> list[str]:
        return [WORDS[i] for i in ids.tolist()]

    def forward(self, ids: Tensor) -> Tensor:
        states = self.rnn(self.emb(ids))[0]
        scores: Tensor = self.out(states if self.by_step else states[:, -1])
        return scores


IDS = torch.tensor([[0, 1, 3], [2, 2, 3], [4, 1, 3]])


@pytest.fixture
def screen() -> Iterator[CompareView]:
    torch.manual_seed(0)
    made = CompareView(Classifier(), IDS)
    yield made
    made.close()


def offered(screen: CompareView) -> tuple[str, ...]:
    return tuple(word for _, word in screen.beside.options)


def test_the_map_is_this_row_less_the_other_and_the_most_different_come_first(
    screen: CompareView,
) -> None:
    session = screen.session
    screen.row.value = 2
    h = session.now.h
    change = (h[0].double() - h[2].double()).numpy().T
    order = np.argsort(-np.abs(change).mean(1), kind="stable")
    assert screen._units.tolist() == order.tolist()
    np.testing.assert_allclose(screen._map._values, change[order], atol=1e-6)
    data = screen._table.source.data
    assert data["unit"].tolist() == order.tolist()
    np.testing.assert_allclose(data["apart"], np.abs(change).mean(1)[order], rtol=1e-5)
    assert screen._map.root.title.text == "h: row 0 − row 2 · rnn.l0"
    session.row = 1
    assert screen._map.root.title.text == "h: row 1 − row 2 · rnn.l0"
    screen.signal.value = "z"
    z = session.now.z.double()
    np.testing.assert_allclose(
        np.abs(screen._map._values).mean(), (z[1] - z[2]).abs().mean(), rtol=1e-5
    )


def test_texts_have_one_scale_and_the_unit_that_is_chosen(screen: CompareView) -> None:
    assert screen.words.tokens["texts"] == ["not", "bad", "film"]
    assert screen.words.under["texts"] == ["good", "good", "film"]
    assert screen.words.painted["ends"] == ["−1", "1"]
    screen._table.source.selected.indices = [2]
    unit = int(screen._units[2])
    assert screen.session.units == (unit,)
    h = screen.session.now.h
    for line, held in ((0, screen.words.painted["values"]), (1, screen.words.under["values"])):
        np.testing.assert_allclose(np.frombuffer(held, np.float32), h[line, :, unit], atol=1e-6)
    screen.row.value = 2
    assert screen.words.under["texts"][0] == "<b>"


def test_what_stands_beside_is_offered_where_it_is_there(screen: CompareView) -> None:
    session = screen.session
    assert offered(screen) == (ROW, TEXT)
    session.add(clamp("rnn.l0", "z", 1, value=1.0, at=1))
    assert offered(screen) == (PLAIN, ROW, TEXT)
    assert screen.beside.value == ROW  # it stays
    screen.beside.value = PLAIN
    assert not screen._map._values[:, 0].any()
    assert screen._map._values[:, 1:].any()
    session.other = Classifier()
    assert screen.beside.value == MODEL
    session.other = None
    assert screen.beside.value == PLAIN
    session.undo()
    assert screen.beside.value == ROW
    session.set_input(IDS[:1])
    assert offered(screen) == (TEXT,)
    assert "Write another text" in screen._note.value


def test_another_text_runs_with_the_same_edits_and_is_aligned_by_token(
    screen: CompareView,
) -> None:
    screen.beside.value = TEXT
    screen.text.value = "not good bad film"
    screen.run.click()
    assert "1 step of the other text has no partner" in screen._note.value
    screen.align.value = "tokens"
    assert screen.words.tokens["texts"] == ["not", "·", "bad", "film"]
    found = screen.found
    assert found is not None
    assert found.steps.tolist() == [[0, 0], [2, 1], [3, 2]]
    assert screen._map._mask is not None
    assert screen._map._mask.tolist() == [True, False, True, True]
    screen._go([1])  # of the run shown there is no step
    assert screen.session.times == ()
    screen._go([2, 3])
    assert screen.session.times == (1, 2)
    screen.session.add(clamp("rnn.l0", "h", value=0.5))
    assert not screen._map._values.any()  # both are held
    screen.text.value = "what nobody knows"
    screen.run.click()
    assert "is not in list" in screen._errors.value


def test_answers_are_said_in_one_sentence(screen: CompareView) -> None:
    session = screen.session
    shares = session.answer_now.values.softmax(-1)[0]
    said, best = screen._said.value, ["neg", "pos"][int(shares.argmax())]
    assert f"“{best}”" in said
    assert f"{100 * float(shares.max()):.0f} %" in said
    data = screen._bars.source.data
    other = session.answers.of(session.edited, 1, 3, 3).values.softmax(-1)[0]
    i, j = (["neg", "pos"].index(name) for name in data["name"])
    np.testing.assert_allclose(data["after"], shares[[i, j]], rtol=1e-6)
    np.testing.assert_allclose(data["before"], other[[i, j]], rtol=1e-6)
    assert [item.label.value for item in screen._bars.items] == ["row 1", "row 0"]


def test_at_each_step_there_is_an_answer_of_its_own_and_none_without_a_partner() -> None:
    screen = CompareView(Classifier(by_step=True), "not bad film")
    screen.beside.value = TEXT
    screen.text.value = "not bad good"
    screen.run.click()
    screen.session.step = 0
    assert "After “not”: both say" in screen._said.value
    assert "0 bits apart" in screen._said.value
    screen.text.value = "not bad good good"
    screen.run.click()
    screen.align.value = "tokens"
    screen.session.step = 2
    assert "This step has no partner" in screen._said.value
    assert screen.answer.layout.display == "none"
    screen.close()


def test_checkpoints_of_other_sizes_show_their_answers_alone(screen: CompareView) -> None:
    session = screen.session
    session.other = Classifier(units=6)
    assert "6 units in the other model" in screen._note.value
    assert screen.picture.layout.display == "none"
    assert "the other model" in screen._said.value
    assert "bits apart" in screen._said.value
    session.other = other = Classifier()
    assert "trained on from the other" in screen._note.value
    before = screen._map._values.copy()
    with torch.no_grad():
        other.rnn.weight_hh_l0.mul_(2)
    session.row = 1
    session.row = 0
    assert np.abs(screen._map._values - before).max() > 1e-3
    session.other = nn.GRU(3, 4, batch_first=True)
    assert screen.found is None
    assert screen._note.value
    for wrong in (3, session, nn.Linear(2, 2)):
        with pytest.raises(GrulensError):
            session.other = wrong


def test_another_session_is_followed_as_long_as_it_is_the_other(screen: CompareView) -> None:
    other = Session(screen.session.model, IDS.flip(1))
    screen.session.other = other
    before = screen._map._values.copy()
    other.add(clamp("rnn.l0", "h", value=0.0))
    assert np.abs(screen._map._values - before).max() > 1e-3
    screen.session.other = None
    held = screen._map._values.copy()
    other.undo()
    np.testing.assert_array_equal(screen._map._values, held)


def test_numbers_are_drawn_as_lines_and_rows_are_picked() -> None:
    screen = CompareView(nn.GRU(3, 4, batch_first=True), torch.randn(3, 6, 3))
    assert screen._lines.root.visible
    assert screen.words.layout.display == "none"
    assert screen.align.layout.display == "none"
    screen.pick.value = True
    assert screen.rows is not None
    screen.rows._table.source.selected.indices = [2]
    assert (screen.row.value, screen.session.row) == (2, 0)
    unit = int(screen._units[0])
    h = screen.session.now.h
    np.testing.assert_allclose(screen._lines.source.data["beside"], h[2, :, unit], rtol=1e-6)
    np.testing.assert_allclose(screen._lines.source.data["this"], h[0, :, unit], rtol=1e-6)
    screen.close()


def test_the_units_that_differ_can_be_taken_away(screen: CompareView, tmp_path: Path) -> None:
    screen.beside.value, screen.row.value = ROW, 1
    assert screen.found is not None
    assert screen._sides is not None
    path = tmp_path / "compared.csv"
    lines = [*csv.DictReader(io.StringIO(screen.to_csv(path), newline=""))]
    assert path.read_bytes().decode() == screen.to_csv()
    assert "table as CSV" in screen.table.offers
    that, this = (one[:, :].detach() for one in screen.found.both("h"))
    apart = (this - that).numpy()
    assert [int(line["unit"]) for line in lines] == np.abs(apart).mean(0).argsort()[::-1].tolist()
    for line in lines:
        unit, pair = int(line["unit"]), np.abs(apart[:, int(line["unit"])]).argmax()
        assert float(line["most"]) == pytest.approx(apart[pair, unit], abs=1e-6)
        there = screen.found.steps[pair].tolist()
        assert [int(line["step_beside"]), int(line["step"])] == there
        words = [WORDS[IDS[1, there[0]]], WORDS[IDS[0, there[1]]]]
        assert [line["token_beside"], line["token"]] == words
        assert (line["run"], line["beside"]) == tuple(side.name for side in screen._sides)
    screen.session.other = Session(Classifier(5), IDS)
    screen.beside.value = MODEL
    with pytest.raises(GrulensError, match="not compared by states"):
        screen.to_csv()


def test_it_is_a_study_of_a_lens_with_a_picture(screen: CompareView) -> None:
    lens = Lens(screen.session)
    lens.studies.shown = "compare"
    study = lens.studies.opened["compare"]
    assert isinstance(study, CompareView)
    page = lens.still()
    assert "h: row 0 − row 1" in page
    assert "bits apart" in page
    lens.studies.shown = "nothing"
    held = study._map._values
    lens.session.row = 2
    assert study._map._values is held  # it sleeps
    lens.studies.shown = "compare"
    assert study._map._values is not held
    lens.close()


def test_one_row_without_a_text_says_what_can_be_done() -> None:
    screen = CompareView(nn.GRU(3, 4, batch_first=True), torch.randn(1, 6, 3))
    assert "session.other = another model" in screen._note.value
    assert screen.found is None
    assert "nothing to compare with" in screen.still()
    screen.close()
