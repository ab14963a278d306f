"""Fixed points whose number and place are known, and the bounds that every one must keep."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grulens import Cell
from grulens.cells.dynamics import fixed_points
from grulens.cells.dynamics.fixed_points import find_fixed_points
from grulens.cells.dynamics.jacobian import jacobian
from grulens.cells.dynamics.lyapunov import lyapunov
from grulens.cells.dynamics.stationary import MATRICES
from grulens.cells.unroll import unroll
from grulens.errors import CellError, StoppedWarning
from tests.cells.dynamics.test_jacobian import drawn
from tests.memory import needs_peak, peaks


def switches(units: int, a: float = 2.0) -> Cell:
    """Every unit for itself: n = tanh(a h), three fixed points each."""
    weight = torch.zeros(3 * units, units, dtype=torch.float64)
    weight[2 * units :] = a * torch.eye(units)
    bias = torch.zeros(3 * units, dtype=torch.float64)
    bias[:units] = 20
    zeros = torch.zeros(3 * units, dtype=torch.float64)
    return Cell(torch.zeros(3 * units, 1, dtype=torch.float64), weight, bias, zeros)


@pytest.mark.parametrize("units", [2, 3, 4])
def test_all_that_there_are_and_no_other(units: int) -> None:
    grid = torch.tensor(list(product([-1.0, -0.6, 0.0, 0.6, 1.0], repeat=units))).double()
    found = find_fixed_points(switches(units), starts=grid + 0.01, progress=False)
    assert len(found) == 3**units
    assert int(found.stable.sum()) == 2**units
    sizes = found.states.abs()
    assert torch.minimum(sizes, (sizes - 0.95750402).abs()).max() < 1e-8
    zeros = (sizes < 1e-6).sum(1)
    assert torch.equal(found.unstable_dims, zeros)
    assert found.residual.max() <= 1e-10
    assert int(found.count.sum()) == int(found.converged.sum()) == 5**units


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 6), st.booleans())
def test_a_step_leaves_every_one_where_it_is(seed: int, units: int, after: bool) -> None:
    cell = drawn(seed, 2, units, True, reset_after=after)
    torch.manual_seed(seed)
    x, starts = torch.randn(2).double(), torch.rand(40, units).double() * 2 - 1
    found = find_fixed_points(cell, x=x, starts=starts, progress=False)
    assert len(found) >= 1  # tanh maps the cube into itself: there is one (Brouwer)
    step = unroll(cell, x.expand(len(found), 1, 2), found.states).h[:, 0]
    assert torch.allclose(step, found.states, atol=1e-9)
    assert found.states.abs().max() < 1
    distances = torch.cdist(found.states, found.states) + torch.eye(len(found)).double()
    assert distances.min() > 1e-5
    for point, slope in zip(found.states, found.jacobian, strict=True):
        expected = torch.autograd.functional.jacobian(
            lambda h: unroll(cell, x[None, None], h[None]).h[0, 0], point
        )
        assert torch.allclose(slope, expected, atol=1e-10)


def test_a_gate_that_is_almost_closed_is_slow_and_not_fixed() -> None:
    """z is nearly 1 everywhere: every state is slow, and only n(h) = h is fixed."""
    cell = switches(2)
    cell.bias_ih[2:4] = 16.0  # 1 - z is 1e-7
    starts = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    found = find_fixed_points(cell, starts=starts, progress=False)
    sizes = found.states.abs()
    assert torch.minimum(sizes, (sizes - 0.95750402).abs()).max() < 1e-6


def test_slow_points_are_asked_for_and_called_that() -> None:
    """n = tanh(h + 0.01) has lost its fixed point at 0 and keeps a slow place there."""
    weight = torch.tensor([[0.0], [0.0], [1.0]]).double()
    bias = torch.tensor([20.0, 0.0, 0.0]).double()
    cell = Cell(torch.tensor([[0.0], [0.0], [1.0]]).double(), weight, bias, None)
    starts = torch.tensor([[-0.3], [-0.1]]).double()
    found = find_fixed_points(cell, x=torch.tensor([0.01]).double(), starts=starts, progress=False)
    assert found.slow(1e-12).shape == (0, 1)
    assert (found.speed[~found.converged] > 1e-10).all()
    assert len(found.slow(0.1)) <= len(starts)


def test_an_interrupt_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    search, calls = fixed_points._levenberg_marquardt, []

    def some(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        search(*args)

    monkeypatch.setattr(fixed_points, "_levenberg_marquardt", some)
    starts = torch.rand(40, 2).double()
    with pytest.warns(StoppedWarning, match="find_fixed_points stopped after 20 of 40 starts"):
        found = find_fixed_points(
            switches(2), starts=starts, memory=MATRICES * 8 * 4 * 10, progress=False
        )
    assert found.note == "stopped after 20 of 40 starts"
    assert found.note in repr(found)
    assert found.note in found._repr_html_()
    assert int(found.converged.sum()) == 20
    assert found.speed.isnan().sum() == 20
    assert len(found) >= 1


def test_whoever_is_told_may_end_it_and_what_has_arrived_stays() -> None:
    told: list[int] = []

    def enough(count: int) -> None:
        told.append(count)
        if sum(told) >= 10:
            raise KeyboardInterrupt

    starts = torch.rand(40, 2, generator=torch.Generator().manual_seed(1)).double() * 2 - 1
    found = find_fixed_points(switches(2), starts=starts, progress=enough)
    done = ~found.speed.isnan()
    assert 10 <= int(done.sum()) == sum(told) < 40
    assert found.converged[done].all()
    assert not found.converged[~done].any()
    whole: list[int] = []
    find_fixed_points(switches(2), starts=starts, progress=whole.append)
    assert sum(whole) == 40


def test_a_bar_is_shown_if_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    for wanted in (False, True):
        find_fixed_points(switches(2), starts=torch.rand(3, 2), progress=wanted)
        assert ("fixed points" in capsys.readouterr().err) == wanted


def test_memory_says_how_many_starts_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    search, sizes = fixed_points._levenberg_marquardt, []

    def sized(cell: Cell, product: Any, ends: torch.Tensor, *rest: Any) -> None:
        sizes.append(len(ends))
        search(cell, product, ends, *rest)

    monkeypatch.setattr(fixed_points, "_levenberg_marquardt", sized)
    find_fixed_points(
        switches(2),
        starts=torch.rand(25, 2),
        memory=MATRICES * 8 * 4 * 10,
        progress=False,
    )
    assert sizes == [10, 10, 5]


def test_no_starts_no_points() -> None:
    found = find_fixed_points(switches(2), starts=torch.zeros(0, 2), progress=False)
    assert repr(found) == "FixedPoints(0 points, 0 stable, from 0 starts, 0% converged)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"starts": torch.zeros(3, 5)},
            r"starts must be \(start, unit\) = \(any, 2\), got \(3, 5\)$",
        ),
        ({"starts": torch.zeros(2)}, r"\(any, 2\), got \(2,\): one start is starts\[None\]"),
        ({"starts": torch.zeros(3, 4, 2)}, r"got \(3, 4, 2\): give starts\.reshape\(-1, 2\)"),
        (
            {"starts": (torch.zeros(3, 2), torch.zeros(1, 2))},
            r"got 2 tensors of \(3, 2\), \(1, 2\): give one, torch\.cat\(starts\)",
        ),
        ({"starts": [0.0]}, r"starts must be a dense floating tensor, got \[0\.0\]"),
        ({"starts": torch.zeros(1, 2), "tol": 0.0}, r"tol must be a number above 0, got 0\.0"),
        ({"starts": torch.full((1, 2), torch.nan)}, "must be finite"),
        (
            {"starts": torch.zeros(1, 2), "x": torch.zeros(3)},
            r"x must be \(input,\) = \(1,\), got \(3,\)",
        ),
    ],
)
@pytest.mark.unchecked
def test_what_does_not_fit_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CellError, match=message):
        find_fixed_points(switches(2), **arguments)


def test_lyapunov_of_a_leak_is_its_logarithm() -> None:
    bias = torch.tensor([0.0, 0.0, 0.0, -1.0, 0.5, 2.0, 0.0, 0.0, 0.0]).double()
    cell = Cell(torch.zeros(9, 2).double(), torch.zeros(9, 3).double(), bias, None)
    found = lyapunov(cell, torch.randn(200, 2))
    expected = torch.sigmoid(torch.tensor([2.0, 0.5, -1.0]).double()).log()
    assert torch.allclose(found.exponents, expected, atol=1e-12)
    assert found.band.max() < 1e-12


def forgets(*rows: list[float], z: float = -800.0) -> Cell:
    """A cell with a shut update gate, r = 1/2 and n = tanh(rows h + x): h' is the candidate."""
    units = len(rows)
    weight, bias = torch.zeros(3 * units, units).double(), torch.zeros(3 * units).double()
    weight[2 * units :], bias[units : 2 * units] = 2 * torch.tensor(rows, dtype=weight.dtype), z
    weight_ih = torch.zeros(3 * units, 1).double()
    weight_ih[2 * units :] = 1
    return Cell(weight_ih, weight, bias, None)


