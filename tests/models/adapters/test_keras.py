"""Keras 3 layers on torch's backend are opened as they stand, held to what Keras computes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import grulens
from grulens import ablate, clamp, editing, record, sweep
from grulens.errors import (
    DropoutMaskError,
    LayerError,
    ModelError,
    RecordingError,
)
from grulens.models.adapters.closed import look
from grulens.models.instrument.editing import ran
from grulens.models.instrument.watch import Watch
from grulens.models.instrument.watchable import Watchable
from grulens.models.observe.look import look_at
from grulens.models.restore.keras_values import kept_values
from grulens.models.restore.untouched import untouched

# keras 3.15 with numpy 2: its variables do not know __array__(copy=...)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
UNITS, INPUTS, STEPS = 4, 3, 6
X = torch.from_numpy(np.random.default_rng(0).normal(size=(2, STEPS, INPUTS)).astype(np.float32))


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        import keras

        assert keras.backend.backend() == "torch"
        yield keras


def drawn(model: Any) -> Any:
    """Weights that are large, the biases too: Keras' own biases start at 0."""
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    return model


class Holder(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, **options: Any) -> Any:
        return self.layer(x, **options)


def held(layer: Any) -> Holder:
    layer.build((None, STEPS, INPUTS))
    return Holder(drawn(layer))


def by_hand(keras: Any, layer: Any, x: Tensor, change: Any = lambda h, t: h) -> Tensor:
    """The states (batch, time, unit), step by step by Keras' own cell."""
    h, states = torch.zeros(len(x), UNITS), []
    for t in range(x.shape[1]):
        h = change(layer.cell(x[:, t], [h])[0], t)
        states.append(h)
    return torch.stack(states, 1).detach()


