"""The screen of memory without a browser: set what a person would set, look at what is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bokeh.events import Tap
from torch import Tensor, nn

from grulens import Lens, Session, ablate, clamp, record, scale
from grulens.memory import GateMemory, attention, gradient_flow, timescales
from grulens.probing.memory.attention import GateAttention
from grulens.probing.readout.head import head_of
from grulens.widgets.memory import attention as memory_attention
from grulens.widgets.memory import flow as memory_flow
from tests.widgets.observed_cells import STEPS, NormCell, made


@pytest.fixture
def top(session: Session) -> Session:
    """The layer that the readout reads."""
    session.layer = "rnn.l1"
    return session


def shown(screen: GateMemory) -> np.ndarray:
    """The weights on the map, within what a byte can tell."""
    data = screen.attention._map.image.data
    image, low, high = np.array(data["image"][0]), data["low"][0], data["high"][0]
    values = low + image.clip(0, 252) / 252 * (high - low)
    return np.where(image == 254, 0, values if low < 0 else values**2)


def bars(screen: GateMemory) -> list[float]:
    weights: list[float] = screen.attention._bars.source.data["weight"].tolist()
    return weights


def said(screen: GateMemory) -> str:
    html: str = screen._shown_view._status.value  # type: ignore[union-attr]
    return html


def found(session: Session) -> GateAttention:
    return attention(session.now, rows=session.row)


@pytest.mark.parametrize("by", [1.0, 3.0])
def test_weights_that_are_no_shares_are_said_to_be_none(session: Session, by: float) -> None:
    screen = GateMemory(session)
    session.add(scale("rnn.l0", "z", by=by))
    assert (session.now.z.max() > 1) == (by > 1)
    weights, initial = found(session).at(session.step)
    summed = screen.attention._bars.shares.data
    np.testing.assert_allclose(
        summed["value"], [weights.mean(2).sum(), initial.mean()], rtol=1e-4, atol=1e-6
    )
    assert summed["signed"] == [by > 1] * 2
    assert ("no shares" in said(screen)) == (by > 1)
    assert ("Half of" in said(screen)) == (by == 1)


@pytest.mark.filterwarnings("ignore::grulens.errors.NonFiniteWarning")
@pytest.mark.parametrize("view", ["attention", "gradient"])
def test_what_is_no_number_is_said_to_be_none_and_the_steps_before_it_have_theirs(
    view: str,
) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 6, 3)
    x[0, 3, 0] = torch.nan
    screen = GateMemory(nn.GRU(3, 4, batch_first=True), x)
    screen.view = view
    assert screen.wait(20.0)
    one = getattr(screen, view)
    assert "the state after step 5 holds of earlier steps is infinite or no number" in (
        one._status.value
    )
    assert not screen.callbacks.box.value
    screen.session.step = 2
    assert "state after step 2" in one._status.value
    assert "number (NaN)" not in one._status.value
    assert view == "gradient" or not one._result.signed


def test_the_map_is_the_mean_over_the_selected_units(session: Session) -> None:
    screen = GateMemory(session)
    np.testing.assert_allclose(shown(screen), found(session).map()[0], atol=0.01)
    session.units = (1, 4)
    want = found(session).map(units=[1, 4])[0]
    np.testing.assert_allclose(shown(screen), want, atol=0.01)
    np.testing.assert_allclose(bars(screen), want[5], atol=1e-6)
    first = float(found(session).initial(units=[1, 4])[0, 5])
    assert screen.attention._bars.shares.data["value"][1] == pytest.approx(first, abs=1e-6)
    assert "after step 5 (b)" in said(screen)
    assert "units 1, 4" in said(screen)
    assert f"{first:.1%} is h_0" in said(screen)


def test_query_and_step_are_one(session: Session) -> None:
    screen = GateMemory(session)
    figure, part = screen.attention._map.root, screen.attention
    figure._trigger_event(Tap(figure, x=1, y=2.2))
    assert (session.step, part.step.value, part._map.query) == (2, 2, 2)
    session.step = 4
    assert (part.step.value, part._map.query) == (4, 4)
    part.step.value = 1
    assert session.step == 1
    np.testing.assert_allclose(bars(screen), found(session).query(1)[0], atol=1e-6)
    strip = part._bars.strip.root
    strip._trigger_event(Tap(strip, x=3, y=0.5))
    assert session.step == 3
    session.step = 99  # an output may be longer than the layer
    assert part._map.query == 5


def test_toward_a_class_says_what_each_step_adds_to_it(top: Session) -> None:
    screen = GateMemory(top)
    control = screen.attention.toward
    assert [name for name, _ in control.options[1:]] == ["a", "b", "c", "d"]
    assert control.layout.display is None
    control.value = 2
    weight = head_of(top.model, *top.args).weight[2]
    want = found(top).map(weight)[0]
    limit = float(screen.attention._map.image.data["high"][0]) / 100
    np.testing.assert_allclose(shown(screen), want, atol=limit)
    assert not screen._errors.value, screen._errors.value
    logit = float(top.now.h[0, 5] @ weight)
    assert sum(screen.attention._bars.shares.data["value"]) == pytest.approx(logit, abs=1e-5)
    assert "toward “c”" in said(screen)
    assert f"{logit:+.3g}".replace("-", "−") in said(screen)
    control.value = -1
    assert "Half of the state" in said(screen) or "More than half" in said(screen)


def test_no_class_where_nothing_linear_reads_the_layer(session: Session) -> None:
    screen = GateMemory(session)
    assert screen.attention.toward.layout.display == "none"
    assert "No class to weigh toward: no nn.Linear" in screen.attention._note.value
    session.layer = "rnn.l1"
    assert screen.attention.toward.layout.display is None
    assert screen.attention._note.layout.display == "none"
    screen.attention.toward.value = 1
    session.layer = "rnn.l0"
    assert screen.attention.toward.value == -1
    assert not screen._errors.value


def test_of_many_classes_the_likeliest_are_offered() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 500)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(x)[0])

    model, x = Wide(), torch.randn(1, 5, 3)
    screen = GateMemory(model, x)
    likely = model(x)[0, -1].topk(50).indices.tolist()
    assert [i for _, i in screen.attention.toward.options] == [-1, *likely]
    assert screen.attention.toward.options[1][0] == f"class {likely[0]}"


def test_edits_are_followed_and_states_that_were_set_are_not(session: Session) -> None:
    screen = GateMemory(session)
    session.add(clamp("rnn.l0", "z", value=1.0, at=5))
    assert bars(screen)[5] == 0
    session.undo()
    before = bars(screen)
    session.add(ablate("rnn.l0", 2))
    assert "this is the run without edits" in screen.attention._note.value
    assert bars(screen) == before
    screen.view = "timescales"  # of those the edited run has its own
    assert screen.timescales.found is not None
    session.add(scale("rnn.l0", "z", by=0.0))
    assert screen.timescales.found.half_life.tolist() == [0.0] * 6


def test_rows_and_layers_are_followed(model: nn.Module) -> None:
    session = Session(model, torch.tensor([[0, 1, 2], [3, 2, 1]]))
    screen = GateMemory(session)
    session.row = 1
    np.testing.assert_allclose(bars(screen), found(session).query(-1)[0], atol=1e-6)
    assert "after step 2 (b)" in said(screen)
    session.layer = "rnn.l1"
    np.testing.assert_allclose(bars(screen), found(session).query(-1)[0], atol=1e-6)
    screen.view = "timescales"
    one = timescales(session.now, rows=1).half_life
    assert torch.equal(screen.timescales.found.half_life, one)  # type: ignore[union-attr]
    screen.timescales.over.value = "all"
    whole = timescales(session.now).half_life
    assert torch.equal(screen.timescales.found.half_life, whole)  # type: ignore[union-attr]
    session.set_input("abcd")
    assert screen.timescales._rows.layout.display == "none"


def test_padding_is_no_step_of_a_shorter_row(model: nn.Module) -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(2, 3, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, [4, 2], batch_first=True)
            return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]

    session = Session(Packed(), torch.randn(2, 4, 2), layer="rnn.l0_reverse")
    screen = GateMemory(session)
    assert "the state after step 0" in said(screen), "what a reverse layer read last"
    session.row, session.step = 1, 3
    assert screen.attention.step.max == screen.attention.step.value == 1
    assert "the state after step 1" in said(screen)
    session.step = 0
    part = found(session).query(0)[0]
    assert part[2:].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(bars(screen), part[:2], atol=1e-6)


def test_time_scales_select_both_ways(session: Session) -> None:
    screen = GateMemory(session)
    screen.view = "timescales"
    figure = screen.timescales.figure
    longest = int(figure.lives.source.data["unit"][0])
    figure.lives.root._trigger_event(Tap(figure.lives.root, x=0, y=1))
    assert session.units == (longest,)
    assert f"unit {longest} after" in said(screen)
    session.units = (2, 3)
    assert figure.saturation.units == figure.lives.units == (2, 3)
    chosen = timescales(session.now).histogram("z", [2, 3])
    np.testing.assert_allclose(figure.histograms.sources["z"].data["chosen"], chosen)


def test_a_long_run_has_no_map_and_still_its_weights(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_attention, "LONGEST", 5)
    screen = GateMemory(session)
    assert not screen.attention._map.root.visible
    assert "No map of 6 steps" in screen.attention._note.value
    np.testing.assert_allclose(bars(screen), found(session).query(5)[0], atol=1e-6)
    assert "data:image/png" not in screen.still()
    assert "Half of the state" in screen.still() or "More than half" in screen.still()


def test_a_large_map_is_made_in_the_background(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_attention, "QUICK", 0)
    screen = GateMemory(session)
    for unit in range(5):
        session.units = (unit,)
    assert screen.wait(10.0)
    np.testing.assert_allclose(bars(screen), found(session).query(5, units=4)[0], atol=1e-6)


def test_errors_show_and_go(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = GateMemory(session)

    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("<b>no</b>")

    with monkeypatch.context() as patched:
        patched.setattr(memory_attention, "attention", fails)
        session.units = (1,)
        assert "&lt;b&gt;no" in screen._errors.value
    session.units = (2,)
    assert not screen._errors.value


def test_texts_are_escaped_and_stills_follow_the_view() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    rnn = nn.GRU(3, 4, batch_first=True)
    screen = GateMemory(rnn, torch.ones(1, 2, 3), tokens=[hostile, hostile])
    for view in ("attention", "timescales"):
        screen.view = view
        assert hostile not in screen.still()
        assert hostile not in said(screen)
    assert "&lt;img" not in screen.still()
    screen.view = "attention"
    assert "&lt;img" in screen.still()
    assert "data:image/png" in screen._repr_mimebundle_()["text/html"]
    assert repr(screen) == "GateMemory(GRU, l0, 0 of 0 edits on)"


# ── gradients ─────────────────────────────────────────────────────────────────────────────────


def test_the_gradient_view_shows_the_products_of_jacobians(session: Session) -> None:
    panel = GateMemory(session)
    panel.view = "gradient"
    assert panel.wait(20.0)
    part = panel.gradient
    flow = gradient_flow(session.now)
    np.testing.assert_allclose(part._flow.values, flow.map()[0].float().numpy(), rtol=1e-5)
    assert panel._errors.value == ""
    assert "feels a change of the state before it by" in part._status.value
    session.step = 2
    assert part.step.value == 2
    line = part._figure.line.source.data
    np.testing.assert_allclose(line["gain"], flow.at(2)[0][0, :3].numpy().clip(1e-6))
    assert "gain" in panel.still()
    panel.close()


def test_a_class_can_be_followed_where_it_is_read(session: Session) -> None:
    session.layer = "rnn.l1"
    panel = GateMemory(session)
    panel.view = "gradient"
    part = panel.gradient
    assert part.toward.layout.display is None
    part.toward.value = 1
    assert panel.wait(20.0)
    want = gradient_flow(session.now).map(toward=session.model.out.weight[1])[0]
    np.testing.assert_allclose(part._flow.values, want.float().numpy(), rtol=1e-5)
    panel.close()


def test_gradients_of_an_edited_layer_are_those_without_edits(session: Session) -> None:
    panel = GateMemory(session)
    panel.view = "gradient"
    assert panel.wait(20.0)
    before = panel.gradient._flow.values.copy()
    session.add(clamp(session.layer, "z", value=0.2))
    assert panel.wait(20.0)
    assert "this is the run without edits" in panel.gradient._note.value
    np.testing.assert_array_equal(panel.gradient._flow.values, before)
    assert panel._errors.value == ""
    panel.close()


def test_the_gradient_of_an_observed_cell_goes_through_its_own_code() -> None:
    model, x = made("norm")
    panel = GateMemory(model, x)
    panel.session.add(ablate("cell", 1))
    panel.view = "gradient"
    assert panel.wait(60.0)
    assert panel._errors.value == ""
    want = gradient_flow(record(model, x, grad=True), rows=0).map()[0]
    np.testing.assert_allclose(panel.gradient._flow.values, want.float().numpy(), rtol=1e-5)
    assert "this is the run without edits" in panel.gradient._note.value
    assert all(p.grad is None for p in model.parameters())
    panel.close()


class Stack(nn.Module):
    """Two observed cells, one above the other."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = NormCell(), NormCell()

    def forward(self, x: Tensor) -> Tensor:
        h = g = x.new_zeros(len(x), 4)
        for x_t in x.unbind(1):
            h = self.low(x_t, h)
            g = self.high(h[:, :3], g)
        return g


