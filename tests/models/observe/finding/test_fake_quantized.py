"""A GRU in training for integers: every value is rounded as an integer would have it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from grulens import clamp, record, shift
from grulens.errors import SignalError
from grulens.memory import attention

INPUTS, UNITS = 3, 4


class Rounds(nn.Module):
    """A GRU with a rounding behind every operation, and behind the state if it is told to."""

    def __init__(self, way: str, state: bool) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUTS, 3 * UNITS), nn.Linear(UNITS, 3 * UNITS)
        self.way, self.state = way, state
        self.register_buffer("step", torch.tensor(1 / 64))
        self.register_buffer("zero", torch.tensor(0, dtype=torch.int32))

    def fake(self, value: Tensor) -> Tensor:
        if self.way == "numbers":
            return torch.fake_quantize_per_tensor_affine(value, 1 / 64, 0, -128, 127)
        if self.way == "channels":
            steps = self.step.expand(value.shape[1]).contiguous()
            zeros = self.zero.expand(value.shape[1]).contiguous()
            return torch.fake_quantize_per_channel_affine(value, steps, zeros, 1, -128, 127)
        return torch.fake_quantize_per_tensor_affine(value, self.step, self.zero, -128, 127)

    def forward(self, x: Tensor, r_held: float | None = None) -> Tensor:
        h, found = x.new_zeros(len(x), UNITS), []
        for x_t in x.unbind(1):
            a, b, c = self.fake(self.x(x_t)).chunk(3, 1)
            d, e, f = self.fake(self.h(h)).chunk(3, 1)
            r = self.fake(torch.sigmoid(self.fake(a + d)))
            z = self.fake(torch.sigmoid(self.fake(b + e)))
            if r_held is not None:
                r = torch.full_like(r, r_held)
            n = self.fake(torch.tanh(self.fake(c + self.fake(r * f))))
            h = (1 - z) * n + z * h
            h = self.fake(h) if self.state else h
            found.append(torch.stack([h, r]))
        return torch.stack(found, 2)


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("way", ["numbers", "tensors", "channels"])
def test_its_gates_are_named(way: str, state: bool) -> None:
    torch.manual_seed(0)
    model, x = Rounds(way, state).eval(), torch.randn(2, 6, INPUTS)
    layer = record(model, x)["cell"]
    with torch.no_grad():
        h, r = model(x)
        held, _ = model(x, 0.25)
    assert layer.cell.equation.endswith("(z h_prev + (1 - z) n)" if state else "(1 - z) n")
    assert torch.equal(layer.h, h)
    assert torch.equal(layer.r, r)
    assert layer.cell.signal("r").words == "reset gate"
    assert layer.cell.signal("r").is_gate
    assert layer.cell.signal("z").is_gate
    assert "sigmoid" in layer.cell.lines["r"][0]
    edited = record(model, x, edits=clamp("cell", "r", value=0.25))["cell"]
    assert torch.equal(edited.h, held)
    assert not torch.equal(edited.h, h)
    with pytest.raises(SignalError, match="or rounded, behind its activation"):
        record(model, x, edits=shift("cell", "z", by=1.0))
    if not state:
        assert attention(layer).map().shape == (2, 6, 6)
