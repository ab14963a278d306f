"""Which modules of a model may hold a cell that can be observed: those that carry a state.

That is seen from their code alone, so that nobody has to run a model to learn what is in it: a
forward that takes a state, or one that goes round a loop.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from grulens.models.observe.finding.refused import NotFound
from grulens.models.observe.look import known_forms, looked
from grulens.models.observe.loops import may_carry
from grulens.models.observe.reading.observing import cell_of
from grulens.models.observe.sites import methods_of


def candidates(model: nn.Module, known: Iterable[nn.Module] = ()) -> dict[str, nn.Module]:
    """The modules of a model that may carry a state, by dotted path.

    A module that holds an opened layer carries that one's state, and is left out, unless its code
    reads the weights of one itself: then the layer may never run.

    Args:
        model: the model.
        known: the modules that are opened already.
    """
    opened = set(known)
    # copies in threads of their own are seen by nobody
    apart = (m for m in model.modules() if isinstance(m, nn.DataParallel) and len(m.device_ids) > 1)
    inside = {part for module in (*opened, *apart) for part in module.modules()}
    return {
        path: module
        for path, module in model.named_modules()
        if module not in inside
        and may_carry(module)
        and (_reads_weights(module) or not opened & set(module.modules()))
    }


def has_unopened(model: nn.Module, known: Iterable[nn.Module]) -> bool:
    """Whether a model has modules that may carry a state of their own; arguments as above."""
    return bool(candidates(model, known))


@dataclass(frozen=True)
class Candidate:
    """A cell that was found in a run, or may be.

    Attributes:
        name: of its layer; before a run, the path of its module.
        kind: the module's class.
        equation: which its states obey: "h = z h_prev + (1 - z) n"; "" before a run.
        words: the same, and where in the code its signals stand; before a run, how its module may
            carry a state.
    """

    name: str
    kind: str
    equation: str
    words: str

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}, {self.words}"


def observed_in(model: nn.Module, known: Iterable[nn.Module]) -> tuple[Candidate, ...]:
    """The cells of a model that runs have shown, or modules that may hold some.

    Args:
        model: the model.
        known: the modules that are opened already.
    """
    parts = dict(model.named_modules())
    known = tuple(known)
    if forms := known_forms(model, known):
        return tuple(
            Candidate(form.name, kind, form.equation, f"observed: {cell_of(form, kind).words}")
            for form in forms
            for kind in [type(parts[form.path]).__name__]
        )
    found = candidates(model, known)
    refused = {one.name for one in refused_in(model)}
    found = {path: module for path, module in found.items() if path not in refused}
    inner = {
        path: module
        for path, module in found.items()
        if not any(
            other is not module and other in set(module.modules()) for other in found.values()
        )
    }
    return tuple(
        Candidate(
            path or "cell",
            type(module).__name__,
            "",
            f"{may_carry(module)}: record(model, ...) looks for its gates in its own forward",
        )
        for path, module in inner.items()
    )


def refused_in(model: nn.Module) -> tuple[NotFound, ...]:
    """The states of a model that a run has shown, and that no gated form explains."""
    refused = {one.name: one for look in looked(model) for one in reversed(look.refused)}
    return tuple(refused.values())


def _reads_weights(module: nn.Module) -> bool:
    """Whether the code of a module reads the weights of a recurrent layer of torch's by name."""
    kind: Any = type(module)
    return _names_weights(kind)


@functools.cache
def _names_weights(kind: type[Any]) -> bool:
    return any(
        name.startswith(("weight_hh", "weight_ih", "all_weights"))
        for method in methods_of(kind)
        if not method.__name__.startswith(("reset", "init", "_init"))
        for name in method.__code__.co_names
    )
