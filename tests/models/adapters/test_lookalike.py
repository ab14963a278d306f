"""The lines that are printed for a class that looks like a GRU, run for each way to write one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import grulens
from grulens import record
from grulens.adapters import register
from grulens.errors import AdapterError, NoLayerError, UnsupportedLayerError
from grulens.models.observe.candidates import may_carry

H = 4


def mixed(r: Tensor, z: Tensor, n: Tensor, h: Tensor) -> Tensor:
    return (1 - torch.sigmoid(z)) * n + torch.sigmoid(z) * h


class Packed(nn.Module):
    """Two Linears of 3 H rows."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.i2h, self.h2h = nn.Linear(inputs, 3 * H), nn.Linear(H, 3 * H)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        (xr, xz, xn), (hr, hz, hn) = self.i2h(x).chunk(3, 1), self.h2h(hidden).chunk(3, 1)
        return mixed(xr, xz + hz, torch.tanh(xn + torch.sigmoid(xr + hr) * hn), hidden)


class PackedStateFirst(Packed):
    """The state comes first, in the arguments and among the weights."""

    def __init__(self, inputs: int) -> None:
        nn.Module.__init__(self)
        self.h2h, self.i2h = nn.Linear(H, 3 * H), nn.Linear(inputs, 3 * H)

    def forward(self, h_prev: Tensor, x: Tensor) -> Tensor:
        return super().forward(x, h_prev)


class Matrices(nn.Module):
    """Parameters of (input, 3 H), from the right; a bias each."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.W, self.U = (nn.Parameter(torch.randn(n, 3 * H)) for n in (inputs, H))
        self.b = nn.Parameter(torch.randn(3 * H))

    def forward(self, x: Tensor, h_prev: Tensor) -> Tensor:
        xr, xz, xn = (x @ self.W + self.b).chunk(3, 1)
        hr, hz, hn = (h_prev @ self.U).chunk(3, 1)
        return mixed(xr, xz + hz, torch.tanh(xn + torch.sigmoid(xr + hr) * hn), h_prev)


class PerGate(nn.Module):
    """A Linear a gate and source, not in the order r, z, n."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        for gate in ("update", "reset", "new"):
            setattr(self, f"{gate}_x", nn.Linear(inputs, H))
            setattr(self, f"{gate}_h", nn.Linear(H, H, bias=False))

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        r = torch.sigmoid(self.reset_x(x) + self.reset_h(state))
        z = self.update_x(x) + self.update_h(state)
        return mixed(r, z, torch.tanh(self.new_x(x) + r * self.new_h(state)), state)


class FromTheRight(nn.Module):
    """X @ W: nine parameters, one bias a gate, z first; reset before or after the product."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        for gate in "zrh":
            setattr(self, f"W_x{gate}", nn.Parameter(torch.randn(inputs, H)))
            setattr(self, f"W_h{gate}", nn.Parameter(torch.randn(H, H)))
            setattr(self, f"b_{gate}", nn.Parameter(torch.randn(H)))

    def forward(self, X: Tensor, H: Tensor) -> Tensor:
        z = X @ self.W_xz + H @ self.W_hz + self.b_z
        r = torch.sigmoid(X @ self.W_xr + H @ self.W_hr + self.b_r)
        return mixed(r, z, torch.tanh(X @ self.W_xh + r * (H @ self.W_hh) + self.b_h), H)


class ByFunctional(nn.Module):
    """Parameters as torch's linear takes them."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        for gate in "rzn":
            setattr(self, f"weight_i{gate}", nn.Parameter(torch.randn(H, inputs)))
            setattr(self, f"weight_h{gate}", nn.Parameter(torch.randn(H, H)))
            setattr(self, f"bias_i{gate}", nn.Parameter(torch.randn(H)))
            setattr(self, f"bias_h{gate}", nn.Parameter(torch.randn(H)))

    def forward(self, x: Tensor, hx: Tensor) -> Tensor:
        def both(gate: str) -> tuple[Tensor, Tensor]:
            weights = [getattr(self, f"weight_{s}{gate}") for s in "ih"]
            biases = [getattr(self, f"bias_{s}{gate}") for s in "ih"]
            return tuple(map(functional.linear, (x, hx), weights, biases))

        r = torch.sigmoid(sum(both("r")))
        xn, hn = both("n")
        return mixed(r, sum(both("z")), torch.tanh(xn + r * hn), hx)


