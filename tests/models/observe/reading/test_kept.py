"""What is recorded of a value is what it was when the code made it, whatever it does later."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grulens import record, recording
from grulens.errors import RecordingError
from tests.loops import INPUTS, UNITS, Loop


class Spoilt(Loop):
    """Writes over its reset gate after it has used it, where its input tells it to."""

    def forward(self, x: Tensor, gates: list[Tensor] | None = None) -> Tensor:  # type: ignore[override]
        h = x.new_zeros(len(x), UNITS)
        for x_t in x.unbind(1):
            a, b = self.x(x_t).chunk(3, 1), self.h(h).chunk(3, 1)
            r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
            n = torch.tanh(a[2] + r * b[2])
            h = (1 - z) * n + z * h
            if gates is not None:
                gates.append(r.clone())
            if bool(x[0, 0, 0] > 0):
                self.spoil(r)
        return h

    def spoil(self, r: Tensor) -> None:
        r.detach().zero_()


class ByView(Spoilt):
    def spoil(self, r: Tensor) -> None:
        r.detach().view(-1)[:3] = 0


class ByData(Spoilt):
    def spoil(self, r: Tensor) -> None:
        r.data.zero_()


class OtherData(Spoilt):
    def spoil(self, r: Tensor) -> None:
        r.data = torch.zeros_like(r)


class ByNumpy(Spoilt):
    def spoil(self, r: Tensor) -> None:
        r.detach().numpy()[:] = 0


class ByArray(Spoilt):
    def spoil(self, r: Tensor) -> None:
        np.asarray(r.detach())[:] = 0


class ByStorage(Spoilt):
    def spoil(self, r: Tensor) -> None:
        r.detach().untyped_storage().fill_(0)


class ByHelper(Spoilt):
    def spoil(self, r: Tensor) -> None:
        spoilt(r)


def spoilt(r: Tensor) -> None:
    r.data.zero_()


class OutOfSight(Spoilt):
    """Nothing of its own code names what is called."""

    ways: ClassVar[dict[str, Any]] = {"to memory": Tensor.numpy}

    def spoil(self, r: Tensor) -> None:
        self.ways["to memory"](r.detach())[:] = 0


class Hand:
    """It is no module, and no method of one names what it does."""

    def spoil(self, r: Tensor) -> None:
        r.data.zero_()


class ByObject(Spoilt):
    hand = Hand()

    def spoil(self, r: Tensor) -> None:
        self.hand.spoil(r)


class ByTable(Spoilt):
    ways: ClassVar[dict[str, Any]] = {
        "storage": lambda r: r.untyped_storage().fill_(0),
    }

    def spoil(self, r: Tensor) -> None:
        self.ways["storage"](r)


class ByName(Spoilt):
    def spoil(self, r: Tensor) -> None:
        getattr(r, "da" + "ta").zero_()


KINDS = [
    Spoilt, ByView, ByData, OtherData, ByNumpy, ByArray, ByStorage, ByHelper, OutOfSight, ByObject,
    ByTable, ByName,
]  # fmt: skip
SPOILING = torch.linspace(0.1, 1, 2 * 4 * INPUTS).reshape(2, 4, INPUTS)
CALM = -SPOILING


def made(kind: type[Spoilt]) -> tuple[Spoilt, Tensor]:
    """A model, and its reset gate as it was made where it is spoilt."""
    torch.manual_seed(0)
    model, gates = kind(), list[Tensor]()
    with torch.no_grad():
        model(SPOILING, gates)
    return model, torch.stack(gates, 1)


def in_a_block(model: nn.Module) -> Tensor:
    with recording(model) as runs:
        model(SPOILING)
    found: Tensor = runs[0]["cell"].r
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_over_as_in_the_first_run_was_copied(kind: type[Spoilt]) -> None:
    model, expected = made(kind)
    assert torch.equal(record(model, SPOILING)["cell"].r, expected)
    assert torch.equal(record(model, SPOILING)["cell"].r, expected)
    assert torch.equal(in_a_block(model), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_over_in_a_way_that_was_not_seen_was_copied(kind: type[Spoilt]) -> None:
    model, expected = made(kind)
    record(model, CALM)
    assert torch.equal(record(model, SPOILING)["cell"].r, expected)
    assert torch.equal(in_a_block(model), expected)
    record(model, CALM, grad=True)
    # with a graph no copy can stand for it
    with pytest.raises(RecordingError, match=r"wr(ote|ites) over .*grad=False"):
        record(model, SPOILING, grad=True)
    assert torch.equal(record(model, SPOILING)["cell"].r, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_where_torch_counts_no_writes_copies_are_kept(kind: type[Spoilt]) -> None:
    model, expected = made(kind)
    record(model, CALM)
    with torch.inference_mode():
        assert torch.equal(record(model, SPOILING)["cell"].r, expected)


class SpoiltLSTM(nn.Module):
    """Writes over o, or over the c that it hands on, where its input tells it to."""

    def __init__(self, which: str) -> None:
        super().__init__()
        self.line, self.which = nn.Linear(INPUTS + UNITS, 4 * UNITS), which

    def forward(self, x: Tensor, made: list[Tensor] | None = None) -> Tensor:
        h = c = x.new_zeros(len(x), UNITS)
        for x_t in x.unbind(1):
            a, b, d, e = self.line(torch.cat([x_t, h], 1)).chunk(4, 1)
            i, f, o = torch.sigmoid(a), torch.sigmoid(b), torch.sigmoid(d)
            c = f * c + i * torch.tanh(e)
            h = o * torch.tanh(c)
            if made is not None:
                made.append(o.clone())
            if bool(x[0, 0, 0] > 0):
                ByObject.hand.spoil({"o": o, "f": f}[self.which])
        return h


def test_the_output_gate_is_copied_and_the_forget_gate_compared() -> None:
    torch.manual_seed(0)
    model, gates = SpoiltLSTM("o"), list[Tensor]()
    with torch.no_grad():
        model(SPOILING, gates)
    record(model, CALM)
    assert torch.equal(record(model, SPOILING)["cell"].o, torch.stack(gates, 1))
    model = SpoiltLSTM("f")
    record(model, CALM)
    wrote = r"does not obey c = f c_prev \+ i g; .* at step 1"
    with pytest.raises(RecordingError, match=wrote), recording(model):
        model(SPOILING)


def test_what_only_reads_the_memory_has_its_derivatives() -> None:
    class Reads(Spoilt):
        def spoil(self, r: Tensor) -> None:
            assert float(r.detach().numpy().sum()) > 0

    model, expected = made(Reads)
    run = record(model, SPOILING, grad=True)
    assert torch.equal(run["cell"].r, expected)
    (by_r,) = torch.autograd.grad(run.output.sum(), run["cell"].r)
    assert bool(by_r.any())


class HandsOut(nn.Module):
    """Returns the very states and gates that it made."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.new = nn.Linear(7, 4), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        h, states, gates = x.new_zeros(len(x), 4), [], []
        for now in x.unbind(1):
            both = torch.cat([now, h], 1)
            z = torch.sigmoid(self.gate(both))
            h = z * h + (1 - z) * torch.tanh(self.new(both))
            states.append(h)
            gates.append(z)
        return states, gates


@pytest.mark.parametrize(("which", "name"), [(0, "h"), (1, "z")])
def test_what_a_user_writes_over_after_the_run_is_no_number_of_it(which: int, name: str) -> None:
    model, x = HandsOut().eval(), torch.randn(2, 5, 3)
    early = next(iter(record(model, x).values()))
    right = early.signal(name).clone()
    run = record(model, x)
    late = next(iter(run.values()))
    run.output[which][3].zero_()
    with pytest.raises(RecordingError, match=f"{name} of step 3 was written over after the run"):
        late.signal(name)
    assert torch.equal(early.signal(name), right)
