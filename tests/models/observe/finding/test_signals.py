"""What the values of a mix are called: gates, constants, read-outs."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import Recording, clamp, record
from grulens.errors import RecordingError

CONSTANT = "constant factor of the state before"


class Long(nn.Module):
    """An LSTM whose next step reads what is made of its c."""

    def __init__(self, made: Any) -> None:
        super().__init__()
        self.line, self.made = nn.Linear(6, 16), made

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 4)
        for x_t in x.unbind(1):
            f, i, g, o = self.line(torch.cat([x_t, h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = self.made(torch.sigmoid(o), c)
        return h


@pytest.mark.parametrize(
    "made",
    [
        lambda o, c: o * c * c,
        lambda o, c: c * (o * torch.tanh(c)),
        lambda o, c: o * c * torch.sigmoid(c),
        lambda o, c: o * torch.exp(-c) * c,
        lambda o, c: o * c + c,
        lambda o, c: torch.tanh(o * c),
    ],
)
def test_a_read_out_that_no_equation_says_is_said_to_be_one(made: Any, tmp_path: Path) -> None:
    run = record(Long(made), torch.randn(3, 5, 2))
    run.save(tmp_path / "run.safetensors")
    for one in (run, Recording.load(tmp_path / "run.safetensors")):
        layer = one["cell"]
        assert layer.cell.equation == "h = f h_prev + i g"
        assert layer.note.startswith("the next step reads what `")
        assert "by a rule that is none of those that are known" in layer.note


@pytest.mark.parametrize(
    ("made", "said", "words"),
    [
        (lambda o, c: o * torch.tanh(c), "h = o tanh(c)", "output gate"),
        (lambda o, c: o * o * c, "h = o c", "output gate"),
        (lambda o, c: -o * c, "h = o c", "factor of what is read out"),
        (lambda o, c: 2 * o * torch.tanh(c), "h = o tanh(c)", "factor of what is read out"),
    ],
)
def test_a_factor_of_the_state_that_is_read_out_is_a_gate_from_0_to_1(
    made: Any, said: str, words: str
) -> None:
    layer = record(Long(made), torch.randn(3, 5, 2))["cell"]
    assert layer.cell.equation == f"c = f c_prev + i g; {said}"
    assert layer.cell.signal("o").words == words
    assert layer.note == ""
    read = torch.tanh(layer.c) if "tanh" in said else layer.c
    torch.testing.assert_close(layer.o * read, layer.h)


class Leaky(nn.Module):
    """A GRU's update within a leak, by a time constant."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.tau = nn.Linear(6, 8), nn.Parameter(torch.linspace(2, 6, 4))

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for x_t in x.unbind(1):
            z, n = self.line(torch.cat([x_t, h], 1)).chunk(2, 1)
            z = torch.sigmoid(z)
            new = z * h + (1 - z) * torch.tanh(n)
            h = h + (new - h) / self.tau
        return h


def test_a_gate_of_a_share_behind_a_division_is_no_reset_gate() -> None:
    model, x = Leaky(), torch.randn(3, 5, 2)
    layer = record(model, x)["cell"]
    gate = layer.cell.signal("z")
    assert (gate.words, gate.role, gate.is_gate) == (
        "gate of the state before, in b2",
        "keep",
        True,
    )
    assert not {signal.words for signal in layer.cell.signals} & {"reset gate"}
    held = record(model, x, edits=[clamp("cell", "z", 1, value=1.0)])["cell"]
    assert not held.h[..., 1].any()  # it is kept whole, and began with zero


FACTORS: dict[str, tuple[Any, str, str]] = {
    "parameter": (lambda m, x, h: m.rate * h + new(m, x, h), "f", CONSTANT),
    "sigmoid of one": (
        lambda m, x, h: torch.sigmoid(m.rate) * h + new(m, x, h),
        "f",
        CONSTANT,
    ),
    "buffer": (lambda m, x, h: m.kept * h + new(m, x, h), "f", CONSTANT),
    "bent outside": (
        lambda m, x, h: torch.relu(m.rate * h + m.x(x) + m.h(h)),
        "f",
        CONSTANT,
    ),
    "leak": (
        lambda m, x, h: (1 - m.rate) * h + m.rate * new(m, x, h),
        "z",
        "constant share (takes the candidate at 1)",
    ),
    "sigmoid of a leak": (
        lambda m, x, h: torch.sigmoid(m.rate) * h + (1 - torch.sigmoid(m.rate)) * new(m, x, h),
        "z",
        "constant share (keeps the state at 1)",
    ),
    "exponential": (
        lambda m, x, h: torch.exp(m.x(x)) * h + new(m, x, h),
        "f",
        "factor of the state before",
    ),
    "linear": (lambda m, x, h: m.x(x) * h + new(m, x, h), "f", "factor of the state before"),
    "decay": (
        lambda m, x, h: torch.exp(-torch.relu(m.x(x))) * h + new(m, x, h),
        "f",
        "forget gate",
    ),
    "by hand": (
        lambda m, x, h: 1 / (1 + torch.exp(-m.x(x))) * h + new(m, x, h),
        "f",
        "forget gate",
    ),
    "of a softmax": (
        lambda m, x, h: torch.softmax(torch.stack([m.x(x), m.h(h)]), 0)[0] * h + new(m, x, h),
        "f",
        "forget gate",
    ),
}  # fmt: skip


