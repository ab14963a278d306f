"""Which recurrent layers a model holds, by name; and a clear refusal of what it cannot open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from grulens.cells.cell import RecurrentCell
from grulens.cells.signal import Signalling
from grulens.errors import (
    LayerError,
    ModelError,
    NoLayerError,
    SignalError,
    UnsupportedLayerError,
    shown,
)
from grulens.models.adapters.adapter import Adapter
from grulens.models.adapters.closed import WHOLE, Closed, Found, look, places, sentences
from grulens.models.adapters.register import adapter_of
from grulens.models.call.call import Key
from grulens.models.observe.candidates import (
    Candidate,
    candidates,
    observed_in,
    refused_in,
)
from grulens.models.observe.finding.refused import said
from grulens.models.observe.look import Look, looked
from grulens.models.observe.loops import may_carry
from grulens.models.restore.parametrized import only_looked_at
from grulens.tables import html_table


@dataclass(frozen=True)
class Layer:
    """One direction of one recurrent layer.

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
    """The layers of a model that can be opened, in the order in which the model holds them.

    Attributes:
        closed: what is there beside them and cannot be opened, each with `.name`, `.kind` and
            `.reason`.
        observed: the cells that were found, or may be, by the equation that their states obey in a
            run, each with `.name`, `.kind`, `.equation` ("" before a run) and `.words`.
    """

    closed: tuple[Closed, ...]
    observed: tuple[Candidate, ...]

    def __new__(
        cls,
        items: Iterable[Layer] = (),
        closed: Iterable[Closed] = (),
        observed: Iterable[Candidate] = (),
    ) -> Layers:
        layers = super().__new__(cls, items)
        layers.closed, layers.observed = tuple(closed), tuple(observed)
        return layers

    @property
    def _twice(self) -> tuple[Candidate, ...]:
        """The candidates that could be registered, too, and are said to be so."""
        closed = {_place(part) for part in self.closed}
        return tuple(part for part in self.observed if not part.equation and part.name in closed)

    def __repr__(self) -> str:
        lines = [
            f"{layer.name}: {layer.kind}, input {layer.input_size}, hidden {layer.hidden_size}, "
            f"{layer.direction}{layer.convention and f', {layer.convention}'}"
            f"{layer.also and f'; also {layer.also}'}"
            for layer in self
        ]
        lines += [str(part) for part in self.observed if part not in self._twice]
        lines += [f"not opened: {said}" for said in sentences(self.closed)]
        if names := ", ".join(repr(part.name) for part in self._twice):
            lines.append(f"{_LOOKS} of {names} in a run, registered or not")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = ("layer", "kind", "input", "hidden", "direction", "convention", "also")
        table = html_table(head, [tuple(vars(layer).values()) for layer in self])
        twice = self._twice
        if observed := [part for part in self.observed if part not in twice]:
            rows = [(part.name, part.kind, part.words) for part in observed]
            table += html_table(("observed", "kind", "equation"), rows)
        if not self.closed:
            return table
        also = f"\n{_LOOKS} in a run, registered or not"
        names = {part.name for part in twice}
        rows = [
            (part.name, part.kind, part.reason + (also if _place(part) in names else ""))
            for part in self.closed
        ]
        return table + html_table(("not opened", "kind", "why"), rows)


