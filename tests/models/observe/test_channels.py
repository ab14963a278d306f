"""Which axis of a state over space is its channel is told by what its code does along it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grulens import Recording, Session, clamp, layers, record
from grulens.widgets.session.display_names import unit_name
from tests.models.observe.zoo import BatchedNodes, ConvGRU, Heads, TurnedNodes, frames

CHANNELS, IN, STEPS = 3, 2, 4
Product = Callable[[nn.Module, Tensor], Tensor]


class Spatial(nn.Module):
    """A GRU without a reset gate over space; its input and its state are laid out alike.

    Args:
        product: from its input beside its state to gate and candidate.
        weights: that it uses for that.
        axis: of channels, which it cuts.
    """

    def __init__(self, product: Product, weights: nn.Module, axis: int) -> None:
        super().__init__()
        self.product, self.weights, self.axis = product, weights, axis

    def forward(self, x: Tensor) -> Tensor:
        sizes = list(x[:, 0].shape)
        sizes[self.axis] = CHANNELS
        h = x.new_zeros(sizes)
        for now in x.unbind(1):
            both = self.product(self.weights, torch.cat([now, h], self.axis))
            z, n = both.chunk(2, self.axis)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.tanh(n)
        return h


def conv(axes: int = 2) -> nn.Module:
    made: nn.Module = (nn.Conv1d, nn.Conv2d)[axes - 1](IN + CHANNELS, 2 * CHANNELS, 3, padding=1)
    return made


def line() -> nn.Module:
    return nn.Linear(IN + CHANNELS, 2 * CHANNELS)


def inside(weights: nn.Module, x: Tensor) -> Tensor:
    """A convolution between two turns."""
    return weights(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # type: ignore[no-any-return]


KINDS: dict[str, tuple[Product, Callable[[], nn.Module], int, tuple[int, ...]]] = {
    "Conv2d": (lambda w, x: w(x), conv, 1, (CHANNELS, 3, 4)),
    "Conv2d, all sizes alike": (lambda w, x: w(x), conv, 1, (CHANNELS,) * 3),
    "Conv1d": (lambda w, x: w(x), lambda: conv(1), 1, (CHANNELS, 4)),
    "Linear": (lambda w, x: w(x), line, -1, (3, 4, CHANNELS)),
    "Linear, all sizes alike": (lambda w, x: w(x), line, -1, (CHANNELS,) * 3),
    "Linear over nodes": (lambda w, x: w(x), line, -1, (4, CHANNELS)),
    "Conv2d turned": (inside, conv, -1, (3, 4, CHANNELS)),
    "Conv2d turned, all sizes alike": (inside, conv, -1, (CHANNELS,) * 3),
    "Linear turned": (
        lambda w, x: w(x.movedim(1, -1)).movedim(-1, 1), line, 1, (CHANNELS, 3, 4)),
    "matmul": (
        lambda w, x: x.flatten(0, 2) @ w.weight.T + w.bias, line, -1, (3, 4, CHANNELS)),
    "einsum": (
        lambda w, x: torch.einsum("oc,bcyx->boyx", w.weight, x), line, 1, (CHANNELS, 3, 4)),
    "normed Conv2d": (
        lambda w, x: F.group_norm(w(F.pad(x, (1, 1, 1, 1))[..., 1:-1, 1:-1]), 2), conv, 1,
        (CHANNELS, 3, 4)),
}  # fmt: skip
"""By name the product, its weights, the axis of channels, and the shape of a row's state."""


def built(name: str) -> tuple[Spatial, Tensor, tuple[int, ...]]:
    torch.manual_seed(7)
    product, weights, axis, shape = KINDS[name]
    given = list(shape)
    given[axis - (axis > 0)] = IN
    model = Spatial(product, weights(), axis)
    if name == "matmul":
        plain = product
        model.product = lambda w, x: plain(w, x).view(*x.shape[:3], -1)
    return model, torch.randn(2, STEPS, *given), shape


@pytest.mark.parametrize("name", KINDS)
def test_the_channel_is_the_axis_along_which_weights_act(name: str, tmp_path: Path) -> None:
    model, x, shape = built(name)
    run = record(model, x)
    axis = KINDS[name][2]
    at = axis - (axis > 0) if axis > 0 else len(shape) - 1
    layer = run["cell"]
    assert (layer.cell.shape, layer.cell.channel, layer.note) == (shape, at, "")
    # every unit is called by the place of its number in a state
    number = torch.arange(layer.shape[2]).view(shape)
    place = [size - 1 for size in shape]
    place[0] = 1
    unit = int(number[tuple(place)])
    channel, *rest = place.pop(at), *place
    where = tuple(rest) if len(rest) > 1 else rest[0]
    assert layer.cell.unit_name(unit) == f"channel {channel} at {where}"
    states = layer.h.unflatten(-1, shape).movedim(2 + at, 2)
    torch.testing.assert_close(layer.folded("mean"), states.flatten(3).mean(-1))
    assert torch.equal(layer.folded("max"), states.flatten(3).amax(-1))
    assert torch.equal(layer.folded(tuple(rest)), states[(..., *rest)])
    assert Recording.load(run.save(tmp_path / "run"))["cell"].cell.unit_name(unit) == (
        layer.cell.unit_name(unit)
    )


