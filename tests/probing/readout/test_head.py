"""The linear readout is found by what it reads, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from grulens import Cell, record
from grulens.adapters import SequenceAdapter, StepAdapter, register
from grulens.errors import LayerError, ReadoutError
from grulens.probing.readout.head import head_of, heads_of


class Reads(nn.Module):
    """A GRU, and a way to read it."""

    def __init__(self, read: Callable[[Any, Tensor, Tensor], Any], **options: Any) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True, **options)
        wide = 4 * (1 + self.rnn.bidirectional)
        self.out, self.more, self.then = nn.Linear(wide, 5), nn.Linear(wide, 2), nn.Linear(5, 2)
        self.plain = nn.Linear(wide, 5, bias=False)
        self.drop, self.read = nn.Dropout(0.5), read

    def forward(self, x: Tensor) -> Any:
        return self.read(self, *self.rnn(x))


X = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "read",
    [
        lambda m, out, h: m.out(out),
        lambda m, out, h: m.out(out[:, -1]),
        lambda m, out, h: m.out(h[-1]),
        lambda m, out, h: m.out(out.transpose(0, 1)),
        lambda m, out, h: m.out(out[:, 2]).log_softmax(-1),
        lambda m, out, h: torch.stack([m.out(out[:, t]) for t in range(6)]),
    ],
)
def test_what_reads_the_states_is_found(read: Callable[..., Any]) -> None:
    model = Reads(read, num_layers=2)
    head = head_of(model, X)
    assert (head.name, head.layer, head.states_only, dict(head.joined)) == (
        "out",
        "rnn.l1",
        True,
        {},
    )
    h = record(model, X)["rnn.l1"].h
    assert torch.allclose(head(h), model.out(h))
    assert repr(head) == "Head('out' of 'rnn.l1', 5 classes, 4 units)"


def test_both_directions_are_read_side_by_side() -> None:
    model = Reads(lambda m, out, h: m.out(out), bidirectional=True)
    run = record(model, X)
    for layer, other in (("rnn.l0", "rnn.l0_reverse"), ("rnn.l0_reverse", "rnn.l0")):
        head = head_of(model, X, layer=layer)
        assert list(head.joined) == [other]
        assert head.states_only
        made = head(run[layer].h) + run[other].h @ head.joined[other].T
        assert torch.allclose(made, run.output, atol=1e-6)
    assert head_of(model, X).layer == "rnn.l0"


def test_the_last_states_of_both_directions() -> None:
    model = Reads(lambda m, out, h: m.out(torch.cat([h[0], h[1]], 1)), bidirectional=True)
    run, head = record(model, X), head_of(model, X)
    h = run["rnn.l0"].h[:, -1], run["rnn.l0_reverse"].h[:, 0]
    made = head(h[0]) + h[1] @ head.joined["rnn.l0_reverse"].T
    assert torch.allclose(made, run.output, atol=1e-6)


def test_packed_rows_and_their_padding() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            packed = pack_padded_sequence(x, torch.tensor([3, 6]), True, enforce_sorted=False)
            return self.out(pad_packed_sequence(self.rnn(packed)[0], True)[0])

    assert head_of(Packed(), X).name == "out"


def test_something_else_beside_the_states_is_said() -> None:
    model = Reads(lambda m, out, h: m.wide(torch.cat([out, out.mean(1, True).expand_as(out)], 2)))
    model.wide = nn.Linear(8, 2)
    head = head_of(model, X)
    assert (head.name, head.states_only) == ("wide", False)
    assert torch.equal(head.weight, model.wide.weight[:, :4])


def test_of_several_the_one_that_answers() -> None:
    assert head_of(Reads(lambda m, out, h: (m.more(out).sum(), m.out(out))), X).name == "out"
    head = head_of(Reads(lambda m, out, h: m.plain(out)), X)
    assert torch.equal(head.bias, torch.zeros(5))


def test_what_is_no_plain_readout_is_refused_by_name() -> None:
    with pytest.raises(ReadoutError, match=r"no nn\.Linear of this model reads the states of la"):
        head_of(Reads(lambda m, out, h: m.out(out.tanh())), X)
    with pytest.raises(ReadoutError, match="reads the states"):
        head_of(Reads(lambda m, out, h: m.out(m.drop(out))), X)
    assert head_of(Reads(lambda m, out, h: m.out(m.drop(out))).eval(), X).name == "out"
    with pytest.raises(ReadoutError, match="'out' reads this layer, but 'then' comes after it"):
        head_of(Reads(lambda m, out, h: m.then(m.out(out).relu())), X)
    with pytest.raises(ReadoutError, match="read this layer: 'out', 'more'; give head="):
        head_of(Reads(lambda m, out, h: m.out(out).sum() + m.more(out).sum()), X)
    with pytest.raises(ReadoutError, match="several"):
        head_of(Reads(lambda m, out, h: (m.out(out), m.more(out))), X)
    with pytest.raises(LayerError, match=r"rnn\.l7"):
        head_of(Reads(lambda m, out, h: m.out(out)), X, layer="rnn.l7")
    with pytest.raises(ReadoutError, match=r"'rnn\.l0'"):
        head_of(Reads(lambda m, out, h: m.out(out), num_layers=2), X, layer="rnn.l0")


def test_nothing_is_left_on_the_model() -> None:
    def fails(m: Any, out: Tensor, h: Tensor) -> Tensor:
        m.out(out)
        raise ZeroDivisionError

    for read in (lambda m, out, h: m.out(out), fails):
        model = Reads(read)
        before = torch.get_rng_state()
        with suppress(ZeroDivisionError):
            head_of(model, X)
        assert all(not m._forward_hooks for m in model.modules())
        assert torch.equal(before, torch.get_rng_state())


def test_what_a_registered_gru_is_made_of_is_no_readout() -> None:
    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x2h, self.h2h = nn.Linear(3, 12), nn.Linear(4, 12)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            (r, z, n), (hr, hz, hn) = self.x2h(x).chunk(3, -1), self.h2h(h).chunk(3, -1)
            z = (z + hz).sigmoid()
            return (1 - z) * (n + (r + hr).sigmoid() * hn).tanh() + z * h

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step, self.out = Step(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 4)
            for t in range(x.shape[1]):
                h = self.step(x[:, t], h)
            return self.out(h)

    def cell(m: Step) -> Cell:
        return Cell(m.x2h.weight, m.h2h.weight, m.x2h.bias, m.h2h.bias)

    register(Step, StepAdapter(cell))
    assert head_of(Loop(), X).name == "out"


class OneClass(nn.Module):
    """A layer written step by step that answers too, as a class from an article does."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u, self.out = nn.Linear(3, 12), nn.Linear(4, 12), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, states = x.new_zeros(len(x), 4), []
        for step in self.w(x).unbind(1):
            (wr, wz, wn), (ur, uz, un) = step.chunk(3, 1), self.u(h).chunk(3, 1)
            z = torch.sigmoid(wz + uz)
            h = z * h + (1 - z) * torch.tanh(wn + torch.sigmoid(wr + ur) * un)
            states.append(h)
        return self.out(torch.stack(states, 1)), torch.stack(states, 1)


def test_a_registered_class_may_answer_itself() -> None:
    adapter = SequenceAdapter(
        lambda m: Cell(m.w.weight, m.u.weight, m.w.bias, m.u.bias),
        states=lambda m, out: out[1],
        result=lambda m, h, h_n: (m.out(h), h),
    )
    register(OneClass, adapter)
    try:
        # `u` reads the same states, but answers nobody
        assert head_of(OneClass(), X).name == "out"
    finally:
        register(OneClass, None)


def test_all_that_read_the_states_are_there_to_be_compared() -> None:
    model = Reads(lambda m, out, h: (m.out(out), m.more(out), out))
    with pytest.raises(ReadoutError, match="this layer: 'out', 'more'"):
        head_of(model, X)
    assert [head.name for head in heads_of(model, None, ((X,), {}))] == ["out", "more"]
