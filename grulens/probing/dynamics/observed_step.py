"""A step of an observed cell as a function of its state: the module's own code with other states.

The model runs with one row repeated, up to the step; on the way there the state before the step is
replaced, a state a row. What the step then makes is read, and the run ends there. All of it is done
on a copy of the model in float64. A run without a batch is made once for each state.
"""

from __future__ import annotations

import copy
import random
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from os.path import basename
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from grulens.arguments import Inputs, Integer, MethodName
from grulens.cells.dynamics.step_map import StepMap
from grulens.cells.precision import autocast
from grulens.errors import CellError, PositionError, RecordingError, shown
from grulens.models.adapters.closed import look
from grulens.models.call.invocation import Given, arguments, fresh, way_in
from grulens.models.observe.form import ObservedForm
from grulens.models.observe.look import known_forms
from grulens.models.observe.paths import Paths
from grulens.models.observe.reading.reading import BEGAN, Enough, Reading, Series, began
from grulens.models.observe.reading.segment import full_value
from grulens.models.observe.reading.slope import check_rows, pulled
from grulens.models.observe.sites import is_users
from grulens.models.observed import ObservedLayer
from grulens.models.record import record
from grulens.models.restore.compiler import eagerly
from grulens.models.restore.untouched import untouched
from grulens.probing.dynamics.taped import Taped
from grulens.probing.edits import positions
from grulens.probing.layer import layer_of

NUDGE, APART = 1e-6, 1e-5
"""By how much a state is moved to see how its step moves, and how far autograd may be from that."""
_MAKERS = frozenset(
    getattr(torch, name)
    for name in (
        *("arange", "empty", "eye", "full", "linspace", "logspace", "ones"),
        *("rand", "randn", "tensor", "zeros"),
    )
)


