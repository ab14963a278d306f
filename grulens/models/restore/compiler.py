"""A compiled model runs uncompiled while it is watched.

What torch.compile made of a forward has no place where a layer could be watched; and a model that
is compiled anew for every watch would be slow each time, and reach the compiler's limit of
attempts.
"""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack

import torch

from grulens.models.restore.interrupts import Uninterrupted

_LOCK = threading.RLock()
_open: set[eagerly] = set()
_stance = ExitStack()


class eagerly(Uninterrupted):  # noqa: N801 - called as a function is, in a `with`
    """Inside, what torch.compile made runs as it was written; afterwards it is compiled as before.

    The compiler has one switch for the whole process. Blocks may overlap, so the first one to begin
    turns it and the last one to end turns it back.

    >>> fast = torch.compile(lambda x: x + 1, backend="eager")
    >>> with eagerly():
    ...     float(fast(torch.ones(())))
    2.0
    """

    def begin(self) -> None:
        if "torch._dynamo" not in sys.modules:
            return  # nothing is compiled yet, and the compiler takes seconds to load
        with _LOCK:
            if not _open:
                _stance.enter_context(torch.compiler.set_stance("force_eager"))
            _open.add(self)

    def end(self) -> None:
        with _LOCK:
            if self in _open:
                _open.remove(self)
                if not _open:
                    _stance.close()
