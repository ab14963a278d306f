"""What a run of two steps shows of a cell is what a longer one shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from grulens import record

UNITS = 4
Made = tuple[Tensor, Tensor]


class Two(nn.Module):
    """Two states, each step given the four gates of an LSTM and what it carries: h and c."""

    def __init__(self, step: Callable[..., Made]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line, self.step = nn.Linear(3 + UNITS, 4 * UNITS), step

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), UNITS)
        for x_t in x.unbind(1):
            parts = self.line(torch.cat([x_t, h], 1)).chunk(4, 1)
            h, c = self.step(*map(torch.sigmoid, parts[:3]), torch.tanh(parts[3]), h, c)
        return h


def lstm(i: Tensor, f: Tensor, o: Tensor, g: Tensor, h: Tensor, c: Tensor) -> Made:
    c = f * c + i * g
    return o * torch.tanh(c), c


def squared(i: Tensor, f: Tensor, o: Tensor, g: Tensor, h: Tensor, c: Tensor) -> Made:
    c = f * c + i * g
    return o * c * c, c


def swings(i: Tensor, f: Tensor, o: Tensor, g: Tensor, h: Tensor, v: Tensor) -> Made:
    v = v + 0.1 * (g - h - v)
    return h + 0.1 * v, v


def gru(i: Tensor, f: Tensor, o: Tensor, g: Tensor, h: Tensor, c: Tensor) -> Made:
    return f * h + (1 - f) * g, c


STEPS: dict[Callable[..., Made], tuple[str, str]] = {
    lstm: ("c = f c_prev + i g; h = o tanh(c)", ""),
    squared: ("h = f h_prev + i g", "the next step reads what `o * c * c`"),
    swings: ("h = 0.99 h_prev + 0.01 g + 0.09 v", "numbers of h from before h_prev stand in v"),
    gru: ("h = z h_prev + (1 - z) n", ""),
}


@pytest.mark.parametrize("step", STEPS)
def test_two_steps_show_the_state_and_its_note_as_more_do(step: Callable[..., Made]) -> None:
    two, more = (record(Two(step), torch.ones(1, steps, 3))["cell"] for steps in (2, 5))
    assert two.cell.equation == more.cell.equation
    assert two.note == more.note
    assert two.note.startswith(STEPS[step][1])
    assert bool(two.note) == bool(STEPS[step][1])
    if step is not swings:
        assert two.cell.equation == STEPS[step][0]
    assert torch.equal(two.h, more.h[:, :2])
