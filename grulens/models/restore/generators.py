"""Random numbers that are not torch's global ones: Python's, numpy's, and a module's own."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any

import torch


class Generators:
    """Where they stand, to be put back.

    Args:
        held: what may be a generator: torch's, numpy's, or one of the module `random`.

    >>> own = torch.Generator()
    >>> generators = Generators([own])
    >>> generators.keep()
    >>> one = random.random(), torch.rand(1, generator=own)
    >>> generators.put_back()
    >>> one == (random.random(), torch.rand(1, generator=own))
    True
    """

    def __init__(self, held: Iterable[object]) -> None:
        self._held = [value for value in held if is_generator(value)]
        self._back: list[Callable[[], None]] = []

    def keep(self) -> None:
        """Note where they stand."""
        self._back = [_back(random)]
        if (numpy := sys.modules.get("numpy")) is not None:
            self._back.append(_back(numpy.random.mtrand._rand))
        self._back += [_back(value) for value in self._held]

    def put_back(self) -> None:
        """Put them back there."""
        while self._back:
            self._back.pop()()


_PLAIN = frozenset({bool, int, float, str, NoneType, dict, list, tuple, set, torch.Tensor})
"""What most attributes of a module are, and no generator is."""


def is_generator(value: object) -> bool:
    """Whether a value is a generator of random numbers: torch's, numpy's or Python's."""
    if type(value) in _PLAIN:
        return False
    return isinstance(value, torch.Generator | random.Random) or hasattr(value, "bit_generator")


def _back(generator: Any) -> Callable[[], None]:
    """What puts one back where it stands now."""
    if isinstance(generator, torch.Generator):
        state = generator.get_state()
        return lambda: _done(generator.set_state(state))
    if hasattr(generator, "bit_generator"):
        bits, stand = generator.bit_generator, generator.bit_generator.state
        return lambda: setattr(bits, "state", stand)
    if hasattr(generator, "getstate"):
        where = generator.getstate()
        return lambda: _done(generator.setstate(where))
    there = generator.get_state()
    return lambda: _done(generator.set_state(there))


def _done(_: object) -> None:
    """Nothing is left to say."""
