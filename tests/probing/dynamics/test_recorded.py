"""The Jacobian of a recorded step: against finite differences, and the closed form of the GRU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import record, scale
from grulens.cells.dynamics.jacobian import check_cell
from grulens.dynamics import jacobian, jacobian_at, lyapunov, lyapunov_along
from grulens.errors import CellError, PositionError, RecordingError
from tests import loops
from tests.loops import INPUTS, UNITS, Loop


def inputs(steps: int = 6, rows: int = 3) -> Tensor:
    return torch.randn(rows, steps, INPUTS, generator=torch.Generator().manual_seed(1)).double()


def test_it_is_the_closed_form_of_the_same_gru() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs()
    run, known = record(model, x, grad=True), record(model.known(), x)
    for t in (1, 3, -1):
        found, wanted = jacobian_at(run, t).total, jacobian_at(known, t).total
        assert torch.allclose(found, wanted, atol=1e-12)
    assert torch.equal(
        jacobian_at(run, 2, "cell", rows=[2, 0]).total, jacobian_at(run, 2).total[::2]
    )


@pytest.mark.parametrize(
    "make", [loops.Lines, loops.Masked, loops.Decayed, loops.MinGRU, loops.Leaky, loops.Clipped]
)
def test_it_is_what_finite_differences_give(make: type[Any]) -> None:
    torch.manual_seed(0)
    model, x = make().double(), inputs()
    layer = record(model, x, grad=True)["cell"]
    for t in (1, 5):
        before = layer.state[:, t - 1].detach()
        columns = []
        for unit in range(UNITS):
            by = 1e-6 * torch.eye(UNITS).double()[unit]
            with torch.no_grad():
                up, down = (model.step(x[:, t], before + sign * by) for sign in (1, -1))
            columns.append((up - down) / 2e-6)
        assert torch.allclose(jacobian_at(layer, t).total, torch.stack(columns, 2), atol=1e-8)


@pytest.mark.parametrize("coupled", [False, True])
def test_of_a_cell_with_c_it_has_h_and_c_side_by_side(coupled: bool) -> None:
    torch.manual_seed(0)
    model, x = loops.LSTM(coupled).double(), inputs()
    layer = record(model, x, grad=True)["cell"]

    def step(state: Tensor, x_t: Tensor) -> Tensor:
        h, c = state.split(UNITS, -1)
        i, f, g, o = model.line(torch.cat([x_t, h], -1)).chunk(4, -1)
        f = torch.sigmoid(f)
        c = f * c + (1 - f if coupled else torch.sigmoid(i)) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], -1)

    found = jacobian_at(layer, 4).total
    assert found.shape == (3, 2 * UNITS, 2 * UNITS)
    for row in range(3):
        before = torch.cat([layer.h[row, 3], layer.c[row, 3]]).detach()
        wanted = torch.autograd.functional.jacobian(lambda s, r=row: step(s, x[r, 4]), before)
        assert torch.allclose(found[row], wanted, atol=1e-12)


def test_without_a_graph_it_says_what_to_record() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs()
    with pytest.raises(RecordingError, match="grad=True"):
        jacobian_at(record(model, x), 2)
    with pytest.raises(RecordingError, match="requires gradients"):
        jacobian_at(record(model.requires_grad_(False), x, grad=True), 2)
    by_input = record(model, x.requires_grad_(), grad=True)
    assert torch.allclose(
        jacobian_at(by_input, 2).total, jacobian_at(record(model.known(), x), 2).total, atol=1e-12
    )


def test_the_first_step_needs_a_first_state_in_the_graph() -> None:
    torch.manual_seed(0)
    model, x, h_0 = Loop().double(), inputs(), torch.randn(3, UNITS).double()
    with pytest.raises(RecordingError, match="first state that requires gradients"):
        jacobian_at(record(model, x, h_0, grad=True), 0)
    found = jacobian_at(record(model, x, h_0.clone().requires_grad_(), grad=True), 0).total
    wanted = jacobian_at(record(model.known(), x, h_0[None]), 0).total
    assert torch.allclose(found, wanted, atol=1e-12)
    with pytest.raises(RecordingError, match="first step"):
        jacobian_at(record(loops.LSTM().double(), x, grad=True), 0)


class Normed(loops.Lines):
    """Normalised over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(UNITS)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        z, n = torch.sigmoid(self.norm(self.one(both))), torch.tanh(self.two(both))
        return (1 - z) * h + z * n


