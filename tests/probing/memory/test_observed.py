"""What an observed cell remembers: as the same GRU opened by its weights, or by its equation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from grulens import ablate, clamp, record
from grulens.errors import CellError, RecordingError
from grulens.probing.memory.attention import attention
from tests import loops
from tests.loops import INPUTS, UNITS, Loop


def inputs(steps: int = 9, rows: int = 3) -> Tensor:
    return torch.randn(rows, steps, INPUTS, generator=torch.Generator().manual_seed(1))


def test_attention_is_that_of_the_same_gru() -> None:
    torch.manual_seed(0)
    model, x, toward = Loop(), inputs(), torch.randn(UNITS)
    found, wanted = attention(record(model, x)), attention(record(model.known(), x))
    for t in range(x.shape[1]):
        for one, other in zip(found.at(t), wanted.at(t), strict=True):
            assert torch.allclose(one, other, atol=1e-6)
    assert torch.allclose(found.map(), wanted.map(), atol=1e-6)
    assert torch.allclose(found.map(toward), wanted.map(toward), atol=1e-6)
    assert torch.allclose(found.initial(toward), wanted.initial(toward), atol=1e-6)
    assert torch.equal(found.past, wanted.past)
    some = attention(record(model, x), rows=[2])
    assert torch.equal(some.map()[0], found.map()[2])


@pytest.mark.parametrize(
    "make",
    [Loop, loops.Lines, loops.Masked, loops.Augru, loops.MinGRU, loops.Leaky, loops.Zoneout,
     lambda: loops.LSTM(coupled=True)],
)  # fmt: skip
def test_the_weights_sum_to_one_and_make_the_state(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = make().double(), inputs().double()
    layer = record(model, x)["cell"]
    found, first = attention(layer), layer.state_prev[:, 0]
    for t in range(x.shape[1]):
        weights, initial = found.at(t)
        assert bool((weights >= 0).all() and (weights <= 1).all())
        ones = torch.ones_like(initial)
        assert torch.allclose(weights.sum(1) + initial, ones, atol=1e-12)
        made = initial * first + (weights * layer.candidate()).sum(1)
        assert torch.allclose(made, layer.state[:, t], atol=1e-12)


def test_a_first_state_of_the_users_own_has_its_share() -> None:
    torch.manual_seed(0)
    model, x, h_0 = Loop().double(), inputs().double(), torch.randn(3, UNITS).double()
    layer = record(model, x, h_0)["cell"]
    found, toward = attention(layer), torch.randn(UNITS).double()
    whole = found.map(toward).sum(2) + found.initial(toward)
    assert torch.allclose(whole, layer.h @ toward, atol=1e-12)
    assert bool((found.initial(toward)[:, 0].abs() > 1e-3).any())


@pytest.mark.parametrize(
    ("make", "equation"),
    [(loops.LSTM, r"obeys c = f c_prev \+ i g"), (loops.Decayed, r"obeys h = .*h_prev"),
     (loops.Clipped, r"obeys h = clamp")],
)  # fmt: skip
def test_what_is_no_such_mix_is_refused_with_its_equation(
    make: type[nn.Module], equation: str
) -> None:
    torch.manual_seed(0)
    with pytest.raises(CellError, match=f"shares that sum to 1.*layer 'cell' {equation}"):
        attention(record(make(), inputs()))


def test_an_edited_gate_counts_and_an_edited_state_is_refused() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs().double()
    found = attention(record(model, x, edits=clamp("cell", "z", 0, value=0.25)))
    weights, _ = found.at(-1)
    kept = 0.25 ** torch.arange(x.shape[1]).flip(0).double()
    assert torch.allclose(weights[..., 0], (0.75 * kept).expand(3, -1), atol=1e-12)
    with pytest.raises(RecordingError, match="changed the state"):
        attention(record(model, x, edits=ablate("cell", units=0)))
    coupled = loops.LSTM(coupled=True).double()
    attention(record(coupled, x, edits=clamp("cell", "h", 0, value=0.0)))
    with pytest.raises(RecordingError, match="changed the state"):
        attention(record(coupled, x, edits=clamp("cell", "c", 0, value=0.0)))
