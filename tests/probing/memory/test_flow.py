"""Products of Jacobians against autograd through the layer, over every form of recording."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from grulens import clamp, record
from grulens.cells.dynamics.jacobian import Slopes, jacobian
from grulens.cells.memory.flow import gains, product
from grulens.cells.unroll import unroll
from grulens.errors import (
    CellError,
    LayerError,
    PositionError,
    RecordingError,
    SignalError,
    StoppedWarning,
)
from grulens.memory import attention
from grulens.models.recording import LayerRecording
from grulens.probing.memory import flow as module
from grulens.probing.memory.flow import gradient_flow
from tests.cells.dynamics.test_jacobian import drawn
from tests.drawn import cases


def by_autograd(layer: LayerRecording, row: int, past: list[int]) -> Tensor:
    """D h_t / d h_k (unit, unit) along positions in reading order, k the first of them."""
    cell = layer.cell.over(lambda weight: weight.detach())
    x = layer.x[row, past[1:]][None]
    return torch.autograd.functional.jacobian(
        lambda h: unroll(cell, x, h[None]).h[0, -1], layer.h[row, past[0]]
    )


@settings(max_examples=25, deadline=None)
@given(cases(dtypes=(torch.float64,)), st.integers(0, 99))
def test_products_and_gains_are_those_of_autograd(case: Any, seed: int) -> None:
    for layer in record(case.module, *case.args).values():
        flow = gradient_flow(layer)
        batch, _, units = layer.shape
        torch.manual_seed(seed)
        toward = torch.randn(2, units).double()
        row = seed % batch
        valid = int(layer.mask[row].sum())
        order = list(range(valid))[:: -1 if "reverse" in layer.name else 1]
        mean, along = flow.map(), flow.map(toward=toward)
        for query, key in {(valid - 1, 0), (valid - 1, valid // 2), (valid // 2, 0)}:
            t, k, past = order[query], order[key], order[key : query + 1]
            expected = by_autograd(layer, row, past) if query > key else torch.eye(units).double()
            assert torch.allclose(flow.product(t, k, row=row), expected, atol=1e-12)
            rms = expected.norm() / units**0.5
            assert torch.allclose(mean[row, t, k], rms, atol=1e-12)
            assert torch.allclose(flow.at(t)[0][row, k], rms, atol=1e-12)
            want = (toward @ expected).norm() / toward.norm()
            assert torch.allclose(along[row, t, k], want, atol=1e-12)
            assert torch.allclose(flow.at(t, toward=toward)[0][row, k], want, atol=1e-12)
            if query > key:
                assert mean[row, k, t] == 0
                with pytest.raises(PositionError, match="is not in the past of the state at time"):
                    flow.product(k, t, row=row)
        alone = gradient_flow(layer, rows=row)
        assert torch.equal(alone.map(toward=toward)[row], along[row])
        assert len({part.row for part in alone.trajectories}) == 1
        ends = flow.past[row]
        for t in range(layer.shape[1]):
            reached = along[row, t].nonzero()[:, 0]
            assert not len(reached) or ends[t, 0] <= reached.min() <= reached.max() <= ends[t, 1]
            assert bool(layer.mask[row, t]) == bool(ends[t, 0] <= t <= ends[t, 1])
        paths = flow.paths()
        parts = jacobian(layer.cell, layer.x[row, order], layer.h_prev[row, order])
        for name, sizes in paths.items():
            want = getattr(parts, name).norm(dim=(1, 2)) / units**0.5
            assert torch.allclose(sizes[row, order], want, atol=1e-12)
            assert sizes[row, ~layer.mask[row]].eq(0).all()
        padding = ~layer.mask[row]
        assert mean[row, padding].eq(0).all()
        assert mean[row][:, padding].eq(0).all()


class Backwards(nn.Module):
    """Two packed calls of a recurrent module."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn = kind(2, 3, batch_first=True, bidirectional=True)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 4]), batch_first=True)
        out: Tensor = self.rnn(packed)[0].data
        return out


