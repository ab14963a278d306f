"""Which earlier states a state still depends on: the gradient flow of a recorded run.

`grulens.cells.memory.flow` holds the mathematics for steps that follow one another; a recording may
read its rows from their ends, have rows of several lengths, and join several calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from grulens.arguments import Frame, Rows
from grulens.cells.cell import RecurrentCell
from grulens.cells.dynamics.jacobian import Matrices, Slopes
from grulens.cells.kinds.gru import Cell
from grulens.cells.memory.flow import gains, product
from grulens.errors import CellError, PositionError, RecordingError, SignalError, shown
from grulens.job import Job, tell
from grulens.models.observe.reading.slope import check_apart, slopes
from grulens.models.observed import ObservedLayer
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.edits import positions
from grulens.probing.layer import layer_of
from grulens.probing.trajectories import of_each_row
from grulens.results import Result, frame, row_of
from grulens.tables import html_table

MEMORY = 2**26
"""Bytes of the directions that are pulled back side by side."""
LARGEST = 2**31
"""Bytes that the Jacobians of a cell without a closed form may take."""


@dataclass(frozen=True, eq=False)
class RowTrajectory:
    """Steps of one row that follow one another.

    Attributes:
        row: the row.
        at: the position of each step, in reading order.
        slopes: the gates and slopes of each step, in reading order, float64; of a cell that is no
            GRU the Jacobians themselves.
    """

    row: int
    at: list[int]
    slopes: Slopes | Matrices


@dataclass(frozen=True, eq=False, repr=False)
class GradientFlow(Result):
    """How strongly every state of a layer depends on the states before it.

    A gain is the norm of v d h_t / d h_k over the norm of the directions v: 1 at k = t; what falls
    to 0 on the way back is forgotten, what grows explodes. Without directions of their own it is
    taken over all of them, the root mean square of the product's singular values. Positions are
    those of the input sequence; for a reverse layer the past of a position lies behind it. The
    state of an LSTM, and of an observed cell that carries c, is h and c side by side.

    Attributes:
        layer: the layer.
        shape: batch, time, unit.
        trajectories: the steps that follow one another; one a row for an ordinary run.
        states: the names of what stands side by side in a state: h, or h and c.
    """

    layer: str
    shape: tuple[int, int, int]
    trajectories: tuple[RowTrajectory, ...]
    states: tuple[str, ...] = ("h",)

    @property
    def state_size(self) -> int:
        """Numbers of one state."""
        return len(self.states) * self.shape[2]

    def at(
        self, t: int, *, toward: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch key"], Float[Tensor, " batch"]]:
        """The gain of every past state in the state at position t; linear in time.

        Args:
            t: position, negative from the end.
            toward: a direction (unit,) or several (direction, unit), of h; of a layer that carries
                h and c also (state,) or (direction, state), of both side by side. None is all.

        Returns:
            gains (batch, key), 0 where a position is not in the past of t; and that of h_0, or of
            the state with which its call began, (batch,). Float64.

        Raises:
            PositionError: there is no such position.
        """
        t, directions = self._position(t), self._directions(toward)
        batch, steps, _ = self.shape
        found, initial = directions.new_zeros(batch, steps), directions.new_zeros(batch)
        for part in self.trajectories:
            if t in part.at:
                query = part.at.index(t)
                one, first = gains(part.slopes, directions, query, query + 1)
                found[part.row, part.at] = one[0]
                initial[part.row] = first[0]
        return found, initial

    def map(
        self, *, toward: Tensor | None = None, progress: bool = False
    ) -> Float[Tensor, "batch query key"]:
        """The gains of all pairs of positions, 0 where a key is not in a query's past; float64.

        Args:
            toward: directions, as for `at`. None is all of them, which costs as many times more as
                a state has numbers.
            progress: whether to show a bar. Interrupted, it says so (`StoppedWarning`), and what
                is not done is NaN.
        """
        directions = self._directions(toward)
        batch, steps, _ = self.shape
        found = directions.new_zeros(batch, steps, steps)
        # so many at once as fit; an interrupt keeps those before it
        few = max(1, MEMORY // (8 * directions.numel()))
        work = [
            (part, begin, min(begin + few, len(part.at)))
            for part in self.trajectories
            for begin in range(0, len(part.at), few)
        ]
        for part in self.trajectories:
            found[part.row, part.at] = torch.nan
        job: Job[Tensor] = Job("gains", "step", sum(len(part.at) for part in self.trajectories))
        with job.watched(bar=progress):
            for part, begin, stop in work:
                one, _ = gains(part.slopes, directions, begin, stop)
                whole = one.new_zeros(stop - begin, steps)
                whole[:, part.at] = one
                found[part.row, part.at[begin:stop]] = whole
                job.advance(stop - begin)
        if job.note:
            tell("the map of gains", job.note)
        return found

    def product(self, t: int, k: int, *, row: int = 0) -> Float[Tensor, "state state"]:
        """D h_t / d h_k of one row, float64: row the number that is moved, column by which.

        Args:
            t: position, negative from the end.
            k: a position in its past, or t itself.
            row: which row.

        Raises:
            PositionError: there is no such position or row, or k is not in the past of t.
        """
        t, k = self._position(t), self._position(k)
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < self.shape[0]:
            raise PositionError(f"row must be 0 to {self.shape[0] - 1}, got {shown(row)}")
        for part in self.trajectories:
            if part.row == row and t in part.at and k in part.at:
                query, key = part.at.index(t), part.at.index(k)
                if key <= query:
                    return product(part.slopes, query, key)
        raise PositionError(
            f"the state at time {k} is not in the past of the state at time {t} in row {row} of "
            f"layer {self.layer!r}"
        )

    def paths(self) -> dict[str, Float[Tensor, "batch time"]]:
        """How large each of the four ways is by which a state enters the next, at every step.

        Returns:
            leak, update, candidate and reset, each (batch, time): the root mean square of the
            singular values of that part of the step's Jacobian; 0 on padding. Of a layer that is no
            GRU, or was observed, the whole step alone, as total; NaN at a first step whose state is
            no part of the graph.
        """
        batch, steps, _ = self.shape
        found: dict[str, Tensor] = {}
        for part in self.trajectories:
            for name, size in part.slopes.sizes().items():
                whole = found.setdefault(name, size.new_zeros(batch, steps))
                whole[part.row, part.at] = size
        return found

    @property
    def past(self) -> Int[Tensor, "batch query 2"]:
        """First and last position of each state's past, itself included; 0 and -1 for padding."""
        batch, steps, _ = self.shape
        found = torch.tensor([0, -1]).repeat(batch, steps, 1)
        for part in self.trajectories:
            at, first = torch.tensor(part.at), part.at[0] if part.at else 0
            ends = torch.stack([at, torch.full_like(at, first)])
            found[part.row, at] = ends.sort(0).values.T
        return found

    def _position(self, t: Any) -> int:
        steps = self.shape[1]
        if isinstance(t, bool) or not isinstance(t, int) or not -steps <= t < steps:
            raise PositionError(
                f"time {shown(t)} is out of range: layer {self.layer!r} has {steps} steps"
            )
        return t % steps

    def _directions(self, toward: Any) -> Tensor:
        units, size = self.shape[2], self.state_size
        if toward is None:
            return torch.eye(size, dtype=torch.float64)
        if (
            not isinstance(toward, Tensor)
            or toward.layout is not torch.strided
            or toward.is_meta
            or not toward.is_floating_point()
            or toward.dim() not in (1, 2)
            or toward.shape[-1] not in (units, size)
        ):
            sides = f" of h, or {size} of {' and '.join(self.states)} side by side"
            raise SignalError(
                f"toward must be a floating tensor of (unit,) = ({units},){sides * (size > units)} "
                f"or (direction, unit), got {shown(toward)}"
            )
        directions = toward.detach().double().cpu()
        directions = directions.reshape(-1, directions.shape[-1])
        if not bool(torch.isfinite(directions).all()) or not bool(directions.any()):
            raise SignalError("toward must be finite and not zero everywhere")
        # h stands first in a state
        return pad(directions, (0, size - directions.shape[1]))

    def to_frame(self, row: int = 0, *, toward: Tensor | None = None) -> Frame:
        """A row's `map` as a pandas DataFrame: a line a query, a column a key.

        Args:
            row: which row of the batch.
            toward: as for `map`.

        Raises:
            PositionError: there is no such row.
            MissingPackageError: pandas is not installed.
        """
        row = row_of(row, self.shape[0])
        return frame(self.map(toward=toward)[row], index="query", columns="key")

    def __repr__(self) -> str:
        batch, time, unit = self.shape
        return f"GradientFlow({self.layer!r}, batch {batch}, time {time}, unit {unit})"

    def _repr_html_(self) -> str:
        sizes = self.paths().items()
        rows = [
            (name, f"{float(size.nan_to_num().max()):.3g}", f"{float(size.nanmean()):.3g}")
            for name, size in sizes
        ]
        return html_table(("way", "largest", "mean"), rows, repr(self))


