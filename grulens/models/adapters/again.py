"""The arguments with which a module is called once more, from other states.

An edited run goes where its module has not been, since its cells run in its place. To compare the
two there, the module is called from the states of the edited run. How it takes them, only its
adapter knows, and that says it the other way round: from arguments to input and state. So the
tensors that it read them from are replaced, and it is asked whether it now reads the new ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

Arguments = Callable[..., Any]
"""From a module and the arguments of its forward to x and h_0."""


def replaced(
    arguments: Arguments,
    module: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    x: Tensor,
    h_0: Tensor,
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Arguments that are read as x and h_0, or None where no such are found.

    Args:
        arguments: reads them.
        module: the module, for `arguments`.
        args: those of a call.
        kwargs: its named ones.
        x: (step, 1, input).
        h_0: (level and direction, step, unit).

    >>> def read(module, x, *, start=None):          # takes time first
    ...     return x.transpose(0, 1), start
    >>> x, h_0 = torch.ones(4, 1, 3), torch.ones(1, 4, 2)
    >>> args, kwargs = replaced(read, None, (torch.zeros(7, 2, 3),), {}, x, h_0)
    >>> args[0].shape, list(kwargs)
    (torch.Size([1, 4, 3]), ['start'])
    """
    was_x, was_h = arguments(module, *args, **kwargs)
    leaves, spec = tree_flatten((args, kwargs))
    tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    of_x = [i for i in tensors if _one_memory(leaves[i], was_x)]
    of_h = [i for i in tensors if _one_memory(leaves[i], was_h)]
    if len(of_x) != 1 or len(tensors) != 1 + len(of_h) or len(of_h) > 1:
        return None  # what else it takes, and how that goes with other steps, is not known
    for new_x in (x, x.transpose(0, 1)):
        for new_h in (h_0, h_0.transpose(0, 1), h_0[0]):
            leaves[of_x[0]] = new_x
            for place in of_h:
                leaves[place] = new_h
            more, named = tree_unflatten(leaves, spec)
            free = [{}] if of_h else [{name: new_h} for name in _free(arguments, more, named)]
            for one in free:
                if _reads(arguments, module, more, named | one, (x, h_0)):
                    return more, named | one
    return None


def _one_memory(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    return one.data_ptr() == other.data_ptr() and one.numel() == other.numel()


def _free(arguments: Arguments, args: Any, kwargs: Any) -> Iterator[str]:
    """The names of the parameters that a call leaves to their defaults."""
    signature = inspect.signature(arguments)
    bound = signature.bind(None, *args, **kwargs).arguments
    for name, parameter in signature.parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and bound.get(name) is None:
            yield name


def _reads(arguments: Arguments, module: Any, args: Any, kwargs: Any, to: Any) -> bool:
    try:
        read = arguments(module, *args, **kwargs)
    except Exception:
        return False
    return all(
        isinstance(one, Tensor) and one.shape == other.shape and torch.equal(one, other)
        for one, other in zip(read, to, strict=True)
    )
