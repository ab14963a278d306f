"""Ctrl-C at the lines of grulens that a recording or an edited run goes through.

A line is where the interrupt comes, not where it is raised: in the beginning and the end of a block
it has to wait. After each of them the model is what it was, the lock is free, torch's modes and
random numbers are as they were, and the next recording is right.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import Sweep, ablate, clamp, editing, record, sweep
from grulens.adapters import StepAdapter, register
from grulens.models.instrument.lock import LOCK
from tests.intact import free_for_others
from tests.interrupts import everywhere
from tests.models.adapters.test_register import Loop, Step, of_step


class Model(nn.Module):
    """Two kinds of GRU, dropout, hooks of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, 3, num_layers=2, dropout=0.5, batch_first=True)
        self.cell = nn.GRUCell(3, 2)
        self.rnn.register_forward_hook(lambda *_: None)
        self.register_forward_pre_hook(lambda *_: None)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.rnn(x)
        return self.cell(h[:, 0], self.cell(h[:, -1]))


# the lines are those that users run: checks of annotations have none, and take most of the time
pytestmark = pytest.mark.unchecked

EDITS = [ablate("rnn.l0", 1, to="mean", at=-1), clamp("cell", "z", 0, value=0.5)]
X = torch.randn(2, 3, 2)


def state(model: nn.Module) -> list[Any]:
    """All of a model that an interrupt could leave behind."""
    modules = list(model.modules())
    return [
        [list(vars(m)) for m in modules],
        [(list(m._forward_hooks), list(m._forward_pre_hooks)) for m in modules],
        [m.training for m in modules],
        [(p.requires_grad, p.grad, p.data_ptr(), p.sum().item()) for p in model.parameters()],
        torch.is_grad_enabled(),
        signal.getsignal(signal.SIGINT),
    ]


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Python's own handler: a shell that runs the tests in the background has Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def recorded(model: nn.Module) -> None:
    record(model, X)


def recorded_edited(model: nn.Module) -> None:
    run = record(model, X, edits=EDITS)
    run["rnn.l0"].z.sum()
    assert run.residual < 1e-5


def edited(model: nn.Module) -> None:
    with editing(model, EDITS[0]), editing(model, EDITS[1]):
        model(X)


def with_graph(model: nn.Module) -> None:
    record(model, X, grad=True)["rnn.l1"].z.sum()


@pytest.mark.parametrize("action", [recorded, recorded_edited, edited, with_graph])
def test_an_interrupt_at_any_line_leaves_nothing_behind(
    action: Callable[[nn.Module], None],
) -> None:
    torch.manual_seed(0)
    model = Model()
    before = state(model)
    right = record(model.eval(), X, edits=EDITS)
    model.train()
    start = torch.get_rng_state()
    torch.nn.functional.dropout(torch.ones(3, 2, 3), 0.5)
    # nothing is drawn yet, or the model's own masks are; the unedited run that "mean" refers to
    # draws masks of its own
    drawn = (start, torch.get_rng_state())
    places = 0
    for place in everywhere(lambda: (torch.set_rng_state(start), action(model))):
        after = torch.get_rng_state()
        assert any(torch.equal(after, so_far) for so_far in drawn), f"drawn at {place.where}"
        places += 1
        assert place.raised, f"lost at {place.where}"
        assert state(model) == before, f"left behind at {place.where}"
        if places % 20 == 0:
            assert free_for_others(), f"locked at {place.where}"
    assert places > 50
    model.eval()
    again = record(model, X, edits=EDITS)
    for name in right:
        assert torch.equal(again[name].h, right[name].h)
        assert torch.equal(again[name].z, right[name].z)


def test_the_comparison_of_a_registered_class_can_be_interrupted() -> None:
    register(Step, StepAdapter(of_step))
    try:
        model, x = Loop(Step()), torch.randn(1, 2, 3)
        before = state(model)

        def afresh() -> None:
            register(Step, StepAdapter(of_step))  # another adapter: it is compared again
            record(model, x, edits=ablate("step", 1))

        for place in everywhere(afresh):
            assert place.raised, f"lost at {place.where}"
            assert state(model) == before, f"left behind at {place.where}"
        assert free_for_others()
    finally:
        register(Step, None)


def test_a_gate_that_was_interrupted_is_right_the_second_time() -> None:
    model = nn.GRU(2, 3, batch_first=True)
    expected = record(model, X)["l0"].z
    for place in everywhere(lambda: record(model, X)["l0"].z):
        assert place.raised
    layer = record(model, X)["l0"]
    for _ in everywhere(lambda: layer.__dict__.pop("_gates", None) or layer.z):
        assert torch.equal(layer.z, expected)


@pytest.mark.filterwarnings("ignore::grulens.errors.NothingRanWarning")
def test_a_handler_of_the_users_own_is_called_and_stays() -> None:
    calls = []
    model = Model()
    before = signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    try:
        with editing(model, EDITS[0]):
            signal.raise_signal(signal.SIGINT)
        assert calls == [1]
        mine = signal.getsignal(signal.SIGINT)
        with editing(model, EDITS[0]):
            signal.signal(signal.SIGINT, signal.default_int_handler)  # set inside: it stays
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert mine is not signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_waiting_for_another_thread_can_be_interrupted() -> None:
    model, held, let_go = Model(), threading.Event(), threading.Event()

    def hold() -> None:
        with LOCK:
            held.set()
            let_go.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    before = state(model)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            record(model, X)
    finally:
        let_go.set()
        thread.join()
        timer.join()
    assert state(model) == before
    assert free_for_others()


def test_a_generator_that_is_left_open_lets_go_when_it_is_closed() -> None:
    model = Model()
    before = state(model)

    def steps() -> Any:
        with editing(model, EDITS[1]):
            yield 1
            yield 2

    running = steps()
    next(running)
    assert state(model) != before
    running.close()
    assert state(model) == before
    assert free_for_others()


@pytest.mark.filterwarnings("ignore::grulens.errors.StoppedWarning")
# in a finalizer, where memory is measured, Python itself swallows what is raised
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::grulens.errors.StoppedWarning")
def test_a_sweep_that_is_interrupted_gives_what_is_done() -> None:
    model = Model().eval()
    before = state(model)

    def swept() -> Sweep:
        return sweep(model, X, layer="rnn.l0", memory=1, progress=False)  # a chunk a run

    whole, found = swept(), []
    places = 0
    for place in everywhere(lambda: found.append(swept()), stride=211, often=()):
        places += 1
        assert state(model) == before, f"left behind at {place.where}"
        if place.raised:
            continue  # before the first run, or after the last
        part = found.pop()
        assert torch.equal(part.effect[part.done], whole.effect[part.done]), place.where
        assert part.effect[~part.done].isnan().all()
        found.append(part)
    assert free_for_others()
    assert places > 20
    assert {int(part.done.sum()) for part in found} >= {0, 1, 2, 3}
