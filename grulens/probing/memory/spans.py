"""Which recorded steps follow one another, each from the state of the one before.

A layer's time axis may hold several calls; where one begins with the last state of the call before,
they are one stretch of time. Rows that are read from their ends follow one another the other way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Int
from torch import Tensor

from grulens.models.recording import LayerRecording


@dataclass(frozen=True, eq=False)
class Span:
    """A stretch of a layer's time axis that was run as one.

    Attributes:
        begin: position of its first step.
        stop: the position behind its last one.
        h_0: the state before the first step of its (last) call (batch, unit).
        lengths: how far each row goes, (batch,), or None.
        reversed: whether rows are read from their ends.
    """

    begin: int
    stop: int
    h_0: Tensor
    lengths: Tensor | None
    reversed: bool

    def order(self, row: int) -> Tensor:
        """The positions of a row's valid steps in reading order."""
        steps = self.stop - self.begin if self.lengths is None else int(self.lengths[row])
        order = torch.arange(self.begin, self.begin + steps)
        return order.flip(0) if self.reversed else order


def spans(layer: LayerRecording) -> Iterator[Span]:
    """The calls of a layer, those joined that hand their state on."""
    layer.check_one_batch("what follows states through time")
    h, h_prev = layer.h.detach(), layer.h_prev.detach()
    begin = 0
    for segment, stop in zip(layer.segments, (*layer.calls[1:], layer.shape[1]), strict=True):
        plain = not segment.reverse and segment.lengths is None
        goes_on = stop < layer.shape[1] and torch.equal(h_prev[:, stop], h[:, stop - 1])
        if plain and goes_on:
            continue
        yield Span(begin, stop, segment.h_0, segment.lengths, segment.reverse)
        begin = stop


def last_read(layer: LayerRecording) -> Int[Tensor, " batch"]:
    """The position of the step that each row read last, (batch,); -1 for a row without steps.

    A forward layer reads a row's end last, a reverse layer its beginning.

    >>> from grulens import record
    >>> rnn = torch.nn.GRU(3, 4, batch_first=True, bidirectional=True)
    >>> run = record(rnn, torch.zeros(2, 5, 3))
    >>> last_read(run["l0"]), last_read(run["l0_reverse"])
    (tensor([4, 4]), tensor([0, 0]))
    """
    mask = layer.mask.cpu()
    found = torch.full((len(mask),), -1)
    # rows that ran through the same calls stand one below the other
    begin = 0
    for numbers, group in groupby(layer.rows, key=lambda row: row.calls):
        here = slice(begin, begin := begin + len(list(group)))
        for number in numbers:
            segment, start = layer.segments[number], layer.calls[number]
            part = mask[here, start : start + segment.steps].int()
            back = segment.steps - 1 - part.flip(1).argmax(1)
            place = start + (part.argmax(1) if segment.reverse else back)
            found[here] = torch.where(part.any(1), place, found[here])
    return found
