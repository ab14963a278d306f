"""Which GRU layers a model holds, by name; and a clear refusal of those it cannot open."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from grulens.errors import LayerError, ModelError, NoGRUError, UnsupportedGRUError
from grulens.gru.cell import Cell
from grulens.models.adapters import Adapter
from grulens.models.calls import Key
from grulens.models.lookalike import how_to_register
from grulens.models.register import adapter_of
from grulens.models.summary import html_table


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
    """

    name: str
    kind: str
    input_size: int
    hidden_size: int
    direction: str
    convention: str = "reset after the product"


class Layers(tuple[Layer, ...]):
    """The layers of a model, in the order in which the model holds them."""

    __slots__ = ()

    def __repr__(self) -> str:
        lines = [
            f"{layer.name}: {layer.kind}, input {layer.input_size}, hidden {layer.hidden_size}, "
            f"{layer.direction}, {layer.convention}"
            for layer in self
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = ("layer", "kind", "input", "hidden", "direction", "convention")
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
    return Layers(
        Layer(
            name,
            type(module).__name__,
            cell.input_size,
            cell.hidden_size,
            "reverse" if key[1] else "forward",
            cell.convention,
        )
        for path, module in find(model).items()
        for key, (name, cell) in named(path, module).items()
    )


def find(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model that hold a GRU, by dotted path ("" is the model itself)."""
    if not isinstance(model, nn.Module):
        raise ModelError(f"expected a torch.nn.Module, got {type(model).__name__}")
    found: dict[str, nn.Module] = {}
    refused, parts = [], set[nn.Module]()
    for path, module in model.named_modules():
        adapter = adapter_of(module)
        if module in parts:
            continue
        if adapter is not None and not (why := _refusal(module)):
            found[path] = module
            if not adapter.vouched:
                # what a registered module holds is a part of it, and does not run when it is edited
                parts.update(module.modules())
        elif why := _refusal(module):
            refused.append(f"{path or 'the model itself'!r} is {why}")
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


def check_layer(name: str, known: list[str], where: str = "is not in this model; it has") -> None:
    """Raise LayerError unless `name` is one of `known`."""
    if name not in known:
        raise LayerError(f"layer {name!r} {where} {', '.join(known) or 'none'}")


def _refusal(module: nn.Module) -> str | None:
    """Why this module looks like a GRU and cannot be opened, or None."""
    if isinstance(module, torch.jit.ScriptModule):
        if getattr(module, "original_name", "") in ("GRU", "GRUCell"):
            return (
                "a scripted GRU, whose code no longer runs in Python: use the model as it was "
                "before torch.jit.script or torch.jit.trace"
            )
        return None
    kind = type(module)
    if kind.__module__.startswith("torch.ao.") and kind.__name__ in ("GRU", "GRUCell"):
        return "a quantized GRU, whose weights are integers: use the float model it was made from"
    if adapter_of(module) is None:
        for base in (nn.GRU, nn.GRUCell):
            if isinstance(module, base):
                return (
                    f"a {kind.__name__}, a subclass of nn.{base.__name__} with a forward of its "
                    "own, which may compute something else: use the plain class, or say what it "
                    "computes with grulens.register"
                )
    return None
