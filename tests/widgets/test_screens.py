"""Each screen without a browser: set what a person would set, look at what is drawn."""

import json
import re
from html import unescape
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from bokeh.events import SelectionGeometry, Tap
from ipywidgets.widgets.widget import _instances
from torch import nn

from grulens import AblationToggles, GateSliders, Lens, NeuronTable, Session, ablate, clamp, scale
from grulens.credit import CreditBars
from grulens.dynamics import PhasePortrait
from grulens.errors import GrulensError, ModelError
from grulens.memory import GateMemory
from grulens.phrases import PhraseTree
from grulens.probing.edits.edit import Edit
from grulens.widgets.corpus.study import CorpusStudy
from grulens.widgets.studies import Studies

#: Every screen there is.
SCREENS = (
    Lens, GateSliders, AblationToggles, NeuronTable, Studies, GateMemory, PhasePortrait, CreditBars,
    PhraseTree, CorpusStudy,
)  # fmt: skip


@pytest.fixture
def gates(session: Session) -> GateSliders:
    return GateSliders(session)


@pytest.fixture
def toggles(session: Session) -> AblationToggles:
    return AblationToggles(session)


def drawn(gates: GateSliders) -> np.ndarray:
    return np.array(gates._heat.image.data["image"][0])


def edits(session: Session) -> list[Edit]:
    return [slot.edit for slot in session.slots]


def error_of(panel: object) -> str:
    value: str = panel._errors.value  # type: ignore[attr-defined]
    return value


# gates


@pytest.mark.parametrize(
    ("mode", "value", "edit"),
    [
        ("scale", 0.5, scale("rnn.l0", "z", [1, 3], by=0.5, at=slice(2, 4))),
        ("set", 1.0, clamp("rnn.l0", "z", [1, 3], value=1.0, at=slice(2, 4))),
    ],
)
def test_a_slider_edits_the_selection(
    gates: GateSliders, session: Session, mode: str, value: float, edit: Edit
) -> None:
    session.units, session.times = (3, 1), (2, 3)
    before = drawn(gates)
    gates.controls.mode.value = mode
    gates.controls.sliders["z"].value = value
    assert edits(session) == [edit]
    assert not np.array_equal(before, drawn(gates))
    assert gates._output.along.data["divergence"].sum() > 0


def test_shift_leans_the_gate(gates: GateSliders, session: Session) -> None:
    gates.controls.mode.value = "shift"
    gates.controls.sliders["r"].value = -8.0
    assert float(session.now.r.max()) < 0.01


def test_a_second_move_replaces_the_first_and_reset_takes_it_away(
    gates: GateSliders, session: Session
) -> None:
    slider, reset = gates.controls.sliders["n"], gates.controls.resets["n"]
    assert reset.disabled
    slider.value = 0.5
    slider.value = 0.25
    assert edits(session) == [scale("rnn.l0", "n", by=0.25)]
    assert not reset.disabled
    reset.click()
    assert session.edited is session.baseline
    assert slider.value == 1.0


def test_another_selection_keeps_the_first_edit(gates: GateSliders, session: Session) -> None:
    slider = gates.controls.sliders["z"]
    session.units = (0,)
    slider.value = 0.5
    session.units = (1,)
    assert slider.value == 1.0
    slider.value = 0.25
    assert [edit.units for edit in edits(session)] == [(0,), (1,)]
    session.units = (0,)
    assert slider.value == 0.5


def test_set_rests_at_the_mean(gates: GateSliders, session: Session) -> None:
    gates.controls.mode.value = "set"
    expected = float(session.before.z.mean())
    assert gates.controls.sliders["z"].value == pytest.approx(expected, abs=0.006)
    assert not session.slots


def test_signal_difference_and_order_are_drawn(gates: GateSliders, session: Session) -> None:
    session.add(ablate("rnn.l0", 2))
    pictures = [drawn(gates)]
    gates.signal = "r"
    pictures.append(drawn(gates))
    gates.order = "index"
    pictures.append(drawn(gates))
    gates.difference = True
    pictures.append(drawn(gates))
    for one, other in pairwise(pictures):
        assert not np.array_equal(one, other)
    assert gates._heat.root.title.text.startswith("edited − baseline")
    gates.order = "similarity"
    assert sorted(gates._heat.rows.data["unit"]) == list(range(6))


