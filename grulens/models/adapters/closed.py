"""Which parts of a model are opened, and which look like layers and are not, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from grulens.errors import ModelError
from grulens.models.adapters.adapter import Adapter
from grulens.models.adapters.keras import another_keras_kind, every_part, not_on_torch
from grulens.models.adapters.lookalike import how_to_register
from grulens.models.adapters.refused import why_closed
from grulens.models.adapters.register import adapter_of
from grulens.models.adapters.trial import why_not_torchs
from grulens.models.restore.keras_values import is_keras


@dataclass(frozen=True)
class Closed:
    """A part of a model that is like a recurrent layer, and that cannot be opened.

    Attributes:
        name: the module's dotted path, or "the model itself".
        kind: the module's class.
        reason: what it is, and what to do; with the name before it, a sentence.
        is_layer: whether it is a layer that is opened where nothing hinders; Keras' LSTM is none.

    >>> from grulens import layers
    >>> layers(nn.ModuleDict({"a": nn.GRU(2, 3), "b": nn.LSTM(2, 3, proj_size=1)})).closed[0].name
    'b'
    """

    name: str
    kind: str
    reason: str
    is_layer: bool = True

    def __repr__(self) -> str:
        return f"{self.name!r} {self.reason}"


WHOLE = "the model itself"


class Found(NamedTuple):
    """What a model holds.

    Attributes:
        opened: the modules that can be opened, by dotted path.
        closed: what cannot.
        adapters: how each of the opened ones is read.
    """

    opened: dict[str, nn.Module]
    closed: tuple[Closed, ...]
    adapters: dict[nn.Module, Adapter]


def look(model: Any) -> Found:
    """Every part of a model that is a recurrent layer or like one, opened or not.

    >>> look(nn.ModuleDict({"a": nn.GRU(2, 3), "b": nn.RNN(2, 3)})).opened
    {'a': GRU(2, 3), 'b': RNN(2, 3)}
    """
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise ModelError(f"expected a torch.nn.Module, got {kind}{not_on_torch(model)}")
    opened: dict[str, nn.Module] = {}
    closed: list[Closed] = []
    adapters: dict[nn.Module, Adapter] = {}
    parts, holders = set[nn.Module](), set[str]()
    every = [(module, path) for module, (path, *_) in places(model).items()]
    for module, path in every:
        if module in parts:
            continue
        name, kind = path or WHOLE, type(module).__name__
        adapter = adapter_of(module)
        if why := why_closed(module) or why_not_torchs(module, adapter):
            closed.append(Closed(name, kind, f"is {why}"))
            if isinstance(module, nn.DataParallel) or is_keras(module):
                parts.update(module.modules())
            elif type(module).__module__.startswith("torch.ao."):
                parts.update(module.modules())  # a quantized layer's cells
        elif adapter:
            opened[path], adapters[module] = module, adapter
            if not adapter.vouched:
                # what a registered module holds is a part of it, and does not run when it is edited
                parts.update(module.modules())
        elif why := another_keras_kind(module):
            closed.append(Closed(name, kind, f"is {why}", is_layer=False))
            parts.update(module.modules())  # its cells
        else:
            continue
        parts.add(module)
        holders |= _above(path)
    for module, path in reversed(every):  # the inner ones first
        # what holds a layer is no layer itself
        if path in holders or module in parts:
            continue
        if lines := how_to_register(module):
            closed.append(Closed(path or WHOLE, type(module).__name__, lines))
            holders |= _above(path)
    order = {path or WHOLE: index for index, (_, path) in enumerate(every)}
    return Found(opened, tuple(sorted(closed, key=lambda part: order[part.name])), adapters)


def places(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module of a model, and its dotted paths, the first one first."""
    found: dict[nn.Module, list[str]] = {}
    for path, module in every_part(model):
        # what torch.compile puts around a module is none of the model's own places
        plain = ".".join(part for part in path.split(".") if part != "_orig_mod")
        found.setdefault(module, []).append(plain)
    return found


def _above(path: str) -> set[str]:
    """The paths of all that holds the module at a path."""
    names = path.split(".") if path else []
    return {".".join(names[:count]) for count in range(len(names))}


def sentences(closed: Iterable[Closed]) -> list[str]:
    """What is closed in sentences, the parts of one kind and reason in one.

    >>> sentences([Closed(name, "GRU", "is scripted") for name in "abcde"])
    ["'a', 'b', 'c' and 2 more: each is scripted"]
    """
    alike: dict[str, list[str]] = {}
    for part in closed:
        alike.setdefault(part.reason, []).append(repr(part.name))
    found = []
    for reason, names in alike.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        start = names[0] if len(names) == 1 else f"{', '.join(names[:3])}{more}: each"
        found.append(f"{start} {reason}")
    return found
