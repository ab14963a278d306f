"""Which GRU layers a model holds, by name; and a clear refusal of those it cannot open."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import nn

from grulens.errors import LayerError, ModelError, NoGRUError, UnsupportedGRUError, shown
from grulens.gru.cell import Cell
from grulens.models.adapters import Adapter
from grulens.models.calls import Key
from grulens.models.lookalike import how_to_register
from grulens.models.parametrized import only_looked_at
from grulens.models.refused import why_closed
from grulens.models.register import adapter_of
from grulens.tables import html_table


@dataclass(frozen=True)
class Layer:
    """One direction of one GRU layer.

    Attributes:
        name: the module's dotted path and torch's own suffix; for a module that is called step by
            step its path alone.
        kind: the module's class.
        input_size: number of inputs.
        hidden_size: number of units.
        direction: "forward" or "reverse".
        convention: where the reset gate acts, and activations that are not torch's.
        also: the other names that it would have, where a model holds its module at several places.
    """

    name: str
    kind: str
    input_size: int
    hidden_size: int
    direction: str
    convention: str = "reset after the product"
    also: str = ""


class Layers(tuple[Layer, ...]):
    """The layers of a model, in the order in which the model holds them."""

    __slots__ = ()

    def __repr__(self) -> str:
        lines = [
            f"{layer.name}: {layer.kind}, input {layer.input_size}, hidden {layer.hidden_size}, "
            f"{layer.direction}, {layer.convention}{layer.also and f'; also {layer.also}'}"
            for layer in self
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = ("layer", "kind", "input", "hidden", "direction", "convention", "also")
        return html_table(head, [tuple(vars(layer).values()) for layer in self])


def layers(model: nn.Module) -> Layers:
    """The GRU layers of a model: one item per layer and direction, each with a `.name`.

    Raises:
        NoGRUError: the model holds none; the message says what it holds.
        UnsupportedGRUError: it holds only GRUs that cannot be opened, or a class that looks like a
            GRU and is not registered.
        AdapterError: the adapter of a registered class does not fit it.
        ModelError: it is no `torch.nn.Module`.

    >>> layers(nn.GRU(3, 4, num_layers=2))
    l0: GRU, input 3, hidden 4, forward, reset after the product
    l1: GRU, input 4, hidden 4, forward, reset after the product
    >>> [layer.name for layer in layers(nn.ModuleDict({"rnn": nn.GRU(3, 4, bidirectional=True)}))]
    ['rnn.l0', 'rnn.l0_reverse']
    """
    held = find(model)
    places = _places(model)
    return Layers(
        Layer(
            name,
            type(module).__name__,
            cell.input_size,
            cell.hidden_size,
            "reverse" if key[1] else "forward",
            cell.convention,
            ", ".join(named(other, module)[key][0] for other in places[module][1:]),
        )
        for path, module in held.items()
        for key, (name, cell) in named(path, module).items()
    )


def find(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model that hold a GRU, by dotted path ("" is the model itself)."""
    if not isinstance(model, nn.Module):
        raise ModelError(f"expected a torch.nn.Module, got {type(model).__name__}")
    found: dict[str, nn.Module] = {}
    refused, parts = [], set[nn.Module]()
    for module, (path, *_) in _places(model).items():
        if module in parts:
            continue
        if why := _refusal(module):
            refused.append(f"{path or 'the model itself'!r} is {why}")
            if isinstance(module, nn.DataParallel):
                parts.update(module.modules())
        elif adapter := adapter_of(module):
            found[path] = module
            if not adapter.vouched:
                # what a registered module holds is a part of it, and does not run when it is edited
                parts.update(module.modules())
    if found:
        return found
    if refused:
        raise UnsupportedGRUError("; ".join(refused))
    for path, module in model.named_modules():
        lines = how_to_register(path, module)
        if lines:
            raise UnsupportedGRUError(lines)
    kinds = Counter(type(module).__name__ for module in model.modules() if module is not model)
    inside = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(6)) or "no other module"
    raise NoGRUError(
        f"this model ({type(model).__name__}) holds no nn.GRU and no nn.GRUCell; it holds {inside}"
    )


def named(path: str, module: nn.Module) -> dict[Key, tuple[str, Cell]]:
    """The layers of one module, name and cell, by (level, direction); direction 1 is reverse."""
    adapter = known(module)
    with only_looked_at(module):
        cells = adapter.cells_of(module)
    if not adapter.sequence:
        return {key: (path or "cell", cell) for key, cell in cells.items()}
    prefix = f"{path}." if path else ""
    return {
        (level, direction): (f"{prefix}l{level}{'_reverse' if direction else ''}", cell)
        for (level, direction), cell in cells.items()
    }


def known(module: nn.Module) -> Adapter:
    """The adapter of a module that `find` found."""
    adapter = adapter_of(module)
    if adapter is None:
        raise UnsupportedGRUError(f"{type(module).__name__} is not registered (any more)")
    return adapter


def check_layer(
    name: Any,
    known: list[str],
    where: str = "is not in this model; it has",
    model: nn.Module | None = None,
) -> None:
    """Raise LayerError unless `name` is one of `known`; with a `model`, say if it is another's."""
    if not isinstance(name, str) or name not in known:
        if isinstance(name, str) and model is not None and (other := other_name(model, name)):
            raise LayerError(
                f"layer {name!r} is layer {other!r}: the model holds one module at both places; "
                "use that name"
            )
        raise LayerError(f"layer {shown(name)} {where} {', '.join(known) or 'none'}")


def other_name(model: nn.Module, name: str) -> str | None:
    """The name by which a layer goes that a model holds at `name` too, or None."""
    for layer in layers(model):
        if name in layer.also.split(", "):
            return layer.name
    return None


def _places(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module of a model, and its dotted paths, the first one first."""
    found: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        # what torch.compile puts around a module is none of the model's own places
        plain = ".".join(part for part in path.split(".") if part != "_orig_mod")
        found.setdefault(module, []).append(plain)
    return found


def _refusal(module: nn.Module) -> str | None:
    """Why this module looks like a GRU and cannot be opened, or None."""
    if why := why_closed(module):
        return why
    kind = type(module)
    if adapter_of(module) is None:
        for base in (nn.GRU, nn.GRUCell):
            if isinstance(module, base):
                return (
                    f"a {kind.__name__}, a subclass of nn.{base.__name__} with a forward of its "
                    "own, which may compute something else: use the plain class, or say what it "
                    "computes with grulens.register"
                )
    return None
