"""Screens on cells that are observed in their module's own forward."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pytest
import torch

from grulens import Lens, clamp, record, scale
from grulens.cells.cell import Signal
from grulens.views.figure import raster
from tests.widgets.observed_cells import MODELS, made

OWN = {
    "norm": ("h", "r", "n", "z"),
    "decay": ("h", "gam", "z", "n"),
    "two": ("h", "f", "i", "g", "o", "c"),
    "conv": ("h", "r", "z", "n"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_signals_offered_are_the_cell_s_own(name: str) -> None:
    lens = Lens(*[*made(name)])
    assert {value for _, value in lens.gates._signal.options} == set(OWN[name])
    states = lens.session.now.cell.states
    assert set(lens.gates.controls.sliders) == set(OWN[name]) - set(states)
    for signal in OWN[name]:
        lens.gates.signal = signal
        assert f"{signal} · {lens.session.layer}" in lens.gates._heat.root.title.text


@pytest.mark.parametrize("name", MODELS)
def test_the_equation_and_its_lines_of_code_are_on_the_screen_and_on_the_page(
    name: str, tmp_path: Path
) -> None:
    lens = Lens(*made(name))
    layer = lens.session.now
    page = lens.save(tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (lens._form.value, lens.still()):
        assert escape(layer.cell.equation) in text
        for where, code in layer.cell.lines.values():
            assert escape(where) in text
            assert escape(code) in text
    assert layer.cell.equation in page


def test_code_is_shown_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    lens = Lens(*made("norm"))
    lines = dict(lens.session.before.cell.lines)
    lines["z"] = ("line 1 of <img src=x>", "<script>alert(1)</script>")
    object.__setattr__(lens.session.before.cell, "lines", lines)
    lens._on_run()
    assert "&lt;script&gt;" in lens._form.value
    assert "<script" not in lens._form.value
    assert "<img" not in lens._form.value + lens.still().replace("<img alt", "")


def test_a_known_cell_says_nothing_of_an_equation_found() -> None:
    lens = Lens(torch.nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    assert lens._form.value == ""
    assert lens._form.layout.display == "none"


@pytest.mark.parametrize(("name", "gate"), [("norm", "z"), ("decay", "gam"), ("two", "f"),
                                            ("conv", "z")])  # fmt: skip
def test_a_slider_acts_inside_the_recurrence_and_its_code_gives_the_run(
    name: str, gate: str
) -> None:
    model, x = made(name)
    lens = Lens(model, x)
    session = lens.session
    session.units = (1,)
    lens.gates.controls.mode.value = "set"
    lens.gates.controls.sliders[gate].value = 0.0
    assert bool((session.now.signal(gate)[..., 1] == 0).all())
    assert float(session.divergence.abs().sum()) > 0
    wanted = record(model, x, edits=[clamp("cell", gate, [1], value=0.0)])
    found: dict[str, object] = {}
    exec(session.code(), {"model": model, "x": x, "net": model, **vars(torch)}, found)
    for run in (session.edited, found["run"]):
        assert torch.equal(run.output, wanted.output)  # type: ignore[attr-defined]
    session.undo()
    assert session.edited is session.baseline


def test_an_edit_of_another_line_is_said_in_the_code_s_own_words() -> None:
    model, x = made("norm")
    lens = Lens(model, x)
    other = lens.session.now.cell.others[0]
    lens.session.add(scale("cell", other.name, [1], by=0.5))
    (line,) = lens.toggles.lines
    assert escape(other.words) in line.words.value
    assert "does not fit" not in line.words.value


def test_units_with_a_place_are_named_wherever_they_stand(tmp_path: Path) -> None:
    lens = Lens(*made("conv"))
    session, name = lens.session, "channel 1 at (0, 3)"
    session.units = (15,)
    assert session.now.cell.unit_name(15) == name
    assert name in lens.gates._chosen.value
    assert lens.gates._strip.image.data["name"] == [name]
    assert name in lens.gates._heat.rows.data["unit"].tolist()
    assert lens.table._table.source.data["place"][15] == name
    lens.toggles.ablate.click()
    assert name in lens.toggles.lines[0].words.value
    lens.table.find.value = "channel 1"
    assert lens.table._table.shown == tuple(range(12, 24))
    assert name in lens.save(tmp_path / "page.html").read_text(encoding="utf-8")
    session.units = tuple(range(12))
    assert "all of channel 0" in lens.gates._chosen.value


def test_a_plain_state_has_numbers_alone() -> None:
    lens = Lens(*made("decay"))
    lens.session.units = (1,)
    assert "place" not in lens.table._table.source.data
    assert lens.gates._strip.image.data["name"] == ["unit 1"]
    assert "(" not in lens.gates._chosen.value


def test_a_signal_without_bounds_can_be_set_as_far_as_it_goes() -> None:
    model, x = made("decay")
    model.decay.weight.data.zero_()
    lens = Lens(model, x)
    lens.gates.controls.mode.value = "set"
    slider = lens.gates.controls.sliders["gam"]
    assert (slider.min, slider.max) == (0.0, 4.0)


def test_the_colours_of_what_is_never_below_zero_begin_there_where_the_map_does() -> None:
    values = torch.tensor([[0.3, 1.5]]).numpy()
    decay = Signal("gam", "decay", 0.0, float("inf"), "keep")
    candidate = Signal("n", "candidate", 0.0, float("inf"), "candidate")
    assert raster.scale(decay, values) == (0.0, 2.0)
    assert raster.scale(candidate, values) == (-2.0, 2.0)