CONVENTIONS: list[dict[str, Any]] = [
    {},
    {"reset_after": False},
    {"use_bias": False},
    {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
    {"activation": lambda a: torch.tanh(2 * a) / 2, "unroll": True},
]


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("options", [{}, {"return_sequences": True}, {"return_state": True},
                                     {"return_sequences": True, "return_state": True}])  # fmt: skip
def test_a_layer_in_a_torch_module(keras: Any, convention: Any, options: Any) -> None:
    model = held(keras.layers.GRU(UNITS, **convention, **options))
    expected = model(X)
    run = record(model, X)
    first = run.output[0] if isinstance(expected, tuple) else run.output
    assert type(run.output) is type(expected)
    assert torch.equal(first, expected[0] if isinstance(expected, tuple) else expected)
    states = by_hand(keras, model.layer, X)
    assert float((run["layer.l0"].h - states).abs().max()) < 1e-5 * max(
        1, float(states.abs().max())
    )
    assert run.residual < 1e-5 * max(1, float(states.abs().max()))
    edits = [ablate("layer.l0", 1, at=2), clamp("layer.l0", "z", 2, value=0.5, at=-1)]

    def change(h: Tensor, t: int) -> Tensor:
        return h * (torch.arange(UNITS) != 1) if t == 2 else h

    edited = record(model, X, edits=edits[0])
    states = by_hand(keras, model.layer, X, change)
    assert float((edited["layer.l0"].h - states).abs().max()) < 1e-5 * max(
        1, float(states.abs().max())
    )
    both = record(model, X, edits=edits).output
    again = model(X)
    one, two, plain = (o if isinstance(o, tuple) else (o,) for o in (edited.output, both, again))
    assert [part.shape for part in one] == [part.shape for part in plain]
    assert not torch.equal(one[0], plain[0])
    assert not torch.equal(one[0], two[0])


@pytest.mark.parametrize("merge", ["concat", "sum", "ave", "mul", None])
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("state", [True, False])
def test_both_directions(keras: Any, merge: str | None, sequences: bool, state: bool) -> None:
    inner = keras.layers.GRU(UNITS, return_sequences=sequences, return_state=state)
    model = held(keras.layers.Bidirectional(inner, merge_mode=merge))
    expected = model(X)
    run = record(model, X)
    assert list(run) == ["layer.l0", "layer.l0_reverse"]
    assert run.residual < 1e-5
    forward = by_hand(keras, model.layer.forward_layer, X)
    reverse = by_hand(keras, model.layer.backward_layer, X.flip(1)).flip(1)
    assert torch.allclose(run["layer.l0"].h, forward, atol=1e-5)
    assert torch.allclose(run["layer.l0_reverse"].h, reverse, atol=1e-5)
    # an edit that changes nothing: what the layer returns is put together as Keras does
    same = record(model, X, edits=grulens.scale("layer.l0", "h", by=1.0)).output
    for one, other in zip(flat(same), flat(expected), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def flat(output: Any) -> list[Tensor]:
    return list(output) if isinstance(output, tuple | list) else [output]


def test_models_whose_layers_torch_does_not_see(keras: Any) -> None:
    given = keras.Input((STEPS, INPUTS))
    middle = keras.layers.GRU(UNITS, return_sequences=True, name="first")(given)
    output = keras.layers.Dense(2)(keras.layers.GRU(UNITS, name="second")(middle))
    functional = drawn(keras.Model(given, output))
    sequential = keras.Sequential(
        [keras.Input((STEPS, INPUTS)), keras.layers.GRU(UNITS, name="only"), keras.layers.Dense(2)]
    )
    nested = Holder(functional)
    cells = [keras.layers.GRUCell(UNITS, name=f"cell{i}") for i in range(2)]
    stacked = held(keras.layers.RNN(cells, return_sequences=True))
    names = {
        ("first.l0", "second.l0"): functional,
        ("only.l0",): drawn(sequential),
        ("layer.first.l0", "layer.second.l0"): nested,
        ("layer.cell.cell0", "layer.cell.cell1"): stacked,
    }
    for expected, model in names.items():
        assert tuple(layer.name for layer in grulens.layers(model)) == expected
        assert grulens.layers(model).closed == ()
        plain = model(X)
        run = record(model, X)
        assert torch.equal(run.output, plain)
        assert run.residual < 1e-5
        done = sweep(model, X, layer=expected[-1], progress=False)
        assert done.effect.shape[0] == UNITS
        for unit in (0, UNITS - 1):
            with editing(model, ablate(expected[-1], unit)), torch.no_grad():
                changed = model(X)
            assert torch.allclose(done.effect[unit], changed - plain, atol=1e-5)
        assert torch.equal(model(X), plain)


def test_gradients_flow_to_keras_own_variables(keras: Any) -> None:
    model = held(keras.layers.GRU(UNITS, return_sequences=True))
    x = X.clone().requires_grad_()
    weights = [variable.value for variable in model.layer.trainable_variables]
    expected = torch.autograd.grad(model(x).square().sum(), [x, *weights])
    run = record(model, x, edits=grulens.scale("layer.l0", "h", by=1.0), grad=True)
    found = torch.autograd.grad(run.output.square().sum(), [x, *weights])
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_what_keras_layers_keep_is_afterwards_as_before(keras: Any) -> None:
    given = keras.Input((STEPS, INPUTS))
    middle = keras.layers.GRU(UNITS, return_sequences=True, name="gru")(given)
    output = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(middle))
    model = drawn(keras.Model(given, output))
    model.set_weights([abs(w) for w in model.get_weights()])
    before = [value.clone() for value in kept_values(model)]
    with untouched(model):
        model(X, training=True)
        moved = [torch.equal(v, b) for v, b in zip(kept_values(model), before, strict=True)]
    assert moved.count(False) == 2  # the running mean and variance
    assert all(torch.equal(v, b) for v, b in zip(kept_values(model), before, strict=True))


def test_an_initial_state_and_a_full_mask_are_taken(keras: Any) -> None:
    model = held(keras.layers.GRU(UNITS, return_sequences=True))
    h_0 = torch.randn(2, UNITS)
    for state in (h_0, [h_0]):
        run = record(model, X, initial_state=state, mask=torch.ones(2, STEPS, dtype=torch.bool))
        assert torch.equal(run["layer.l0"].h_prev[:, 0], h_0)
        assert run.residual < 1e-5


def test_calls_that_no_cell_holds_are_refused_by_name(keras: Any) -> None:
    model = held(keras.layers.GRU(UNITS, return_sequences=True, dropout=0.5))
    mask = torch.ones(2, STEPS, dtype=torch.bool)
    mask[0, 3:] = False
    with pytest.raises(RecordingError, match="a Keras GRU was called with a mask that leaves step"):
        record(model, X, mask=mask)
    with pytest.raises(DropoutMaskError, match="call the model with training=False"):
        record(model, X, training=True)
    assert record(model, X, training=False).residual < 1e-5


def test_layers_that_cannot_be_opened_are_named_with_the_reason(keras: Any) -> None:
    class Own(keras.layers.GRU):
        def call(self, *args: Any, **kwargs: Any) -> Any:
            return 0.5 * super().call(*args, **kwargs)

    class Same(keras.layers.GRU):
        pass

    layers = keras.layers
    cases = {
        "unbuilt": (layers.GRU(2), "is a Keras GRU that has no weights yet: call the model once"),
        "own": (Own(2), "is a Keras GRU with a call of its own (Own), which may compute"),
        "back": (layers.GRU(2, go_backwards=True), "is a Keras GRU that reads backwards: put it"),
        "mixed": (layers.GRU(2, dtype="mixed_float16"), "is a Keras GRU in mixed precision"),
        "lstm": (layers.LSTM(2), "is a Keras LSTM: of Keras' recurrent layers grulens opens GRUs"),
        "rnn": (layers.SimpleRNN(2), "is a Keras SimpleRNN: of Keras' recurrent"),
        "two": (layers.Bidirectional(layers.GRU(2, dtype="mixed_float16")),
                "is a Keras Bidirectional GRU in mixed precision"),
    }  # fmt: skip
    model = nn.ModuleDict({name: layer for name, (layer, _) in cases.items()})
    model["gru"] = Same(2)
    for name, layer in model.items():
        if name != "unbuilt":
            layer.build((None, STEPS, INPUTS))
    found = grulens.layers(model)
    assert [layer.name for layer in found] == ["gru.l0"]
    assert {part.name: part.reason for part in found.closed}.keys() == cases.keys()
    for part in found.closed:
        assert part.reason.startswith(cases[part.name][1])
    with pytest.raises(LayerError, match="'mixed' is a Keras GRU in mixed precision"):
        record(model, X, layers=["mixed.l0"])
    alone = grulens.layers(model["back"])  # its own forward may still be observed
    assert not alone
    assert "not opened: 'the model itself' is a Keras GRU that reads" in repr(alone)


def test_grulens_never_imports_keras() -> None:
    code = (
        "import sys, torch, grulens; "
        "grulens.record(torch.nn.GRU(2, 3), torch.ones(4, 1, 2)); "
        "assert 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_on_another_backend_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Layer:
        pass

    class Sequential(Layer):
        pass

    keras = SimpleNamespace(layers=SimpleNamespace(Layer=Layer))
    monkeypatch.setitem(sys.modules, "keras", keras)
    with pytest.raises(ModelError) as raised:
        look(Sequential())
    said = str(raised.value)
    assert "expected a torch.nn.Module, got Sequential, a Keras model that does not run on" in said
    assert "KERAS_BACKEND=torch" in said
    assert "Cell.from_keras(model.get_layer(name).get_weights())" in said
    with pytest.raises(ModelError, match=r"got int$"):
        look(3)
    assert [layer.name for layer in grulens.layers(nn.GRU(2, 3))] == ["l0"]


@pytest.mark.parametrize("reset_after", [True, False])
def test_observed_in_its_own_code_it_has_the_numbers_of_its_adapter(
    keras: Any, reset_after: bool
) -> None:
    layer = keras.layers.GRU(4, return_sequences=True, reset_after=reset_after)
    layer.build((None, STEPS, INPUTS))
    opened = record(layer, X)["l0"]
    forms = look_at(layer, partial(layer, X)).forms
    watch = Watch(Watchable(layer, look(layer), forms), keep=())
    watch.adapters.clear()  # it is not opened by its weights this time
    output = ran(partial(layer, X), watch)
    observed = watch.recording(watch.run, output)["cell"]
    assert observed.cell.equation == "h = z h_prev + (1 - z) n"
    assert observed.residual < 1e-6
    for name in ("r", "z", "n", "h"):
        torch.testing.assert_close(getattr(observed, name), getattr(opened, name))