def test_a_tap_selects_a_unit_and_a_drag_units_and_steps(
    gates: GateSliders, session: Session
) -> None:
    gates.order = "index"
    gates._heat.root._trigger_event(Tap(gates._heat.root, x=1, y=4))
    assert session.units == (4,)
    box = {"type": "rect", "x0": 0.6, "x1": 3.2, "y0": -0.4, "y1": 2.2}
    gates._heat.root._trigger_event(SelectionGeometry(gates._heat.root, geometry=box, final=True))
    assert (session.units, session.times) == ((0, 1, 2), (1, 2, 3))
    gates._clear.click()
    assert (session.units, session.times) == ((), ())


def test_the_step_tapped_shows_its_classes(gates: GateSliders, session: Session) -> None:
    session.step = 2
    names, was, _ = session.top(2)
    assert list(gates._output.classes.source.data["label"]) == names
    np.testing.assert_allclose(gates._output.classes.source.data["before"], was)
    assert was.sum() == pytest.approx(1.0, abs=1e-5)


# table


def test_the_table_selects_both_ways(session: Session) -> None:
    table = NeuronTable(session)
    session.units = (2, 5)
    assert table._table.source.selected.indices == [2, 5]
    table._table.source.selected.indices = [1]
    assert session.units == (1,)


def test_the_table_filters(session: Session) -> None:
    table = NeuronTable(session)
    mean_z = session.now.z[0].mean(0)
    table.low.value = f"{float(mean_z.median()):.6f}"
    assert len(table._table.shown) < 6
    assert "of 6 units" in table._count.value
    table._clear.click()
    assert len(table._table.shown) == 6
    table.find.value = "2-4"
    assert table._table.shown == (2, 3, 4)
    table.low.value = "many"
    assert "must be a number or empty" in error_of(table)
    table.low.value = ""
    assert not error_of(table)


def test_a_filter_without_a_hit_says_so(session: Session) -> None:
    table = NeuronTable(session)
    table.find.value = "6-9 "
    assert "“6-9” fits no unit: there are 6, 0 to 5" in table._count.value
    table.find.value, table.low.value = "", "7"
    assert "mean z from 7 fits no unit" in table._count.value
    table.find.value, table.high.value = "<b>", "8"
    assert "“&lt;b&gt;” and mean z from 7 to 8 fits no unit" in table._count.value
    table._clear.click()
    assert "6 of 6 units" in table._count.value


def test_the_table_follows_the_edits_and_gives_a_frame(session: Session) -> None:
    table = NeuronTable(session)
    session.add(ablate("rnn.l0", 3))
    assert table._table.source.data["spread_h"][3] == 0
    frame = table.to_frame()
    assert frame.index.name == "unit"
    assert frame.loc[3, "mean_h"] == 0
    assert list(frame.columns[:3]) == ["mean_h", "spread_h", "mean_z"]


# toggles


def test_ablate_selection(toggles: AblationToggles, session: Session) -> None:
    session.units, session.times = (1,), (0, 1, 2)
    toggles.ablate.click()
    toggles.to = "mean"
    toggles.ablate.click()
    assert edits(session) == [
        ablate("rnn.l0", [1], at=[0, 1, 2]),
        ablate("rnn.l0", [1], to="mean", at=[0, 1, 2]),
    ]
    assert "bits" in toggles._moved.value
    assert "a step" in toggles._moved.value


def test_switches_order_and_removal(toggles: AblationToggles, session: Session) -> None:
    for unit in range(3):
        session.add(ablate("rnn.l0", unit))
    first, second, third = toggles.lines
    second.on.value = False
    assert [slot.on for slot in session.slots] == [True, False, True]
    toggles.invert.click()
    assert [line.on.value for line in toggles.lines] == [False, True, False]
    third.up.click()
    assert [edit.units for edit in edits(session)] == [0, 2, 1]
    first.remove.click()
    assert [edit.units for edit in edits(session)] == [2, 1]
    toggles.all_off.click()
    assert session.edited is session.baseline
    toggles.all_on.click()
    toggles.undo.click()
    assert session.edited is session.baseline
    toggles.redo.click()
    assert all(slot.on for slot in session.slots)


def test_a_slider_keeps_its_line(toggles: AblationToggles, session: Session) -> None:
    gates = GateSliders(session)
    gates.controls.sliders["z"].value = 0.5
    line = toggles.lines[0]
    gates.controls.sliders["z"].value = 0.75
    assert toggles.lines == [line]
    assert "times 0.75" in line.words.value


