"""Where a run that keeps its graph hands numbers on without it, and what is made of these.

A share that the code mixes under `torch.no_grad()`, or takes through `.detach()`, is in the state
and not in its graph: a derivative by autograd leaves it out without a word.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from os.path import basename
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from grulens.models.observe.sites import innermost
from grulens.models.observe.trace import name_of, writes

_FUNCTIONS = torch.autograd.function.__file__
NEWEST = 64
"""So many of the cuts that reach a tensor are known, the last ones."""


@dataclass(frozen=True, eq=False)
class Cut:
    """One call that gave numbers without a graph for what had one.

    Attributes:
        given: what it was given that is part of the graph.
        where: it and its line, in words.
    """

    given: tuple[Tensor, ...]
    where: str


class Cuts(TorchFunctionMode):
    """The cuts of a run, and which tensors are made of what they gave.

    What is handed on as a number of Python's (`.item()`), or by code that calls no modes (a custom
    autograd function, a script), is not followed.

    Args:
        end: the code that begins the run.

    >>> weight = torch.ones(2, requires_grad=True) * 1
    >>> with (cuts := Cuts((lambda: None).__code__)):
    ...     made = weight + weight.detach()
    >>> cuts.between([made], [weight])[:6], cuts.between([weight * 2], [weight])
    ('detach', '')
    """

    def __init__(self, end: CodeType) -> None:
        super().__init__()
        self._end = end
        self._cuts: list[Cut] = []
        self._reached: MutableMapping[Tensor, frozenset[int]] = WeakTensorKeyDictionary()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [one for one in _tensors((*args, *kwargs.values())) if one.is_floating_point()]
        alive = tuple(one for one in given if one.requires_grad and not _is_weight(one))
        result = func(*args, **kwargs)
        if not given or not (alive or len(self._reached)):
            return result
        name = name_of(func)
        made = [one for one in _tensors((result,)) if one.is_floating_point()]
        if writes(name):
            made += [one for one in given[:1] if all(one is not other for other in made)]
        if not made or _makes_anew(name):
            return result
        cuts: set[int] = set()
        for one in given:
            cuts |= self._reached.get(one, frozenset())
        if alive and not any(one.requires_grad for one in made) and not _has_its_own(self._end):
            cuts.add(len(self._cuts))
            self._cuts.append(Cut(alive, self._said(name)))
        if cuts:
            for one in made:
                self._reached[one] = frozenset(sorted(cuts)[-NEWEST:])
        return result

    def _said(self, name: str) -> str:
        frame = innermost(sys._getframe(2), self._end)
        name = name.strip("_")
        if frame is None:
            return name
        return f"{name}, line {frame.f_lineno} of {basename(frame.f_code.co_filename)}"

    def between(self, after: Sequence[Tensor], before: Sequence[Tensor]) -> str:
        """Where numbers of some tensors go into others without their graph; "" if they do not.

        Args:
            after: the others.
            before: they; those that are part of the graph count.
        """
        numbers = {one for tensor in after for one in self._reached.get(tensor, ())}
        asked = [one for one in before if one.requires_grad]
        for number in sorted(numbers) if asked else ():
            cut: Cut = self._cuts[number]
            # what was cut in its place is no part of the graph any more, and nobody can ask
            if any(not one.requires_grad or _is_made_of(one, asked) for one in cut.given):
                return cut.where
        return ""


def _is_made_of(value: Tensor, before: Sequence[Tensor]) -> bool:
    found = torch.autograd.grad(
        value, before, torch.ones_like(value), retain_graph=True, allow_unused=True
    )
    return any(one is not None for one in found)


def _has_its_own(end: CodeType) -> bool:
    """Whether the forward of a custom autograd function runs, which gives a derivative itself."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not end:
        if frame.f_code.co_filename == _FUNCTIONS:
            return True
        frame = frame.f_back
    return False


def _is_weight(one: Tensor) -> bool:
    return one.is_leaf and isinstance(one, nn.Parameter)


def _makes_anew(name: str) -> bool:
    """Whether a function makes numbers out of none of those that it is given."""
    return name.endswith("_like") or (name.startswith("new_") and name != "new_tensor")


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for one in values:
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, tuple | list):
            yield from _tensors(one)
