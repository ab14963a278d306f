"""What an observed cell remembers: as the same GRU opened by its weights, or by its equation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from grulens import ablate, clamp, plot, record
from grulens.errors import CellError, RecordingError, SignalError
from grulens.memory import GradientFlow, Timescales, gradient_flow, timescales
from grulens.probing.memory.attention import attention
from grulens.probing.units.statistics import names, neurons
from tests import loops
from tests.loops import INPUTS, UNITS, Loop


def inputs(steps: int = 9, rows: int = 3) -> Tensor:
    return torch.randn(rows, steps, INPUTS, generator=torch.Generator().manual_seed(1))


def test_attention_is_that_of_the_same_gru() -> None:
    torch.manual_seed(0)
    model, x, toward = Loop(), inputs(), torch.randn(UNITS)
    found, wanted = attention(record(model, x)), attention(record(model.known(), x))
    for t in range(x.shape[1]):
        for one, other in zip(found.at(t), wanted.at(t), strict=True):
            assert torch.allclose(one, other, atol=1e-6)
    assert torch.allclose(found.map(), wanted.map(), atol=1e-6)
    assert torch.allclose(found.map(toward), wanted.map(toward), atol=1e-6)
    assert torch.allclose(found.initial(toward), wanted.initial(toward), atol=1e-6)
    assert torch.equal(found.past, wanted.past)
    some = attention(record(model, x), rows=[2])
    assert torch.equal(some.map()[0], found.map()[2])


@pytest.mark.parametrize(
    "make",
    [Loop, loops.Lines, loops.Masked, loops.Augru, loops.MinGRU, loops.Leaky, loops.Zoneout,
     lambda: loops.LSTM(coupled=True)],
)  # fmt: skip
def test_the_weights_sum_to_one_and_make_the_state(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = make().double(), inputs().double()
    layer = record(model, x)["cell"]
    found, first = attention(layer), layer.state_prev[:, 0]
    for t in range(x.shape[1]):
        weights, initial = found.at(t)
        assert bool((weights >= 0).all() and (weights <= 1).all())
        ones = torch.ones_like(initial)
        assert torch.allclose(weights.sum(1) + initial, ones, atol=1e-12)
        made = initial * first + (weights * layer.candidate()).sum(1)
        assert torch.allclose(made, layer.state[:, t], atol=1e-12)


def test_a_first_state_of_the_users_own_has_its_share() -> None:
    torch.manual_seed(0)
    model, x, h_0 = Loop().double(), inputs().double(), torch.randn(3, UNITS).double()
    layer = record(model, x, h_0)["cell"]
    found, toward = attention(layer), torch.randn(UNITS).double()
    whole = found.map(toward).sum(2) + found.initial(toward)
    assert torch.allclose(whole, layer.h @ toward, atol=1e-12)
    assert bool((found.initial(toward)[:, 0].abs() > 1e-3).any())


@pytest.mark.parametrize(
    ("make", "equation"),
    [(loops.LSTM, r"obeys c = f c_prev \+ i g"), (loops.Decayed, r"obeys h = .*h_prev"),
     (loops.Clipped, r"obeys h = clamp")],
)  # fmt: skip
def test_what_is_no_such_mix_is_refused_with_its_equation(
    make: type[nn.Module], equation: str
) -> None:
    torch.manual_seed(0)
    with pytest.raises(CellError, match=f"shares that sum to 1.*layer 'cell' {equation}"):
        attention(record(make(), inputs()))


def test_an_edited_gate_counts_and_an_edited_state_is_refused() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs().double()
    found = attention(record(model, x, edits=clamp("cell", "z", 0, value=0.25)))
    weights, _ = found.at(-1)
    kept = 0.25 ** torch.arange(x.shape[1]).flip(0).double()
    assert torch.allclose(weights[..., 0], (0.75 * kept).expand(3, -1), atol=1e-12)
    with pytest.raises(RecordingError, match="changed the state"):
        attention(record(model, x, edits=ablate("cell", units=0)))
    coupled = loops.LSTM(coupled=True).double()
    attention(record(coupled, x, edits=clamp("cell", "h", 0, value=0.0)))
    with pytest.raises(RecordingError, match="changed the state"):
        attention(record(coupled, x, edits=clamp("cell", "c", 0, value=0.0)))


def test_half_lives_are_those_of_the_same_gru_and_of_the_same_lstm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, lstm = inputs(), loops.LSTM()
    for model, known in ((Loop(), Loop.known), (lstm, loops.LSTM.known)):
        run, other = record(model, x), record(known(model), x)
        found, wanted = timescales(run, rows=[0, 2]), timescales(other, rows=[0, 2])
        assert torch.allclose(found.half_life, wanted.half_life, rtol=1e-5)
        assert torch.allclose(found.spread, wanted.spread, rtol=1e-4)
        assert set(found.shares) == set(wanted.shares)
        assert set(found.counts) == set(wanted.counts)
        for gate in found.counts:
            assert int((found.counts[gate] - wanted.counts[gate]).abs().sum()) <= 2  # at an edge
            assert torch.allclose(found.shares[f"{gate}_low"], wanted.shares[f"{gate}_low"])
        loaded = Timescales.load(found.save(tmp_path / "lives"))
        assert loaded.gates == found.gates
        assert torch.equal(loaded.counts[gate], found.counts[gate])
        one, two = neurons(run["cell"]), neurons(other["l0"])
        assert tuple(one.values) == names(run["cell"].cell)
        assert torch.allclose(one.half_life, two.half_life, rtol=1e-5)


def test_a_half_life_has_every_decay_in_it() -> None:
    torch.manual_seed(0)
    layer = record(loops.Decayed().double(), inputs().double())["cell"]
    found, share = timescales(layer), ((1 - layer.z) * layer.d).mean((0, 1))
    assert torch.allclose(found.half_life, math.log(0.5) / share.log())
    assert set(found.counts) == {gate.name for gate in layer.cell.signals if gate.is_gate}
    leaky = timescales(record(loops.Leaky(), inputs()))
    assert torch.allclose(leaky.half_life, torch.tensor(math.log(0.5) / math.log(0.75)).double())
    assert leaky.gates == ()
    assert "steps were counted" in plot(leaky)._repr_mimebundle_()[0]["text/html"]


class Turning(loops.Lines):
    """The share of the state that is kept may be below zero."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        return torch.tanh(self.one(both)) * h + torch.sigmoid(self.two(both))


