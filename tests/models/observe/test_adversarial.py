"""Cells that were written to mislead: what is opened of them is right, the rest is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grulens import clamp, record, shift
from grulens.errors import EditError, UnsupportedLayerError
from tests import loops
from tests.models.observe.zoo import INPUT, UNITS, Plain, zeros

X = torch.linspace(-2, 2, 3 * 9 * INPUT).reshape(3, 9, INPUT).sin()


class Cunning(Plain):
    """Returns its states, a list a name."""

    def gates(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        both = self.x(x) + self.h(h)
        return torch.sigmoid(both[:, :UNITS]), torch.tanh(both[:, UNITS : 2 * UNITS])


class TwoLoops(Cunning):
    """One state goes through two loops of other lines."""

    def forward(self, x: Tensor) -> Any:
        h, one, two = zeros(x), [], []
        for now in x[:, :5].unbind(1):
            h = self.step(now, h)
            one.append(h)
        for now in x[:, 5:].unbind(1):
            z, n = self.gates(now, h)
            h = z * h + (1 - z) * n
            two.append(h)
        return one, two


class GateIsState(Cunning):
    """The gate of a state is carried itself."""

    def forward(self, x: Tensor) -> Any:
        h, z = zeros(x), zeros(x) + 0.5
        gates, states = [], []
        for now in x.unbind(1):
            share, new = self.gates(now, h)
            z = 0.5 * z + 0.5 * share
            h = z * h + (1 - z) * new
            gates.append(z)
            states.append(h)
        return gates, states


class Momentum(Cunning):
    """What is added up is carried."""

    def forward(self, x: Tensor) -> Any:
        h, m = zeros(x), zeros(x)
        speeds, states = [], []
        for now in x.unbind(1):
            m = 0.9 * m + 0.1 * self.gates(now, h)[1]
            h = h + m
            speeds.append(m)
            states.append(h)
        return speeds, states


class Swapped(Cunning):
    """Two states change places at every step."""

    def forward(self, x: Tensor) -> Any:
        h, other, states = zeros(x), zeros(x), []
        for now in x.unbind(1):
            h, other = other, self.step(now, h)
            states.append(other)
        return states[::2], states[1::2]


class Skipping(Cunning):
    """Mixes the state of two steps before with what the last one makes."""

    def forward(self, x: Tensor) -> Any:
        states = [zeros(x), zeros(x)]
        for now in x.unbind(1):
            z, n = self.gates(now, states[-1])
            states.append(z * states[-2] + (1 - z) * n)
        return states[2::2], states[3::2]


class Sampling(Cunning):
    """Teacher forcing at some steps, its own output at the others."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(UNITS, INPUT)

    def forward(self, x: Tensor) -> Any:
        h, states = zeros(x), []
        for t in range(x.shape[1]):
            h = self.step(x[:, t] if t % 3 != 2 else self.out(h), h)
            states.append(h)
        return (states,)


class Written(Cunning):
    """The gate is written over between its two uses, and after them."""

    def forward(self, x: Tensor) -> Any:
        h, states = zeros(x), []
        for now in x.unbind(1):
            z, n = self.gates(now, h)
            kept = z * h
            z.mul_(0.5)
            h = kept + (1 - z) * n
            z.zero_()
            states.append(h)
        return (states,)


class Dropping(Cunning):
    """Dropout of what is new, at every step another."""

    def forward(self, x: Tensor) -> Any:
        h, states = zeros(x), []
        for now in x.unbind(1):
            z, n = self.gates(now, h)
            h = z * h + (1 - z) * F.dropout(n, 0.3, True)
            states.append(h)
        return (states,)


class Leaving(Cunning):
    """Ends when it has seen enough."""

    def forward(self, x: Tensor) -> Any:
        h, states = zeros(x), []
        for now in x.unbind(1):
            h = self.step(now, h)
            states.append(h)
            if len(states) > 3 and h.abs().sum() > 0.01:
                break
        return (states,)


class Detached(Cunning):
    """Truncated backpropagation: detached between chunks."""

    def forward(self, x: Tensor) -> Any:
        h, states = zeros(x), []
        for part in x.split(4, 1):
            h = h.detach()
            for now in part.unbind(1):
                h = self.step(now, h)
                states.append(h)
        return (states,)


class Attribute(Cunning):
    """The state stays on the module."""

    def forward(self, x: Tensor) -> Any:
        states = []
        self.state = getattr(self, "state", zeros(x))
        for now in x.unbind(1):
            self.state = self.step(now, self.state)
            states.append(self.state)
        return (states,)


class TimeFirst(Cunning):
    """Time is the first axis."""

    def forward(self, x: Tensor) -> Any:
        h, states = zeros(x), []
        for now in x.transpose(0, 1):
            h = self.step(now, h)
            states.append(h)
        return (states,)


class Tied(Cunning):
    """Both directions by one set of weights."""

    def way(self, x: Tensor) -> list[Tensor]:
        h, states = zeros(x), []
        for now in x.unbind(1):
            h = self.step(now, h)
            states.append(h)
        return states

    def forward(self, x: Tensor) -> Any:
        return self.way(x), self.way(x.flip(1))


