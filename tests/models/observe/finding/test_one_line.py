"""A state that the loop makes by another line is a step that would be missing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import clamp, editing, layers, record, recording
from grulens.errors import RecordingError, UnsupportedLayerError
from grulens.models.observe.look import known_forms

UNITS = 4


class Begins(nn.Module):
    """A gated loop that begins in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.x, self.h, self.first = (nn.Linear(UNITS, UNITS) for _ in range(3))
        self.how = how

    def step(self, x: Tensor, h: Tensor | None) -> Tensor:
        now = self.x(x)
        if h is None and self.how == "first step":
            return torch.tanh(self.first(now))
        if h is None:
            h = torch.zeros_like(now) if self.how == "zeros" else torch.tanh(self.first(now))
        z = torch.sigmoid(now + self.h(h))
        return z * h + (1 - z) * torch.tanh(now)

    def forward(self, x: Tensor) -> Tensor:
        h, inputs = None, x.unbind(1)
        if self.how == "before":
            h = torch.tanh(self.first(self.x(inputs[0])))
        if self.how == "in line":
            for t, x_t in enumerate(inputs):
                now = self.x(x_t)
                if t == 0:
                    h = torch.tanh(self.first(now))
                else:
                    z = torch.sigmoid(now + self.h(h))
                    h = z * h + (1 - z) * torch.tanh(now)
            return h  # type: ignore[return-value]
        for x_t in inputs:
            h = self.step(x_t, h)
        return h  # type: ignore[return-value]


@pytest.mark.parametrize("how", ["first step", "in line"])
def test_a_first_step_that_is_made_by_another_line_is_refused(how: str) -> None:
    torch.manual_seed(0)
    said = r"not all made in one way: the first is made in line \d+ of test_one_line.py[, ]"
    with pytest.raises(UnsupportedLayerError, match=said) as caught:
        record(Begins(how), torch.randn(2, 5, UNITS))
    assert "the first state before the loop" in str(caught.value)


class Chosen(nn.Module):
    """A loop that begins with some steps by another law, which is worked out in all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(UNITS, UNITS), nn.Linear(UNITS, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for now in x.unbind(1):
            new = torch.tanh(self.x(now) + self.h(h))
            h = torch.sigmoid(self.x(now)) * h if bool(now[0, 0] > 0) else new
        return h


@pytest.mark.parametrize("steps", [1, 2, 3, 11, 12, 13, 20])
def test_first_steps_by_a_law_that_all_steps_work_out_are_not_left_out(steps: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 26, UNITS)
    x[0, :, 0] = 1.0
    x[0, :steps, 0] = -1.0
    with pytest.raises(UnsupportedLayerError, match=r"the first is made in .*would be missing"):
        record(Chosen(), x)


@pytest.mark.parametrize("how", ["zeros", "within the step", "before"])
def test_a_first_state_that_stands_before_a_step_is_no_step(how: str) -> None:
    torch.manual_seed(0)
    layer = record(Begins(how), torch.randn(2, 5, UNITS))["cell"]
    assert layer.shape == (2, 5, UNITS)
    assert layer.cell.equation == "h = z h_prev + (1 - z) n"
    assert bool(layer.h_prev[:, 0].any()) == (how != "zeros")


class Cell(nn.Module):
    """A gated cell."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(UNITS, UNITS), nn.Linear(UNITS, UNITS)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        z = torch.sigmoid(self.x(x) + self.h(h))
        return z * h + (1 - z) * torch.tanh(self.x(x))


