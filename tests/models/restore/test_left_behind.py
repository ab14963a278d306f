"""What a model leaves behind when it runs: on itself, in its arguments, in random numbers.

A run that stands for another must not be seen by the next one; and a class that hands a state on by
leaving it on itself cannot be edited by putting its cell in its place.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grulens import Cell, ablate, clamp, editing, record, scale, sweep, trace_patch
from grulens.adapters import SequenceAdapter, StepAdapter, register
from grulens.credit import integrated_gradients
from grulens.errors import AdapterError, RecordingError


class Keeps(nn.GRU):
    """Changes nothing, and keeps what it returned."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        self.last = super().forward(x, h)
        return self.last


class Stateful(nn.Module):
    """A cell that keeps its state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.h = nn.GRUCell(3, 4), torch.zeros(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.h = self.cell(x, self.h)
        return self.h


class Writes(nn.Module):
    """A cell that writes the new state over the old one."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h.copy_(self.cell(x, h))


class Loop(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        states, h = [], torch.zeros(2, 4)
        for t in range(x.shape[1]):
            given = (h,) if isinstance(self.cell, Writes) else ()
            states.append(self.cell(x[:, t], *given).clone())
        return torch.stack(states, 1)


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Keeps(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        self.cell(x)
        return self.cell.last[0]


def weights(module: Any) -> Cell:
    cell = module.cell
    return Cell(cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)


@pytest.fixture(autouse=True)
def _registered() -> Any:
    register(Stateful, StepAdapter(weights, arguments=lambda m, x: (x, m.h)))
    register(Writes, StepAdapter(weights))
    yield
    register(Stateful, None)
    register(Writes, None)


@pytest.mark.parametrize("make", [Reads, lambda: Loop(Stateful()), lambda: Loop(Writes())])
def test_a_class_that_leaves_its_state_somewhere_is_recorded_and_not_edited(make: Any) -> None:
    net, x = make(), torch.randn(2, 5, 3)
    with torch.no_grad():
        run = record(net, x)
        assert run.residual < 1e-6
        layer = next(iter(run))
        words = "sets last on itself" if isinstance(net, Reads) else "sets h on itself|writes into"
        for ask in (
            lambda: record(net, x, edits=ablate(layer, 1)),
            lambda: sweep(net, x, layer=layer, readout=lambda out: out[:, -1], progress=False),
        ):
            with pytest.raises(AdapterError, match=words):
                ask()
        with pytest.raises(AdapterError, match=words), editing(net, scale(layer, "h", by=0.5)):
            net(x)
    if not isinstance(net.cell, Writes):
        with pytest.raises(AdapterError, match=words):
            record(net, x, grad=True)


def test_with_a_graph_the_output_is_the_models_own_or_it_is_refused() -> None:
    class Leaky(nn.GRU):
        decay = 1.0

        def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
            out, h = super().forward(x, h)
            return out, h * self.decay

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = Leaky(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            h = None
            for t in range(x.shape[1]):
                self.rnn.decay = 1.0 if t < 2 else 0.5
                out, h = self.rnn(x[:, t : t + 1], h)
            self.rnn.decay = 1.0
            return out

    net, x = Net(), torch.randn(2, 5, 3)
    with pytest.raises(AdapterError, match="changes what it returns beside its cells"):
        record(net, x, grad=True)


class Draws(nn.Module):
    """Draws from one source of random numbers, and leaves traces."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.rnn, self.source = nn.GRU(3, 4, batch_first=True), source
        self.own = torch.Generator().manual_seed(3)
        self.numpys, self.pythons = np.random.default_rng(3), random.Random(3)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        draw = {
            "torch": lambda: torch.rand(()).item(),
            "a generator": lambda: torch.rand((), generator=self.own).item(),
            "numpy": np.random.random,
            "numpy's own": self.numpys.random,
            "python": random.random,
            "python's own": self.pythons.random,
            "none": lambda: 0.5,
        }[self.source]
        if self.source == "none":
            x.mul_(0.5)
            self.seen.append(x)
        return self.rnn(x + draw())[0] * len(self.seen or [0])


# where annotations are checked, the checks draw from Python's own random numbers
PYTHON = pytest.param("python", marks=pytest.mark.unchecked)
SOURCES = ["torch", "a generator", "numpy", "numpy's own", PYTHON, "python's own", "none"]


@pytest.mark.parametrize("source", SOURCES)
def test_the_unedited_run_behind_an_edit_is_not_seen_by_the_run(source: str) -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    made = [Draws(source), Draws(source)]
    made[1].load_state_dict(made[0].state_dict())
    stand = random.getstate(), np.random.get_state(), torch.get_rng_state()
    x = torch.randn(1, 5, 3)
    outs = []
    for net, last in zip(made, (-1, 4), strict=True):
        random.setstate(stand[0])
        np.random.set_state(stand[1])
        torch.set_rng_state(stand[2])
        given, edit = x.clone(), clamp("rnn.l0", "z", 0, value=0.5, at=last)
        with torch.no_grad(), editing(net, edit):
            outs.append((net(given), given, len(net.seen)))
    assert torch.equal(outs[0][0], outs[1][0])
    assert torch.equal(outs[0][1], outs[1][1])
    assert outs[0][2] == outs[1][2]


@pytest.mark.parametrize("source", SOURCES[:-1])
def test_what_is_compared_draws_the_same_random_numbers(source: str) -> None:
    net, x, y = Draws(source), torch.randn(1, 5, 3), torch.randn(1, 5, 3)
    read = lambda out: out[:, -1, 0]  # noqa: E731
    null = lambda layer, unit: scale(layer, "h", unit, by=1.0)  # noqa: E731
    found = sweep(net, x, layer="rnn.l0", readout=read, make_edit=null, progress=False)
    assert found.effect.abs().max() < 1e-6
    traced = trace_patch(net, x, y, "rnn.l0", read, times=-1, progress=False)
    assert abs(float(traced.share.flatten()[0]) - 1) < 1e-3
    credit = integrated_gradients(net.double(), x.double(), readout=read, progress=False)
    assert credit.gap.abs().max() < 1e-6


def test_arguments_are_the_users_after_questions_that_run_often() -> None:
    net, x = Draws("none"), torch.randn(1, 5, 3)
    before = x.clone()
    sweep(net, x, layer="rnn.l0", progress=False)
    integrated_gradients(net, x, readout=lambda out: out[:, -1, 0], progress=False)
    assert torch.equal(x, before)
    assert net.seen == []


class Stops(nn.Module):
    """Writes until every row has said that it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.say = nn.GRUCell(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h, out, done = x.new_zeros(len(x), 4), [], torch.zeros(len(x), dtype=torch.bool)
        for _ in range(8):
            h = self.cell(x, h)
            x = torch.nn.functional.one_hot(self.say(h).argmax(1), 3).float()
            out.append(h)
            done |= x[:, 0] == 1
            if done.all():
                break
        return torch.stack(out, 1)


def test_a_loop_that_stops_by_what_it_computed_is_swept_one_by_one() -> None:
    stopped = 0
    for seed in range(12):
        torch.manual_seed(seed)
        net, x = Stops(), torch.randn(1, 3)
        read = lambda out: out[:, -1, 0]  # noqa: E731
        found = sweep(net, x, layer="cell", readout=read, progress=False)
        assert not found.batched
        for unit in range(4):
            run = record(net, x, edits=ablate("cell", unit))
            assert torch.equal(found.baseline + found.effect[unit], read(run.output))
            stopped += run.output.shape != record(net, x).output.shape
    assert stopped > 3  # the edits do change when it stops


def test_looking_before_the_layer_ran_keeps_a_sweep_side_by_side() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x * 2 if x.sum() > 0 else x)[0]

    assert sweep(Looks(), torch.randn(1, 5, 3), layer="rnn.l0", progress=False).batched


def test_what_has_not_run_yet_is_said_to_need_a_block() -> None:
    class Yields(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(3, 4)

        def steps(self, x: Tensor) -> Any:
            yield self.cell(x)

    with pytest.raises(RecordingError, match=r"a generator, which has not run yet.*recording"):
        record(Yields(), torch.randn(2, 3), call="steps")


def test_a_sequence_adapter_that_keeps_its_state_is_not_edited() -> None:
    class Streams(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.h = nn.GRU(3, 4, batch_first=True), torch.zeros(1, 2, 4)

        def forward(self, x: Tensor) -> Tensor:
            out, self.h = self.cell(x, self.h)
            return out

    def cell(module: Any) -> Cell:
        g = module.cell
        return Cell(g.weight_ih_l0, g.weight_hh_l0, g.bias_ih_l0, g.bias_hh_l0)

    register(
        Streams,
        SequenceAdapter(cell, arguments=lambda m, x: (x, m.h), result=lambda m, h, h_n: h),
    )
    try:
        net, x = Streams(), torch.randn(2, 5, 3)
        with torch.no_grad():
            assert record(net, x).residual < 1e-6
            with pytest.raises(AdapterError, match="sets h on itself"):
                record(net, x, edits=ablate("l0", 1))
    finally:
        register(Streams, None)
