"""What a run is: every way into a model, against every kind of edit, held to a loop by hand."""

from __future__ import annotations

import asyncio
import copy
import gc
import io
import multiprocessing
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import grulens
from grulens import ablate, clamp, editing, record, recording, scale, shift, sweep, trace_patch
from grulens.errors import (
    GraphCutWarning,
    LayerError,
    NothingRanWarning,
    OtherThreadWarning,
    PositionError,
    RecordingError,
    WeightsChangedError,
    WeightsMovedWarning,
)
from tests.intact import Intact

STEPS = 6


class Decoder(nn.Module):
    """Feeds a cell what it said before, for as many steps as it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.say = nn.GRUCell(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.generate(x, STEPS)

    def generate(self, x: Tensor, steps: int = STEPS) -> Tensor:
        h, states = x.new_zeros(len(x), 4), []
        for _ in range(steps):
            h = self.cell(x, h)
            x = self.say(h)
            states.append(h)
        return torch.stack(states, 1)

    def one_by_one(self, x: Tensor) -> Iterator[Tensor]:
        h = x.new_zeros(len(x), 4)
        for _ in range(STEPS):
            h = self.cell(x, h)
            x = self.say(h)
            yield h

    async def awaited(self, x: Tensor) -> Tensor:
        return torch.stack(list(self.one_by_one(x)), 1)

    @torch.no_grad()
    def decorated(self, x: Tensor) -> Tensor:
        return self.generate(x)


class Net(nn.Module):
    """A model that holds the decoder as a part."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = Decoder()

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(x)

    def sample(self, x: Tensor) -> Tensor:
        return self.decoder.generate(x)

    def streamed(self, x: Tensor) -> Iterator[Tensor]:
        yield from self.decoder.one_by_one(x)