@pytest.mark.parametrize("kind", [nn.LSTM, nn.RNN])
def test_of_every_kind_of_cell_it_is_what_autograd_finds(
    kind: type[nn.RNNBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    run = record(Backwards(kind).double(), torch.randn(2, 6, 2).double())
    for layer in run.values():
        flow, cell = gradient_flow(layer), layer.cell
        for row, valid in enumerate((6, 4)):
            order = list(range(valid))[:: -1 if "reverse" in layer.name else 1]
            for query, key in ((valid - 1, 0), (2, 1), (3, 3)):
                t, past = order[query], order[key + 1 : query + 1]

                def after(state: Tensor, past: list[int] = past, row: int = row) -> Tensor:
                    for k in past:
                        state = cell.step(cell.project(layer.x[row, k]), state)  # noqa: B023
                    return state

                wanted = torch.autograd.functional.jacobian(after, layer.state[row, order[key]])
                assert torch.allclose(flow.product(t, order[key], row=row), wanted, atol=1e-12)
                size = float(wanted.norm()) / cell.state_size**0.5
                assert float(flow.at(t)[0][row, order[key]]) == pytest.approx(size)
            assert bool((flow.at(order[0])[1][row] > 0).all())
        monkeypatch.setattr(module, "MEMORY", 1)
        assert torch.allclose(gradient_flow(layer).map(), flow.map(), atol=1e-14)
        monkeypatch.undo()
    monkeypatch.setattr(module, "LARGEST", 8 * 2 * 6 * 3 * 3 - 1)
    with pytest.raises(CellError, match=r"6 steps of 2 rows of \d numbers of a state are .* GiB"):
        gradient_flow(run, "rnn.l0")


@pytest.mark.parametrize("after", [True, False])
def test_both_conventions_and_the_first_state(after: bool) -> None:
    cell = drawn(1, 2, 4, True, reset_after=after)
    x, h = torch.randn(5, 2).double(), torch.rand(4).double()
    states = torch.cat([h[None], unroll(cell, x[None], h[None]).h[0]])
    slopes = Slopes.at(
        cell, torch.nn.functional.linear(x, cell.weight_ih, cell.bias_ih), states[:-1]
    )
    whole = torch.autograd.functional.jacobian(
        lambda state: unroll(cell, x[None], state[None]).h[0, -1], h
    )
    assert torch.allclose(product(slopes, 4, -1), whole, atol=1e-12)
    _, initial = gains(slopes, torch.eye(4).double(), 1, 5)
    assert initial.shape == (4,)
    assert torch.allclose(initial[-1], whole.norm() / 2, atol=1e-12)


def test_calls_that_hand_their_state_on_are_one_past() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(2, 3, batch_first=True)

        def forward(self, x: Tensor, fresh: bool) -> Tensor:
            first, h = self.rnn(x[:, :3])
            return torch.cat([first, self.rnn(x[:, 3:], None if fresh else h)[0]], 1)

    model, x = Twice(), torch.randn(2, 7, 2)
    joined = gradient_flow(record(model, x, False)).map()
    whole = gradient_flow(record(model.rnn, x)).map()
    assert torch.allclose(joined, whole, atol=1e-6)
    apart = gradient_flow(record(model, x, True)).map()
    assert apart[:, 3:, :3].eq(0).all()
    assert torch.allclose(apart[:, :3, :3], whole[:, :3, :3], atol=1e-6)


def test_a_state_that_the_model_detaches_is_in_the_past_as_any() -> None:
    class Truncated(nn.Module):
        def __init__(self, cut: bool) -> None:
            super().__init__()
            self.cell, self.cut = nn.GRUCell(3, 4).double(), cut

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 4)
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h.detach() if self.cut else h)
            return h

    cut, whole = Truncated(True), Truncated(False)
    cut.load_state_dict(whole.state_dict())
    x = torch.randn(2, 5, 3).double()
    for grad in (False, True):
        flow = gradient_flow(record(cut, x, grad=grad))
        assert torch.equal(flow.map(), gradient_flow(record(whole, x)).map())
        assert bool(flow.at(-1)[0].all())


def test_a_leak_alone_forgets_at_its_own_rate() -> None:
    bias = torch.zeros(6)
    bias[2:4] = torch.tensor([0.0, 2.0])
    rnn = nn.GRU(1, 2, batch_first=True)
    with torch.no_grad():
        for weight in rnn.parameters():
            weight.zero_()
        rnn.bias_ih_l0.copy_(bias)
    flow = gradient_flow(record(rnn, torch.zeros(1, 6, 1)))
    one = flow.at(-1, toward=torch.tensor([0.0, 1.0]))[0][0]
    rate = torch.sigmoid(torch.tensor(2.0)).double()
    assert torch.allclose(one, rate ** torch.arange(5, -1, -1), atol=1e-6)


