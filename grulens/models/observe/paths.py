"""Which module's forward runs at the moment, by its dotted path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from grulens.models.restore import added


class Paths:
    """Follows a model's modules while they run.

    Args:
        modules: those to follow, by dotted path.

    Attributes:
        now: the path of the module that runs; "" outside them all, and in the model itself.
        calls: how often each module has been called.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.now = ""
        self.calls: dict[str, int] = dict.fromkeys(modules, 0)
        self._modules = modules
        self._above: list[str] = []

    def follow(self) -> Iterator[Callable[[], None]]:
        """Stand at every module; each thing that is done comes with what undoes it."""
        for path, module in self._modules.items():
            before = module.register_forward_pre_hook(self._enter(path), prepend=True)
            yield added.hook(module, before)
            after = module.register_forward_hook(self._leave, always_call=True)
            yield added.hook(module, after)

    def _enter(self, path: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any) -> None:
            self._above.append(self.now)
            self.now = path
            self.calls[path] += 1

        return enter

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self.now = self._above.pop() if self._above else ""