class Outside(nn.Module):
    """A wrapper that is no part of the model."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.sample(x)


def stacked(states: Iterator[Tensor]) -> Tensor:
    return torch.stack(list(states), 1)


WAYS: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "the model": lambda net, x: net(x),
    "forward by name": lambda net, x: net.forward(x),
    "a method": lambda net, x: net.sample(x),
    "a method of the class": Net.sample,
    "a part": lambda net, x: net.decoder(x),
    "a part's method": lambda net, x: net.decoder.generate(x),
    "a decorated method": lambda net, x: net.decoder.decorated(x),
    "a generator": lambda net, x: stacked(net.streamed(x)),
    "a coroutine": lambda net, x: asyncio.run(net.decoder.awaited(x)),
    "a wrapper": lambda net, x: Outside(net)(x),
    "a thread of its own": lambda net, x: _in_thread(net, x),  # noqa: PLW0108 - defined below
}
UNSEEN = {"forward by name", "a method of the class", "a generator", "a coroutine"}
"""Ways into the model of which nobody sees the arguments before they run."""


def _in_thread(net: Net, x: Tensor) -> Tensor:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(net, x).result(20)


EDITS = {
    "a value": (clamp("decoder.cell", "h", [0], value=1.0, at=2), False),
    "a slice": (scale("decoder.cell", "z", by=0.5, at=slice(1, 4)), False),
    "a shift": (shift("decoder.cell", "n", 1, by=0.3), False),
    "from the end": (clamp("decoder.cell", "h", [1], value=-1.0, at=-1), True),
    "a slice from the end": (scale("decoder.cell", "r", by=0.0, at=slice(-3, None)), True),
    "the mean": (ablate("decoder.cell", [0, 2], to="mean"), True),
}


def by_hand(net: Net, x: Tensor, edit: grulens.Edit | None = None) -> Tensor:
    """The same loop, written out, with one edit in it."""
    cell, h, states = net.decoder.cell, x.new_zeros(len(x), 4), []
    mean = None
    if edit is not None and edit.amount == "mean":
        mean = by_hand(net, x).mean((0, 1))
    for t in range(STEPS):
        i = (x @ cell.weight_ih.T + cell.bias_ih).chunk(3, 1)
        s = (h @ cell.weight_hh.T + cell.bias_hh).chunk(3, 1)

        def edited(signal: str, value: Tensor, pre: Tensor | None = None, t: int = t) -> Tensor:
            if edit is None or edit.signal != signal or t not in _times(edit):
                return value
            units = range(4) if edit.units is None else edit.units
            units = [units] if isinstance(units, int) else list(units)
            new = value.clone()
            if edit.kind == "shift":
                new[:, units] = torch.tanh(pre + edit.amount)[:, units]
            elif edit.kind == "scale":
                new[:, units] *= edit.amount
            else:
                new[:, units] = mean[units] if mean is not None else edit.amount
            return new

        r = edited("r", torch.sigmoid(i[0] + s[0]))
        z = edited("z", torch.sigmoid(i[1] + s[1]))
        pre = i[2] + r * s[2]
        n = edited("n", torch.tanh(pre), pre)
        h = edited("h", (1 - z) * n + z * h)
        x = net.decoder.say(h)
        states.append(h)
    return torch.stack(states, 1)


def _times(edit: grulens.Edit) -> list[int]:
    steps = list(range(STEPS))
    if edit.at is None:
        return steps
    return steps[edit.at] if isinstance(edit.at, slice) else [steps[edit.at]]


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3)


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("way", WAYS)
def test_two_runs_of_a_block_are_edited_alike_whatever_way_they_come(
    net: Net, x: Tensor, way: str, edit: str
) -> None:
    (change, relative), go, y = EDITS[edit], WAYS[way], torch.randn(2, 3)
    intact = Intact(net)
    with torch.no_grad():
        right = [by_hand(net, v, change) for v in (x, y)]
        plain = by_hand(net, x)
        if way == "a thread of its own":
            with editing(net, change), pytest.warns(OtherThreadWarning, match="is not edited"):
                assert close(go(net, x), plain)
        elif relative and way in UNSEEN:
            with editing(net, change), pytest.raises(RecordingError, match="the unedited run"):
                go(net, x)
        else:
            with editing(net, change):
                assert close(go(net, x), right[0])
                assert close(go(net, y), right[1])
            assert not close(right[0], plain)
        assert close(go(net, x), plain)
    assert intact.broken() == []


@pytest.mark.parametrize("way", [way for way in WAYS if way != "a thread of its own"])
def test_every_run_of_a_block_is_recorded_by_itself(net: Net, x: Tensor, way: str) -> None:
    y = torch.randn(5, 3)
    with torch.no_grad(), recording(net) as runs:
        outputs = [WAYS[way](net, v) for v in (x, y)]
    assert [run["decoder.cell"].shape for run in runs] == [(2, STEPS, 4), (5, STEPS, 4)]
    for run, output in zip(runs, outputs, strict=True):
        assert torch.equal(run["decoder.cell"].h, output)
        assert run.residual < 1e-6
        if way in UNSEEN:
            with pytest.raises(RecordingError, match="was not seen"):
                _ = run.output
        else:
            assert run.output is output


@pytest.mark.parametrize("way", ["the model", "a method", "a method of the class", "a generator"])
def test_a_position_behind_the_end_of_a_run_is_refused(net: Net, x: Tensor, way: str) -> None:
    far = clamp("decoder.cell", "h", value=1.0, at=99)
    with pytest.raises(PositionError, match="time 99 is out of range"), editing(net, far):
        WAYS[way](net, x)


def test_runs_that_are_interleaved_have_time_axes_of_their_own(net: Net, x: Tensor) -> None:
    edit, y = clamp("decoder.cell", "h", [0], value=1.0, at=2), torch.randn(2, 3)
    with torch.no_grad():
        with editing(net, edit):
            both = list(zip(net.streamed(x), net.streamed(y), strict=True))
        for number, v in enumerate((x, y)):
            assert close(torch.stack([pair[number] for pair in both], 1), by_hand(net, v, edit))


def test_a_method_that_opens_a_block_itself_makes_runs_in_it(x: Tensor) -> None:
    class Probes(Net):
        def probe(self, x: Tensor) -> list[Tensor]:
            with editing(self, clamp("decoder.cell", "h", [0], value=1.0, at=2)):
                return [self(x), self.sample(x)]

    net = Probes()
    one, other = net.probe(x)
    assert torch.equal(one, other)
    assert torch.equal(one[:, 2, 0], torch.ones(2))


# record and the questions: call=, inputs=


class Named(nn.Module):
    """A model whose own keywords are those of grulens' functions."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor, layers: float = 1.0, *, readout: float = 1.0) -> Tensor:
        return self.out(self.rnn(x * layers)[0]) * readout

    def classify(self, x: Tensor, labels: int = 0) -> Tensor:
        return self.out(self.rnn(x)[1][-1])[:, labels]


