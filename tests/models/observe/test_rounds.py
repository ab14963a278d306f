"""Rounds of a loop that make no state are no steps of a recording, and it says so."""

from __future__ import annotations

import functools
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import Recording, Session, record, recording
from grulens.errors import UnsupportedLayerError
from grulens.widgets.lens import _form
from tests.models.observe.zoo import INPUT, Plain, PlainStep, zeros


class Skipping(Plain):
    """Steps 2 and 5 make no state."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            if t in (2, 5):
                continue
            h = self.step(x[:, t], h)
        return h


class Asking(Plain):
    """The same, by what the input is, in a `while` and a `try`."""

    def forward(self, x: Tensor) -> Tensor:
        h, t = zeros(x), -1
        while (t := t + 1) < x.shape[1]:
            try:
                self.check(x[:, t])
                h = self.step(x[:, t], h)
            except ValueError:
                pass
        return h

    def check(self, now: Tensor) -> None:
        if not now.any():
            raise ValueError


class Early(Plain):
    """The same, in the step."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        if not x.any():
            return h
        return super().step(x, h)


class Reduced(Plain):
    """The same, where no loop is written."""

    def forward(self, x: Tensor) -> Tensor:
        return functools.reduce(
            lambda h, now: self.step(now, h) if now.any() else h, x.unbind(1), zeros(x)
        )


class Long(Plain):
    """The same, in a loop of so many instructions that Python's jumps over it are made of two."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for now in x.unbind(1):
            if not now.any():
                continue
            one, two, three = now.mean(), now.std(), now.sum()
            four, five, six = one + two * three, two + three * one, three + one * two
            seven, eight, nine = four + five * six, five + six * four, six + four * five
            ten = seven + eight * nine + (one - two) * (three - four) * (five - six)
            ten = ten + torch.stack([one, two, three, four, five, six, seven, eight, nine]).sum()
            h = self.step(now + 0 * ten, h)
        return h


class Apart(Plain):
    """The same of one of two cells, whose code is one."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = PlainStep(self), PlainStep(Plain())

    def forward(self, x: Tensor) -> Tensor:
        g = h = zeros(x)
        for now in x.unbind(1):
            g = self.two(now, g)
            if now.any():
                h = self.one(now, h)
        return g + h


def resting() -> Tensor:
    torch.manual_seed(0)
    x = torch.randn(2, 8, INPUT)
    x[:, [2, 5]] = 0
    return x


SAID = (
    "went round 2 times without making a state (before step 2, before step 4): step 4 here is "
    "round 6 of it, both counted from 0"
)


@pytest.mark.parametrize("kind", [Skipping, Asking, Early, Reduced, Long, Apart])
def test_rounds_that_make_no_state_are_said(kind: type[Any], tmp_path: Path) -> None:
    model, x = kind(), resting()
    first, run = record(model, x), record(model, x)
    name, *others = sorted(run, key=lambda one: run[one].shape[1])
    layer = run[name]
    assert layer.shape[1] == 6
    assert layer.note.startswith("the loop in line ")
    assert layer.note.endswith(SAID)
    assert first[name].note == layer.note
    assert layer.explain().endswith(SAID)
    assert [run[other].note for other in others] == ["" for _ in others]
    with recording(model) as runs:
        model(x)
    assert runs[0][name].note == layer.note
    assert Recording.load(run.save(tmp_path / "run"))[name].note == layer.note
    if kind is not Skipping:
        assert record(model, torch.randn(2, 8, INPUT))[name].note == ""


class Leaving(Plain):
    """A loop that is left before its end, and goes on under a `with`."""

    def forward(self, x: Tensor, until: int) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            if t == until:
                break
            with torch.no_grad():
                h = self.step(x[:, t], h)
        return h


def test_a_loop_that_is_left_has_left_nothing_out() -> None:
    layer = record(Leaving(), resting(), 6)["cell"]
    assert (layer.shape[1], layer.note) == (6, "")


class Kept(Plain):
    """Leaves the first states aside, or some later ones."""

    def forward(self, x: Tensor, begin: int, back: int) -> Tensor:
        h = first = zeros(x)
        for t in range(x.shape[1]):
            new = self.step(x[:, t], h)
            if t >= begin:
                h = first if t == back else new
        return h


class Chosen(Plain):
    """Leaves the last state aside, by an expression."""

    def forward(self, x: Tensor, end: int) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            new = self.step(x[:, t], h)
            h = new if t < end else h
        return h


