"""Run a model once more as if it had not run: what relative edits refer to is such a run.

A forward may draw random numbers, count batches, keep its last state, on the model or in a list of
its file: the run after it must not see any of that.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from grulens.errors import LeftBehindWarning
from grulens.models.restore.generators import Generators
from grulens.models.restore.interrupts import Uninterrupted, random_kept
from grulens.models.restore.keras_values import kept_values
from grulens.models.restore.reached import Reached


class untouched(Uninterrupted):  # noqa: N801 - called as a function is, in a `with`
    """Afterwards the model, what else its code can change, and random numbers are as before.

    Args:
        model: the model.
        random: whether random numbers are part of it.
        also: what else its run is given.
        told: whether a warning says what could not be put back.

    Attributes:
        lost: what could not be put back, in words.

    Warns:
        LeftBehindWarning: something could not be put back.

    >>> norm = nn.BatchNorm1d(2)
    >>> with untouched(norm):
    ...     _ = norm(torch.ones(3, 2))
    >>> norm.running_mean, int(norm.num_batches_tracked)
    (tensor([0., 0.]), 0)
    """

    lost: Sequence[str] = ()

    def __init__(
        self,
        model: nn.Module,
        *,
        random: bool = True,
        also: Iterable[object] = (),
        told: bool = True,
    ) -> None:
        self.told = told
        # attributes may be given a new value or, where they are tensors, changed in place
        scripted = [m for m in model.modules() if isinstance(m, torch.jit.ScriptModule)]
        plain = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
        self.attributes = [(module, dict(vars(module))) for module in plain]
        self.buffers = [(module._buffers, dict(module._buffers)) for module in plain]
        self.scripted = [(module._c, _script_attributes(module._c)) for module in scripted]
        held = [value for _, attributes in self.attributes for value in attributes.values()]
        held += [value for _, attributes in self.scripted for value in tree_leaves(attributes)]
        tensors = [
            *model.buffers(),
            *kept_values(model),
            *(value for value in held if isinstance(value, Tensor) and _plain(value)),
        ]
        self.values = [(tensor, tensor.clone()) for tensor in tensors]
        kept = [*(vars(module) for module in plain), *tensors]
        self.reached = Reached(model, kept, also)
        self.generators = Generators(self.reached.generators)
        devices = {p.device.index for p in model.parameters() if p.is_cuda}
        self.random: Uninterrupted = random_kept(devices=devices) if random else Uninterrupted()

    def left(self) -> list[str]:
        """The attributes that have another value since, but for weights put in place."""
        return sorted(
            {
                name
                for module, before in self.attributes
                for name in vars(module).keys() | before.keys()
                if not name.startswith(("_", "weight_", "bias_"))
                and name != "forward"
                and vars(module).get(name) is not before.get(name)
            }
        )

    def begin(self) -> None:
        self.random.begin()
        self.generators.keep()

    def end(self) -> None:
        self.random.end()
        self.generators.put_back()
        self.lost = self.reached.put_back()
        for module, before in self.attributes:
            _restore(vars(module), before)
        for held, kept in self.buffers:
            _restore(held, kept)
        for script, attributes in self.scripted:
            for name, value in attributes.items():
                script.setattr(name, value)
        with torch.no_grad():
            for tensor, value in self.values:
                # by value: batch norm's kernel counts no change; and only then, since a copy counts
                # as one, and an earlier graph may hold the buffer
                if not torch.equal(tensor, value):
                    tensor.copy_(value)
        if self.told and self.lost:
            warnings.warn(
                "a run of the model of which nothing should remain has gone by what cannot be put "
                f"back: {', '.join(self.lost)}. The next run may be another for that",
                LeftBehindWarning,
                stacklevel=2,
            )


class undone(untouched):  # noqa: N801 - called as a function is, in a `with`
    """The same, but only where it is asked for at the end.

    Args:
        model: the model.
        asked: whether it is.
    """

    def __init__(self, model: nn.Module, asked: Callable[[], bool]) -> None:
        super().__init__(model)
        self.asked = asked

    def end(self) -> None:
        if self.asked():
            super().end()


def _plain(tensor: Tensor) -> bool:
    """Whether it has values that can be compared and put back."""
    return tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_nested)


def _script_attributes(script: Any) -> dict[str, Any]:
    """What the forward of a scripted module may change: it lies in C++, in no dict of Python's."""
    kind: Any = torch._C.ConcreteModuleType.from_jit_type(script._type())
    names = kind.get_attributes()
    return {name: script.getattr(name) for name in names}


def _restore(held: dict[str, Any], before: dict[str, Any]) -> None:
    for name in held.keys() - before.keys():
        del held[name]
    held.update(before)
