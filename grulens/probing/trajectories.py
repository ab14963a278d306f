"""Which recorded steps follow one another, each from the state of the one before.

A layer's time axis may hold several calls; where one begins with the last state of the call before,
they are one trajectory. Rows that are read from their ends follow one another the other way. A mask
goes on with the state from before a call: what that call made is then in no later state.
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
        dropped: by row and step, the number of its call where no later state is made of what that
            call returned, else -1; None if all is handed on.
    """

    begin: int
    stop: int
    h_0: Tensor
    lengths: Tensor | None
    reverse: bool
    dropped: Tensor | None = None

    def order(self, row: int) -> Tensor:
        """The positions of a row's valid steps in reading order."""
        steps = self.stop - self.begin if self.lengths is None else int(self.lengths[row])
        order = torch.arange(self.begin, self.begin + steps)
        return order.flip(0) if self.reverse else order


def trajectories(
    layer: LayerRecording, rows: Tensor, *, masked: bool = False
) -> Iterator[Trajectory]:
    """The calls of a layer, those joined that hand their state on.

    Args:
        layer: the layer.
        rows: which rows (batch,), bool: those that have to go on, whatever the others do.
        masked: whether steps also follow one another over a call whose state is dropped, in some
            rows, for the one from before that call.
    """
    layer.check_one_batch("what follows states through time")
    given = {one.stop: one for one in layer.handing.given}
    steps = layer.shape[1]
    dropped = torch.full((int(rows.sum()), steps), -1)
    begin = 0
    every = zip(layer.segments, (*layer.calls[1:], steps), strict=True)
    for number, (segment, stop) in enumerate(every):
        call = given.get(stop)
        if call is not None:
            on, again, first = (part.cpu()[rows.cpu()] for part in call[2:])
            if bool(on.all()) or (masked and bool((on | again).all() and not first.all())):
                dropped[again, call.begin : stop] = number
                continue
        part = dropped[:, begin:stop]
        yield Trajectory(
            begin, stop, segment.h_0, segment.lengths, segment.reverse,
            part if bool((part >= 0).any()) else None,
        )  # fmt: skip
        begin = stop


def of_each_row(layer: LayerRecording, rows: Tensor) -> Iterator[tuple[int, Trajectory]]:
    """The calls of a layer, those joined that hand a row's state on, row by row.

    Where another row begins anew (a done flag, a mask), a row may go on.

    Args:
        layer: the layer.
        rows: which rows (batch,), bool.
    """
    layer.check_one_batch("what follows states through time")
    goes_on = {one.stop: one.next.tolist() for one in layer.handing.given}
    ends = [*layer.calls[1:], layer.shape[1]]
    for row in rows.nonzero()[:, 0].tolist():
        begin = 0
        for segment, stop in zip(layer.segments, ends, strict=True):
            if stop not in goes_on or not goes_on[stop][row]:
                yield row, Trajectory(begin, stop, segment.h_0, segment.lengths, segment.reverse)
                begin = stop