def test_lyapunov_of_a_singular_jacobian_is_minus_infinity_and_its_band_a_number() -> None:
    x = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    one = lyapunov(forgets([0.3, 0.6], [0.6, 1.2]), x)  # of rank 1
    assert one.exponents.isneginf().tolist() == [False, True]
    assert one.band.isfinite().all()
    assert one.band[1] == 0 < one.band[0]
    assert one.note == "1 of 2 are -inf: a step's Jacobian is singular there"
    assert one.note in repr(one)
    # the other direction is as if it were alone: h = (u, 2u)
    slope = (1 - torch.tanh(torch.zeros(1))).double()
    assert bool(one.exponents[0] < slope.log() + 1.5)
    none = lyapunov(forgets([0.0, 0.0], [0.0, 0.0]), x)
    assert none.exponents.isneginf().all()
    assert torch.equal(none.band, torch.zeros(2).double())
    assert repr(none).startswith("Lyapunov(2 exponents, largest -inf ± 0.0000 a step; 2 of 2")
    assert "nan" not in repr(none) + none._repr_html_()
    assert repr(lyapunov(forgets([0.0]), x)).startswith("Lyapunov(1 exponent, largest")


def test_lyapunov_turned_singular_is_no_logarithm_of_rounding() -> None:
    """Rank 2 of 3 in no direction of the axes: the product's last stretch is 1e-17, not 0."""
    generator = torch.Generator().manual_seed(3)
    left, right = (torch.rand(*shape, generator=generator).double() for shape in ((3, 2), (2, 3)))
    found = lyapunov(forgets(*(left @ right).tolist()), torch.zeros(80, 1))
    assert found.exponents.isneginf().tolist() == [False, False, True]


