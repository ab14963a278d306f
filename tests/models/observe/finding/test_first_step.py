"""A first state that the loop makes by another line is a step that would be missing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from grulens import record
from grulens.errors import UnsupportedLayerError

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
    said = r"not all made in one way: the first is made in line \d+ of test_first_step.py, tanh"
    with pytest.raises(UnsupportedLayerError, match=said) as caught:
        record(Begins(how), torch.randn(2, 5, UNITS))
    assert "the first state before the loop" in str(caught.value)


@pytest.mark.parametrize("how", ["zeros", "within the step", "before"])
def test_a_first_state_that_stands_before_a_step_is_no_step(how: str) -> None:
    torch.manual_seed(0)
    layer = record(Begins(how), torch.randn(2, 5, UNITS))["cell"]
    assert layer.shape == (2, 5, UNITS)
    assert layer.cell.equation == "h = z h_prev + (1 - z) n"
    assert bool(layer.h_prev[:, 0].any()) == (how != "zeros")
