"""Under torch.autocast a GRU's products are rounded, and a run must be read as it was rounded.

On the CPU, states keep the precision of the first state and of the input; each matrix product is
made in autocast's precision, and with it the gates. So gates that are computed afterwards must be
computed under the same autocast, and under none if there was none, wherever they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

Precision = Callable[[], AbstractContextManager[object]]


def autocast(device: torch.device) -> bool:
    """Whether torch.autocast is on for a device.

    >>> cpu = torch.device("cpu")
    >>> with torch.autocast("cpu"):
    ...     autocast(cpu)
    True
    >>> autocast(cpu), autocast(torch.device("meta"))
    (False, False)
    """
    kind = device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def present(device: torch.device) -> Precision:
    """What makes the autocast that is on now, or off, come back later.

    >>> with torch.autocast("cpu"):
    ...     then = present(torch.device("cpu"))
    >>> with then():
    ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
    torch.bfloat16
    """
    kind = device.type
    if not torch.amp.is_autocast_available(kind):
        return nullcontext
    if not torch.is_autocast_enabled(kind):
        return partial(torch.autocast, kind, enabled=False)
    return partial(torch.autocast, kind, dtype=torch.get_autocast_dtype(kind))


def exact(device: torch.device) -> AbstractContextManager[object]:
    """No autocast, for what is a difference of signals and must not be rounded.

    >>> with torch.autocast("cpu"), exact(torch.device("cpu")):
    ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
    torch.float32
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
