"""A sweep of an observed cell: many runs in one batch where rows are their own, else in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import ablate, clamp, patch, record, scale, shift, sweep
from grulens.probing.units import batched_runs
from tests import loops
from tests.loops import INPUTS, UNITS, Lines, Loop


def inputs(steps: int = 5, rows: int = 3) -> Tensor:
    return torch.randn(rows, steps, INPUTS, generator=torch.Generator().manual_seed(1)).double()


def twice(layer: str, unit: Any, **where: Any) -> list[Any]:
    """Two changes of one signal, whose order has a meaning, and one of another."""
    return [
        scale(layer, "z", unit, by=0.5, **where),
        clamp(layer, "n", unit, value=0.25, rows=[0, 2], **where),
        shift(layer, "z", unit, by=0.125, **where) if unit else clamp(layer, "z", 0, value=1),
    ]


EDITS: dict[str, Callable[..., Any]] = {
    "ablate": ablate,
    "mean": lambda layer, unit, **where: ablate(layer, unit, to="mean", **where),
    "gate": lambda layer, unit, **where: clamp(layer, "z", unit, value=1, **where),
    "shift": lambda layer, unit, **where: shift(layer, "z", unit, by=1.5, **where),
    "from the end": lambda layer, unit: scale(layer, "n", unit, by=2, at=[-1, -3]),
    "none of some": lambda layer, unit: [] if unit % 2 else ablate(layer, unit),
    "twice": twice,
}


def by_hand(model: nn.Module, x: Tensor, edits: Any) -> Tensor:
    """The output of one edited run."""
    output: Tensor = record(model, x, edits=edits).output
    return output.detach()


class Space(nn.Module):
    """A ConvGRU over pictures of 2 x 3."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.new = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., :1, None, None].expand(*x.shape[:2], -1, 2, 3)
        h = x.new_zeros(len(x), 2, 2, 3)
        for x_t in x.unbind(1):
            a, b = self.gates(torch.cat([x_t, h], 1)).chunk(2, 1)
            z, r = torch.sigmoid(a), torch.sigmoid(b)
            n = torch.tanh(self.new(torch.cat([x_t, r * h], 1)))
            h = (1 - z) * h + z * n
        return h


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("kind", [Loop, loops.Masked, Space])
def test_runs_in_one_batch_are_the_single_runs(kind: type[nn.Module], edit: str) -> None:
    torch.manual_seed(0)
    model, x = kind().double(), inputs()
    found = sweep(model, x, layer="cell", make_edit=EDITS[edit], units=[0, 2, 5], progress=False)
    assert found.batched
    plain = by_hand(model, x, [])
    for place, unit in enumerate([0, 2, 5]):
        wanted = by_hand(model, x, EDITS[edit]("cell", unit)) - plain
        assert torch.allclose(found.effect[place], wanted, atol=1e-12)
    assert bool(found.direct.isfinite().all())
    assert "direct effects" not in found.note
    assert "one run after another" not in found.note
    assert float(found.effect.abs().max()) > 1e-3


def test_it_is_the_sweep_of_the_same_gru() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs()
    known = model.known()
    found = sweep(model, x, layer="cell", times=slice(1, 4), progress=False)
    wanted = sweep(
        known, x, layer="l0", times=slice(1, 4), readout=lambda out: out[0], progress=False
    )
    assert found.batched
    assert wanted.batched
    assert torch.allclose(found.effect, wanted.effect, atol=1e-12)
    assert torch.allclose(found.direct, wanted.direct, atol=1e-12)
    assert float(found.recurrent.abs().max()) > 1e-3


def test_both_states_of_an_lstm(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = loops.LSTM().double(), inputs()
    monkeypatch.setattr(batched_runs, "runs_at_once", lambda *_: 2)
    for signal in ("c", "h", "f"):

        def edit(layer: str, unit: Any, signal: str = signal) -> Any:
            return clamp(layer, signal, unit, value=0.25)

        found = sweep(model, x, layer="cell", make_edit=edit, progress=False)
        assert found.batched
        plain = by_hand(model, x, [])
        for unit in range(UNITS):
            wanted = by_hand(model, x, edit("cell", unit)) - plain
            assert torch.allclose(found.effect[unit], wanted, atol=1e-12)


class Coupled(Lines):
    """Its rows act on each other: each is told the mean of all."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return super().step(x, h + 0.5 * h.mean(0))


class Halting(Lines):
    """How it goes on hangs on what it computed."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        new = super().step(x, h)
        return new if float(h.abs().sum()) > -1 else new + 1


class Unbatched(Lines):
    """It takes one row, without a batch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:1])


@pytest.mark.parametrize("kind", [Coupled, Halting, Unbatched])
def test_what_is_no_batch_of_rows_runs_one_after_another(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = kind().double(), inputs()
    (name,) = record(model, x)
    found = sweep(model, x, layer=name, units=[0, 2], progress=False)
    assert not found.batched
    assert "one run after another" in found.note
    plain = by_hand(model, x, [])
    for place, unit in enumerate([0, 2]):
        wanted = by_hand(model, x, ablate(name, unit)) - plain
        assert torch.equal(found.effect[place], wanted)


def test_a_source_of_every_row_is_put_into_its_own_row() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs()
    other = record(model, x.flip(1))["cell"]

    def edit(layer: str, unit: Any) -> Any:
        return patch(layer, "h", unit, source=other)

    found = sweep(model, x, layer="cell", make_edit=edit, units=[1, 3], progress=False)
    assert found.batched
    for place, unit in enumerate([1, 3]):
        wanted = by_hand(model, x, edit("cell", unit)) - by_hand(model, x, [])
        assert torch.allclose(found.effect[place], wanted, atol=1e-12)