def test_blocks_of_queries_and_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = gradient_flow(record(nn.GRU(2, 3, batch_first=True), torch.randn(1, 7, 2)))
    whole = flow.map()
    monkeypatch.setattr(module, "MEMORY", 8 * 9 * 2)
    assert torch.allclose(flow.map(), whole, atol=1e-14)
    done = []

    def some(*args: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        return gains(*args)

    monkeypatch.setattr(module, "gains", some)
    with pytest.warns(StoppedWarning, match="map of gains stopped after 4 of 7 steps"):
        part = flow.map()
    assert torch.equal(part[:, :4], whole[:, :4])
    assert part[:, 4:].isnan().all()


def test_progress_is_shown_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    flow = gradient_flow(record(nn.GRU(2, 3, batch_first=True), torch.randn(1, 7, 2)))
    flow.map()
    assert capsys.readouterr().err == ""
    flow.map(progress=True)
    assert "step" in capsys.readouterr().err


def test_what_does_not_fit_is_named() -> None:
    rnn, x = nn.GRU(2, 3, 2, batch_first=True), torch.randn(2, 7, 2)
    run = record(rnn, x)
    with pytest.raises(RecordingError, match="say which layer: l0, l1"):
        gradient_flow(run)
    with pytest.raises(LayerError, match="l7"):
        gradient_flow(run, "l7")
    with pytest.raises(RecordingError, match=r"layer 'l1' was edited, so its states do not follow"):
        gradient_flow(record(rnn, x, edits=clamp("l1", "z", value=0.5)), "l1")
    assert "l0" in repr(gradient_flow(record(rnn, x, edits=clamp("l1", "z", value=0.5)), "l0"))
    flow = gradient_flow(run, "l0")
    assert repr(flow) == "GradientFlow('l0', batch 2, time 7, unit 3)"
    for call, error, words in (
        (lambda: flow.at(7), PositionError, "time 7 is out of range: layer 'l0' has 7 steps"),
        (lambda: flow.product(3, 9), PositionError, "time 9 is out of range"),
        (lambda: flow.product(3, 1, row=2), PositionError, "row must be 0 to 1, got 2"),
        (lambda: flow.map(toward=torch.ones(2)), SignalError, r"\(unit,\) = \(3,\)"),
        (lambda: flow.map(toward=torch.zeros(3)), SignalError, "not zero everywhere"),
    ):
        with pytest.raises(error, match=words):
            call()


class Agent(nn.Module):
    """Begins anew where a row is done."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 5)

    def forward(self, x: Tensor, done: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 5)
        for x_t, over in zip(x.unbind(1), done.unbind(1), strict=True):
            h = self.cell(x_t, h * (1 - over[:, None]))
        return h


def test_a_row_that_goes_on_is_followed_where_another_begins_anew() -> None:
    torch.manual_seed(0)
    model, x, done = Agent(), torch.randn(2, 7, 3), torch.zeros(2, 7)
    done[0, 5] = 1
    run, alone = record(model, x, done), record(model, x[1:], done[1:])
    gains, initial = gradient_flow(run).at(-1)
    wanted, first = gradient_flow(alone).at(-1)
    assert torch.allclose(gains[1], wanted[0], atol=1e-6)
    assert torch.allclose(initial[1], first[0], atol=1e-6)
    assert bool((gains[0, :5] == 0).all())
    assert bool((gains[0, 5:] > 0).all())
    weights, share = attention(run, rows=1).at(-1)
    wanted, first = attention(alone).at(-1)
    assert torch.allclose(weights, wanted, atol=1e-6)
    assert torch.allclose(share, first, atol=1e-6)


def test_a_state_that_the_model_changes_between_two_steps_is_not_followed() -> None:
    model, x, done = Agent(), torch.randn(2, 7, 3), torch.zeros(2, 7)
    done[0, 5] = 0.5  # the past is not gone: half of it goes on
    run = record(model, x, done)
    with pytest.raises(RecordingError, match="row 0 of layer 'cell' goes on at step 5 is neither"):
        gradient_flow(run)
    gains, _ = gradient_flow(run, rows=1).at(-1)
    assert bool((gains[1] > 0).all())