def layers(model: nn.Module) -> Layers:
    """The recurrent layers of a model: one item per layer and direction, each with a `.name`.

    Modules that are like a layer and cannot be opened are listed beside them, in `.closed`: a
    subclass that computes something else, a scripted or quantized layer, an LSTM with projections,
    a class that looks like a GRU and is not registered.

    A module of your own that carries a state is listed too: `record` finds its gates in its
    forward, and from then on the list shows its equation.

    Raises:
        NoLayerError: the model holds none; the message says what it holds.
        UnsupportedLayerError: it holds only layers that cannot be opened, or a class that looks
            like a GRU and is not registered.
        AdapterError: the adapter of a registered class does not fit it.
        ModelError: it is no `torch.nn.Module`.

    >>> layers(nn.GRU(3, 4, num_layers=2))
    l0: GRU, input 3, hidden 4, forward, reset after the product
    l1: GRU, input 4, hidden 4, forward, reset after the product
    >>> [layer.name for layer in layers(nn.ModuleDict({"rnn": nn.GRU(3, 4, bidirectional=True)}))]
    ['rnn.l0', 'rnn.l0_reverse']
    >>> layers(nn.ModuleDict({"rnn": nn.GRU(3, 4), "other": nn.LSTM(3, 4)}))
    rnn.l0: GRU, input 3, hidden 4, forward, reset after the product
    other.l0: LSTM, input 3, hidden 4, forward
    """
    found, at = look(model), places(model)
    observed = observed_in(model, found.opened.values())
    refused = unobserved(model)
    if not (found.opened or observed or refused):
        raise not_opened(model, found)
    every = (
        Layer(
            name,
            type(module).__name__,
            cell.input_size,
            cell.hidden_size,
            "reverse" if key[1] else "forward",
            cell.convention,
            ", ".join(named(other, module)[key][0] for other in at[module][1:]),
        )
        for path, module in found.opened.items()
        for key, (name, cell) in named(path, module).items()
    )
    names = {part.name for part in observed if part.equation}
    closed = (part for part in found.closed if part.name not in names)
    return Layers(every, (*closed, *refused), observed)


_LOOKS = "record(model, ...) looks for the gates"
_MAY_BE_OTHERWISE = (
    "So it was in the last run. If a constant, a flag or the code is another since, record a run: "
    "its gates are looked for anew"
)


def _place(part: Closed) -> str:
    """By what name a part that is closed would be observed."""
    return "cell" if part.name == WHOLE else part.name


def find(model: nn.Module) -> dict[str, nn.Module]:
    """The recurrent modules of a model, by dotted path ("" is the model itself)."""
    found = look(model)
    if not found.opened:
        raise not_opened(model, found)
    return found.opened


def not_opened(model: nn.Module, found: Found) -> ModelError:
    """The error about a model in which nothing can be opened.

    Args:
        model: the model.
        found: what it holds.
    """
    said = sentences(found.closed)
    if any(part.is_layer for part in found.closed):
        return UnsupportedLayerError(_with_how(said))
    kinds = Counter(type(module).__name__ for module in model.modules() if module is not model)
    inside = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(6)) or "no other module"
    what = f"this model ({type(model).__name__}) holds no nn.GRU, nn.LSTM or nn.RNN; it holds "
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        said = [*said, "scripted and traced modules are not looked into: give the one as written"]
    elif not candidates(model) and not type(model).__module__.startswith("torch."):
        said = [
            *said,
            "none of its code takes a state or goes round a loop, and steps that are written out "
            "one by one are not looked for",
        ]
    return NoLayerError("; ".join([what + inside, *said]))


def not_known(model: nn.Module, found: Found) -> ModelError:
    """The error about a model of which no layer is known without a run.

    Args:
        model: the model.
        found: what it holds.
    """
    if refused := refused_in(model):
        error = not_observed(model, found, Look((), refused))
        return type(error)(f"{error}\n{_MAY_BE_OTHERWISE}")
    error = not_opened(model, found)
    first = [
        f"{path or WHOLE!r} ({type(module).__name__}) {may_carry(module)}: record(model, ...) "
        "looks for its gates, and what it finds can be edited from then on"
        for path, module in candidates(model).items()
    ]
    return type(error)("\n".join([str(error), *first[:4]]))


def unobserved(model: nn.Module) -> tuple[Closed, ...]:
    """The modules whose states a run has shown, and in which no gated form was found."""
    return tuple(
        Closed(one.name or WHOLE, one.kind, f"was observed and is not opened: {one.reason}")
        for one in refused_in(model)
    )


def not_observed(model: nn.Module, found: Found, seen: Look) -> ModelError:
    """The error about a model in which nothing is opened, though it was looked at while it ran.

    Args:
        model: the model.
        found: what it holds.
        seen: what the look at its run found.
    """
    if seen.refused:
        text = f"no gated cell was found: {said(seen.refused)}"
        closed = _with_how(sentences(found.closed))
        return UnsupportedLayerError("\n".join(filter(None, (text, closed))))
    error, parts = not_opened(model, found), candidates(model)
    ran = {path: module for path, module in parts.items() if seen.calls.get(path) != 0}
    looked = [
        f"{path or WHOLE!r} ({type(module).__name__}) {may_carry(module)}, and "
        + _not_seen(seen.calls.get(path))
        for path, module in (ran or parts).items()
    ]
    return type(error)("\n".join([str(error), *looked[:4]]))


