"""Which past a state is made of: gate attention over a recorded run.

`grulens.cells.memory.attention` holds the identity for steps that follow one another;
`trajectories` finds those in a recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grulens.arguments import Direction, Frame, Integer, Rows, Units
from grulens.errors import EditError, PositionError, RecordingError, shown
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.edits import positions
from grulens.probing.layer import layer_of, mix_of
from grulens.probing.memory.trajectory_attention import TrajectoryAttention, trajectory_attentions
from grulens.results import Result, frame, row_of
from grulens.tables import html_table
from grulens.words import so_many


@dataclass(frozen=True, eq=False, repr=False)
class GateAttention(Result):
    """The exact weight of every past candidate, and of the first state, in every state of a layer.

        h_t = initial * h_0 + sum over keys of weight * n_key

    for every unit by itself; of an observed cell n is what its equation mixes with the state before
    (and h the state that it carries on). Weights and the share of h_0 sum to 1, and lie in [0, 1]
    as gates do. Positions are those of the input sequence; for a reverse layer the past of a
    position lies behind it.
    Where a call began with a state that is not the last one of the call before, in any of the rows
    that are followed, that state takes the place of h_0 in all of them; `rows=` follows fewer. A
    mask is followed: where a call is given the state from before the last one again, what that one
    wrote has no weight later.

    Attributes:
        layer: the layer.
        shape: batch, time, unit.
        trajectories: the steps that follow one another; one for an ordinary run.
        note: what the model does to the state between two calls, in words; "" if it hands it on.
    """

    layer: str
    shape: tuple[int, int, int]
    trajectories: tuple[TrajectoryAttention, ...]
    note: str = ""

    def at(self, t: Integer) -> tuple[Float[Tensor, "batch key unit"], Float[Tensor, "batch unit"]]:
        """What the state at position t is made of.

        Args:
            t: position, negative from the end.

        Returns:
            weights (batch, key, unit), one key a position, 0 where a position is not in its past
            or is padding; and the share of h_0 (batch, unit). For a row that ends before t both
            are 0.

        Raises:
            PositionError: there is no such position.
        """
        trajectory, place = self._locate(t)
        part, initial = trajectory.at(place)
        result = part.new_zeros(self.shape)
        result[:, trajectory.begin : trajectory.stop] = part
        return result, initial

    def query(
        self, t: Integer, toward: Direction = None, *, units: Units = None
    ) -> Float[Tensor, "batch key"]:
        """One query of `map`, without the rest of it: linear in time.

        Args:
            t: position, negative from the end.
            toward: as for `map`.
            units: as for `map`.

        Raises:
            EditError: `toward` does not fit the layer.
            PositionError: there are no such units, or none is chosen, or no such position.
        """
        along, chosen = self._weighting(toward, units)
        trajectory, place = self._locate(t)
        part = trajectory.query(place, along, chosen)
        result = part.new_zeros(self.shape[:2])
        result[:, trajectory.begin : trajectory.stop] = part
        return result

    def map(
        self, toward: Direction = None, *, units: Units = None
    ) -> Float[Tensor, "batch query key"]:
        """The weights of every key at every query, brought together over units.

        Args:
            toward: a direction (unit,), such as a class's row of the readout: the map is then what
                each candidate adds to the state along it, signed. None is the plain mean weight.
            units: only these: int, slice, sequence of int or bool mask; None is all.

        Raises:
            EditError: `toward` does not fit the layer.
            PositionError: there are no such units, or none is chosen.
        """
        batch, steps, _ = self.shape
        along, chosen = self._weighting(toward, units)
        result = self.trajectories[0].z.new_zeros(batch, steps, steps)
        for trajectory in self.trajectories:
            part = slice(trajectory.begin, trajectory.stop)
            result[:, part, part] = trajectory.map(along, chosen)
        return result

    def initial(
        self, toward: Direction = None, *, units: Units = None
    ) -> Float[Tensor, "batch query"]:
        """The share of h_0 in every state, brought together as by `map`.

        A query's row of `map()` and this sum to 1; those of `map(toward)` to the state along
        `toward`.

        Args:
            toward: as for `map`.
            units: as for `map`.

        Raises:
            EditError: `toward` does not fit the layer.
            PositionError: there are no such units, or none is chosen.
        """
        along, chosen = self._weighting(toward, units)
        return torch.cat([trajectory.initial(along, chosen) for trajectory in self.trajectories], 1)

    @property
    def past(self) -> Int[Tensor, "batch query 2"]:
        """The first and the last position in every query's past; (0, -1) on padding."""
        return torch.cat([trajectory.past() for trajectory in self.trajectories], 1)

    @property
    def last(self) -> Int[Tensor, " batch"]:
        """The position that each row read last (batch,): its end, or where a layer is reverse 0."""
        trajectory = self.trajectories[-1]
        ends = trajectory.ends
        return trajectory.begin + (torch.zeros_like(ends) if trajectory.reverse else ends - 1)

    def _locate(self, t: Any) -> tuple[TrajectoryAttention, int]:
        """The trajectory that a position is in, and where in it."""
        steps, place = self.shape[1], positions.normal(t, "t")
        if not isinstance(place, int):
            raise PositionError(f"t must be one position, an int, got {shown(t)}")
        positions.check(place, steps, "time", f"layer {self.layer!r}")
        trajectory = next(
            trajectory for trajectory in self.trajectories if place % steps < trajectory.stop
        )
        return trajectory, place % steps - trajectory.begin

    def _weighting(self, toward: Direction, units: Units) -> tuple[Tensor | None, Tensor]:
        size, like = self.shape[2], self.trajectories[0].z
        chosen = positions.chosen(units, size, "unit", f"layer {self.layer!r}")
        if not chosen.any():
            raise PositionError(f"units={shown(units)} names no unit of layer {self.layer!r}")
        if toward is None:
            return None, chosen.to(like.device)
        real = isinstance(toward, Tensor) and toward.layout is torch.strided
        if not real or toward.is_complex() or toward.is_meta or tuple(toward.shape) != (size,):
            got = tuple(toward.shape) if isinstance(toward, Tensor) and real else shown(toward)
            raise EditError(
                f"toward must be a real tensor (unit,) = ({size},) for layer {self.layer!r}, got "
                f"{got}"
            )
        return toward.detach().to(like), chosen.to(like.device)

    def to_frame(self, row: int = 0, *, toward: Direction = None, units: Units = None) -> Frame:
        """A row's `map` as a pandas DataFrame: a line a query, a column a key.

        Args:
            row: which row of the batch.
            toward: as for `map`.
            units: as for `map`.

        Raises:
            PositionError: there is no such row.
            MissingPackageError: pandas is not installed.
        """
        row = row_of(row, self.shape[0])
        return frame(self.map(toward, units=units)[row], index="query", columns="key")

    def __repr__(self) -> str:
        batch, time, unit = self.shape
        return f"GateAttention({self.layer!r}, batch {batch}, time {time}, unit {unit})"

    def _repr_html_(self) -> str:
        rows = []
        for row, t in enumerate(self.last[:8].tolist()):
            weights, initial = (part[row] for part in self.at(t))
            largest = float(weights.amax(0).mean())
            rows.append((row, t, f"{largest:.1%}", f"{float(initial.mean()):.1%}"))
        head = ("row", "state read last", "largest weight in it", "share of h_0")
        note = f"; {self.note}" if self.note else ""
        return html_table(head, rows, f"{self!r}, means over units{note}")


