"""Contextual decomposition of one cell, against the rule written out part by part in numpy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from grulens import Cell
from grulens.cells.activations import HardSigmoid
from grulens.cells.phrases.decomposition import contextual, shapley
from grulens.cells.unroll import unroll
from tests import reference
from tests.cells.test_unroll import ACTIVATIONS

Function = Callable[[np.ndarray], np.ndarray]


class Parts(NamedTuple):
    """A signal of one step as the phrase's part, the rest's and the bias's."""

    beta: np.ndarray
    gamma: np.ndarray
    bias: np.ndarray

    def __add__(self, other: Any) -> Parts:
        return Parts(*(a + b for a, b in zip(self, other, strict=True)))

    def __mul__(self, other: Any) -> Parts:
        """All nine products, each to whom the rule gives it."""
        (b, g, c), (B, G, C) = self, other
        return Parts(b * B + b * C + c * B, g * B + g * G + g * C + b * G + c * G, c * C)

    def under(self, weight: np.ndarray) -> Parts:
        return Parts(*(weight @ part for part in self))

    def through(self, f: Function) -> Parts:
        """The bias first, then phrase and rest in both orders."""
        found = {"beta": 0.0, "gamma": 0.0}
        for order in permutations(found):
            so_far = self.bias
            for name in order:
                after = so_far + getattr(self, name)
                found[name] = found[name] + (f(after) - f(so_far)) / 2
                so_far = after
        return Parts(found["beta"], found["gamma"], f(self.bias))


def written_out(
    w: reference.Weights,
    xs: np.ndarray,
    held: np.ndarray,
    h_0: np.ndarray,
    *,
    reset_after: bool = True,
    gate: Function = reference.sigmoid,
    candidate: Function = np.tanh,
) -> tuple[np.ndarray, np.ndarray]:
    """beta and gamma (time, unit) of one row, one phrase; gamma by its own terms.

    `held` is the phrase's part of the input (time, input).
    """
    H = len(h_0)
    rows = {"r": slice(0, H), "z": slice(H, 2 * H), "n": slice(2 * H, 3 * H)}
    zero = np.zeros(H)
    h = Parts(zero, h_0, zero)
    betas, gammas = [], []
    for x, beta in zip(xs, held, strict=True):
        part = Parts(beta, x - beta, np.zeros_like(x))

        def of(name: str, part: Parts = part, h: Parts = h) -> tuple[Parts, Parts]:
            row = rows[name]
            into = part.under(w.ih[row]) + Parts(zero, zero, w.b_ih[row])
            return into, h.under(w.hh[row]) + Parts(zero, zero, w.b_hh[row])

        r = sum_(of("r")).through(gate)
        z = sum_(of("z")).through(gate)
        into, recurrent = of("n")
        if reset_after:
            n = (into + r * recurrent).through(candidate)
        else:
            reset = (r * h).under(w.hh[rows["n"]]) + Parts(zero, zero, w.b_hh[rows["n"]])
            n = (into + reset).through(candidate)
        enters = Parts(-z.beta, -z.gamma, 1 - z.bias) * n
        stays = z * h
        new = enters + stays
        h = Parts(new.beta, new.gamma + new.bias, zero)
        betas.append(h.beta)
        gammas.append(h.gamma)
    return np.array(betas), np.array(gammas)


def sum_(parts: tuple[Parts, Parts]) -> Parts:
    return parts[0] + parts[1]


class Drawn(NamedTuple):
    """A cell, its run and phrases of its input."""

    cell: Cell
    weights: reference.Weights
    convention: dict[str, Any]
    x: Tensor
    h_0: Tensor
    inside: Tensor  # (phrase, batch, time)

    @property
    def h(self) -> Tensor:
        return unroll(self.cell, self.x, self.h_0).h

    @property
    def h_prev(self) -> Tensor:
        return torch.cat([self.h_0[:, None], self.h[:, :-1]], 1)

    def beta(self, inside: Tensor | None = None) -> Tensor:
        inside = self.inside if inside is None else inside
        return contextual(self.cell, self.x, self.h_prev, self.x * inside[..., None])


