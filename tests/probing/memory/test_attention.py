"""Gate attention: the identity, in float64, over every form of recording."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from grulens import ablate, clamp, record
from grulens.cells.memory.attention import weight_map, weights
from grulens.errors import EditError, LayerError, PositionError, RecordingError
from grulens.models.recording import LayerRecording
from grulens.probing.layer import layer_of
from grulens.probing.memory.attention import GateAttention, attention
from grulens.probing.units.peak_memory import PeakMemory
from tests.drawn import cases


def holds(layer: LayerRecording, h_0: Tensor | None = None, *, edited: bool = False) -> None:
    """h_t = initial h_0 + sum of weight n_key, and weights that sum to 1, at every valid step."""
    found = attention(layer)
    batch, steps, _ = layer.shape
    toward = torch.randn(layer.shape[2], dtype=layer.h.dtype)
    mean, along = found.map(), found.map(toward)
    some = list(range(0, layer.shape[2], 2))
    less, past = found.map(units=some), found.past
    first, first_along = found.initial(), found.initial(toward)
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
        assert torch.allclose(found.query(t), mean[:, t], atol=1e-12)
        assert torch.allclose(found.query(t, toward), along[:, t], atol=1e-12)
        assert torch.allclose(found.query(t, units=some), less[:, t], atol=1e-12)
        assert torch.allclose(less[:, t], part[..., some].mean(2), atol=1e-12)
        assert torch.allclose(first[:, t], initial.mean(1), atol=1e-12)
        whole = along[:, t].sum(1) + first_along[:, t]
        assert torch.allclose(whole[valid], (layer.h[:, t] @ toward)[valid], atol=1e-12)
        for row, (begin, end) in enumerate(past[:, t].tolist()):
            outside = torch.ones(steps, dtype=torch.bool)
            outside[begin : end + 1] = False
            assert part[row, outside].eq(0).all()
            inside = part[row, ~outside] > 0  # sigmoid gates are never quite 0 or 1
            assert edited or inside.all()
            assert bool(valid[row]) == (end >= begin)
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
    holds(edited["l0"], edited=True)
    with pytest.raises(RecordingError, match="an edit changed the state of layer 'l0' itself"):
        attention(record(model, x, edits=ablate("l0", 1)))


def test_what_does_not_fit_is_named() -> None:
    run = record(nn.GRU(2, 3, num_layers=2), torch.randn(5, 1, 2))
    with pytest.raises(RecordingError, match="say which layer: l0, l1"):
        attention(run)
    found = attention(run, "l1")
    with pytest.raises(
        PositionError, match="time 5 is out of range for layer 'l1', which has 5 times"
    ):
        found.at(5)
    with pytest.raises(PositionError, match=r"t must be one position, an int, got \[1\]"):
        found.at([1])
    for toward, got in ((torch.zeros(4), r"\(4,\)"), ([1.0, 2.0, 3.0], r"\[1.0, 2.0, 3.0\]")):
        with pytest.raises(EditError, match=rf"real tensor \(unit,\) = \(3,\) .* got {got}"):
            found.map(toward)
    with pytest.raises(PositionError, match="unit 3 is out of range for layer 'l1', which has 3"):
        found.map(units=3)
    with pytest.raises(PositionError, match=r"units=\[\] names no unit of layer 'l1'"):
        found.initial(units=[])
    with pytest.raises(PositionError, match="row 1 is out of range for layer 'l1', which has 1"):
        attention(run, "l1", rows=1)
    with pytest.raises(RecordingError, match=r"a recording was expected.* got 5"):
        layer_of(5)
    with pytest.raises(LayerError, match="layer 'l0' is not this layer, which is l1"):
        attention(run["l1"], "l0")


def test_a_map_is_quadratic_in_time_and_never_times_units() -> None:
    """The largest tensor is the map itself: none holds a number for each query, key and unit."""
    steps, units = 256, 64
    found = attention(record(nn.GRU(2, units), torch.randn(steps, 1, 2)))
    for ask in (found.map, lambda: found.map(torch.randn(units)), found.initial):
        with PeakMemory() as memory:
            ask()
        assert memory.peak < 4 * 4 * (steps**2 + 8 * steps * units), "a few maps, a few gates"
        assert memory.peak < 4 * steps * steps * units / 4
    with PeakMemory() as memory:
        found.at(-1)
    assert memory.peak < 4 * 10 * steps * units


def test_rows_are_chosen_before_anything_is_computed() -> None:
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 3, 2), [5, 4, 2])
    model = nn.GRU(2, 3, bidirectional=True)
    for layer in record(model, packed).values():
        whole, part = attention(layer), attention(layer, rows=[0, 2])
        assert part.shape == (2, 5, 3)
        for name in ("map", "initial"):
            assert torch.equal(getattr(whole, name)()[[0, 2]], getattr(part, name)())
        assert torch.equal(whole.at(1)[0][[0, 2]], part.at(1)[0])
        assert torch.equal(whole.past[[0, 2]], part.past)


class Masked(nn.Module):
    """A loop that may drop what its cell returned: by a product, a choice, or a flag."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.cell, self.how = nn.GRUCell(2, 3), how

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 3)
        for x_t, there in zip(x.unbind(1), mask.to(x).unbind(1), strict=True):
            new, m = self.cell(x_t, h), there[:, None]
            h = {
                "product": m * new + (1 - m) * h,
                "where": torch.where(m > 0, new, h),
                "reset": m * new,
                "mixed": 0.5 * new + 0.5 * h,
                "free": new,
            }[self.how]
        return h


