"""Which GRU layers a model holds, by name; and a clear refusal of those it cannot open."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from grulens.errors import LayerError, ModelError, NoGRUError, UnsupportedGRUError
from grulens.models.summary import html_table

GRU = nn.GRU | nn.GRUCell


@dataclass(frozen=True)
class Layer:
    """One direction of one GRU layer.

    Attributes:
        name: the module's dotted path and torch's own suffix; for a cell its path alone.
        kind: "GRU" or "GRUCell".
        input_size: number of inputs.
        hidden_size: number of units.
        direction: "forward" or "reverse".
        convention: where the reset gate acts.
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
        UnsupportedGRUError: it holds only GRUs that cannot be opened.
        ModelError: it is no `torch.nn.Module`.

    >>> layers(nn.GRU(3, 4, num_layers=2))
    l0: GRU, input 3, hidden 4, forward, reset after the product
    l1: GRU, input 4, hidden 4, forward, reset after the product
    >>> [layer.name for layer in layers(nn.ModuleDict({"rnn": nn.GRU(3, 4, bidirectional=True)}))]
    ['rnn.l0', 'rnn.l0_reverse']
    """
    found = []
    for path, module in find(model).items():
        kind = "GRUCell" if isinstance(module, nn.GRUCell) else "GRU"
        for (level, direction), name in names(path, module).items():
            width = module.input_size
            if level:
                width = module.hidden_size * _directions(module)
            way = "reverse" if direction else "forward"
            found.append(Layer(name, kind, width, module.hidden_size, way))
    return Layers(found)


def find(model: nn.Module) -> dict[str, GRU]:
    """The modules of a model that hold GRU weights, by dotted path ("" is the model itself)."""
    if not isinstance(model, nn.Module):
        raise ModelError(f"expected a torch.nn.Module, got {type(model).__name__}")
    found: dict[str, GRU] = {}
    refused = []
    for path, module in model.named_modules():
        why = _refusal(module)
        if why:
            refused.append(f"{path or 'the model itself'!r} is {why}")
        elif isinstance(module, nn.GRU | nn.GRUCell):
            found[path] = module
    if found:
        return found
    if refused:
        raise UnsupportedGRUError("; ".join(refused))
    kinds = Counter(type(module).__name__ for module in model.modules() if module is not model)
    inside = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(6)) or "no other module"
    raise NoGRUError(
        f"this model ({type(model).__name__}) holds no nn.GRU and no nn.GRUCell; it holds {inside}"
    )


def names(path: str, module: GRU) -> dict[tuple[int, int], str]:
    """The layer names of one module, by (level, direction); direction 1 is the reverse one."""
    if isinstance(module, nn.GRUCell):
        return {(0, 0): path or "cell"}
    prefix = f"{path}." if path else ""
    return {
        (level, direction): f"{prefix}l{level}{'_reverse' if direction else ''}"
        for level in range(module.num_layers)
        for direction in range(_directions(module))
    }


def check_layer(name: str, known: list[str], where: str = "is not in this model; it has") -> None:
    """Raise LayerError unless `name` is one of `known`."""
    if name not in known:
        raise LayerError(f"layer {name!r} {where} {', '.join(known) or 'none'}")


def _directions(module: GRU) -> int:
    return 2 if isinstance(module, nn.GRU) and module.bidirectional else 1


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
    for base in (nn.GRU, nn.GRUCell):
        if isinstance(module, base) and kind.forward is not base.forward:
            return (
                f"a {kind.__name__}, a subclass of nn.{base.__name__} with a forward of its own, "
                "which may compute something else: use the plain class"
            )
    return None
