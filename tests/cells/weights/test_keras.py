"""Cells made of Keras weights against Keras itself, on its torch backend."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from grulens import Cell, record
from grulens.adapters import GRUStack
from grulens.cells.activations import HARD_SIGMOID_KERAS2, HARD_SIGMOID_KERAS3
from grulens.cells.weights.keras import BY_NAME
from grulens.errors import CellError, ConventionError

# keras 3.15 with numpy 2: its variables do not know __array__(copy=...)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
UNITS, INPUTS = 4, 3


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        import keras

        assert keras.backend.backend() == "torch"
        yield keras


def drawn(layer, inputs=INPUTS):
    """A built layer with weights that are large, the biases too: Keras' own start at 0."""
    layer.build((None, None, inputs))
    random = np.random.default_rng(len(layer.get_weights()) + inputs)
    layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def close(cells, x, expected):
    output, _ = GRUStack(cells)(torch.from_numpy(x))
    return np.abs(output.detach().numpy() - np.asarray(expected)).max()


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid"])
@pytest.mark.parametrize("candidate", ["tanh", "relu"])
def test_two_bidirectional_layers(keras, reset_after, use_bias, gate, candidate):
    convention = {"reset_after": reset_after, "activation": candidate, "recurrent_activation": gate}
    layers = [
        drawn(
            keras.layers.Bidirectional(
                keras.layers.GRU(UNITS, return_sequences=True, use_bias=use_bias, **convention)
            ),
            inputs,
        )
        for inputs in (INPUTS, 2 * UNITS)
    ]
    x = np.random.default_rng(0).normal(size=(2, 6, INPUTS)).astype(np.float32)
    middle = layers[0](x)
    output = layers[1](middle).detach().numpy()
    pairs = []
    for layer in layers:
        w = layer.get_weights()
        half = len(w) // 2
        pairs.append([
            Cell.from_keras(part, **convention, keras_version=3) for part in (w[:half], w[half:])
        ])  # fmt: skip
    scale = max(1.0, float(np.abs(output).max()))
    assert close(pairs, x, output) < 1e-5 * scale
    # and no other reading of these weights would do
    first = pairs[0]
    middle = middle.detach().numpy()
    for wrong in others(first[0]):
        assert close([(wrong, first[1])], x, middle) > 1e-2
    assert close([first[::-1]], x, middle) > 1e-2


def others(cell):
    """The same weights read in other orders and by the other conventions."""
    for order in itertools.permutations(range(3)):
        if order != (0, 1, 2):
            yield cell.over(lambda rows, o=order: torch.cat([rows.chunk(3)[i] for i in o]))
    yield replace(cell, reset_after=not cell.reset_after)
    yield replace(cell, gate=HARD_SIGMOID_KERAS2)
    yield cell.z_swapped()


def test_what_torch_computes_too_becomes_an_nn_gru(keras):
    layer = drawn(keras.layers.GRU(UNITS, return_sequences=True))
    stack = GRUStack(Cell.from_keras(layer.get_weights()))
    assert type(stack) is torch.nn.GRU


def cudnn(kernel, recurrent, bias):
    """A layer's weights as CuDNNGRU keeps them (Keras 2's convert_gru_weights)."""

    def by_gate(array, change):
        return np.hstack([change(gate) for gate in np.hsplit(array, 3)])

    kernel = by_gate(kernel, lambda k: k.T.reshape(k.shape))
    return [kernel, by_gate(recurrent, lambda k: k.T), bias.reshape(-1)]


@pytest.mark.parametrize("inputs", [INPUTS, UNITS, 7])
def test_cudnn_weights_are_read_as_they_lie(keras, inputs):
    layer = drawn(keras.layers.GRU(UNITS, return_sequences=True), inputs)
    x = np.random.default_rng(0).normal(size=(2, 6, inputs)).astype(np.float32)
    kept = cudnn(*layer.get_weights())
    assert [w.shape for w in kept[:2]] == [w.shape for w in layer.get_weights()[:2]]
    expected = layer(x).detach().numpy()
    assert close(Cell.from_keras(kept), x, expected) < 1e-5
    plain = [*kept[:2], kept[2].reshape(2, -1)]
    assert close(Cell.from_keras(plain), x, expected) > 1e-2


