"""Along which axis of a state its rows lie.

A state of three axes or more may have them along the first one, (batch, channel, y, x), or behind
others, as nn.GRU's (layer, batch, unit). Its shape does not tell, nor does that of a state of two
axes whose code turns it round. So a row of the input is changed where the model is run once more,
and it is seen which part of the states is another then.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from grulens.models.observe.alone import alone
from grulens.models.observe.finding.axes import TURNS, channel_of
from grulens.models.observe.finding.refused import NotFound
from grulens.models.observe.form import ObservedForm, row_of
from grulens.models.observe.paths import Paths
from grulens.models.observe.reading.reading import BEGAN, Enough, Reading, Series, began
from grulens.models.observe.trace import Trace

TRIED = 2
"""How many inputs are changed, the largest first, along either of their first two axes."""
ENOUGH = 4
"""How many steps show which part of a state an input reaches."""
ADVICE = (
    "Put the rows in front: h.squeeze(0) where the first axis is 1, h.transpose(0, 1) where the "
    "second one is theirs, h.T where they are the last"
)
OWN_AXIS = "Give rows and units an axis each: h.view(batch, -1), or h.unsqueeze(-1) of one unit"


@dataclass(frozen=True)
class Rows:
    """Where in a state the rows of an input lie.

    Attributes:
        axis: along which axis.
        each: how many parts of that axis one row is; more than 1 where rows share it with others.
        apart: whether these lie as many parts apart as there are rows, and not side by side.
        by_column: whether they are the columns of an input of two axes: these may be rows, of
            (time, batch), or units that know nothing of each other, of (time, unit).
    """

    axis: int
    each: int = 1
    apart: bool = False
    by_column: bool = False


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
    # a first state tells which part of the state it is, and not whose
    given = [one for one in _inputs(model, trace) if one.shape not in shapes.values()]
    largest = sorted(given, key=Tensor.numel, reverse=True)[:TRIED]
    shared = {form.name: form for form in forms if _may_share(shapes[form.name], largest)}
    single = {name for name in deep if 1 in shapes[name][:-1] and _has_one_row(given)}
    asked = {name: form for name, form in (deep | shared).items() if name not in single} | turned
    known = _seen(model, run, asked, shapes, largest)
    if _has_one_row(given):
        known |= {name: Rows(1) for name in turned if shapes[name][1] == 1 < shapes[name][0]}
    made, refused = list[ObservedForm](), list[NotFound]()
    for form in forms:
        shape, rows = shapes[form.name], known.get(form.name)
        # columns of an input that reach a unit each may be units; what turns them round says not
        columns = rows is not None and rows.by_column and rows.axis == len(shape) - 1 < 2
        unclear = columns and form.name not in turned
        if rows is not None and not unclear and (why := _mixed_up(rows, shape)):
            advice = ADVICE if len(shape) > 1 and rows.each == 1 else OWN_AXIS
            refused.append(NotFound(form.state.site, why, advice=advice))
            continue
        at = _likely(shape, given) if form.name in deep else 0
        at = at if rows is None or unclear else rows.axis
        if at is not None:
            unsure = form.name in deep and rows is None
            said = _said(rows, shape, given, unclear) if form.name not in single else ""
            row = row_of(shape, at)
            channel = _channel(form, trace, at) if len(row) > 1 else None
            made.append(
                replace(form, axis=at, shape=row, unsure=unsure, laid=said, channel=channel)
            )
        else:
            why = (
                f"it has the shape {tuple(shape)}, and its rows are looked for along the first "
                f"axis, of {shape[0]}: the input, {_sizes(given)}, has no {shape[0]} rows, and no "
                "row of it was seen to reach a part of the state alone"
            )
            refused.append(NotFound(form.state.site, why, advice=ADVICE))
    return made, refused


def _seen(
    model: nn.Module,
    run: Callable[[], Any],
    asked: Mapping[str, ObservedForm],
    shapes: Mapping[str, torch.Size],
    given: Sequence[Tensor],
) -> dict[str, Rows]:
    """Where the rows of some states lie, as far as runs with another row of an input show it."""
    known = dict[str, Rows]()
    plain = _states(model, run, asked.values(), {}) if asked and given else {}
    for one, axis in itertools.product(given, (0, 1)):
        size, columns = one.shape[axis] if one.dim() > axis else 1, axis == 1 and one.dim() == 2
        left = {
            name: form
            for name, form in asked.items()
            if name not in known and size > 1 and any(many % size == 0 for many in shapes[name])
        }

        def moved(
            row: int, of: Collection[ObservedForm], one: Tensor = one, axis: int = axis
        ) -> dict[str, list[Tensor]]:
            return _states(model, run, of, {id(one): (one, _changed(one, axis, row))})

        first = moved(0, left.values()) if left else {}
        shared = dict[str, list[Rows]]()
        for name, states in first.items():
            found = _reached(plain[name], states, size, 0)
            sole = [rows for rows in found if rows.each == 1]
            if len(sole) == 1 and len(shapes[name]) > 1:
                known[name] = replace(sole[0], by_column=columns)
            elif not sole or len(shapes[name]) == 1:
                shared[name] = found
        # what a row shares with others is believed of two rows, the first one and the last
        again = [left[name] for name in shared if shared[name]]
        for name, states in (moved(size - 1, again) if again else {}).items():
            both = [r for r in _reached(plain[name], states, size, size - 1) if r in shared[name]]
            if len(both) == 1:
                known[name] = replace(both[0], by_column=columns)
    return known


def _mixed_up(rows: Rows, shape: torch.Size) -> str:
    """Why rows cannot be told from units along the axis where they lie; empty if they can."""
    if rows.axis < len(shape) - 1:
        return ""
    if len(shape) > 1 and rows.each == 1:
        return f"its rows lie along the last axis of its states, {tuple(shape)}, and not units"
    parts = f"{rows.each} parts" if rows.each > 1 else "one part"
    return (
        f"rows and units stand in one axis of its states, {tuple(shape)}: each row of the input "
        f"reaches {parts} of it alone, and it is read as the units of one row"
    )


def _said(rows: Rows | None, shape: torch.Size, given: Sequence[Tensor], is_unclear: bool) -> str:
    """What must be said of where the rows of a state lie, or may lie."""
    if rows is None:
        if len(shape) > 2:
            return (
                "along which axis its rows lie could not be seen: they are taken to lie along the "
                f"first one of its states, {tuple(shape)}"
            )
        if len(shape) == 1 or shape[0] == 1 or not given or _has(shape[0], given):
            return ""
        return (
            f"it has {shape[0]} rows, as the first axis of its states, {tuple(shape)}, and the "
            f"input, {_sizes(given)}, has no axis of {shape[0]}: which row is which is not known"
        )
    if is_unclear:
        return (
            f"each column of the input reaches {rows.each} of the {shape[-1]} units of a row "
            "alone: these may be rows as well"
        )
    if rows.each == 1:
        return ""
    first, last = f"{rows.each} r", f"{rows.each} r + {rows.each - 1}"
    where = (
        "as many apart as the input has rows"
        if rows.apart
        else f"one behind the other: row r was rows {first} to {last}"
    )
    return f"where it was found, a row of the input was {rows.each} rows of this layer, {where}"


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


def _channel(form: ObservedForm, trace: Trace, rows: int) -> int | None:
    """Along which axis of a row its channels lie, as the code tells; None where it does not."""
    spot = form.state
    made = [node for node in trace.nodes if node.site == spot.site][spot.ordinal :: spot.each]
    axis = channel_of(made, rows)
    return None if axis is None else axis - (axis > rows)


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
    is_one = len(ones) == 1 and any(one.shape[0] == 1 for one in given)
    if is_one or not given or any(shape[0] in one.shape[:2] for one in given):
        return ones[0] if is_one else 0
    return None


def _may_share(shape: torch.Size, given: Sequence[Tensor]) -> bool:
    """Whether rows of an input may lie along an axis of a state of one or two with other things."""
    sizes = {size for one in given for size in one.shape[:2] if size > 1}
    if len(shape) == 1:
        return any(shape[0] % size == 0 for size in sizes)
    if any(size < shape[0] and shape[0] % size == 0 for size in sizes):
        return True
    return shape[0] not in sizes and any(shape[1] % size == 0 for size in sizes)


def _has(many: int, given: Sequence[Tensor]) -> bool:
    """Whether an input has an axis of a size."""
    return any(many in one.shape for one in given)


def _sizes(given: Sequence[Tensor]) -> str:
    """The sizes of inputs, in words."""
    return " or ".join(dict.fromkeys(str(tuple(one.shape)) for one in given[:2]))


def _changed(value: Tensor, axis: int, which: int) -> Tensor:
    """An input of which one row is another."""
    other = value.detach().clone()
    row = other.select(axis, which)
    if value.is_floating_point() or value.is_complex():
        row.mul_(0.5).add_(0.25)
    else:
        row.copy_(value.select(axis, which - 1))
    return other


def _reached(
    plain: Sequence[Tensor], states: Sequence[Tensor], size: int, which: int
) -> list[Rows]:
    """The ways in which one row of an input lies in some states, of which nothing else moved.

    Args:
        plain: the states as they were.
        states: the same with that row changed.
        size: how many rows the input has.
        which: the number of that row.
    """
    pairs = list(zip(plain, states, strict=False))
    if not pairs or any(one.shape != other.shape for one, other in pairs):
        return []
    moved = torch.stack([~torch.isclose(a, b, equal_nan=True) for a, b in pairs]).any(0)
    found = list[Rows]()
    for axis, many in enumerate(moved.shape):
        each = many // size
        if many % size or not each:
            continue
        parts = moved.movedim(axis, 0).reshape(many, -1).any(1)
        blocks = parts.view(size, each), parts.view(each, size).T
        for apart, by_row in enumerate(blocks[: 1 if each == 1 else 2]):
            others = by_row.any(1)
            own = bool(others[which])
            others[which] = False
            if own and not bool(others.any()):
                found.append(Rows(axis, each, bool(apart)))
    return found


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
    # whatever the user's own code says of such an input
    with alone(model, run, paths.follow(), reading, _Given(others)), suppress(Enough, Exception):
        began(run)
    reading.finish()
    return {name: one.values for name, one in series.items()}
