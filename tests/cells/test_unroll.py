"""The mathematics against the reference: both conventions, any activation, rows of any length."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import grulens
from grulens.cells import cell as cell_file
from grulens.cells import unroll as unroll_file
from grulens.cells.activations import (
    HARD_SIGMOID_KERAS2,
    HARD_SIGMOID_KERAS3,
    Clipped,
    HardSigmoid,
    LeakyRelu,
)
from grulens.cells.changes import Change, Program, reverse
from grulens.cells.kinds import gru as gru_file
from grulens.cells.unroll import fused, run, unroll
from grulens.models.adapters.torch_modules import OfSequence
from tests import reference
from tests.drawn import Case, cases, flat

ACTIVATIONS = {
    "torch": (torch.sigmoid, reference.sigmoid, torch.tanh, np.tanh),
    "keras 3": (
        HARD_SIGMOID_KERAS3,
        lambda v: np.clip(v / 6 + 0.5, 0, 1),
        torch.nn.functional.softsign,
        lambda v: v / (1 + abs(v)),
    ),
    "keras 2": (
        HARD_SIGMOID_KERAS2,
        lambda v: np.clip(0.2 * v + 0.5, 0, 1),
        torch.relu,
        lambda v: np.maximum(v, 0),
    ),
    "onnx": (
        Clipped(HardSigmoid(0.4, 0.3), 0.8),
        lambda v: np.clip(0.4 * np.clip(v, -0.8, 0.8) + 0.3, 0, 1),
        LeakyRelu(0.1),
        lambda v: np.where(v > 0, v, 0.1 * v),
    ),
}


@st.composite
def cells(draw):
    """A cell, the reference's weights and its convention."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    module = nn.GRUCell(3, 4, bias=draw(st.booleans())).double()
    after = draw(st.booleans())
    gate, np_gate, candidate, np_candidate = ACTIVATIONS[draw(st.sampled_from(list(ACTIVATIONS)))]
    tensors = [module.weight_ih, module.weight_hh, module.bias_ih, module.bias_hh]
    tensors = [t if t is None else t.detach() for t in tensors]
    cell = grulens.Cell(*tensors, reset_after=after, gate=gate, candidate=candidate)
    convention = {"reset_after": after, "gate": np_gate, "candidate": np_candidate}
    return cell, reference.weights(module, ""), convention


@settings(max_examples=60)
@given(case=cases(), training=st.booleans())
def test_the_loop_equals_the_kernel(case: Case, training):
    """Multiplying every state by 1 changes nothing, and sends every layer through the loop."""
    plain = flat(case.module(*case.args))
    edits = [grulens.scale(name, "h", by=1.0) for name in case.names]
    with grulens.editing(case.module.train(training), *edits):
        looped = flat(case.module(*case.args))
    for one, other in zip(plain, looped, strict=True):
        assert one.shape == other.shape
        assert one.is_contiguous() == other.is_contiguous()
        assert torch.allclose(one, other, rtol=0, atol=case.tolerance)


@given(made=cells(), block=st.integers(1, 9), packed=st.booleans())
def test_run_and_gates_equal_the_reference(made, block, packed):
    cell, w, convention = made
    x = torch.randn(3, 6, 3, dtype=torch.float64)
    h_0 = torch.randn(3, 4, dtype=torch.float64)
    lengths = torch.tensor([2, 6, 5]) if packed else None
    expected = reference.layer(
        w, x.numpy(), h_0.numpy(), lengths.tolist() if packed else [6] * 3, **convention
    )
    valid = torch.arange(6) < (lengths if packed else torch.tensor([6] * 3))[:, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gru_file, "BLOCK_ROWS", block)
        patch.setattr(cell_file, "BLOCK_ROWS", block)
        patch.setattr(unroll_file, "BLOCK_ROWS", block)
        for way in (run, unroll):
            h, last = way(cell, x, h_0, lengths=lengths)
            np.testing.assert_allclose(h[valid], expected["h"][valid], atol=1e-12)
            np.testing.assert_allclose(last, expected["last"], atol=1e-12)
        h_prev = torch.from_numpy(expected["h_prev"])
        for weights_in_graph in (False, True):
            cell.weight_hh.requires_grad_(weights_in_graph)
            found = cell.replay(x, h_prev)
            assert list(found) == ["r", "z", "n"]
            for signal, value in found.items():
                assert value.requires_grad == weights_in_graph
                close = np.testing.assert_allclose
                close(value.detach()[valid], expected[signal][valid], atol=1e-12)
        cell.weight_hh.requires_grad_(False)