def test_inputs_hold_arguments_that_are_also_options() -> None:
    net, x = Named(), torch.randn(2, 5, 3)
    inputs = (x,), {"layers": 2.0, "readout": 3.0}
    run = record(net, inputs=inputs)
    assert torch.equal(run.output, net(x, 2.0, readout=3.0))
    found = sweep(net, inputs=inputs, layer="rnn.l0", progress=False)
    assert torch.equal(found.baseline, run.output)
    read = lambda out: out[:, -1, 0]  # noqa: E731
    for credit in (grulens.credit.integrated_gradients, grulens.credit.input_x_gradient):
        options = {"progress": False} if credit is grulens.credit.integrated_gradients else {}
        assert torch.equal(
            credit(net, inputs=inputs, readout=read, **options).score, read(run.output)
        )
    assert grulens.credit.head_of(net, inputs=inputs).name == "out"


@pytest.mark.parametrize("inputs", [3, (), ((),), ({}, ()), ((1,), [2]), "ab"])
def test_inputs_of_another_form_are_refused(inputs: Any) -> None:
    with pytest.raises(RecordingError, match=r"inputs must be \(args, kwargs\)"):
        record(Named(), inputs=inputs)
    with pytest.raises(RecordingError, match="got others beside it"):
        record(Named(), torch.randn(2, 5, 3), inputs=((), {}))


def test_a_method_is_recorded_swept_and_traced_as_forward_is() -> None:
    net, x, y = Named(), torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    with torch.no_grad():
        plain = net.classify(x, labels=1)
    run = record(net, x, call="classify", labels=1)
    assert torch.equal(run.output, plain)
    edited = record(net, x, call="classify", edits=ablate("rnn.l0", 2, to="mean", at=-1)).output

    class AsForward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor, labels: int = 0) -> Tensor:
            return self.net.classify(x, labels)

    same = AsForward()
    edit = ablate("net.rnn.l0", 2, to="mean", at=-1)
    assert torch.equal(edited, record(same, x, edits=edit).output)
    one = sweep(net, x, call="classify", layer="rnn.l0", progress=False)
    other = sweep(same, x, layer="net.rnn.l0", progress=False)
    assert one.batched
    assert torch.equal(one.effect, other.effect)
    options = {"readout": lambda out: out, "progress": False}
    one = trace_patch(net, ((x,), {"labels": 1}), ((y,), {"labels": 1}), "rnn.l0",
                      call="classify", **options)  # fmt: skip
    other = trace_patch(same, (x, 1), (y, 1), "net.rnn.l0", **options)
    assert torch.equal(one.share, other.share)
    assert torch.equal(record(net, x, call="rnn").output[0], net.rnn(x)[0])  # a part


@pytest.mark.parametrize(("call", "words"), [
    ("clasify", "Named has no method or part 'clasify'; it has classify, forward"),
    ("__class__", "'__class__' begins with an underscore"),
    ("out._forward", "'_forward' begins with an underscore"),
    ("out.weight", "no method or part 'out.weight'"), (3, "call must be the name of a method"),
])  # fmt: skip
def test_a_method_that_is_not_there_is_named(call: Any, words: str) -> None:
    with pytest.raises(RecordingError) as raised:
        record(Named(), torch.randn(2, 5, 3), call=call)
    assert words in str(raised.value)


# rows that change


class Match(nn.Module):
    """Documents and a query through one GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)

    def forward(self, query: Tensor, documents: Tensor) -> Tensor:
        return self.rnn(documents)[1][0] @ self.rnn(query)[1][0].T


class Beams(nn.Module):
    """Three rows at first, of which one ends after two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.cell(x, self.cell(x))
        return self.cell(x[:2], self.cell(x[:2], h[:2]))


