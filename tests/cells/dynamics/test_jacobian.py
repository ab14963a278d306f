"""The Jacobian in four parts: against autograd, for every convention; and what each part is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import hardsigmoid, softplus

from grulens import Cell
from grulens.cells.dynamics.jacobian import Slopes, jacobian
from grulens.cells.unroll import unroll
from grulens.errors import CellError


def drawn(seed: int, inputs: int, units: int, bias: bool, **convention: Any) -> Cell:
    generator = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    biases = (some(3 * units), some(3 * units)) if bias else (None, None)
    return Cell(some(3 * units, inputs), some(3 * units, units), *biases, **convention)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 9999), st.integers(1, 3), st.integers(1, 6), st.booleans(), st.booleans(),
    st.sampled_from([torch.sigmoid, hardsigmoid]), st.sampled_from([torch.tanh, softplus]),
)  # fmt: skip
def test_the_four_parts_sum_to_what_autograd_finds(
    seed: int, inputs: int, units: int, bias: bool, after: bool, gate: Any, candidate: Any
) -> None:
    cell = drawn(seed, inputs, units, bias, reset_after=after, gate=gate, candidate=candidate)
    torch.manual_seed(seed)
    x, h = torch.randn(2, inputs).double(), torch.rand(2, units).double() * 2 - 1
    found = jacobian(cell, x, h)
    slopes = Slopes.at(cell, torch.nn.functional.linear(x, cell.weight_ih, cell.bias_ih), h)
    for name, size in slopes.sizes().items():
        part = getattr(found, name)
        assert torch.allclose(size, part.norm(dim=(1, 2)) / units**0.5, atol=1e-12), name
    g = torch.randn(3, 2, units).double()
    assert torch.allclose(slopes.pulled(g), (g[:, :, None] @ found.total)[:, :, 0], atol=1e-12)
    for row in range(2):
        expected = torch.autograd.functional.jacobian(
            lambda state, row=row: unroll(cell, x[row : row + 1, None], state[None]).h[0, 0], h[row]
        )
        assert torch.allclose(found.total[row], expected, atol=1e-12)


@pytest.mark.parametrize("after", [True, False])
def test_each_part_is_what_moves_when_the_others_are_held(after: bool) -> None:
    """Hold gates at their values in turn; what is left is one part."""
    cell = drawn(0, 2, 4, True, reset_after=after)
    x, h = torch.randn(1, 2).double(), torch.rand(1, 4).double() * 2 - 1
    products = torch.nn.functional.linear(x, cell.weight_ih, cell.bias_ih)[:, None]
    r_0, z_0, n_0 = (signal[0, 0] for signal in cell.compute(products, h[:, None]).values())
    found = jacobian(cell, x, h)

    def z_of(state: torch.Tensor) -> torch.Tensor:
        return cell.terms(products, state[None, None]).z[0, 0]

    def n_of(state: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        w, b = cell.weight_hh[8:], cell.bias_hh[8:]
        inner = r * (w @ state + b) if after else w @ (r * state) + b
        return torch.tanh(products[0, 0, 8:] + inner)

    def r_of(state: torch.Tensor) -> torch.Tensor:
        return cell.terms(products, state[None, None]).r[0, 0]

    parts = {
        "leak": lambda s: (1 - z_0) * n_0 + z_0 * s,
        "update": lambda s: (1 - z_of(s)) * n_0 + z_of(s) * h[0],
        "candidate": lambda s: (1 - z_0) * n_of(s, r_0) + z_0 * h[0],
        "reset": lambda s: (1 - z_0) * n_of(h[0], r_of(s)) + z_0 * h[0],
    }
    for name, part in parts.items():
        expected = torch.autograd.functional.jacobian(part, h[0])
        assert torch.allclose(getattr(found, name)[0], expected, atol=1e-12), name


def test_what_does_not_fit_is_named() -> None:
    cell = drawn(0, 2, 4, True)
    with pytest.raises(
        CellError, match=r"x must be \(batch, input\) = \(any, 2\) in torch.float64"
    ):
        jacobian(cell, torch.zeros(1, 3).double(), torch.zeros(1, 4).double())
    with pytest.raises(CellError, match=r"h must be .* got \(1, 4\) in torch.float32"):
        jacobian(cell, torch.zeros(1, 2).double(), torch.zeros(1, 4))