class Mutual(Cunning):
    """Each of two states is the other's gate."""

    def forward(self, x: Tensor) -> Any:
        h, g, one, two = zeros(x), zeros(x), [], []
        for now in x.unbind(1):
            by_g, by_h = torch.sigmoid(g), torch.sigmoid(h)
            new = self.gates(now, h)[1], self.gates(now, g)[1]
            h, g = by_g * h + (1 - by_g) * new[0], by_h * g + (1 - by_h) * new[1]
            one.append(h)
            two.append(g)
        return one, two


class Calling(nn.Module):
    """A cell that calls another one within its step."""

    def __init__(self) -> None:
        super().__init__()
        self.outer, self.inner = Outer(), Inner()

    def forward(self, x: Tensor) -> Any:
        h, g, one, two = zeros(x), zeros(x), [], []
        for now in x.unbind(1):
            h, g = self.outer(now, h, g, self.inner)
            one.append(g)
            two.append(h)
        return one, two


class Inner(Cunning):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:  # type: ignore[override]
        z, n = self.gates(x, h)
        return z * h + (1 - z) * n


class Outer(Cunning):
    def forward(self, x: Tensor, h: Tensor, g: Tensor, other: Any) -> Any:  # type: ignore[override]
        g = other(x, g + 0 * h)
        z, n = self.gates(x, g)
        return z * h + (1 - z) * n, g


MIXED = "h = z h_prev + (1 - z) n"
# by class the equations of its layers, in the order of what it returns
OPENED: dict[type[nn.Module], tuple[str, ...]] = {
    TwoLoops: (MIXED, MIXED),
    GateIsState: ("h = 0.5 h_prev + 0.5 n", MIXED),
    Momentum: ("h = 0.9 h_prev + 0.1 n", "h = h_prev + m"),
    Swapped: (MIXED, MIXED),
    Skipping: (MIXED, MIXED),
    Sampling: (MIXED,),
    Written: ("h = b2 h_prev + b3 - 0.5 b2 b3",),
    Dropping: (MIXED,),
    Leaving: (MIXED,),
    Detached: (MIXED,),
    Attribute: (MIXED,),
    TimeFirst: (MIXED,),
    Tied: (MIXED, MIXED),
    Mutual: (MIXED, MIXED),
    Calling: (MIXED, MIXED),
}


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return kind()


def states_of(output: Any) -> list[Tensor]:
    return [torch.stack(states, 1) for states in output]


def recorded(model: nn.Module, **more: Any) -> Any:
    torch.manual_seed(5)
    vars(model).pop("state", None)
    return record(model, X, **more)


@pytest.mark.parametrize("kind", OPENED)
def test_what_is_opened_of_a_cell_that_misleads_is_right(kind: type[nn.Module]) -> None:
    model = made(kind)
    with torch.no_grad():
        torch.manual_seed(5)
        alone = states_of(model(X))
    plain = recorded(model)
    assert [layer.cell.equation for layer in plain.values()] == list(OPENED[kind])
    for layer, expected, output in zip(plain.values(), alone, states_of(plain.output), strict=True):
        assert torch.equal(output, expected)
        assert torch.equal(layer.h, expected)
        assert torch.allclose(layer.a * layer.h_prev + layer.b, expected, atol=1e-6)
    # what is held is held, and all that the edited run returns follows from it
    for name, layer in plain.items():
        signal = layer.cell.form.symbols[0]
        edit = clamp(name, signal, 1, value=0.25, at=slice(1, 3))
        run = recorded(model, edits=[edit])
        assert bool((run[name].signal(signal)[:, 1:3, 1] == 0.25).all())
        assert not torch.equal(run[name].h, layer.h)
        for other, output in zip(run.values(), states_of(run.output), strict=True):
            assert torch.equal(other.h, output)
            off = (other.a * other.h_prev + other.b - other.h).abs()
            if other is not run[name]:
                off[:, 1:3, 1] = 0  # its own state may be what was held
            assert off.max() < 1e-6


def test_a_gate_that_is_another_layers_state_is_held_in_both() -> None:
    model = made(GateIsState)
    gate, state = record(model, X)
    run = record(model, X, edits=[clamp(state, "z", 1, value=0.25, at=2)])
    assert bool((run[gate].h[:, 2, 1] == 0.25).all())
    # and what it is carried on to follows from that
    expected = 0.5 * 0.25 + 0.5 * run[gate].n[:, 3, 1]
    torch.testing.assert_close(run[gate].h[:, 3, 1], expected)
    same = record(model, X, edits=[clamp(gate, "h", 1, value=0.25, at=2)])
    assert torch.equal(same[state].h, run[state].h)


class Aliased(Cunning):
    """The state before is written over, and read by another name."""

    def forward(self, x: Tensor) -> Any:
        h, states = zeros(x), []
        for now in x.unbind(1):
            old = h.view(-1, UNITS)
            z, n = self.gates(now, h)
            h.mul_(z)
            h = old + (1 - z) * n
            states.append(h.clone())
        return (states,)


