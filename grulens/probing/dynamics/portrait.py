"""Where a layer's states lie and how they move there: the planes in which a network can be seen.

A layer moves in as many dimensions as it has units, and mostly uses few. Principal components show
those; a plane through a chosen state adds how the cell would move from every point of it, and how
much of that movement the plane does not show.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from grulens.arguments import Frame, State
from grulens.cells.cell import RecurrentCell
from grulens.cells.dynamics.jacobian import dense
from grulens.errors import PositionError, RecordingError, SignalError, shown
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.dynamics.motion import trajectories
from grulens.probing.layer import layer_of
from grulens.results import Result, frame
from grulens.tables import html_table


@dataclass(frozen=True, eq=False, repr=False)
class Portrait(Result):
    """The principal components of a layer's states, and the states in them; float64.

    Attributes:
        layer: the layer.
        mean: the mean state (unit,); of an LSTM a state is h and c side by side.
        axes: the components as directions, orthonormal, the widest first (component, unit).
        explained: the share of the states' variance along each, (component,).
        points: the states in these components (batch, time, component), NaN on padding.
    """

    layer: str
    mean: Float[Tensor, " unit"]
    axes: Float[Tensor, "component unit"]
    explained: Float[Tensor, " component"]
    points: Float[Tensor, "batch time component"]

    def project(self, states: Float[Tensor, "*any unit"]) -> Float[Tensor, "*any component"]:
        """States (..., unit) in the components (..., component)."""
        dense(states, "states")
        if states.shape[-1:] != self.mean.shape:
            raise SignalError(
                f"states must be (..., unit) = (..., {len(self.mean)}), got {tuple(states.shape)}"
            )
        return (states.detach().cpu().double() - self.mean) @ self.axes.T

    def plane(self, first: int = 0, second: int = 1, *, through: State = None) -> Plane:
        """The plane of two components.

        Args:
            first: the component to the right.
            second: the component upwards.
            through: the state (unit,) in which the plane cuts the space; None is the mean.

        Raises:
            PositionError: there is no such component, or they are the same.
            SignalError: `through` is no state of this layer.
        """
        count = len(self.axes)
        whole = all(isinstance(i, int) and not isinstance(i, bool) for i in (first, second))
        if not whole or not (0 <= first < count and 0 <= second < count) or first == second:
            raise PositionError(
                f"a plane needs two different components from 0 to {count - 1}, got "
                f"{shown(first)} and {shown(second)}"
            )
        if through is None:
            origin = self.mean
        else:
            dense(through, "through")
            if through.shape != self.mean.shape:
                raise SignalError(
                    f"through must be a state (unit,) = ({len(self.mean)},), got "
                    f"{tuple(through.shape)}"
                )
            origin = through.detach().cpu().double()
        return Plane(self.mean, self.axes[[first, second]], origin)

    def to_frame(self) -> Frame:
        """The states as a pandas DataFrame, a line each: row, step and components; no padding.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        row, step = (~self.points.isnan().any(-1)).nonzero(as_tuple=True)
        points = self.points[row, step]
        parts = {f"component_{i}": column for i, column in enumerate(points.T)}
        return frame({"row": row, "step": step, **parts})

    def __repr__(self) -> str:
        batch, time, _ = self.points.shape
        shares = ", ".join(f"{share:.0%}" for share in self.explained.tolist())
        return f"Portrait({self.layer!r}, batch {batch}, time {time}, components {shares})"

    def _repr_html_(self) -> str:
        rows = [(i + 1, f"{share:.1%}") for i, share in enumerate(self.explained.tolist())]
        return html_table(("component", "of the variance"), rows, repr(self))


