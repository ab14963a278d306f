"""The look at a model that finds its observed cells, kept for each way into it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from grulens.errors import RecordingError
from grulens.models.observe.alone import alone
from grulens.models.observe.finding.find import find
from grulens.models.observe.finding.recipe import Recipe, made_otherwise, recipe_of
from grulens.models.observe.finding.refused import ROUNDING, NotFound, by_step
from grulens.models.observe.finding.two_ways import ADVICE, NOT_IN_ONE_WAY, rival_on_the_way
from grulens.models.observe.form import ObservedForm
from grulens.models.observe.paths import Paths
from grulens.models.observe.reading.observing import Observing, cell_of
from grulens.models.observe.reading.reading import BEGAN, Enough, began
from grulens.models.observe.rows import laid_out
from grulens.models.observe.sites import Site
from grulens.models.observe.trace import Trace

Place = tuple[str, str]
"""The path of a module, and the name of one of its attributes."""
MOVES = object()
"""What stands for an attribute that a run itself changes."""


@dataclass(frozen=True)
class Look:
    """What a look at a run found.

    Attributes:
        forms: the observed cells.
        refused: the states that no gated form explains.
        calls: how often each module was called, by path.
        recipes: by which calls the first state of each cell was made, by its name.
        extent: how much the run was given: a run of one step shows nothing, and a longer one may.
        constants: the plain attributes of the model's modules; `MOVES` for those the run changes.
        output: what the run returned, which is not kept for later.
    """

    forms: tuple[ObservedForm, ...]
    refused: tuple[NotFound, ...]
    calls: dict[str, int] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    extent: int = 0
    constants: dict[Place, object] = field(default_factory=dict)
    output: object = None


Way = tuple[str | None, tuple[bool, ...]]
"""The name of a way into a model, and which of its modules are in training mode then."""

_seen: WeakKeyDictionary[nn.Module, dict[Way, Look]] = WeakKeyDictionary()


def _modes(model: nn.Module) -> tuple[bool, ...]:
    # a frozen script has none
    return tuple(getattr(module, "training", False) for module in model.modules())


def looked(model: nn.Module) -> list[Look]:
    """What earlier looks at a model found."""
    return list(_seen.get(model, {}).values())


def known_forms(model: nn.Module, opened: Iterable[nn.Module] = ()) -> tuple[ObservedForm, ...]:
    """The observed cells of a model that earlier looks found.

    Of one name it is the last one, and rather one that was found in the modes of training in which
    the model is now.

    Args:
        model: the model.
        opened: the modules that are opened by their weights: since then, it may be.
    """
    now, seen = _modes(model), _seen.get(model, {})
    looks = sorted(seen, key=lambda way: way[1] == now)
    forms = {form.name: form for way in looks for form in seen[way].forms}
    return beside(forms.values(), model, opened)


def beside(
    forms: Iterable[ObservedForm], model: nn.Module, opened: Iterable[nn.Module]
) -> tuple[ObservedForm, ...]:
    """Those of some observed cells that stand in no module that is opened by its weights."""
    inside = {part for module in opened for part in module.modules()}
    parts = dict(model.named_modules()) if inside else {}
    return tuple(form for form in forms if parts.get(form.path) not in inside)


def reshaped(model: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    """Note of what shape a row of an observed cell's state was in the last run."""
    known = _seen.get(model, {})
    for way, look in known.items():
        forms = [replace(one, shape=shape) if one.name == name else one for one in look.forms]
        known[way] = replace(look, forms=tuple(forms))


def forget(model: nn.Module) -> None:
    """Forget what earlier looks at a model found: its code may be another since."""
    _seen.pop(model, None)


def look_at(
    model: nn.Module,
    run: Callable[[], Any],
    call: str | None = None,
    skip: tuple[nn.Module, ...] = (),
) -> Look:
    """The observed cells of a model; it is run for that, unless all of them are known already.

    What an earlier run in these modes has found is kept. What it has not found may be there now: a
    constant, a flag or a branch may be another.

    Args:
        model: the model.
        run: runs it; nothing of that run remains.
        call: the name of the way in.
        skip: the modules whose inside is known already.
    """
    known = _seen.setdefault(model, {})
    way = call, _modes(model)
    before, extent = known.get(way), _extent(run)
    if before is not None and not _may_show_more(before, model, extent, skip):
        return before
    look = _looked_at(model, run, skip, extent)
    if before is not None and not _states(before) <= _states(look):
        return before
    known[call, _modes(model)] = replace(look, output=None)  # a first run may make modules
    return look


def is_outdated(model: nn.Module, call: str | None) -> bool:
    """Whether a run by a way that was looked at may show cells that the last look has not found."""
    look = _seen.get(model, {}).get((call, _modes(model)))
    return look is not None and _may_show_more(look, model, look.extent, [model])


def _may_show_more(look: Look, model: nn.Module, extent: int, opened: Collection[object]) -> bool:
    """Whether another run may show cells that a look at one has not found.

    It may where a state was refused, where an attribute is another, and where nothing at all was
    seen: there, if other layers are opened, only once the run is given more than the one before (of
    one step nothing is seen), for a look at each run would cost more than it tells.
    """
    anew = [one for one in look.refused if extent > look.extent or not one.beside]
    if anew or _has_changed(look.constants, _constants(model)):
        return True
    return not look.forms and (not opened or extent > look.extent)


def _states(look: Look) -> set[Site]:
    return {form.state.site for form in look.forms}


