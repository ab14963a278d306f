"""Which run a call belongs to: a run is one outermost call into the model.

It may be the model itself that is called, one of its methods, or a part of it. Where grulens makes
the call, it knows. In a block of the user's own it looks at the stack: the outermost frame that is
a method of the model or of one of its parts is the run, for as long as that frame lives.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from grulens.models.call.segment import Segment
    from grulens.models.recording import Recording

_CALLS = {method.__code__ for method in (nn.Module._wrapped_call_impl, nn.Module._call_impl)}
SUSPENDED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


@dataclass(eq=False)
class Outermost:
    """One run while it is under way.

    Attributes:
        again: makes the same call once more; None where nobody knows how.
        alone: whether it is the call of a recurrent module itself, so that there is no other call.
        grad: torch's grad mode when it began.
        thread: where it runs.
        versions: how often each parameter of the model had been changed in place when it began.
        unedited: what its relative edits refer to.
        steps: how many steps each layer has run so far, by layer and number of rows.
        segments: what was recorded so far, by layer.
    """

    again: Callable[[], object] | None = None
    alone: bool = False
    grad: bool = field(default_factory=torch.is_grad_enabled)
    thread: int = field(default_factory=threading.get_ident)
    versions: Sequence[int | None] = ()
    unedited: Recording | None = None
    steps: dict[tuple[str, int], int] = field(default_factory=dict)
    segments: dict[str, list[Segment]] = field(default_factory=dict)

    def start(self, layer: str, rows: int) -> int:
        """The position of the next call's first step on the time axis of a layer."""
        return self.steps.get((layer, rows), 0)

    def passed(self, layer: str, rows: int, steps: int) -> None:
        """Move the time axis of a layer on."""
        self.steps[layer, rows] = self.start(layer, rows) + steps

    def length(self, layer: str) -> int:
        """How many steps a layer has run; the most, where its number of rows changed."""
        return max((n for (name, _), n in self.steps.items() if name == layer), default=0)


def stack() -> set[FrameType]:
    """The frames of the code that runs."""
    frames = set()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        frames.add(frame)
        frame = frame.f_back
    return frames


def outermost(inside: Container[nn.Module], outside: Container[FrameType] = ()) -> FrameType | None:
    """The outermost frame on this stack that is a method of one of some modules, or None.

    Args:
        inside: the modules.
        outside: frames that do not count.
    """
    found = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame not in outside and _enters(frame, inside):
            found = frame
        frame = frame.f_back
    return found


def called(frame: FrameType | None) -> nn.Module | None:
    """The module whose ordinary call, `module(...)`, a frame is; or None."""
    if frame is None or not (frame.f_code in _CALLS or frame.f_code.co_name == "__call__"):
        return None
    module = frame.f_locals.get(frame.f_code.co_varnames[0])
    return module if isinstance(module, nn.Module) else None


def on_stack(frames: Container[FrameType]) -> FrameType | None:
    """The outermost of some frames that is on this stack, or None."""
    found = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame in frames:
            found = frame
        frame = frame.f_back
    return found


def may_go_on(frame: FrameType) -> bool:
    """Whether a frame that is not on the stack may come back: a generator's, or a coroutine's."""
    return bool(frame.f_code.co_flags & SUSPENDED)


def _enters(frame: FrameType, inside: Container[nn.Module]) -> bool:
    code = frame.f_code
    if not code.co_argcount:
        return False
    name = code.co_varnames[0]
    # to read a frame's variables costs more than to look at its code
    if name != "self" and "." not in code.co_qualname:
        return False
    first = frame.f_locals.get(name)
    if not isinstance(first, nn.Module) or first not in inside:
        return False
    return name == "self" or _is_method(code, type(first))


def _is_method(code: CodeType, kind: type[Any]) -> bool:
    """Whether a function was written as a method of a class or of one above it."""
    return code.co_qualname.rpartition(".")[0] in {base.__qualname__ for base in kind.__mro__}
