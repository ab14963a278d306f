"""Which past a state is made of: gate attention over a recorded run.

`grulens.gru.attention` holds the identity for steps that follow one another; a recording may read
its rows from their ends, have rows of several lengths, and join several calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from grulens.errors import EditError, PositionError, RecordingError
from grulens.gru.attention import weight_map, weights
from grulens.gru.changes import reverse
from grulens.models.recording import LayerRecording, Recording


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps that follow one another, each from the state of the one before.

    Attributes:
        begin: position of its first step.
        z: update gate (batch, time, unit), in reading order.
        n: candidate, likewise.
        lengths: how far each row goes, (batch,), or None.
        reversed: whether reading order is from each row's end.
    """

    begin: int
    z: Tensor
    n: Tensor
    lengths: Tensor | None
    reversed: bool

    @property
    def stop(self) -> int:
        return self.begin + self.z.shape[1]

    @property
    def ends(self) -> Tensor:
        """How far each row goes, (batch,)."""
        batch, steps, _ = self.z.shape
        return torch.full((batch,), steps) if self.lengths is None else self.lengths.cpu()

    def at(self, t: int) -> tuple[Tensor, Tensor]:
        """Weights (batch, key, unit) over its own positions, and the share of its first state."""
        batch, _, units = self.z.shape
        result, initial = torch.zeros_like(self.z), self.z.new_zeros(batch, units)
        ends = self.ends
        for end in sorted(set(ends[ends > t].tolist())):
            rows = (ends == end).nonzero()[:, 0].to(self.z.device)
            query = end - 1 - t if self.reversed else t
            part, initial[rows] = weights(self.z[rows], query)
            keys = torch.arange(query + 1, device=self.z.device)
            result[rows[:, None], end - 1 - keys if self.reversed else keys] = part
        return result, initial

    def map(self, toward: Tensor | None) -> Tensor:
        """(batch, query, key) over its own positions."""
        units = self.z.shape[2]
        value = self.z.new_full((1, 1, units), 1 / units) if toward is None else toward * self.n
        result = weight_map(self.z, value)
        if self.lengths is not None:
            time = torch.arange(result.shape[1], device=result.device)
            there = time < self.lengths.to(result.device)[:, None]
            result = result * there[:, :, None] * there[:, None, :]
        if self.reversed:  # queries, then keys, each row within its own length
            result = reverse(reverse(result, self.lengths).mT, self.lengths).mT
        return result


@dataclass(frozen=True, eq=False, repr=False)
class GateAttention:
    """The exact weight of every past candidate, and of the first state, in every state of a layer.

        h_t = initial * h_0 + sum over keys of weight * n_key

    for every unit by itself; weights and the share of h_0 lie in [0, 1] and sum to 1. Positions
    are those of the input sequence; for a reverse layer the past of a position lies behind it.
    Where a call began with a state that is not the last one of the call before, that state takes
    the place of h_0.

    Attributes:
        layer: the layer.
        shape: batch, time, unit.
        chains: the steps that follow one another; one for an ordinary run.
    """

    layer: str
    shape: tuple[int, int, int]
    chains: tuple[Chain, ...]

    def at(self, t: int) -> tuple[Float[Tensor, "batch key unit"], Float[Tensor, "batch unit"]]:
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
        batch, steps, units = self.shape
        if not -steps <= t < steps:
            raise PositionError(f"time {t} is out of range: layer {self.layer!r} has {steps} steps")
        chain = next(chain for chain in self.chains if t % steps < chain.stop)
        part, initial = chain.at(t % steps - chain.begin)
        result = part.new_zeros(batch, steps, units)
        result[:, chain.begin : chain.stop] = part
        return result, initial

    def map(self, toward: Float[Tensor, " _"] | None = None) -> Float[Tensor, "batch query key"]:
        """The weights of every key at every query, brought together over units.

        Args:
            toward: a direction (unit,), such as a class's row of the readout: the map is then what
                each candidate adds to the state along it, signed. None is the plain mean weight.

        Raises:
            EditError: `toward` does not fit the layer.
        """
        batch, steps, units = self.shape
        if toward is not None and tuple(toward.shape) != (units,):
            raise EditError(
                f"toward must be (unit,) = ({units},) for layer {self.layer!r}, got "
                f"{tuple(toward.shape)}"
            )
        like = self.chains[0].z
        toward = None if toward is None else toward.detach().to(like)
        result = like.new_zeros(batch, steps, steps)
        for chain in self.chains:
            part = slice(chain.begin, chain.stop)
            result[:, part, part] = chain.map(toward)
        return result

    def __repr__(self) -> str:
        batch, time, unit = self.shape
        return f"GateAttention({self.layer!r}, batch {batch}, time {time}, unit {unit})"


def attention(recording: Recording | LayerRecording, layer: str | None = None) -> GateAttention:
    """Gate attention of a recorded layer.

    The identity is the recurrence h = (1 - z) n + z h_prev unrolled (Cho et al. 2014,
    arXiv:1406.1078, for the recurrence).

    Args:
        recording: a recording, or one layer of it.
        layer: which layer; may be left out for a `LayerRecording`, or where there is one.

    Raises:
        LayerError: the recording holds no such layer.
        RecordingError: `layer` is missing; or an edit set the state itself, which is then no sum
            of candidates.

    >>> from grulens import record
    >>> run = record(torch.nn.GRU(3, 4, batch_first=True), torch.randn(1, 6, 3))
    >>> found = attention(run, "l0")
    >>> weights, initial = found.at(5)
    >>> weights.shape, bool(((weights.sum(1) + initial - 1).abs() < 1e-6).all())
    (torch.Size([1, 6, 4]), True)
    >>> found.map().shape
    torch.Size([1, 6, 6])
    """
    if isinstance(recording, Recording):
        if layer is None and len(recording) > 1:
            raise RecordingError(f"say which layer: {', '.join(recording)}")
        held = recording[next(iter(recording)) if layer is None else layer]
    else:
        held = recording
    if held.state_edited:
        raise RecordingError(
            f"an edit changed the state of layer {held.name!r} itself, so its states are no sum of "
            "candidates; edit r, z or n instead, or look at the unedited run"
        )
    return GateAttention(held.name, held.shape, tuple(_chains(held)))


def _chains(layer: LayerRecording) -> Iterator[Chain]:
    """The calls of a layer, those joined that hand their state on."""
    z, n, h, h_prev = (s.detach() for s in (layer.z, layer.n, layer.h, layer.h_prev))
    begin = 0
    for segment, stop in zip(layer.segments, (*layer.calls[1:], layer.shape[1]), strict=True):
        plain = not segment.reverse and segment.lengths is None
        goes_on = stop < layer.shape[1] and torch.equal(h_prev[:, stop], h[:, stop - 1])
        if plain and goes_on:
            continue
        part = z[:, begin:stop], n[:, begin:stop]
        if segment.reverse:
            part = reverse(part[0], segment.lengths), reverse(part[1], segment.lengths)
        yield Chain(begin, *part, segment.lengths, segment.reverse)
        begin = stop
