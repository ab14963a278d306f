"""Training mode: what of a model acts in it, and runs that are in eval whatever the model is in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from grulens.models.restore.interrupts import Uninterrupted

# torch names its base classes with an underscore, and has no other word for "any dropout"
_DROPOUT: tuple[type[nn.Module], ...] = (nn.modules.dropout._DropoutNd,)
_NORM: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.modules.instancenorm._InstanceNorm,
)

_eval_wanted: ContextVar[bool] = ContextVar("in_eval", default=False)


def in_training(model: nn.Module) -> str:
    """What acts otherwise than in eval, in words; "" where nothing does.

    >>> in_training(nn.Sequential(nn.Dropout(0.5), nn.GRU(2, 3)))
    'training mode: dropout is on'
    >>> in_training(nn.GRU(2, 3)), in_training(nn.Dropout(0.5).eval())
    ('', '')
    """
    on = [module for module in model.modules() if acts(module)]
    parts = []
    if any(_drops(module) or "dropout" in _names(module) for module in on):
        parts.append("dropout is on")
    if any(isinstance(module, _NORM) for module in on):
        parts.append("normalisation reads the batch")
    others = {type(module).__name__ for module in on if _names(module)}
    if others and not parts:
        parts.append(f"{', '.join(sorted(others))} may act otherwise in it")
    return f"training mode: {', '.join(parts)}" if parts else ""


def acts(module: nn.Module) -> bool:
    """Whether a module, with what it holds left out, is in training mode and acts on it."""
    if not module.training:
        return False
    return _drops(module) or isinstance(module, _NORM) or bool(_names(module))


def _drops(module: nn.Module) -> bool:
    rate: Any = getattr(module, "p", 0) if isinstance(module, _DROPOUT) else 0
    if isinstance(module, nn.RNNBase) and module.num_layers > 1:
        rate = module.dropout
    return isinstance(rate, int | float) and rate > 0


def _names(module: nn.Module) -> frozenset[str]:
    return _names_in(type(module).__mro__)


@cache
def _names_in(kinds: tuple[type, ...]) -> frozenset[str]:
    """What classes that are not torch's own read in their code, where the mode is part of that."""
    found: set[str] = set()
    for base in kinds:
        if not base.__module__.startswith("torch."):
            codes = [m.__code__ for m in vars(base).values() if isinstance(m, FunctionType)]
            while codes:
                code = codes.pop()
                found |= set(code.co_names)
                codes += [part for part in code.co_consts if isinstance(part, CodeType)]
    return frozenset(found & {"training", "dropout"}) if "training" in found else frozenset()


class evaluated(Uninterrupted):  # noqa: N801 - called as a function is, in a `with`
    """Every module is in eval mode inside the block, and afterwards in the mode it was in.

    Only the flags are set: what a model's own `train` does besides (it may freeze a part, or fold
    weights into others) is not done and needs no undoing. They are the model's own, so a forward in
    another thread would see them meanwhile.

    >>> model = nn.Sequential(nn.Dropout(), nn.Linear(1, 1).eval())
    >>> with evaluated(model):
    ...     print(model.training, model[0].training)
    False False
    >>> model.training, model[0].training, model[1].training
    (True, True, False)
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._on: list[nn.Module] = []

    def begin(self) -> None:
        for module in self.model.modules():
            if module.training:
                self._on.append(module)
                module.training = False

    def end(self) -> None:
        while self._on:
            self._on.pop().training = True


class in_eval(Uninterrupted):  # noqa: N801 - called as a function is, in a `with`
    """Runs that leave nothing behind are in eval mode in this thread, inside the block."""

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self._token: Token[bool] | None = None

    def begin(self) -> None:
        self._token = _eval_wanted.set(self.wanted)

    def end(self) -> None:
        if self._token is not None:
            _eval_wanted.reset(self._token)


def mode_for_run(model: nn.Module) -> AbstractContextManager[object]:
    """The mode for one run: eval where `in_eval` asks for it, else the model's own."""
    return evaluated(model) if _eval_wanted.get() else nullcontext()