class Ends(nn.Module):
    """A gated loop that ends in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.x, self.h, self.last = (nn.Linear(UNITS, UNITS) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(UNITS), nn.Linear(UNITS, 2)
        self.how, self.state = how, torch.zeros(0)
        self.register_buffer("start", torch.randn(2, UNITS))
        self.register_buffer("end", torch.randn(2, UNITS))
        self.cells = nn.ModuleList([Cell(), Cell()])

    def step(self, x: Tensor, h: Tensor, ends: bool = False) -> Tensor:
        if ends:
            return torch.tanh(self.last(x))
        now = self.x(x)
        z = torch.sigmoid(now + self.h(h))
        return z * h + (1 - z) * torch.tanh(now)

    def other(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.last(x) + h)

    def forward(self, x: Tensor, branches: bool = True) -> Any:
        last = x.shape[1] - 1 if branches else -1
        return getattr(self, self.how)(x, torch.zeros_like(x[:, 0]), last)

    def either(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        for t in range(x.shape[1]):
            if t == last:
                h = torch.tanh(self.last(h))
            else:
                new = self.step(x[:, t], h)
                h = new
        return h

    def in_line(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        for t in range(x.shape[1]):
            h = self.other(x[:, t], h) if t == last else self.step(x[:, t], h)
        return h

    def goes_on(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        for t in range(x.shape[1]):
            if t == last:
                h = self.other(x[:, t], h)
                continue
            h = self.step(x[:, t], h)
        return h

    def left(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        t = 0
        while t < x.shape[1]:
            if t == last:
                h = self.other(x[:, t], h)
                break
            h = self.step(x[:, t], h)
            t += 1
        return h

    def left_before(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        for t, x_t in enumerate(x.unbind(1)):
            if t == last:
                break
            h = self.step(x_t, h)
        h = self.other(x_t, h)
        return h

    def returned(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        for t in range(x.shape[1]):
            if t == last:
                return self.other(x[:, t], h)
            h = self.step(x[:, t], h)
        return h

    def within(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h, t == last)
        return h

    def chosen(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        for t in range(x.shape[1]):
            h = self.cells[int(t == last)](x[:, t], h)
        return h

    def listed(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        states = [h]
        for t in range(x.shape[1]):
            if t != last:
                states.append(self.step(x[:, t], states[-1]))
            else:
                states.append(self.other(x[:, t], states[-1]))
        return torch.stack(states, 1)

    def held(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        self.state = h
        for t in range(x.shape[1]):
            if t != last:
                self.state = self.step(x[:, t], self.state)
            else:
                self.state = self.other(x[:, t], self.state)
        return self.state

    def begins(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        for t in range(x.shape[1]):
            h = torch.tanh(self.last(x[:, t])) if t == 0 < last else self.step(x[:, t], h)
        return h

    def normed(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        t = 0
        while True:
            if t > last:
                break
            h = self.step(x[:, t], h)
            t += 1
        h = self.norm(h)
        return self.head(h)

    def read(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        y = h
        for t in range(last + 2):
            if t > last:
                y = self.norm(h)
            else:
                h = self.step(x[:, t], h)
        return y

    def read_with_input(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        y = h
        for t in range(last + 2):
            if t > last:
                y = torch.tanh(self.last(x[:, 0] * 2) + h)
            else:
                h = self.step(x[:, t], h)
        return y

    def read_behind(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        for t in range(last + 2):
            x_t = x[:, t % (last + 1)] * 2
            if t > last:
                break
            h = self.step(x[:, t], h)
        y = self.norm(h + self.last(x_t))
        return y

    def two(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        before = [h, h]
        for x_t in x.unbind(1):
            now, h = list[Tensor](), x_t
            for level in range(2):
                h = self.step(h, before[0]) if level == 0 else self.step(h, before[1])
                now.append(h)
            before = now
        return h

    def both_ways(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        ends = list[Tensor]()
        for way in range(2):
            h = torch.zeros_like(x[:, 0])
            for t in range(x.shape[1]):
                h = self.step(x[:, t], h) if way == 0 else self.step(x[:, -1 - t], h)
            ends.append(h)
        return torch.cat(ends, 1)

    def from_given(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        ends = list[Tensor]()
        for way, h in enumerate((self.start, self.end)):  # noqa: PLR1704
            for t in range(x.shape[1]):
                h = self.step(x[:, t], h) if way == 0 else self.step(x[:, -1 - t], h)  # noqa: PLW2901
            ends.append(h)
        return torch.cat(ends, 1)

    def there_and_back(self, x: Tensor, h: Tensor, last: int) -> Tensor:
        for t in range(2 * x.shape[1]):
            h = self.step(x[:, t], h) if t <= last else self.step(x[:, last - t], h)
        return h


OTHER_LINE = [
    "either", "in_line", "goes_on", "left", "left_before", "returned", "within", "listed", "held",
    "begins",
]  # fmt: skip


@pytest.mark.parametrize(
    ("how", "steps"), [*((one, 4) for one in OTHER_LINE), ("within", 110), ("chosen", 110)]
)
def test_a_step_that_is_made_by_another_line_is_refused(how: str, steps: int) -> None:
    torch.manual_seed(0)
    which = "first" if how == "begins" else "last"
    said = rf"not all made in one way: the {which} is made in line \d+ of test_one_line.py"
    with pytest.raises(UnsupportedLayerError, match=said) as caught:
        record(Ends(how), torch.randn(2, steps, UNITS))
    assert f"torch.where({which}, one, another)" in str(caught.value)


@pytest.mark.unchecked
@pytest.mark.parametrize("steps", [5, 20, 110])
@pytest.mark.parametrize(
    ("how", "layers"),
    [
        ("normed", 1), ("read", 1), ("read_with_input", 1), ("read_behind", 1), ("two", 2),
        ("both_ways", 2), ("from_given", 2),
    ],
)  # fmt: skip
def test_what_follows_on_the_last_state_is_no_step(how: str, layers: int, steps: int) -> None:
    torch.manual_seed(0)
    run = record(Ends(how), torch.randn(2, steps, UNITS))
    assert [layer.shape for layer in run.values()] == layers * [(2, steps, UNITS)]


@pytest.mark.unchecked
@pytest.mark.parametrize("steps", [5, 20, 110])
def test_a_layer_that_comes_back_by_another_line_is_refused(steps: int) -> None:
    torch.manual_seed(0)
    said = r"the last is made in line \d+ .*(?s:.)*the first is made in line \d+ "
    with pytest.raises(UnsupportedLayerError, match=said):
        record(Ends("there_and_back"), torch.randn(2, steps, UNITS))


@pytest.mark.parametrize("how", [one for one in OTHER_LINE if one != "left_before"])
def test_a_branch_that_only_a_later_run_takes_is_said(how: str) -> None:
    torch.manual_seed(0)
    model, x = Ends(how), torch.randn(2, 5, UNITS)
    (layer,) = record(model, x, False).values()
    assert layer.shape == (2, 5, UNITS)
    said = r"came by line \d+ of test_one_line.py \(`.*`\), which may make a state in place of its"
    with pytest.raises(RecordingError, match=said), recording(model):
        model(x)
    assert record(model, x, False)[layer.name].shape == (2, 5, UNITS)
    with pytest.raises(UnsupportedLayerError, match="not all made in one way"):
        record(model, x)
    # and the next input may be one that does not take it
    assert record(model, x, False)[layer.name].shape == (2, 5, UNITS)
    held = clamp(layer.name, "z", 0, value=1.0)
    with pytest.raises(RecordingError, match=said), editing(model, held):
        model(x)


class Modes(nn.Module):
    """A cell with one line for training and one for use."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(UNITS, UNITS), nn.Linear(UNITS, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        for x_t in x.unbind(1):
            z = torch.sigmoid(self.x(x_t) + self.h(h))
            if self.training:
                h = z * h + (1 - z) * torch.tanh(self.x(x_t) + torch.randn_like(h))
            else:
                h = z * h + (1 - z) * torch.tanh(self.x(x_t))
        return h