class Joined(nn.Module):
    """A Linear a gate over cat([x, h])."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        for name in ("update_gate", "reset_gate", "candidate"):
            setattr(self, name, nn.Linear(inputs + H, H))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], dim=1)
        r, z = torch.sigmoid(self.reset_gate(both)), self.update_gate(both)
        return mixed(r, z, torch.tanh(self.candidate(torch.cat([x, r * h], dim=1))), h)


class JoinedStateFirst(Joined):
    """The same over cat((h, x))."""

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        both = torch.cat((hidden, x), 1)
        r, z = torch.sigmoid(self.reset_gate(both)), self.update_gate(both)
        return mixed(r, z, torch.tanh(self.candidate(torch.cat((r * hidden, x), 1))), hidden)


class TwoInOne(nn.Module):
    """One Linear for both gates, one for the candidate, over cat([x, h])."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.gates, self.out = nn.Linear(inputs + H, 2 * H), nn.Linear(inputs + H, H)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        r, z = self.gates(torch.cat([x, state], -1)).chunk(2, -1)
        n = torch.tanh(self.out(torch.cat([x, torch.sigmoid(r) * state], -1)))
        return mixed(r, z, n, state)


class JoinedMatrices(nn.Module):
    """cat([x, h]) @ W."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        for gate in "rzn":
            setattr(self, f"w_{gate}", nn.Parameter(torch.randn(inputs + H, H)))
            setattr(self, f"b_{gate}", nn.Parameter(torch.randn(H)))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        r, z = torch.sigmoid(both @ self.w_r + self.b_r), both @ self.w_z + self.b_z
        n = torch.tanh(torch.cat([x, r * h], 1) @ self.w_n + self.b_n)
        return mixed(r, z, n, h)


class Lists(nn.Module):
    """A ModuleList for each source."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.from_x = nn.ModuleList(nn.Linear(inputs, H) for _ in range(3))
        self.from_h = nn.ModuleList(nn.Linear(H, H) for _ in range(3))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r = torch.sigmoid(self.from_x[0](x) + self.from_h[0](h))
        z = self.from_x[1](x) + self.from_h[1](h)
        return mixed(r, z, torch.tanh(self.from_x[2](x) + r * self.from_h[2](h)), h)


class Dicts(nn.Module):
    """A ModuleDict by gate, of lists."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.maps = nn.ModuleDict({
            gate: nn.ModuleList([nn.Linear(inputs, H), nn.Linear(H, H)])
            for gate in ("z", "r", "candidate")
        })  # fmt: skip

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        sums = {gate: [pair[0](x), pair[1](h)] for gate, pair in self.maps.items()}
        r = torch.sigmoid(sum(sums["r"]))
        n = torch.tanh(sums["candidate"][0] + r * sums["candidate"][1])
        return mixed(r, sum(sums["z"]), n, h)


class ParameterLists(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.W = nn.ParameterList(torch.randn(inputs, H) for _ in range(3))
        self.U = nn.ParameterList(torch.randn(H, H) for _ in range(3))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r = torch.sigmoid(x @ self.W[0] + h @ self.U[0])
        z = x @ self.W[1] + h @ self.U[1]
        return mixed(r, z, torch.tanh(x @ self.W[2] + r * (h @ self.U[2])), h)


class Gate(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.of_input, self.of_state = nn.Linear(inputs, H), nn.Linear(H, H, bias=False)

    def forward(self, x: Tensor, h: Tensor, by: Any = 1.0) -> Tensor:
        return self.of_input(x) + by * self.of_state(h)


class Helpers(nn.Module):
    """A helper module for each gate."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.reset, self.update, self.new = Gate(inputs), Gate(inputs), Gate(inputs)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r = torch.sigmoid(self.reset(x, h))
        return mixed(r, self.update(x, h), torch.tanh(self.new(x, h, r)), h)


class JoinedGate(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs + H, H), nn.Sigmoid())

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.net(torch.cat([x, h], 1))


class JoinedHelpers(nn.Module):
    """The same over cat([x, h]), each in a Sequential."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.r, self.z, self.n = JoinedGate(inputs), JoinedGate(inputs), JoinedGate(inputs)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r, z = self.r(x, h), self.z(x, h)
        return (1 - z) * torch.tanh(self.n.net[0](torch.cat([x, r * h], 1))) + z * h


class Sequence(nn.Module):
    """It takes whole sequences."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.ih, self.hh = nn.Linear(inputs, 3 * H), nn.Linear(H, 3 * H)

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(len(x), H) if h0 is None else h0[0]
        states = []
        for t in range(x.shape[1]):
            (xr, xz, xn), (hr, hz, hn) = self.ih(x[:, t]).chunk(3, 1), self.hh(h).chunk(3, 1)
            h = mixed(xr, xz + hz, torch.tanh(xn + torch.sigmoid(xr + hr) * hn), h)
            states.append(h)
        return torch.stack(states, 1), h[None]


