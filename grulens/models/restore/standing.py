"""What a model is at one moment, so that a change is noticed before two runs are compared.

Torch counts what is written to a tensor, but not what is written past it: through `.data`, a numpy
view, or the kernel of a fused optimizer. So values are looked at, too: all of them in a model of up
to a million numbers, every k-th in a larger one. What no look can find is a change, past torch's
count, of a few numbers of a large model that lie between those, and what is no tensor, number or
text and is changed in place (a list, an object of the user's).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import ContextVar, Token
from typing import Any, Final
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy as unmade

from grulens.errors import WeightsChangedError
from grulens.models.restore import added
from grulens.models.restore.interrupts import Uninterrupted
from grulens.models.restore.mode import acts
from grulens.models.restore.versions import version

#: So many numbers of a model are kept and looked at again: a few milliseconds.
LOOK: Final = 2**20

CHANGED: Final = "the model has changed since this run: run it again to compare"

#: What a forward writes to, torch's own bookkeeping aside, where it is one of these.
PLAIN: Final = (int, float, complex, str, bytes, type(None))


class Standing:
    """A model's weights, buffers and mode, and what its modules keep, as they are now.

    Args:
        model: the model; it is not kept.
        mode: whether training mode is part of it.

    Attributes:
        lazy: whether it had weights that its first forward makes.

    >>> model = nn.GRU(2, 3)
    >>> standing = Standing(model)
    >>> standing.same_weights(model)
    True
    >>> _ = model.weight_hh_l0.data.mul_(2)
    >>> standing.same_weights(model)
    False
    """

    def __init__(self, model: nn.Module, *, mode: bool = True) -> None:
        self.mode = mode
        with torch.no_grad():
            self._weights = _Looked(_weights(model))
            # what a run writes to a buffer is put back after it, and that counts as a write
            self._buffers = _Looked(_buffers(model), counted=False)
        self._modes = _modes(model, mode)
        self._kept = list(_attributes(model))
        self.lazy = is_lazy(model)

    def same_weights(self, model: nn.Module) -> bool:
        """Whether weights, buffers, modules and mode are what they were."""
        with torch.no_grad():
            return (
                self._modes == _modes(model, self.mode)
                and self._weights.same(_weights(model))
                and self._buffers.same(_buffers(model))
            )

    def same(self, model: nn.Module) -> bool:
        """Whether what the modules keep besides, a last state, say, is what it was, too."""
        if not self.same_weights(model):
            return False
        now = list(_attributes(model))
        return len(now) == len(self._kept) and all(
            name == other and _alike(value, kept)
            for (name, value), (other, kept) in zip(now, self._kept, strict=True)
        )


_expected: ContextVar[Standing | None] = ContextVar("standing", default=None)


class expecting(Uninterrupted):  # noqa: N801 - called as a function is, in a `with`
    """Runs that leave nothing behind are of this model only as it stood, inside the block.

    Args:
        standing: how it stood.
    """

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self._token: Token[Standing | None] | None = None

    def begin(self) -> None:
        self._token = _expected.set(self.standing)

    def end(self) -> None:
        if self._token is not None:
            _expected.reset(self._token)


def is_lazy(model: nn.Module) -> bool:
    """Whether a model has weights that its first forward makes."""
    return any(map(unmade, (*model.parameters(), *model.buffers())))


def check_expected(model: nn.Module) -> None:
    """Raise WeightsChangedError if a run is to be of a model that stands otherwise now."""
    standing = _expected.get()
    if standing is not None and not standing.same_weights(model):
        raise WeightsChangedError(CHANGED)


class _Looked:
    """Tensors by name: which they are, how often they were written to, and some of their values."""

    def __init__(self, named: Iterable[tuple[str, Tensor]], *, counted: bool = True) -> None:
        named = list(named)
        self.counted = counted
        self.every = max(1, -(-sum(_count(t) for _, t in named) // LOOK))
        self.kept = [(name, ref(t), self._sign(t), self._some(t, keep=True)) for name, t in named]

    def same(self, named: Iterable[tuple[str, Tensor]]) -> bool:
        """Whether these are the same, unchanged."""
        named = list(named)
        return len(named) == len(self.kept) and all(
            name == other and tensor is that() and self._sign(tensor) == sign
            and _equal(self._some(tensor), some)
            for (name, tensor), (other, that, sign, some) in zip(named, self.kept, strict=True)
        )  # fmt: skip

    def _sign(self, tensor: Tensor) -> tuple[object, ...]:
        if unmade(tensor):
            return ("lazy",)
        try:
            place = tensor.data_ptr()
        except RuntimeError:  # a tensor without a storage of its own
            place = 0
        written = version(tensor) if self.counted else None
        return place, written, tuple(tensor.shape), tensor.dtype, tensor.device

    def _some(self, tensor: Tensor, *, keep: bool = False) -> Tensor | None:
        """Every k-th of its values; None where they cannot be looked at."""
        if unmade(tensor):
            return None
        try:
            some = tensor.detach().reshape(-1)[:: self.every]
            return some.clone() if keep else some
        except (RuntimeError, NotImplementedError, TypeError):
            return None


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return model.named_parameters(remove_duplicate=False)


def _buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return model.named_buffers(remove_duplicate=False)


def _modes(model: nn.Module, mode: bool) -> list[tuple[object, ...]]:
    """Each module by name and kind, its mode, and which hooks of its own it has."""
    return [
        (
            name, id(module), mode and acts(module),
            *map(added.of_others, (module._forward_pre_hooks, module._forward_hooks)),
        )
        for name, module in model.named_modules()
    ]  # fmt: skip


def _attributes(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """What modules keep that is no weight and no buffer: numbers, texts and tensors."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                yield f"{path}.{name}", value.detach().clone() if _count(value) <= LOOK else value
            elif isinstance(value, PLAIN) and name != "training":
                yield f"{path}.{name}", value


def _count(tensor: Tensor) -> int:
    return 0 if unmade(tensor) else tensor.numel()


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return one is other or (
            isinstance(one, Tensor) and isinstance(other, Tensor) and _equal(one, other)
        )
    return type(one) is type(other) and repr(one) == repr(other)  # NaN is like NaN


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors hold the same values, NaN like NaN."""
    if one is None or other is None:
        return one is other
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    try:
        if torch.equal(one, other):
            return True
        return bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())
    except (RuntimeError, NotImplementedError):
        return False
