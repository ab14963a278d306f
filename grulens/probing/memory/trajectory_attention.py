"""The gate attention of steps that follow one another, whichever way their rows are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from grulens.cells.changes import reverse
from grulens.cells.memory.attention import first_shares, weight_map, weights
from grulens.models.recording import LayerRecording
from grulens.probing.trajectories import trajectories


@dataclass(frozen=True, eq=False)
class TrajectoryAttention:
    """The weights of the candidates of one trajectory.

    Attributes:
        begin: position of its first step.
        z: the share of the state before that is kept, a GRU's update gate (batch, time, unit), in
            reading order.
        n: candidate, likewise.
        h_0: the state before its first step (batch, unit).
        lengths: how far each row goes, (batch,), or None.
        reverse: whether reading order is from each row's end.
        dropped: as of `Trajectory`.
    """

    begin: int
    z: Tensor
    n: Tensor
    h_0: Tensor
    lengths: Tensor | None
    reverse: bool
    dropped: Int[Tensor, "batch time"] | None = None

    @property
    def stop(self) -> int:
        return self.begin + self.z.shape[1]

    @property
    def ends(self) -> Tensor:
        """How far each row goes, (batch,)."""
        batch, steps, _ = self.z.shape
        return torch.full((batch,), steps) if self.lengths is None else self.lengths.cpu()

    def kept(self, t: int | None = None) -> Tensor:
        """Which share of the state before each step keeps, as a state after it has it.

        What is dropped keeps all of it.

        Args:
            t: the state after step t, to which the call of t itself counts; None is any that is not
                dropped.
        """
        if self.dropped is None:
            return self.z
        past = self.dropped >= 0
        if t is not None:
            past &= self.dropped != self.dropped[:, t : t + 1]
        return self.z.masked_fill(past.to(self.z.device)[..., None], 1)

    def at(self, t: int) -> tuple[Tensor, Tensor]:
        """Weights (batch, key, unit) over its own positions, and the share of its first state."""
        batch, _, units = self.z.shape
        result, initial = torch.zeros_like(self.z), self.z.new_zeros(batch, units)
        ends = self.ends
        for end in sorted(set(ends[ends > t].tolist())):
            rows = (ends == end).nonzero()[:, 0].to(self.z.device)
            query = end - 1 - t if self.reverse else t
            part, initial[rows] = weights(self.kept(t)[rows], query)
            keys = torch.arange(query + 1, device=self.z.device)
            result[rows[:, None], end - 1 - keys if self.reverse else keys] = part
        return result, initial

    def query(self, t: int, toward: Tensor | None, units: Tensor) -> Tensor:
        """(batch, key) over its own positions: the row t of `map`."""
        part, _ = self.at(t)
        if toward is None:
            return part[..., units].mean(2)
        n = reverse(self.n, self.lengths) if self.reverse else self.n
        return (part * n * toward)[..., units].sum(2)

    def map(self, toward: Tensor | None, units: Tensor) -> Tensor:
        """(batch, query, key) over its own positions."""
        z = self.kept()[..., units]
        mean = z.new_full((1, 1, z.shape[2]), 1 / z.shape[2])
        result = weight_map(z, mean if toward is None else (toward * self.n)[..., units])
        for t in self._alone:
            result[:, t] = self.query(t, toward, units)
        if self.lengths is not None:
            there = self._there(result)
            result = result * there[:, :, None] * there[:, None, :]
        if self.reverse:  # queries, then keys, each row within its own length
            result = reverse(reverse(result, self.lengths).mT, self.lengths).mT
        return result

    def initial(self, toward: Tensor | None, units: Tensor) -> Tensor:
        """(batch, query) over its own positions."""
        share = first_shares(self.kept()[..., units])
        for t in self._alone:
            share[:, t] = self.at(t)[1][:, units]
        if toward is None:
            result = share.mean(2)
        else:
            result = (share * (toward * self.h_0)[:, None, units]).sum(2)
        if self.lengths is not None:
            result = result * self._there(result)
        return reverse(result[..., None], self.lengths)[..., 0] if self.reverse else result

    @property
    def _alone(self) -> list[int]:
        """The steps whose own state is dropped, in any row: no later one is made of it."""
        return [] if self.dropped is None else (self.dropped >= 0).any(0).nonzero()[:, 0].tolist()

    def past(self) -> Tensor:
        """The first and the last key of every query (batch, query, 2), over its own positions."""
        time = torch.arange(self.z.shape[1])
        ends = self.ends[:, None]
        first = time.expand(len(ends), -1) if self.reverse else torch.zeros_like(time + ends)
        last = (ends - 1).expand(-1, len(time)) if self.reverse else time.expand(len(ends), -1)
        span = torch.stack([first, last], 2) + self.begin
        return torch.where((time < ends)[..., None], span, torch.tensor([0, -1]))

    def _there(self, like: Tensor) -> Tensor:
        """Which steps are no padding, in reading order (batch, time)."""
        return (
            torch.arange(self.z.shape[1], device=like.device) < self.ends.to(like.device)[:, None]
        )


def trajectory_attentions(
    layer: LayerRecording, mix: tuple[Tensor, Tensor], rows: Tensor
) -> Iterator[TrajectoryAttention]:
    """One for each trajectory of a layer, of some rows of it.

    Args:
        layer: the layer.
        mix: the share that each of its steps keeps, and the candidate; see `mix_of`.
        rows: which rows (batch,), bool.
    """

    def some(signal: Tensor) -> Tensor:
        return signal.detach() if bool(rows.all()) else signal.detach()[rows.to(signal.device)]

    z, n, before = (some(s) for s in (*mix, layer.state_prev))
    for trajectory in trajectories(layer, rows, masked=True):
        begin, stop = trajectory.begin, trajectory.stop
        lengths = None if trajectory.lengths is None else some(trajectory.lengths)
        gates = z[:, begin:stop], n[:, begin:stop]
        if trajectory.reverse:
            gates = reverse(gates[0], lengths), reverse(gates[1], lengths)
        first = some(trajectory.h_0) if trajectory.reverse else before[:, begin]
        yield TrajectoryAttention(
            begin, *gates, first, lengths, trajectory.reverse, trajectory.dropped
        )
