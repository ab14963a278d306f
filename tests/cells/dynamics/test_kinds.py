"""The dynamics of every kind of cell: Jacobians, fixed points and exponents."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grulens.cells.dynamics.fixed_points import find_fixed_points
from grulens.cells.dynamics.jacobian import jacobian
from grulens.cells.dynamics.lyapunov import lyapunov
from grulens.cells.kinds.lstm import LSTM
from grulens.cells.kinds.rnn import RNN
from grulens.errors import CellError
from tests.kinds import EVERY, made

KINDS: list[tuple[Any, dict[str, Any]]] = [
    *((kind, {}) for kind in EVERY),
    (RNN, {"activation": torch.relu}),
    (RNN, {"activation": torch.sin}),
]


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(1, 5), st.sampled_from(KINDS))
def test_the_jacobian_is_what_autograd_finds(seed: int, units: int, kind: Any) -> None:
    cell = made(kind[0], seed, units, **kind[1])
    x, state = torch.randn(3, 2).double(), torch.randn(3, cell.state_size).double()
    found = jacobian(cell, x, state)
    assert ("leak" in found.parts) == (kind[0].kind == "GRU")
    assert kind[0].kind == "GRU" or list(found.parts) == ["total"]
    for row in range(3):
        expected = torch.autograd.functional.jacobian(
            lambda s, row=row: cell.step(cell.project(x[row]), s), state[row]
        )
        assert torch.allclose(found.total[row], expected, atol=1e-12)
    assert repr(found) == f"Jacobian(batch 3, unit {cell.state_size})"


def test_a_single_unit_has_the_fixed_points_of_its_equation() -> None:
    """h = tanh(2 h) has three solutions: 0 and the two of h = tanh(2 h) beside it."""
    one = torch.ones(1, 1).double()
    cell = RNN(one, 2 * one, None, None)
    starts = torch.linspace(-2, 2, 9)[:, None].double()
    found = find_fixed_points(cell, starts=starts, progress=False)
    states = found.states[:, 0].sort().values
    assert len(found) == 3
    assert states[1] == pytest.approx(0, abs=1e-12)
    assert states[2] == pytest.approx(0.9575040240772687, abs=1e-12)  # Newton by hand
    assert states[0] == pytest.approx(-0.9575040240772687, abs=1e-12)
    assert sorted(found.stability) == ["stable", "stable", "unstable"]
    zero = int(found.states[:, 0].abs().argmin())
    assert found.eigenvalues[zero, 0].real == pytest.approx(2.0)


@pytest.mark.unchecked
def test_starts_of_an_lstm_are_h_and_c_side_by_side() -> None:
    cell, h, c = made(LSTM, 0, 3), torch.zeros(4, 3).double(), torch.ones(4, 3).double()
    wanted = r"starts must be \(start, h and c side by side\) = \(any, 6\), got "
    words = r"2 tensors of \(4, 3\), \(4, 3\): give one, torch\.cat\(\[h, c\], -1\)"
    with pytest.raises(CellError, match=wanted + words):
        find_fixed_points(cell, starts=(h, c), progress=False)  # type: ignore[arg-type]
    words = r"\(4, 3\): that is one of h and c alone; give torch\.cat\(\[h, c\], -1\)"
    with pytest.raises(CellError, match=wanted + words):
        find_fixed_points(cell, starts=h, progress=False)
    found = find_fixed_points(cell, starts=torch.cat([h, c], -1), progress=False)
    assert found.ends.shape == (4, 6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 4), st.sampled_from(EVERY))
def test_a_step_leaves_every_fixed_point_where_it_is(seed: int, units: int, kind: Any) -> None:
    cell = made(kind, seed, units, 0.7)
    x = torch.randn(2).double()
    starts = torch.randn(30, cell.state_size).double()
    found = find_fixed_points(cell, x=x, starts=starts, progress=False)
    product = cell.project(x).expand(len(found), -1)
    assert torch.allclose(cell.step(product, found.states), found.states, atol=1e-9)
    assert (found.residual <= 1e-10).all()
    values = torch.linalg.eigvals(found.jacobian).abs().sort(1, descending=True).values
    assert torch.allclose(found.eigenvalues.abs(), values, atol=1e-8)
    if bool(found.stable.any()):
        # a stable point is where the cell goes from beside it
        point = found.states[int(found.stable.int().argmax())]
        state = point + 1e-6
        for _ in range(2000):
            state = cell.step(cell.project(x), state)
        assert torch.allclose(state, point, atol=1e-5)


def test_exponents_of_a_constant_input_are_the_logarithms_of_the_eigenvalues() -> None:
    for kind in EVERY:
        cell = made(kind, 3, 3, 0.3)
        x = torch.zeros(400, 2).double()
        state = torch.zeros(cell.state_size).double()
        for _ in range(2000):
            state = cell.step(cell.project(x[0]), state)
        slope = jacobian(cell, x[:1], state[None]).total[0]
        logs = torch.linalg.eigvals(slope).abs().log().sort(descending=True).values
        found = lyapunov(cell, x, state, skip=200)
        assert torch.allclose(found.exponents[:2], logs[:2], atol=2e-2)


def test_the_state_of_an_lstm_is_the_pair() -> None:
    cell = made(LSTM, 0, 2)
    with pytest.raises(CellError, match=r"\(start, h and c side by side\) = \(any, 4\)"):
        find_fixed_points(cell, starts=torch.zeros(1, 2), progress=False)