class MadeDouble(TorchFunctionMode):
    """What the code makes in torch's default dtype, as `torch.zeros(batch, units)`, is float64."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func not in _MAKERS or (kwargs or {}).get("dtype") is not None:
            return made
        return made.double() if made.is_floating_point() else made


class ObservedStep(StepMap):
    """A step of an observed cell, its input that of a recorded run; what `observed_step` gives.

    Attributes:
        layer: the layer.
        t: the position of the step.
        row: whose input it has.
        equation: the equation of its cell.
    """

    def __init__(
        self,
        layer: ObservedLayer,
        t: int,
        row: int,
        model: nn.Module,
        form: ObservedForm,
        run_of: Callable[[int], Callable[[], Any]],
    ) -> None:
        cell = layer.cell
        self.layer, self.t, self.row, self.equation = layer.name, t, row, cell.equation
        self.state_size, self.eps = cell.state_size, torch.finfo(layer.state.dtype).eps
        self.like = torch.empty(0, dtype=torch.double, device=layer.state.device)
        self._model, self._form, self._run_of, self._names = model, form, run_of, cell.states
        self.parts = cell.states
        self._taped: Taped | None = None
        self._has_batch = _has_batch(layer)
        # with two states a candidate is one of c alone
        alone = cell.is_convex and cell.carried == "h"
        self._candidate = cell.form.candidate if alone else None

    def __repr__(self) -> str:
        return f"ObservedStep({self.layer!r}, t {self.t}, row {self.row}, {self.equation})"

    def after(self, states: Float64[Tensor, "point state"]) -> Float64[Tensor, "point state"]:
        with torch.no_grad():
            return self._made(states)[0]

    def slope(self, states: Float64[Tensor, "point state"]) -> Float64[Tensor, "point state state"]:
        return self._slope(states, 0)

    def off(self, states: Float64[Tensor, "point state"]) -> Float64[Tensor, "point state"]:
        with torch.no_grad():
            return self._made(states)[1] - states

    def off_slope(
        self, states: Float64[Tensor, "point state"]
    ) -> Float64[Tensor, "point state state"]:
        return self._slope(states, 1) - torch.eye(self.state_size).to(states)

    def quick(self) -> ObservedStep:
        other = copy.copy(self)
        other._taped = Taped(self._ran)
        return other

    def check(self, states: Float64[Tensor, "point state"]) -> None:
        """Raise RecordingError if it has no derivative that autograd knows, or draws at random."""
        with torch.enable_grad():
            before = states.detach().clone().requires_grad_()
            check_rows([self._made(before)[0]], [before], self.layer, torch.finfo(before.dtype).eps)
        once, again = self.after(states), self.after(torch.cat([states, states]))
        if not torch.allclose(again, torch.cat([once, once]), atol=1e-9):
            raise RecordingError(
                f"a step of layer {self.layer!r} is another in every row: it draws random numbers "
                "(dropout in training mode?), or rows act on each other"
            )
        with untouched(self._model):
            torch.rand(1), random.random(), np.random.rand()  # the next ones are others
            again = self.after(states)
        if not torch.allclose(again, once, atol=1e-9):
            raise RecordingError(
                f"a step of layer {self.layer!r} draws random numbers (dropout in training mode?): "
                "it is no function of its state"
            )
        self._check_slope(states)

    def _check_slope(self, states: Tensor) -> None:
        """Raise RecordingError if autograd leaves a share of the state out, or adds one."""
        generator = torch.Generator().manual_seed(0)
        drawn = torch.rand(2, *states.shape, generator=generator, dtype=torch.double).to(states)
        # beside the states themselves, which may lie on the edge of a branch (a relu's zero)
        states, way = states + 0.01 * (drawn[0] - 0.5), drawn[1] - 0.5
        said = (self.slope(states) @ way[..., None])[..., 0]
        found, wider = (self._moved(states, way, by) for by in (NUDGE, 2 * NUDGE))
        apart = (found - said).abs().max(1).values
        # what rounds on the way, as to float32, is not told closer than two nudges differ
        near = APART * found.abs().max().clamp(min=1) + 10 * (found - wider).abs().max()
        is_off = bool((apart > near).any())
        if is_off and not self._is_made_up(states):
            raise RecordingError(
                f"a step of layer {self.layer!r} is moved by its state otherwise than autograd "
                f"says (by {float(apart.max()):.2g} along one direction): its code hands numbers "
                "of the state on without their graph (torch.no_grad(), .detach(), .data, .item()). "
                "Let it be differentiated as it computes"
            )

    def _moved(self, states: Tensor, way: Tensor, by: float) -> Tensor:
        """How far states come along a direction, a unit of it, by a difference."""
        return (self.after(states + by * way) - self.after(states - by * way)) / (2 * by)

    def _is_made_up(self, states: Tensor) -> bool:
        """Whether its code gives derivatives of its own, by a custom autograd function."""
        with torch.enable_grad():
            made = self._made(states.detach().clone().requires_grad_())
        todo: list[Any] = [one.grad_fn for one in made]
        seen = set[Any]()
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            if isinstance(node, torch.autograd.function.BackwardCFunction):
                return True
            seen.add(node)
            todo += [one for one, _ in node.next_functions]
        return False

    def _slope(self, states: Tensor, of: int) -> Tensor:
        with torch.enable_grad():
            before = states.detach().clone().requires_grad_()
            made = self._made(before)[of]
            ways = torch.eye(self.state_size).to(made)[:, None].expand(-1, len(states), -1)
            (found,) = pulled([made], [before], [ways])
        return found.transpose(0, 1)

    def _made(self, states: Tensor) -> tuple[Tensor, ...]:
        return self._ran(states) if self._taped is None else self._taped(states)

    def _ran(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The states after the step, and what is equal to the state where it stands still."""
        if not len(states):
            return states, states
        if self._has_batch and len(states) == 1:
            # code that squeezes takes one row for none
            both = self._ran_at_once(states.expand(2, -1))
            return both[0][:1], both[1][:1]
        if self._has_batch:
            return self._ran_at_once(states)
        pairs = [self._ran_at_once(states[i : i + 1]) for i in range(len(states))]
        after, like = zip(*pairs, strict=True)
        return torch.cat(after), torch.cat(like)

    def _ran_at_once(self, states: Tensor) -> tuple[Tensor, Tensor]:
        form, t, found = self._form, self.t, dict[str, Tensor]()
        parts = dict(zip(self._names, states.chunk(len(self._names), 1), strict=True))
        wanted = {*self._names, *(self._candidate.symbols if self._candidate else ())}

        def change(name: str, step: int, value: Tensor) -> Tensor:
            if step == t - 1 and name in parts:
                given, turned = parts[name], value.movedim(form.axis, 0)
                rows = len(turned) if self._has_batch else 1
                if value.numel() != given.numel() or rows != len(given):
                    raise RecordingError("its states have other rows than its input")
                return given.reshape(turned.shape).movedim(0, form.axis)
            if step == t:
                found[name] = value
                if wanted <= set(found):
                    raise Enough
            return value

        def read(step: int, value: Tensor) -> Tensor:
            given = parts[form.carried].flatten()
            if step == t and not torch.equal(value.movedim(form.axis, 0).flatten(), given):
                raise RecordingError("the step reads another state than the one that was given")
            return value

        spots = {one.name: one.spot for one in form.signals}
        series = [Series(spots[n], change=partial(change, n), keep=False) for n in sorted(wanted)]
        series.append(Series(form.before, change=read, keep=False))
        used = {one.spot.site.path for one in series}
        paths = Paths({p: m for p, m in self._model.named_modules() if p and p in used})
        reading = Reading(series, paths, BEGAN, is_here=lambda: True, alias=form.alias)
        with ExitStack() as undo:
            undo.enter_context(eagerly())
            undo.enter_context(untouched(self._model))
            for one in paths.follow():
                undo.callback(one)
            undo.enter_context(MadeDouble())
            undo.enter_context(reading)
            try:
                began(self._run_of(len(states)))
            except Enough:
                pass
            else:
                raise RecordingError(f"its run ended before step {t}")
        made = [found[name].movedim(form.axis, 0) for name in self._names]
        after = torch.cat([one.reshape(len(states), -1) for one in made], 1)
        if self._candidate is None:
            return after, after
        like = found[form.carried]
        full = {name: full_value(found[name], like) for name in self._candidate.symbols}
        still = self._candidate.value(full, like).movedim(form.axis, 0)
        return after, still.reshape(len(states), -1)