class Named(Plain):
    """Takes every state further, in two ways."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = zeros(x)
        for now in x.unbind(1):
            new = self.step(now, h)
            h = new if mask is None else torch.where(mask, new, h)
        return h


def test_a_loop_that_may_leave_a_state_aside_says_so() -> None:
    x = resting()
    for run in (record(Kept(), x, 0, 9), record(Chosen(), x, 7)):
        assert "takes the state further in one branch only" in run["cell"].note
    assert record(Named(), x)["cell"].note == ""


def test_steps_that_begin_anew_within_a_call_are_said(tmp_path: Path) -> None:
    model, x = Kept(), resting()
    assert "go on with" not in record(model, x, 0, 9)["cell"].note
    run = record(model, x, 2, 9)
    assert run["cell"].calls == (0, 1, 2)
    assert "steps 1, 2 did not go on with the state before, but began" in run["cell"].note
    assert Recording.load(run.save(tmp_path / "run"))["cell"].note == run["cell"].note
    assert "step 5 did not go on with" in record(model, x, 0, 4)["cell"].note


class Otherwise(nn.Module):
    """Makes a state by another line where its input says so, which is zero from zeros on."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h, self.own = nn.Linear(INPUT, 4), nn.Linear(4, 4), nn.Parameter(torch.ones(4))
        self.gate = nn.Linear(INPUT, 4)

    def forward(self, x: Tensor) -> Tensor:
        h, states = x.new_zeros(len(x), 4), []
        for now in x.unbind(1):
            new = (self.h(h) + self.x(now) + self.own * h).tanh()
            h = self.gate(now).sigmoid_() * h if bool(now[0, 0] > 0) else new
            states.append(h)
        return torch.stack(states, 1)


@pytest.mark.parametrize("signs", ["++---", "+++--", "++--+"])
def test_a_state_that_another_line_leaves_zero_is_no_first_one(signs: str) -> None:
    x = torch.randn(1, len(signs), INPUT)
    x[0, :, 0] = x[0, :, 0].abs() * torch.tensor([1.0 if one == "+" else -1.0 for one in signs])
    with pytest.raises(UnsupportedLayerError, match="its steps are not all made in one way"):
        record(Otherwise(), x)


def test_where_a_debugger_follows_the_code_it_is_said_that_rounds_may_be_left_out() -> None:
    model, x = Skipping(), resting()
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        run = record(model, x)
        assert sys.gettrace() is not None
    finally:
        sys.settrace(before)
    assert "could not be counted, as a debugger" in run["cell"].note


def test_the_code_is_followed_no_longer_than_the_run() -> None:
    class Failing(Skipping):
        fails = False

        def step(self, x: Tensor, h: Tensor) -> Tensor:
            assert not self.fails
            return super().step(x, h)

    model, x = Failing(), resting()
    record(model, x)
    model.fails = True
    with pytest.raises(AssertionError):
        record(model, x)
    assert sys.gettrace() is None


def test_a_lens_says_it_without_a_click() -> None:
    session = Session(Skipping(), resting())
    note = session.before.note
    assert _form(session).endswith(f'</details><div class="grulens-note">{note}</div>')


class Listed(Plain):
    """Steps 2 and 5 make no state, in a comprehension."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        made = [h := self.step(now, h) for now in x.unbind(1) if now.any()]
        return torch.stack(made, 1)


class Yielded(Plain):
    """The same, by a choice within a generator."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)

        def step(now: Tensor) -> Tensor:
            nonlocal h
            h = self.step(now, h)
            return h

        return torch.stack([*(step(now) if now.any() else h for now in x.unbind(1))], 1)


@pytest.mark.parametrize("kind", [Listed, Yielded])
def test_rounds_of_a_comprehension_are_counted(kind: type[Any]) -> None:
    layer = record(kind(), resting())["cell"]
    assert layer.shape[1] == 6
    assert layer.note.endswith(SAID)


class Cells(nn.Module):
    """A step of two cells, in a comprehension."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([PlainStep(Plain()) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        states = [zeros(x) for _ in self.cells]
        for now in x.unbind(1):
            states = [cell(now, h) for cell, h in zip(self.cells, states, strict=True)]
        return states[-1]


def test_a_comprehension_over_the_cells_of_a_step_is_not_the_loop_of_the_steps() -> None:
    run = record(Cells(), resting())
    line = inspect.getsourcelines(Cells.forward)[1] + 2
    assert {layer.cell.loop for layer in run.values()} == {f"line {line} of test_rounds.py"}
    assert {layer.note for layer in run.values()} == {""}