def new(m: Any, x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(m.x(x) + m.h(h))


@pytest.mark.parametrize("how", FACTORS)
def test_a_gate_is_made_by_each_step_and_goes_from_0_to_1(how: str) -> None:
    step, name, words = FACTORS[how]

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x, self.h, self.rate = (
                nn.Linear(2, 4),
                nn.Linear(4, 4),
                nn.Parameter(torch.rand(4)),
            )
            self.register_buffer("kept", torch.rand(4))

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 4)
            for x_t in x.unbind(1):
                h = step(self, x_t, h)
            return h

    signal = record(Own(), torch.randn(3, 5, 2))["cell"].cell.signal(name)
    assert signal.words == words
    assert signal.is_gate is (
        how in ("sigmoid of one", "sigmoid of a leak", "decay", "by hand", "of a softmax")
    )


class Memory(nn.Module):
    """A memory that is erased and written, and read by a weighed sum of its slots."""

    def __init__(self, reads: Any) -> None:
        super().__init__()
        self.line, self.weigh, self.reads = nn.Linear(2 + 4, 8), nn.Linear(8, 3), reads
        self.write = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        memory, read, states = x.new_zeros(len(x), 3, 4) + 0.1, x.new_zeros(len(x), 4), []
        for x_t in x.unbind(1):
            now = torch.tanh(self.line(torch.cat([x_t, read], 1)))
            w = torch.softmax(self.weigh(now), 1).unsqueeze(2)
            e, a = self.write(now).unsqueeze(1).chunk(2, 2)
            memory = memory * (1 - w * torch.sigmoid(e)) + w * torch.tanh(a)
            read = self.reads(w, memory)
            states.append(read)
        return torch.stack(states, 1)


@pytest.mark.parametrize(
    "reads",
    [
        lambda w, m: (w * m).sum(1),
        lambda w, m: torch.mean(w * m, 1),
        lambda w, m: (w * torch.tanh(m)).transpose(1, 2).sum(2),
        lambda w, m: (w * m)[:, 0] + (w * m)[:, 1:].sum(1),
    ],
)
def test_the_weights_by_which_a_memory_is_read_are_no_output_gate(reads: Any) -> None:
    torch.manual_seed(0)
    model, x = Memory(reads), torch.randn(2, 5, 2)
    layer = record(model, x)["cell"]
    assert layer.cell.equation.startswith("h = ")
    assert "h = o" not in layer.cell.equation
    assert not any("output gate" in signal.words for signal in layer.cell.signals)
    assert layer.note.startswith("the next step reads what `")
    gone = record(model, x, edits=[clamp("cell", "h", 0, value=0.0)])["cell"]
    assert gone.h[:, :, 0].abs().max() == 0
    assert (gone.h - layer.h)[:, 1:, 1:].abs().max() > 0


def test_a_state_that_is_read_by_itself_and_as_a_sum_keeps_its_output_gate() -> None:
    class Pooled(Long):
        def forward(self, x: Tensor) -> Tensor:
            h = c = x.new_zeros(len(x), 4)
            for x_t in x.unbind(1):
                f, i, g, o = self.line(torch.cat([x_t, h + h.sum(1, True)], 1)).chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = self.made(torch.sigmoid(o), c)
            return h

    for made in (lambda o, c: o * torch.tanh(c), lambda o, c: o[:, :1] * torch.tanh(c)):
        layer = record(Pooled(made), torch.randn(3, 5, 2))["cell"]
        assert layer.cell.equation.endswith("h = o tanh(c)")


class Written(nn.Module):
    """A gated loop that writes its states into a buffer, and may go on with what stands there.

    Args:
        goes_on: whether it does.
    """

    def __init__(self, goes_on: bool) -> None:
        super().__init__()
        self.line, self.goes_on = nn.Linear(3 + 4, 2 * 4), goes_on

    def forward(self, x: Tensor) -> Tensor:
        h, out = x.new_zeros(len(x), 4), x.new_zeros(len(x), x.shape[1], 4)
        for t in range(x.shape[1]):
            z, n = self.line(torch.cat([x[:, t], h], 1)).chunk(2, 1)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.tanh(n)
            out[:, t] = h
            if self.goes_on:
                h = out[:, t]
        return out


def test_a_buffer_of_outputs_is_none_of_the_values_that_are_read() -> None:
    torch.manual_seed(0)
    model, x = Written(False), torch.randn(2, 5, 3)
    run = record(model, x, grad=True)
    (slope,) = torch.autograd.grad(run.output[:, -1].sum(), run["cell"].h)
    assert bool((slope != 0).any())
    assert torch.equal(run["cell"].h, run.output)
    model = Written(True)
    with pytest.raises(RecordingError, match="writes over its values in place"):
        record(model, x, grad=True)
    run = record(model, x)
    assert torch.equal(run["cell"].h, run.output)


class ChannelsLast(nn.Module):
    """A convolutional GRU without a reset gate, whose pictures lie in memory channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.laid = nn.Conv2d(4, 4, 3, padding=1), SimpleQueue[Any]()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0]).to(memory_format=torch.channels_last)
        for x_t in x.unbind(1):
            now = torch.cat([x_t, h], 1).contiguous(memory_format=torch.channels_last)
            z, n = self.gates(now).chunk(2, 1)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.tanh(n)
            self.laid.put((z.stride(), h.stride()))
        return h


@pytest.mark.parametrize("name", ["z", "h"])
def test_an_edit_leaves_a_value_as_it_lies_in_memory(name: str) -> None:
    torch.manual_seed(0)
    model, x = ChannelsLast(), torch.randn(2, 4, 2, 6, 5)
    run = record(model, x)
    held = record(model, x, edits=[clamp("cell", name, value=run["cell"].signal(name))])
    assert torch.equal(held.output, run.output)
    assert len({model.laid.get() for _ in range(model.laid.qsize())}) == 1
