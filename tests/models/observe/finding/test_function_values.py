"""A loop that reaches another line through a function value makes a step that would be missing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import record, recording
from grulens.errors import RecordingError, UnsupportedLayerError
from grulens.models.observe.look import known_forms

pytestmark = pytest.mark.unchecked

UNITS, STEPS = 4, 5
Step = Callable[[Tensor, Tensor], Tensor]


class Cell(nn.Module):
    """A gated cell."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(UNITS, UNITS), nn.Linear(UNITS, UNITS)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        z = torch.sigmoid(self.x(x) + self.h(h))
        return z * h + (1 - z) * torch.tanh(self.x(x))


class Other(nn.Module):
    """A step of another class, with no gate."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Linear(UNITS, UNITS)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.x(x) + h)


class Recurrent(nn.Module):
    """A plain recurrent cell."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(UNITS, UNITS), nn.Linear(UNITS, UNITS)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.x(x) + self.h(h))


class Loop(nn.Module):
    """A gated loop, some of whose steps are made by another function."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.away, self.now = how, frozenset[int](), 0
        self.cell, self.other, self.plain = Cell(), Other(), Recurrent()
        self.cells, self.twice = nn.ModuleList([Cell(), Other()]), nn.ModuleList([Cell(), Cell()])
        self.x, self.norm, self.up = (nn.Linear(UNITS, UNITS) for _ in range(3))
        self.held: Step = self.step

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = torch.sigmoid(self.x(x) + h)
        return z * h + (1 - z) * torch.tanh(self.x(x))

    def last(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.up(x) + h)

    def fresh(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.up(x))

    def chosen(self, t: int) -> Step:
        return self.last if t in self.away else self.step

    @property
    def current(self) -> Step:
        return self.chosen(self.now)

    def call(self, step: Step, x: Tensor, h: Tensor) -> Tensor:
        return step(x, h)

    def forward(self, x: Tensor, *away: int) -> Any:
        self.away = frozenset(away)
        return getattr(self, self.how)(x.unbind(1), torch.zeros_like(x[:, 0]))

    # through what the loop goes from step to step

    def named(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            step = self.fresh if t in self.away else self.step
            h = step(x, h)
        return h

    def table(self, xs: list[Tensor], h: Tensor) -> Tensor:
        steps = [self.chosen(t) for t in range(len(xs))]
        for t, x in enumerate(xs):
            h = steps[t](x, h)
        return h

    def zipped(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for x, step in zip(xs, map(self.chosen, range(len(xs))), strict=True):
            h = step(x, h)
        return h

    def dispatch(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            h = {False: self.step, True: lambda x, h: torch.tanh(x + h)}[t in self.away](x, h)
        return h

    def a_lambda(self, xs: list[Tensor], h: Tensor) -> Tensor:
        step = lambda t, x, h: self.last(x, h) if t in self.away else self.step(x, h)  # noqa: E731
        for t, x in enumerate(xs):
            h = step(t, x, h)
        return h

    def comprehension(self, xs: list[Tensor], h: Tensor) -> Tensor:
        states = [
            h := (self.last(x, h) if t in self.away else self.step(x, h)) for t, x in enumerate(xs)
        ]
        return torch.stack(states, 1)

    def reduced(self, xs: list[Tensor], h: Tensor) -> Tensor:
        return functools.reduce(
            lambda h, at: (self.last if at[0] in self.away else self.step)(at[1], h),
            enumerate(xs), h,
        )  # fmt: skip

    def generated(self, xs: list[Tensor], h: Tensor) -> Tensor:
        def states(h: Tensor) -> Iterator[Tensor]:
            for t, x in enumerate(xs):
                h = self.last(x, h) if t in self.away else self.step(x, h)
                yield h

        return [*states(h)][-1]

    def module(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            cell = self.other if t in self.away else self.cell
            h = cell(x, h)
        return h

    def listed(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            h = self.cells[int(t in self.away)](x, h)
        return h

    def same_class(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            h = self.twice[int(t in self.away)](x, h)
        return h

    def partial(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            step = functools.partial(self.chosen(t), x)
            h = step(h)
        return h

    def by_name(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            h = getattr(self, "last" if t in self.away else "step")(x, h)
        return h

    def attribute(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            self.held = self.chosen(t)
            h = self.held(x, h)
        return h

    def a_property(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for self.now, x in enumerate(xs):
            h = self.current(x, h)
        return h

    def handed_on(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            h = self.call(self.chosen(t), x, h)
        return h

    def of_torch(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            step: Step = torch.add if t in self.away else self.step
            h = step(x, h)
        return h

    def made_before(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            new = torch.tanh(self.up(x) + self.norm(h))
            h = new if t in self.away else torch.sigmoid(self.x(x)) * h
        return h

    # in which no step is missing

    def left_never(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            if t == 100:
                break
            h = self.step(x, h)
        h = self.norm(h + self.up(x))
        return h

    def left_behind(self, xs: list[Tensor], h: Tensor) -> Tensor:
        t = 0
        while True:
            if t == len(xs):
                break
            x = xs[t]
            h = self.step(x, h)
            t += 1
        h = self.norm(h + self.up(x))
        return h

    def read_out(self, xs: list[Tensor], h: Tensor) -> Tensor:
        def step(x: Tensor, h: Tensor, ends: bool) -> Tensor:
            if ends:
                return self.norm(h)
            return self.step(x, h)

        for t in range(len(xs) + 1):
            h = step(xs[min(t, len(xs) - 1)], h, t == len(xs))
        return h

    def stacked(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for cell in (self.cell, self.plain):
            h, states = torch.zeros_like(h), []
            for x in xs:
                h = cell(x, h)
                states.append(h)
            xs = states[::-1]
        return h

    def in_turn(self, xs: list[Tensor], h: Tensor) -> Tensor:
        states = [h, h]
        for x in xs:
            below = x
            for n, cell in enumerate((self.cell, self.plain)):
                states[n] = below = cell(below, states[n])
        return below

    def both_ways(self, xs: list[Tensor], h: Tensor) -> Tensor:
        ends = list[Tensor]()
        for cell, inputs in ((self.cell, xs), (self.plain, xs[::-1])):
            h = torch.zeros_like(h)
            for x in inputs:
                h = cell(x, h)
            ends.append(h)
        return torch.cat(ends, 1)

    def beside(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            read = self.up if t == 0 else self.norm
            h = self.step(read(x), h)
        return h

    def read_by_one(self, xs: list[Tensor], h: Tensor) -> Tensor:
        for t, x in enumerate(xs):
            h = self.step(x, h)
            read = self.up if t == len(xs) - 1 else self.norm
            y = read(h)
        return y

    # layers of one list

    def layers(self, xs: list[Tensor], h: Tensor) -> Tensor:
        states = [h, h]
        for x in xs:
            below = x
            for n, cell in enumerate(self.twice):
                states[n] = below = cell(below, states[n])
        return below


HOWS = [
    "named", "table", "zipped", "dispatch", "a_lambda", "comprehension", "reduced", "generated",
    "module", "listed", "same_class", "partial", "by_name", "attribute", "a_property", "handed_on",
    "of_torch",
]  # fmt: skip


def made(how: str) -> tuple[Loop, Tensor]:
    torch.manual_seed(0)
    return Loop(how), torch.randn(2, STEPS, UNITS)


@pytest.mark.parametrize("how", HOWS)
def test_a_step_made_by_another_function_is_refused(how: str) -> None:
    model, x = made(how)
    said = r"not all made in one way: the last is made in line \d+ of test_function_values.py"
    with pytest.raises(UnsupportedLayerError, match=said):
        record(model, x, STEPS - 1)


@pytest.mark.parametrize("away", [(0,), (2,), (STEPS - 2, STEPS - 1)])
@pytest.mark.parametrize("how", ["named", "a_lambda", "comprehension", "module"])
def test_so_is_any_other_step(how: str, away: tuple[int, ...]) -> None:
    model, x = made(how)
    which = "the first is made" if away == (0,) else ""
    with pytest.raises(UnsupportedLayerError, match=f"no gated cell(.|\n)*{which}"):
        record(model, x, *away)


@pytest.mark.parametrize("how", HOWS)
def test_another_function_that_only_a_later_run_calls_is_said(how: str) -> None:
    model, x = made(how)
    assert [layer.shape for layer in record(model, x).values()] == [(2, STEPS, UNITS)]
    said = "which may make a state in place of its own"
    with pytest.raises(RecordingError, match=said), recording(model):
        model(x, STEPS - 1)
    record(model, x)
    with pytest.raises(UnsupportedLayerError, match="not all made in one way"):
        record(model, x, STEPS - 1)


def test_a_step_that_takes_what_was_made_before_is_refused() -> None:
    model, x = made("made_before")
    with pytest.raises(UnsupportedLayerError, match="the last is made in line"):
        record(model, x, STEPS - 1)


@pytest.mark.parametrize(
    "how",
    [
        "left_never", "left_behind", "read_out", "stacked", "in_turn", "both_ways", "beside",
        "read_by_one",
    ],
)  # fmt: skip
def test_what_is_no_step_is_not_taken_for_one(how: str) -> None:
    model, x = made(how)
    for _ in range(2):
        assert [layer.shape for layer in record(model, x).values()] == [(2, STEPS, UNITS)]


def test_a_list_of_cells_is_watched_while_some_of_it_has_not_run() -> None:
    model, x = made("layers")
    assert len(record(model, x)) == 2
    assert [form.rivals for form in known_forms(model)] == [(), ()]
    model, x = made("same_class")
    record(model, x)
    ((*_, rival),) = (form.rivals for form in known_forms(model))
    assert rival.but
    assert rival.among == "twice"
