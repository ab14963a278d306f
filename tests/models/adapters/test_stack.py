"""GRUStack: cells of any convention as a module, against the reference; an nn.GRU where it can."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens import Cell, ablate, clamp, editing, layers, record
from grulens.adapters import GRUStack
from grulens.errors import CellError
from tests import reference


def cell(inputs: int = 3, units: int = 4, **convention: Any) -> Cell:
    shapes = ((3 * units, inputs), (3 * units, units), (3 * units,), (3 * units,))
    return Cell(*(0.5 * torch.randn(s, dtype=torch.float64) for s in shapes), **convention)


def before(inputs: int = 3) -> Cell:
    return cell(inputs, reset_after=False, gate=nn.functional.hardsigmoid, candidate=torch.relu)


def by_hand(c: Cell, x: torch.Tensor) -> np.ndarray:
    """States of one row, step by step, by the reference."""
    w = reference.Weights(*(t.numpy() for t in c.parameters))
    h, states = np.zeros(c.hidden_size), []
    for row in x.numpy():
        h = reference.step(
            w, row, h, reset_after=c.reset_after,
            gate=lambda v: np.clip(v / 6 + 0.5, 0, 1), candidate=lambda v: np.maximum(v, 0),
        )["h"]  # fmt: skip
        states.append(h)
    return np.stack(states)


def test_two_levels_both_ways_are_what_the_formulas_say() -> None:
    cells = [(before(), before()), (before(8), before(8))]
    x = torch.randn(1, 6, 3, dtype=torch.float64)
    output, h_n = GRUStack(cells)(x)
    rows = x[0]
    for forward, backward in cells:
        one, other = by_hand(forward, rows), by_hand(backward, rows.flip(0))[::-1]
        rows = torch.tensor(np.concatenate([one, other], 1))
    assert torch.allclose(output[0], rows, atol=1e-12)
    assert torch.allclose(h_n[2:, 0], torch.stack([rows[-1, :4], rows[0, 4:]]), atol=1e-12)


def test_every_form_gives_the_same_numbers() -> None:
    cells = [before(), before(4)]
    stack, turned = GRUStack(cells), GRUStack(cells, batch_first=False)
    x, h_0 = torch.randn(2, 5, 3).double(), torch.randn(2, 2, 4).double()
    output, h_n = stack(x, h_0)
    assert torch.allclose(turned(x.transpose(0, 1), h_0)[0].transpose(0, 1), output)
    assert torch.allclose(stack(x[1], h_0[:, 1])[0], output[1])
    packed, last = stack(pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True), h_0)
    padded, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    assert torch.allclose(padded[0], output[0])
    assert torch.allclose(padded[1, :3], output[1, :3])
    assert torch.allclose(last[1, 1], output[1, 2])
    assert torch.allclose(h_n[1], output[:, -1])


def test_it_goes_under_the_lens() -> None:
    stack = GRUStack([before(), before(4)])
    model, x = nn.ModuleDict({"rnn": stack}), torch.randn(2, 5, 3).double()
    assert [layer.name for layer in layers(model)] == ["rnn.l0", "rnn.l1"]
    assert layers(stack)[0].convention.startswith("reset before the product")
    plain, _ = stack(x)
    run = record(stack, x)
    assert torch.equal(run.output[0], plain)
    assert run.residual < 1e-12
    edited = record(
        stack, x, edits=[clamp("l0", "z", 1, value=0.5), ablate("l1", 2, at=slice(2, 4))]
    )
    assert edited.residual < 1e-12
    assert torch.all(edited["l0"].z[..., 1] == 0.5)
    with editing(stack, clamp("l0", "z", 1, value=0.5), ablate("l1", 2, at=slice(2, 4))):
        assert torch.equal(stack(x)[0], edited.output[0])
    assert torch.equal(stack(x)[0], plain)


def test_it_trains_saves_and_copies() -> None:
    stack, other = GRUStack([before()]), GRUStack([before()])
    x = torch.randn(2, 5, 3).double()
    stack(x)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in stack.parameters())
    assert list(stack.state_dict()) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    other.load_state_dict(stack.state_dict())
    assert torch.equal(other(x)[0], stack(x)[0])
    twin = copy.deepcopy(stack)
    assert torch.equal(twin(x)[0], stack(x)[0])
    held = io.BytesIO()
    torch.save(stack, held)
    held.seek(0)
    assert torch.equal(torch.load(held, weights_only=False)(x)[0], stack(x)[0])


def test_where_torch_can_express_it_it_is_an_nn_gru() -> None:
    cells = [(cell(), cell()), (cell(8), cell(8))]
    stack = GRUStack(cells, batch_first=False)
    assert type(stack) is nn.GRU
    assert (stack.num_layers, stack.bidirectional, stack.batch_first) == (2, True, False)
    for suffix, c in (("_l0", cells[0][0]), ("_l1_reverse", cells[1][1])):
        assert torch.equal(getattr(stack, f"weight_hh{suffix}"), c.weight_hh)
        assert torch.equal(getattr(stack, f"bias_ih{suffix}"), c.bias_ih)
    assert type(GRUStack(replace(cell(), bias_hh=None))) is GRUStack
    assert type(GRUStack([replace(cell(), bias_hh=None, bias_ih=None)])) is nn.GRU


def test_one_bias_alone_counts() -> None:
    whole = cell()
    half = replace(whole, bias_hh=None)
    x = torch.randn(1, 5, 3).double()
    expected, _ = GRUStack(replace(whole, bias_hh=torch.zeros(12).double()))(x)
    stack = GRUStack(half)
    assert torch.allclose(stack(x)[0], expected, atol=1e-12)
    assert record(stack, x).residual < 1e-12


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([], "expected a cell .* or a sequence of them"),
        (3, "expected a cell .* or a sequence of them"),
        ([3], "level 0 must be a cell, or a pair"),
        ([(cell(), cell(), cell())], "level 0 must be a cell, or a pair"),
        ([cell(), (cell(4), cell(4))], "level 1 has 2 directions, level 0 1"),
        ([cell(), cell(5)], "it takes 4 inputs"),
        ([cell(), cell(4, 5)], "all levels have 4 units"),
    ],
)
def test_cells_that_do_not_fit_are_refused(cells: Any, message: str) -> None:
    with pytest.raises(CellError, match=message):
        GRUStack(cells)


@pytest.mark.parametrize(
    "args",
    [(torch.randn(1, 5, 2).double(),), (torch.randn(1, 5, 3),), (torch.randn(1, 0, 3).double(),),
     (torch.randn(1, 5, 3).double(), torch.zeros(1, 2, 4).double())],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(args: Any) -> None:
    with pytest.raises(CellError, match="takes 3 inputs over at least one step"):
        GRUStack(before())(*args)
