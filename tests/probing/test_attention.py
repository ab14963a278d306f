"""Gate attention: the identity, in float64, over every form of recording."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from grulens import ablate, clamp, record
from grulens.errors import EditError, PositionError, RecordingError
from grulens.gru.attention import weight_map, weights
from grulens.models.recording import LayerRecording
from grulens.probing.attention import attention
from tests.drawn import cases


def holds(layer: LayerRecording, h_0: Tensor | None = None) -> None:
    """h_t = initial h_0 + sum of weight n_key, and weights that sum to 1, at every valid step."""
    found = attention(layer)
    batch, steps, _ = layer.shape
    toward = torch.randn(layer.shape[2], dtype=layer.h.dtype)
    mean, along = found.map(), found.map(toward)
    start = torch.zeros_like(layer.h[:, 0]) if h_0 is None else h_0
    for t in range(steps):
        part, initial = found.at(t)
        valid = layer.mask[:, t]
        assert torch.allclose((part.sum(1) + initial)[valid], torch.ones(1).double(), atol=1e-12)
        assert part[~valid].eq(0).all()
        assert initial[~valid].eq(0).all()
        assert bool((part >= 0).all() and (part <= 1).all())
        made = initial * start + (part * layer.n).sum(1)
        assert torch.allclose(made[valid], layer.h[:, t][valid], atol=1e-12)
        assert torch.allclose(mean[:, t], part.mean(2), atol=1e-12)
        assert torch.allclose(along[:, t], (part * layer.n) @ toward, atol=1e-12)
    assert found.at(-1)[0].shape == (batch, steps, layer.shape[2])


@settings(max_examples=30, deadline=None)
@given(cases(dtypes=(torch.float64,)))
def test_every_state_is_the_weighted_sum_of_its_past(case: Any) -> None:
    for index, (name, layer) in enumerate(record(case.module, *case.args).items()):
        assert name == case.names[index]
        holds(layer, None if case.h_0 is None else case.h_0[index])


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 150),
    st.lists(st.sampled_from([0.0, 1.0, 1e-300, 0.3, 0.999]), min_size=1, max_size=9),
)
def test_gates_of_zero_and_one_are_no_special_case(steps: int, values: list[float]) -> None:
    """Blocks, their borders, and products that vanish, against the sum written out."""
    z = torch.tensor(values, dtype=torch.float64).repeat(steps)[:steps].reshape(1, steps, 1)
    z = torch.cat([z, z.flip(1)], 2)
    value = torch.randn(1, steps, 2, dtype=torch.float64)
    found = weight_map(z, value)
    for t in range(steps):
        part, initial = weights(z, t)
        assert torch.allclose(part.sum(1) + initial, torch.ones(1).double(), atol=1e-12)
        assert torch.allclose(
            found[0, t, : t + 1], (part * value[:, : t + 1]).sum(2)[0], atol=1e-12
        )
        assert found[0, t, t + 1 :].eq(0).all()


class Decoder(nn.Module):
    """A loop of cells that starts again from a state of its own halfway."""

    def __init__(self, restart: bool) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2, 3)
        self.restart = restart

    def forward(self, x: Tensor) -> Tensor:
        h = torch.full((len(x), 3), 0.5, dtype=x.dtype)
        for t in range(x.shape[1]):
            if t == 3 and self.restart:
                h = h.flip(0)
            h = self.cell(x[:, t], h)
        return h


@pytest.mark.parametrize("restart", [False, True])
def test_calls_that_hand_their_state_on_are_one_past(restart: bool) -> None:
    model = Decoder(restart).double()
    layer = record(model, torch.randn(2, 6, 2).double())["cell"]
    part, initial = attention(layer).at(5)
    begin = 3 if restart else 0
    assert part[:, :begin].eq(0).all()
    assert (part[:, begin:] > 0).all()
    made = initial * layer.h_prev[:, begin] + (part * layer.n).sum(1)
    assert torch.allclose(made, layer.h[:, 5], atol=1e-12)
    assert torch.allclose(attention(layer).map()[:, 5], part.mean(2), atol=1e-12)


def test_a_reverse_layer_of_several_calls_has_a_past_for_each() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(2, 3, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x[:, :4])[0].sum() + self.rnn(x[:, 4:])[0].sum()

    run = record(Twice().double(), torch.randn(2, 9, 2).double())
    holds(run["rnn.l0_reverse"])
    assert attention(run, "rnn.l0_reverse").at(6)[0][:, :6].eq(0).all()


def test_edits_of_gates_count_and_edits_of_states_are_refused() -> None:
    model, x = nn.GRU(2, 3, batch_first=True).double(), torch.randn(1, 5, 2).double()
    edited = record(model, x, edits=clamp("l0", "z", 1, value=1.0, at=slice(1, 4)))
    part, _ = attention(edited).at(4)
    assert part[0, 1:4, 1].eq(0).all()
    holds(edited["l0"])
    with pytest.raises(RecordingError, match="an edit changed the state of layer 'l0' itself"):
        attention(record(model, x, edits=ablate("l0", 1)))


def test_what_does_not_fit_is_named() -> None:
    run = record(nn.GRU(2, 3, num_layers=2), torch.randn(5, 1, 2))
    with pytest.raises(RecordingError, match="say which layer: l0, l1"):
        attention(run)
    found = attention(run, "l1")
    with pytest.raises(PositionError, match="time 5 is out of range: layer 'l1' has 5 steps"):
        found.at(5)
    with pytest.raises(EditError, match=r"toward must be \(unit,\) = \(3,\)"):
        found.map(torch.zeros(4))
