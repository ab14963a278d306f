"""Whether what a model does next depends on the numbers it has computed.

A loop that ends when all rows are done, a branch on a mean: Python looks at a value, and runs done
side by side would all go the way of one. Such models are run one by one.
"""

from __future__ import annotations

import sys
from types import FrameType, TracebackType
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_LOOKS = {
    "__bool__", "__int__", "__float__", "__index__", "__complex__", "item", "tolist", "numpy",
    "__array__", "equal", "allclose", "is_nonzero",
}  # fmt: skip
_BETWEEN = (__name__, "beartype", "jaxtyping")
"""What may stand between us and whoever looks: where annotations are checked, those who do."""


class Looks(TorchFunctionMode):
    """Notes, inside a `with`, whether code of the user's looks at values after a module has run.

    Args:
        module: the module.

    Attributes:
        seen: whether it does.

    >>> import torch
    >>> rnn = nn.GRU(2, 3)
    >>> with Looks(rnn) as looks:
    ...     early = bool(torch.ones(()) > 0)
    ...     first = looks.seen
    ...     done = rnn(torch.ones(4, 2))[0].mean().item() > 1
    >>> first, looks.seen
    (False, True)
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.seen, self._ran, self._module = False, False, module

    def __enter__(self) -> Looks:
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
        self._handle.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if self._ran and getattr(func, "__name__", "") in _LOOKS and _is_users():
            self.seen = self.seen or any(isinstance(value, Tensor) for value in args)
        return func(*args, **(kwargs or {}))

    def _after(self, *_: object) -> None:
        self._ran = True


def _is_users() -> bool:
    """Whether the code that asks is none of grulens' own."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _name(frame).startswith(_BETWEEN):
        frame = frame.f_back
    return not _name(frame).startswith("grulens.")


def _name(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