def test_the_code_follows_the_edits(toggles: AblationToggles, session: Session) -> None:
    session.add(ablate("rnn.l0", 3))
    assert toggles.copy.code == session.code()
    assert "ablate(&#x27;rnn.l0&#x27;, 3, to=0.0)" in toggles._code.value


def test_each_line_says_what_its_edit_does_alone(
    toggles: AblationToggles, session: Session
) -> None:
    for unit in (0, 1):
        session.add(ablate("rnn.l0", unit))
    assert toggles._effects.wait(10.0)
    alone = Session(session.model, "abcdab")
    for line, edit in zip(toggles.lines, edits(session), strict=True):
        alone.set_slots(())
        alone.add(edit)
        assert line.effect.value == f"{float(alone.divergence.mean()):.3g} bits"


def test_buttons_that_do_nothing_are_disabled(toggles: AblationToggles, session: Session) -> None:
    controls = (toggles.undo, toggles.redo, toggles.all_on, toggles.all_off, toggles.invert)
    assert all(control.disabled for control in controls)
    session.add(ablate("rnn.l0", 0))
    assert not toggles.undo.disabled
    assert toggles.redo.disabled


# all of them


def test_an_error_shows_and_goes(session: Session) -> None:
    lens = Lens(session)
    lens.text.value = "abz"
    lens.run.click()
    assert "substring not found" in error_of(lens)
    assert "<pre>Traceback" in error_of(lens)
    assert session.tokens == list("abcdab")
    lens.text.value = "abc"
    lens.run.click()
    assert session.tokens == list("abc")
    assert not error_of(lens)


def test_an_edit_that_does_not_fit_is_marked_and_its_switch_is_off(session: Session) -> None:
    lens = Lens(session)
    session.add(ablate("rnn.l0", 0, at=[4, 5]))
    session.add(ablate("rnn.l1", 1))
    lens.text.value = "abc"
    lens.run.click()
    line, other = lens.toggles.lines
    assert "does not fit this input: steps 4, 5 of 3" in line.words.value
    assert (line.on.value, line.on.disabled) == (False, True)
    assert line.effect.value == ""
    assert "does not fit" not in other.words.value
    assert (other.on.value, other.on.disabled) == (True, False)
    other.on.value = False
    lens.text.value = "dcbabc"
    lens.run.click()
    assert "does not fit" not in line.words.value
    assert (line.on.value, line.on.disabled) == (True, False)
    assert not other.on.value
    assert [panel._errors.value for panel in (lens, lens.toggles)] == ["", ""]


def test_texts_are_escaped() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    torch.manual_seed(0)
    model = nn.GRU(3, 4, batch_first=True)
    labels = [hostile, "b", "c", "d"]
    lens = Lens(model, torch.ones(1, 2, 3), tokens=[hostile, "y"], labels=labels)
    assert hostile not in lens.still()
    assert "&lt;img" in lens.still()
    lens.gates.callbacks.show(ValueError(hostile))
    assert hostile not in error_of(lens.gates)


def test_layer_and_row_choosers(model: nn.Module) -> None:
    lens = Lens(model, torch.tensor([[0, 1, 2], [3, 2, 1]]))
    lens.layer.value = "rnn.l1"
    assert lens.session.layer == "rnn.l1"
    lens.row.value = 1
    assert lens.session.tokens == ["d", "c", "b"]
    lens.session.layer = "rnn.l0"
    assert lens.layer.value == "rnn.l0"


def test_saved_page_and_still_show_the_state(session: Session, tmp_path: object) -> None:
    lens = Lens(session)
    plain = lens.still()
    session.add(ablate("rnn.l0", 2))
    assert "state of unit 2 set to 0" in lens.still()
    assert plain != lens.still()
    path = lens.save(f"{tmp_path}/lens.html", weights=False)
    html = path.read_text()
    assert "ablate(" in html
    assert "<script src=" not in html