def test_rows_that_act_on_each_other_have_none() -> None:
    torch.manual_seed(0)
    model, x = Normed().double(), inputs()
    with pytest.raises(RecordingError, match="act on each other"):
        jacobian_at(record(model, x, grad=True), 2)
    assert jacobian_at(record(model.eval(), x, grad=True), 2).total.shape == (3, UNITS, UNITS)


class Rounded(nn.Module):
    """Runs under autocast."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            out: Tensor = self.inner(x)
        return out


def test_rows_that_autocast_rounds_are_not_said_to_act_on_each_other() -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 6, loops.INPUTS)
    inner = loops.Lines()
    run, exact = record(Rounded(inner), x, grad=True), record(inner, x, grad=True)
    found, wanted = jacobian_at(run, 2).total, jacobian_at(exact, 2).total
    assert torch.allclose(found.float(), wanted, atol=0.02)
    assert lyapunov_along(run).exponents.isfinite().all()
    with pytest.raises(RecordingError, match="act on each other"):
        jacobian_at(record(Rounded(Normed()), x, grad=True), 2)


class _Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return torch.from_numpy(2 * grad.numpy())


class Foreign(loops.Lines):
    """With a derivative that torch cannot make for many directions at once."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        z = torch.sigmoid(_Double.apply(self.one(both)))
        return (1 - z) * h + z * torch.tanh(self.two(both))


def test_a_step_that_cannot_go_back_many_ways_at_once_goes_one_by_one() -> None:
    torch.manual_seed(0)
    model, x = Foreign().double(), inputs()
    plain = loops.Lines().double()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        plain.one.weight.mul_(2), plain.one.bias.mul_(2)
    found, wanted = (jacobian_at(record(one, x, grad=True), 3).total for one in (model, plain))
    assert torch.allclose(found, wanted, atol=1e-12)


def test_an_edit_of_an_observed_cell_is_part_of_its_step() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs()
    found = jacobian_at(record(model, x, grad=True, edits=scale("cell", "h", by=0.5, at=5)), 5)
    plain = jacobian_at(record(model, x, grad=True), 5)
    assert torch.allclose(found.total, 0.5 * plain.total, atol=1e-12)


def test_a_layer_opened_by_its_weights_gives_what_its_cell_does() -> None:
    torch.manual_seed(0)
    rnn = nn.GRU(INPUTS, UNITS, batch_first=True, bidirectional=True).double()
    x = nn.utils.rnn.pack_padded_sequence(inputs(), torch.tensor([6, 4, 2]), batch_first=True)
    run = record(rnn, x)
    layer = run["l0_reverse"]
    found = jacobian_at(run, 3, "l0_reverse", rows=[0, 1])
    wanted = jacobian(layer.cell, layer.x[:2, 3], layer.state_prev[:2, 3])
    assert torch.equal(found.total, wanted.total)
    assert set(found.parts) == set(wanted.parts)
    with pytest.raises(PositionError, match="padding in row 2"):
        jacobian_at(run, 3, "l0")
    for wrong in (6, -7, "a", None, [1]):
        with pytest.raises(PositionError):
            jacobian_at(run, wrong, "l0", rows=0)
    with pytest.raises(RecordingError, match="was edited"):
        jacobian_at(record(rnn, x, edits=scale("l0", "z", by=0.5)), 1, "l0", rows=0)


def test_the_spectrum_along_a_run_is_that_of_the_same_gru() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs(30)
    first = torch.randn(3, UNITS).double().requires_grad_()
    known = record(model.known(), x, first[None].detach())
    wanted = lyapunov(known["l0"].cell, x[1], first[1].detach())
    for found in (lyapunov_along(record(model, x, first, grad=True), row=1),
                  lyapunov_along(known, row=1)):  # fmt: skip
        assert torch.allclose(found.exponents, wanted.exponents, atol=1e-10)
        assert torch.allclose(found.band, wanted.band, atol=1e-10)
    later = lyapunov(known["l0"].cell, x[1, 1:], known["l0"].h[1, 0], skip=4)
    found = lyapunov_along(record(model, x, first.detach(), grad=True), row=1, skip=4)
    assert torch.allclose(found.exponents, later.exponents, atol=1e-10)


def by_hand(slopes: list[Tensor], skip: int) -> Tensor:
    """The exponents of a product of Jacobians, largest first."""
    axes, logs = torch.eye(len(slopes[0])).double(), []
    for slope in slopes:
        axes, stretch = torch.linalg.qr(slope @ axes)
        logs.append(stretch.diagonal().abs().log())
    return torch.stack(logs[skip:]).mean(0).sort(descending=True).values


