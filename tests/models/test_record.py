"""Recording: the output is untouched, and what is recorded is what the formulas say."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import grulens
from grulens.errors import NonFiniteWarning, WeightsChangedError
from tests import reference
from tests.drawn import Case, cases, same_bits

SIGNALS = ("x", "h_prev", "r", "z", "n", "h")


@settings(max_examples=60)
@given(case=cases(dropout=True), training=st.booleans(), grad=st.booleans())
def test_recording_changes_no_bit_of_the_output_nor_of_the_random_numbers(case, training, grad):
    module = case.module.train(training)
    torch.manual_seed(1)
    plain = module(*case.args)
    after = torch.get_rng_state()
    torch.manual_seed(1)
    recording = grulens.record(module, *case.args, grad=grad)
    assert torch.equal(torch.get_rng_state(), after)
    assert same_bits(recording.output, plain)
    assert list(recording) == case.names
    assert recording.residual <= case.tolerance
    assert torch.equal(torch.get_rng_state(), after)


@settings(max_examples=60)
@given(case=cases(), grad=st.booleans())
def test_every_signal_equals_the_reference(case: Case, grad):
    expected = reference.model(case.module, case.rows, case.h_0, case.lengths)
    recording = grulens.record(case.module, *case.args, grad=grad)
    mask = np.arange(case.rows.shape[1]) < np.array(case.lengths)[:, None]
    for name, signals in expected.items():
        layer = recording[name]
        assert (layer.mask.numpy() == mask).all()
        for signal in SIGNALS:
            found = layer.signal(signal)
            assert found.dtype == case.rows.dtype
            tolerance = max(case.tolerance * 5, 1e-12)
            np.testing.assert_allclose(
                found.detach().double().numpy(), signals[signal], atol=tolerance, err_msg=signal
            )


@given(case=cases(dtypes=[torch.float64], dropout=True))
def test_with_dropout_the_recorded_inputs_are_the_masked_states_of_the_layer_below(case: Case):
    module = case.module.train()
    recording = grulens.record(module, *case.args)
    for level in range(1, module.num_layers):
        below = [recording[name].h for name in case.names if name.startswith(f"l{level - 1}")]
        h, x = torch.cat(below, 2), recording[f"l{level}"].x
        dropped = x == 0
        assert torch.allclose(x[~dropped], h[~dropped] / (1 - module.dropout))
        valid = recording["l0"].mask[..., None].expand_as(x)
        if valid.sum() > 60:
            assert 0.1 < dropped[valid].double().mean() < 0.8


@given(case=cases(dtypes=[torch.float32]))
def test_a_recording_is_its_own_whatever_happens_to_the_tensors_later(case: Case):
    for edits in ((), [grulens.scale(case.names[0], "h", by=0.5)]):
        for grad in (False, True):
            recording = grulens.record(case.module, *case.args, edits=edits, grad=grad)
            again = grulens.record(case.module, *case.args, edits=edits, grad=grad)
            with torch.no_grad():
                for tensor in (*(a for a in case.args), *again.output):
                    data = getattr(tensor, "data", tensor)
                    data.mul_(3.0)
            for name in case.names:
                for signal in SIGNALS:
                    one, other = recording[name].signal(signal), again[name].signal(signal)
                    assert torch.equal(one, other), (signal, grad, bool(edits))
            with torch.no_grad():
                for tensor in case.args:
                    getattr(tensor, "data", tensor).div_(3.0)
            # division may not bring every bit back: what follows starts anew from these tensors


def test_a_layer_given_by_name_is_the_only_one_kept():
    module = nn.GRU(3, 4, num_layers=2)
    x = torch.randn(5, 2, 3)
    assert list(grulens.record(module, x, layers="l1")) == ["l1"]
    assert list(grulens.record(module, x, layers=["l1", "l0"])) == ["l0", "l1"]


def test_gates_are_computed_for_the_asked_layer_only(monkeypatch):
    asked = []
    real = grulens.Cell.replay
    monkeypatch.setattr(
        grulens.Cell, "replay", lambda cell, *a: asked.append(cell) or real(cell, *a)
    )
    recording = grulens.record(nn.GRU(3, 4, num_layers=3), torch.randn(5, 2, 3))
    assert asked == []
    z = recording["l1"].z
    assert asked == [recording["l1"].cell]
    assert recording["l1"].z is z
    assert recording["l1"].r is not None
    assert len(asked) == 1


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gates_alone_are_the_same_bits_and_no_more_is_made(kind, bidirectional, monkeypatch):
    rnn = kind(3, 4, bidirectional=bidirectional)
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(6, 2, 3), torch.tensor([6, 4]))
    layers = grulens.record(rnn, packed).values()
    alone = [layer.gates() for layer in layers]
    made = [
        {s.name: layer.signal(s.name) for s in layer.cell.signals if s.is_gate} for layer in layers
    ]
    for one, other in zip(alone, made, strict=True):
        assert (
            [*one] == [*other] == {nn.GRU: ["r", "z"], nn.LSTM: ["i", "f", "o"], nn.RNN: []}[kind]
        )
        assert all(torch.equal(one[name], other[name]) for name in one)
    asked = []
    monkeypatch.setattr(torch, "tanh", lambda *a, **k: asked.append(a))
    grulens.record(nn.GRU(3, 4), torch.randn(6, 2, 3))["l0"].gates()
    assert not asked


def test_later_training_does_not_move_a_recording():
    module, x = nn.GRU(3, 4), torch.randn(5, 2, 3)
    one, other = grulens.record(module, x), grulens.record(module, x)
    z = one["l0"].z
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert torch.equal(other["l0"].z, z)


def test_with_grad_the_signals_are_part_of_the_graph_and_equal_autograd_of_a_loop():
    torch.manual_seed(0)
    module = nn.GRU(3, 4, num_layers=2, batch_first=True).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    layer = grulens.record(module, x, grad=True)["l1"]
    (layer.z.pow(2).sum() + layer.r.sum() + layer.h.prod()).backward()
    found = [x.grad, *(p.grad for p in module.parameters())]
    x.grad = None
    module.zero_grad()

    def loop(rows, level):
        W, U, b, c = (
            getattr(module, f"{kind}_l{level}")
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h = torch.zeros(2, 4, dtype=torch.float64)
        kept = []
        for t in range(5):
            i_r, i_z, i_n = (rows[:, t] @ W.T + b).chunk(3, 1)
            h_r, h_z, h_n = (h @ U.T + c).chunk(3, 1)
            r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
            h = (1 - z) * torch.tanh(i_n + r * h_n) + z * h
            kept.append((r, z, h))
        return [torch.stack(s, 1) for s in zip(*kept, strict=True)]

    r, z, h = loop(loop(x, 0)[2], 1)
    (z.pow(2).sum() + r.sum() + h.prod()).backward()
    for one, other in zip(found, [x.grad, *(p.grad for p in module.parameters())], strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_without_grad_nothing_of_a_recording_is_in_a_graph():
    x = torch.randn(5, 2, 3, requires_grad=True)
    recording = grulens.record(nn.GRU(3, 4), x)
    assert not recording.output[0].requires_grad
    assert not any(recording["l0"].signal(s).requires_grad for s in SIGNALS)


def test_gates_read_after_the_weights_moved_say_so():
    module = nn.GRU(3, 4)
    recording = grulens.record(module, torch.randn(5, 2, 3), grad=True)
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    with pytest.raises(WeightsChangedError, match="weights of layer 'l0' were changed in place"):
        _ = recording["l0"].z


def test_recording_works_in_inference_mode():
    module, x = nn.GRU(3, 4), torch.randn(5, 2, 3)
    with torch.inference_mode():
        recording = grulens.record(module, x)
        loop = grulens.record(nn.GRUCell(3, 4), x[0])
    assert recording.residual < 1e-6
    assert loop.residual < 1e-6


def test_a_batch_of_no_rows_is_recorded_as_such():
    recording = grulens.record(nn.GRU(3, 4), torch.randn(5, 0, 3))
    assert recording["l0"].z.shape == (0, 5, 4)
    assert recording.residual == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_or_infinity_in_the_input_is_recorded_and_said_once(bad):
    module = nn.GRU(3, 4, batch_first=True)
    x = torch.randn(2, 5, 3)
    x[1, 3, 0] = bad
    plain, _ = module(x)
    said = r"layer 'l0': NaN or infinity in its input, first at row 1, step 3; it is recorded as it"
    with pytest.warns(NonFiniteWarning, match=said) as caught:
        recording = grulens.record(module, x)
    assert len(caught) == 1
    assert torch.equal(recording["l0"].x.isfinite(), x.isfinite())
    assert torch.equal(recording["l0"].h.isnan(), plain.isnan())


def test_nan_in_the_weights_is_told_apart_from_nan_in_the_input():
    module = nn.GRU(3, 4)
    with torch.no_grad():
        module.weight_hh_l0[0, 0] = torch.nan
    with pytest.warns(NonFiniteWarning, match="in its weights or its first state"):
        grulens.record(module, torch.randn(5, 2, 3))


def test_nan_in_a_later_call_of_a_loop_names_the_step_on_the_loop_s_own_axis():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(2, 3)

        def forward(self, x):
            h = None
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h)
            return h

    x = torch.randn(2, 6, 2)
    x[1, 4] = torch.nan
    said = "layer 'cell': .* first at row 1, step 4"
    with pytest.warns(NonFiniteWarning, match=said) as caught:
        grulens.record(Loop(), x)
    assert len(caught) == 1


def test_to_numpy_gives_every_signal():
    recording = grulens.record(nn.GRU(3, 4).bfloat16(), torch.randn(5, 2, 3).bfloat16())
    arrays = recording["l0"].to_numpy()
    assert set(arrays) == {*SIGNALS, "mask"}
    assert arrays["z"].dtype == np.float32
    assert arrays["z"].shape == (2, 5, 4)
    assert arrays["mask"].dtype == bool


def test_reprs_are_short_and_escape_what_they_show():
    model = nn.Sequential(OrderedDict({"<b>": nn.GRU(3, 4)}))
    recording = grulens.record(model, torch.randn(5, 2, 3))
    assert repr(recording) == "Recording(<b>.l0)"
    assert repr(recording["<b>.l0"]) == "LayerRecording('<b>.l0', batch 2, time 5, unit 4)"
    for shown in (recording, recording["<b>.l0"], grulens.layers(model)):
        html = shown._repr_html_()
        assert "&lt;b&gt;" in html
        assert "<b>" not in html


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("size", [(2, 5, 3, 4), (4, 50, 24, 40)])
def test_inner_layers_are_bit_for_bit_what_the_kernel_computed(size, trained):
    batch, steps, width, units = size
    module = nn.GRU(width, units, num_layers=2, batch_first=True).requires_grad_(trained)
    below = nn.GRU(width, units, batch_first=True).requires_grad_(trained)
    below.load_state_dict({k: v for k, v in module.state_dict().items() if k.endswith("l0")})
    x = torch.randn(batch, steps, width)
    recording = grulens.record(module, x)
    assert torch.equal(recording["l0"].h, below(x)[0])
    assert torch.equal(recording["l1"].x, recording["l0"].h)


def test_reading_a_recording_later_draws_no_random_number():
    module = nn.GRU(3, 4, num_layers=2, dropout=0.5).train()
    recording = grulens.record(module, torch.randn(5, 2, 3))
    torch.manual_seed(99)  # the user goes on
    before = torch.get_rng_state()
    assert recording["l0"].h.shape == (2, 5, 4)
    assert torch.equal(torch.get_rng_state(), before)