def gradient_flow(
    recording: Recording | LayerRecording, layer: str | None = None, *, rows: Rows = None
) -> GradientFlow:
    """How strongly each state depends on those before it, by exact products of Jacobians.

    Products of Jacobians over time are what decides whether a network can learn from the past
    (Bengio, Simard and Frasconi 1994, doi:10.1109/72.279181; Pascanu, Mikolov and Bengio 2013,
    arXiv:1211.5063). The Jacobian of a step: `grulens.dynamics.jacobian`; that of a layer which
    carries h and c is of both side by side. The states themselves are
    followed, so a model that detaches its state between two calls has the gains of one that does
    not: what a state does to later ones, whether or not training would see it.

    In a layer that is opened by its weights, what a state does to a later one through the layer's
    own input (a decoder is given what it has made) is no part of it. In an observed cell it is, and
    a run that reads older states than the last one is refused.

    The Jacobians of an observed cell are those of `jacobian_at`: they need a run with a graph,
    `record(model, ..., grad=True)`, whose states nobody detached. Their products are compared with
    what autograd makes of the whole run. The gain of a first state that is no part of the graph is
    NaN.

    Args:
        recording: a recorded run, or one of its layers.
        layer: which layer; may be left away where there is one.
        rows: which rows of the batch to follow; None is all. The others have gains of 0.

    Raises:
        CellError: the Jacobians of a layer that is no GRU, or was observed, are too large.
        PositionError: there are no such rows.
        RecordingError: the layer was edited, so its states are not those of its cell; the recording
            has several layers and none was named; the model changes a state between two calls of
            the layer; or the run of an observed cell has no graph, its rows act on each other, or
            its states reach later ones in another way than from step to step.

    >>> from grulens import record
    >>> flow = gradient_flow(record(torch.nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3)))
    >>> gain, initial = flow.at(-1)
    >>> gain.shape, float(gain[0, -1]), initial.shape
    (torch.Size([1, 6]), 1.0, torch.Size([1]))
    >>> flow.product(5, 2).shape
    torch.Size([4, 4])
    """
    recorded = layer_of(recording, layer)
    recorded.check_one_batch("gradient flow")
    if any(segment.program for segment in recorded.segments):
        raise RecordingError(
            f"layer {recorded.name!r} was edited, so its states do not follow one another as its "
            "cell says; record without edits of this layer"
        )
    chosen = positions.chosen(rows, recorded.shape[0], "row", f"layer {recorded.name!r}")
    if not isinstance(recorded.cell, Cell):
        _check_size(recorded, chosen)
    follow = _observed if isinstance(recorded, ObservedLayer) else _trajectories
    parts = tuple(follow(recorded, chosen))
    return GradientFlow(recorded.name, recorded.shape, parts, tuple(recorded.cell.states))