def attention(
    recording: Recording | LayerRecording, layer: str | None = None, *, rows: Rows = None
) -> GateAttention:
    """Gate attention of a recorded layer.

    The identity is the recurrence h = (1 - z) n + z h_prev unrolled (Cho et al. 2014,
    arXiv:1406.1078, for the recurrence). An observed cell is unrolled by its own equation, where
    that mixes the state before with a candidate in shares that sum to 1.

    Args:
        recording: a recording, or one layer of it.
        layer: which layer; may be left out for a `LayerRecording`, or where there is one.
        rows: which batch rows: int, slice, sequence of int or bool mask; None is all.

    Raises:
        CellError: a step of the layer's cell is no such mix.
        LayerError: the recording holds no such layer.
        PositionError: there are no such rows.
        RecordingError: it is no recording; `layer` is missing; or an edit set the state itself,
            which is then no sum of candidates.

    >>> from grulens import record
    >>> run = record(torch.nn.GRU(3, 4, batch_first=True), torch.randn(1, 6, 3))
    >>> found = attention(run, "l0")
    >>> weights, initial = found.at(5)
    >>> weights.shape, bool(((weights.sum(1) + initial - 1).abs() < 1e-6).all())
    (torch.Size([1, 6, 4]), True)
    >>> found.map().shape
    torch.Size([1, 6, 6])
    """
    recorded = layer_of(recording, layer)
    mix = mix_of(recorded, "gate attention")
    recorded.check_one_batch("attention")
    if recorded.state_edited:
        raise RecordingError(
            f"an edit changed the state of layer {recorded.name!r} itself, so its states are no "
            "sum of candidates; edit r, z or n instead, or look at the unedited run"
        )
    chosen = positions.chosen(rows, recorded.shape[0], "row", f"layer {recorded.name!r}")
    if not chosen.any():
        raise PositionError(f"rows={shown(rows)} names no row of layer {recorded.name!r}")
    shape = (int(chosen.sum()), *recorded.shape[1:])
    found = tuple(trajectory_attentions(recorded, mix, chosen))
    return GateAttention(recorded.name, shape, found, _note(recorded, chosen, len(found)))


def _note(layer: LayerRecording, rows: Tensor, parts: int) -> str:
    said = layer.handing.words(rows)
    if not said or parts == 1:
        return said
    begun = so_many(parts - 1, "time")
    return f"{said}; the weights begin anew {begun}" + ", in all rows" * (int(rows.sum()) > 1)
