"""Memory that is used again for the next runs, unless somebody still looks at it.

The states of many runs side by side are tens of megabytes, and fresh memory of that size has to be
had from the operating system page by page: measured, a tenth of a sweep. A tensor over memory that
is kept here says by a reference when nothing uses it any more, no view and no output of a model.
"""

from __future__ import annotations

import sys
from math import prod

import numpy as np
import torch
from torch import Tensor

LINE = 64  # bytes; matrix products want their rows to begin at a cache line
SMALL = 2**20  # bytes; below this the allocator has memory at hand


class Room:
    """Keeps the largest pieces of memory that were asked for, and gives them out again.

    >>> room = Room()
    >>> one = room.empty((512, 1024), torch.ones(1))
    >>> address = one.data_ptr()
    >>> del one
    >>> room.empty((512, 1024), torch.ones(1)).data_ptr() == address
    True
    """

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """An uninitialized tensor of `like`'s dtype and device."""
        size = prod(shape) * like.element_size()
        if like.device.type != "cpu" or size < SMALL:
            return like.new_empty(shape)
        for place in range(len(self._kept)):
            # the list and the argument hold one reference each; a tensor would be a third
            if self._kept[place].nbytes >= size + LINE and sys.getrefcount(self._kept[place]) <= 2:
                break
        else:
            # what is free and too small is not needed any more
            self._kept = [a for a in self._kept if sys.getrefcount(a) > 3]
            self._kept.append(np.empty(size + LINE, np.uint8))
            place = len(self._kept) - 1
        offset = -self._kept[place].ctypes.data % LINE
        count = prod(shape)
        flat = torch.frombuffer(self._kept[place], dtype=like.dtype, count=count, offset=offset)
        return flat.view(shape)
