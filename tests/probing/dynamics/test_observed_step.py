"""Fixed points of observed cells: those of the same cell opened by its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import record
from grulens.dynamics import (
    FixedPoints,
    find_fixed_points,
    jacobian,
    observed_step,
    unstable_directions,
)
from grulens.errors import CellError, PositionError, RecordingError
from grulens.memory import attention
from tests import loops
from tests.loops import INPUTS, UNITS, Loop


def inputs(steps: int = 4, rows: int = 3) -> Tensor:
    return torch.randn(rows, steps, INPUTS, generator=torch.Generator().manual_seed(1))


def strong(model: Any) -> Any:
    """A cell with several fixed points."""
    with torch.no_grad():
        model.h.weight.mul_(4)
        model.h.weight[2 * UNITS :] += 3 * torch.eye(UNITS)
    return model


def test_fixed_points_are_those_of_the_same_gru() -> None:
    torch.manual_seed(0)
    model, x = strong(Loop()), inputs()
    step = observed_step(model, x, t=2, row=1)
    starts = torch.rand(6, UNITS) * 2 - 1
    found = find_fixed_points(step, starts=starts, progress=False)
    cell = record(model.known(), x)["l0"].cell
    wanted = find_fixed_points(cell, x=x[1, 2], starts=starts, progress=False)
    assert len(found) == len(wanted) >= 2
    assert bool((found.residual <= 1e-10).all())
    away = torch.cdist(found.states, wanted.states)
    assert bool((away.amin(1) <= 1e-6).all())
    nearest = away.argmin(1)
    assert len(set(nearest.tolist())) == len(found)
    for i, j in enumerate(nearest.tolist()):
        one, other = (f.eigenvalues[k].abs() for f, k in ((found, i), (wanted, j)))
        assert torch.allclose(one, other, atol=1e-6)
        assert found.kinds[i] == wanted.kinds[j]
    assert torch.allclose(found.jacobian, wanted.jacobian[nearest], atol=1e-6)
    grows = unstable_directions(step, found.states[-1])
    other = unstable_directions(cell, wanted.states[nearest[-1]], x=x[1, 2])
    assert len(grows) > 0
    assert torch.allclose((grows @ other.T).abs().amax(1), torch.ones(1).double(), atol=1e-6)


def test_of_no_states_there_are_no_derivatives() -> None:
    step = observed_step(Loop(), inputs())
    none = torch.empty(0, UNITS, dtype=torch.float64)
    assert step.slope(none).shape == step.off_slope(none).shape == (0, UNITS, UNITS)


class Holding(loops.Lines):
    """Holds its last states, with the graph of the run that made them."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        new = super().step(x, h)
        self.held = {"h": (new, h)}
        return new


def test_a_state_that_the_model_holds_with_its_graph_is_copied_as_numbers() -> None:
    torch.manual_seed(0)
    model, x = Holding(), inputs()
    starts = torch.rand(3, UNITS)
    wanted = find_fixed_points(observed_step(model, x), starts=starts, progress=False)
    model(x)
    assert model.held["h"][0].grad_fn is not None
    found = find_fixed_points(observed_step(model, x), starts=starts, progress=False)
    assert torch.equal(found.states, wanted.states)


class Branching(loops.Lines):
    """Goes another way where its state is large."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return super().step(x / 2 if bool(h.abs().max() > 0.5) else x, h)


class Surrogate(torch.autograd.Function):
    """A derivative that somebody made up."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.tanh()

    @staticmethod
    def backward(ctx: Any, way: Tensor) -> Tensor:  # type: ignore[override]
        return 0.5 * way


