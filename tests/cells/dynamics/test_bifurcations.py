"""Where the slope of n(h) - h is singular: one point is one point, and its mode is marginal.

A cell of which r and z are 1/2 everywhere moves by half of n(h) - h, and n is any function that the
test plants: whose zeros, their order and the slopes there are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from grulens import Cell
from grulens.cells.dynamics.distinct import distinct
from grulens.cells.dynamics.fixed_points import FixedPoints, find_fixed_points
from grulens.cells.dynamics.jacobian import jacobian
from grulens.cells.dynamics.stability import rounding

DOUBLE = torch.float64


def planted(
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    candidate: Callable[[Tensor], Tensor] = torch.tanh,
    dtype: torch.dtype = DOUBLE,
) -> Cell:
    """n(h) = candidate(weight h + bias), every gate 1/2."""
    units = len(weight)
    hidden, biases = torch.zeros(3 * units, units).double(), torch.zeros(3 * units).double()
    hidden[2 * units :] = 2 * weight
    if bias is not None:
        biases[2 * units :] = bias
    cell = Cell(torch.zeros(3 * units, 1).double(), hidden, biases, None, candidate=candidate)
    return cell.over(lambda one: one.to(dtype))


def around(place: Any, count: int, far: float, seed: int = 0) -> Tensor:
    place = torch.as_tensor(place, dtype=DOUBLE)
    generator = torch.Generator().manual_seed(seed)
    return place + far * (2 * torch.rand(count, len(place), dtype=DOUBLE, generator=generator) - 1)


def search(cell: Cell, starts: Tensor, **options: Any) -> FixedPoints:
    return find_fixed_points(cell, starts=starts, progress=False, **options)


def of_order(order: int, units: int, seed: int) -> tuple[Cell, Tensor]:
    """A cell with a fixed point at which n(h) - h has one critical direction, and its place.

    The point is not at 0 and the other directions are slaved to the critical one along a curve.
    Along it n(h) - h begins with the square of the distance, or with its cube.
    """
    generator = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=DOUBLE, generator=generator)

    point = 0.5 * torch.tanh(some(units))
    right, left = some(units), some(units)
    if order == 3:  # tanh'' along the critical direction has no part in its own direction
        square = point * right**2 / (1 - point**2)
        left = left - square * (left @ square) / (square @ square)
    critical = torch.outer(right, left) / (right @ left)
    beside = torch.eye(units, dtype=DOUBLE) - critical
    slope = critical + beside @ (0.3 * some(units, units) / units**0.5) @ beside
    weight = slope / (1 - point**2)[:, None]
    return planted(weight, torch.atanh(point) - weight @ point), point


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("units", "count"), [(1, 101), (2, 400), (5, 1), (10, 300)])
def test_every_direction_critical_is_one_point(units: int, count: int, dtype: torch.dtype) -> None:
    cell = planted(torch.eye(units).double(), dtype=dtype)  # tanh(h) = h at 0 alone
    found = search(cell, around(torch.zeros(units), count, 1.0))
    assert len(found) == 1
    assert found.count.tolist() == [count]
    assert found.states.abs().max() < 1e-5
    assert found.stability == ("marginal",)
    assert found.marginal.all()
    assert not found.stable.any()


def test_a_slope_that_stays_singular_to_the_last_bit_ends_the_search_and_not_the_program() -> None:
    much = 2.0**22  # the first damping, 1e-3, is less than the last bit of its square
    weight = much * torch.ones(2, 2, dtype=DOUBLE) + torch.eye(2, dtype=DOUBLE)
    place = torch.tensor([0.25, -0.25], dtype=DOUBLE)  # where n(h) - h has the slope much * ones
    found = search(planted(weight, -weight @ place), place[None])
    assert len(found) == 0
    assert not found.converged.any()


@pytest.mark.parametrize("tol", [1e-5, 1e-10, 1e-13])
@pytest.mark.parametrize("count", [1, 60])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("units", [2, 9])
def test_one_critical_direction_is_one_point(
    order: int, units: int, count: int, tol: float
) -> None:
    cell, place = of_order(order, units, seed=4)
    found = search(cell, around(place, count, 0.02), tol=tol)
    near = (found.states - place).norm(dim=1) < 0.05
    assert int(near.sum()) == 1
    point = int(near.nonzero()[0, 0])
    assert (found.states[point] - place).norm() < 1e-4
    assert int(found.marginal_dims[point]) == 1
    assert found.residual[point] <= tol
    assert found.converged.double().mean() > 0.9
    # which of the modes it is, and that the others keep their names
    slope = jacobian(cell, torch.zeros(1, 1).double(), place[None]).total[0]
    true = torch.linalg.eigvals(slope)
    assert int(found.unstable_dims[point]) == int((true.abs() > 1 + 1e-6).sum())
    assert (found.eigenvalues[point][found.marginal[point]] - 1).abs().max() < 1e-3


@pytest.mark.parametrize("unique", [1e-4, 1e-5, 1e-7])
def test_what_is_distinct_stays_distinct(unique: float) -> None:
    """Past the pitchfork there are three, however little; the middle one is hard to hit."""
    for past in (1e-2, 1e-4, 1e-6):
        cell = planted(torch.tensor([[1 + past]], dtype=DOUBLE))
        starts = torch.cat([around([0.0], 40, 1.0), torch.zeros(1, 1).double()])
        found = search(cell, starts, unique=unique)
        assert sorted(found.states[:, 0].sign().tolist()) == [-1, 0, 1]
        assert found.stability == ("stable", "stable", "unstable")
        assert found.states.abs().max() == pytest.approx((3 * past) ** 0.5, rel=0.02)


def test_near_ends_of_a_loose_search_go_to_their_own_points() -> None:
    """At this tolerance all states between the two would do; they are 0.0003 apart."""
    found = search(
        planted(torch.tensor([[1 + 1e-8]], dtype=DOUBLE)), around([0.0], 50, 1.0), tol=1e-6
    )
    assert sorted(found.states[:, 0].sign().tolist()) == [-1, 1]
    assert found.states.abs().max() == pytest.approx(3e-8**0.5, rel=1e-3)
    assert found.stability == ("stable", "stable")


@pytest.mark.parametrize(
    ("name", "candidate"),
    [
        ("square", lambda h: h - h**2),
        ("fifth", lambda h: h - h**5),
        ("faint", lambda h: h - h**3 / 1000),
    ],
)
def test_zeros_of_other_orders(name: str, candidate: Any) -> None:
    for count in (1, 200):
        found = search(
            planted(torch.eye(1).double(), candidate=candidate), around([0.0], count, 0.4)
        )
        assert (len(found), found.stability) == (1, ("marginal",)), name
        assert found.states.abs().max() < 1e-3


def test_a_fold_is_one_point_before_at_and_after_it() -> None:
    """n = tanh(2 h + b): two points, which meet in one and leave a slow place."""
    place = 0.5**0.5
    at = math.atanh(place) - 2 * place
    kinds = {}
    for apart in (1e-6, 0.0, -1e-6):
        cell = planted(torch.tensor([[2.0]]).double(), torch.tensor([at + apart], dtype=DOUBLE))
        found = search(cell, around([place], 200, 0.2))
        near = (found.states[:, 0] - place).abs() < 0.1
        kinds[apart] = sorted(found.stability[i] for i in near.nonzero()[:, 0].tolist())
    assert kinds == {1e-6: ["stable", "unstable"], 0.0: ["marginal"], -1e-6: []}


def turning(angle: float) -> Tensor:
    return torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=DOUBLE
    )


@pytest.mark.parametrize(
    ("past", "dtype", "kind"),
    [
        (0.0, torch.float64, "marginal"), (0.0, torch.float32, "marginal"),
        (1e-9, torch.float64, "unstable"), (-1e-9, torch.float64, "stable"),
        (1e-9, torch.float32, "marginal"), (1e-5, torch.float32, "unstable"),
        (-1e-5, torch.float32, "stable"), (1e-5, torch.bfloat16, "marginal"),
    ],
)  # fmt: skip
def test_a_pair_on_the_circle_is_marginal_to_the_dtype_of_the_cell(
    past: float, dtype: torch.dtype, kind: str
) -> None:
    """F' = (1 + W) / 2 turns by an angle and stretches by 1 + past (Hopf)."""
    weight = 2 * (1 + past) * turning(0.7) - torch.eye(2).double()
    found = search(planted(weight, dtype=dtype), around([0.0, 0.0], 40, 1.0))
    assert found.stability == (kind,)
    assert found.marginal.sum() == (2 if kind == "marginal" else 0)