def test_calls_with_other_numbers_of_rows_are_recorded_row_by_row() -> None:
    net, query, documents = Match(), torch.randn(1, 5, 3), torch.randn(7, 9, 3)
    run = record(net, query, documents)
    layer = run["rnn.l0"]
    assert layer.shape == (8, 9, 4)
    assert list(layer.rows) == [((0,), i) for i in range(7)] + [((1,), 0)]
    assert torch.equal(layer.h[:7], net.rnn(documents)[0].detach())
    assert torch.equal(layer.h[7:, :5], net.rnn(query)[0].detach())
    assert layer.mask.sum(1).tolist() == [9] * 7 + [5]
    assert layer.h[7, 5:].eq(0).all()
    assert torch.equal(layer.h_prev[:, 1:][layer.mask[:, 1:]], layer.h[:, :-1][layer.mask[:, 1:]])
    assert layer.residual < 1e-6
    alone = record(net.rnn, query)["l0"]
    assert torch.allclose(layer.z[7:, :5], alone.z, atol=1e-6)
    assert not layer.one_batch
    assert not layer.to_numpy()["z"][7, 5:].any()


def test_beams_that_end_share_rows_with_calls_of_as_many() -> None:
    layer = record(Beams(), torch.randn(3, 3))["cell"]
    assert layer.rows == (((0, 1), 0), ((0, 1), 1), ((0, 1), 2), ((2, 3), 0), ((2, 3), 1))
    assert layer.calls == (0, 1, 0, 1)
    assert torch.equal(layer.h_prev[3:, 0], layer.h[:2, 1])
    assert layer.residual < 1e-6


def test_edits_of_calls_with_other_rows_count_along_those_with_as_many() -> None:
    net, query, documents = Match(), torch.randn(1, 5, 3), torch.randn(7, 9, 3)
    run = record(net, query, documents, edits=clamp("rnn.l0", "h", 0, value=1.0, at=[4, -1]))
    at = run["rnn.l0"].h[..., 0] == 1.0
    assert at[:7].sum(0).tolist() == [0, 0, 0, 0, 7, 0, 0, 0, 7]
    assert at[7].tolist() == [False] * 4 + [True] + [False] * 4


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda net, given, run: sweep(net, *given, layer="rnn.l0", progress=False), "a sweep"),
        (lambda net, given, run: grulens.memory.attention(run, "rnn.l0"), "attention"),
        (lambda net, given, run: grulens.memory.gradient_flow(run, "rnn.l0"), "gradient flow"),
        (lambda net, given, run: grulens.memory.timescales(run, "rnn.l0"), "timescales"),
        (lambda net, given, run: grulens.patch("rnn.l0", "h", source=run), "a patch"),
        (lambda net, given, run: grulens.credit.input_x_gradient(
            net, *given, readout=lambda out: out.flatten()), "credit"),
    ],
)  # fmt: skip
def test_what_needs_one_batch_says_so_by_name(ask: Any, what: str) -> None:
    net, given = Match(), (torch.randn(1, 5, 3), torch.randn(7, 9, 3))
    run = record(net, *given)
    with pytest.raises(RecordingError, match=f"called with 7 and with 1 rows in one run; {what}"):
        ask(net, given, run)
    net.eval()
    grulens.dynamics.portrait(run, "rnn.l0")  # states are states


# grad=True


def _nudged(
    net: nn.Module, layer: str, signal: str, call: Callable[[], Tensor], like: Tensor
) -> Tensor:
    by = torch.zeros_like(like, requires_grad=True)
    with editing(net, shift(layer, signal, by=by)):
        (found,) = torch.autograd.grad(call(), by)
    return found


