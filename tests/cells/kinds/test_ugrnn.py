"""The UGRNN against its equations in float64, written out once more, and what rests on its gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import grulens
from grulens import Edit, Recording, clamp, record, scale, shift, sweep
from grulens.adapters import StepAdapter, kinds, register
from grulens.dynamics import find_fixed_points
from grulens.memory import attention, timescales

UNITS = 5


class Step(nn.Module):
    """A user's own step, with one bias, as the paper has it."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(3, 2 * UNITS), nn.Linear(UNITS, 2 * UNITS, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        gate, candidate = (self.x(x) + self.h(h)).chunk(2, -1)
        g = torch.sigmoid(gate)
        return g * h + (1 - g) * torch.tanh(candidate)


class Reader(nn.Module):
    """A model that runs it over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = Step(), nn.Linear(UNITS, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for step in x.unbind(1):
            h = self.cell(step, h)
        out: Tensor = self.head(h)
        return out


@pytest.fixture
def opened() -> Iterator[tuple[Reader, Tensor]]:
    torch.manual_seed(0)
    register(Step, StepAdapter(lambda m: kinds.UGRNN(m.x.weight, m.h.weight, m.x.bias, None)))
    yield Reader().double(), torch.randn(2, 6, 3).double()
    register(Step, None)


def loop(
    model: Reader, x: Tensor, edit: tuple[str, str, int, float] | None = None
) -> dict[str, np.ndarray]:
    """Every signal; an edit is its kind, the signal, the step, and the number, for unit 1."""
    w, b, u = (t.detach().numpy() for t in (*model.cell.x.parameters(), model.cell.h.weight))
    made: dict[str, list[np.ndarray]] = {"g": [], "c": [], "h": []}
    h = np.zeros((len(x), UNITS))

    def changed(name: str, t: int, value: np.ndarray, before: bool) -> np.ndarray:
        if edit is None or edit[1:3] != (name, t):
            return value
        value = value.copy()
        if edit[0] == "shift" and before is (name != "h"):
            value[:, 1] += edit[3]
        elif edit[0] == "clamp" and not before:
            value[:, 1] = edit[3]
        elif edit[0] == "scale" and not before:
            value[:, 1] *= edit[3]
        return value

    for t, step in enumerate(x.unbind(1)):
        pre = step.numpy() @ w.T + b + h @ u.T
        pre_g, pre_c = pre[:, :UNITS], pre[:, UNITS:]
        g = changed("g", t, 1 / (1 + np.exp(-changed("g", t, pre_g, True))), False)
        c = changed("c", t, np.tanh(changed("c", t, pre_c, True)), False)
        h = changed("h", t, g * h + (1 - g) * c, False)
        for name, value in (("g", g), ("c", c), ("h", h)):
            made[name].append(value)
    return {name: np.stack(values, 1) for name, values in made.items()}


@pytest.mark.parametrize("edit", [None] + [
    (how, name, 2, 0.4) for how in ("clamp", "scale", "shift") for name in "gch"
])  # fmt: skip
def test_every_signal_is_that_of_the_loop(
    opened: tuple[Reader, Tensor], edit: tuple[str, str, int, float] | None
) -> None:
    model, x = opened
    edits: tuple[Edit, ...] = ()
    if edit is not None:
        how, name, t, number = edit
        edits = (
            clamp("cell", name, 1, at=t, value=number)
            if how == "clamp"
            else scale("cell", name, 1, at=t, by=number)
            if how == "scale"
            else shift("cell", name, 1, at=t, by=number),
        )
    run = record(model, x, edits=edits)
    for name, value in loop(model, x, edit).items():
        np.testing.assert_allclose(run["cell"].signal(name).detach(), value, atol=1e-14)
    h = torch.from_numpy(loop(model, x, edit)["h"][:, -1])
    torch.testing.assert_close(run.output, model.head(h), atol=1e-14, rtol=0)


def test_a_sweep_is_the_loop_with_each_unit_held(opened: tuple[Reader, Tensor]) -> None:
    model, x = opened
    swept = sweep(model, x, readout=lambda out: out[:, 1], layer="cell", progress=False)
    for unit in range(UNITS):
        held = record(model, x, edits=grulens.ablate("cell", unit)).output
        torch.testing.assert_close(swept.effect[unit], (held - model(x))[:, 1])


def test_a_fixed_point_stands_still_and_half_lives_are_those_of_g(
    opened: tuple[Reader, Tensor],
) -> None:
    model, x = opened
    run = record(model, x)
    points = find_fixed_points(
        run["cell"].cell, starts=run["cell"].h.reshape(-1, UNITS), progress=False
    )
    assert len(points.states) == 1
    h = points.states
    g, c = (model.cell.x.bias + h @ model.cell.h.weight.T).chunk(2, -1)
    torch.testing.assert_close(g.sigmoid() * h + (1 - g.sigmoid()) * c.tanh(), h, atol=1e-9, rtol=0)
    g_mean = run["cell"].g.mean((0, 1))
    torch.testing.assert_close(timescales(run).half_life, -np.log(2) / g_mean.log())


def test_attention_is_that_of_the_cell_observed(opened: tuple[Reader, Tensor]) -> None:
    model, x = opened
    known = attention(record(model, x))
    register(Step, None)
    seen = attention(record(model, x))
    candidates = torch.from_numpy(loop(model, x)["c"])
    for found in (known, seen):
        weights, initial = found.at(-1)
        h = (weights * candidates).sum(1)  # h_0 is zero
        torch.testing.assert_close(h, torch.from_numpy(loop(model, x)["h"][:, -1]))
        torch.testing.assert_close(weights.sum(1) + initial, torch.ones_like(initial))


@pytest.mark.parametrize("seed", range(6))
def test_a_closed_gate_is_no_fixed_point(seed: int) -> None:
    torch.manual_seed(seed)
    cell = kinds.UGRNN(torch.randn(10, 3), torch.randn(10, 5), None, None)
    starts = torch.cat([torch.zeros(1, 5), torch.rand(12, 5) * 2 - 1])
    h = find_fixed_points(cell, starts=starts, progress=False).states
    c = (h @ cell.weight_hh.double().T).chunk(2, -1)[1].tanh()
    torch.testing.assert_close(c, h, atol=1e-9, rtol=0)
    assert bool((h.norm(dim=1) < 1e-9).any())  # zero is one, without input and biases


def test_it_is_saved_loaded_and_seen(opened: tuple[Reader, Tensor], tmp_path: Path) -> None:
    model, x = opened
    run = record(model, x)
    again = Recording.load(run.save(tmp_path / "run"))
    assert type(again["cell"].cell) is kinds.UGRNN
    for name in "gch":
        assert torch.equal(run["cell"].signal(name), again["cell"].signal(name))
    lens = grulens.Lens(model, x)
    assert "data:image/png" in lens.still()
    lens.close()
