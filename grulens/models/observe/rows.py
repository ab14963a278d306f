"""Along which axis of a state its rows lie.

A state of three axes or more may have them along the first one, (batch, channel, y, x), or behind
others, as nn.GRU's (layer, batch, unit). Its shape does not tell, nor does that of a state of two
axes whose code turns it round. So a row of the input is changed where the model is run once more,
and it is seen which part of the states is another then.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from grulens.models.observe.finding.refused import NotFound
from grulens.models.observe.form import ObservedForm, row_of
from grulens.models.observe.paths import Paths
from grulens.models.observe.reading.reading import BEGAN, Enough, Reading, Series, began
from grulens.models.observe.trace import Trace
from grulens.models.restore.interrupts import grads
from grulens.models.restore.untouched import untouched

TRIED = 2
"""How many inputs are changed, the largest first, along either of their first two axes."""
ENOUGH = 4
"""How many steps show which part of a state an input reaches."""
TURNS = frozenset({
    "T", "mT", "H", "mH", "t", "adjoint", "transpose", "swapaxes", "swapdims", "permute",
    "movedim", "moveaxis",
})  # fmt: skip
"""Functions that lay axes in another order."""
ADVICE = (
    "Put the rows in front: h.squeeze(0) where the first axis is 1, h.transpose(0, 1) where the "
    "second one is theirs, h.T where they are the last"
)


def laid_out(
    model: nn.Module, run: Callable[[], Any], trace: Trace, forms: Sequence[ObservedForm]
) -> tuple[list[ObservedForm], list[NotFound]]:
    """The forms with the axis along which their rows lie, and those of which it is not known.

    Args:
        model: the model.
        run: runs it; nothing of that run remains.
        trace: what a run of it called.
        forms: what was found in that.
    """
    shapes = {form.name: _shape(form, trace) for form in forms}
    deep = {form.name: form for form in forms if len(shapes[form.name]) > 2}
    turned = {form.name: form for form in forms if _is_turned(shapes[form.name], trace)}
    given = _inputs(model, trace) if deep or turned else []
    # a first state tells which part of the state it is, and not whose
    given = [one for one in given if one.shape not in shapes.values()]
    single = {name for name in deep if 1 in shapes[name][:-1] and _has_one_row(given)}
    asked = turned | {name: form for name, form in deep.items() if name not in single}
    known = dict[str, int]()
    plain = _states(model, run, asked.values(), {}) if asked and given else {}
    largest = sorted(given, key=Tensor.numel, reverse=True)[:TRIED]
    for one, axis in itertools.product(largest, (0, 1)):
        size = one.shape[axis] if one.dim() > axis else 1
        left = [form for name, form in asked.items() if name not in known and size in shapes[name]]
        if size > 1 and left:
            other = {id(one): (one, _changed(one, axis))}
            for name, states in _states(model, run, left, other).items():
                if (found := _moved(plain[name], states, size)) is not None:
                    known[name] = found
    if _has_one_row(given):
        known |= {name: 1 for name in turned if shapes[name][1] == 1 < shapes[name][0]}
    made, refused = list[ObservedForm](), list[NotFound]()
    for form in forms:
        shape = shapes[form.name]
        if known.get(form.name, 0) == len(shape) - 1 > 0:
            why = f"its rows lie along the last axis of its states, {tuple(shape)}, and not units"
            refused.append(NotFound(form.state.site, why, advice=ADVICE))
            continue
        at = known.get(form.name, _likely(shape, given) if form.name in deep else 0)
        if at is not None:
            unsure, said = form.name in deep and form.name not in known, ""
            if unsure and form.name not in single:
                said = (
                    "along which axis its rows lie could not be seen: they are taken to lie along "
                    f"the first one of its states, {tuple(shape)}"
                )
            row = row_of(shape, at)
            made.append(replace(form, axis=at, shape=row, unsure=unsure, laid=said))
        else:
            sizes = " or ".join(dict.fromkeys(str(tuple(one.shape)) for one in given[:2]))
            why = (
                f"it has the shape {tuple(shape)}, and its rows are looked for along the first "
                f"axis, of {shape[0]}: the input, {sizes}, has no {shape[0]} rows, and no row of "
                "it was seen to reach a part of the state alone"
            )
            refused.append(NotFound(form.state.site, why, advice=ADVICE))
    return made, refused


def _is_turned(shape: torch.Size, trace: Trace) -> bool:
    """Whether a run has turned round what has the shape of a state of two axes, or made that so."""
    return len(shape) == 2 and any(
        node.function in TURNS and shape in (value.shape for value in (*node.values, *node.results))
        for node in trace.nodes
    )


def _shape(form: ObservedForm, trace: Trace) -> torch.Size:
    """The shape of a state as its code makes it."""
    nodes = (node for node in trace.nodes if node.site == form.state.site)
    return next(node.results[0].shape for node in nodes)


def _inputs(model: nn.Module, trace: Trace) -> list[Tensor]:
    """The tensors that a run was given, and no call of torch in it made."""
    own = {id(one) for one in (*model.parameters(), *model.buffers())}
    every = (value for node in trace.nodes for value in node.values)
    found = {
        id(value.tensor): value.tensor
        for value in every
        if value.node is None
        and not value.late
        and id(value.tensor) not in own
        and value.tensor.dim()
        and value.tensor.numel()
        and value.tensor.dtype is not torch.bool
        and not isinstance(value.tensor, nn.Parameter)
    }
    return list(found.values())


def _has_one_row(given: Sequence[Tensor]) -> bool:
    """Whether a run was given one row: its largest input has, or one step."""
    largest = max(given, key=Tensor.numel, default=None)
    return largest is not None and 1 in largest.shape[:2]


def _likely(shape: torch.Size, given: Sequence[Tensor]) -> int | None:
    """The axis of a state that has as many parts as an input may have rows; None if none has."""
    ones = [axis for axis, many in enumerate(shape[:-1]) if many == 1]
    alone = len(ones) == 1 and any(one.shape[0] == 1 for one in given)
    if alone or not given or any(shape[0] in one.shape[:2] for one in given):
        return ones[0] if alone else 0
    return None


def _changed(value: Tensor, axis: int) -> Tensor:
    """An input whose first row is another."""
    other = value.detach().clone()
    row = other.select(axis, 0)
    if value.is_floating_point() or value.is_complex():
        row.mul_(0.5).add_(0.25)
    else:
        row.copy_(value.select(axis, 1))
    return other


def _moved(plain: Sequence[Tensor], states: Sequence[Tensor], size: int) -> int | None:
    """The axis of some states along which nothing but the first part is another; None if none."""
    pairs = list(zip(plain, states, strict=False))
    if not pairs or any(one.shape != other.shape for one, other in pairs):
        return None
    moved = torch.stack([~torch.isclose(a, b, equal_nan=True) for a, b in pairs]).any(0)
    found = []
    for axis, many in enumerate(moved.shape):
        parts = moved.movedim(axis, 0).flatten(1).any(1)
        if many == size and bool(parts[0]) and not bool(parts[1:].any()):
            found.append(axis)
    return found[0] if len(found) == 1 else None


class _Given(TorchFunctionMode):
    """Gives the code other tensors than its own.

    Args:
        others: by the id of a tensor it and the one that stands in for it.
    """

    def __init__(self, others: dict[int, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self._others = others

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = {name: self._of(value) for name, value in (kwargs or {}).items()}
        return func(*map(self._of, args), **named)

    def _of(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._others[id(value)][1] if id(value) in self._others else value
        if type(value) in (tuple, list):
            return type(value)(map(self._of, value))
        return value


def _states(
    model: nn.Module,
    run: Callable[[], Any],
    forms: Collection[ObservedForm],
    others: dict[int, tuple[Tensor, Tensor]],
) -> dict[str, list[Tensor]]:
    """The first states of some cells in a run; none where it cannot run so.

    Args:
        model: the model.
        run: runs it.
        forms: the cells.
        others: what stands in for what it is given.
    """
    series = {form.name: Series(form.state, alone=True) for form in forms}
    modules = dict(model.named_modules())
    paths = Paths({form.path: modules[form.path] for form in forms if form.path})
    alias = {one: other for form in forms for one, other in form.alias.items()}
    reading = Reading(
        series.values(), paths, BEGAN, is_here=lambda: True, alias=alias,
        until={form.state: ENOUGH for form in forms},
    )  # fmt: skip
    with ExitStack() as undo:
        undo.enter_context(untouched(model))
        undo.enter_context(grads(False))
        for one in paths.follow():
            undo.callback(one)
        undo.enter_context(reading)
        undo.enter_context(_Given(others))
        # whatever the user's own code says of such an input
        undo.enter_context(suppress(Enough, Exception))
        began(run)
    reading.finish()
    return {name: one.values for name, one in series.items()}
