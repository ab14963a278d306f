"""What is selected, taken away in numbers: the run, signal, row, units and steps of the screen."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens import AblationToggles, GateSliders, NeuronTable, Session, clamp
from grulens.phrases import PhraseTree


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_it_is_what_the_map_shows(session: Session, tmp_path: Path) -> None:
    screen = GateSliders(session)
    session.units, session.times = (1, 4), (0, 3)
    found = lines(screen.to_csv(tmp_path / "s.csv"))
    assert [list(line.values())[:4] for line in found] == [
        ["0", "a", "baseline", "h"], ["3", "d", "baseline", "h"],
    ]  # fmt: skip
    assert lines((tmp_path / "s.csv").read_text()) == found
    session.add(clamp("rnn.l0", "z", value=1.0, units=[1]))
    screen.signal = "z"
    (first, _) = lines(screen.to_csv())
    assert (first["run"], first["signal"], first["unit 1"]) == ("edited", "z", "1.0")
    screen.difference = True
    (first, _) = lines(screen.to_csv())
    change = session.now.signal("z") - session.before.signal("z")
    assert first["run"] == "edited minus baseline"
    assert np.float32(first["unit 1"]) == change[0, 0, 1].item() != 0
    session.units, session.times = (), ()
    frame = screen.to_frame()
    assert frame.shape == (6, 4 + 6)
    np.testing.assert_array_equal(frame["unit 5"].to_numpy(), change[0, :, 5].numpy())


def test_a_shorter_row_ends_where_it_ends_and_doubles_stay_doubles() -> None:
    torch.manual_seed(0)
    packed = pack_padded_sequence(torch.randn(2, 5, 3).double(), [5, 2], batch_first=True)
    session = Session(nn.GRU(3, 2, batch_first=True).double(), packed)
    session.row = 1
    found = lines(GateSliders(session).to_csv())
    assert [line["step"] for line in found] == ["0", "1"]
    h = session.before.h[1, :2]
    assert [[float(line[f"unit {u}"]) for u in (0, 1)] for line in found] == h.tolist()


def test_the_table_is_as_it_is_seen(session: Session, tmp_path: Path) -> None:
    screen = NeuronTable(session)
    screen.sort("mean_h", ascending=True)
    screen.find.value = "1-4"
    found = lines(screen.to_csv(tmp_path / "t.csv"))
    means = screen.columns()["mean_h"]
    assert [int(line["unit"]) for line in found] == sorted(range(1, 5), key=means.__getitem__)
    assert [np.float32(line["mean_h"]) for line in found] == [
        means[int(line["unit"])] for line in found
    ]
    assert {line["run"] for line in found} == {"baseline"}
    session.add(clamp("rnn.l0", "z", value=1.0))
    found = lines(screen.to_csv())
    assert {(line["run"], line["mean_z"]) for line in found} == {("edited", "1.0")}
    assert lines((tmp_path / "t.csv").read_text()) != found


def test_files_are_called_by_what_they_show(session: Session) -> None:
    gates, phrases = GateSliders(session), PhraseTree(session)
    assert gates.picture.about == phrases.picture.about == "Tagger rnn.l0"
    session.add(clamp("rnn.l0", "z", value=1.0))
    assert gates.picture.about == gates.answer.about == "Tagger rnn.l0 edited"
    assert phrases.picture.about == "Tagger rnn.l0"  # its tree is of the model without edits
    AblationToggles(session).all_off.click()
    session.layer = "rnn.l1"
    assert gates.picture.about == "Tagger rnn.l1"
    rows = GateSliders(nn.GRU(3, 2, batch_first=True), torch.ones(2, 4, 3))
    assert rows.picture.about == "GRU l0 row 0"