def test_the_gradient_of_an_observed_cell_feels_the_edits_of_others() -> None:
    torch.manual_seed(0)
    model, edit = Stack(), clamp("low", "n", value=1.0)
    panel = GateMemory(Session(model, STEPS, layer="high"))
    panel.session.add(edit)
    panel.view = "gradient"
    assert panel.wait(60.0)
    flows = [
        gradient_flow(record(model, STEPS, edits=edits, grad=True), "high", rows=0).map()[0]
        for edits in ([edit], [])
    ]
    shown = panel.gradient._flow.values
    np.testing.assert_allclose(shown, flows[0].float().numpy(), rtol=1e-5)
    assert not np.allclose(shown, flows[1].float().numpy(), rtol=1e-3)
    assert panel.gradient._note.value.count("without edits") == 0
    panel.close()


def test_a_run_that_has_no_gradient_says_so_in_the_place_of_the_map() -> None:
    model, x = made("norm")
    panel = GateMemory(model.requires_grad_(False), x)
    panel.view = "gradient"
    assert panel.wait(60.0)
    assert panel._errors.value == ""
    assert "no weight of the model requires gradients" in panel.gradient._status.value
    assert panel.gradient.picture.layout.display == "none"
    panel.close()


def test_what_costs_too_much_is_estimated_or_left_away(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = GateMemory(session)
    monkeypatch.setattr(memory_flow, "MOST", 16 * 6.0 * 36 * 6 * 6 / 2)
    monkeypatch.setattr(memory_flow, "SOME", 2)
    panel.view = "gradient"
    assert panel.wait(20.0)
    whole = panel.gradient._flow.values
    monkeypatch.setattr(memory_flow, "MOST", 3 * 6.0 * 36 * 6 * 6 / 2)
    panel.gradient.refresh()
    assert panel.wait(20.0)
    assert "Estimated from 2 random directions." in panel.gradient._note.value
    assert not np.array_equal(panel.gradient._flow.values, whole)
    monkeypatch.setattr(memory_flow, "MOST", 1.0)
    panel.gradient.refresh()
    assert panel.wait(20.0)
    assert "No map of 6 steps" in panel.gradient._note.value
    assert not panel.gradient._map.root.visible
    panel.close()


def test_what_the_model_does_between_calls_stands_on_screen() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 3)
            for t, x_t in enumerate(x.unbind(1)):
                h = h if t == 2 else self.cell(x_t, h) if t < 4 else 0 * self.cell(x_t, h)
                h = torch.where(torch.tensor(t == 1), torch.zeros(3), h)
            return h

    session = Session(Masked(), torch.randn(1, 6, 2))
    screen = GateMemory(session)
    note = "Of the 4 states that its calls were given, 2 are zero or that of the first call"
    assert f"{note}; the weights begin anew" in screen.attention._note.value
    assert note[4:] in screen.still()
    assert note[4:] in Lens(session)._form.value
    assert note[4:] in Lens(session).still()