MODULES: dict[str, Callable[[], nn.Module]] = {
    "one layer": lambda: nn.GRU(3, 4, batch_first=True),
    "two layers, both ways": lambda: nn.GRU(3, 4, 2, batch_first=True, bidirectional=True),
    "a convention of its own": lambda: grulens.adapters.GRUStack(
        grulens.Cell(torch.randn(12, 3), torch.randn(12, 4), None, None, reset_after=False)
    ),
}


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("edited", [False, True])
def test_the_derivative_by_a_recorded_state_is_that_by_a_shift_of_it(
    make: str, edited: bool
) -> None:
    torch.manual_seed(1)
    net, x = MODULES[make]().double(), torch.randn(2, 5, 3, dtype=torch.float64)
    edits = [scale("l0", "z", by=0.5, at=1), clamp("l0", "h", 2, value=0.3, at=3)] if edited else []

    def loss(output: Any) -> Tensor:
        return output[0].pow(2).sum() + output[1].sum()

    run = record(net, x, grad=True, edits=edits)
    for name, layer in run.items():
        (found,) = torch.autograd.grad(loss(run.output), layer.h, retain_graph=True)
        with editing(net, *edits):
            right = _nudged(net, name, "h", lambda: loss(net(x)), layer.h)
        assert torch.allclose(found, right, atol=1e-10)


@pytest.mark.parametrize("signal", ["r", "z", "n", "x", "h_prev"])
def test_the_derivatives_by_the_other_signals_equal_those_of_a_loop(signal: str) -> None:
    torch.manual_seed(2)
    cell = nn.GRUCell(3, 4).double()
    x, h_0 = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            states = []
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h)
                states.append(h)
            return torch.stack(states, 1)

    by = torch.zeros(2, 5, 3 if signal == "x" else 4, dtype=torch.float64, requires_grad=True)
    add = lambda name, value, t: value + by[:, t] if name == signal else value  # noqa: E731
    h, states = h_0, []
    for t in range(5):
        i = (add("x", x[:, t], t) @ cell.weight_ih.T + cell.bias_ih).chunk(3, 1)
        h = add("h_prev", h, t)
        s = (h @ cell.weight_hh.T + cell.bias_hh).chunk(3, 1)
        r, z = (add(k, torch.sigmoid(i[j] + s[j]), t) for j, k in enumerate("rz"))
        h = torch.lerp(add("n", torch.tanh(i[2] + r * s[2]), t), h, z)
        states.append(h)
    weights = torch.randn(2, 5, 4, dtype=torch.float64)
    (right,) = torch.autograd.grad((torch.stack(states, 1) * weights).sum(), by)
    run = record(Loop(), x, h_0, grad=True)
    (found,) = torch.autograd.grad((run.output * weights).sum(), run["cell"].signal(signal))
    assert torch.allclose(found, right, atol=1e-10)
    run = record(nn.GRU(3, 4), torch.randn(5, 2, 3), grad=True)
    if signal in "rzn":
        with pytest.raises(RecordingError, match=f"computed from the recorded {signal} itself"):
            torch.autograd.grad(run["l0"].signal(signal).sum(), run["l0"].signal(signal))


@pytest.mark.parametrize("cut", [True, False])
def test_derivatives_that_end_where_the_model_cuts_its_graph_say_so(cut: bool) -> None:
    class Truncated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            state = None
            for part in x.split(2, 1):
                output, state = self.rnn(part, state)
                state = state.detach() if cut else state
            return output

    run = record(Truncated(), torch.randn(2, 6, 3), grad=True)
    signals = [run["rnn.l0"].h, run["rnn.l0"].z]
    if not cut:
        by_h, by_z = torch.autograd.grad(run.output.sum(), signals)
        assert bool(by_h[:, 0].any() and by_z[:, 0].any())
        return
    with pytest.warns(GraphCutWarning, match="call 2 of layer 'rnn.l0' begins with the state of"):
        by_h, by_z = torch.autograd.grad(run.output.sum(), signals)
    assert not bool(by_h[:, :4].any() or by_z[:, :4].any())
    assert bool(by_h[:, 4:].all() and by_z[:, 4:].all())


