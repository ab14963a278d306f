"""How much memory a forward needs at its peak, so that one knows how many of them fit side by side.

torch counts the memory of a graphics card, and none of a processor's. So every result of a torch
function is counted while it lives, one piece of memory once however many views look at it. What a
function needs inside itself is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode


class PeakMemory(TorchFunctionMode):
    """Counts the memory of what is computed inside its block.

    Attributes:
        peak: the most bytes that lived at one time.

    >>> import torch
    >>> with PeakMemory() as memory:
    ...     a = torch.zeros(256)
    ...     b = a.view(16, 16) + 1
    ...     del a
    ...     c = b * 2
    >>> memory.peak
    2048
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._views: dict[int, int] = {}
        self._seen: set[int] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._count(result)
        return result

    def _count(self, result: Any) -> None:
        if isinstance(result, tuple | list):
            for item in result:
                self._count(item)
        if not isinstance(result, Tensor) or id(result) in self._seen:
            return
        storage = result.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        self._seen.add(id(result))
        self._views[address] = self._views.get(address, 0) + 1
        if self._views[address] == 1:
            self._now += size
            self.peak = max(self.peak, self._now)
        weakref.finalize(result, self._gone, id(result), address, size)

    def _gone(self, name: int, address: int, size: int) -> None:
        self._seen.discard(name)
        self._views[address] -= 1
        if not self._views[address]:
            del self._views[address]
            self._now -= size