def test_lyapunov_of_a_strong_leak_is_still_a_number() -> None:
    bias = torch.tensor([0.0, 0.0, 0.0, -60.0, 0.5, -40.0, 0.0, 0.0, 0.0]).double()
    cell = Cell(torch.zeros(9, 2).double(), torch.zeros(9, 3).double(), bias, None)
    found = lyapunov(cell, torch.randn(50, 2))
    expected = torch.sigmoid(torch.tensor([0.5, -40.0, -60.0]).double()).log()
    assert torch.allclose(found.exponents, expected, atol=1e-9)
    assert found.note == ""


def test_lyapunov_sums_to_the_mean_log_volume() -> None:
    """The exponents add up to the mean of ln |det J|, whatever the axes are."""
    cell = drawn(3, 2, 5, True, reset_after=False)
    x, h = torch.randn(400, 2).double(), torch.rand(5).double()
    found = lyapunov(cell, x, h, skip=0)
    assert (found.exponents[:-1] >= found.exponents[1:]).all()
    states = torch.cat([h[None], unroll(cell, x[None], h[None]).h[0, :-1]])
    volume = torch.linalg.slogdet(jacobian(cell, x, states).total).logabsdet.mean()
    assert torch.allclose(found.exponents.sum(), volume, atol=1e-9)
    assert (found.band > 0).all()
    with pytest.raises(CellError, match="400 steps of which 400 are skipped leave none"):
        lyapunov(cell, x, skip=400)
    with pytest.raises(CellError, match=r"x must be \(time, input\)"):
        lyapunov(cell, x[None])


@needs_peak
def test_more_starts_and_points_take_no_more_memory() -> None:
    found = peaks("""
import torch
from grulens import Cell
from grulens.cells.dynamics.fixed_points import find_fixed_points

# each unit alone has three fixed points, so every start finds another one
units, zeros = 96, torch.zeros(3 * 96, dtype=torch.float64)
weight, bias = torch.zeros(3 * units, units).double(), zeros.clone()
weight[2 * units:], bias[:units] = 2 * torch.eye(units), 20
cell = Cell(torch.zeros(3 * units, 1).double(), weight, bias, zeros)
starts = torch.rand(320, units, generator=torch.Generator().manual_seed(0)) * 2 - 1
for some in (starts[:64], starts):
    points = find_fixed_points(cell, starts=some, memory=2**22, progress=False)
    mark(str(len(some)))
    marks["points"] = len(points)
""")
    assert found["points"] > 300
    # all Jacobians together are 23 MB, five times as much while the search holds them
    assert found["320"] - found["64"] < 12 * 2**20