def test_derivatives_of_a_packed_run_and_once_more() -> None:
    torch.manual_seed(3)
    net = nn.GRU(2, 3, batch_first=True, bidirectional=True).double()
    rows = torch.randn(2, 4, 2, dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(rows, [2, 4], batch_first=True, enforce_sorted=False)
    run = record(net, packed, grad=True)
    score = lambda out: out[0].data.pow(2).sum() + out[1].sum()  # noqa: E731
    loss = score(run.output)
    for name, layer in run.items():
        found, by_z = torch.autograd.grad(loss, [layer.h, layer.z], create_graph=True)
        assert found[0, 2:].eq(0).all()
        right = _nudged(net, name, "h", lambda: score(net(packed)), layer.h)
        assert torch.allclose(found, right, atol=1e-10)
        twice = torch.autograd.grad(by_z.pow(2).sum(), net.weight_hh_l0, retain_graph=True)[0]
        assert twice.abs().sum() > 0 if name == "l0" else twice is not None


def test_torchs_own_options_of_grad_are_kept() -> None:
    net, x = nn.GRU(3, 4), torch.randn(5, 2, 3, requires_grad=True)
    run, other = record(net, x, grad=True), record(net, x, grad=True)
    loss = run.output[0].sum()
    by_x, by_h = torch.autograd.grad(loss, [x, run["l0"].h], retain_graph=True)
    assert by_x.shape == x.shape
    assert by_h.shape == (2, 5, 4)
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(loss, other["l0"].h, retain_graph=True)
    unused = torch.autograd.grad(loss, other["l0"].h, allow_unused=True, retain_graph=True)
    assert unused == (None,)
    zeros = torch.autograd.grad(loss, other["l0"].h, materialize_grads=True)
    assert zeros[0].eq(0).all()
    assert type(run["l0"].h + 1) is Tensor
    assert type(record(net, x)["l0"].h) is Tensor


# blocks that last


def test_a_block_that_is_left_in_another_thread_ends_there(net: Net, x: Tensor) -> None:
    intact, handler = Intact(net), signal.getsignal(signal.SIGINT)

    def steps() -> Iterator[None]:
        with editing(net, EDITS["a value"][0]):
            net(x)
            yield
            yield

    class Holder:
        pass

    held, it = Holder(), steps()
    next(it)
    held.me, held.it = held, it  # type: ignore[attr-defined]  # a cycle: only the collector ends it
    del held, it
    collector = threading.Thread(target=gc.collect)
    collector.start()
    collector.join()
    assert intact.broken() == []
    assert signal.getsignal(signal.SIGINT) is handler
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(record, net, x).result(20).residual < 1e-6


def test_one_block_is_not_entered_twice_at_a_time(net: Net, x: Tensor) -> None:
    intact = Intact(net)
    block = editing(net, EDITS["a value"][0])
    with block:
        edited = net(x)
        with pytest.raises(RecordingError, match="open already"), block:
            pass
        assert torch.equal(net(x), edited)
    assert intact.broken() == []
    with block:  # one after the other
        assert torch.equal(net(x), edited)
    assert intact.broken() == []


def test_blocks_that_end_in_another_order_leave_nothing(net: Net, x: Tensor) -> None:
    intact = Intact(net)
    one, other = (editing(net, EDITS[name][0]) for name in ("a value", "a shift"))
    with torch.no_grad():
        one.__enter__()
        other.__enter__()
        net(x)
        one.__exit__(None, None, None)
        assert close(net(x), by_hand(net, x, EDITS["a shift"][0]))
        other.__exit__(None, None, None)
    assert intact.broken() == []


def test_a_forward_that_is_wrapped_inside_a_block_loses_the_edit_with_it(x: Tensor) -> None:
    net, rows = nn.Sequential(nn.GRU(3, 4)), torch.randn(5, 2, 3)
    plain = net(rows)[0]
    calls: list[int] = []
    with editing(net, scale("0.l0", "z", by=0.5)):
        inner = net[0].forward

        def wrapped(*args: Any) -> Any:
            calls.append(1)
            return inner(*args)

        net[0].forward = wrapped
        edited = net(rows)[0]
        run = record(net, rows)  # under the wrapper, with the edit
        assert torch.allclose(run.output[0], edited.detach(), atol=1e-6)
        assert run.residual < 1e-6
    assert not torch.equal(edited, plain)
    assert torch.equal(net(rows)[0], plain)
    assert len(calls) == 3
    assert vars(net[0])["forward"] is wrapped
    assert record(net[0], rows).residual < 1e-6


def test_a_recording_made_in_a_hook_of_a_recorded_model_is_its_own() -> None:
    net, x, y = nn.Sequential(nn.GRU(3, 4)), torch.randn(5, 2, 3), torch.randn(3, 1, 3)
    inside: list[Any] = []

    def hook(module: nn.Module, *_: Any) -> None:
        if not inside:
            inside.append(None)
            inside[0] = record(module, y)

    handle = net[0].register_forward_hook(hook)
    run = record(net, x)
    handle.remove()
    assert run["0.l0"].shape == (2, 5, 4)
    assert inside[0]["l0"].shape == (1, 3, 4)
    assert torch.equal(inside[0]["l0"].h, record(net, y)["0.l0"].h)
    with recording(net) as runs:
        net(x)
        record(net, y)
        sweep(net, x, layer="0.l0", readout=lambda out: out[0], progress=False)
    assert len(runs) == 1


# what is saved


def _saved(net: nn.Module) -> bytes:
    held = io.BytesIO()
    torch.save(net, held)
    return held.getvalue()


@pytest.mark.filterwarnings("ignore::grulens.errors.NothingRanWarning")
def test_what_is_saved_inside_a_block_is_what_is_saved_outside(net: Net, x: Tensor) -> None:
    net.decoder.register_forward_hook(_hook)
    plain, bytes_of = pickle.dumps(net), _saved(net)
    with editing(net, EDITS["a value"][0]), recording(net) as _, editing(net, EDITS["a shift"][0]):
        assert pickle.dumps(net) == plain
        assert _saved(net) == bytes_of
        twin = copy.deepcopy(net)
        shallow = copy.copy(net.decoder.cell)
        for module in (*twin.modules(), shallow):
            assert "forward" not in vars(module)
            assert not module._forward_pre_hooks
            assert list(module._forward_hooks.values()) in ([], [_hook])
        assert "generate" not in vars(twin.decoder)
    assert pickle.dumps(net) == plain
    assert b"grulens" not in plain
    import copyreg

    assert not {type(m) for m in net.modules()} & copyreg.dispatch_table.keys()


def _hook(*_: Any) -> None:
    """A hook of the user's own."""


def test_a_class_that_copies_itself_in_its_own_way_still_does() -> None:
    class Own(nn.GRUCell):
        def __reduce__(self) -> Any:
            return Own, (3, 4)

    Own.forward = nn.GRUCell.forward  # type: ignore[method-assign]
    net, x = nn.Sequential(Own(3, 4)), torch.randn(2, 3)
    with editing(net, ablate("0", 1)):
        net(x)
        twin = copy.deepcopy(net)
    assert "forward" not in vars(twin[0])


# weights that move


def test_weights_that_change_while_a_layer_runs_are_noticed() -> None:
    net, x = nn.GRU(3, 4), torch.randn(5, 2, 3)

    class Trains(nn.Module):
        """Stands for a thread that trains: it comes between the kernel and the copy of weights."""

        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.after = net, False

        def forward(self, x: Tensor) -> Any:
            out = self.rnn(x)
            if self.after:
                with torch.no_grad():
                    self.rnn.weight_hh_l0.mul_(1.5)
            return self.rnn(x, out[1])

    model = Trains()
    assert record(model, x).residual < 1e-6
    model.after = True
    with pytest.warns(WeightsMovedWarning, match="parameters of the model were changed while"):
        run = record(model, x)
    assert run.residual < 1e-6  # each call has the weights it ran with


def test_weights_that_another_thread_moves_make_no_recording() -> None:
    torch.manual_seed(0)
    net, x, stop = nn.GRU(3, 64, batch_first=True), torch.randn(4, 60, 3), threading.Event()

    def train() -> None:
        while not stop.is_set():
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.mul_(1.0001)

    thread = threading.Thread(target=train)
    thread.start()
    refused = 0
    try:
        for _ in range(300):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try:
                    whole = record(net, x).residual < 1e-5
                except WeightsChangedError:
                    refused += 1
                    continue
            assert whole or said
            if refused:
                break
    finally:
        stop.set()
        thread.join()
    assert refused


# other tasks, other processes


def test_another_task_is_not_edited_while_one_waits_in_its_block(net: Net, x: Tensor) -> None:
    async def main() -> tuple[Tensor, Tensor]:
        entered, done = asyncio.Event(), asyncio.Event()

        async def waits() -> Tensor:
            with editing(net, EDITS["a value"][0]):
                entered.set()
                await done.wait()
                return net(x)

        task = asyncio.create_task(waits())
        await entered.wait()
        with pytest.warns(OtherThreadWarning, match="another thread or task"):
            mine = net(x)
        done.set()
        return mine, await task

    with torch.no_grad():
        mine, theirs = asyncio.run(main())
        assert close(mine, by_hand(net, x))
        assert close(theirs, by_hand(net, x, EDITS["a value"][0]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_a_process_forked_while_another_thread_runs_the_model_can_record(
    net: Net, x: Tensor
) -> None:
    began, go_on = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            out = self.net(x)
            began.set()
            go_on.wait(60)
            return out

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(record, Slow(), x)
        began.wait(60)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
            child = multiprocessing.get_context("fork").Process(target=_in_child, args=(net, x))
            child.start()
        child.join(60)
        assert child.exitcode == 0
        go_on.set()
        assert run.result(60).residual < 1e-6


def _in_child(net: Net, x: Tensor) -> None:
    if "forward" in vars(net.decoder.cell) or not record(net, x).residual < 1e-6:
        os._exit(3)


# blocks in which nothing happens


def test_a_block_in_which_no_gru_runs_says_so(net: Net, x: Tensor) -> None:
    edit = EDITS["a value"][0]
    words = "'decoder.cell' did not run in this block, so clamp"
    with pytest.warns(NothingRanWarning, match=words), editing(net, edit):
        net.decoder.say(torch.randn(2, 4))
    words = "no layer that was to be recorded ran"
    with pytest.warns(NothingRanWarning, match=words), recording(net) as runs:
        pass
    assert runs == []
    with editing(net):  # nothing was to happen
        pass
    with pytest.raises(ZeroDivisionError), editing(net, edit):
        _ = 1 / 0


def test_a_forward_without_the_layer_of_an_edit_is_refused() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.GRU(3, 4), nn.GRU(3, 4)

        def forward(self, x: Tensor) -> Any:
            return self.a(x)

    net, x = Half(), torch.randn(5, 2, 3)
    with (
        pytest.raises(LayerError, match="did not run in this forward"),
        editing(net, ablate("b.l0")),
    ):
        net(x)
    with editing(net, ablate("b.l0")):  # a part may run first, and the other after it
        net.a(x)
        assert net.b(x)[0].eq(0).all()


class Stepping(nn.Module):
    """A gated cell of nobody's, with a method for one step."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(3, 4), nn.Linear(4, 4)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = torch.sigmoid(self.x(x) + self.h(h))
        return z * h + (1 - z) * torch.tanh(self.x(x))

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for x_t in x.unbind(1):
            h = self.step(x_t, h)
        return h


def test_a_run_that_begins_elsewhere_than_its_observed_cells_is_said() -> None:
    model, x = Stepping(), torch.randn(2, 5, 3)
    record(model, x)
    said = r"was found in runs that began elsewhere.*began with step\(\).*call='step'"
    with pytest.warns(NothingRanWarning, match=said), recording(model) as runs:
        model.step(x[:, 0], torch.zeros(2, 4))
    assert not runs
    edit = clamp("cell", "z", 0, value=1.0)
    said = f"so clamp.* did nothing.*{said}"
    with pytest.warns(NothingRanWarning, match=said), editing(model, edit):
        model.step(x[:, 0], torch.zeros(2, 4))


def test_what_records_an_observed_cell_inside_a_block_that_edits_it_says_so() -> None:
    model, x = Stepping(), torch.randn(2, 5, 3)
    whole = record(model, x)
    edit = clamp("cell", "z", 0, value=1.0)
    said = r"a block of editing that is open here changes layer 'cell'.*record\(\.\.\., edits="
    with editing(model, edit):
        with pytest.raises(RecordingError, match=said):
            sweep(model, x, layer="cell")
        with pytest.raises(RecordingError, match=said), recording(model):
            model(x)
    with recording(model) as runs, editing(model, edit):
        model(x)
    assert bool((runs[0]["cell"].z[..., 0] == 1).all())
    assert torch.equal(record(model, x)["cell"].h, whole["cell"].h)