def test_half_lives_that_are_none_are_refused_with_the_equation() -> None:
    torch.manual_seed(0)
    with pytest.raises(CellError, match=r"keeps a share, h = a h_prev \+ b; .*obeys h = clamp"):
        timescales(record(loops.Clipped(), inputs()))
    run = record(Turning(), inputs())
    with pytest.raises(CellError, match=r"keeps a negative share .*, down to -0\.\d+, .*: h = "):
        timescales(run)
    assert bool(neurons(run["cell"]).half_life.isnan().any())
    held = record(Turning(), inputs(), edits=clamp("cell", "f", value=-0.5))
    assert timescales(held).half_life.tolist() == [0.0] * UNITS


def test_gradient_flow_is_that_of_the_same_gru() -> None:
    torch.manual_seed(0)
    model, x, toward = Loop().double(), inputs().double(), torch.randn(2, UNITS).double()
    found = gradient_flow(record(model, x, grad=True))
    wanted = gradient_flow(record(model.known(), x))
    for way in (None, toward):
        assert torch.allclose(found.map(toward=way), wanted.map(toward=way), atol=1e-12)
        one, other = found.at(5, toward=way), wanted.at(5, toward=way)
        assert torch.allclose(one[0], other[0], atol=1e-12)
        assert one[1].isnan().all()
    assert torch.allclose(found.product(7, 2, row=1), wanted.product(7, 2, row=1), atol=1e-12)
    assert torch.equal(found.past, wanted.past)
    jacobian = wanted.product(3, 2)
    assert float(found.paths()["total"][0, 3]) == pytest.approx(float(jacobian.norm()) / UNITS**0.5)
    first = torch.randn(3, UNITS).double()
    with_first = gradient_flow(record(model, x, first.requires_grad_(), grad=True))
    known = gradient_flow(record(model.known(), x, first[None].detach()))
    assert torch.allclose(with_first.at(5)[1], known.at(5)[1], atol=1e-12)