def test_no_run_comes_by_a_line_for_training_and_one_for_use() -> None:
    model, x = Modes().eval(), torch.randn(2, 4, UNITS)
    record(model, x)
    assert [form.rivals for form in known_forms(model)] == [()]


class Over(nn.Module):
    """A layer over the whole sequence, which hands on what it makes of its states (LSTM without h).

    Args:
        how: how it keeps what it hands on.
    """

    def __init__(self, how: str) -> None:
        super().__init__()
        self.line, self.norm, self.how = nn.Linear(UNITS, 3 * UNITS), nn.LayerNorm(UNITS), how

    def forward(self, x: Tensor) -> Tensor:
        c, kept, joined = torch.zeros_like(x[:, 0]), torch.zeros_like(x), x[:, :0]
        listed = []
        for t, now in enumerate(x.unbind(1)):
            f, o, n = self.line(now).chunk(3, 1)
            f = torch.sigmoid(f + c)
            c = f * c + (1 - f) * torch.tanh(n)
            h = self.norm(c) if self.how == "normed" else torch.sigmoid(o) * torch.tanh(c)
            listed.append(h)
            joined = torch.cat([joined, h[:, None]], 1)
            kept[:, t] = h
        return {"written": kept, "joined": joined}.get(self.how, torch.stack(listed, 1))


@pytest.mark.parametrize(
    ("how", "steps"),
    [("listed", 2), ("listed", 5), ("normed", 5), ("written", 2), ("written", 5), ("joined", 5)],
)
def test_the_layer_above_makes_no_step_of_the_one_below(how: str, steps: int) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(Over(how), Over(how), Over(how)), torch.randn(2, steps, UNITS)
    run = record(model, x)
    assert [*run] == ["0", "1", "2"]
    assert layers(model).closed == ()
    assert torch.equal(run["1"].h_prev[:, 1:], run["1"].h[:, :-1])
