"""Relevance back through one cell: the ledger closes, and it is the rules written out in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from grulens import Cell
from grulens.cells.credit.relevance import Relevance, relevance
from tests import reference
from tests.cells.phrases.test_decomposition import Drawn, drawn


def handed_back(
    terms: np.ndarray, total: float, given_: float, eps: float
) -> tuple[np.ndarray, float]:
    """One sum: what its terms get, and what is lost."""
    whole = total + (-eps if total < 0 else eps)
    if whole == 0:
        return np.zeros_like(terms), given_
    return terms / whole * given_, given_ * (-eps if total < 0 else eps) / whole


def written_out(
    w: reference.Weights, x: np.ndarray, h_0: np.ndarray, incoming: np.ndarray, eps: float,
    **convention: Any,
) -> tuple[np.ndarray, np.ndarray, float, float]:  # fmt: skip
    """One row, every sum by itself: inputs (time, input), initial, bias, absorbed."""
    H, steps = len(h_0), []
    h = h_0
    for one in x:
        steps.append(reference.step(w, one, h, **convention))
        h = steps[-1]["h"]
    W, U, b, c = w.ih[2 * H :], w.hh[2 * H :], w.b_ih[2 * H :], w.b_hh[2 * H :]
    back, bias, lost = np.zeros(H), 0.0, 0.0
    inputs = np.zeros_like(x)
    for t in reversed(range(len(x))):
        s, R, back = steps[t], incoming[t] + back, np.zeros(H)
        for i in range(H):
            terms = np.array([(1 - s["z"][i]) * s["n"][i], s["z"][i] * s["h_prev"][i]])
            (to_n, stayed), off = handed_back(terms, terms.sum(), R[i], eps)
            back[i] += stayed
            lost += off
            into = W[i] * s["x"]
            if convention["reset_after"]:
                recurrent, fixed = s["r"][i] * U[i] * s["h_prev"], b[i] + s["r"][i] * c[i]
            else:
                recurrent, fixed = U[i] * s["r"] * s["h_prev"], b[i] + c[i]
            terms = np.concatenate([into, recurrent, [fixed]])
            shares, off = handed_back(terms, terms.sum(), to_n, eps)
            inputs[t] += shares[: len(into)]
            back += shares[len(into) : -1]
            bias += shares[-1]
            lost += off
    return inputs, back, bias, lost


def of(case: Drawn, incoming: Tensor, eps: float) -> Relevance:
    return relevance(case.cell, case.x, case.h_prev, incoming, eps)


@given(drawn(), st.sampled_from([1e-3, 0.1, 2.0]))
def test_it_is_the_rules_written_out(case: Drawn, eps: float) -> None:
    incoming = torch.randn_like(case.h)
    found = of(case, incoming, eps)
    for row in range(len(case.x)):
        want = written_out(
            case.weights, case.x[row].numpy(), case.h_0[row].numpy(), incoming[row].numpy(), eps,
            **case.convention,
        )  # fmt: skip
        got = (found.inputs, found.initial, found.bias, found.absorbed)
        size = max(1.0, *(float(np.abs(part).max()) for part in want))
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one[row].numpy(), other, atol=1e-9 * size)


@given(drawn(), st.sampled_from([0.0, 1e-6, 1e-3, 1.0]))
def test_what_is_given_is_found_again(case: Drawn, eps: float) -> None:
    incoming = torch.randn_like(case.h)
    found = of(case, incoming, eps)
    parts = (found.inputs.sum((1, 2)), found.initial.sum(1), found.bias, found.absorbed)
    size = max(1.0, *(float(part.abs().max()) for part in parts), float(found.inputs.abs().max()))
    assert torch.allclose(sum(parts), incoming.sum((1, 2)), atol=1e-9 * size)


def test_a_gate_that_keeps_everything_hands_everything_to_h_0() -> None:
    H = 3
    bias = torch.zeros(3 * H).double()
    bias[H : 2 * H] = 1e3  # z = 1
    cell = Cell(
        torch.randn(9, 2).double(), torch.zeros(9, 3).double(), bias, torch.zeros(9).double()
    )
    h_0 = torch.randn(1, 3).double()
    h_prev = h_0[:, None].expand(1, 4, 3)
    incoming = torch.zeros(1, 4, 3).double()
    incoming[0, 3] = torch.tensor([1.0, -2.0, 3.0])
    found = relevance(cell, torch.randn(1, 4, 2).double(), h_prev, incoming, 0.0)
    assert torch.allclose(found.initial, incoming[:, 3])
    assert found.inputs.eq(0).all()
    assert repr(found) == "Relevance(batch 1, time 4, input 2)"


def test_a_sum_of_nothing_loses_what_it_is_given() -> None:
    cell = Cell(torch.zeros(6, 1).double(), torch.zeros(6, 2).double(), None, None)
    zero = torch.zeros(1, 1, 2).double()
    found = relevance(cell, torch.ones(1, 1, 1).double(), zero, zero + 3.0, 0.0)
    assert (float(found.absorbed), float(found.inputs.abs().sum())) == (6.0, 0.0)