def test_a_flip_is_marginal() -> None:
    found = search(planted(torch.tensor([[-3.0]]).double()), around([0.0], 40, 0.5))
    assert found.stability == ("marginal",)
    assert found.eigenvalues.real.item() == pytest.approx(-1)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_defective_modes_move_by_a_root_of_rounding_and_are_still_marginal(size: int) -> None:
    block = torch.eye(size).double() + torch.diag(torch.full((size - 1,), 0.5).double(), 1)
    generator = torch.Generator().manual_seed(size)
    turn = torch.linalg.qr(torch.randn(size, size, dtype=DOUBLE, generator=generator))[0]

    def at(slope: Tensor) -> FixedPoints:
        weight = 2 * turn @ slope @ turn.T - torch.eye(size).double()
        return search(planted(weight), torch.zeros(1, size).double())

    found = at(block)
    assert found.marginal.all()
    if size > 2:
        assert (found.eigenvalues.abs() - 1).abs().max() > 1e-7, "by far more than rounding"
    assert at(0.999 * block).stability == ("stable",)
    assert at(1.001 * block).stability == ("unstable",)


def test_of_two_modes_the_one_that_is_marginal_is_called_so() -> None:
    slope = torch.diag(torch.tensor([1.0, 1.0001, 0.9999], dtype=DOUBLE))
    cell = planted(2 * slope - torch.eye(3).double())
    found = search(cell, torch.zeros(1, 3).double())
    assert found.kinds == ("unstable in 1, marginal in 1",)
    assert found.eigenvalues[0][found.marginal[0]].real.tolist() == pytest.approx([1.0], abs=1e-14)
    assert found.stability == ("unstable",)
    assert found.time_constants[0].isinf().tolist() == found.marginal[0].tolist()


