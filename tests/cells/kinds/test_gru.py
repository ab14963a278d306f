"""A cell says what it is, refuses what makes none, and z lets the candidate in if it is told so."""

import copy
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from grulens import Cell
from grulens.cells.activations import HARD_SIGMOID_KERAS2, Clipped, HardSigmoid
from grulens.cells.unroll import run
from grulens.errors import CellError, ConventionError
from tests import reference


def cell(**convention):
    module = nn.GRUCell(3, 4).double()
    held = (module.weight_ih, module.weight_hh, module.bias_ih, module.bias_hh)
    return Cell(*(tensor.detach() for tensor in held), **convention)


def test_a_cell_tells_its_convention():
    before = Cell(torch.zeros(6, 3), torch.zeros(6, 2), None, None, reset_after=False)
    assert repr(before) == "Cell(input 3, hidden 2, float32, reset before the product)"
    assert not before.is_torch
    assert cell(gate=HARD_SIGMOID_KERAS2, candidate=torch.relu).convention == (
        "reset after the product, gate HardSigmoid(alpha=0.2, beta=0.5), candidate relu"
    )
    assert cell(gate=nn.Hardsigmoid()).convention == "reset after the product, gate Hardsigmoid"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bias_hh": torch.zeros(5).double()}, "bias_hh has shape (5,); a cell of 4 units packs r"),
        ({"weight_ih": torch.zeros(9, 3).double()}, "weight_ih has shape (9, 3)"),
        ({"bias_ih": torch.zeros(12)}, "bias_ih is torch.float32, weight_hh is torch.float64"),
        ({"gate": "sigmoid"}, "gate must be a function on tensors"),
        ({"candidate": None}, "candidate must be a function on tensors"),
    ],
)
def test_what_makes_no_cell_is_refused(changed, message):
    with pytest.raises(CellError, match=re.escape(message)):
        replace(cell(), **changed)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize(
    ("gate", "np_gate"),
    [
        (torch.sigmoid, reference.sigmoid),
        (functional.hardsigmoid, lambda v: np.clip(v / 6 + 0.5, 0, 1)),
        (HARD_SIGMOID_KERAS2, lambda v: np.clip(0.2 * v + 0.5, 0, 1)),
        (Clipped(torch.sigmoid, 0.3), lambda v: reference.sigmoid(np.clip(v, -0.3, 0.3))),
    ],
)
def test_z_that_lets_the_candidate_in_is_swapped_exactly(gate, np_gate, reset_after):
    other = cell(gate=gate, reset_after=reset_after)
    x, h = torch.randn(7, 3).double(), np.zeros(4)
    states = []
    for row in x.numpy():
        w = reference.Weights(*(t.numpy() for t in other.parameters))
        found = reference.step(w, row, h, reset_after=reset_after, gate=np_gate)
        h = found["z"] * found["n"] + (1 - found["z"]) * h
        states.append(h)
    swapped = run(other.z_swapped(), x[None], torch.zeros(1, 4).double()).h[0]
    np.testing.assert_allclose(swapped, np.stack(states), atol=1e-14)
    as_it_is = run(other, x[None], torch.zeros(1, 4).double()).h[0]
    assert (as_it_is - swapped).abs().max() > 1e-2


def test_swapping_twice_is_the_same_cell_and_keeps_the_graph():
    one = cell()
    one.weight_hh.requires_grad_()
    swapped = one.z_swapped()
    swapped.weight_hh.sum().backward()
    assert one.weight_hh.grad[:, 0].tolist() == [1.0] * 4 + [-1.0] * 4 + [1.0] * 4
    assert torch.equal(swapped.z_swapped().weight_hh, one.weight_hh)
    assert replace(one, bias_hh=None).z_swapped().bias_hh is None


@pytest.mark.parametrize("gate", [HardSigmoid(0.2, 0.4), torch.relu, torch.cos])
def test_a_gate_that_is_not_symmetric_cannot_be_swapped(gate):
    with pytest.raises(ConventionError, match=r"1 - gate\(a\) = gate\(-a\), and for .* by up to"):
        cell(gate=gate).z_swapped()


def test_a_cell_can_be_pickled_and_copied():
    held = cell(gate=Clipped(torch.sigmoid, 3.0), candidate=HardSigmoid())
    for twin in (pickle.loads(pickle.dumps(held)), copy.deepcopy(held)):
        assert (twin.gate, twin.candidate) == (held.gate, held.candidate)
        assert repr(twin) == repr(held)
        assert torch.equal(twin.weight_hh, held.weight_hh)
    assert pickle.loads(pickle.dumps(cell())).is_torch
