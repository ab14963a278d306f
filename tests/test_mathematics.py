"""The formulas of docs/mathematics.md, as they stand there, against what grulens computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grulens import clamp, editing, record, scale, shift, sweep
from grulens.credit import layerwise_relevance
from grulens.phrases import contextual_decomposition

UNITS, STEPS = 4, 6
close = {"atol": 1e-12, "rtol": 1e-10}


@pytest.fixture
def model() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(3, UNITS, batch_first=True), nn.Linear(UNITS, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.rnn(x)[0])
            return out

    return Model().double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(1, STEPS, 3).double()


@torch.no_grad()
def test_layerwise_relevance(model: nn.Module, x: Tensor) -> None:
    eps, one = 0.05, torch.ones(()).double()
    layer = record(model, x)["rnn.l0"]
    (_, _, w_in), (_, _, w_hn) = model.rnn.weight_ih_l0.chunk(3), model.rnn.weight_hh_l0.chunk(3)
    (_, _, b_in), (_, _, b_hn) = model.rnn.bias_ih_l0.chunk(3), model.rnn.bias_hh_l0.chunk(3)

    def denominator(s: Tensor) -> Tensor:
        return 1 / (s + eps * torch.where(s < 0, -one, one))

    R = model.head.weight[1] * layer.h[0, -1]
    inputs, bias = torch.zeros_like(x[0]), model.head.bias[1]
    for t in reversed(range(STEPS)):
        z, r, n, h, h_prev = (getattr(layer, s)[0, t] for s in ("z", "r", "n", "h", "h_prev"))
        s_n = w_in @ x[0, t] + b_in + r * (w_hn @ h_prev + b_hn)
        g = denominator(s_n) * (1 - z) * n * denominator(h) * R
        inputs[t] = x[0, t] * (w_in.T @ g)
        bias = bias + (b_in + r * b_hn) @ g
        R = z * h_prev * denominator(h) * R + h_prev * (w_hn.T @ (r * g))
    found = layerwise_relevance(model, x, target=1, eps=eps)
    torch.testing.assert_close(found.inputs[0], inputs, **close)
    torch.testing.assert_close(found.initial[0], R, **close)
    torch.testing.assert_close(found.bias[0], bias, **close)


@torch.no_grad()
def test_contextual_decomposition(model: nn.Module, x: Tensor) -> None:
    layer = record(model, x)["rnn.l0"]
    (w_ir, w_iz, w_in) = model.rnn.weight_ih_l0.chunk(3)
    (w_hr, w_hz, w_hn) = model.rnn.weight_hh_l0.chunk(3)
    (b_ir, b_iz, b_in), (b_hr, b_hz, b_hn) = (
        b.chunk(3) for b in (model.rnn.bias_ih_l0, model.rnn.bias_hh_l0)
    )
    sigma, tanh = torch.sigmoid, torch.tanh
    c_r, c_z = b_ir + b_hr, b_iz + b_hz
    r0, z0 = sigma(c_r), sigma(c_z)
    c_n = b_in + r0 * b_hn
    n0 = tanh(c_n)

    def shapley(f, u, c, s):  # type: ignore[no-untyped-def]
        return (f(c + u) - f(c) + f(s) - f(s - u)) / 2

    beta, betas = torch.zeros(UNITS).double(), []
    for t in range(STEPS):
        one, h = x[0, t], layer.h_prev[0, t]
        held = one if 1 <= t < 4 else 0 * one
        s_r, s_z = w_ir @ one + w_hr @ h + c_r, w_iz @ one + w_hz @ h + c_z
        s_n = w_in @ one + b_in + sigma(s_r) * (w_hn @ h + b_hn)
        r = shapley(sigma, w_ir @ held + w_hr @ beta, c_r, s_r)
        z = shapley(sigma, w_iz @ held + w_hz @ beta, c_z, s_z)
        p = (r + r0) * (w_hn @ beta) + r * b_hn
        n = shapley(tanh, w_in @ held + p, c_n, s_n)
        beta = (1 - z0 - z) * n - z * n0 + (z0 + z) * beta
        betas.append(beta)
    found = contextual_decomposition(model, x, phrases=[slice(1, 4)])
    torch.testing.assert_close(found.beta[0, 0], torch.stack(betas), **close)
    torch.testing.assert_close(
        found.scores[0, 0], torch.stack(betas) @ model.head.weight.T, **close
    )


def test_the_effect_is_the_integral_of_the_slope_and_the_estimate_its_beginning(
    model: nn.Module, x: Tensor
) -> None:
    unit, value = 2, 0.7

    def slope(a: float, width: float = 1e-3) -> float:
        """F'(a), by differences of eighth order."""
        weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
        pairs = (
            w * (faded_in(a + k * width) - faded_in(a - k * width)) for k, w in weights.items()
        )
        return sum(pairs) / width

    def faded_in(a: float) -> float:
        faded = scale("rnn.l0", "h", unit, by=1 - a), shift("rnn.l0", "h", unit, by=a * value)
        with torch.no_grad(), editing(model, *faded):
            return float(model(x)[0, -1, 0])

    def found(method: str) -> float:
        return float(
            sweep(
                model, x, layer="rnn.l0", units=[unit], method=method, progress=False,
                make_edit=lambda layer, at, **how: clamp(layer, "h", at, value=value, **how),
                readout=lambda output: output[0, -1, 0],
            ).effect
        )  # fmt: skip

    exact, estimate = found("exact"), found("gradient")
    nodes, weights = np.polynomial.legendre.leggauss(8)
    way = sum(w / 2 * slope((1 + at) / 2) for at, w in zip(nodes, weights, strict=True))
    assert way == pytest.approx(exact, abs=1e-9)
    assert slope(0.0) == pytest.approx(estimate, abs=1e-9)
    assert abs(exact - estimate) > 1e-3  # and so it is an estimate