@pytest.mark.parametrize("name", ["Conv2d", "Linear", "Linear over nodes"])
def test_a_channel_that_is_chosen_is_all_its_places(name: str) -> None:
    model, x, shape = built(name)
    session = Session(model, x, space="mean")
    cell, fold = session.before.cell, session.fold
    assert fold is not None
    session.units = fold.units([1])
    number = torch.arange(session.before.shape[2]).view(shape).movedim(cell.channel, 0)
    assert session.units == tuple(number[1].flatten().tolist())
    assert isinstance(session.chosen_units, slice)
    assert fold.channels(session.units) == (1,)
    edit = clamp("cell", "z", session.chosen_units, value=1.0)
    z = record(model, x, edits=[edit])["cell"].z.unflatten(-1, shape).movedim(2 + cell.channel, 2)
    assert bool((z[:, :, 1] == 1).all())
    assert not bool((z[:, :, ::2] == 1).any())
    # one place shown, the same channel is its unit there
    session.space = (2, 3) if len(shape) > 2 else (3,)
    assert [unit_name(cell, unit) for unit in session.units] == [
        f"channel 1 at {(2, 3) if len(shape) > 2 else 3}"
    ]


class Leaking(nn.Module):
    """A state over space that nothing but numbers one by one makes."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        for now in x.unbind(1):
            z = torch.sigmoid(self.gate * now)
            h = z * h + (1 - z) * torch.tanh(now)
        return h


def test_where_nothing_tells_the_channel_that_is_said() -> None:
    model = Leaking((3, 4, 5))
    layer = record(model, torch.randn(2, 6, 3, 4, 5))["cell"]
    said = (
        "which axis of a row's state, (3, 4, 5), is its channel could not be seen: the first one "
        "is taken for it, and those behind it for places"
    )
    assert layer.cell.channel is None
    assert layer.note == said
    assert layer.explain().endswith(said)
    assert said in layer.cell.words
    assert said in str(layers(model))
    assert layer.cell.unit_name(59) == "channel 2 at (3, 4)"
    assert layer.folded("mean").shape == (2, 6, 3)


def test_of_two_axes_of_which_nothing_tells_neither_is_called_the_channel() -> None:
    layer = record(Leaking((3, 4)), torch.randn(2, 6, 3, 4))["cell"]
    assert (layer.note, layer.cell.unit_name(11)) == ("", "unit (2, 3)")


class Mixer(nn.Module):
    """Weights along both axes of (node, channel)."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes, self.channels = nn.Parameter(torch.randn(4, 4)), nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        for now in x.unbind(1):
            z = torch.sigmoid(self.nodes @ self.channels(h))
            h = z * h + (1 - z) * torch.tanh(now)
        return h


def test_weights_along_both_axes_tell_neither() -> None:
    layer = record(Mixer(), torch.randn(2, 6, 4, CHANNELS))["cell"]
    assert (layer.cell.channel, layer.cell.unit_name(11)) == (None, "unit (3, 2)")


def test_cells_that_were_opened_are_called_as_before() -> None:
    torch.manual_seed(7)
    graphs = torch.randn(3, 5, 3, 2)
    found = {
        kind.__name__: record(kind(), *given)["cell"].cell.unit_name(5)
        for kind, given in (
            (ConvGRU, frames()),
            (BatchedNodes, (graphs,)),
            (TurnedNodes, (graphs,)),
            (Heads, (torch.randn(3, 5, 4),)),
        )
    }
    assert found == {
        "ConvGRU": "channel 0 at (1, 0)",
        "BatchedNodes": "channel 1 at 1",
        "TurnedNodes": "channel 1 at 2",
        "Heads": "unit (1, 2)",
    }


class OneChannel(nn.Module):
    """One channel, cut out of what a convolution makes, in a state that has an axis for it or not.

    Args:
        axis: whether it has.
    """

    def __init__(self, axis: bool) -> None:
        super().__init__()
        self.axis, self.weights = axis, nn.Conv2d(1 + 1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0] if self.axis else x[:, 0, 0])
        for now in x.unbind(1):
            both = self.weights(torch.cat([now, h if self.axis else h[:, None]], 1))
            z, n = both.chunk(2, 1) if self.axis else both.unbind(1)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.tanh(n)
        return h


@pytest.mark.parametrize(
    ("axis", "channel", "name"), [(True, 0, "channel 0 at (2, 3)"), (False, None, "unit (2, 3)")]
)
def test_one_channel_has_its_axis_or_none(axis: bool, channel: int | None, name: str) -> None:
    torch.manual_seed(7)
    cell = record(OneChannel(axis), torch.randn(2, 5, 1, 3, 4))["cell"].cell
    assert (cell.channel, cell.unit_name(11)) == (channel, name)
