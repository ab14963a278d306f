"""States whose rows do not lie along their first axis: (layer, batch, unit), as nn.GRU's h_0."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import Recording, Session, ablate, clamp, record, recording, sweep
from grulens.dynamics import jacobian_at, observed_step
from grulens.errors import RecordingError, UnsupportedLayerError
from grulens.widgets.session.display_names import unit_name
from grulens.widgets.session.selection import has_space
from tests.models.observe.zoo import BATCH, INPUT, STEPS, UNITS, BatchedNodes, ConvGRU, KeptTime
from tests.models.observe.zoo import frames as zoo_frames

Hold = tuple[str, int, int, int, float]
"""A signal, a row, a unit, a step, and the value that it has there."""


class First(nn.Module):
    """A GRU whose state is (1, batch, unit), its input turned to that."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUT, 3 * UNITS), nn.Linear(UNITS, 3 * UNITS)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x(x).chunk(3, -1)
        h_r, h_z, h_n = self.h(h).chunk(3, -1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        return (1 - z) * torch.tanh(x_n + r * h_n) + z * h

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(1, len(x), UNITS)
        for t in range(x.shape[1]):
            h = self.step(x[:, t].unsqueeze(0), h)
        return h.squeeze(0)


class Spread(First):
    """The same, its input (batch, input): it broadcasts, and a gate of it alone does too."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x(x).chunk(3, -1)
        h_r, _, h_n = self.h(h).chunk(3, -1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z)
        return (1 - z) * torch.tanh(x_n + r * h_n) + z * h

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(1, len(x), UNITS)
        for now in x.unbind(1):
            h = self.step(now, h)
        return h[0]


class TimeFirst(First):
    """The same, a step cut out of (time, batch, input)."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        h = x.new_zeros(1, x.shape[1], UNITS)
        for t in range(len(x)):
            h = self.step(x[t : t + 1], h)
        return h.squeeze(0)


class Module(nn.Module):
    """A module that takes and gives what nn.GRU does, a step at a time."""

    class Cell(First):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            h = self.step(x.transpose(0, 1), h)
            return h.transpose(0, 1), h

    def __init__(self) -> None:
        super().__init__()
        self.cell = self.Cell()

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(1, len(x), UNITS)
        for t in range(x.shape[1]):
            _, h = self.cell(x[:, t : t + 1], h)
        return h[0]


class Layers(nn.Module):
    """All layers in one state (layer, batch, unit), each of which reads the others'."""

    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        self.layers = layers
        self.x = nn.Linear(INPUT, layers * 2 * UNITS)
        self.w = nn.Parameter(torch.randn(layers, UNITS, 2 * UNITS) * 0.4)
        self.between = nn.Parameter(torch.randn(layers, layers))

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(self.layers, len(x), UNITS)
        for now in x.unbind(1):
            own = self.x(now).view(len(x), self.layers, -1).transpose(0, 1)
            read = torch.einsum("kl,lbu->kbu", self.between, h)
            z, n = (own + torch.bmm(read, self.w)).chunk(2, -1)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.tanh(n)
        return h.transpose(0, 1).flatten(1)


class Alone(Layers):
    """The same; no layer reads another one, so that either axis might be that of rows."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(self.layers, len(x), UNITS)
        for now in x.unbind(1):
            own = self.x(now).view(len(x), self.layers, -1).transpose(0, 1)
            z, n = (own + torch.bmm(h, self.w)).chunk(2, -1)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.tanh(n)
        return h.transpose(0, 1).flatten(1)


def gru(m: Any, x: Tensor, note: Callable[[str, Tensor], Tensor]) -> None:
    m = getattr(m, "cell", m)
    h = x.new_zeros(len(x), UNITS)
    for now in x.unbind(1):
        i, k = now @ m.x.weight.T + m.x.bias, h @ m.h.weight.T + m.h.bias
        i_r, i_z, i_n = i.chunk(3, 1)
        k_r, k_z, k_n = k.chunk(3, 1)
        r = note("r", torch.sigmoid(i_r + k_r))
        z = note("z", torch.sigmoid(i_z if isinstance(m, Spread) else i_z + k_z))
        n = note("n", torch.tanh(i_n + r * k_n))
        h = note("h", z * h + (1 - z) * n)


def layers(m: Any, x: Tensor, note: Callable[[str, Tensor], Tensor]) -> None:
    many = m.layers
    between = m.between if type(m) is Layers else torch.eye(many).to(x)
    h = x.new_zeros(len(x), many, UNITS)
    for now in x.unbind(1):
        own = (now @ m.x.weight.T + m.x.bias).view(len(x), many, -1)
        each = [between[k] @ h[b] for b in range(len(x)) for k in range(many)]
        read = torch.stack(each).view(len(x), many, UNITS)
        both = torch.stack([own[:, k] + read[:, k] @ m.w[k] for k in range(many)], 1)
        z = note("z", torch.sigmoid(both[..., :UNITS]).flatten(1))
        n = note("n", torch.tanh(both[..., UNITS:]).flatten(1))
        h = note("h", z * h.flatten(1) + (1 - z) * n).view(len(x), many, UNITS)


def computed(model: Any, x: Tensor, hold: Hold | None = None) -> dict[str, Tensor]:
    """What a reference computes in float64, (batch, time, unit)."""
    made: dict[str, list[Tensor]] = {}

    def note(name: str, value: Tensor) -> Tensor:
        step = len(made.setdefault(name, []))
        if hold is not None and (hold[0], hold[3]) == (name, step):
            value = value.clone()
            value[hold[1], hold[2]] = hold[4]
        made[name].append(value)
        return value

    with torch.no_grad():
        (layers if isinstance(model, Layers) else gru)(
            copy.deepcopy(model).double(), x.double(), note
        )
    return {name: torch.stack(values, 1) for name, values in made.items()}


def same(layer: Any, expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(getattr(layer, name).double(), value, rtol=0, atol=1e-5)


KINDS = [First, Spread, TimeFirst, Module, Layers, lambda: Layers(BATCH), Alone,
         lambda: Alone(BATCH)]  # fmt: skip
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda one: getattr(one, "__name__", "square"))


def made(kind: Callable[[], Any], rows: int = BATCH) -> tuple[Any, Tensor]:
    torch.manual_seed(7)
    return kind(), torch.randn(rows, STEPS, INPUT)


@kinds
def test_rows_are_found_wherever_they_lie(kind: Callable[[], Any], tmp_path: Path) -> None:
    model, x = made(kind)
    run = record(model, x)
    (layer,) = run.values()
    same(layer, computed(model, x))
    units = layer.shape[2]
    assert layer.shape == (BATCH, STEPS, UNITS * getattr(model, "layers", 1))
    many = units > UNITS
    assert layer.cell.unit_name(units - 1) == (
        f"unit {(units // UNITS - 1, UNITS - 1)}" if many else str(units - 1)
    )
    same(Recording.load(run.save(tmp_path / "run"))[layer.name], computed(model, x))
    with torch.no_grad():
        assert torch.equal(run.output, model(x))
    # an edit is at its own row, unit and step, and nowhere else
    for name, at in (("z", 2), ("n", 3), ("h", 4)):
        edit = clamp(layer.name, name, units - 2, value=0.25, at=at, rows=1)
        changed = record(model, x, edits=[edit])
        if name != "z" or not isinstance(model, Spread):
            same(changed[layer.name], computed(model, x, (name, 1, units - 2, at, 0.25)))
        torch.testing.assert_close(changed.output, changed[layer.name].h[:, -1])
    for rows in (1, 2, 5):
        other = torch.randn(rows, STEPS + 2, INPUT)
        same(record(model, other)[layer.name], computed(model, other))


@pytest.mark.parametrize("kind", [First, Layers])
def test_what_is_asked_of_such_a_layer_is_asked_of_its_rows(kind: Callable[[], Any]) -> None:
    model, x = made(kind)
    model.double()
    x = x.double()
    run = record(model, x, grad=True)
    (layer,) = run.values()
    # the derivative of an output by a gate, against a small change of that gate
    (by_z,) = torch.autograd.grad(run.output[1, 3], layer.z, retain_graph=True)
    assert by_z.shape == layer.shape
    assert not by_z[[0, 2]].any()
    z, step = float(layer.z[1, 2, 3].detach()), 1e-6
    edit = clamp(layer.name, "z", 3, value=z + step, at=2, rows=1)
    moved = (record(model, x, edits=[edit]).output - run.output.detach())[1, 3] / step
    torch.testing.assert_close(moved, by_z[1, 2, 3], rtol=1e-4, atol=1e-6)
    # the Jacobian of a step is that of its row alone
    found = jacobian_at(run, 3).total
    own = observed_step(model, x, t=3, row=1)
    torch.testing.assert_close(
        found[1].double(), own.slope(layer.h[1, 2][None].detach())[0], rtol=0, atol=1e-8
    )
    # and a sweep over units is what an edit of each is
    swept = sweep(model, x, layer=layer.name, progress=False)
    assert swept.batched
    for unit in range(layer.shape[2]):
        alone = record(model, x, edits=[ablate(layer.name, unit)]).output - run.output.detach()
        torch.testing.assert_close(swept.effect[unit], alone.detach())


def test_a_lens_shows_the_units_of_one_layer_as_units() -> None:
    model, x = made(First)
    session = Session(model, x)
    assert session.before.shape == (BATCH, STEPS, UNITS)
    assert not has_space(session.before.cell)
    assert unit_name(session.before.cell, 3) == "unit 3"
    model, x = made(Layers)
    assert unit_name(Session(model, x).before.cell, 8) == "unit (1, 3)"


def test_rows_in_front_stay_there() -> None:
    torch.manual_seed(7)
    kept, nodes, frames = KeptTime(), BatchedNodes(), ConvGRU()
    (images,) = zoo_frames()
    for rows in (1, 3, 2):
        assert record(kept, torch.randn(rows, 4, INPUT))["cell"].shape[0] == rows
        graphs = record(nodes, torch.randn(rows, 3, 3, 2))["cell"]
        assert (graphs.shape[0], graphs.cell.shape) == (rows, (3, 4))
        seen = record(frames, torch.randn(rows, *images.shape[1:]))
        assert next(iter(seen.values())).shape[0] == rows


def test_one_row_does_not_tell_and_more_are_looked_at_anew() -> None:
    model, x = made(First)
    assert record(model, x[:1])["cell"].shape == (1, STEPS, UNITS)
    said = r"has the shape \(1, 3, 5\) in this run.*could not be seen"
    with pytest.raises(RecordingError, match=said), recording(model):
        model(x)
    assert record(model, x[:1])["cell"].shape == (1, STEPS, UNITS)
    same(record(model, x)["cell"], computed(model, x))


class Tokens(First):
    """It is given ids, and a first state (1, batch, unit) that is larger than they are."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, INPUT)

    def forward(self, ids: Tensor, h: Tensor) -> Tensor:  # type: ignore[override]
        for now in self.words(ids).unbind(1):
            h = self.step(now[None], h)
        return h[0]


@pytest.mark.parametrize("rows", [3, 6])
def test_rows_of_ids_are_found_beside_a_first_state(rows: int) -> None:
    torch.manual_seed(7)
    model, ids = Tokens(), torch.randint(9, (rows, 4))
    run = record(model, ids, torch.randn(1, rows, UNITS))
    assert (run["cell"].shape, run["cell"].note) == ((rows, 4, UNITS), "")
    assert torch.equal(run["cell"].h[:, -1], run.output)


class Nodes(nn.Module):
    """One GRU for nodes that know nothing of each other, and a number that each node has."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUT, 2 * UNITS), nn.Linear(UNITS, 2 * UNITS)

    def forward(self, x: Tensor, node: Tensor) -> Tensor:
        h = x.new_zeros(len(x), x.shape[2], UNITS)
        for t in range(x.shape[1]):
            z, n = (self.x(x[:, t] + node[None]) + self.h(h)).chunk(2, -1)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.tanh(n)
        return h


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_nodes_that_know_nothing_of_each_other_are_no_rows(rows: int) -> None:
    torch.manual_seed(7)
    model, node = Nodes(), torch.randn(3, INPUT)
    layer = record(model, torch.randn(rows, 6, 3, INPUT), node)["cell"]
    assert (layer.shape, layer.cell.shape) == ((rows, 6, 3 * UNITS), (3, UNITS))
    assert layer.note == ""
    other = torch.randn(4, 6, 3, INPUT)
    layer = record(model, other, node)["cell"]
    assert layer.shape == (4, 6, 3 * UNITS)
    with torch.no_grad():
        assert torch.equal(layer.h[:, -1].reshape(4, 3, UNITS), model(other, node))


class Normed(ConvGRU):
    """Its rows are normalised together."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


def test_rows_that_are_taken_to_lie_in_front_are_said_to_be() -> None:
    torch.manual_seed(7)
    (images,) = zoo_frames()
    layer = record(Normed(), images)["cell"]
    assert layer.shape[0] == 2
    assert layer.note == (
        "along which axis its rows lie could not be seen: they are taken to lie along the first "
        "one of its states, (2, 3, 4, 5)"
    )
    assert record(ConvGRU(), images)["cell"].note == ""
    assert record(ConvGRU(), images[:1])["cell"].note == ""


class Together(Layers):
    """Rows that act on each other, so that none is seen to reach a part of the state alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


def test_where_rows_cannot_be_found_that_is_said() -> None:
    model, x = made(lambda: Together(4))
    said = r"it has the shape \(4, 3, 5\), and its rows are looked for along the first axis, of 4"
    with pytest.raises(UnsupportedLayerError, match=said) as caught:
        record(model, x)
    assert "h.transpose(0, 1)" in str(caught.value)


class Columns(nn.Module):
    """A state (unit, batch), which is turned round for its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(INPUT + UNITS, 2 * UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(UNITS, len(x))
        for now in x.unbind(1):
            z, n = self.line(torch.cat([now, h.T], 1)).T.chunk(2, 0)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.tanh(n)
        return h.T


class Twice(Columns):
    """A state (batch, unit), which is turned round and back."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for now in x.unbind(1):
            z, n = self.line(torch.cat([now.mT, h.mT], 0).mT).chunk(2, 1)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.tanh(n)
        return h


class Apart(Columns):
    """A state (unit, batch) that no weights add up."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(INPUT, 2 * UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(UNITS, len(x))
        for now in x.unbind(1):
            z, n = self.line(now).T.chunk(2, 0)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.tanh(n)
        return h.T


@pytest.mark.parametrize("rows", [1, 2, UNITS])
@pytest.mark.parametrize(
    ("kind", "said"),
    [(Columns, r"laid out \(unit, batch\)"), (Apart, "rows lie along the last axis of its states")],
)
def test_a_state_whose_rows_are_columns_is_refused(
    kind: type[nn.Module], said: str, rows: int
) -> None:
    with pytest.raises(UnsupportedLayerError, match=said):
        record(kind(), torch.randn(rows, 5, INPUT))


@pytest.mark.parametrize("rows", [2, UNITS])
def test_a_state_that_is_turned_and_turned_back_is_opened(rows: int) -> None:
    assert record(Twice(), torch.randn(rows, 5, INPUT))["cell"].shape == (rows, 5, UNITS)
