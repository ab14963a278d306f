"""How many rows of a corpus run side by side: as many as fit into the memory of one run.

A run holds the products of a layer's cell, its states, and what the model gives back, for each of
its steps. So the steps that run at a time are counted, and not the rows: long rows or wide layers
run fewer at a time. What was chosen is kept with the scan, for torch rounds another way for another
number of rows.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from grulens.models.recording import LayerRecording, Recording

#: So many rows at a time, unless another number is given.
ROWS: Final = 64
#: A run takes so many bytes, by what is known of it.
BYTES: Final = 1 << 30
#: Of more rows than these a multiple runs at a time: products of matrices like that.
EVEN: Final = 8
#: Beside what is kept, a layer at work holds its states twice, and its gates and the candidate.
AT_WORK: Final = 5


def abreast(batch: int, room: int, steps: int) -> int:
    """How many rows of so many steps run side by side.

    Args:
        batch: so many at most.
        room: so many steps at most, where one row has no more; 0 is any number.
        steps: how many steps each row has.

    >>> [abreast(64, 70_000, steps) for steps in (500, 2048, 30_000, 100_000)]
    [64, 32, 2, 1]
    """
    fit = room // max(steps, 1) if room else batch
    if fit >= batch:
        return batch
    return max(1, fit - fit % EVEN if fit > EVEN else fit)


def room_of(recording: Recording, batch: int, steps: int) -> int:
    """How many steps run at a time; 0 where so many rows of so many steps need no bound.

    Args:
        recording: a run of some rows.
        batch: how many rows run side by side at most.
        steps: the longest row.
    """
    every = [*recording.values()]
    widest = max(_units(layer) for layer in every)
    ran = max(int(layer.mask.numel()) for layer in every)
    given = sum(one.numel() for one in tree_leaves(recording.output) if isinstance(one, Tensor))
    numbers = AT_WORK * widest + -(-given // ran)
    numbers += sum(_units(layer) + getattr(layer.cell, "input_size", 0) for layer in every)
    room = BYTES // (numbers * torch.float32.itemsize)
    return room if batch * steps > room else 0


def _units(layer: LayerRecording) -> int:
    return layer.cell.hidden_size * len(layer.cell.states)
