"""The phase portrait as a panel: linked to the session, and the search behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from grulens import Session, clamp
from grulens.dynamics import PhasePortrait, find_fixed_points, lyapunov
from grulens.errors import RecordingError
from grulens.views.figure.tokens import number
from grulens.widgets.dynamics import search as module
from tests.cells.dynamics.test_fixed_points import switches


class Switches(nn.Module):
    """Two units that each hold a sign: nine fixed points, four stable."""

    def __init__(self) -> None:
        super().__init__()
        cell = switches(2)
        self.rnn = nn.GRU(1, 2, batch_first=True)
        with torch.no_grad():
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(self.rnn, f"{name}_l0").copy_(getattr(cell, name))

    def forward(self, h_0: torch.Tensor, steps: int = 12) -> torch.Tensor:
        states: torch.Tensor = self.rnn(h_0.new_zeros(len(h_0), steps, 1), h_0[None])[0]
        return states


def starts() -> torch.Tensor:
    return torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def panel() -> Iterator[PhasePortrait]:
    made = PhasePortrait(Switches(), starts(), scale="value")
    yield made
    made.close()
    assert made.wait(20.0)


def found(panel: PhasePortrait) -> PhasePortrait:
    panel.find.click()
    assert panel.wait(20.0)
    return panel


def layers(panel: PhasePortrait) -> Any:
    return panel._plot.layers


def test_the_states_lie_where_they_are(panel: PhasePortrait) -> None:
    dots = layers(panel).dots.data
    assert len(dots["x"]) == 40 * 12
    where = panel._plane.lift(torch.tensor(np.stack([dots["x"], dots["y"]], 1)))
    at = torch.tensor([dots["row"], dots["step"]])
    assert torch.allclose(where, panel.session.now.h[at[0], at[1]].double(), atol=1e-6)


def test_no_point_is_chosen_at_first_and_that_is_said(panel: PhasePortrait) -> None:
    assert panel.point.options[panel.point.index] == ("none", None)


def test_the_search_finds_what_there_is(panel: PhasePortrait) -> None:
    found(panel)
    assert "fixed points, 4 stable</b>, from 480 starts (100% arrived)" in panel._status.value
    assert panel.find.description == "find fixed points"
    assert panel._searching.bar.layout.display == "none"
    own = find_fixed_points(panel.session.before.cell, starts=starts(), progress=False)
    stable = own.states[own.stable]
    mine = panel.found.states[panel.found.stable]
    assert torch.allclose(
        torch.cdist(stable, mine).min(1).values, torch.zeros(4).double(), atol=1e-8
    )
    assert len(panel.point.options) == 1 + len(panel.found)
    assert (panel.point.index, panel.point.value) == (0, None)
    assert layers(panel).fixed.data["kind"].count("stable") == 4


def test_a_point_shows_its_spectrum_and_its_ways_out(panel: PhasePortrait) -> None:
    found(panel)
    saddle = int(panel.found.unstable_dims.argmax())
    panel._plot.root._trigger_event(tap(panel, layers(panel).fixed.data, saddle))
    assert panel.point.value == saddle
    ways = int(panel.found.unstable_dims[saddle])
    assert f"unstable in {ways} direction" in panel._words.value
    assert panel._spectrum.root.visible
    assert len(layers(panel).ways.data["x"]) == 2 * ways
    assert len(layers(panel).chosen.data["x"]) == 1
    panel.point.value = None
    assert not panel._spectrum.root.visible
    assert panel._words.value == ""
    assert len(layers(panel).ways.data["x"]) == 0


def tap(panel: PhasePortrait, data: Any, place: int) -> Any:
    from bokeh.events import Tap

    return Tap(panel._plot.root, x=float(data["x"][place]), y=float(data["y"][place]))


def test_a_click_on_a_state_is_its_step_and_row(panel: PhasePortrait) -> None:
    dots = layers(panel).dots.data
    place = dots["row"].index(3) + 1
    panel._plot.root._trigger_event(tap(panel, dots, place))
    assert (panel.session.row, panel.session.step) == (3, 1)
    assert layers(panel).here.data["x"][0] == pytest.approx(dots["x"][place])


def test_a_click_on_an_empty_place_starts_a_trajectory(panel: PhasePortrait) -> None:
    from bokeh.events import Tap

    found(panel)
    x, y = panel._plane.project(torch.tensor([0.5, -1.4])).tolist()
    panel._plot.root._trigger_event(Tap(panel._plot.root, x=x, y=y))
    trail = layers(panel).trail.data
    assert (trail["x"][0], trail["y"][0]) == pytest.approx((x, y))
    end = panel._plane.lift(torch.tensor([[trail["x"][-1], trail["y"][-1]]]))
    assert torch.allclose(end, torch.tensor([[0.9575, -0.9575]]).double(), atol=1e-4)
    assert "through the mean state; after 200 steps" in panel._about.value
    assert "(stable)" in panel._about.value
    panel.clear.click()
    assert len(layers(panel).trail.data["x"]) == 0
    assert panel._about.value == ""


def test_the_field_and_slow_points_are_asked_for(panel: PhasePortrait) -> None:
    assert len(layers(panel).field.data["x"]) == 0
    panel.field.value = True
    assert len(layers(panel).field.data["x"]) == 17 * 17
    panel.field.value = False
    assert len(layers(panel).field.data["x"]) == 0
    found(panel)
    panel.slow.value = 1e-2
    assert panel._errors.value == ""


def test_another_input_has_other_fixed_points(panel: PhasePortrait) -> None:
    found(panel)
    panel.point.value = 0
    panel.still_input.value = "mean"
    assert panel.found is None
    assert panel.point.value is None
    assert "Looks, from states of this run" in panel._status.value
    assert len(layers(panel).fixed.data["x"]) == 0


@pytest.mark.parametrize("asked", ["step", "row", "class", "h", "z", "r", "n"])
def test_what_colours_the_states(panel: PhasePortrait, asked: str) -> None:
    panel.session.units = (1,)
    panel.color.value = asked
    dots = layers(panel).dots.data
    place = dots["row"].index(2) + 5
    now = panel.session.now
    wanted: dict[str, Any] = {"step": 5, "row": 2, "class": now.h[2, 5].argmax()}
    want = wanted[asked] if asked in wanted else now.signal(asked)[2, 5, 1]
    assert dots["value"][place] == pytest.approx(float(want))


def test_edits_move_the_states_and_leave_the_others_faint(panel: PhasePortrait) -> None:
    before = np.array(layers(panel).dots.data["x"])
    assert layers(panel).before.data["xs"] == []
    panel.session.add(clamp("rnn.l0", "z", value=0.9))
    assert not np.allclose(before, layers(panel).dots.data["x"])
    assert np.allclose(np.concatenate(layers(panel).before.data["xs"]), before)


def test_a_search_can_be_stopped_and_keeps_what_arrived(
    panel: PhasePortrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.find_fixed_points

    def stopping(*args: Any, progress: Any, **options: Any) -> Any:
        def told(count: int) -> None:
            if count:
                panel.find.click()
            progress(count)

        return real(*args, progress=told, **options)

    monkeypatch.setattr(module, "find_fixed_points", stopping)
    found(panel)
    assert panel.find.description == "find fixed points"
    assert bool(panel.found.speed.isnan().any())
    assert not bool(panel.found.speed.isnan().all())


def test_another_layer_forgets_and_shows_its_own(session: Session) -> None:
    panel = PhasePortrait(session)
    found(panel)
    session.layer = "rnn.l1"
    assert panel.found is None
    assert "rnn.l1" in panel._plot.root.title.text
    assert panel._plot.layers.dots.data["token"][:3] == ["a", "b", "c"]
    assert "states of rnn.l1" in panel.still()
    panel.close()


def test_what_spans_no_plane_is_said() -> None:
    with pytest.raises(RecordingError, match="a plane needs two units and two states"):
        PhasePortrait(nn.GRU(1, 1, batch_first=True), torch.zeros(1, 5, 1))


def test_exponents_along_the_run(session: Session) -> None:
    panel = PhasePortrait(session)
    panel.measure.click()
    assert panel.wait(20.0)
    layer = session.before
    want = lyapunov(layer.cell, layer.x[0])
    np.testing.assert_allclose(panel._exponents.source.data["value"], want.exponents.numpy())
    assert f"largest exponent {number(float(want.exponents[0]), '.3g')}" in panel._parting.value
    assert panel._exponents.root.visible
    session.layer = "rnn.l1"
    assert panel._parting.value == ""
    assert not panel._exponents.root.visible
    panel.close()


class AtTheBorder(nn.Module):
    """Two units, each at a pitchfork: one fixed point, marginal in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 2, batch_first=True)
        with torch.no_grad():
            for value in self.rnn.parameters():
                value.zero_()
            self.rnn.weight_hh_l0[4:] = 2 * torch.eye(2)

    def forward(self, h_0: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.rnn(h_0.new_zeros(len(h_0), 12, 1), h_0[None])[0]
        return states


def test_a_marginal_point_is_neither_in_picture_table_nor_words() -> None:
    panel = found(PhasePortrait(AtTheBorder(), starts(), scale="value"))
    assert "1 fixed point, 0 stable, 1 marginal" in panel._status.value
    assert panel.point.options[1] == ("0: marginal in 2, for ever", 0)
    fixed = layers(panel).fixed.data
    assert (fixed["shape"], fixed["kind"]) == (["diamond"], ["marginal in 2"])
    panel.point.value = 0
    assert "point 0</b>: marginal." in panel._words.value
    assert "In 2 directions the eigenvalue has modulus 1 to rounding" in panel._words.value
    assert "unstable" not in panel._words.value
    assert panel._spectrum.source.data["shape"] == ["diamond", "diamond"]
    assert len(layers(panel).ways.data["x"]) == 0, "no way out that is certain"
    x, y = panel._plane.project(torch.tensor([0.4, 0.4])).tolist()
    panel._on_place(x, y)
    assert "(marginal)" in panel._about.value
    assert "1 marginal (diamonds)" in panel.still()
    panel.close()


class Forgets(AtTheBorder):
    """Every step forgets one direction (rank 1), or all of them."""

    def __init__(self, ways: int) -> None:
        super().__init__()
        with torch.no_grad():
            self.rnn.weight_hh_l0[4:] = 0.5 * ways
            self.rnn.bias_ih_l0[2:4] = -800


def test_exponents_of_minus_infinity_are_said_in_words() -> None:
    panel = PhasePortrait(Forgets(1), starts(), scale="value")
    panel.measure.click()
    assert panel.wait(20.0)
    assert "In 1 direction (exponent −∞) a step forgets every difference." in panel._parting.value
    assert panel._exponents.root.title.text == "Lyapunov exponents · row 0 · 1 are −∞"
    data: Any = panel._exponents.source.data
    assert data["number"].tolist() == [0]
    assert np.isfinite(np.stack([data["value"], data["low"], data["high"]])).all()
    panel.close()
    none = PhasePortrait(Forgets(0), starts() + torch.arange(2), scale="value")
    none.measure.click()
    assert none.wait(20.0)
    assert "all exponents are −∞" in none._parting.value
    assert "nan" not in none._parting.value
    none.close()


def test_a_search_that_is_stopped_says_after_how_much(
    panel: PhasePortrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(cell: Any, *, x: Any, starts: torch.Tensor, progress: Any) -> Any:
        def told(count: int) -> None:
            progress(count)
            if panel._searching.job.done >= 100:
                panel._searching.stop()

        return find_fixed_points(cell, x=x, starts=starts, progress=told, memory=2**12)

    monkeypatch.setattr(module, "find_fixed_points", half)
    found(panel)
    assert panel.found.note.startswith("stopped after ")
    assert f"; {panel.found.note}" in panel._status.value


@pytest.mark.parametrize("layer", ["l0", "l0_reverse"])
def test_an_lstm_moves_in_h_and_c(layer: str) -> None:
    torch.manual_seed(2)
    lstm, x = nn.LSTM(3, 4, batch_first=True, bidirectional=True), torch.randn(2, 8, 3)
    session = Session(lstm, x, readout=lambda out: out[0])
    session.layer = layer
    panel = PhasePortrait(session)
    panel.field.value = True
    found(panel)
    panel.measure.click()
    assert panel.wait(20.0)
    assert panel._parting.value.startswith('<span role="status">largest exponent')
    states = panel.found.states
    assert states.shape[1] == 8
    assert torch.allclose(states[:, :4], after_a_step(lstm, layer, states), atol=1e-5)
    panel.point.value = 0
    panel._on_place(0.1, 0.2)
    assert "started in the plane through point 0; after 200 steps" in panel._about.value
    session.add(clamp(layer, "c", 1, value=2.0))
    dots = layers(panel).dots.data
    now = session.now.state[torch.tensor(dots["row"]), torch.tensor(dots["step"])]
    where = panel._plane.project(now).numpy()
    np.testing.assert_allclose(np.stack([dots["x"], dots["y"]], 1), where, atol=1e-6)
    assert panel._errors.value == ""
    panel.close()


def after_a_step(lstm: nn.LSTM, layer: str, states: torch.Tensor) -> torch.Tensor:
    """Torch's own h after a step without input from states (point, h and c) of a layer."""
    cell = nn.LSTMCell(3, 4)
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, name).copy_(getattr(lstm, f"{name}_{layer}"))
        h, c = states.float().chunk(2, 1)
        after: torch.Tensor = cell(torch.zeros(len(h), 3), (h, c))[0]
    return after.double()