def _constants(model: nn.Module) -> dict[Place, object]:
    """The attributes of a model's modules that are plain values, by path and name."""
    return {
        (path, name): value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if value is None or isinstance(value, bool | int | float | str)
    }


def _has_changed(then: Mapping[Place, object], now: Mapping[Place, object]) -> bool:
    return any(
        then.get(key) is not MOVES and (key in then, then.get(key)) != (key in now, now.get(key))
        for key in {*then, *now}
    )


def _looked_at(
    model: nn.Module, run: Callable[[], Any], skip: tuple[nn.Module, ...], extent: int
) -> Look:
    """What a look at a run finds."""
    constants = _constants(model)
    trace, paths, after, output = _traced(model, run, skip)
    opened = set(skip)
    names = {path for path, module in model.named_modules() if module in opened}
    forms, refused = find(trace, names)
    forms, unknown = laid_out(model, run, trace, forms)
    modules = dict(model.named_modules())
    forms = [_watched(form, modules) for form in forms]
    held, not_held = tried(model, run, forms, [one.site for one in refused])
    refused += unknown
    kinds = {path: type(module).__name__ for path, module in modules.items()}
    every = (replace(one, kind=kinds[one.site.path]) for one in (*refused, *not_held))
    recipes = {form.name: recipe_of(form, trace.nodes) for form in held}
    moved = dict.fromkeys(dict(constants.items() ^ after.items()), MOVES)
    calls, constants = dict(paths.calls), {**constants, **moved}
    return Look(tuple(held), tuple(every), calls, recipes, extent, constants, output)


def _extent(run: Callable[[], Any]) -> int:
    """How much a run is given: the numbers of its tensors, and its whole numbers."""
    given = (*run.args, *run.keywords.values()) if isinstance(run, partial) else ()
    every = tree_leaves(given)
    tensors = sum(one.numel() for one in every if isinstance(one, Tensor))
    return tensors + sum(one for one in every if type(one) is int)


def _traced(
    model: nn.Module, run: Callable[[], Any], skip: Iterable[nn.Module]
) -> tuple[Trace, Paths, dict[Place, object], Any]:
    """What a run calls, which plain attributes it leaves, and its output; nothing else remains."""
    inside = {part for module in skip for part in module.modules()}
    paths = Paths({
        path: module
        for path, module in model.named_modules()
        if path and module not in inside and not type(module).__module__.startswith("torch.")
    })  # fmt: skip
    trace = Trace(paths, BEGAN)
    with alone(model, run, paths.follow(), trace):
        output = began(run)
        constants = _constants(model)
    return trace, paths, constants, output


def made_otherwise_in(
    model: nn.Module,
    run: Callable[[], Any],
    forms: Sequence[ObservedForm],
    skip: Iterable[nn.Module] = (),
) -> dict[str, str]:
    """What a run makes otherwise than the runs in which cells were found, in words, by their names.

    Args:
        model: the model.
        run: runs it; nothing of that run remains.
        forms: the cells.
        skip: the modules whose inside is known already.
    """
    trace, *_ = _traced(model, run, skip)
    found = {}
    for form in forms:
        told = [
            made_otherwise(form, look.recipes[one.name], trace.nodes)
            for look in looked(model)
            for one in look.forms
            if (one.name, one.equation) == (form.name, form.equation)
        ]
        if told and all(told):
            found[form.name] = told[-1]
    return found


def _watched(form: ObservedForm, modules: Mapping[str, nn.Module]) -> ObservedForm:
    """A form without the calls that can call nothing that they have not called."""
    rivals = (one for one in form.rivals if not one.but or one.may_call_more(modules))
    return replace(form, rivals=tuple(rivals))


def tried(
    model: nn.Module,
    run: Callable[[], Any],
    forms: Sequence[ObservedForm],
    others: Sequence[Site] = (),
) -> tuple[list[ObservedForm], list[NotFound]]:
    """The forms whose signals act as their equations say, when they are changed, and the others.

    Args:
        model: the model.
        run: runs it; nothing of that run remains.
        forms: what was found.
        others: where the run makes states that are refused already.
    """
    if not forms:
        return [], []
    modules = dict(model.named_modules())
    # the record that follows asks for the same cells
    cells = {form.name: cell_of(form, type(modules[form.path]).__name__) for form in forms}
    trial = Observing(
        {form.name: form for form in forms}, cells, model, keep=list(cells), edits={},
        placed=lambda name, rows: (0, None), graph=False, is_here=lambda: True, nudged=True,
    )  # fmt: skip
    with alone(model, run, trial.follow()), suppress(Enough):
        began(run)
    trial.finish()
    held: list[ObservedForm] = []
    refused: list[NotFound] = []
    for form in forms:
        try:
            trial.segments(form.name)
            held.append(form)
        except RecordingError as error:
            if other := rival_on_the_way(form.state.site, [set(others)]):
                why = f"{NOT_IN_ONE_WAY}: {other}"
                refused.append(NotFound(form.state.site, why, advice=ADVICE))
                continue
            off = trial.off_by(form.name)
            is_off = bool(off) and max(off) > ROUNDING
            why = "does not act so" if is_off else "no run comes by all of it"
            far = f" ({by_step(off, first=0)})" if is_off else ""
            why = f"{form.equation} was found, and {why} when its signals are changed{far}: {error}"
            refused.append(NotFound(form.state.site, why))
    return held, refused
