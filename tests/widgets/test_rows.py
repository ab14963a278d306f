"""Rows picked from a table: by their texts, their answers and whether these are right."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from grulens import Lens, Session, clamp
from grulens.widgets.rows import RowTable

WORDS = ["not", "bad", "good", "<b>"]


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(4, 3)
        self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
        self.labels = ["neg", "pos"]

    def decode(self, ids: Tensor) -> list[str]:
        return [WORDS[i] for i in ids.tolist()]

    def forward(self, ids: Tensor) -> Tensor:
        scores: Tensor = self.out(self.rnn(self.emb(ids))[0][:, -1])
        return scores


IDS = torch.tensor([[0, 1], [2, 2], [3, 1], [1, 0]])


@pytest.fixture
def lens() -> Iterator[Lens]:
    torch.manual_seed(0)
    made = Lens(Classifier(), IDS)
    yield made
    made.close()


def table(lens: Lens) -> RowTable:
    lens.pick.value = True
    assert lens.rows is not None
    return lens.rows


def test_a_click_on_a_row_shows_it_and_one_is_always_marked(lens: Lens) -> None:
    rows = table(lens)
    assert rows._columns["text"] == ["not bad", "good good", "<b> bad", "bad not"]
    source = rows._table.source
    source.selected.indices = [2]
    assert lens.session.row == 2
    source.selected.indices = [2, 3]  # with ctrl: the other takes its place
    assert (lens.session.row, source.selected.indices) == (3, [3])
    source.selected.indices = []
    assert (lens.session.row, source.selected.indices) == (3, [3])
    lens.row.value = 1
    assert source.selected.indices == [1]


def test_rows_are_found_by_text_and_by_what_is_wrong(lens: Lens) -> None:
    rows = table(lens)
    rows.find.value = "bad"
    assert rows._table.shown == (0, 2, 3)
    assert "3 of 4 rows" in rows._count.value
    rows.find.value = ""
    assert rows.show.layout.display == "none"  # nothing is known to be wrong
    found = rows.answers
    assert found is not None
    wrong = ["pos" if name == "neg" else "neg" for name in found.names]
    lens.session.truth = [found.names[0], wrong[1], None, wrong[3]]
    assert rows.show.layout.display is None
    rows.show.value = "only wrong"
    assert rows._table.shown == (1, 3)
    assert "1 of 3 answers right (33 %)" in rows._count.value
    source = rows._table.source
    source.selected.indices = [1]  # the second of those that are shown
    assert lens.session.row == 3
    rows.show.value = "only right"
    assert rows._table.shown == (0,)
    assert source.data["judged"] == ["right"]
    lens.session.truth = None
    assert rows._table.shown == (0, 1, 2, 3)


def test_it_follows_edits_while_it_is_seen(lens: Lens) -> None:
    rows = table(lens)
    before, plain = rows._columns["share"].copy(), rows._columns["answer"]
    lens.session.add(clamp("rnn.l0", "h", value=0.7, at=-1))
    assert (rows._columns["share"] != before).all()
    assert rows._columns["unedited"] == plain
    assert len({*rows._columns["answer"]}) == 1  # every row ends in one state
    lens.pick.value = False
    lens.session.undo()
    assert "unedited" in rows._columns
    lens.pick.value = True
    assert "unedited" not in rows._columns
    assert (rows._columns["share"] == before).all()


def test_one_row_has_no_table_and_none_without_answers_has_answers() -> None:
    lens = Lens(Classifier(), IDS)
    rows = table(lens)
    lens.session.set_input(IDS[:1])
    assert lens.pick.layout.display == "none"
    assert not lens.pick.value
    assert rows._asleep
    lens.close()
    screen = RowTable(nn.GRU(3, 4), torch.ones(5, 2, 3), readout=lambda out: out[0][0, 0])
    assert [*screen._table.source.data] == ["unit", "steps"]
    assert "no answer for each row" in screen._why.value
    screen.close()


def test_numbers_are_answers_too_and_classes_have_their_names() -> None:
    lens = Lens(nn.GRU(3, 1), torch.ones(5, 2, 3), readout=lambda out: out[0][-1], truth=[1, None])
    rows = table(lens)
    assert [*rows._columns] == ["steps", "value", "truth", "off"]
    assert rows._columns["truth"] == ["1", ""]
    lens.session.truth = None
    assert [*rows._columns] == ["steps", "value"]
    lens.close()
    lens = Lens(nn.GRU(3, 2), torch.ones(5, 2, 3), readout=lambda out: out[0][-1])
    assert table(lens)._columns["answer"][0] in ("class 0", "class 1")
    lens.close()


def test_rows_may_be_picked_for_something_else() -> None:
    asked: list[int] = []
    session = Session(Classifier(), IDS)
    screen = RowTable(session, pick=asked.append)
    screen._table.source.selected.indices = [2]
    assert (asked, screen.picked, session.row) == ([2], 2, 0)
    session.row = 1
    assert screen.picked == 2
    screen.close()


def test_the_rows_that_are_seen_can_be_taken_away(tmp_path: Path) -> None:
    torch.manual_seed(0)
    long, truth = IDS.repeat(1, 200), ["=pos", None, "neg", "=pos"]
    lens = Lens(Classifier(), long, truth=truth, labels=["=pos", "neg"])
    rows, path = table(lens), tmp_path / "rows.csv"
    assert rows.answers is not None
    names, shares = rows.answers.names, rows.answers.values
    rows.find.value = "1-3"
    rows._table.sort("share", ascending=True)
    head, *lines = csv.reader(io.StringIO(rows.to_csv(path), newline=""))
    assert path.read_bytes().decode() == rows.to_csv()
    assert head == ["row", "run", "text", "answer", "share", "truth", "right"]
    guarded = {"=pos": "'=pos", None: ""}
    assert lines == [
        [
            str(row), "baseline", " ".join(WORDS[i] for i in long[row]),
            guarded.get(names[row], names[row]), str(shares[row]),
            guarded.get(truth[row], truth[row]),
            "" if truth[row] is None else str(truth[row] == names[row]),
        ]
        for row in sorted((1, 2, 3), key=lambda row: shares[row])
    ]  # fmt: skip
    lens.session.add(clamp("rnn.l0", "h", value=0.0))
    head, first, *_ = csv.reader(io.StringIO(rows.to_csv(), newline=""))
    assert (first[1], head[5]) == ("edited", "unedited")
    assert "table as CSV" in rows.picture.offers
    lens.close()
