"""Rounds that make several steps, and states that are made of an older one than the last."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import Recording, Session, clamp, record, recording
from grulens.errors import RecordingError
from grulens.widgets.lens import _form
from tests.models.observe.zoo import BATCH, INPUT, UNITS, Notes, Plain, PlainStep, gru_step, zeros

pytestmark = pytest.mark.unchecked


class Lines(Plain):
    """Two lines call a step."""

    def forward(self, x: Tensor) -> Tensor:
        h, states = zeros(x), []
        for t in range(0, x.shape[1], 2):
            h = self.step(x[:, t], h)
            states.append(h)
            h = self.step(x[:, t + 1], h)
            states.append(h)
        return torch.stack(states, 1)


class Nested(Plain):
    """One line calls a step within a step."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for one, two in zip(x.unbind(1)[::2], x.unbind(1)[1::2], strict=True):
            h = self.step(two, self.step(one, h))
        return h


class Inline(Plain):
    """A step is written out twice, its inputs made before the loop."""

    def forward(self, x: Tensor) -> Tensor:
        h, made = zeros(x), self.x(x).unbind(1)
        for t in range(0, len(made), 2):
            x_r, x_z, x_n = made[t].chunk(3, 1)
            h_r, h_z, h_n = self.h(h).chunk(3, 1)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            h = z * h + (1 - z) * torch.tanh(x_n + r * h_n)
            x_r, x_z, x_n = made[t + 1].chunk(3, 1)
            h_r, h_z, h_n = self.h(h).chunk(3, 1)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            h = z * h + (1 - z) * torch.tanh(x_n + r * h_n)
        return h