class MadeUp(loops.Lines):
    """Its derivatives are not those of what it computes."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        line = self.one(torch.cat([x, h], 1))
        made: Tensor = Surrogate.apply(line)  # type: ignore[no-untyped-call]
        return 0.5 * h + 0.5 * made


QUICK = [Loop, loops.Masked, loops.Leaky, loops.Decayed, loops.Clipped, loops.LSTM]


@pytest.mark.parametrize("kind", [*QUICK, Branching, MadeUp])
def test_a_search_finds_what_it_finds_in_the_code_itself(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, x = kind(), inputs()
    step = observed_step(model, x, t=1, row=1)
    starts = 2 * torch.rand(3, step.state_size) - 1
    times = 0
    ran = type(step)._ran

    def counted(self: Any, states: Tensor) -> Any:
        nonlocal times
        times += 1
        return ran(self, states)

    monkeypatch.setattr(type(step), "_ran", counted)
    found, quick = find_fixed_points(step, starts=starts, progress=False), times
    monkeypatch.setattr(type(step), "quick", lambda self: self)
    wanted, slow = find_fixed_points(step, starts=starts, progress=False), times - quick
    assert torch.equal(found.converged, wanted.converged)
    assert torch.allclose(found.states, wanted.states, atol=1e-8)
    assert torch.allclose(found.ends, wanted.ends, atol=1e-8)
    assert torch.allclose(found.jacobian, wanted.jacobian, atol=1e-8)
    away = (step.after(found.states) - found.states).norm(dim=1)
    assert torch.allclose(found.residual, away, rtol=0, atol=1e-15)
    # some looks in the end, and three for each of two numbers of starts
    assert kind not in QUICK or quick <= 15 < slow, (quick, slow)


def test_the_step_itself_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    step, starts = observed_step(Loop(), inputs(), t=1), torch.rand(4, UNITS)
    wanted = find_fixed_points(step, starts=starts, progress=False)
    other = observed_step(Loop(), inputs(), t=1)
    done: list[int] = []
    monkeypatch.setattr(type(step), "quick", lambda self: other)
    found = find_fixed_points(step, starts=starts, progress=done.append)
    assert sum(done) == 4
    assert bool(found.converged.all())
    assert torch.allclose(found.states, wanted.states, atol=1e-8)


def test_the_step_is_the_cells_own() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs().double()
    cell, states = record(model.known(), x)["l0"].cell, torch.randn(7, UNITS).double()
    for t, row in ((1, 0), (3, 2), (-1, -1)):
        step, x_t = observed_step(model, x, t=t, row=row), x[row, t].expand(7, -1)
        assert torch.allclose(step.after(states), cell.step(cell.project(x_t), states), atol=1e-12)
        assert torch.allclose(step.slope(states), jacobian(cell, x_t, states).total, atol=1e-12)


def test_a_model_with_time_first_and_one_with_c() -> None:
    class First(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x.transpose(0, 1))
            return out

    torch.manual_seed(0)
    model, x = loops.LSTM(), inputs(3, 3)
    known = nn.LSTM(INPUTS, UNITS, batch_first=True)
    with torch.no_grad():
        for name, part in (("ih", slice(0, INPUTS)), ("hh", slice(INPUTS, None))):
            getattr(known, f"weight_{name}_l0").copy_(model.line.weight[:, part])
        known.bias_ih_l0.copy_(model.line.bias)
        known.bias_hh_l0.zero_()
    step = observed_step(First(model), x.transpose(0, 1), t=1, row=2)
    starts = torch.rand(5, 2 * UNITS)
    found = find_fixed_points(step, starts=starts, progress=False)
    cell = record(known, x)["l0"].cell
    wanted = find_fixed_points(cell, x=x[2, 1], starts=starts, progress=False)
    assert len(found) == len(wanted) == 1
    assert torch.allclose(found.states, wanted.states, atol=1e-6)


def test_nothing_of_the_model_is_different_afterwards() -> None:
    torch.manual_seed(0)
    model, x = Loop(), inputs()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_fixed_points(observed_step(model, x, t=1), starts=torch.rand(3, UNITS), progress=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not model._forward_hooks


class Plain(loops.Lines):
    """Begins with zeros in torch's default dtype, as most code does; a number is its gate."""

    share = 0.1
    rows: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(self.rows or len(x), UNITS)
        for x_t in x.unbind(1):
            h = (1 - self.share) * h + self.share * torch.tanh(self.two(torch.cat([x_t, h], 1)))
        return h


def test_a_state_in_the_default_dtype_is_followed_in_float64() -> None:
    torch.manual_seed(0)
    model, x = Plain(), inputs()
    step = observed_step(model, x, t=1)
    found = find_fixed_points(step, starts=torch.rand(3, UNITS), progress=False)
    fed = x[:1, 1].double().expand(len(found), -1)
    exact = model.double()
    with torch.no_grad():
        wanted = torch.tanh(exact.two(torch.cat([fed, found.states], 1)))
    assert len(found) > 0
    assert torch.allclose(found.states, wanted, atol=1e-9)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.7, 0.9])