class Rescaled(Cunning):
    """The state is made smaller between chunks."""

    def forward(self, x: Tensor) -> Any:
        h, states = zeros(x), []
        for part in x.split(3, 1):
            h = h * 0.5
            for now in part.unbind(1):
                h = self.step(now, h)
                states.append(h)
        return (states,)


@pytest.mark.parametrize("kind", [Aliased, Rescaled])
def test_what_takes_another_way_between_steps_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"takes another way|not all made in one way"):
        record(made(kind), X)


def test_a_mask_is_no_part_of_true() -> None:
    model, x = loops.Masked(), torch.randn(3, 5, loops.INPUTS)
    layer = record(model, x)["cell"]
    for value in (0.0, 1.0):
        edited = record(model, x, edits=[clamp("cell", "m", value=value, at=2)])["cell"]
        assert bool((edited.m[:, 2] == value).all())
        assert torch.equal(edited.h[:, :2], layer.h[:, :2])
    for edit in (clamp("cell", "m", value=0.5, at=2), shift("cell", "m", by=0.5)):
        with pytest.raises(EditError, match="'m' of layer 'cell' is true or false"):
            record(model, x, edits=[edit])
    assert torch.equal(record(model, x)["cell"].h, layer.h)


class LateReset(Cunning):
    """The reset gate of a step is made at the end of the one before."""

    def forward(self, x: Tensor) -> Any:
        h, r, states, resets = zeros(x), zeros(x) + 0.5, [], []
        for now in x.unbind(1):
            z, _ = self.gates(now, h)
            resets.append(r)
            n = torch.tanh(self.x(now)[:, UNITS : 2 * UNITS] + r * self.h(h)[:, :UNITS])
            h = z * h + (1 - z) * n
            states.append(h)
            r = torch.sigmoid(self.h(h)[:, -UNITS:])
        return states, {"r": resets}


class LateGate(Cunning):
    """The same of the update gate."""

    def forward(self, x: Tensor) -> Any:
        h, z, states, gates = zeros(x), zeros(x) + 0.5, [], []
        for now in x.unbind(1):
            h = z * h + (1 - z) * self.gates(now, h)[1]
            states.append(h)
            gates.append(z)
            z = self.gates(now, h)[0]
        return states, {"z": gates}


class LateOutput(Cunning):
    """The same of the output gate of an LSTM."""

    def forward(self, x: Tensor) -> Any:
        h, c, o, states, gates = zeros(x), zeros(x), zeros(x) + 0.5, [], []
        for now in x.unbind(1):
            f, g = self.gates(now, h)
            c = f * c + self.x(now)[:, :UNITS].sigmoid() * g
            h = o * torch.tanh(c)
            states.append(h)
            gates.append(o)
            o = torch.sigmoid(self.h(h)[:, -UNITS:])
        return states, {"o": gates}


class Spiking(Cunning):
    """A leaky membrane that a spike sets back to zero."""

    def forward(self, x: Tensor) -> Any:
        v, spike, states, spikes = zeros(x), zeros(x), [], []
        for now in x.unbind(1):
            v = 0.9 * v * (1 - spike) + self.x(now)[:, :UNITS] + self.h(spike)[:, :UNITS]
            states.append(v)
            spikes.append(spike)
            spike = (v > 0.2).float()
        return states, {"spike": spikes}


@pytest.mark.parametrize("kind", [LateReset, LateGate, LateOutput, Spiking])
def test_a_gate_that_the_step_before_has_made_is_read_where_it_is_used(
    kind: type[nn.Module],
) -> None:
    model = made(kind)
    run = record(model, X)
    (layer,) = run.values()
    with torch.no_grad():
        states, gates = model(X)
    assert torch.equal(layer.h, torch.stack(states, 1))
    ((name, series),) = gates.items()
    assert torch.equal(layer.signal(name), torch.stack(series, 1))
    assert layer.cell.lines[name][0].endswith("made in the step before")
    edited = record(model, X, edits=[clamp(layer.name, name, 1, value=0.0, at=slice(2, 4))])
    (layer,) = edited.values()
    assert not layer.signal(name)[:, 2:4, 1].any()
    assert torch.equal(layer.h, torch.stack(edited.output[0], 1))
    assert not torch.equal(layer.h, torch.stack(states, 1))


class While(Cunning):
    """Its only loop has a condition, which may ask the state."""

    def forward(self, x: Tensor) -> Any:
        h, states = zeros(x), []
        while len(states) < x.shape[1] and h.abs().max() < 2:
            z, n = self.gates(x[:, len(states)], h)
            h = z * h + (1 - z) * n
            states.append(h)
        return states


def test_a_loop_with_a_condition_is_a_loop() -> None:
    torch.manual_seed(0)
    model = While()
    layer = record(model, X)["cell"]
    assert layer.h.shape[1] == X.shape[1]
    assert torch.equal(layer.h, torch.stack(model(X), 1))
    held = record(model, X, edits=clamp("cell", "z", 0, value=1.0))["cell"]
    assert torch.equal(held.h[..., 0], torch.zeros(3, 9))