@given(made=cells())
def test_the_gates_make_the_states_again(made):
    cell, _, _ = made
    x, h_0 = torch.randn(3, 6, 3).double(), torch.randn(3, 4).double()
    h = run(cell, x, h_0).h
    h_prev = torch.cat([h_0[:, None], h[:, :-1]], 1)
    torch.testing.assert_close(cell.output(cell.replay(x, h_prev), h_prev), h)


@given(made=cells(), edited=st.booleans())
def test_the_loop_has_the_gradient_of_what_it_computes(made, edited):
    """Activations are written over their argument: the graph must not need what was there."""
    cell, _, _ = made
    x, h_0 = torch.randn(2, 3, 3).double(), torch.randn(2, 4).double()
    one = torch.ones(1, 1, 1).double()
    where = torch.ones(1, 1, 1, dtype=torch.bool)
    changes = [Change(s, where, one, 0.1 * one, before) for s in "rzn" for before in (True, False)]
    program = Program(changes, 3, x) if edited else None
    weights = [t.requires_grad_() for t in (*cell.parameters, x, h_0)]
    assert torch.autograd.gradcheck(
        lambda *_: unroll(cell, x, h_0, program).h, weights, eps=1e-7, atol=1e-4, fast_mode=True
    )


@given(made=cells(), first=st.integers(0, 5), last=st.integers(0, 5), packed=st.booleans())
def test_a_run_that_is_changed_for_some_steps_equals_the_loop_over_all(made, first, last, packed):
    cell, _, _ = made
    x, h_0 = torch.randn(3, 6, 3).double(), torch.randn(3, 4).double()
    lengths = torch.tensor([2, 6, 5]) if packed else None
    where = ((torch.arange(6) >= first) & (torch.arange(6) <= last)).reshape(1, 6, 1)
    zero, one = torch.zeros(1, 1, 1).double(), torch.ones(1, 1, 1).double()
    program = Program([Change("h", where, zero, 2 * one)], 6, x)
    assert (program.first, program.stop) == ((first, last + 1) if first <= last else (6, 6))
    whole = unroll(cell, x, h_0, program, lengths=lengths)
    for one, other in zip(run(cell, x, h_0, program, lengths), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_only_the_steps_from_the_first_touched_to_the_last_are_looped_over(monkeypatch):
    looped = []
    real = unroll_file.unroll
    monkeypatch.setattr(
        unroll_file, "unroll", lambda *a, **k: looped.append(a[1].shape[1]) or real(*a, **k)
    )
    module, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 20, 3)
    grulens.record(module, x, edits=grulens.ablate("l0", 1, at=[7, 9]))
    assert looped == [3]


def test_nothing_before_the_first_touched_step_moves_by_a_bit():
    module, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 20, 3)
    plain, edited = module(x)[0], grulens.record(
        module, x, edits=grulens.clamp("l0", "z", 1, value=1.0, at=7)
    ).output[0]  # fmt: skip
    assert torch.equal(plain[:, :7], edited[:, :7])
    assert not torch.allclose(plain[:, 7:], edited[:, 7:], atol=1e-3)


def test_fused_is_the_kernel_itself():
    module, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3)
    # the module's own weights: the kernel rounds another way for weights that need no gradient
    cell = OfSequence().cells_of(module)[0, 0]
    assert torch.equal(fused(cell, x, torch.zeros(2, 4)).h, module(x)[0])


def test_reverse_turns_each_row_within_its_own_length():
    value = torch.arange(1.0, 9).reshape(2, 4, 1)
    assert reverse(value, torch.tensor([4, 2]))[..., 0].tolist() == [[4, 3, 2, 1], [6, 5, 7, 8]]
    assert reverse(value, None)[0, :, 0].tolist() == [4, 3, 2, 1]
    assert reverse(value[:, :1], torch.tensor([4, 2]), steps=4) is not None


def test_a_set_signal_forgets_even_nan():
    one = torch.ones(1, 1, 1)
    where = torch.ones(1, 1, 1, dtype=torch.bool)
    program = Program([Change("h", where, 0 * one, 5 * one)], 1, one)
    assert program.apply("h", torch.full((1, 1, 2), torch.nan)).tolist() == [[[5.0, 5.0]]]
