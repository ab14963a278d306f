"""Which recorded steps follow one another, each from the state of the one before.

A layer's time axis may hold several calls; where one begins with the last state of the call before,
they are one trajectory. Rows that are read from their ends follow one another the other way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from grulens.models.recording import LayerRecording


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Steps of a layer that follow one another, each from the state of the one before.

    Attributes:
        begin: position of its first step.
        stop: the position behind its last one.
        h_0: the state before the first step of its (last) call (batch, unit).
        lengths: how far each row goes, (batch,), or None.
        reverse: whether rows are read from their ends.
    """

    begin: int
    stop: int
    h_0: Tensor
    lengths: Tensor | None
    reverse: bool

    def order(self, row: int) -> Tensor:
        """The positions of a row's valid steps in reading order."""
        steps = self.stop - self.begin if self.lengths is None else int(self.lengths[row])
        order = torch.arange(self.begin, self.begin + steps)
        return order.flip(0) if self.reverse else order


def trajectories(layer: LayerRecording, rows: Tensor) -> Iterator[Trajectory]:
    """The calls of a layer, those joined that hand their state on.

    Args:
        layer: the layer.
        rows: which rows (batch,), bool: those that have to go on, whatever the others do.
    """
    layer.check_one_batch("what follows states through time")
    after, before = (s.detach()[rows.to(s.device)] for s in (layer.state, layer.state_prev))
    begin = 0
    for segment, stop in zip(layer.segments, (*layer.calls[1:], layer.shape[1]), strict=True):
        plain = not segment.reverse and segment.lengths is None
        goes_on = stop < layer.shape[1] and torch.equal(before[:, stop], after[:, stop - 1])
        if plain and goes_on:
            continue
        yield Trajectory(begin, stop, segment.h_0, segment.lengths, segment.reverse)
        begin = stop