def test_a_saved_page_stands_as_the_lens_stood(session: Session, tmp_path: Path) -> None:
    session.layer = "rnn.l1"
    lens = Lens(session)
    session.add(ablate("rnn.l1", 2))
    session.add(ablate("rnn.l1", 4))
    session.switch(lambda slot: slot.edit.units == 2)
    session.units, session.times, session.step = (3,), (1, 2), 4
    lens.gates.order, lens.gates.signal, lens.gates.difference = "similarity", "r", True

    def held() -> str:
        html = lens.save(tmp_path / "lens.html", weights=False).read_text()
        data = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.S)
        return str(json.loads(unescape(data[0])))

    page = held()
    assert "reset gate r, edited − baseline" in page
    assert "output at step 4" in page
    assert "  # off" in page
    assert "grulens-still" not in page
    for study in ("memory", "motion", "credit", "phrases"):
        lens.studies.shown = study
        assert "grulens-still" in held() or study == "phrases"
    lens.studies.opened["phrases"].build.click()
    assert "grulens-still" in held()
    lens.studies.shown = "nothing"
    assert held().count("grulens-still") == 0


def test_repr_is_short_and_stable(session: Session) -> None:
    lens = Lens(session)
    assert repr(lens) == "Lens(Tagger, rnn.l0, 0 of 0 edits on)"
    data = lens._repr_mimebundle_()
    assert data["text/plain"] == repr(lens)
    assert "data:image/png" in data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in data


@pytest.mark.parametrize("screen", [GateSliders, NeuronTable, AblationToggles, GateMemory, Lens])
def test_close_leaves_nothing(model: nn.Module, screen: type) -> None:
    session = Session(model, "abcd")
    before = set(_instances)
    made = screen(session)
    session.add(ablate("rnn.l0", 0))
    session.add(ablate("rnn.l0", 1))
    session.undo()
    made.close()
    made.close()
    assert set(_instances) == before
    watchers = session._trait_notifiers
    own = Session(model, "abcd")._trait_notifiers
    assert {n: len(v["change"]) for n, v in watchers.items() if v.get("change")} == {
        n: len(v["change"]) for n, v in own.items() if v.get("change")
    }


@pytest.mark.unchecked
@pytest.mark.parametrize("screen", SCREENS)
def test_a_name_instead_of_a_model_is_refused(screen: type) -> None:
    with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module, got str"):
        screen("net", torch.ones(1, 2, 3))


@pytest.mark.parametrize("screen", SCREENS)
def test_a_session_brings_its_own_input_and_options(session: Session, screen: type) -> None:
    with pytest.raises(GrulensError, match="so an input, labels would do nothing"):
        screen(session, "abcd", labels=list("abcd"))


@pytest.mark.parametrize("screen", [GateSliders, NeuronTable, AblationToggles, GateMemory])
def test_each_stands_alone(model: nn.Module, screen: type) -> None:
    made = screen(model, "abcd", layer="rnn.l1")
    assert made.session.layer == "rnn.l1"


def test_the_table_measures_what_each_unit_does(session: Session) -> None:
    table = NeuronTable(session)
    names = [column.field for column in table._table.root.columns]
    assert "effect" not in names
    assert "effect" not in dict(table.column.options).values()
    session.add(ablate("rnn.l0", 1))
    table.measure.click()
    assert table.wait(30.0)
    frame = table.to_frame()
    # the edits of the session are not in it
    alone = [session.effect(ablate(session.layer, unit)) for unit in range(6)]
    assert frame["effect"].to_numpy() == pytest.approx(alone, abs=1e-6)
    assert (frame["effect"] - frame["direct"]).to_numpy() == pytest.approx(
        frame["recurrent"].to_numpy(), abs=1e-6
    )
    assert frame["recurrent"].abs().max() > 1e-5
    names = [column.field for column in table._table.root.columns]
    assert names[:5] == ["unit", "effect", "direct", "recurrent", "mean_h"]
    assert "measured 6 of 6 units, in bits a step" in table._measured.value
    assert table.measure.description == "measure effects"
    table.column.value, table.low.value = "effect", f"{frame['effect'].median():.6f}"
    assert len(table._table.shown) == 3


def test_another_input_row_or_layer_takes_the_effects_away(session: Session) -> None:
    table = NeuronTable(session)
    table.measure.click()
    assert table.wait(30.0)
    session.add(ablate(session.layer, 2))
    assert "effect" in table.to_frame()
    table.column.value = "effect"
    session.layer = "rnn.l1"
    assert "effect" not in table.to_frame()
    assert table.column.value == "mean_z"
    assert "measured" not in table._measured.value
    table.measure.click()
    assert table.wait(30.0)
    session.set_input("ab")
    assert "effect" not in table.to_frame()