def _check_size(layer: LayerRecording, rows: Tensor) -> None:
    """Raise CellError where the Jacobians of all steps are more than is held."""
    count = len(rows) if isinstance(layer, ObservedLayer) else int(rows.sum())
    steps, size = layer.shape[1], layer.cell.state_size
    every = 8 * count * steps * size**2
    if every > LARGEST:
        raise CellError(
            f"the Jacobians of {steps} steps of {count} rows of {size} numbers of a state are "
            f"{every / 2**30:.1f} GiB, and at most {LARGEST / 2**30:.0f} are held: record fewer "
            "rows or steps"
        )


def _observed(layer: Any, rows: Tensor) -> Iterator[RowTrajectory]:
    # a segment ends where its states do not go on
    check_apart(layer.segments, layer.name)
    for segment, begin in zip(layer.segments, layer.calls, strict=True):
        every = slopes(segment, layer.name).cpu()
        at = list(range(begin, begin + segment.steps))
        for row in rows.nonzero()[:, 0].tolist():
            yield RowTrajectory(row, at, Matrices(every[row]))


def _trajectories(layer: LayerRecording, rows: Tensor) -> Iterator[RowTrajectory]:
    cell = layer.cell.over(lambda weight: weight.detach().cpu().double())
    x, before = layer.x.detach().cpu(), layer.state_prev.detach().cpu()
    with torch.no_grad():
        for row, trajectory in of_each_row(layer, rows):
            began, first = before[row, trajectory.begin], before[row, 0]
            if trajectory.begin and began.any() and not torch.equal(began, first):
                raise RecordingError(
                    f"the state with which row {row} of layer {layer.name!r} goes on at step "
                    f"{trajectory.begin} is neither that of the step before nor one to begin with "
                    "(zeros, or that of the first step): the model made it in between, by a mask "
                    "or a beam's choice, and how it depends on the past is not recorded; give "
                    "rows= without this row, or torch.autograd the run of record(..., grad=True)"
                )
            at = trajectory.order(row)
            products = cell.project(x[row, at].double())
            states = before[row, at].double()
            yield RowTrajectory(row, at.tolist(), _slopes(cell, products, states))


def _slopes(cell: RecurrentCell, products: Tensor, states: Tensor) -> Slopes | Matrices:
    """How each step moves the state: a GRU's gates and slopes, or the Jacobians themselves."""
    if isinstance(cell, Cell):
        return Slopes.at(cell, products, states)
    # all directions of some steps go back at once
    some = max(1, MEMORY // (8 * cell.state_size * products.shape[1]))
    pairs = zip(torch.split(products, some), torch.split(states, some), strict=True)
    return Matrices(torch.cat([cell.slope(*pair).detach() for pair in pairs]))
