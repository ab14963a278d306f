"""r, z and n of every step of a layer: grulens, a loop written by hand, and TorchLens' trace.

grulens is asked twice: of nn.GRU, and of the loop, which it observes as TorchLens does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

import grulens
from benchmarks.engine import cell_loop
from benchmarks.others.job import Candidate, Job, Size, difference

SMALL = Size(2, 6, 5, 8)


@cache
def network(size: Size) -> tuple[nn.GRU, nn.GRUCell, Tensor]:
    """A GRU, a cell of the same weights, and an input."""
    torch.manual_seed(0)
    gru = nn.GRU(size.inputs, size.hidden, batch_first=True).eval()
    cell = nn.GRUCell(size.inputs, size.hidden)
    cell.load_state_dict({name.removesuffix("_l0"): w for name, w in gru.state_dict().items()})
    return gru, cell, torch.randn(size.batch, size.time, size.inputs)


class Loop(nn.Module):
    """The same network as a loop of nn.GRUCell."""

    def __init__(self, cell: nn.GRUCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.cell.hidden_size)
        states = []
        for step in x.unbind(1):
            h = self.cell(step, h)
            states.append(h)
        return torch.stack(states, 1)


class Written(Loop):
    """The same network with its formulas written out, as a tracer of operations needs it."""

    def forward(self, x: Tensor) -> Tensor:
        cell, h = self.cell, x.new_zeros(len(x), self.cell.hidden_size)
        states = []
        for step in x.unbind(1):
            i_r, i_z, i_n = (step @ cell.weight_ih.t() + cell.bias_ih).chunk(3, 1)
            h_r, h_z, h_n = (h @ cell.weight_hh.t() + cell.bias_hh).chunk(3, 1)
            r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
            n = torch.tanh(i_n + r * h_n)
            h = (1 - z) * n + z * h
            states.append(h)
        return torch.stack(states, 1)


def ours(size: Size) -> Callable[[], Tensor]:
    gru, _, x = network(size)

    def run() -> Tensor:
        layer = grulens.record(gru, x)["l0"]
        return torch.stack([layer.r, layer.z, layer.n])

    return run


def observed(size: Size) -> Callable[[], Tensor]:
    """grulens on the loop that TorchLens traces: found in its forward, with no adapter."""
    _, cell, x = network(size)
    model = Written(cell)
    (name,) = grulens.record(model, x, observe=True)

    def run() -> Tensor:
        layer = grulens.record(model, x, observe=True)[name]
        return torch.stack([layer.r, layer.z, layer.n])

    return run


def by_hand(size: Size) -> Callable[[], Tensor]:
    _, cell, x = network(size)
    return lambda: torch.stack(cell_loop(cell, x), 2)[:3]


def traced(size: Size) -> Callable[[], Tensor]:
    """TorchLens' whole trace: every operation with its place in the graph."""
    tl = torchlens()
    _, cell, x = network(size)
    model = Written(cell)

    def run() -> Tensor:
        trace = tl.trace(model, x, save=tl.func("sigmoid") | tl.func("tanh"))
        return _in_turn([op.out for op in trace.layer_list if op.func_name in ("sigmoid", "tanh")])

    return run


def recorded(size: Size) -> Callable[[], Tensor]:
    """TorchLens' leaner `record`: the tensors asked for, and no graph."""
    tl = torchlens()
    _, cell, x = network(size)
    model = Written(cell)

    def run() -> Tensor:
        kept = tl.record(model, x, save=tl.func("sigmoid") | tl.func("tanh"))
        return _in_turn([record.ram_payload for record in kept.records])

    return run


def torchlens() -> ModuleType:
    """The package, which not everybody has."""
    return import_module("torchlens")


def _in_turn(kept: list[Tensor]) -> Tensor:
    """r, z and n (3, batch, time, unit) from tensors that came in the order r z n, r z n, …"""
    return torch.stack([torch.stack(kept[first::3], 1) for first in range(3)])


def tried() -> list[tuple[str, str, str]]:
    tl = torchlens()
    gru, cell, x = network(SMALL)
    layer = grulens.record(gru, x)["l0"]
    found = []
    for what, model in (
        ("nn.GRU", gru),
        ("a loop of nn.GRUCell", Loop(cell)),
        ("a loop with the formulas written out", Written(cell)),
    ):
        saved = [op for op in tl.trace(model, x).layer_list if isinstance(op.out, Tensor)]
        holding = {op.layer_label: _steps(layer.z, op.out) for op in saved}
        seen = set().union(*holding.values())
        names = [label for label, steps in holding.items() if steps]
        named = f", as {names[0]}, {names[1]}, …" if seen else ""
        said = f"{len(seen)} of {SMALL.time} steps among {len(saved)} saved tensors{named}"
        found.append(("torchlens", f"trace of {what}: z is there", said))
    closed = tl.when(tl.func("sigmoid"), tl.zero_ablate())
    theirs = tl.trace(Written(cell), x, intervene=closed).layer_list[-1].out
    with grulens.editing(gru, *(grulens.clamp("l0", signal, value=0.0) for signal in ("r", "z"))):
        far = difference(theirs, gru(x)[0])
    said = f"yes, inside the recurrence; {far} from grulens.clamp"
    found.append(("torchlens", "every sigmoid of the loop written out set to 0", said))

    (seen_too,) = grulens.record(Written(cell), x, observe=True).values()
    far = difference(seen_too.z, layer.z)
    said = f"all of them, {far} from nn.GRU's, by name: {seen_too.cell.equation}"
    found.append(("grulens", "the loop with the formulas written out: z is there", said))
    return found


def _steps(signal: Tensor, tensor: Tensor) -> set[int]:
    """The steps of a recorded signal (batch, time, unit) that a tensor holds, alone or in a row."""
    parts = tensor.unbind(1) if tensor.shape == signal.shape else [tensor]
    return {
        step
        for step, value in enumerate(signal.unbind(1))
        for part in parts
        if part.shape == value.shape and torch.allclose(part, value, atol=1e-6)
    }


JOB = Job(
    "r, z and n of every step of a layer",
    (Size(1, 100, 64, 128), Size(32, 100, 128, 256)),
    (
        Candidate("grulens: record of nn.GRU", None, ours),
        Candidate("a loop written by hand that keeps its gates", None, by_hand),
        Candidate("grulens: record of that loop", None, observed),
        Candidate("TorchLens: trace of a loop written by hand", "torchlens", traced),
        Candidate("TorchLens: record of it, without the graph", "torchlens", recorded),
    ),
    tried,
)
