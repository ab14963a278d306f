"""Cells that nobody told grulens of are opened by their equation, and all that is said is so."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from grulens import clamp, layers, record, scale
from grulens.errors import NoLayerError, RecordingError, UnsupportedLayerError
from tests.intact import Intact
from tests.models.observe.zoo import INPUT, REFUSED, SPECIES, Hold, Species, WaysInLoop

kinds = pytest.mark.parametrize("kind", SPECIES, ids=repr)
held = pytest.mark.parametrize(
    ("kind", "signal"),
    [(kind, signal) for kind in SPECIES for signal in kind.held],
    ids=lambda value: str(value).replace(":", "_"),
)


def recorded(kind: Species, model: Any, args: Any, **more: Any) -> Any:
    torch.manual_seed(3)
    return record(model, *args, call=kind.call, **more)


@cache
def _seen(kind: Species) -> tuple[Any, Any, Any]:
    model, args = kind.made()
    return model, args, recorded(kind, model, args)


def seen(kind: Species) -> tuple[Any, Any, Any]:
    """A model, its input and its recording; a model that no run changes is looked at once."""
    return _seen.__wrapped__(kind) if kind.training else _seen(kind)


def same(one: Any, other: Any) -> bool:
    """Whether what two runs return is equal bit for bit."""
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def as_computed(kind: Species, run: Any, model: Any, args: Any, hold: Hold | None = None) -> None:
    """Assert that all that the reference computes stands in a recording."""
    assert len(run) == len(kind.layers), run
    for (layer, signal), expected in kind.signals(model, args, hold).items():
        found = getattr(list(run.values())[layer], signal)
        where = f"{signal} of layer {layer} of {kind}"
        assert found.shape == expected.shape, where
        torch.testing.assert_close(
            found.double(), expected.double(), rtol=0, atol=kind.tolerance,
            msg=lambda text, where=where: f"{where}: {text}",
        )  # fmt: skip


@kinds
def test_every_signal_is_what_the_reference_computes(kind: Species) -> None:
    model, args, run = seen(kind)
    model = kind.made()[0] if kind.training else model
    for name, expected in zip(run, kind.layers, strict=True):
        assert expected in ("?", name)
    assert run.residual <= kind.tolerance
    as_computed(kind, run, model, args)


@kinds
def test_the_states_follow_from_the_gated_form(kind: Species) -> None:
    for layer in seen(kind)[2].values():
        state, a, b = layer.state.double(), layer.a.double(), layer.b.double()
        made = a * layer.state_prev.double() + b
        if "clamp" not in layer.cell.equation:
            torch.testing.assert_close(made, state, rtol=0, atol=kind.tolerance)
        assert torch.equal(layer.state_prev[:, 1:], layer.state[:, :-1])


@kinds
def test_the_output_is_bit_for_bit_that_of_the_model_alone(kind: Species) -> None:
    with torch.no_grad():
        assert same(seen(kind)[2].output, kind.run(*kind.made()))


@kinds
def test_with_gradients_the_output_is_bit_for_bit_that_of_the_model_alone(kind: Species) -> None:
    alone = kind.run(*kind.made())
    model, args = kind.made() if kind.training else seen(kind)[:2]
    if kind.name in ("PlainBuffer", "PlainInPlace"):
        with pytest.raises(RecordingError, match="in place"):
            recorded(kind, model, args, grad=True)
        return
    run = recorded(kind, model, args, grad=True)
    assert same(run.output, alone)
    assert any(layer.state.requires_grad for layer in run.values())


@pytest.mark.unchecked
@held
def test_a_held_gate_acts_inside_the_recurrence(kind: Species, signal: str) -> None:
    model, args, plain = seen(kind)
    model = kind.made()[0] if kind.training else model
    layer, _, name = signal.rpartition(":")
    at = list(plain)[int(layer or 0)]
    unit, value = 2, 0.25
    edit = clamp(at, name, unit, value=value, at=slice(2, 5))
    run = recorded(kind, model, args, edits=[edit])
    model = kind.made()[0] if kind.training else model
    assert torch.equal(
        getattr(run[at], name)[:, 2:5, unit], torch.full_like(run[at].h[:, 2:5, unit], value)
    )
    as_computed(kind, run, model, args, Hold(signal, unit, value, 2, 5))
    assert not torch.equal(run[at].h, plain[at].h)


@pytest.mark.unchecked
@kinds
def test_edits_that_change_nothing_change_no_bit(kind: Species) -> None:
    model, args, plain = seen(kind)
    model = kind.made()[0] if kind.training else model
    places = {("0", "h"), *((layer or "0", name) for layer, _, name in map(parted, kind.held))}
    edits = [scale(list(plain)[int(layer)], name, by=1) for layer, name in sorted(places)]
    run = recorded(kind, model, args, edits=edits)
    assert same(run.output, plain.output)


def parted(signal: str) -> tuple[str, str, str]:
    """The number of a layer, and one of its signals."""
    return signal.rpartition(":")


@pytest.mark.unchecked
@kinds
def test_nothing_of_the_model_is_different_afterwards(kind: Species) -> None:
    model, args = kind.made()
    changes = tuple(dict(model.named_buffers())) if kind.training else ()
    torch.manual_seed(3)
    alone = Intact(model, ("state",))
    kind.run(model, args)
    expected = torch.get_rng_state()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    model, args = kind.made()
    before = Intact(model, ("state", *changes))
    run = recorded(kind, model, args)
    assert not before.broken(random=False)
    assert torch.equal(torch.get_rng_state(), expected)
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert alone.model is not run


@pytest.mark.unchecked
@kinds
def test_what_is_recorded_twice_is_the_same_twice(kind: Species) -> None:
    model, args, first = seen(kind)
    if kind.training:
        model, args = kind.made()
    second = recorded(kind, model, args)
    assert list(first) == list(second)
    assert same(first.output, second.output)
    for one, other in zip(first.values(), second.values(), strict=True):
        assert one.names == other.names
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in one.names)


@pytest.mark.unchecked
@kinds
def test_a_longer_and_a_wider_input_is_read_as_well(kind: Species) -> None:
    model, args, _ = seen(kind)
    steps = args[0].shape[:2]
    longer = tuple(
        torch.cat([a, a, a], 1) if a.shape[:2] == steps and steps[1] > 2 else a for a in args
    )
    wider = tuple(torch.cat([a, a.flip(0)]) if a.dim() else a for a in longer)
    for given in (longer, wider) if kind.rows else [(torch.cat([args[0], args[0], args[0]]),)]:
        run = recorded(kind, model, given)
        as_computed(kind, run, model, given)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_gated_cell_is_refused(kind: type[torch.nn.Module]) -> None:
    model, x = kind(), torch.randn(2, 6, INPUT)
    before = Intact(model)
    with pytest.raises((NoLayerError, UnsupportedLayerError)):
        record(model, x)
    assert not before.broken()


@pytest.mark.parametrize("time", [3, 7, 10, 11])
def test_lines_that_are_run_over_again_are_one_layer_of_several_calls(time: int) -> None:
    torch.manual_seed(0)
    model, x = WaysInLoop(), torch.randn(2, time, INPUT)
    run = record(model, x)
    assert list(run) == ["cell"]
    layer = run["cell"]
    assert layer.calls == (0, time)
    ahead, back = model(x).chunk(2, -1)
    assert torch.equal(layer.h[:, :time], ahead)
    assert torch.equal(layer.h[:, time:], back.flip(1))
    assert not layer.h_prev[:, [0, time]].any()


def test_code_that_is_another_since_is_looked_at_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.new = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.zeros_like(x[:, 0])
            for now in x.unbind(1):
                z = torch.sigmoid(self.gate(now + h))
                h = z * h + (1 - z) * torch.tanh(self.new(now + h))
            return h

    def other(self: Any, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        for now in x.unbind(1):
            z = torch.sigmoid(self.gate(now + h))
            h = h + z * (torch.tanh(self.new(now)) - h)
        return h

    model, x = Own(), torch.randn(2, 5, 3)
    assert record(model, x)["cell"].cell.equation == "h = z h_prev + (1 - z) n"
    monkeypatch.setattr(Own, "forward", other)
    layer = record(model, x)["cell"]
    assert layer.cell.equation == "h = (1 - z) h_prev + z n"
    assert torch.equal(layer.h[:, -1], model(x))


def test_a_compiled_model_is_observed_as_it_was_written() -> None:
    kind = next(kind for kind in SPECIES if kind.name == "NormedGRU")
    model, args = kind.made()
    try:
        compiled = torch.compile(model, backend="eager")
        run, plain = record(compiled, *args), record(model, *args)
        assert list(run) == list(plain) == [part.name for part in layers(compiled).observed]
        for name in plain:
            assert run[name].form == plain[name].form
            assert torch.equal(run[name].h, plain[name].h)
    finally:
        torch._dynamo.reset()  # what it has compiled, and the modes that were on meanwhile