@dataclass(frozen=True, eq=False)
class Plane:
    """Two directions in the space of states, and where the plane they span cuts it.

    Attributes:
        mean: what has the coordinates (0, 0), (unit,).
        axes: the two directions, orthonormal (2, unit).
        origin: a state in the plane (unit,).
    """

    mean: Float[Tensor, " unit"]
    axes: Float[Tensor, "2 unit"]
    origin: Float[Tensor, " unit"]

    def project(self, states: Float[Tensor, "*any unit"]) -> Float[Tensor, "*any 2"]:
        """States (..., unit) as points (..., 2)."""
        return (states.detach().cpu().double() - self.mean) @ self.axes.T

    def lift(self, points: Float[Tensor, "*any 2"]) -> Float[Tensor, "*any unit"]:
        """The states of the plane (..., unit) at points (..., 2); `project` undoes it.

        >>> eye = torch.eye(3).double()
        >>> plane = Plane(0 * eye[0], eye[:2], eye.sum(0))
        >>> plane.lift(torch.tensor([[0.5, -0.5]]))
        tensor([[ 0.5000, -0.5000,  1.0000]], dtype=torch.float64)
        """
        return self.origin + (points.double() - self.project(self.origin)) @ self.axes

    def field(
        self, cell: RecurrentCell, points: Float[Tensor, "point 2"], x: Tensor | None = None
    ) -> tuple[Float[Tensor, "point 2"], Float[Tensor, " point"]]:
        """How the cell moves from points of the plane.

        Args:
            cell: the cell; it is read in float64.
            points: (point, 2).
            x: the constant input (input,); None is zero.

        Returns:
            F(h) - h in the plane (point, 2); and the share of the step's length that leads out of
            the plane (point,), 0 to 1: where it is large, the arrow says little.
        """
        h = self.lift(points)
        step = trajectories(cell, h, 1, x=x)[:, 1] - h
        moved = step @ self.axes.T
        out = torch.linalg.vector_norm(step - moved @ self.axes, dim=1)
        return moved, out / torch.linalg.vector_norm(step, dim=1).clamp(min=1e-300)


def portrait(
    recording: Recording | LayerRecording, layer: str | None = None, *, components: int = 3
) -> Portrait:
    """The principal components of a recorded layer's whole states (Jolliffe 2002).

    Sussillo and Barak 2013 (Neural Comput. 25:626) look at trajectories and fixed points of trained
    networks in them.

    Args:
        recording: a recorded run, or one of its layers.
        layer: which layer; may be left away where there is one.
        components: how many, at most as many as units and as states.

    Raises:
        RecordingError: several layers and none named; fewer than two states; or states that are
            not finite.
        PositionError: `components` is no number of components from 2 up.

    >>> from grulens import record
    >>> rnn = torch.nn.GRU(3, 4, batch_first=True)
    >>> found = portrait(record(rnn, torch.randn(2, 9, 3)), components=2)
    >>> found.points.shape, found.axes.shape
    (torch.Size([2, 9, 2]), torch.Size([2, 4]))
    """
    recorded = layer_of(recording, layer)
    if isinstance(components, bool) or not isinstance(components, int) or components < 2:
        raise PositionError(f"components must be a whole number from 2 up, got {shown(components)}")
    mask = recorded.mask.cpu()
    states = recorded.state.detach().cpu().double()[mask]
    count = min(components, *states.shape)
    if count < 2:
        raise RecordingError(
            f"a plane needs two units and two states; layer {recorded.name!r} has "
            f"{recorded.shape[2]} units and {len(states)} states"
        )
    if not bool(torch.isfinite(states).all()):
        raise RecordingError(f"layer {recorded.name!r} has states that are not finite")
    mean = states.mean(0)
    axes, explained = principal_axes(states - mean)
    axes, explained = axes[:count], explained[:count]
    # a component has no sign of its own: its largest weight is positive, so that runs look alike
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0)
    points = states.new_full((*mask.shape, count), torch.nan)
    points[mask] = (states - mean) @ axes.T
    return Portrait(recorded.name, mean, axes, explained, points)


def principal_axes(
    centered: Float64[Tensor, "row unit"],
) -> tuple[Float64[Tensor, "axis unit"], Float64[Tensor, " axis"]]:
    """All directions of most variance, and the share of the variance along each (Jolliffe 2002).

    Args:
        centered: rows whose mean is zero.

    Returns:
        Orthonormal axes, by falling share, each up to its sign; and the shares, which add up to 1,
        or are all 0 where no row differs.

    >>> axes, shares = principal_axes(torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]]).double())
    >>> axes.abs(), shares
    (tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64), tensor([0.9000, 0.1000], dtype=torch.float64))
    """
    if len(centered) > centered.shape[1]:
        # by the covariance where rows are many: as exact here, and its cost does not grow with them
        variances, axes = torch.linalg.eigh(centered.T @ centered)
        variances, axes = variances.flip(0).clamp(min=0), axes.T.flip(0)
    else:
        _, lengths, axes = torch.linalg.svd(centered, full_matrices=False)
        variances = lengths.square()
    return axes, (variances / variances.sum()).nan_to_num()
