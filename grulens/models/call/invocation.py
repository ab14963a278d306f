"""How a run is asked for: the way into the model, and the arguments that go in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from grulens.errors import RecordingError, shown

Given = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments, positional and named."""


def arguments(args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Any = None) -> Given:
    """The arguments of a run: those given one by one, or both kinds in `inputs`.

    Args:
        args: positional ones.
        kwargs: named ones.
        inputs: (args, kwargs), for a model whose own names are also those of an option; None.

    >>> arguments((1,), {"n": 2}), arguments((), {}, ((1,), {"labels": 2}))
    (((1,), {'n': 2}), ((1,), {'labels': 2}))

    Raises:
        RecordingError: `inputs` is no such pair, or stands beside others.
    """
    if inputs is None:
        return args, kwargs
    if args or kwargs:
        raise RecordingError(
            "inputs=(args, kwargs) holds all arguments of the model; got others beside it: "
            f"{shown((*args, *kwargs))}"
        )
    pair = isinstance(inputs, tuple | list) and len(inputs) == 2
    if not pair or not isinstance(inputs[0], tuple | list) or not isinstance(inputs[1], Mapping):
        raise RecordingError(
            "inputs must be (args, kwargs): a tuple of the model's positional arguments and a dict "
            f"of its named ones, such as inputs=((x,), {{'labels': y}}); got {shown(inputs)}"
        )
    return tuple(inputs[0]), dict(inputs[1])


def fresh(value: Any) -> Any:
    """The same arguments in tensors of their own: what a model does to them stays in that run.

    >>> import torch
    >>> x = torch.zeros(1)
    >>> (y,), _ = fresh(((x,), {}))
    >>> y.add_(1), x
    (tensor([1.]), tensor([0.]))
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (tuple, list):
        return type(value)(fresh(part) for part in value)
    if type(value) is dict:
        return {name: fresh(part) for name, part in value.items()}
    return value


def copied(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call on arguments of its own, if it is one on arguments."""
    if not isinstance(call, partial):
        return call
    return partial(call.func, *fresh(call.args), **fresh(call.keywords))


def way_in(model: Any, call: Any = None) -> Callable[..., Any]:
    """What is called: the model itself, or its method or part of a name, such as "generate".

    Raises:
        RecordingError: it has none of that name, or the name is a private one.
    """
    if call is None:
        return model  # type: ignore[no-any-return]  # a Module: whoever records it says if it is none
    if not isinstance(call, str):
        raise RecordingError(
            f"call must be the name of a method of the model, such as 'generate', got {shown(call)}"
        )
    if private := [name for name in call.split(".") if name.startswith("_")]:
        has = ", ".join(methods(model))
        raise RecordingError(
            f"call must be a public name, and {private[0]!r} begins with an underscore; "
            f"{type(model).__name__} has {has}"
        )
    found = model
    for name in call.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        has = ", ".join(methods(model))
        raise RecordingError(f"{type(model).__name__} has no method or part {call!r}; it has {has}")
    return found  # type: ignore[no-any-return]  # just seen to be callable


def positional(model: Any, call: Any = None) -> list[str]:
    """The names of what a run takes by place; none where it is written in C and does not say.

    >>> from torch import nn
    >>> positional(nn.GRU(2, 3))
    ['input', 'hx']
    """
    entry = way_in(model, call)
    try:
        known = inspect.signature(getattr(entry, "forward", entry))
    except (TypeError, ValueError):
        return []
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [one.name for one in known.parameters.values() if one.kind in kinds]


def methods(model: Any) -> list[str]:
    """The public methods that a model has of its own.

    >>> methods(nn.Linear(2, 3))
    ['extra_repr', 'forward', 'reset_parameters']
    """
    own = type(model).__mro__
    own = own[: own.index(nn.Module)] if nn.Module in own else own[:1]
    return sorted({
        name
        for kind in own
        for name, value in vars(kind).items()
        if callable(value) and not name.startswith("_")
    })  # fmt: skip


def invocation(model: nn.Module, given: Given, call: Any = None) -> Callable[[], Any]:
    """The call that is a run; it may be made any number of times."""
    return partial(way_in(model, call), *given[0], **given[1])
