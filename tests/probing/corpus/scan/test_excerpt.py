"""Some steps of a long row, as an input that begins in the state in which the row stood there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import Session, ablate, record
from grulens.corpus import Excerpt, Scan, scan
from grulens.errors import ScanError

STEPS = 330


class Two(nn.Module):
    """Two layers beside each other, their steps before their rows, one of two levels."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.low, self.high = kind(3, 5, num_layers=2), nn.RNN(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.high(self.low(x.transpose(0, 1))[0])[0]
        return found.transpose(0, 1)


class Summed(nn.Module):
    """Its layer reads the sum of all before: no run from its middle does the same."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.rnn(x.cumsum(1))[0]
        return found


class Cells(nn.Module):
    """Called step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        every = [h := self.cell(step, h) for step in x.unbind(1)]
        return torch.stack(every, 1)


def scanned(model: nn.Module, tmp_path: Path) -> Scan:
    torch.manual_seed(1)
    return scan(model, [torch.randn(1, STEPS, 3)], tmp_path / "s", progress=False)


def middle(done: Scan, around: int = 5) -> Excerpt:
    whole = done.row_of(done.top(0, 1, layer=done.layers[0]).places[0])
    place = type(whole)(*(vars(whole) | {"start": 300, "stop": 310}).values())
    return done.excerpt(place, around)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_it_has_the_states_and_gates_of_the_row(kind: type[nn.RNNBase], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Two(kind)
    done = scanned(model, tmp_path)
    found = middle(done)
    assert (found.place.start, found.place.stop) == (256, 320)
    assert (found.place.start + found.steps.start, found.steps.stop) == (300, 54)
    with found.first():
        run = record(model, inputs=found.given)
    assert not any(len(one._forward_pre_hooks) for one in model.modules())
    whole = done.replay(done.row_of(found.place)).recording
    for name in done.layers:
        for signal in run[name].cell.signals:
            here = run[name].signal(signal.name)
            there = whole[name].signal(signal.name)[:, 256:320]
            assert torch.allclose(here, there, atol=1e-5), (name, signal.name)
    alone = record(model, inputs=found.given)
    assert not torch.allclose(alone["high.l0"].h, run["high.l0"].h, atol=1e-3)
    assert found.note == (
        "steps 256 to 319 of a row of 330 (part 0, input 0); step 0 here is step 256, and "
        "begins in the state that the scan kept before it. What the model does beside its layers "
        "begins anew"
    )


def test_the_beginning_of_a_row_needs_no_state(tmp_path: Path) -> None:
    done = scanned(nn.GRU(3, 4, batch_first=True), tmp_path)
    found = done.excerpt(done.row_of(done.top(0, 1).places[0]), 0)
    assert (found.note, found.states) == ("the whole row of 330 steps (part 0, input 0)", None)
    first = type(found.place)(*(vars(found.place) | {"stop": 10}).values())
    found = done.excerpt(first, 64)
    assert (found.place.start, found.place.stop, found.states) == (0, 128, None)
    assert "the row goes on after them" in found.note
    assert len(repr(found)) < 200
    assert "start=0, stop=128" in repr(found)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Cells, "'cell' is a GRUCell, which is given no first state here"),
        (lambda: nn.GRU(3, 4, bidirectional=True, batch_first=True), "a layer reads it from the"),
        (Summed, "a run from the states that were kept gives others than the scan"),
    ],
)
def test_where_it_cannot_begin_there_it_is_the_whole_row(
    make: Any, why: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    found = middle(scanned(make(), tmp_path))
    assert (found.place.start, found.place.stop, found.states) == (0, STEPS, None)
    assert found.note.startswith("the whole row of 330 steps (part 0, input 0): ")
    assert why in found.note


def test_how_many_steps_around_are_a_number(tmp_path: Path) -> None:
    done = scanned(nn.GRU(3, 4, batch_first=True), tmp_path)
    with pytest.raises(ScanError, match="around must be a whole number from 0 on, got -1"):
        middle(done, -1)


def test_other_threads_begin_as_the_model_does(tmp_path: Path) -> None:
    model = nn.GRU(3, 4, batch_first=True)
    found = middle(scanned(model, tmp_path))
    x = found.given[0][0]
    alone, seen = model(x)[0], []
    with found.first():
        other = threading.Thread(target=lambda: seen.append(model(x)[0]))
        other.start()
        other.join()
        assert not torch.equal(model(x)[0], alone)
    assert torch.equal(seen[0], alone)


def test_every_run_of_a_session_begins_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Two(nn.LSTM)
    done = scanned(model, tmp_path)
    found = middle(done)
    whole = done.replay(done.row_of(found.place)).recording
    session = Session(model, found, layer="high.l0")
    assert torch.allclose(session.before.h, whole["high.l0"].h[:, 256:320], atol=1e-5)
    session.add(ablate("high.l0", 1))
    with found.first():
        edited = record(model, inputs=found.given, edits=[ablate("high.l0", 1)])
    assert torch.equal(session.now.h, edited["high.l0"].h)
    with session.studying():
        again = record(model, inputs=session.given)
    assert torch.equal(again["low.l1"].h, session.baseline["low.l1"].h)
    made: dict[str, Any] = {"model": model}
    exec(session.code(), made)
    assert torch.equal(made["run"]["high.l0"].h, session.now.h)
    # another input begins as the model does; one that does not fit changes nothing
    with pytest.raises(Exception, match="input"):
        session.set_input(torch.zeros(1, 5, 7))
    assert session.excerpt is found
    session.run_again()
    assert torch.equal(session.now.h, edited["high.l0"].h)
    x = torch.zeros(1, 5, 3)
    session.set_input(x)
    assert session.excerpt is None
    assert torch.equal(session.before.h, record(model, x)["high.l0"].h)