def test_a_slow_mode_is_no_marginal_one() -> None:
    for apart in (1e-3, 1e-6, 1e-9, 1e-12):
        found = search(
            planted(torch.tensor([[1 - apart]], dtype=DOUBLE)), torch.zeros(1, 1).double()
        )
        assert found.stability == ("stable",)
        assert found.time_constants.item() == pytest.approx(2 / apart, rel=1e-3)


def test_rounding_is_of_the_dtype() -> None:
    parts = jacobian(
        planted(torch.eye(2).double()), torch.zeros(1, 1).double(), torch.zeros(1, 2).double()
    )
    single, double = (rounding(parts, torch.finfo(d).eps) for d in (torch.float32, DOUBLE))
    assert float(single) == pytest.approx(torch.finfo(torch.float32).eps * 2**0.5)
    assert float(double) == pytest.approx(4 * torch.finfo(DOUBLE).eps * 2**0.5)


# continua: every state is a point of its own


@pytest.mark.parametrize("units", [1, 2, 64])
def test_a_continuum_stays_as_many_points_as_were_found_of_it(units: int) -> None:
    cell = planted(torch.eye(units).double(), candidate=torch.relu)  # every h >= 0 is fixed
    starts = around(torch.full((units,), 0.5), 300, 0.5)
    found = search(cell, starts, unique=1e-6)
    assert len(found) == len(starts.unique(dim=0))
    assert set(found.stability) == {"marginal"}


def test_a_line_of_fixed_points_among_other_directions_stays_one() -> None:
    along = torch.tensor([0.6, 0.8], dtype=DOUBLE)
    cell = planted(
        torch.outer(along, along) + 0.3 * (torch.eye(2).double() - torch.outer(along, along)),
        candidate=lambda h: 1.0 * h,
    )
    starts = around([0.0, 0.0], 300, 0.001)  # nearer to each other than a spread zero is wide
    found = search(cell, starts, unique=1e-9)
    assert len(found) > 290
    assert found.kinds == ("marginal in 1",) * len(found)
    assert torch.allclose(
        found.states @ torch.tensor([0.8, -0.6], dtype=DOUBLE), torch.zeros(1).double()
    )


def test_a_short_continuum_with_edges_stays_one() -> None:
    cell = planted(
        torch.eye(1).double(), candidate=lambda h: h - torch.relu(h.abs() - 0.01) * h.sign()
    )
    found = search(cell, around([0.0], 50, 0.02))
    inside = found.states[found.states.abs()[:, 0] < 0.01 - 1e-9]
    assert len(inside) > 10
    assert len(found) == len(inside) + 2  # and its two edges


# telling points apart


@pytest.mark.parametrize("count", [0, 1, 7, 700])
def test_clusters_are_those_of_one_after_the_other(count: int) -> None:
    """Against the plain loop: the best first, and each next one joins a better one nearby."""
    generator = torch.Generator().manual_seed(count)
    points = torch.rand(count, 2, dtype=DOUBLE, generator=generator)
    worth = torch.rand(count, dtype=DOUBLE, generator=generator)
    chosen: list[int] = []
    belongs: dict[int, list[int]] = {}
    for index in worth.argsort().tolist():
        near = [c for c in chosen if float((points[c] - points[index]).norm()) <= 0.1]
        if not near:
            chosen.append(index)
        belongs[index] = near or [index]
    found, of = distinct(points, worth, 0.1)
    assert found.tolist() == chosen
    for index in range(count):
        assert int(found[of[index]]) in belongs[index]


def test_counts_are_those_of_the_starts_that_arrived() -> None:
    cell = planted(torch.eye(3).double())
    found = search(cell, around(torch.zeros(3), 250, 1.0))
    assert int(found.count.sum()) == int(found.converged.sum()) == 250


def test_words_table_and_numbers_agree() -> None:
    found = search(planted(torch.diag(torch.tensor([1.0, 3.0]).double())), around([0, 0], 60, 1.0))
    assert len(found) == 3
    assert repr(found).startswith("FixedPoints(3 points, 0 stable, 2 marginal, from 60 starts")
    assert sorted(found.kinds) == ["marginal in 1", "marginal in 1", "unstable in 1, marginal in 1"]
    html = found._repr_html_()
    assert html.count("<td>marginal in 1</td>") == 2
    assert html.count("<td>for ever</td>") == 3
    assert not bool((found.stable & found.marginal.any(1)).any())
