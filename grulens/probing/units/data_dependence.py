"""Whether what a model does next depends on the numbers it has computed.

A loop that ends when all rows are done, a branch on a mean: Python reads a value, and runs that
are done side by side would all go the way of one. Such models are run one by one.
"""

from __future__ import annotations

import sys
from types import FrameType, TracebackType
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from grulens.models.observe.reading.reading import Reading

_READS = {
    "__bool__", "__int__", "__float__", "__index__", "__complex__", "item", "tolist", "numpy",
    "__array__", "equal", "allclose", "is_nonzero",
}  # fmt: skip
_BETWEEN = (__name__, Reading.__module__, "beartype", "jaxtyping")
"""What may stand between us and the code that reads: what reads the run of an observed cell, and
where annotations are checked, what does that."""


class DataDependence(TorchFunctionMode):
    """Notes, inside a `with`, whether the user's code reads values after a module has run.

    Args:
        module: the module; None notes whatever is read, as of an observed cell, whose code may read
            its values anywhere.

    Attributes:
        found: whether it does.

    >>> import torch
    >>> rnn = nn.GRU(2, 3)
    >>> with DataDependence(rnn) as dependence:
    ...     early = bool(torch.ones(()) > 0)
    ...     first = dependence.found
    ...     done = rnn(torch.ones(4, 2))[0].mean().item() > 1
    >>> first, dependence.found
    (False, True)
    """

    def __init__(self, module: nn.Module | None = None) -> None:
        super().__init__()
        self.found, self._ran, self._module = False, module is None, module

    def __enter__(self) -> DataDependence:
        if self._module is not None:
            self._handle = self._module.register_forward_hook(self._after)
        super().__enter__()  # type: ignore[no-untyped-call]  # torch has no annotations here
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]  # as above
        if self._module is not None:
            self._handle.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if self._ran and getattr(func, "__name__", "") in _READS and _called_by_user():
            self.found = self.found or any(isinstance(value, Tensor) for value in args)
        return func(*args, **(kwargs or {}))

    def _after(self, *_: object) -> None:
        self._ran = True


def _called_by_user() -> bool:
    """Whether the code that reads is none of grulens' own."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _name(frame).startswith(_BETWEEN):
        frame = frame.f_back
    return not _name(frame).startswith("grulens.")


def _name(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