@st.composite
def drawn(draw: st.DrawFn, bias: bool | None = None) -> Drawn:
    torch.manual_seed(draw(st.integers(0, 2**16)))
    batch, steps, width, units, phrases = (draw(st.integers(1, n)) for n in (2, 5, 3, 4, 3))
    held = draw(st.booleans()) if bias is None else bias
    module = nn.GRUCell(width, units, bias=held).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    tensors = [getattr(module, n).detach() if "w" in n or held else None for n in names]
    after, kind = draw(st.booleans()), draw(st.sampled_from(sorted(ACTIVATIONS)))
    gate, np_gate, candidate, np_candidate = ACTIVATIONS[kind]
    if kind == "keras 3":  # torch's own hard sigmoid has a sixth in float32 only
        gate = HardSigmoid(1 / 6, 0.5)
    cell = Cell(*tensors, reset_after=after, gate=gate, candidate=candidate)
    convention = {"reset_after": after, "gate": np_gate, "candidate": np_candidate}
    weights = reference.weights(module, "")
    x, h_0 = torch.randn(batch, steps, width).double(), torch.randn(batch, units).double()
    inside = torch.rand(phrases, batch, steps) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return Drawn(cell, weights, convention, x, h_0, inside)


@given(drawn())
def test_both_parts_are_those_of_the_rule_and_make_the_state(case: Drawn) -> None:
    found, h = case.beta(), case.h.numpy()
    for phrase, row in np.ndindex(case.inside.shape[:2]):
        beta, gamma = written_out(
            case.weights, case.x[row].numpy(),
            (case.x[row] * case.inside[phrase, row][:, None]).numpy(), case.h_0[row].numpy(),
            **case.convention,
        )  # fmt: skip
        np.testing.assert_allclose(found[phrase, row].numpy(), beta, atol=1e-10, rtol=1e-10)
        np.testing.assert_allclose(h[row] - beta, gamma, atol=1e-10, rtol=1e-10)


@given(drawn())
def test_a_phrase_makes_nothing_before_it_begins(case: Drawn) -> None:
    beta = case.beta()
    begun = case.inside.int().cummax(2).values.bool()
    assert beta[~begun].eq(0).all()
    assert case.beta(torch.zeros_like(case.inside)).eq(0).all()


@given(drawn(bias=False))
def test_of_the_whole_input_without_biases_nothing_is_the_rests(case: Drawn) -> None:
    case = case._replace(h_0=torch.zeros_like(case.h_0))
    beta = case.beta(torch.ones_like(case.inside))
    torch.testing.assert_close(beta, case.h.expand_as(beta), atol=1e-12, rtol=1e-12)


def test_the_whole_input_leaves_to_the_rest_what_biases_and_h_0_made() -> None:
    torch.manual_seed(0)
    module = nn.GRUCell(2, 3).double()
    cell = Cell(*(p.detach() for p in module.parameters()))
    h_0 = torch.randn(1, 3).double()
    alone = unroll(cell, torch.zeros(1, 4, 2).double(), h_0).h
    h_prev = torch.cat([h_0[:, None], alone[:, :-1]], 1)
    x = torch.zeros(1, 4, 2).double()
    assert contextual(cell, x, h_prev, x[None]).eq(0).all()  # an input of nothing is not there
    begun = contextual(cell, x, h_prev, x[None], h_0[None])  # h_0 may be a phrase's, too
    assert begun.abs().sum() > 0


def test_more_steps_than_a_block_are_the_same() -> None:
    torch.manual_seed(1)
    module = nn.GRUCell(2, 3).double()
    cell = Cell(*(p.detach() for p in module.parameters()))
    x = torch.randn(1, 150, 2).double()
    h = unroll(cell, x, torch.zeros(1, 3).double()).h
    h_prev = torch.cat([torch.zeros(1, 1, 3).double(), h[:, :-1]], 1)
    inside = torch.zeros(150).bool()
    inside[70:140] = True
    held = (x[0] * inside[:, None]).numpy()
    beta, _ = written_out(reference.weights(module, ""), x[0].numpy(), held, np.zeros(3))
    found = contextual(cell, x, h_prev, x[None] * inside[:, None])
    np.testing.assert_allclose(found[0, 0].numpy(), beta, atol=1e-12)


@pytest.mark.parametrize("f", [torch.tanh, torch.sigmoid, torch.relu])
def test_shapley_values_share_out_what_the_bias_leaves(f: Any) -> None:
    b, g, c = torch.randn(3, 9, dtype=torch.float64)
    of = {name: shapley(f, part, c, f(c), b + g + c, f(b + g + c)) for name, part in
          (("b", b), ("g", g))}  # fmt: skip
    torch.testing.assert_close(of["b"] + of["g"] + f(c), f(b + g + c))
    torch.testing.assert_close(shapley(f, b, c, f(c), b + c, f(b + c)), f(b + c) - f(c))