class TimeFirst(Sequence):
    """Time is the first axis."""

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        states, last = [], h0
        for step in x:
            output, last = Sequence.forward(self, step[:, None], last)
            states.append(output.squeeze(1))
        return torch.stack(states), last


STEPS = (Packed, PackedStateFirst, Matrices, PerGate, FromTheRight, ByFunctional, Joined,
         JoinedStateFirst, TwoInOne, JoinedMatrices, Lists, Dicts, ParameterLists, Helpers,
         JoinedHelpers)  # fmt: skip


class Loop(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), H)
        for t in range(x.shape[1]):
            turned = isinstance(self.cell, PackedStateFirst)
            h = self.cell(h, x[:, t]) if turned else self.cell(x[:, t], h)
        return h


def said(model: nn.Module) -> str:
    try:
        found = grulens.layers(model)
    except UnsupportedLayerError as error:
        return str(error)
    assert not found
    return repr(found)


def run_lines(text: str, kind: type[nn.Module]) -> None:
    """Run what stands in a message as a person would who pastes it."""
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    assert lines[-1].startswith(f"register({kind.__name__}, ")
    exec("\n".join(lines), {kind.__name__: kind})


@pytest.mark.parametrize("inputs", [3, H, 8])
@pytest.mark.parametrize("kind", STEPS)
def test_the_lines_for_a_step_open_it(kind: Any, inputs: int) -> None:
    model, x = Loop(kind(inputs)), torch.randn(2, 6, inputs)
    text = said(model)
    assert f"'cell' ({kind.__name__}) looks like a GRU of {H} units: it has " in text
    try:
        run_lines(text, kind)
        run = record(model, x)
        assert run.residual < 1e-5
        assert torch.equal(run["cell"].h[:, -1], model(x))
        assert float(run["cell"].z.std()) > 0.01
    finally:
        register(kind, None)


@pytest.mark.parametrize("kind", [Sequence, TimeFirst])
def test_the_lines_for_a_sequence_open_it(kind: Any) -> None:
    model, x = kind(3), torch.randn(2, 6, 3)
    text = said(model)
    assert "SequenceAdapter(cell" in text
    assert "StepAdapter, if it is called step by step" in text
    try:
        run_lines(text, kind)
        run = record(model, x)
        assert run.residual < 1e-5
        assert run["l0"].shape == ((2, 6, H) if kind is Sequence else (6, 2, H))
    finally:
        register(kind, None)


def test_lines_that_say_the_wrong_convention_are_not_believed() -> None:
    class Swapped(Packed):
        def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
            (xr, xz, xn), (hr, hz, hn) = self.i2h(x).chunk(3, 1), self.h2h(hidden).chunk(3, 1)
            return mixed(xr, -xz - hz, torch.tanh(xn + torch.sigmoid(xr + hr) * hn), hidden)

    model = Loop(Swapped(3))
    try:
        run_lines(said(model), Swapped)
        with pytest.raises(AdapterError, match="What fits is z and 1 - z swapped"):
            record(model, torch.randn(2, 6, 3))
    finally:
        register(Swapped, None)


class Attention(nn.Module):
    """It takes a state, and has square weights, and is no GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        return self.out(torch.cat([self.query(hidden) * self.key(x), self.value(x)], 1))


class LSTMLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ih, self.hh = nn.Linear(3, 16), nn.Linear(4, 16)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return self.ih(x) + self.hh(state)


class NoState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.r, self.z, self.n = (nn.Linear(7, 4) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.r(x) + self.z(x) + self.n(x)


@pytest.mark.parametrize("kind", [Attention, LSTMLike, NoState])
def test_what_is_no_gru_does_not_look_like_one(kind: Any) -> None:
    model = nn.ModuleList([kind()])
    if may_carry(model[0]):
        # it may carry a state of another kind, which a run would show
        assert not grulens.layers(model)
        assert not grulens.layers(model).closed
    else:
        with pytest.raises(NoLayerError):
            grulens.layers(model)