def observed_step(
    model: nn.Module,
    *args: Any,
    layer: str | None = None,
    t: Integer = -1,
    row: Integer = 0,
    call: MethodName = None,
    inputs: Inputs = None,
    **kwargs: Any,
) -> ObservedStep:
    """One step of an observed cell as a function of its state, for `find_fixed_points`.

    The input of the step, and whatever else its module has at it, is that of a row of this run at
    this position. The step runs in the module's own code, in a copy of the model in float64 on
    which the row is repeated once for each state; a model that is given no batch runs once for each
    state.

    Args:
        model: the model.
        *args: its own arguments.
        layer: which layer; may be left out where there is one.
        t: position of the step, from 1 on or negative from the end. The steps before it run each
            time: the earlier, the faster.
        row: which row of the batch.
        call: the name of the method that is the run; as for `record`.
        inputs: all arguments of the run as (args, kwargs), as for `record`.
        **kwargs: the model's own keyword arguments.

    Raises:
        CellError: the layer is opened by its weights: its cell is a function of the state itself.
        LayerError: there is no such layer.
        PositionError: there is no such position or row, or no state before the step.
        RecordingError: the step cannot be run on its own: the model cannot be copied or run in
            float64, a repeated row does not run as it did, its rows act on each other, or the step
            draws random numbers.

    >>> from torch import nn
    >>> class Mine(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.gate, self.new = nn.Linear(7, 4), nn.Linear(7, 4)
    ...     def forward(self, x):
    ...         h = x.new_zeros(len(x), 4)
    ...         for t in range(x.shape[1]):
    ...             both = torch.cat([x[:, t], h], 1)
    ...             u = torch.sigmoid(self.gate(both))
    ...             h = u * h + (1 - u) * torch.tanh(self.new(both))
    ...         return h
    >>> step = observed_step(Mine(), torch.ones(2, 5, 3), t=1)
    >>> step
    ObservedStep('cell', t 1, row 0, h = z h_prev + (1 - z) n)
    >>> step.slope(torch.zeros(1, 4).double()).shape
    torch.Size([1, 4, 4])
    """
    given = arguments(args, kwargs, inputs)
    look(model)  # what is no module is said to be none
    with untouched(model):
        run = record(model, call=call, inputs=fresh(given))
    recorded = layer_of(run, layer)
    if not isinstance(recorded, ObservedLayer):
        raise CellError(
            f"layer {recorded.name!r} is opened by its weights, and needs no run: use its cell, "
            f"find_fixed_points(run[{recorded.name!r}].cell, x=...)"
        )
    recorded.check_one_batch("a step on its own")
    rows, steps, _ = recorded.shape
    at = _place(t, steps, "time", recorded.name)
    which = _place(row, rows, "row", recorded.name)
    if at in recorded.calls:
        raise PositionError(
            f"step {at} of layer {recorded.name!r} is the first of its call: the state before it "
            "is made elsewhere, and cannot be replaced there; choose a later one, or let an input "
            "begin with this step's twice and choose the second"
        )
    form = next(form for form in known_forms(model) if form.name == recorded.name)
    return _step(model, given, call, form, recorded, at, which)


def _place(index: Any, size: int, what: str, layer: str) -> int:
    place = positions.normal(index, what)
    if not isinstance(place, int):
        raise PositionError(f"{what} must be one position, an int, got {shown(index)}")
    positions.check(place, size, what, f"layer {layer!r}")
    return place % size