MASK = torch.tensor([[0, 1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 0, 1, 0], [1, 0, 1, 1, 1, 1, 1]])


@pytest.mark.parametrize("how", ["product", "where"])
def test_a_mask_is_followed(how: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, toward = torch.randn(3, 7, 2).double(), torch.randn(3).double()
    layer = record(Masked(how).double(), x, MASK)["cell"]
    found = attention(layer)
    mapped, along, shares = found.map(), found.map(toward), found.initial()
    for t in range(7):
        weights, initial = found.at(t)
        made = initial * layer.h_prev[:, 0] + (weights * layer.n).sum(1)
        assert torch.allclose(made, layer.h[:, t], atol=1e-12)
        assert torch.allclose(weights.sum(1) + initial, torch.ones_like(initial), atol=1e-12)
        assert torch.allclose(mapped[:, t], weights.mean(2), atol=1e-12)
        assert torch.allclose(along[:, t], (weights * layer.n) @ toward, atol=1e-12)
        assert torch.allclose(shares[:, t], initial.mean(1), atol=1e-12)
        dropped = (MASK == 0) & (torch.arange(7) < t)
        assert bool((weights[dropped] == 0).all())
        assert bool((weights[:, : t + 1][~dropped[:, : t + 1]] > 0).all())
    alone = attention(layer, rows=1)
    assert torch.allclose(alone.map()[0], mapped[1], atol=1e-12)
    assert GateAttention.load(found.save(tmp_path / "found")).note == found.note


@pytest.mark.parametrize(
    ("how", "rows", "said"),
    [("where", None, r"18 states .*, 4 are the one from before the last call again .*, and 1 "
                     r"is zero or that of the first call$"),
     ("where", 1, r"6 states .*, 1 is the one from before"),
     ("reset", None, r"18 states .*, 5 are zero .*; the weights begin anew 3 times, in all rows$"),
     ("reset", 2, r"6 states .*, 1 is zero .*; the weights begin anew 1 time$"),
     ("mixed", 0, r"6 states .*, 6 are another one, which the model made .* anew 6 times$")],
)  # fmt: skip
def test_what_a_model_does_between_calls_is_said(how: str, rows: int | None, said: str) -> None:
    torch.manual_seed(0)
    layer = record(Masked(how), torch.randn(3, 7, 2), MASK)["cell"]
    found = attention(layer, rows=rows)
    assert re.search(said, found.note)
    assert escape(found.note) in found._repr_html_()
    if rows is None:
        assert layer.note == found.note.split("; the weights")[0]
        assert escape(layer.note) in layer._repr_html_()


def test_what_is_handed_on_or_begun_anew_needs_no_word() -> None:
    torch.manual_seed(0)
    layer = record(Masked("free"), torch.randn(3, 7, 2), MASK)["cell"]
    assert layer.note == attention(layer).note == ""
    documents = nn.Sequential(nn.GRU(2, 3, batch_first=True))

    class Each(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = documents

        def forward(self, x: Tensor) -> list[Tensor]:
            return [self.inside(part)[1] for part in (x, x.flip(1), x)]

    layer = record(Each(), torch.randn(3, 7, 2))["inside.0.l0"]
    assert layer.note == attention(layer).note == ""
    assert len(attention(layer).trajectories) == 3


def test_a_call_of_several_steps_that_is_dropped_has_states_of_its_own() -> None:
    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(2, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            _, h = self.rnn(x)
            self.rnn(x.flip(1), h)  # is tried and dropped
            return self.rnn(x, h)[0]

    torch.manual_seed(0)
    layer = record(Tries().double(), torch.randn(2, 3, 2).double())["rnn.l0"]
    found = attention(layer)
    mapped = found.map()
    for t in range(9):
        weights, initial = found.at(t)
        made = initial * layer.h_prev[:, 0] + (weights * layer.n).sum(1)
        assert torch.allclose(made, layer.h[:, t], atol=1e-12)
        assert torch.allclose(mapped[:, t], weights.mean(2), atol=1e-12)
        assert bool((weights[:, 3:6] > 0).any()) == (t in (3, 4, 5))
    assert "2 are the one from before" in found.note
