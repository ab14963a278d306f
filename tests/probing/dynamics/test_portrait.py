"""Planes in the space of states: what they show is what is there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import nn

from grulens import record
from grulens.cells.dynamics.jacobian import jacobian
from grulens.cells.unroll import unroll
from grulens.dynamics import trajectories, unstable_directions
from grulens.errors import CellError, PositionError, RecordingError, SignalError
from grulens.probing.dynamics.portrait import portrait, principal_axes
from tests.cells.dynamics.test_fixed_points import switches
from tests.cells.dynamics.test_jacobian import drawn


def recorded(units: int = 6, seed: int = 0) -> tuple[nn.GRU, torch.Tensor]:
    torch.manual_seed(seed)
    return nn.GRU(3, units, batch_first=True).double(), torch.randn(3, 20, 3).double()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(2, 8), st.integers(2, 5))
def test_components_are_orthonormal_and_ordered_and_keep_what_they_show(
    seed: int, units: int, components: int
) -> None:
    rnn, x = recorded(units, seed)
    layer = record(rnn, x)["l0"]
    found = portrait(layer, components=components)
    count = min(components, units)
    assert found.axes.shape == (count, units)
    assert torch.allclose(found.axes @ found.axes.T, torch.eye(count).double(), atol=1e-12)
    assert (found.explained.diff() <= 1e-15).all()
    states = layer.h.reshape(-1, units)
    values = torch.linalg.eigvalsh(torch.cov(states.T)).flip(0)
    assert torch.allclose(found.explained, (values / values.sum())[:count], atol=1e-10)
    assert torch.allclose(found.points.reshape(-1, count), found.project(states), atol=1e-12)
    if count == units:
        back = found.mean + found.points @ found.axes
        assert torch.allclose(back, layer.h, atol=1e-12)


@pytest.mark.parametrize("rows", [3, 8, 9, 200])  # fewer than units, as many, more
def test_the_axes_are_those_of_scikit_learn(rows: int) -> None:
    states = torch.randn(rows, 8).double() @ torch.randn(8, 8).double() + 5
    axes, shares = principal_axes(states - states.mean(0))
    count = min(rows - 1, 8)  # rows about their mean span no more
    theirs = PCA(count, svd_solver="full").fit(states.numpy())
    along = (axes[:count] * torch.from_numpy(theirs.components_)).sum(1)
    torch.testing.assert_close(along.abs(), torch.ones(count).double())
    torch.testing.assert_close(
        shares[:count], torch.from_numpy(theirs.explained_variance_ratio_), rtol=1e-9, atol=0
    )


def test_states_that_never_move_have_no_variance_to_share_out() -> None:
    axes, shares = principal_axes(torch.zeros(9, 3).double())
    assert torch.allclose(axes @ axes.T, torch.eye(3).double())
    assert shares.eq(0).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.booleans())
def test_lifting_is_undone_by_projecting(seed: int, mean: bool) -> None:
    rnn, x = recorded(seed=seed)
    found = portrait(record(rnn, x))
    torch.manual_seed(seed)
    through = None if mean else torch.randn(6)
    plane, points = found.plane(0, 2, through=through), torch.randn(7, 2).double()
    assert torch.allclose(plane.project(plane.lift(points)), points, atol=1e-12)
    assert torch.allclose(plane.project(x.new_ones(6)), found.project(x.new_ones(6))[[0, 2]])
    if through is not None:
        assert torch.allclose(plane.lift(plane.project(through)), through.double(), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_two_units_are_a_plane_and_its_field_is_the_step(seed: int) -> None:
    rnn, x = recorded(2, seed)
    layer = record(rnn, x)["l0"]
    plane = portrait(layer).plane()
    still = torch.randn(3).double()
    points = torch.randn(5, 2).double()
    moved, out = plane.field(layer.cell, points, still)
    cell = nn.GRUCell(3, 2).double()
    cell.load_state_dict({name.removesuffix("_l0"): w for name, w in rnn.state_dict().items()})
    h = plane.lift(points)
    expected = plane.project(cell(still.expand(5, -1), h)) - points
    assert torch.allclose(moved, expected, atol=1e-12)
    assert out.max() < 1e-10


def test_a_plane_says_what_it_does_not_show() -> None:
    cell = switches(3)
    rnn, x = recorded(3)
    plane = portrait(record(rnn, x)).plane(0, 1)
    h = plane.lift(torch.tensor([[0.1, 0.2]]))
    step = trajectories(cell, h, 1)[0, 1] - h[0]
    moved, out = plane.field(cell, torch.tensor([[0.1, 0.2]]))
    whole = moved[0].square().sum() + (out[0] * step.norm()).square()
    assert torch.allclose(whole, step.square().sum())
    assert 0 < out[0] < 1


def test_a_run_goes_where_the_cell_goes() -> None:
    cell = switches(2)
    path = trajectories(cell, torch.tensor([[0.1, -0.1], [0.0, 0.0]]), 80)
    assert path.shape == (2, 81, 2)
    assert torch.allclose(path[0, -1], torch.tensor([0.95750402, -0.95750402]).double())
    assert path[1].eq(0).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda c: trajectories(c, torch.zeros(1, 2), 0),
            "steps must be a whole number from 1 up",
        ),
        (lambda c: trajectories(c, torch.zeros(2), 1), r"h must be \(start, unit\) and x \(input,"),
        (lambda c: trajectories(c, torch.zeros(1, 3), 1), r"h must be .* \(any, 2\)"),
        (lambda c: unstable_directions(c, torch.zeros(1, 2)), r"h must be \(unit,\) and x"),
        (lambda c: unstable_directions(c, torch.full((2,), torch.nan)), "h and x must be finite"),
        (
            lambda c: unstable_directions(c, torch.zeros(2), count=-1),
            "count must be a whole number",
        ),
    ],
)
def test_what_does_not_fit_a_cell_is_refused(call: Any, words: str) -> None:
    with pytest.raises((CellError, PositionError), match=words):
        call(switches(2))


def test_an_input_that_stays_pushes_at_every_step() -> None:
    cell, h = switches(2), torch.rand(3, 2)
    pushed = trajectories(cell, h, 2, x=torch.ones(1))
    weights = cell.over(lambda weight: weight.double())
    here = unroll(weights, torch.ones(3, 2, 1).double(), h.double()).h
    torch.testing.assert_close(pushed, torch.cat([h[:, None].double(), here], 1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(2, 6))
def test_growing_directions_span_what_the_jacobian_makes_grow(seed: int, units: int) -> None:
    cell = drawn(seed, 2, units, True)
    state = torch.rand(units, generator=torch.Generator().manual_seed(seed)).double()
    found = unstable_directions(cell, state)
    slope = jacobian(cell, torch.zeros(1, 2).double(), state[None]).total[0]
    values = torch.linalg.eigvals(slope)
    assert len(found) == int((values.abs() > 1).sum())
    if len(found):
        assert torch.allclose(found.norm(dim=1), torch.ones(1).double())
        # the span is invariant: what the Jacobian makes of it lies in it
        image = slope @ found.T
        inside = found.T @ torch.linalg.lstsq(found.T, image).solution
        assert torch.allclose(inside, image, atol=1e-7)


def test_a_saddle_grows_along_its_own_units() -> None:
    found = unstable_directions(switches(3), torch.tensor([0.0, 0.95750402, 0.0]))
    assert found.shape == (2, 3)
    assert found[:, 1].abs().max() < 1e-6


def test_padding_has_no_place_and_signs_are_settled() -> None:
    from torch.nn.utils.rnn import pack_sequence

    rnn, x = recorded()
    run_ = record(rnn, pack_sequence([x[0], x[1, :5]]))
    found = portrait(run_)
    assert found.points[1, 5:].isnan().all()
    assert not found.points[1, :5].isnan().any()
    for axis in found.axes:
        assert axis[axis.abs().argmax()] > 0


def test_what_does_not_fit_is_named() -> None:
    rnn, x = recorded()
    run_ = record(rnn, x)
    found = portrait(run_)
    assert repr(found).startswith("Portrait('l0', batch 3, time 20, components ")
    with pytest.raises(PositionError, match="components must be a whole number from 2 up, got 1"):
        portrait(run_, components=1)
    with pytest.raises(PositionError, match="two different components from 0 to 2, got 0 and 3"):
        found.plane(0, 3)
    with pytest.raises(PositionError, match="two different components"):
        found.plane(1, 1)
    with pytest.raises(SignalError, match=r"through must be a state \(unit,\) = \(6,\)"):
        found.plane(through=torch.zeros(5))
    with pytest.raises(SignalError, match=r"states must be \(\.\.\., unit\)"):
        found.project(torch.zeros(5))
    with pytest.raises(RecordingError, match="has 6 units and 1 states"):
        portrait(record(rnn, x[:1, :1]))