def test_a_leak_and_one_minus_it_are_shares_that_sum_to_1(share: float) -> None:
    torch.manual_seed(0)
    model = Plain()
    model.share = share
    run = record(model, inputs())
    assert run["cell"].cell.is_convex
    weights, initial = attention(run).at(-1)
    assert torch.allclose(weights.sum(1) + initial, torch.ones(1), atol=1e-6)
    assert torch.allclose(initial, torch.tensor((1 - share) ** 4), atol=1e-6)


class Alone(nn.Module):
    """A GRU that is given no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.loop, self.dropout = Loop(), nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        h, found = x.new_zeros(UNITS), []
        for x_t in x:
            a, b = self.loop.x(x_t).chunk(3, 0), self.loop.h(h).chunk(3, 0)
            r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
            n = torch.tanh(a[2] + self.dropout(r * b[2]))
            h = (1 - z) * n + z * h
            found.append(h)
        return torch.stack(found)


def test_a_run_without_a_batch_is_made_once_for_each_state() -> None:
    torch.manual_seed(0)
    model, x = Alone(), inputs()
    strong(model.loop)
    step, wanted = observed_step(model, x[1], t=2), observed_step(model.loop, x, t=2, row=1)
    starts = torch.rand(3, UNITS).double() * 2 - 1
    for name in ("after", "slope", "off", "off_slope"):
        found = getattr(step, name)(starts)
        assert torch.allclose(found, getattr(wanted, name)(starts), atol=1e-12)
    found, other = (find_fixed_points(s, starts=starts, progress=False) for s in (step, wanted))
    assert len(found) > 0
    assert torch.allclose(found.states, other.states, atol=1e-9)
    assert torch.allclose(found.jacobian, other.jacobian, atol=1e-8)
    model.dropout.p = 0.5
    with pytest.raises(RecordingError, match="draws random numbers"):
        observed_step(model, x[1], t=2)
    with pytest.raises(RecordingError, match=r"cannot be run on its own: in float64, the model"):
        observed_step(InSingle(model.eval()), x[1], t=2)


class InSingle(nn.Module):
    """In float32 whatever its weights are."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.float())  # type: ignore[no-any-return]


class Shared(loops.Lines):
    """Draws one number for all rows."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        z, n = torch.sigmoid(self.one(both)), torch.tanh(self.two(both))
        return (1 - z) * h + z * (n + 0.1 * torch.rand(UNITS))


def test_what_is_drawn_for_all_rows_at_once_is_drawn_too() -> None:
    with pytest.raises(RecordingError, match=r"draws random numbers .* no function of its state"):
        observed_step(Shared(), inputs())


class Two(Plain):
    """Has its number of rows written in it."""

    rows = 2


class Carrying(loops.Lines):
    """Keeps its last state."""

    last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        self.last = found[:, -1]
        return found


def test_a_model_keeps_what_it_had_before_a_step_is_taken_of_it() -> None:
    model = Carrying()
    observed_step(model, inputs(), t=1)
    assert model.last is None


class Normed(loops.Lines):
    """Normalised over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(UNITS)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = torch.sigmoid(self.norm(self.one(torch.cat([x, h], 1))))
        return (1 - z) * h + z * torch.tanh(self.two(torch.cat([x, h], 1)))


