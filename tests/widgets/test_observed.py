"""Screens on cells that are observed in their module's own forward."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

import ipywidgets as W
import pytest
import torch
from bokeh.events import Tap
from torch import nn

from grulens import GateSliders, Lens, NeuronTable, Session, ablate, clamp, record, scale
from grulens.cells.signal import Signal
from grulens.credit import head_of
from grulens.dynamics import PhasePortrait
from grulens.errors import PositionError, ReadoutError
from grulens.memory import GateMemory
from grulens.probing.edits import positions
from grulens.probing.edits.edit import Edit
from grulens.views.figure import raster
from grulens.widgets.dynamics.colors import choices, coloured
from grulens.widgets.session.screen import parts_of
from grulens.widgets.studies import STUDIES
from tests.widgets.observed_cells import MODELS, STEPS, made

OWN = {
    "norm": ("h", "r", "n", "z"),
    "decay": ("h", "gam", "z", "n"),
    "two": ("h", "f", "i", "g", "o", "c"),
    "conv": ("h", "r", "z", "n"),
    "masked": ("h", "m", "r", "z", "n"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_signals_offered_are_the_cell_s_own(name: str) -> None:
    lens = Lens(*made(name))
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
    exec(session.code(), {**globals(), "model": model, "x": x}, found)
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
    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(7, 8)
            self.line.weight.data[:4].zero_()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = x.new_zeros(len(x), 4)
            for x_t in x.unbind(1):
                f, n = self.line(torch.cat([x_t, h], 1)).chunk(2, 1)
                h = torch.exp(f) * h + torch.tanh(n)
            return h

    for (model, x), name, most in (((Growing(), STEPS), "f", 4.0), (made("decay"), "gam", 1.0)):
        lens = Lens(model, x)
        lens.gates.controls.mode.value = "set"
        slider = lens.gates.controls.sliders[name]
        assert (slider.min, slider.max) == (0.0, most)


def test_the_colours_of_what_is_never_below_zero_begin_there_where_the_map_does() -> None:
    values = torch.tensor([[0.3, 1.5]]).numpy()
    decay = Signal("gam", "decay", 0.0, float("inf"), "keep")
    candidate = Signal("n", "candidate", 0.0, float("inf"), "candidate")
    assert raster.scale(decay, values) == (0.0, 2.0)
    assert raster.scale(candidate, values) == (-2.0, 2.0)


def said(panel: W.Widget) -> str:
    """All that a screen shows in words."""
    parts = [part for part in parts_of(panel) if isinstance(part, W.HTML)]
    return unescape(" ".join(part.value for part in parts if part.layout.display != "none"))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("study", STUDIES)
def test_a_study_works_or_says_by_name_why_not(name: str, study: str) -> None:
    lens = Lens(*made(name))
    lens.studies.shown = study
    panel = lens.studies.opened[study]
    panel.wait()
    assert (lens._errors.value, lens.studies._errors.value, panel._errors.value) == ("", "", "")
    text = said(panel)
    if study in ("phrases", "motion"):
        assert "layer 'cell' was observed in its module's own forward" in text
    if study == "credit":
        assert panel.credit.layer == "x"
        assert "This is credit of x, which the model itself is given" in text
        panel.method = "relevance (LRP)"
        panel.wait()
        assert "No credit by relevance" in said(panel)
        panel.method = "input × gradient"
        panel.wait()
        before = panel.credit.tokens
    lens.session.add(scale("cell", "h", [0], by=0.5))  # and goes on to do so
    panel.wait()
    assert panel._errors.value == ""
    assert study != "credit" or not torch.equal(panel.credit.tokens, before)
    assert lens.still()


@pytest.mark.parametrize("name", ["decay", "two"])
def test_attention_that_a_cell_has_not_is_said_in_its_place(name: str) -> None:
    says_so(GateMemory(*made(name)), "attention")


def test_half_lives_that_a_cell_has_not_are_said_in_their_place() -> None:
    screen = GateMemory(nn.RNN(3, 4, batch_first=True), STEPS)
    screen.view = "timescales"
    says_so(screen, "timescales", "layer 'l0'")


def says_so(screen: GateMemory, view: str, layer: str = "layer 'cell'") -> None:
    """A view that has nothing to show."""
    screen.wait()
    assert screen._errors.value == ""
    shown = screen._views[view]
    assert shown.picture.layout.display == "none"
    assert layer in unescape(shown._status.value)
    assert screen.still() == f"<p>{escape(repr(screen))}</p>"


@pytest.mark.parametrize(
    ("name", "gates"), [("norm", "zr"), ("decay", ("gam", "z")), ("two", "fio")]
)
def test_half_lives_are_drawn_with_the_gates_of_the_cell(name: str, gates: Sequence[str]) -> None:
    screen = GateMemory(*made(name))
    screen.view = "timescales"
    screen.wait()
    view = screen.timescales
    assert set(view.figure.saturation.sources) == set(gates)
    assert view.found is not None
    assert all(f"{gate} " in view._status.value for gate in gates)
    assert "longest half-lives" in screen.still()


def test_each_layer_has_the_gates_of_its_own_cell() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.GRU(3, 4, batch_first=True)
            self.two = nn.LSTM(4, 5, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.two(self.one(x)[0])[0]
            return out

    session = Session(Both(), STEPS)
    screen = GateMemory(session)
    screen.view = "timescales"
    view = screen.timescales
    first, heard = view.picture, view.figure.saturation.sources.keys()
    assert set(heard) == {"r", "z"}
    session.layer = "two.l0"
    assert set(view.figure.saturation.sources) == {"i", "f", "o"}
    assert view.found.layer == "two.l0"  # type: ignore[union-attr]
    assert (first.layout.display, view.picture.layout.display) == ("none", None)
    view.figure.lives.root._trigger_event(Tap(view.figure.lives.root, x=0, y=1))
    assert session.units == (int(view.found.half_life.argmax()),)  # type: ignore[union-attr]
    session.layer = "one.l0"
    assert view.picture is first
    assert (first.layout.display, len(view.box.children)) == (None, 4)


def test_attention_of_an_observed_mix_is_drawn() -> None:
    screen = GateMemory(*made("norm"))
    screen.wait()
    assert screen.attention.picture.layout.display is None
    assert "was written" in screen.attention._status.value


def test_the_plane_of_an_observed_cell_has_no_controls_that_ask_its_weights() -> None:
    screen = PhasePortrait(*made("decay"))
    hidden = (screen.still_input, screen.field, *screen._asking)
    assert [part.layout.display for part in hidden] == ["none"] * 4
    screen._on_place(0.0, 0.0)
    assert screen._about.value == ""
    known = PhasePortrait(torch.nn.GRU(3, 4, batch_first=True), STEPS)
    assert known.find.layout.display is None
    assert known._closed.layout.display == "none"


def test_the_linear_readout_of_an_observed_cell_is_found_and_its_own_lines_are_none() -> None:
    model, x = made("norm")
    assert repr(head_of(model, x)) == "Head('head' of 'cell', 2 classes, 4 units)"
    for name in ("two", "decay"):
        with pytest.raises(ReadoutError):
            head_of(*made(name))


def test_edits_come_back_from_json_as_they_were() -> None:
    model, x = made("decay")
    session = Session(model, x)
    other = next(one.name for one in session.before.cell.others if "self.new" in one.words)
    edits = [scale("cell", "gam", [1], by=0.5), clamp("cell", other, value=0.0)]
    for edit in edits:
        session.add(Edit.from_dict(json.loads(json.dumps(edit.to_dict()))))
    assert session.on == edits
    assert torch.equal(session.edited.output, record(model, x, edits=edits).output)
    assert not torch.equal(session.edited.output, session.baseline.output)
    code: dict[str, object] = {**globals(), "model": model, "x": x}
    exec(session.code(), code)
    assert torch.equal(code["run"].output, session.edited.output)  # type: ignore[attr-defined]


def test_another_input_is_run_through_the_same_cell() -> None:
    model, x = made("decay")
    lens = Lens(model, x)
    lens.session.add(clamp("cell", "gam", value=1.0))
    lens.session.set_input(x[:, :3])
    assert lens.session.before.shape == (2, 3, 4)
    assert bool((lens.session.now.gam == 1).all())


def test_space_is_folded_away() -> None:
    model, x = made("conv")
    layer = record(model, x)["cell"]
    whole = layer.z.reshape(2, 6, 2, 3, 4)
    assert torch.equal(layer.folded("mean", "z"), whole.mean((3, 4)))
    assert torch.equal(layer.folded("max", "z"), whole.amax((3, 4)))
    assert torch.equal(layer.folded((2, 1), "z"), whole[..., 2, 1])
    assert torch.equal(layer.folded(), layer.folded("mean", "h"))


@pytest.mark.parametrize("space", ["sum", (3, 0), (0, 4), (0,), (0, 0, 0), (-1, 0)])
def test_a_place_that_is_none_is_refused(space: Any) -> None:
    layer = record(*made("conv"))["cell"]
    with pytest.raises(PositionError, match="place in"):
        layer.folded(space)
    with pytest.raises(PositionError, match="no space to fold"):
        record(*made("norm"))["cell"].folded(space)


def of_channels(lens: Lens) -> tuple[Any, list[str]]:
    """What the map shows, units in their order, and what the table calls its rows."""
    lens.gates.order = "index"
    called = lens.gates._heat.rows.data["unit"].tolist()
    return lens.gates._heat._values, called


@pytest.mark.parametrize("space", ["mean", "max", (2, 1)])
def test_a_state_over_space_is_shown_by_its_channels(space: Any, tmp_path: Path) -> None:
    model, x = made("conv")
    lens = Lens(model, x, space=space)
    session, layer = lens.session, lens.session.now
    values, called = of_channels(lens)
    assert torch.equal(torch.tensor(values), layer.folded(space, "h")[0].T)
    place = "" if isinstance(space, str) else " at (2, 1)"
    assert called == [f"channel {i}{place}" for i in range(2)]
    words = {"mean": "mean over 3 × 4 places", "max": "largest over 3 × 4 places"}
    assert words.get(space, "at (2, 1)") in lens.gates._heat.root.title.text
    assert words.get(space, "at (2, 1)") in lens.gates.space._says.value
    assert lens.gates._heat.root.yaxis.axis_label == "channel"
    # the table counts what the map shows
    z = layer.folded(space, "z")[0]
    table = lens.table.to_frame()
    assert table.index.name == "channel"
    assert table["mean_h"].tolist() == pytest.approx(layer.folded(space)[0].mean(0).tolist())
    assert table["z_high"].tolist() == (z > 0.9).float().mean(0).tolist()
    assert lens.table._table.root.columns[0].title == (
        '<span title="channel of the hidden state: its places are folded">channel</span>'
    )
    assert "2 of 2 channels" in lens.table._count.value
    # a channel is all its places, or the one that is seen
    units = list(range(12, 24)) if isinstance(space, str) else [12 + 2 * 4 + 1]
    lens.table._table.source.selected.indices = [1]
    assert session.units == tuple(units)
    assert lens.gates._heat.units == (1,)
    lens.toggles.ablate.click()
    zero = session.now.h[..., units]
    assert not zero.any()
    assert float(session.now.h.abs().sum()) > 0
    others = [unit for unit in range(24) if unit not in units]
    assert bool(session.now.h[..., others].any(1).all())
    assert torch.equal(torch.tensor(of_channels(lens)[0]), session.now.folded(space)[0].T)
    # the code of the edit makes the same run, and says the channel in short
    found: dict[str, Any] = {}
    exec(session.code(), {**globals(), "model": model, "x": x}, found)
    assert torch.equal(found["run"].output, session.edited.output)
    assert len(session.code()) < 200
    # an effect is that of what one row stands for
    session.undo()
    lens.table.measure.click()
    assert lens.table.wait(60.0)
    effects = lens.table.columns()["effect"]
    edited = record(model, x, edits=[ablate("cell", units)])
    change = Session(model, x)
    change.add(ablate("cell", units))
    assert float(edited.output.sub(session.edited.output).abs().sum()) > 0
    assert effects[1] == pytest.approx(float(change.moved.mean()), rel=1e-4)
    # the still picture and the saved page are of channels too
    page = lens.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"channel 1{place}" in page
    assert "selected: channel 1" in lens.still()
    for text in (lens.still(), page):
        assert words.get(space, "at (2, 1)") in unescape(text).replace("\\u00d7", "×")
        assert "channel 0 at (0, 1)" not in text


def test_how_space_is_folded_is_chosen_on_the_screen() -> None:
    lens = Lens(*made("conv"))
    session, control = lens.session, lens.gates.space
    assert control.box.layout.display is None
    assert lens.table.space.box.layout.display == "none"  # once is enough
    assert NeuronTable(session).space.box.layout.display is None
    control.fold.value = "mean"
    assert (session.space, len(of_channels(lens)[1])) == ("mean", 2)
    session.units = (13,)  # a unit, and no channel
    assert lens.gates._heat.units == ()
    control.fold.value = "one place"
    assert (session.space, control.place.value) == ((0, 1), "0, 1")
    assert lens.gates._heat.units == (1,)
    control.place.value = "2, 3"
    assert session.space == (2, 3)
    control.place.value = "3, x"
    assert "space must be" in lens.gates.callbacks.box.value
    assert (session.space, control.place.value) == ((2, 3), "2, 3")
    # a smaller picture has no such place
    session.set_input(torch.randn(1, 4, 1, 3, 4))
    assert session.space == (2, 3)
    control.fold.value = "every place"
    assert (session.space, len(of_channels(lens)[1])) == (None, 24)


def test_the_studies_count_the_channels_that_are_shown() -> None:
    lens = Lens(*made("conv"), space="mean")
    session, screen = lens.session, GateMemory(lens.session)
    screen.view = "timescales"
    view = screen.timescales
    lives = view.figure.lives
    assert sorted(lives.source.data["unit"]) == [0, 1]
    wanted = lens.table.columns()["half_life"]
    assert view.found is not None
    assert view.found.half_life.tolist() == pytest.approx(wanted.tolist(), rel=1e-5)
    assert "half-life of each channel · cell, mean over 3 × 4 places" in lives.root.title.text
    assert "a dot for each channel" in screen.still()
    lives.root._trigger_event(Tap(lives.root, x=0, y=1))
    first = lives.source.data["unit"][0]
    assert session.units == tuple(range(12 * first, 12 * first + 12))
    assert lives.units == view.figure.saturation.units == (first,)
    assert f"channel {first} after" in unescape(view._status.value)
    session.space = None
    assert len(lives.source.data["unit"]) == 24
    assert "half-life of each unit · cell" in lives.root.title.text
    session.space = "max"
    assert f"state of channel {first}" in dict(choices(session))
    values, *_ = coloured(session, "h")
    assert values.tolist() == session.now.folded("max")[..., first].tolist()


class Graph(nn.Module):
    """A GRU on three nodes of two channels, each of which reads the mean of all."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.new = nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(len(x), 3, 2)
        for x_t in x.unbind(1):
            both = torch.cat([x_t, h, h.mean(1, keepdim=True).expand_as(h)], 2)
            z = torch.sigmoid(self.gate(both))
            h = z * h + (1 - z) * torch.tanh(self.new(both))
        return h.mean(1)