class Called(nn.Module):
    """Two lines call a module."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = PlainStep(Plain())

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(0, x.shape[1], 2):
            h = self.cell(x[:, t], h)
            h = self.cell(x[:, t + 1], h)
        return h


class LeftOver(Plain):
    """Three steps a round; what is left over has a loop of its own."""

    def forward(self, x: Tensor) -> Tensor:
        h, t = zeros(x), 0
        while t + 3 <= x.shape[1]:
            h = self.step(x[:, t], h)
            h = self.step(x[:, t + 1], h)
            h = self.step(x[:, t + 2], h)
            t += 3
        for rest in range(t, x.shape[1]):
            h = self.step(x[:, rest], h)
        return h


UNROLLED = [Lines, Nested, Inline, Called, LeftOver]


def made(kind: Callable[[], Any], steps: int, rows: int = BATCH) -> tuple[Any, Tensor]:
    torch.manual_seed(7)
    return kind(), torch.randn(rows, steps, INPUT)


def computed(
    model: Any,
    x: Tensor,
    lag: int = 1,
    reads: int = 1,
    hold: tuple[str, int, int, int, float] | None = None,
) -> dict[str, Tensor]:
    """What a GRU computes whose mix and whose gates read older states, in float64.

    Args:
        model: it, or what holds it as `cell`.
        x: its input.
        lag: the mix keeps a share of the state so many steps before.
        reads: the gates read the state so many steps before.
        hold: a signal, a row, a unit, a step, and the value that it has there.
    """
    own = copy.deepcopy(getattr(model, "cell", model)).double()
    notes, states = Notes(), [zeros(x).double()] * max(lag, reads)
    with torch.no_grad():
        for t in range(x.shape[1]):
            part, older = Notes(), states[-reads]
            gru_step(own, part, x[:, t].double(), older)
            value = {name: values[0] for name, values in part.made.items()}

            def noted(name: str, now: Tensor, t: int = t) -> Tensor:
                if hold is not None and hold[0] == name and hold[3] == t:
                    now = now.clone()
                    now[hold[1], hold[2]] = hold[4]
                return notes(name, now)

            z, n = noted("z", value["z"]), noted("n", value["n"])
            states.append(noted("h", z * states[-lag] + (1 - z) * n))
            notes("h_prev", states[-1 - lag])
    return notes.signals()


def same(layer: Any, expected: dict[str, Tensor], steps: slice = slice(None)) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(
            getattr(layer, name).double(), value[:, steps], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("kind", UNROLLED)
@pytest.mark.parametrize("steps", [8, 40])
def test_lines_that_make_a_step_each_are_one_layer_of_all_steps(
    kind: type[Any], steps: int
) -> None:
    model, x = made(kind, steps)
    run = record(model, x)
    (layer,) = run.values()
    assert layer.cell.equation == "h = z h_prev + (1 - z) n"
    assert layer.note == ""
    same(layer, computed(model, x))
    for name, at in (("z", 3), ("h", 4), ("n", 5), ("z", steps - 1)):
        edit = clamp(layer.name, name, 2, value=0.25, at=at, rows=1)
        changed = record(model, x, edits=[edit])
        same(changed[layer.name], computed(model, x, hold=(name, 1, 2, at, 0.25)))
        last = changed.output[:, -1] if changed.output.dim() == 3 else changed.output
        torch.testing.assert_close(last, changed[layer.name].h[:, -1])
    model, x = made(kind, steps, rows=2)
    same(record(model, x[:, :6])[layer.name], computed(model, x[:, :6]))


def test_what_is_left_over_only_in_a_later_run_is_found() -> None:
    model, x = made(LeftOver, 8)
    said = r"came by line \d+ of test_unrolled.py \(`self.step\(x\[:, rest\], h\)`\)"
    same(record(model, x[:, :6])["cell"], computed(model, x[:, :6]))
    with pytest.raises(RecordingError, match=said), recording(model):
        model(x)
    for steps in (6, 8, 6, 7):
        same(record(model, x[:, :steps])["cell"], computed(model, x[:, :steps]))


class Memory(nn.Module):
    """An LSTM; the second line of a round may be left out."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUT, 4 * UNITS), nn.Linear(UNITS, 4 * UNITS)
        self.lines = lines

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (self.x(x) + self.h(h)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def forward(self, x: Tensor) -> Tensor:
        h, c = zeros(x), zeros(x)
        for t in range(0, x.shape[1], self.lines):
            h, c = self.step(x[:, t], h, c)
            if self.lines == 2:
                h, c = self.step(x[:, t + 1], h, c)
        return h


class Stacked(nn.Module):
    """Two layers, each with two lines in a round, or with one."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.lower, self.upper, self.lines = Plain(), Plain(), lines
        self.upper.x = nn.Linear(UNITS, 3 * UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h, g = zeros(x), zeros(x)
        for t in range(0, x.shape[1], self.lines):
            h = self.lower.step(x[:, t], h)
            g = self.upper.step(h, g)
            if self.lines == 2:
                h = self.lower.step(x[:, t + 1], h)
                g = self.upper.step(h, g)
        return g


class Either(Plain):
    """One line for even steps and one for odd ones, or one for all."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.lines = lines

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            if t % self.lines:  # noqa: SIM108
                h = self.step(x[:, t], h)
            else:
                h = self.step(x[:, t], h)
        return h


@pytest.mark.parametrize("kind", [Memory, Stacked, Either])
@pytest.mark.parametrize("steps", [6, 14])
def test_a_loop_is_the_same_layers_unrolled_or_not(kind: type[Any], steps: int) -> None:
    two, x = made(lambda: kind(2), steps)
    one = kind(1)
    one.load_state_dict(two.state_dict())

    def alike(**more: Any) -> None:
        mine, plain = record(two, x, **more), record(one, x, **more)
        torch.testing.assert_close(mine.output, plain.output)
        assert len(mine) == len(plain)
        for found, expected in zip(mine.values(), plain.values(), strict=True):
            assert found.cell.equation == expected.cell.equation
            assert found.shape[1] == steps
            for name in expected.names:
                torch.testing.assert_close(getattr(found, name), getattr(expected, name))

    alike()
    if kind is not Stacked:  # whose layers are called after their lines
        for name in ("f", "o", "c", "h") if kind is Memory else ("z", "r", "n", "h"):
            alike(edits=[clamp("cell", name, 2, value=0.25, at=steps - 3, rows=1)])


class Older(Plain):
    """Its mix keeps a share of the state `lag` steps before, its gates read the last one."""

    lag, reads = 2, 1

    def forward(self, x: Tensor) -> Tensor:
        states = [zeros(x)] * max(self.lag, self.reads)
        for now in x.unbind(1):
            states.append(self.mixed(now, states[-self.reads], states[-self.lag]))
        return states[-1]

    def mixed(self, x: Tensor, read: Tensor, old: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x(x).chunk(3, 1)
        h_r, h_z, h_n = self.h(read).chunk(3, 1)
        z = torch.sigmoid(x_z + h_z)
        return z * old + (1 - z) * torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)


class Swapped(Older):
    """Two names change places."""

    def forward(self, x: Tensor) -> Tensor:
        h = older = zeros(x)
        for now in x.unbind(1):
            h, older = self.mixed(now, h, older), h
        return h


class Thrice(Older):
    """The state three steps before."""

    lag = 3


class Dilated(Older):
    """All of it reads the state three steps before (a dilated RNN)."""

    lag, reads = 3, 3


class Queued(Older):
    """The state two steps before, out of a queue."""

    reads = 2

    def forward(self, x: Tensor) -> Tensor:
        queue = deque([zeros(x), zeros(x)], maxlen=2)
        for now in x.unbind(1):
            queue.append(self.mixed(now, queue[0], queue[0]))
        return queue[-1]


class Buffered(Older):
    """The state two steps before, out of one tensor."""

    def forward(self, x: Tensor) -> Tensor:
        states = x.new_zeros(x.shape[1] + 2, len(x), UNITS)
        for t, now in enumerate(x.unbind(1)):
            states[t + 2] = self.mixed(now, states[t + 1], states[t])
        return states[-1]


@pytest.mark.parametrize("kind", [Older, Swapped, Thrice, Dilated, Queued, Buffered])
def test_a_state_that_is_made_of_an_older_one_says_so(kind: type[Any], tmp_path: Path) -> None:
    model, x = made(kind, 13)
    run, lag = record(model, x), kind.lag
    assert list(run) == [f"cell.{turn}" for turn in range(lag)]
    expected = computed(model, x, lag, kind.reads)
    for turn, (name, layer) in enumerate(run.items()):
        same(layer, expected, slice(turn, None, lag))
        number = f"{lag} s" + f" + {turn}" * bool(turn)
        said = (
            f"mixes its state with the one {lag} rounds of its loop before, and not with the last "
            f"one: step s here is state {number} of this line, both counted from 0"
        )
        assert layer.note.endswith(said)
        assert layer.explain().endswith(said)
        if kind is not Buffered:
            assert Recording.load(run.save(tmp_path / name))[name].note == layer.note
    edit = clamp("cell.1", "z", 2, value=0.25, at=1, rows=1)
    hold = "z", 1, 2, lag + 1, 0.25
    changed = computed(model, x, lag, kind.reads, hold)
    for turn, layer in enumerate(record(model, x, edits=[edit]).values()):
        same(layer, changed, slice(turn, None, lag))
    session = Session(model, x)
    assert f'<div class="grulens-note">{session.before.note}</div>' in _form(session)


class TwoOfOne(nn.Module):
    """A stack of two layers out of one module, by two lines or by one."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.cell, self.lines = PlainStep(Plain()), lines
        self.up = nn.Linear(UNITS, INPUT)

    def forward(self, x: Tensor) -> Tensor:
        states = [zeros(x), zeros(x)]
        for now in x.unbind(1):
            if self.lines == 2:
                lower = self.cell(now, states[0])
                upper = self.cell(self.up(lower), states[1])
                states = [lower, upper]
            else:
                read = now
                for level in range(2):
                    states[level] = self.cell(read, states[level])
                    read = self.up(states[level])
        return torch.cat(states, 1)


@pytest.mark.parametrize("lines", [1, 2])
def test_a_stack_of_two_layers_out_of_one_module_is_two_layers(lines: int) -> None:
    torch.manual_seed(7)
    model, x = TwoOfOne(lines), torch.randn(BATCH, 6, INPUT)
    lower, upper = record(model, x).values()
    same(lower, computed(model, x))
    with torch.no_grad():
        same(upper, computed(model, model.up(lower.h)))
    assert ("makes 2 states in turn" in lower.note) == (lines == 1)


class Alternating(nn.Module):
    """Two cells make the state in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = PlainStep(Plain()), PlainStep(Plain())

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(0, x.shape[1], 2):
            h = self.one(x[:, t], h)
            h = self.two(x[:, t + 1], h)
        return h


def test_cells_that_make_a_state_in_turn_are_said() -> None:
    torch.manual_seed(7)
    model, x = Alternating(), torch.randn(BATCH, 6, INPUT)
    layer = record(model, x)["two"]
    assert layer.shape[1] == 3
    assert torch.equal(layer.h[:, -1], model(x))
    assert layer.note.startswith("a step here makes 2 states, one out of the other (line ")
    assert "('one')" in layer.note
    assert "('two')" in layer.note
