"""The study of a corpus in a lens: linked with the session both ways, and the table of units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from grulens import Lens, ablate, corpus
from grulens.corpus import Scan
from grulens.errors import PositionError, ScanError
from grulens.widgets.corpus.study import CorpusStudy
from tests.widgets.conftest import Tagger
from tests.widgets.corpus.test_screen import LABELS, TEXTS, letters

MORE = [*TEXTS, "ab"]


@pytest.fixture
def scanned(model: Tagger, tmp_path: Path) -> Scan:
    return corpus.scan(
        model, MORE, tmp_path / "s", labels=LABELS, decode=letters, on=0.0, progress=False
    )


def test_select_units_and_steps_and_find_similar_moments(model: Tagger, scanned: Scan) -> None:
    lens = Lens(model, "abcdab", layer="rnn.l1", scan=scanned)
    lens.studies.shown = "corpus"
    study = lens.studies.opened["corpus"]
    assert isinstance(study, CorpusStudy)
    session = lens.session
    session.units, session.times = (1, 3), (0, 1, 2)
    assert study.moments.length.value == 3
    study.moments.least.value = 1
    study.moments.find.click()
    assert study.wait(30.0)
    assert study.callbacks.box.value == ""
    wanted = scanned.match([1, 3], 3, at_least=1, layer="rnn.l1")
    assert study.moments.found is not None
    assert study.moments.found.places == wanted.places
    session.add(ablate("rnn.l1", 0))
    study.moments.contexts._received(None, {"line": 1}, [])
    place = wanted.places[1]
    assert session.times == tuple(range(place.start, place.stop))
    assert session.tokens == list(MORE[place.part])
    assert len(session.slots) == 1
    study.view.contexts._received(None, {"line": 0}, [])
    found = study.view.found
    assert found is not None
    assert (found.unit, found.layer) == (3, "rnn.l1")
    low, high = scanned.extremes(found.places[0], 3)
    h = session.before.h[0, list(session.times), 3]
    assert torch.allclose(torch.stack([h.min(), h.max()]), torch.cat([low, high]), atol=1e-5)
    assert "similar" not in lens.studies.still()
    assert "h of unit 3" in lens.studies.still()


def test_a_direction_is_shown_in_place_of_a_unit(model: Tagger, tmp_path: Path) -> None:
    weights = {"sum": torch.ones(6), "<b>": 2 * torch.eye(6)[3]}
    scanned = corpus.scan(
        model, MORE, tmp_path / "d", labels=LABELS, decode=letters, on=0.0, progress=False,
        directions={"rnn.l1": weights}, layers=["rnn.l0", "rnn.l1"],
    )  # fmt: skip
    study = CorpusStudy(model, "abcdab", layer="rnn.l1")
    session, choice = study.session, study.direction
    assert choice.layout.display == "none"
    session.scan = scanned
    assert choice.layout.display is None
    assert choice.options == (("none", ""), ("→ sum", "sum"), ("→ <b>", "<b>"))
    assert "choose units or a direction" in study._said.value

    def title() -> str:
        assert study.wait(30.0)
        assert study.callbacks.box.value == ""
        said: str = study.view._title.value
        return "" if study.view.layout.display == "none" else said

    assert title() == ""
    choice.value = "sum"
    assert study.view._pressed == (choice,)  # which is busy until it is shown
    assert "direction sum" in title()
    assert study.view.found is not None
    assert study.view.found.places == scanned.top("sum", layer="rnn.l1").places
    assert "h along direction sum" in study.still()
    assert study.moments.find.disabled  # neither on nor off
    # a place of it opens, and it stays
    study.view.contexts._received(None, {"line": 1}, [])
    place = study.view.found.places[1]
    assert session.times == tuple(range(place.start, place.stop))
    assert "direction sum" in title()
    # what it is called stands in the choice, and nothing else is chosen by that
    study.view.name.value, study.view.pin.value = "all", True
    assert choice.options[1] == ("★ → sum: all", "sum")
    assert (choice.value, "direction sum" in title()) == ("sum", True)
    # a unit that is chosen takes its place, and gives it back
    session.units = (3,)
    assert choice.value == ""
    assert "unit 3" in title()
    choice.value = "<b>"
    assert "direction &lt;b&gt;" in title()
    assert "unit 3" in study.moments._units.value
    session.times = (0, 1)
    assert choice.value == "<b>"
    choice.value = ""
    assert "unit 3" in title()
    choice.value = "sum"
    session.layer = "rnn.l0"  # where none was followed
    assert (choice.layout.display, choice.options, choice.value) == ("none", (("none", ""),), "")
    assert "direction" not in title()
    session.scan = None
    assert title() == ""


def test_the_table_of_units_gains_the_labels_when_a_scan_is_there(
    model: Tagger, scanned: Scan
) -> None:
    lens = Lens(model, "abcdab", layer="rnn.l1")
    assert "found_by" not in lens.table.columns()
    session = lens.session
    session.scan = scanned
    shown = lens.table.columns()
    assert np.allclose(shown["auc_<i>a"], scanned.stats("rnn.l1").auc[0])
    assert list(lens.table._table.source.data["found_by"]) == ["<i>a"] * 6
    assert "auc_never" in dict(map(reversed, lens.table.column.options))  # type: ignore[arg-type]
    session.layer = "rnn.l0"
    assert np.allclose(lens.table.columns()["auc_<i>a"], scanned.stats("rnn.l0").auc[0])
    session.scan = None
    assert "found_by" not in lens.table.columns()
    assert "found_by" not in lens.table._table.source.data


def test_a_scan_is_opened_from_its_folder(
    model: Tagger, scanned: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = CorpusStudy(model, "abcdab")
    assert "no scan" in study._said.value
    study.attach.click()
    assert study.callbacks.box.value == ""
    assert "type the folder that corpus.scan" in study._said.value
    study.path.value = "nowhere"
    study.attach.click()
    assert "holds no scan" in study.callbacks.box.value
    monkeypatch.setenv("HOME", str(scanned.path.parent))
    study.path.value = f"~/{scanned.path.name}"
    study.attach.click()
    assert study.callbacks.box.value == ""
    assert study.session.scan.model is model
    assert "choose units" in study._said.value


def test_a_scan_of_another_model_is_refused(scanned: Scan) -> None:
    other = Tagger().eval()
    lens = Lens(other, "abcdab")
    with pytest.raises(ScanError, match="another model than this, or of other weights"):
        lens.session.scan = scanned
    with pytest.raises(ScanError, match="a session takes a scan of its model, got 3"):
        lens.session.scan = 3
    assert lens.session.scan is None


def test_a_direction_is_a_row_beside_the_units_and_none_of_them(
    model: Tagger, tmp_path: Path
) -> None:
    weights = {"sum": torch.ones(6), "one": 2 * torch.eye(6)[3]}
    scanned = corpus.scan(
        model, MORE, tmp_path / "d", labels=LABELS, decode=letters, on=0.0, progress=False,
        directions={"rnn.l1": weights}, layers=["rnn.l0", "rnn.l1"],
    )  # fmt: skip
    lens = Lens(model, "abcdab", layer="rnn.l1")
    session, listed = lens.session, lens.table.directions
    assert (listed.children, listed.layout.display) == ((), "none")
    with pytest.raises(ScanError, match="direction 'sum' is of a scan, and the session has none"):
        session.unit = "sum"
    session.scan = scanned
    assert listed.layout.display is None
    shown, rows = listed._table.source.data, listed._table.source.selected
    assert shown["unit"] == ["→ sum", "→ one"]
    assert np.allclose(shown["auc_<i>a"], scanned.stats("rnn.l1", "directions").auc[0])
    assert shown["found_by"] == ["<i>a"] * 2
    assert len(lens.table.columns()["found_by"]) == 6  # those of units are of units alone
    session.units = (2, 4)
    lens.studies.shown = "corpus"
    study = lens.studies.opened["corpus"]
    assert isinstance(study, CorpusStudy)
    rows.indices = [0]  # as a person does
    assert (session.unit, session.units, study.direction.value) == ("sum", (2, 4), "sum")
    assert study.wait(30.0)
    assert "direction sum" in study.view._title.value
    rows.indices = [0, 1]  # a second one takes its place
    assert (session.unit, rows.indices, study.direction.value) == ("one", [1], "one")
    rows.indices = []  # which gives it back to the unit that was looked at
    assert (session.unit, study.direction.value) == (4, "")
    study.direction.value = "one"
    assert rows.indices == [1]
    session.units = (2, 3, 4)
    assert (session.unit, rows.indices) == (3, [])
    session.unit = np.int64(5)
    assert (session.unit, session.units) == (5, (2, 3, 4, 5))
    session.units = (2, 4)
    assert session.unit == 4
    for wrong, said in ((6, "unit 6 is not in this run"), (1.5, "got 1.5"), (True, "got True")):
        with pytest.raises(PositionError, match=said):
            session.unit = wrong
    with pytest.raises(ScanError, match=r"'two' of layer 'rnn.l1' was not scanned"):
        session.unit = "two"
    session.unit = "sum"
    session.layer = "rnn.l0"
    assert (session.unit, session.units, listed.layout.display) == (None, (), "none")
    assert lens.table.callbacks.box.value == ""