def test_the_channels_of_nodes_are_folded_over_nodes() -> None:
    lens = Lens(Graph(), torch.randn(2, 5, 3, 2), space="max")
    _, called = of_channels(lens)
    assert called == ["channel 0", "channel 1"]
    assert "Each row is a channel: largest over 3 places" in lens.gates.space._says.value
    lens.table._table.source.selected.indices = [1]
    assert lens.session.units == (1, 3, 5)
    assert "(all of channel 1)" in lens.gates._chosen.value
    # all of a channel has no place of its own: the middle one is shown
    lens.gates.space.fold.value = "one place"
    assert (lens.session.space, lens.session.units) == ((1,), (3,))


class Apart(Graph):
    """Numbers over two axes that no weights add up."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.randn(3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(len(x), 3, 2)
        for x_t in x.unbind(1):
            z = torch.sigmoid(self.own * x_t + h)
            h = z * h + (1 - z) * torch.tanh(x_t)
        return h.mean(1)


def test_of_two_axes_of_which_nothing_tells_none_is_called_the_channel() -> None:
    lens = Lens(Apart(), torch.randn(2, 5, 3, 2), space="max")
    _, called = of_channels(lens)
    assert called == ["slice 0", "slice 1", "slice 2"]
    assert "Each row is a slice of the state along its first axis" in lens.gates.space._says.value
    lens.table._table.source.selected.indices = [2]
    assert "units 4, 5 (all of slice 2)" in lens.gates._chosen.value
    assert "channel" not in lens.still() + said(lens)


def test_a_shift_that_reaches_no_activation_is_not_offered() -> None:
    lens = Lens(*made("conv"))
    lens.gates.controls.mode.value = "shift"
    sliders = lens.gates.controls.sliders
    assert {name: slider.disabled for name, slider in sliders.items()} == {
        "r": True, "z": True, "n": False,
    }  # fmt: skip
    assert "cut out of a larger result, or rounded, behind its activation" in sliders["z"].tooltip
    sliders["n"].value = 1.0
    assert len(lens.session.slots) == 1
    lens.gates.controls.mode.value = "scale"
    assert not any(slider.disabled for slider in lens.gates.controls.sliders.values())


def test_another_fold_moves_what_is_chosen_so_that_what_is_said_is_edited() -> None:
    screen = GateSliders(*made("conv"), space="mean")
    session, channel = screen.session, tuple(range(12, 24))

    def chosen(space: Any, units: tuple[int, ...], row: tuple[int, ...], words: str) -> None:
        session.space = space
        assert session.units == units
        assert screen._heat.units == row
        assert words in screen._chosen.value
        (edited,) = positions.mask(ablate("cell", session.chosen_units).units, 24).nonzero(
            as_tuple=True
        )
        assert edited.tolist() == ([*units] or [*range(24)])

    session.units = channel
    chosen((2, 1), (21,), (1,), "unit 21 (channel 1 at (2, 1))")
    chosen((0, 3), (15,), (1,), "unit 15 (channel 1 at (0, 3))")
    chosen("max", channel, (1,), "all of channel 1")
    chosen(None, channel, channel, "all of channel 1")
    assert session.chosen_units == slice(12, 24), "the same edit, however it is seen"
    screen.space.fold.value = "one place"
    assert session.space == (1, 2), "a whole channel has no place: it is the middle"
    session.units = channel
    assert screen._heat.units == (), "of which the row at one place is not all"
    session.space, session.units = None, (13,)
    chosen("mean", (), (), "all units")
    session.units = channel
    session.set_input(torch.randn(1, 4, 1, 3, 4))
    assert session.units == channel


def test_a_fold_that_does_not_fit_is_refused() -> None:
    for name, space, why in (
        ("conv", "median", "space must be"), ("conv", (3, 0), "space must be"),
        ("norm", "mean", "there is no space to fold"),
    ):  # fmt: skip
        with pytest.raises(PositionError, match=why):
            Lens(*made(name), space=space)
    assert Lens(*made("norm")).gates.space.box.layout.display == "none"
