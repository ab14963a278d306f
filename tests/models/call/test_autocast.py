"""torch.autocast: the output is untouched, and gates are rounded as the run was, wherever read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import grulens
from grulens import Cell, ablate, clamp, editing, record, scale, shift
from grulens.adapters import GRUStack, register
from grulens.errors import RecordingError
from grulens.models.call.unwatchable import check_rounding
from tests import reference
from tests.drawn import same_bits

LOW = pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
SIZES = pytest.mark.parametrize(
    "options",
    [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 2}],
    ids=str,
)
ROUNDING = {torch.bfloat16: 2**-6, torch.float16: 2**-9}
"""Two roundings of a value between 1 and 2: the kernel rounds n twice on its way."""


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        states = []
        for step in x.unbind(1):
            h = self.cell(step, h)
            states.append(h)
        return torch.stack(states, 1)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 7, 3)


@LOW
@SIZES
@pytest.mark.parametrize("given", ["float32", "low", "low, and a state", "packed"])
@pytest.mark.parametrize("grad", [True, False])
def test_the_output_is_that_of_the_plain_run(
    low: torch.dtype, options: dict[str, Any], given: str, grad: bool, x: Tensor
) -> None:
    gru = nn.GRU(3, 4, batch_first=True, **options)
    args: tuple[Any, ...] = (x if given == "float32" else x.to(low),)
    if given == "packed":
        args = (pack_padded_sequence(x, [7, 4], batch_first=True),)
    if given == "low, and a state":
        count = gru.num_layers * (2 if gru.bidirectional else 1)
        args += (torch.randn(count, 2, 4),)
    with torch.autocast("cpu", low):
        plain = gru(*args)
        run = record(gru, *args, grad=grad)
    assert same_bits(run.output, plain)
    assert run.residual < ROUNDING[low]
    for layer in run.values():
        assert layer.z.dtype == layer.h.dtype == (torch.float32 if given != "low" else low)
        # what autocast rounded, and float32 would not have
        assert torch.equal(layer.z.to(low).to(layer.z.dtype), layer.z)


@LOW
def test_gates_are_near_the_reference(low: torch.dtype, x: Tensor) -> None:
    gru = nn.GRU(3, 4, 2, batch_first=True, bidirectional=True)
    with torch.autocast("cpu", low):
        run = record(gru, x)
    for name, signals in reference.model(gru, x, None, [7, 7]).items():
        for signal in ("r", "z", "n", "h"):
            found = run[name].signal(signal).numpy()
            np.testing.assert_allclose(found, signals[signal], atol=4 * ROUNDING[low])


@LOW
def test_a_cell_in_a_loop(low: torch.dtype, x: Tensor) -> None:
    model = Loop()
    for start in (None, torch.randn(2, 4), torch.randn(2, 4).to(low)):
        for rows in (x, x.to(low)):
            with torch.autocast("cpu", low):
                plain = model(rows, start)
                run = record(model, rows, start)
            assert torch.equal(run.output, plain)
            assert run.residual < ROUNDING[low]


@LOW
def test_gates_are_those_of_the_run_wherever_they_are_read(low: torch.dtype, x: Tensor) -> None:
    gru = nn.GRU(3, 4, 2, batch_first=True)
    with torch.autocast("cpu", low):
        inside, outside = record(gru, x), record(gru, x)
        z = {name: inside[name].z for name in inside}
        h = {name: inside[name].h for name in inside}
    for name in outside:
        assert torch.equal(outside[name].h, h[name])
        assert torch.equal(outside[name].z, z[name])
    full, other = record(gru, x), record(gru, x)
    with torch.autocast("cpu", low):  # a run without autocast, read inside of it
        z = {name: full[name].z for name in full}
        h = {name: full[name].h for name in full}
    for name in other:
        assert torch.equal(other[name].h, h[name])
        assert torch.equal(other[name].z, z[name])
        assert not torch.equal(outside[name].z, z[name])
    assert full.residual < 1e-6


@LOW
@SIZES
def test_edits_act_in_it(low: torch.dtype, options: dict[str, Any], x: Tensor) -> None:
    gru = nn.GRU(3, 4, batch_first=True, **options)
    with torch.autocast("cpu", low), torch.no_grad():
        plain = gru(x)
        for edits in ([scale("l0", "z", by=1.0)], [shift("l0", "r", by=0.0)]):
            nothing = record(gru, x, edits=edits).output
            torch.testing.assert_close(nothing[0], plain[0], atol=4 * ROUNDING[low], rtol=0)
            assert nothing[0].dtype == plain[0].dtype
        edits = [clamp("l0", "z", 1, value=0.5), ablate("l0", 2, to=0.1, at=-1)]
        run = record(gru, x, edits=edits)
        with editing(gru, *edits):
            assert same_bits(gru(x), run.output)
    assert run["l0"].z[..., 1].eq(0.5).all()
    assert run["l0"].h[:, -1, 2].eq(torch.tensor(0.1)).all()  # states keep their precision
    assert not run["l0"].h[:, :-1, 2].eq(torch.tensor(0.1)).any()
    assert run.residual < ROUNDING[low]


def test_gradients_flow_as_in_the_plain_run(x: Tensor) -> None:
    gru = nn.GRU(3, 4, 2, batch_first=True)
    grads = []
    for recorded in (True, False):
        gru.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = record(gru, x, grad=True)["l1"].h if recorded else gru(x)[0]
        out.sum().backward()
        grads.append([p.grad for p in gru.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_a_stack_of_another_convention(x: Tensor) -> None:
    cell = Cell(torch.randn(12, 3), torch.randn(12, 4), None, None, reset_after=False)
    stack = GRUStack(cell)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        run = record(stack, x)
        assert torch.equal(run.output[0], stack(x)[0])
    assert run.residual < ROUNDING[torch.bfloat16]


def test_a_registered_class_is_refused_by_name(x: Tensor) -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.GRUCell(3, 4)

        def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
            return self.inner(x, h)

    def cell(mine: Mine) -> Cell:
        inner = mine.inner
        return Cell(inner.weight_ih, inner.weight_hh, inner.bias_ih, inner.bias_hh)

    register(Mine, grulens.adapters.StepAdapter(cell))
    try:
        said = "layer 'cell' runs under torch.autocast and Mine is a registered class: what is"
        with torch.autocast("cpu"), pytest.raises(RecordingError, match=said):
            record(Mine(), x[:, 0])
    finally:
        register(Mine, None)


def test_other_devices_are_refused_by_name() -> None:
    said = r"'rnn.l0' runs under torch.autocast on cuda: .* torch.autocast\('cuda', enabled=False\)"
    with pytest.raises(RecordingError, match=said):
        check_rounding("cuda", "rnn.l0")


def test_integers_are_torchs_own_to_refuse() -> None:
    gru, x = nn.GRU(3, 4), torch.zeros(5, 2, 3, dtype=torch.int64)
    with torch.autocast("cpu"):
        with pytest.raises(RuntimeError) as plain:
            gru(x)
        with pytest.raises(RuntimeError) as raised:
            record(gru, x, edits=ablate("l0"))
    assert str(raised.value) == str(plain.value)