def own_states(model: nn.Module, opened: Iterable[nn.Module]) -> str:
    """What is said where no opened layer ran, and a module that holds it may carry a state itself.

    Args:
        model: the model.
        opened: the modules that are opened.
    """
    if refused := refused_in(model):
        return f"; and no gated cell was found: {said(refused)}"
    inside = {part for module in opened for part in module.modules()}
    own = [
        f"{path or WHOLE!r} ({type(module).__name__}) {how}"
        for path, module in model.named_modules()
        if module not in inside and (how := may_carry(module))
    ]
    if not own or looked(model):
        return ""
    return (
        f". {'; '.join(own[:4])}: with record(model, ..., observe=True) the gates of what it "
        "computes by itself are looked for"
    )


def _not_seen(calls: int | None) -> str:
    """Why a run showed nothing of a module that may carry a state."""
    if calls == 0:
        return "did not run: name the method by which it does (call=...)"
    if calls == 1:
        return (
            "ran once, in which no step was seen to make a state of the one before: of one step "
            "nothing can be seen, so record a sequence of some steps"
        )
    return (
        "ran, and no step was seen to make a state of the one before: what scripted code, numpy or "
        "an extension makes is not seen, nor is a state in a sequence of one step, or in a loop "
        "that goes round once"
    )


def named(
    path: str, module: nn.Module, adapter: Adapter | None = None
) -> dict[Key, tuple[str, RecurrentCell]]:
    """The layers of one module, name and cell, by (level, direction); direction 1 is reverse."""
    adapter = adapter or known(module)
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
        raise UnsupportedLayerError(f"{type(module).__name__} is not registered (any more)")
    return adapter


def check_signal(signal: str, cell: Signalling, layer: str) -> None:
    """Raise SignalError unless a layer's cell has a signal that can be changed."""
    try:
        cell.signal(signal)
    except KeyError:
        names = [one.name for one in (*cell.signals, *getattr(cell, "others", ()))]
        raise SignalError(
            f"layer {layer!r} is {article(cell.kind)} and has no signal {signal!r} that could be "
            f"changed; it has {', '.join(names)}"
        ) from None


def article(kind: str) -> str:
    """The kind of a cell with its article.

    >>> article("GRU"), article("LSTM"), article("MaskedGRU"), article("IndRNN"), article("sLSTM")
    ('a GRU', 'an LSTM', 'a MaskedGRU', 'an IndRNN', 'an sLSTM')
    """
    spoken = kind.lstrip("_")
    # a word is read, capitals are spelt
    is_word = spoken[1:2].islower() or (spoken.islower() and len(spoken) > 1)
    vowels = "AEIO" if is_word else "AEFHILMNORSX"
    return f"{'an' if spoken[:1].upper() in tuple(vowels) else 'a'} {kind}"


def check_layer(
    name: Any,
    known: list[str],
    where: str = "is not in this model; it has",
    model: nn.Module | None = None,
    closed: Sequence[Closed] = (),
) -> None:
    """Raise LayerError unless `name` is one of `known`.

    The message says what is there but not opened, `closed` or in the `model`; and with a `model`,
    if it is another's name.
    """
    if isinstance(name, str) and name in known:
        return
    closed = closed if model is None else (*look(model).closed, *unobserved(model))
    said = f"layer {shown(name)} {where} {', '.join(known) or 'none'}"
    if isinstance(name, str):
        if model is not None and (other := other_name(model, name)):
            raise LayerError(
                f"layer {name!r} is layer {other!r}: the model holds one module at both places; "
                "use that name"
            )
        meant = [part for part in closed if f"{name}.".startswith(f"{part.name}.")]
        closed = meant or closed
    raise LayerError(_with_how([said, *sentences(closed)]))


def _with_how(said: list[str]) -> str:
    """Sentences as one message; the lines that register a class stand once, and last."""
    split = [sentence.partition("\n") for sentence in said]
    how = next((f"\n{rest}" for _, line, rest in split if line), "")
    return "; ".join(first for first, line, _ in sorted(split, key=lambda part: part[1])) + how


def other_name(model: nn.Module, name: str) -> str | None:
    """The name by which a layer goes that a model holds at `name` too, or None."""
    for layer in layers(model):
        if name in layer.also.split(", "):
            return layer.name
    return None