@pytest.mark.parametrize("units", [(4, 4), (4, 5)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_cells_one_upon_the_other_are_no_two_directions(keras, units, use_bias):
    cells = [keras.layers.GRUCell(n, use_bias=use_bias) for n in units]
    layer = drawn(keras.layers.RNN(cells, return_sequences=True))
    w = layer.get_weights()
    half = len(w) // 2
    message = f"{2 * half} arrays, those of 2 cells one upon the other: pass weights[:{half}], we"
    with pytest.raises(CellError, match=re.escape(message)):
        Cell.from_keras(w)
    x = np.random.default_rng(0).normal(size=(2, 6, INPUTS)).astype(np.float32)
    h = torch.from_numpy(x)
    for part in (w[:half], w[half:]):
        h, _ = GRUStack(Cell.from_keras(part))(h)
    assert float((h - layer(x)).detach().abs().max()) < 1e-5


def test_keras_2_hard_sigmoid(keras):
    layer = drawn(
        keras.layers.GRU(
            UNITS,
            return_sequences=True,
            reset_after=False,
            recurrent_activation=lambda v: keras.ops.clip(0.2 * v + 0.5, 0, 1),
        )
    )
    x = np.random.default_rng(0).normal(size=(2, 6, INPUTS)).astype(np.float32)
    w, expected = layer.get_weights(), layer(x).detach().numpy()
    cells = [
        Cell.from_keras(w, reset_after=False, recurrent_activation="hard_sigmoid", keras_version=v)
        for v in (2, 3)
    ]
    assert cells[0].gate == HARD_SIGMOID_KERAS2
    assert cells[1].gate is HARD_SIGMOID_KERAS3
    assert close(cells[0], x, expected) < 1e-5
    assert close(cells[1], x, expected) > 1e-3


def test_the_gates_of_a_keras_layer_under_the_lens(keras):
    layer = drawn(keras.layers.GRU(UNITS, return_sequences=True, reset_after=False))
    x = np.random.default_rng(0).normal(size=(2, 6, INPUTS)).astype(np.float32)
    stack = GRUStack(Cell.from_keras(layer.get_weights(), reset_after=False))
    run = record(stack, torch.from_numpy(x))
    assert run.residual < 1e-6
    kernel, recurrent, bias = layer.get_weights()
    h_prev = np.concatenate([np.zeros((2, 1, UNITS)), layer(x).detach().numpy()[:, :-1]], 1)
    z = 1 / (1 + np.exp(-(x @ kernel + h_prev @ recurrent + bias)[..., :UNITS]))
    np.testing.assert_allclose(run["l0"].z.detach().numpy(), z, atol=1e-5)


@pytest.mark.parametrize("name", [*BY_NAME, "hard_sigmoid", None])
def test_every_activation_is_that_of_keras(keras, name):
    a = torch.linspace(-9, 9, 400)
    w = [np.zeros((2, 9)), np.zeros((3, 9))]
    cell = Cell.from_keras(w, activation=name, recurrent_activation=name, keras_version=3)
    expected = keras.activations.get(name)(a)
    torch.testing.assert_close(cell.candidate(a), expected, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(cell.gate(a), expected, rtol=1e-5, atol=2e-6)


def test_tensors_and_other_arrays_are_taken():
    kernel, recurrent, bias = torch.randn(2, 9), torch.randn(3, 9), torch.randn(2, 9)
    kernel.requires_grad_()
    cell = Cell.from_keras([kernel, recurrent, bias])
    cell.weight_ih.sum().backward()
    assert torch.equal(kernel.grad, torch.ones(2, 9))
    swapped = recurrent.numpy().astype(">f4")
    swapped.flags.writeable = False
    from_file = Cell.from_keras((kernel.detach().tolist(), swapped.astype(">f8")))
    assert from_file.weight_hh.dtype == torch.float64
    torch.testing.assert_close(from_file.weight_hh.float(), cell.weight_hh)
    assert cell.over(torch.Tensor.half).weight_hh.dtype == torch.float16


def test_a_cell_does_not_share_memory_with_the_array_it_came_from():
    w = [np.zeros((2, 9)), np.zeros((3, 9)), np.zeros(9)]
    cell = Cell.from_keras(w, reset_after=False)
    for array in w:
        array.fill(1)
    assert all(float(tensor.abs().max()) == 0 for tensor in cell.parameters)


def drawn_cell(inputs, units):
    return [np.zeros((inputs, 3 * units)), np.zeros((units, 3 * units)), np.zeros((2, 3 * units))]


W = [np.zeros((2, 9)), np.zeros((3, 9)), np.zeros((2, 9))]


class Layer:
    def get_weights(self):
        return W


@pytest.mark.parametrize(
    ("weights", "options", "error", "message"),
    [
        (W, {"reset_after": False}, ConventionError, "(2, 9): that is a layer with reset_after=T"),
        ([*W[:2], np.zeros(9)], {}, ConventionError, "(9,): that is a layer with reset_after=F"),
        ([*W[:2], np.zeros(8)], {}, CellError, "expected a bias of shape (2, 9)"),
        (W + W, {}, CellError, "6 arrays, those of a Bidirectional layer: pass weights[:3] for"),
        (W[:2] * 2, {}, CellError, "4 arrays, those of a Bidirectional layer: pass weights[:2]"),
        (
            W + drawn_cell(3, 5),
            {},
            CellError,
            "6 arrays, those of 2 cells one upon the other: pass weights[:3], weights[3:] one at a",
        ),
        (
            W[:2] + drawn_cell(3, 5) + drawn_cell(5, 2)[:2],
            {},
            CellError,
            "7 arrays, those of 3 cells one upon the other: pass weights[:2], weights[2:5], weights"
            "[5:] one at a time",
        ),
        (
            drawn_cell(3, 3) * 2,
            {},
            CellError,
            "6 arrays, those of a Bidirectional layer or of two cells one upon the other: pass we",
        ),
        (W + drawn_cell(7, 5), {}, CellError, "6 arrays, those of 2 cells: pass weights[:3], "),
        ([*W, *W[:1]], {}, CellError, "or 2 if it has use_bias=False, got 4"),
        (
            [*W[:2], np.zeros(18)],
            {"activation": "relu"},
            ConventionError,
            "a bias of 6 units in one row is CuDNNGRU's, which has reset_after=True, activation='t",
        ),
        ([*W[:2], np.zeros(18)], {"reset_after": False}, ConventionError, "got reset_after=False"),
        (W[:1], {}, CellError, "or 2 if it has use_bias=False, got 1"),
        (Layer(), {}, CellError, "got the layer Layer itself; pass layer.get_weights()"),
        (np.zeros((2, 9)), {}, CellError, "expected the list that layer.get_weights() gives"),
        ("W", {}, CellError, "expected the list that layer.get_weights() gives"),
        ([w.T for w in W], {}, CellError, "expected a kernel of shape (input, 3 unit)"),
        ([0.5, W[1]], {}, CellError, "got () and (3, 9)"),
        ([W[0].astype(int), *W[1:]], {}, CellError, "the kernel has dtype int64; weights are"),
        ([torch.zeros(2, 9).int(), *W[1:]], {}, CellError, "the kernel has dtype torch.int32"),
        ([[[1.0], [1.0, 2.0]], *W[1:]], {}, CellError, "the kernel is no array"),
        (W, {"activation": "softmax"}, ConventionError, "activation='softmax' is not known"),
        (W, {"activation": 3}, ConventionError, "activation=3 is not known"),
        (W, {"keras_version": 1}, ConventionError, "keras_version must be 2 or 3, got 1"),
        (
            W,
            {"recurrent_activation": "hard_sigmoid"},
            ConventionError,
            "recurrent_activation='hard_sigmoid' is 0.2 x + 0.5 in Keras 2 and x / 6 + 0.5 in",
        ),
    ],
)
def test_what_is_no_layer_is_refused(weights, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Cell.from_keras(weights, **options)