class Noisy(loops.Lines):
    """Off by less than what float32 lets one see."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        z, n = torch.sigmoid(self.one(both)), torch.tanh(self.two(both))
        return (1 - z) * h + z * (n + 1e-5 * torch.rand_like(n))


class Single(loops.Lines):
    """In float32 whatever its weights are."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def test_what_cannot_be_run_on_its_own_is_refused() -> None:
    torch.manual_seed(0)
    x = inputs()
    with pytest.raises(RecordingError, match="does not run as it did"):
        observed_step(Normed(), x)
    with pytest.raises(RecordingError, match="does not run as it did"):
        observed_step(loops.Zoneout(), x)
    with pytest.raises(RecordingError, match="another in every row"):
        observed_step(Noisy(), x)
    with pytest.raises(RecordingError, match="does not run as it did"):
        observed_step(Single(), x)
    with pytest.raises(CellError, match="opened by its weights"):
        observed_step(nn.GRU(INPUTS, UNITS), x)
    with pytest.raises(RecordingError, match="any number of rows"):
        observed_step(Two(), inputs(rows=2), t=1)
    for wrong in ({"t": 0}, {"t": 4}, {"row": 3}, {"t": "a"}, {"row": [1]}):
        with pytest.raises(PositionError):
            observed_step(Loop(), x, **wrong)
    with pytest.raises(PositionError, match="begin with this step's twice and choose the second"):
        observed_step(Loop(), x, t=0)
    step = observed_step(Loop(), x)
    with pytest.raises(CellError, match="leave x away"):
        find_fixed_points(step, x=x[0, 0], starts=torch.zeros(1, UNITS), progress=False)
    with pytest.raises(CellError, match="starts must be"):
        find_fixed_points(step, starts=torch.zeros(1, 2), progress=False)
    with pytest.raises(CellError, match="finite"):
        find_fixed_points(step, starts=torch.full((1, UNITS), torch.nan), progress=False)
    found = find_fixed_points(step, starts=torch.zeros(1, UNITS), progress=False)
    assert len(find_fixed_points(step, starts=torch.zeros(1, UNITS), progress=False)) == len(found)


def test_fixed_points_are_saved_with_their_derivatives(tmp_path: Any) -> None:
    torch.manual_seed(0)
    step = observed_step(strong(Loop()), inputs(), t=2, row=1)
    found = find_fixed_points(step, starts=torch.rand(4, UNITS) * 2 - 1, progress=False)
    again = FixedPoints.load(found.save(tmp_path / "points"))
    again = FixedPoints.load(again.save(tmp_path / "again"))
    assert torch.equal(again.states, found.states)
    assert torch.equal(again.jacobian, found.jacobian)
    assert (again.kinds, len(again)) == (found.kinds, len(found))
    assert repr(again.cell) == f"{step!r}, saved"
    grows = unstable_directions(found.cell, found.states[-1])
    assert torch.allclose(unstable_directions(again.cell, again.states[-1]), grows, atol=1e-12)
    with pytest.raises(CellError, match=r"saved without its model.*observed_step"):
        find_fixed_points(again.cell, starts=torch.zeros(1, UNITS), progress=False)
    with pytest.raises(CellError, match="known at the saved states alone"):
        unstable_directions(again.cell, again.states[-1] + 1)


def test_code_that_takes_one_number_of_rows_is_said_with_its_line() -> None:
    class Graph(Loop):
        def forward(self, x: Tensor, edges: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward((edges @ x.flatten(1)).reshape_as(x))

    with pytest.raises(RecordingError) as error:
        observed_step(Graph(), inputs(), torch.rand(3, 3))
    found = str(error.value)
    assert "its code fails with 2 rows in place of 3: line " in found
    assert " of test_observed_step.py: mat1 and mat2 shapes cannot be multiplied" in found
    assert found.count("mat1") == 1


def test_starts_of_two_states_are_asked_for_side_by_side() -> None:
    step = observed_step(loops.LSTM(), inputs())
    h, c = torch.zeros(2, 3, UNITS)
    words = rf"\(start, h and c side by side\) = \(any, {2 * UNITS}\), got \(3, {UNITS}\)"
    with pytest.raises(CellError, match=words):
        find_fixed_points(step, starts=h)
    assert find_fixed_points(step, starts=torch.cat([h, c], 1), progress=False).states.shape[1]


def test_autocast_is_refused_by_its_name() -> None:
    with torch.autocast("cpu"), pytest.raises(RecordingError, match=r"torch\.autocast rounds it"):
        observed_step(Loop(), inputs(), t=2)


class Squeezed(nn.Module):
    """A cell whose code takes a single row for none."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(INPUTS + UNITS, 2 * UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for t in range(x.shape[1]):
            now = x[:, t : t + 1].squeeze()[:, :]
            z, n = self.line(torch.cat([now, h], 1)).chunk(2, 1)
            h = torch.sigmoid(z) * h + (1 - torch.sigmoid(z)) * torch.tanh(n)
        return h


def test_one_state_is_stepped_as_several_are() -> None:
    torch.manual_seed(0)
    step, states = observed_step(Squeezed(), inputs()), torch.rand(3, UNITS).double()
    assert torch.allclose(step.after(states[:1]), step.after(states)[:1], atol=1e-12)
    assert torch.allclose(step.slope(states[:1]), step.slope(states)[:1], atol=1e-12)
