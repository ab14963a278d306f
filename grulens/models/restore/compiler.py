"""A compiled model runs uncompiled while it is watched.

What torch.compile made of a forward has no place where a layer could be watched; and a model that
is compiled anew for every watch would be slow each time, and reach the compiler's limit of
attempts.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

import torch


def eagerly() -> AbstractContextManager[None]:
    """Inside, what torch.compile made runs as it was written; afterwards it is compiled as before.

    >>> fast = torch.compile(lambda x: x + 1, backend="eager")
    >>> with eagerly():
    ...     float(fast(torch.ones(())))
    2.0
    """
    if "torch._dynamo" not in sys.modules:
        return nullcontext()  # nothing is compiled yet, and the compiler takes seconds to load
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