def _step(
    model: nn.Module,
    given: Given,
    call: Any,
    form: ObservedForm,
    layer: ObservedLayer,
    t: int,
    row: int,
) -> ObservedStep:
    names, rows = layer.cell.states, layer.shape[0]
    signals = [getattr(layer, name).detach() for name in names]
    before, after = (torch.cat([one[row, at] for one in signals]).double() for at in (t - 1, t))
    why: list[str] = []
    eps, device = torch.finfo(layer.state.dtype).eps, layer.state.device
    if autocast(device) or any(segment.spacing > eps for segment in layer.segments):
        raise RecordingError(
            f"a step of layer {layer.name!r} is repeated in float64, and torch.autocast rounds it: "
            "ask outside of it, or of a model whose own code does not open it"
        )
    try:
        exact = copy.deepcopy(model, _numbers_held(model)).double().requires_grad_(False)
    except Exception as error:  # whatever the user's own code says of a copy
        raise RecordingError(
            f"a step of layer {layer.name!r} runs in a copy of the model in float64, and it cannot "
            f"be copied: {shown(error)}"
        ) from error
    axes: tuple[int | None, ...] = (0, 1) if _has_batch(layer) else (None,)
    for axis in axes:
        run_of = partial(_run, exact, call, given, axis, rows, row)
        step = ObservedStep(layer, t, row, exact, form, run_of)
        try:
            made = step.after(before.expand(2, -1))
        except Exception as error:  # whatever the user's own code says of such an input
            why.append(_failed(error, rows, 2))
            continue
        off = float((made - after).abs().max())
        if off > step.eps**0.5 * max(1.0, float(after.abs().max())):
            why.append(f"its state is off by {off:.2g}")
            continue
        try:
            step.check(torch.stack([before, after]))
        except RecordingError:
            raise
        except Exception as error:  # a number of rows that is written into the user's own code
            why.append(_failed(error, rows, 4))
            continue
        return step
    repeated, any_rows = (
        f"with row {row} repeated, ",
        ("run with any number of rows that do not act on each other, "),
    )
    if not _has_batch(layer):
        repeated = any_rows = ""
    raise RecordingError(
        f"a step of layer {layer.name!r} cannot be run on its own: {repeated}in float64, the model "
        f"does not run as it did ({why[0]}). It must {any_rows}draw no random numbers (use the "
        "mean of what it draws), make nothing that is float32 by name, and carry no state from an "
        "earlier call (reset it)"
    )


def _has_batch(layer: ObservedLayer) -> bool:
    """Whether its states have an axis of rows."""
    return layer.segments[0].read[layer.cell.carried][0].dim() > 1


def _numbers_held(model: nn.Module) -> dict[int, Any]:
    """What a copy of a model holds for states with a graph, of which torch makes no copies."""
    todo: list[Any] = [value for module in model.modules() for value in vars(module).values()]
    copies: dict[int, Any] = {}
    seen = set[int]()
    while todo:
        one = todo.pop()
        if isinstance(one, Tensor) and not one.is_leaf:
            copies[id(one)] = one.detach().clone()
        elif isinstance(one, tuple | list | dict) and id(one) not in seen:
            seen.add(id(one))
            todo += one.values() if isinstance(one, dict) else one
    return copies


def _failed(error: Exception, rows: int, count: int) -> str:
    """What a model's own code says of another number of rows, and where."""
    frames = traceback.walk_tb(error.__traceback__)
    own = [(line, frame.f_code) for frame, line in frames if is_users(frame.f_code)]
    where = "".join(f"line {line} of {basename(code.co_filename)}: " for line, code in own[-1:])
    return f"its code fails with {count} rows in place of {rows}: {where}{error or shown(error)}"


def _run(
    model: nn.Module, call: Any, given: Given, axis: int | None, rows: int, row: int, count: int
) -> Callable[[], Any]:
    """The run with one row so many times."""
    args, kwargs = _repeated(given, axis, rows, row, count)
    return partial(way_in(model, call), *args, **kwargs)


def _repeated(given: Given, axis: int | None, rows: int, row: int, count: int) -> Any:
    """Arguments in which one row stands so many times, in float64; as they are without an axis."""

    def of(value: Any) -> Any:
        if isinstance(value, Tensor):
            value = value.detach()
            value = value.double() if value.is_floating_point() else value
            if axis is not None and value.dim() > axis and value.shape[axis] == rows:
                return value.select(axis, row).unsqueeze(axis).repeat_interleave(count, axis)
            return value.clone()
        if type(value) in (tuple, list):
            return type(value)(of(part) for part in value)
        if type(value) is dict:
            return {name: of(part) for name, part in value.items()}
        return value

    return of(given)
