"""What adds up to a pre-activation: parts by their formulas, of every kind of cell, to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from grulens.adapters import activated
from grulens.cells.kinds import GRU, RNN, UGRNN
from grulens.cells.sums import sums
from grulens.errors import CellError
from tests.kinds import EVERY, made

UNITS = 4


@given(
    kind=st.sampled_from(EVERY),
    seed=st.integers(0, 999),
    unit=st.integers(0, UNITS - 1),
    size=st.sampled_from([0.1, 1.0, 30.0]),
    after=st.booleans(),
)
def test_parts_sum_to_the_pre_activation_that_the_cell_makes(
    kind: Any, seed: int, unit: int, size: float, after: bool
) -> None:
    cell = made(kind, seed, UNITS, size, **({"reset_after": after} if kind is GRU else {}))
    x, state = torch.randn(2, 2).double(), torch.randn(2, cell.state_size).double()
    seen: dict[str, Tensor] = {}

    def watch(name: str, value: Tensor, before: bool) -> Tensor:
        if name in cell.blocks:
            seen.setdefault(name, value)
        return value

    signals = cell.compute(cell.project(x), state, watch)
    found, shown = sums(cell, x, state, unit, row=1)
    for name in cell.blocks:
        one = found[name]
        total = float(one.inputs.sum() + one.units.sum() + one.biases.sum())
        close = 1e-12 * (1 + float(one.inputs.abs().sum() + one.units.abs().sum()))
        assert abs(total - float(seen[name][1, unit])) < close
        assert abs(total - one.value) < close
        assert one.shift == 0
        assert shown[name] == pytest.approx(float(signals[name][1, unit]), abs=1e-12)
    assert shown["h"] == pytest.approx(float(cell.step(cell.project(x), state)[1, unit]), abs=1e-12)


@pytest.mark.parametrize("after", [True, False])
def test_each_part_is_the_formula_s(after: bool) -> None:
    cell = made(GRU, 3, UNITS, reset_after=after)
    x, h, unit = torch.randn(1, 2).double(), torch.randn(1, UNITS).double(), 2
    found, signals = sums(cell, x, h, unit)
    r = cell.compute(cell.project(x), h)["r"][0]
    row = 2 * UNITS + unit
    carried = r[unit] * cell.weight_hh[row] * h[0] if after else cell.weight_hh[row] * (r * h[0])
    bias = r[unit] * cell.bias_hh[row] if after else cell.bias_hh[row]
    torch.testing.assert_close(found["n"].units, carried, rtol=0, atol=1e-14)
    torch.testing.assert_close(found["n"].inputs, cell.weight_ih[row] * x[0], rtol=0, atol=1e-14)
    assert found["n"].biases.tolist() == pytest.approx([float(cell.bias_ih[row]), float(bias)])
    torch.testing.assert_close(
        found["z"].units, cell.weight_hh[UNITS + unit] * h[0], rtol=0, atol=1e-14
    )
    assert signals["r"] == pytest.approx(float(r[unit]))


def test_a_cell_without_biases_has_none() -> None:
    cell = RNN(torch.ones(2, 3), torch.ones(2, 2), None, None)
    found, _ = sums(cell, torch.ones(1, 3), torch.ones(1, 2), 0)
    assert found["a"].biases.tolist() == [0, 0]
    assert found["a"].value == 5


def test_under_inference_mode_and_a_lower_precision() -> None:
    cell = made(GRU, 0, UNITS)
    x, h = torch.randn(1, 2), torch.randn(1, UNITS)
    wanted = sums(cell, x, h, 1)[0]["n"].value
    with torch.inference_mode(), torch.autocast("cpu"):
        assert sums(cell.over(torch.clone), x.clone(), h.clone(), 1)[0]["n"].value == wanted


class Squared(UGRNN):
    """A gate that is no sum over its weights."""

    def compute(self, products: Tensor, state: Tensor, edit: Any = None) -> dict[str, Tensor]:
        pre, c = (products + state @ self.weight_hh.t()).chunk(2, -1)
        _, g = activated("g", pre**2, torch.sigmoid, edit)
        return {"g": g, "c": activated("c", c, torch.tanh, edit)[1]}


class Closed(UGRNN):
    """A cell that asks nobody for its pre-activations."""

    def compute(self, products: Tensor, state: Tensor, edit: Any = None) -> dict[str, Tensor]:
        g, c = (products + state @ self.weight_hh.t()).chunk(2, -1)
        return {"g": torch.sigmoid(g), "c": torch.tanh(c)}


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Squared, "by something else than a sum"), (Closed, "gives no edit the pre-activation of g")],
)
def test_what_is_no_sum_is_refused_by_name(kind: Any, why: str) -> None:
    cell = made(kind, 0, UNITS)
    with pytest.raises(CellError, match=why):
        sums(cell, torch.ones(1, 2).double(), torch.ones(1, UNITS).double(), 0)