def test_gradient_flow_of_some_rows_is_saved_and_drawn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = gradient_flow(record(loops.Decayed(), inputs(), grad=True), rows=1)
    assert found.map()[[0, 2]].eq(0).all()
    assert float(found.at(4)[0][1, 4]) == 1
    loaded = GradientFlow.load(found.save(tmp_path / "flow"))
    assert torch.equal(loaded.map(), found.map())
    assert "not known how much" in plot(found, row=1)._repr_mimebundle_()[0]["text/html"]
    assert "total" in found._repr_html_()


@pytest.mark.parametrize("make", [loops.Decayed, loops.Masked, loops.Clipped, loops.Leaky])
def test_gradient_flow_is_what_autograd_makes_of_the_run(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    run = record(make().double(), inputs().double(), grad=True)
    h = [one for segment in run["cell"].segments for one in segment.read["h"]]
    found, toward = gradient_flow(run), torch.randn(UNITS).double()
    wanted = torch.autograd.grad(h[7], h[:7], toward.expand(3, -1))
    gains = found.at(7, toward=toward)[0][:, :7]
    sizes = torch.stack([one.norm(dim=1) for one in wanted], 1) / toward.norm()
    assert torch.allclose(gains, sizes, atol=1e-12)


class OlderC(loops.LSTM):
    """Its output gate reads the c of two steps ago as well."""

    def forward(self, x: Tensor) -> Tensor:
        h = c = older = x.new_zeros(len(x), UNITS)
        found = []
        for x_t in x.unbind(1):
            i, f, g, o = self.line(torch.cat([x_t, h], 1)).chunk(4, 1)
            f, i = torch.sigmoid(f), torch.sigmoid(i)
            o, older = torch.sigmoid(o + older), c
            c = f * c + i * torch.tanh(g)
            h = o * torch.tanh(c)
            found.append(h)
        return torch.stack(found, 1)


@pytest.mark.parametrize("coupled", [False, True])
def test_gradient_flow_of_h_and_c_is_that_of_the_step_by_hand(coupled: bool) -> None:
    torch.manual_seed(0)
    model, x = loops.LSTM(coupled).double(), inputs().double()
    layer = record(model, x, grad=True)["cell"]

    def run(state: Tensor, row: int, begin: int, stop: int) -> Tensor:
        h, c = state.split(UNITS)
        for t in range(begin, stop):
            i, f, g, o = model.line(torch.cat([x[row, t], h])).chunk(4)
            f = torch.sigmoid(f)
            c = f * c + (1 - f if coupled else torch.sigmoid(i)) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return torch.cat([h, c])

    flow, toward = gradient_flow(layer), torch.randn(2, UNITS).double()
    assert (flow.states, flow.state_size) == (("h", "c"), 2 * UNITS)
    whole, of_h = flow.map(), flow.map(toward=toward)
    both = flow.map(toward=torch.cat([toward, torch.ones(2, UNITS)], 1))
    for row, k, t in ((0, 2, 7), (1, 0, 8), (2, 4, 5)):
        state = torch.cat([layer.h[row, k], layer.c[row, k]]).detach()
        step = torch.autograd.functional.jacobian(
            lambda s, a=row, b=k, c=t: run(s, a, b + 1, c + 1), state
        )
        assert torch.allclose(flow.product(t, k, row=row), step, atol=1e-12)
        assert float(whole[row, t, k]) == pytest.approx(float(step.norm()) / (2 * UNITS) ** 0.5)
        size = (toward @ step[:UNITS]).norm() / toward.norm()
        assert float(of_h[row, t, k]) == pytest.approx(float(size))
        ways = torch.cat([toward, torch.ones(2, UNITS).double()], 1)
        size = (ways @ step).norm() / ways.norm()
        assert float(both[row, t, k]) == pytest.approx(float(size))
    # of the first step the state before is made elsewhere
    assert bool(flow.at(3)[1].isnan().all())
    assert list(flow.paths()) == ["total"]
    with pytest.raises(SignalError, match=r"= \(6,\) of h, or 12 of h and c side by side or"):
        flow.at(3, toward=torch.ones(5))


def test_gradient_flow_of_a_loop_is_that_of_the_same_lstm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = loops.LSTM().double(), inputs().double()
    found = gradient_flow(record(model, x, grad=True))
    wanted = gradient_flow(record(model.known(), x))
    assert torch.allclose(found.map(), wanted.map(), atol=1e-12)
    assert bool((wanted.at(3)[1] > 0).all())
    loaded = GradientFlow.load(found.save(tmp_path / "flow"))
    assert torch.equal(loaded.map(), found.map())
    assert loaded.states == ("h", "c")
    assert "<" in plot(wanted, row=1)._repr_mimebundle_()[0]["text/html"]
    with pytest.raises(RecordingError, match="in another way than from step to step"):
        gradient_flow(record(OlderC().double(), x, grad=True))


class Detached(loops.Lines):
    """Its state is handed on as numbers alone."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return super().step(x, h.detach())


class Older(loops.Lines):
    """Its gates read the state two steps ago as well."""

    def forward(self, x: Tensor) -> Tensor:
        h = older = x.new_zeros(len(x), UNITS)
        found = []
        for x_t in x.unbind(1):
            both = torch.cat([x_t, older], 1)
            older = h
            z, n = torch.sigmoid(self.one(both)), torch.tanh(self.two(both))
            h = (1 - z) * h + z * n
            found.append(h)
        return torch.stack(found, 1)


def test_gradient_flow_that_cannot_be_right_is_refused() -> None:
    torch.manual_seed(0)
    model, x = Loop(), inputs()
    with pytest.raises(RecordingError, match="grad=True"):
        gradient_flow(record(model, x))
    with pytest.raises(RecordingError, match="was edited"):
        gradient_flow(record(model, x, grad=True, edits=clamp("cell", "z", 0, value=0.5)))
    with pytest.raises(RecordingError, match="without its graph"):
        gradient_flow(record(Detached(), x, grad=True))
    with pytest.raises(RecordingError, match="in another way than from step to step"):
        gradient_flow(record(Older(), x, grad=True))


class Rounds(loops.Lines):
    """For each input some steps that begin anew, given what came of those for the one before."""

    def __init__(self, linked: bool) -> None:
        super().__init__()
        self.linked = linked

    def forward(self, x: Tensor) -> Tensor:
        mean = x.new_zeros(len(x), 1)
        for now in x.unbind(1):
            h = x.new_zeros(len(x), UNITS)
            for _ in range(3):
                h = self.step(now + mean if self.linked else now, h)
            mean = h.mean(1, keepdim=True)
        return mean


class Reset(loops.Lines):
    """A branch may reset its state at one step, once a gate was made of it, or before."""

    reset = ""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for at, now in enumerate(x.unbind(1)):
            if at == 3 and self.reset == "before":
                h = torch.zeros_like(h)
            both = torch.cat([now, h], 1)
            z, n = torch.sigmoid(self.one(both)), torch.tanh(self.two(both))
            if at == 3 and self.reset == "behind":
                h = torch.zeros_like(h)
            h = (1 - z) * h + z * n
        return h


def test_a_state_that_a_branch_resets_while_a_gate_has_read_it_is_refused_as_that() -> None:
    torch.manual_seed(0)
    model, x = Reset(), inputs()
    record(model, x)  # it is known from a run that takes one way
    model.reset = "before"
    gain, _ = gradient_flow(record(model, x, grad=True)).at(-1)
    assert bool((gain[:, :3] == 0).all() and (gain[:, 3:] > 0).all())
    model.reset = "behind"
    said = "begins step 3 with another state than that after step 2, .* depends on earlier states"
    with pytest.raises(RecordingError, match=said):
        gradient_flow(record(model, x, grad=True))


def test_gradient_flow_is_refused_where_states_reach_those_of_steps_that_begin_anew() -> None:
    torch.manual_seed(0)
    apart = gradient_flow(record(Rounds(False), inputs(3), grad=True))
    assert bool((apart.at(8)[0][:, :6] == 0).all() and (apart.at(8)[0][:, 6:] > 0).all())
    with pytest.raises(RecordingError, match="in another way than from step to step"):
        gradient_flow(record(Rounds(True), inputs(3), grad=True))
