"""The screen of a corpus without a browser: set what a person would set, look at what is drawn."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances
from torch import nn

from grulens import corpus, record, words
from grulens.corpus import Corpus, Scan
from grulens.errors import ScanError, StoppedWarning
from grulens.views.figure.tokens import number
from grulens.widgets.corpus.study import CorpusStudy
from tests.widgets.conftest import Tagger

TEXTS = ["abcdab" * 40, "ddcc<b".replace("<", "a") * 30]
LABELS = {
    "<i>a": lambda text: np.array([c == "a" for c in text]),
    "never": lambda text: np.zeros(len(text), bool),
}


def letters(ids: Any) -> str:
    return "".join("abcd"[i] for i in ids)


@pytest.fixture
def scanned(model: Tagger, tmp_path: Path) -> Scan:
    return corpus.scan(
        model, TEXTS, tmp_path / "s", labels=LABELS, decode=letters, on=0.0, progress=False
    )


@pytest.fixture
def screen(scanned: Scan) -> Corpus:
    return Corpus(scanned)


def lines(screen: Corpus) -> list[Any]:
    found: list[Any] = screen.view.contexts.shown["lines"]
    return found


def error_of(screen: Corpus) -> str:
    assert screen.wait(30.0)
    value: str = screen.callbacks.box.value
    return value


def test_the_table_says_by_which_label_each_unit_is_found(screen: Corpus, scanned: Scan) -> None:
    shown = screen._table.source.data
    auc = scanned.stats().auc
    assert shown["found_by"] == ["<i>a"] * 6
    assert np.allclose(shown["found_auc"], auc[0])
    assert np.allclose(shown["auc_<i>a"], auc[0])
    assert np.isnan(shown["auc_never"]).all()
    assert np.allclose(shown["mean"], scanned.stats().mean)
    titles = " ".join(column.title for column in screen._table.root.columns)
    assert "&lt;i&gt;a" in titles
    assert "<i>" not in titles


def test_a_filter_hides_units_and_clear_shows_them(screen: Corpus) -> None:
    screen.find.value = "1, 3"
    assert screen._table.shown == (1, 3)
    screen._clear.click()
    assert screen._table.shown == tuple(range(6))
    screen.column.value, screen.low.value = "mean", "0"
    assert screen._table.shown == tuple(np.flatnonzero(screen.scan.stats().mean >= 0))
    screen.low.value = "x"
    assert "must be a number" in error_of(screen)


def test_a_chosen_row_shows_its_unit_with_the_states_of_a_run(
    screen: Corpus, model: Tagger
) -> None:
    screen._table.source.selected.indices = [4]
    assert screen.wait(30.0)
    assert (screen.units, screen.unit) == ((4,), 4)
    top = screen.scan.top(4, 10)
    wanted = [number(value, ".4f") for value in top.values]
    assert [line["name"] for line in lines(screen)] == wanted
    first, place = lines(screen)[0], top.places[0]
    text = TEXTS[place.part][place.start : place.stop]
    assert "".join(first["tokens"]) == text
    h = record(model, model.encode(TEXTS[place.part])[:, : place.stop])["rnn.l1"].h[0, :, 4]
    values = np.array(screen.view.drawn[0][0].values)
    assert np.allclose(values, h[place.start :].numpy(), atol=1e-5)
    assert all(first["looks"][i][0] for i in first["look"])
    assert first["holds"][0][0] == (text[0] == "a")


def test_each_control_of_a_unit_acts(screen: Corpus) -> None:
    screen.units = [2]
    before = [line["name"] for line in lines(screen)]
    screen.view.end.value = "low"
    low = [line["name"] for line in lines(screen)]
    assert low != before
    assert low == [number(value, ".4f") for value in screen.scan.top(2, 10, end="low").values]
    screen.view.most.value = 5
    assert len(lines(screen)) == 5
    screen.view.where.value = "<i>a"
    wanted = screen.scan.top(2, 5, end="low", where="<i>a").values
    assert [line["name"] for line in lines(screen)] == [number(value, ".4f") for value in wanted]
    screen.view.where.value = "never"
    assert lines(screen) == []
    assert "nowhere" in screen.view.contexts.shown["said"]
    held = list(screen.view._chart.source.data["held"])
    assert np.isclose(sum(held), 1)
    screen.view.label.value = ""
    assert sum(screen.view._chart.source.data["held"]) == 0
    assert error_of(screen) == ""


def test_similar_moments_are_those_of_match(screen: Corpus) -> None:
    assert screen.moments.find.disabled
    screen.units = [0, 2]
    screen.moments.length.value, screen.moments.least.value = 2, 1
    screen.moments.find.click()
    assert error_of(screen) == ""
    wanted, found = screen.scan.match([0, 2], 2, at_least=1), screen.moments.found
    assert found is not None
    assert (found.places, found.found) == (wanted.places, wanted.found)
    shown = screen.moments.contexts.shown
    assert len(shown["lines"]) == min(20, wanted.found)
    assert shown["tracks"][0] == "<i>a"
    screen.units = [0]
    assert screen.moments.found is None
    assert screen.moments.contexts.shown["lines"] == []


def test_what_was_wrong_of_other_units_goes_with_them(screen: Corpus) -> None:
    screen.moments.find.click()
    assert "choose one or more units first" in error_of(screen)
    screen.units = [1]
    assert error_of(screen) == ""


def test_where_no_unit_is_on_it_says_above_what_that_is(model: Tagger, tmp_path: Path) -> None:
    done = corpus.scan(model, TEXTS, tmp_path / "s", on=0.999, progress=False)
    screen = Corpus(done)
    screen.units = [0]
    screen.moments.find.click()
    said = "1 of 1 units on for 5 steps: no such place in 420 steps: on is above 0.999, "
    said += "which scan(on=) sets"
    assert error_of(screen) == ""
    assert screen.moments.contexts.shown["said"] == said


def test_what_stands_there_is_old_until_it_is_answered(
    screen: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.units = [1]
    seen, top = [], Scan.top

    def slow(*args: Any, **options: Any) -> Any:
        # a click on a window of the unit before opens nothing
        screen.view.contexts._received(None, {"line": 0}, [])
        seen.append((screen.view.contexts.old, screen.lens))
        return top(*args, **options)

    monkeypatch.setattr(Scan, "top", slow)
    screen.units = [2]
    assert seen == [(True, None)]
    assert not screen.view.contexts.old
    screen.moments.find.click()
    assert error_of(screen) == ""
    assert not screen.moments.contexts.old


def test_labels_with_bars_come_first_beside_a_line(model: Tagger, tmp_path: Path) -> None:
    many = {f"{i}": lambda text: np.ones(len(text), bool) for i in range(5)}
    labels = many | {"last": LABELS["<i>a"]}
    done = corpus.scan(model, TEXTS, tmp_path / "l", labels=labels, on=0.0, progress=False)
    screen = Corpus(done)
    screen.units = [1]
    assert lines(screen)[0]["labels"][0] == "last"
    assert len(lines(screen)[0]["labels"]) == 6


def test_a_click_opens_the_place_in_a_lens_linked_both_ways(screen: Corpus) -> None:
    screen.units = [3]
    screen.view.contexts._received(None, {"kind": "open", "line": 1}, [])
    assert error_of(screen) == ""
    place, lens = screen.view.found.places[1], screen.lens
    session = lens.session
    assert session.times == tuple(range(place.start, place.stop))
    assert session.tokens == list(TEXTS[place.part])
    low, high = screen.scan.extremes(place, 3)
    h = session.before.h[0, place.start : place.stop, 3]
    assert torch.allclose(h.max(), high.max(), atol=1e-5)
    assert torch.allclose(h.min(), low.min(), atol=1e-5)
    session.units = (1, 5)
    assert (screen.units, screen.unit) == ((1, 5), 5)
    screen.units = [2]
    assert session.units == (2,)
    session.layer = "rnn.l0"
    assert (screen.layer, screen.units) == ("rnn.l0", ())
    screen.open_place(screen.scan.top(0, layer="rnn.l0").places[0])
    assert screen.lens is lens
    theirs: list[Any] = []
    session.observe(theirs.append, ["units"])
    screen._close.click()
    assert screen.lens is None
    assert error_of(screen) == ""
    session.units = (4,)
    assert len(theirs) == 1  # what others follow goes on
    screen.units = [1]


def test_without_the_model_all_but_colours_and_the_lens(scanned: Scan) -> None:
    screen = Corpus(corpus.open_scan(scanned.path))
    screen.units = [3]
    assert "open_scan(path, model)" in screen.view.contexts.shown["said"]
    assert lines(screen)[0]["looks"] == []
    assert screen.view._scale.value == ""
    screen.moments.find.click()
    assert error_of(screen) == ""
    screen.view.contexts._received(None, {"line": 0}, [])
    assert "open_scan" in error_of(screen)
    assert screen.lens is None


def test_inputs_that_are_not_kept_are_drawn_as_curves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 300, 17)
    label = {"up": lambda x: x[:, 0] > 0}
    model = nn.GRU(17, 4, batch_first=True)
    done = corpus.scan(model, [x], tmp_path / "s", labels=label, on=0.0, progress=False)
    screen = Corpus(done)
    screen.units = [1]
    first = lines(screen)[0]
    assert first["tokens"] is None
    assert "not kept" in first["closed"]
    high, low = (np.array(curve["values"]) for curve in first["curves"])
    assert (high >= low).all()
    place = screen.view.found.places[0]
    at = first["place"][0]
    assert np.isclose(high[at], screen.view.found.values[0])
    h = model(x)[0].detach()[place.batch_row, place.start : place.stop, 1]
    assert np.isclose(low[at], float(h.min()), atol=1e-6)
    assert error_of(screen) == ""


def test_a_page_and_a_still_need_no_kernel(screen: Corpus, tmp_path: Path) -> None:
    screen.units = [2, 3]
    screen.moments.find.click()
    page = screen.save(tmp_path / "c.html").read_text(encoding="utf-8")
    assert "<i>" not in page
    assert "&lt;i&gt;a" in page
    assert "<script" not in page
    assert number(screen.view.found.values[0], ".4f") in page
    bundle = screen._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["text/plain"] == "Corpus(Tagger, rnn.l1, 420 steps)"
    assert "unit 3" in data["text/html"]


def test_what_does_not_fit_is_refused(screen: Corpus, scanned: Scan) -> None:
    with pytest.raises(ScanError, match="was not scanned"):
        Corpus(scanned, layer="nope")
    with pytest.raises(ScanError, match=r"unit 6 is none of layer 'rnn.l1', which has 0 to 5"):
        screen.units = [6]
    screen.close()
    screen.close()
    assert repr(screen) == "Corpus(closed)"


def test_windows_that_are_not_found_leave_none_of_another_unit(
    scanned: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Corpus(scanned)
    screen.units = [1]
    assert screen.view.found is not None

    def none(*_: Any, **__: Any) -> Any:
        raise ScanError("no model")

    monkeypatch.setattr(Scan, "top", none)
    screen.units = [2]
    assert screen.view.found is None
    assert screen.view.contexts.shown["lines"] == []
    assert "unit 1" not in screen.still()


def test_numbers_are_drawn_as_lines_on_the_colours_of_the_unit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, model = torch.randn(2, 300, 3), nn.GRU(3, 4, batch_first=True)
    up = {"up": lambda x: x[:, 0] > 0}
    done = corpus.scan(model, [x], tmp_path / "s", labels=up, on=0.0, progress=False)
    screen = Corpus(done)
    screen.units = [1]
    assert error_of(screen) == ""
    said = "lines: the 3 numbers of the input at each step; the strip under them: h"
    assert screen.view.contexts.shown["said"] == said
    place, first = screen.view.found.places[0], lines(screen)[0]
    drawn = np.array([curve["values"] for curve in first["curves"]])
    there = x[place.batch_row, place.start : place.stop].T
    assert np.allclose(drawn, there)
    low, high = first["ends"]
    assert low <= drawn.min() <= drawn.max() <= high
    shown = screen.view.contexts.shown
    assert [one["name"] for one in shown["inputs"]] == ["0", "1", "2"]
    assert (shown["tracks"], shown["under"]) == (["up"], "lines")
    assert [one[0] for one in first["holds"]] == (there[0] > 0).tolist()
    assert len(set(first["look"])) > 1
    screen.view.where.value = "up"
    screen.moments.find.click()
    assert error_of(screen) == ""
    assert len(screen.moments.contexts.shown["lines"][0]["curves"]) == 3
    screen.view.contexts._received(None, {"line": 0}, [])
    assert error_of(screen) == ""
    assert "></span>" in screen.view._gone.value  # nothing is said
    assert screen.lens.session.before.h.shape == (1, 300, 4)
    # without the model the lines are there, and the strip is not
    alone = Corpus(corpus.open_scan(done.path))
    alone.units = [1]
    assert lines(alone)[0]["look"] == []
    assert "without colours: the model is not there" in alone.view.contexts.shown["said"]


def test_half_precision_says_how_near_its_values_are(
    model: Tagger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = corpus.scan(
        model.to(torch.bfloat16), TEXTS, tmp_path / "s", labels=LABELS, on=0.0, progress=False
    )
    monkeypatch.setattr(words, "_set", "zh")
    screen = Corpus(done)
    screen.units = [2]
    assert screen.view.contexts.shown["said"] == ""  # of known windows nothing ran again
    screen.view.where.value = "<i>a"
    assert error_of(screen) == ""
    note = screen.view.found.words(words.say)
    assert note.startswith("有窗口以半精度重新运行")
    assert "0.03" in note
    assert screen.view.contexts.shown["said"] == note
    assert note in screen.still()
    assert "的单元 2，&lt;i&gt;a 成立处，最高处" in screen.still()


def test_colours_end_where_the_unit_ends(screen: Corpus, scanned: Scan) -> None:
    screen.units = [2]
    low, high = screen.view.drawn[1]
    rows = {scanned.row_of(place) for place in scanned.top(2, 40).places}
    ends = torch.cat([scanned.extremes(row, 2).flatten() for row in rows])
    far = float(ends.abs().max())
    assert far <= high == -low <= 1.1 * far
    assert number(high, ".2g") in screen.view._scale.value
    shown = screen.view._chart.root.x_range
    assert shown.start <= float(ends.min()) <= float(ends.max()) <= shown.end
    assert shown.end - shown.start < 1.2 * float(ends.max() - ends.min())
    # a label that holds nowhere has no bar
    assert screen.view.contexts.shown["tracks"] == ["<i>a"]


def test_what_cannot_run_again_is_not_offered(scanned: Scan, tmp_path: Path) -> None:
    screen = Corpus(corpus.open_scan(scanned.path))
    screen.units = [3]
    # one label holds nowhere, which needs no run; the other at some steps of a window
    assert dict(screen.view.where.options) == {"any step": "", "never": "never"}
    assert "1 label cannot be asked for" in screen.view._gone.value
    assert "the model is not there" in lines(screen)[0]["closed"]
    x, up = torch.randn(2, 300, 3), {"up": lambda x: x[:, 0] > 0}
    given = (x, torch.zeros(1, 2, 4))
    done = corpus.scan(
        nn.GRU(3, 4, batch_first=True), [given], tmp_path / "x", labels=up, on=0.0, progress=False
    )
    screen = Corpus(done)
    screen.units = [1]
    assert screen.view.where.disabled
    assert "not all is kept (1: a tensor (1, 2, 4) of float32)" in lines(screen)[0]["closed"]
    assert error_of(screen) == ""


def test_a_label_that_holds_nowhere_is_said_and_no_number(screen: Corpus) -> None:
    screen.units = [1]
    screen.view.label.value = "never"
    assert "no AUC: never holds nowhere" in screen.view._title.value
    assert "nan" not in screen.view._title.value


def test_labels_that_are_called_alike_are_told_apart(model: Tagger, tmp_path: Path) -> None:
    alike = {f"{'a' * 60}{i}": lambda text: np.zeros(len(text), bool) for i in range(2)}
    done = corpus.scan(model, TEXTS, tmp_path / "s", labels=alike, progress=False)
    screen = Corpus(done)
    screen.units = [0]
    for control in (screen.view.where, screen.view.label, screen.column):
        names = [name for name, _ in control.options]
        assert len(set(names)) == len(names)
    assert list(screen._table.source.data["found_by"]) == [""] * 6
    assert "nan" not in screen.still()
    assert "nan" not in done.stats()._repr_html_()


def test_a_scan_that_was_stopped_says_that_parts_are_not_there(
    model: Tagger, tmp_path: Path
) -> None:
    def stop() -> str:
        raise KeyboardInterrupt

    with pytest.warns(StoppedWarning):
        done = corpus.scan(model, [*TEXTS, stop, "ab"], tmp_path / "s", on=0.0, progress=False)
    said = "2 parts, 420 steps · the scan was stopped, or goes on: other parts are not there yet"
    assert not done.whole
    assert said in Corpus(corpus.open_scan(done.path))._title.value
    study = CorpusStudy(model, "abcdab", scan=done)
    assert said in study._said.value
    whole = corpus.scan(model, [*TEXTS, "dc", "ab"], tmp_path / "s", on=0.0, progress=False)
    assert whole.whole
    assert "4 parts, 424 steps</span>" in Corpus(whole)._title.value
    (tmp_path / "s/parts/000001").rename(tmp_path / "gone")
    with pytest.warns(UserWarning, match="cannot be read"):
        rest = corpus.open_scan(done.path, model)
    assert rest.whole
    assert "1 part cannot be read and is left out" in Corpus(rest)._title.value
    assert (
        "1 part cannot be read and is left out" in CorpusStudy(model, "ab", scan=rest)._said.value
    )


def test_bars_of_labels_that_begin_alike_are_told_apart(model: Tagger, tmp_path: Path) -> None:
    alike = {
        f"{'a' * 60}{i}": lambda text, i=i: np.array([c == "ab"[i] for c in text]) for i in range(2)
    }
    done = corpus.scan(model, TEXTS, tmp_path / "s", labels=alike, on=0.0, progress=False)
    screen = Corpus(done)
    screen.units = [0]
    screen.moments.find.click()
    assert error_of(screen) == ""
    for found in (screen.view.contexts.shown, screen.moments.contexts.shown):
        assert len(set(found["tracks"])) == 2
        assert len(set(found["lines"][0]["labels"])) == 2
    bars = list(screen.moments.picture.document.roots[0].yaxis[0].major_label_overrides.values())
    assert len(set(bars)) == len(bars) == 2


def test_a_unit_is_named_and_pinned_and_both_stay_with_the_scan(screen: Corpus) -> None:
    assert "called" not in screen._table.source.data
    screen.units = [3]
    screen.view.name.value = "<b>sees a"
    screen.units = [1]
    assert (screen.view.name.value, screen.view.pin.value) == ("", False)
    screen.view.pin.value = True
    assert list(screen._table.source.data["called"]) == ["", "★", "", "<b>sees a", "", ""]
    screen.find.value = "★"
    assert screen._table.shown == (1,)
    screen.find.value = "sees"
    assert screen._table.shown == (3,)
    screen.units = [3]
    assert screen.view.name.value == "<b>sees a"
    assert screen.view._chart.root.title.text.startswith("h of unit 3, <b>sees a over")
    assert "unit 3, &lt;b&gt;sees a of rnn.l1" in screen.still()
    assert "3 (&lt;b&gt;sees a)" in screen.moments._units.value
    again = corpus.open_scan(screen.scan.path)
    assert (again.names(), again.pins()) == ({3: "<b>sees a"}, (1,))
    assert (again.names("rnn.l0"), again.pins("rnn.l0")) == ({}, ())
    screen.view.contexts._received(None, {"line": 0}, [])
    assert "called" in screen.lens.table.columns()
    screen.view.name.value = ""
    screen.units = [1]
    screen.view.pin.value = False
    assert "called" not in screen._table.source.data
    assert "called" not in screen.lens.table._table.source.data
    assert error_of(screen) == ""


def test_a_closed_screen_lets_go_of_everything(scanned: Scan) -> None:
    def used() -> list[Any]:
        screen = Corpus(scanned)
        screen.units = [2, 3]
        screen.moments.find.click()
        screen.view.contexts._received(None, {"line": 0}, [])
        lens = screen.lens
        assert lens is not None
        seen = [screen, screen.view, screen.moments, screen.view._chart, lens, lens.session]
        found = [weakref.ref(thing) for thing in seen]
        del seen, lens
        screen.close()
        screen.close()
        return found

    used()  # what a first time makes for good
    gc.collect()
    before = set(_instances)
    left = used()
    gc.collect()
    assert [ref() for ref in left if ref() is not None] == []
    assert [_instances[key] for key in set(_instances) - before] == []


@pytest.fixture
def along(model: Tagger, tmp_path: Path) -> Scan:
    torch.manual_seed(1)
    weights = {"sum": torch.ones(6), "one": 2 * torch.eye(6)[3]}
    return corpus.scan(
        model, TEXTS, tmp_path / "d", labels=LABELS, decode=letters, on=0.0, progress=False,
        directions={"rnn.l1": weights}, layers=["rnn.l0", "rnn.l1"],
    )  # fmt: skip


def test_directions_are_rows_of_the_table_and_shown_as_units_are(along: Scan) -> None:
    screen = Corpus(along)
    shown, counted = screen._table.source.data, along.stats(signal="directions")
    assert np.isnan(np.array(shown["unit"])).tolist() == [False] * 6 + [True] * 2
    assert list(shown["called"]) == [""] * 6 + ["→ sum", "→ one"]
    assert np.allclose(shown["mean"][6:], counted.mean)
    assert np.allclose(shown["auc_<i>a"][6:], counted.auc[0])
    assert np.isnan(shown["on"][6:]).all()
    assert "6 of 6 units, 2 of 2 directions" in screen._count.value
    screen.find.value = "6, 7"  # numbers are those of units
    assert screen._table.shown == ()
    screen.find.value = "→ o"
    assert "0 of 6 units, 1 of 2 directions" in screen._count.value
    screen._table.source.selected.indices = [7]
    assert error_of(screen) == ""
    assert (screen.units, screen.unit) == (("one",), "one")
    top = along.top("one", 10)
    assert [line["name"] for line in lines(screen)] == [number(v, ".4f") for v in top.values]
    # it is twice unit 3: in the same windows, twice as far
    screen.find.value = ""
    first, drawn = lines(screen)[0], screen.view.drawn[0][0].values
    screen.units = [3, "one"]
    screen.unit = 3
    assert first["tokens"] == lines(screen)[0]["tokens"]
    assert all(first["looks"][i][0] for i in first["look"])
    assert np.allclose(drawn, 2 * np.array(screen.view.drawn[0][0].values), atol=1e-5)
    screen.unit = "sum"
    assert screen.units == (3, "sum", "one")
    assert screen.view._chart.root.title.text.startswith("h along direction sum over 420 steps")
    assert "direction sum" in screen.view._title.value
    screen.view.where.value = "<i>a"
    wanted = along.top("sum", 10, where="<i>a").values
    assert [line["name"] for line in lines(screen)] == [number(v, ".4f") for v in wanted]
    # what is on together are units
    assert screen.moments._units.value.endswith(">unit 3</span>")
    screen.view.contexts._received(None, {"line": 0}, [])
    session = screen.lens.session
    assert (session.units, session.unit) == ((3,), "sum")
    # both ways: a direction is looked at in place of the units, and they in its place
    screen.unit = 3
    assert (session.units, session.unit) == ((3,), 3)
    session.unit = "one"
    assert (screen.units, screen.unit, session.units) == ((3, "one"), "one", (3,))
    session.unit = None
    assert (screen.units, screen.unit, session.unit) == ((3,), 3, 3)
    screen.units = ["sum"]
    assert (session.units, session.unit) == ((), "sum")
    session.units = (1,)
    assert (screen.units, screen.unit) == ((1,), 1)
    # a direction of another scan is another, whatever its name
    screen.unit = "sum"
    session.scan = None
    assert (session.units, session.unit, screen.unit) == ((1,), 1, 1)
    screen.unit = "sum"
    assert (session.unit, screen.unit) == (1, "sum")
    session.scan = along
    assert error_of(screen) == ""
    assert list(screen.to_frame().index) == [0, 1, 2, 3, 4, 5, "sum", "one"]
    assert np.allclose(screen.to_frame()["mean"], shown["mean"])
    assert "→ sum" in screen.still()
    screen.layer = "rnn.l0"
    assert (screen.units, len(screen._table.source.data["mean"])) == ((), 6)
    assert error_of(screen) == ""
    with pytest.raises(ScanError, match=r"direction 'sum' of layer 'rnn.l0' was not scanned"):
        screen.units = ["sum"]


def test_a_direction_is_named_and_pinned_as_a_unit_is(along: Scan) -> None:
    screen = Corpus(along)
    screen.unit = "sum"
    screen.view.name.value = "<b>all"
    screen.view.pin.value = True
    assert screen._table.source.data["called"][6] == "★ → sum: <b>all"
    assert "direction sum, &lt;b&gt;all" in screen.still()
    assert "direction sum, <b>all over" in screen.view._chart.root.title.text
    again = corpus.open_scan(along.path)
    assert (again.names(), again.pins()) == ({"sum": "<b>all"}, ("sum",))
    screen.find.value = "★"
    assert screen._table.shown == (-1,)
    screen.unit = 3
    assert (screen.view.name.value, screen.view.pin.value) == ("", False)
    assert error_of(screen) == ""
    # a table of the units of a run has no rows for them
    screen.view.contexts._received(None, {"line": 0}, [])
    assert "called" not in screen.lens.table.columns()


def test_a_unit_that_never_moves_is_found_by_nothing(tmp_path: Path) -> None:
    model = nn.GRU(3, 4, batch_first=True)
    with torch.no_grad():
        for one in model.parameters():
            one.view(3, 4, -1)[:, 1] = 0  # its state stays 0
    up = {"up": lambda x: x[:, 0] > 0}
    done = corpus.scan(model, [torch.randn(2, 99, 3)], tmp_path / "s", labels=up, progress=False)
    screen = Corpus(done)
    shown = screen._table.source.data
    assert list(shown["found_by"]) == ["up", "", "up", "up"]
    assert np.isnan(shown["found_auc"]).tolist() == [False, True, False, False]
    screen.units = [1]
    screen.view.label.value = "up"
    assert "· never moves, and says nothing of up" in screen.view._title.value
    assert "AUC" not in screen.view._title.value
    assert error_of(screen) == ""


def test_of_a_long_row_some_steps_around_the_place_are_opened(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.GRU(3, 4, batch_first=True)
    done = corpus.scan(model, [torch.randn(1, 900, 3)], tmp_path / "s", progress=False)
    screen = Corpus(done)
    screen.units, screen.around.value = [1], 64
    place = max(screen.view.found.places, key=lambda one: one.start)
    lens = screen.open_place(place)
    session, start = lens.session, (place.start - 64) // 256 * 256
    assert start > 0
    assert session.excerpt.place.start == start
    assert session.times == tuple(range(place.start - start, place.stop - start))
    whole = done.replay(done.row_of(place)).recording["l0"]
    shown = whole.h[:, start : session.excerpt.place.stop]
    assert torch.allclose(session.before.h, shown, atol=1e-5)
    assert f"step 0 here is step {start}" in lens._part.value
    assert error_of(screen) == ""
    screen.around.value = 900
    assert (session.steps, session.times[0]) == (900, place.start)
    assert "the whole row of 900 steps" in lens._part.value
    session.set_input(torch.zeros(1, 5, 3))
    assert lens._part.value == ""
    assert lens._part.layout.display == "none"