@pytest.mark.parametrize("coupled", [False, True])
def test_the_spectrum_of_h_and_c_is_that_of_the_step_by_hand(coupled: bool) -> None:
    torch.manual_seed(0)
    model, x = loops.LSTM(coupled).double(), inputs(12)
    layer = record(model, x, grad=True)["cell"]

    def step(state: Tensor, x_t: Tensor) -> Tensor:
        h, c = state.split(UNITS)
        i, f, g, o = model.line(torch.cat([x_t, h])).chunk(4)
        f = torch.sigmoid(f)
        c = f * c + (1 - f if coupled else torch.sigmoid(i)) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c])

    states = torch.cat([layer.h, layer.c], 2)[1].detach()
    every = [
        torch.autograd.functional.jacobian(lambda s, t=t: step(s, x[1, t]), states[t - 1])
        for t in range(1, 12)
    ]
    found = lyapunov_along(layer, row=1, skip=3)
    assert len(found.exponents) == 2 * UNITS
    assert torch.allclose(found.exponents, by_hand(every, 3), atol=1e-9)
    if not coupled:
        known = lyapunov_along(record(model.known(), x[:, 1:]), row=1, skip=0)
        assert len(known.exponents) == 2 * UNITS
        first = torch.zeros(2 * UNITS).double()
        every = []
        for t in range(1, 12):
            every.append(torch.autograd.functional.jacobian(lambda s, t=t: step(s, x[1, t]), first))
            first = step(first, x[1, t]).detach()
        assert torch.allclose(known.exponents, by_hand(every, 0), atol=1e-9)


class Stepped(nn.Module):
    """A cell in a loop, which begins anew where it is told."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell = kind(INPUTS, UNITS)  # type: ignore[call-arg]

    def forward(self, x: Tensor, anew: Tensor) -> Tensor:
        h: Any = None
        for x_t, over in zip(x.unbind(1), anew.unbind(1), strict=True):
            kept = 1 - over[:, None].to(x)
            if h is not None:
                h = tuple(one * kept for one in h) if isinstance(h, tuple) else h * kept
            h = self.cell(x_t, h)
        return h[0] if isinstance(h, tuple) else h


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell, nn.RNNCell])
def test_the_spectrum_along_a_loop_of_a_cell_is_that_of_the_whole_run(
    kind: type[nn.RNNCellBase],
) -> None:
    torch.manual_seed(0)
    model, x, anew = Stepped(kind).double(), inputs(12), torch.zeros(3, 12)
    anew[2, 5] = 1
    run = record(model, x, anew)
    for row in (0, 1):
        found = lyapunov_along(run, row=row)
        wanted = lyapunov(run["cell"].cell, x[row])
        assert torch.allclose(found.exponents, wanted.exponents, atol=1e-12)
    words = "not one trajectory: of its 12 calls the one at step 5 begins row 2 with another state"
    with pytest.raises(RecordingError, match=words):
        lyapunov_along(run, row=2)
    with pytest.raises(RecordingError, match="begins row 2"):
        lyapunov_along(run, row=-1)


def test_the_spectrum_of_a_reverse_layer_reads_from_the_end() -> None:
    torch.manual_seed(0)
    rnn = nn.GRU(INPUTS, UNITS, batch_first=True, bidirectional=True).double()
    x = inputs(20)
    run = record(rnn, nn.utils.rnn.pack_padded_sequence(x, torch.tensor([20, 18, 15]), True))
    wanted = lyapunov(run["l0_reverse"].cell, x[1, :18].flip(0))
    assert torch.equal(lyapunov_along(run, "l0_reverse", row=1).exponents, wanted.exponents)


def test_a_spectrum_that_cannot_be_right_is_refused() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs()
    with pytest.raises(RecordingError, match="grad=True"):
        lyapunov_along(record(model, x))
    with pytest.raises(RecordingError, match="was edited"):
        lyapunov_along(record(model, x, grad=True, edits=scale("cell", "z", by=0.5)))
    with pytest.raises(CellError, match="leave none"):
        lyapunov_along(record(model, x, grad=True), skip=5)
    with pytest.raises(PositionError):
        lyapunov_along(record(model, x, grad=True), row=3)
    with pytest.raises(CellError, match="lyapunov_along"):
        check_cell(record(model, x)["cell"].cell)
