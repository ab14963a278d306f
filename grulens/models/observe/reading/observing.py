"""The observed cells of a model in one run: what is read of them, changed in them, and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from grulens.cells.changes import Program
from grulens.cells.observed import ObservedCell
from grulens.cells.signal import Signal
from grulens.errors import EditError, RecordingError, SignalError
from grulens.models.call.place import EditLike, Place
from grulens.models.observe.aside import left_aside
from grulens.models.observe.form import Observed, ObservedForm, Spot, row_of
from grulens.models.observe.paths import Paths
from grulens.models.observe.reading.counted import Counted
from grulens.models.observe.reading.cuts import Cuts
from grulens.models.observe.reading.kept import writes_to
from grulens.models.observe.reading.marks import Marks
from grulens.models.observe.reading.reading import BEGAN, Change, Reading, Series
from grulens.models.observe.reading.segment import BEFORE, MIX, READ, ObservedSegment
from grulens.models.observe.rounds import in_turn
from grulens.models.observe.sites import Site
from grulens.models.restore.interrupts import grads

ENOUGH = 4
"""How many steps show whether an equation holds for other values."""
Put = Callable[[str, int, Tensor, Callable[[Tensor], Tensor]], Tensor]
"""From the name of a state, a step, the state there and what edits it to what is handed on."""
Placed = Callable[[str, int], tuple[int, Callable[[], Tensor] | None]]
"""From a layer and its rows to the length of the unedited run's time axis, and its mean."""


def cell_of(form: ObservedForm, kind: str) -> ObservedCell:
    """What is known of an observed cell; of one form it is always the same object.

    Args:
        form: its form.
        kind: the class of its module.
    """
    known = _CELLS.setdefault(form, {})
    if kind not in known:
        known[kind] = _cell_of(form, kind)
    return known[kind]


_CELLS: WeakKeyDictionary[ObservedForm, dict[str, ObservedCell]] = WeakKeyDictionary()


def _cell_of(form: ObservedForm, kind: str) -> ObservedCell:
    signals, others = (
        tuple(
            Signal(
                one.name, one.words, one.low, one.high, one.role,
                bool(one.bend or one.pre or one.barred) and one.name != "h",
            )
            for one in several
        )
        for several in (form.signals, form.others)
    )  # fmt: skip
    lines = {one.name: (one.where, one.text or one.spot.site.text) for one in form.signals}
    cut = {one.name: one.barred for one in form.signals if one.barred}
    site = form.state.site
    remarks = form.rounds, in_turn(site, form.lag, form.turn), left_aside(site), form.laid
    return ObservedCell(
        kind, signals, form.form, form.equation, form.carried, form.shape, others, lines,
        form.bend or form.bend_before, cut, "" if form.loop is None else str(form.loop),
        form.hides, form.read_by,
        "; ".join(filter(None, remarks)), form.axis, form.comes_back,
        form.channel,
    )  # fmt: skip


@dataclass(eq=False)
class Observing:
    """What stands in a model while its observed cells are watched.

    Args:
        forms: the cells, by the names of their layers.
        cells: what is known of each, the same.
        model: the model.
        keep: the layers to record.
        edits: what to change in each, by layer.
        placed: the unedited run's length and mean, where an edit refers to it.
        graph: whether what is recorded is part of autograd's graph.
        is_here: whether the code that runs is to be read.
        nudged: whether every signal is made a little smaller at every step: what follows from that
            tells whether the equations hold for other values too. A few steps are enough, and then
            the run ends by `Enough`.
        marks: whether the forwards of the model's modules may be stood in for, as nothing else
            reads the run and it comes to each of them by its module.
        puts: by layer what is handed on in place of its states.
    """

    forms: dict[str, ObservedForm]
    cells: dict[str, ObservedCell]
    model: nn.Module
    keep: Sequence[str]
    edits: dict[str, list[EditLike]]
    placed: Placed
    graph: bool
    is_here: Callable[[], bool]
    nudged: bool = False
    marks: bool = False
    puts: Mapping[str, Put] = field(default_factory=dict)
    _series: dict[str, dict[str, Series]] = field(default_factory=dict)
    _programs: dict[str, tuple[int, Program]] = field(default_factory=dict)
    _mode: Reading | None = None
    _counted: Counted | None = None
    _cuts: Cuts | None = None
    _noting: Cuts | None = None

    def follow(self) -> Iterator[Callable[[], None]]:
        """Read the run from now on; each thing that is done comes with what undoes it."""
        every: list[Series] = []
        self._nudges: set[Spot] = set()
        # a state may be a signal of another cell, and is changed as such
        self._moved = {
            spot
            for name, form in self.forms.items()
            for one in (*form.signals, *form.others)
            if self._is_changed(name, one)
            for spot in (one.spot, *one.also)
        }
        for name, form in self.forms.items():
            if name in self.keep or self.edits.get(name) or name in self.puts:
                every += self._of(form)
        modules = dict(self.model.named_modules())
        used = {one.spot.site.path for one in every}
        self.reading: Reading | Marks
        copies = any(self.forms[name].in_place for name in self._series)
        edited = bool(self.puts) or any(self.edits.get(name) for name in self.forms)
        of = () if self.nudged else [self.forms[name] for name in self._series]
        rivals = {rival for form in of for rival in form.rivals}
        skipping = {
            form.name: form
            for form in of
            if form.name in self.keep and form.loop is not None and form.loop.may_skip
        }
        alias = dict[Site, Site]()
        for name in self._series:
            alias |= self.forms[name].alias
        if self.marks and not (copies or edited or rivals or skipping or alias):
            marks = Marks(every, modules, BEGAN, is_here=self.is_here, graph=self.graph)
            if marks.possible:
                self.reading = marks
                yield from marks.follow()
                self._note_cuts()
                yield self.stop
                return
        # where no followed module runs, the path is "": that of the model itself
        used |= {one[0] for rival in rivals for one in rival.but if isinstance(one, tuple)}
        paths = Paths({path: modules[path] for path in used if path})
        yield from paths.follow()
        if copies and self.graph:
            raise RecordingError(
                "the code of an observed cell writes over its values in place, so no derivative by "
                "them is left after the run. Without derivatives it is recorded (grad=False); for "
                "them let its code make new values: h = z * h for h.mul_(z) or h *= z, torch.where "
                "for h[mask] = ..., torch.stack for out[:, t] = h"
            )
        until = {form.state: ENOUGH for form in self.forms.values()} if self.nudged else None
        self.reading = self._mode = Reading(
            every,
            paths,
            BEGAN,
            is_here=self.is_here,
            copies=copies,
            graph=self.graph,
            until=until,
            rivals=rivals,
            alias=alias,
        )
        self._mode.__enter__()  # type: ignore[no-untyped-call]  # torch's
        self._note_cuts()
        yield self.stop
        if skipping:
            yield from self._count(skipping, paths)

    def _count(self, forms: dict[str, ObservedForm], paths: Paths) -> Iterator[Callable[[], None]]:
        """Count the rounds in which the loops of some cells make no state."""

        def is_in(name: str) -> bool:
            path, now = forms[name].path, paths.now
            return self.is_here() and (f"{path}.".startswith(f"{now}.") or not now)

        def made(name: str) -> int:
            return self.reading.times(forms[name].state.site)

        self._counted = Counted(forms, made, is_in, BEGAN)
        self._counted.begin()
        yield self._counted.end

    def _note_cuts(self) -> None:
        """Note from now on where numbers are handed on without a graph, where one is kept."""
        if self.graph:
            self._cuts = self._noting = Cuts(BEGAN)
            self._noting.__enter__()  # type: ignore[no-untyped-call]  # torch's

    def stop(self) -> None:
        """Read no more."""
        noting, self._noting = self._noting, None
        if noting is not None:
            noting.__exit__(None, None, None)  # type: ignore[no-untyped-call]  # torch's
        mode, self._mode = self._mode, None
        if mode is not None:
            mode.__exit__(None, None, None)

    def _is_changed(self, name: str, signal: Observed) -> bool:
        if self.nudged:
            return signal.name in self.forms[name].form.symbols
        return any(edit.signal == signal.name for edit in self.edits.get(name, ()))

    def _of(self, form: ObservedForm) -> list[Series]:
        """What is read of a cell, and the changes there."""
        edits = self.edits.get(form.name, [])
        changed = {edit.signal for edit in edits}
        if form.name in self.puts:
            changed |= {*self.cells[form.name].states}
        kept = form.name in self.keep
        spots: dict[str, Spot] = {one.name: one.spot for one in form.signals}
        spots[BEFORE] = form.before
        if form.bend:
            spots[MIX] = form.mix
        if form.read is not None:
            spots[READ] = form.read
        shown = {*form.form.symbols, BEFORE, MIX, READ, *([] if form.bend else [form.carried])}
        found = self._series[form.name] = {
            name: Series(spot, keep=kept, alone=name not in shown) for name, spot in spots.items()
        }
        more = []
        for one in (*form.signals, *form.others):
            if self.nudged:
                if one.name not in form.form.symbols or one.spot in self._nudges:
                    continue
                self._nudges |= {one.spot, *one.also}
                change: Change = _nudged
            elif one.name in changed:
                change = partial(self._changed, form, one, False)
            else:
                continue
            if one.name in found:
                found[one.name].change = change
            else:
                more.append(Series(one.spot, change=change, keep=False))
            more += [Series(spot, change=change, keep=False) for spot in one.also]
            if one.pre and not self.nudged:
                before = partial(self._changed, form, one, True)
                more += [Series(spot, change=before, keep=False) for spot in one.pre]
        if form.state in self._moved and not form.bend and kept:
            # the mix is the state before it is changed
            found[MIX] = Series(form.state, unchanged=True)
        return [*more, *found.values()]

    def _changed(
        self, form: ObservedForm, signal: Observed, before: bool, step: int, value: Tensor
    ) -> Tensor:
        """The value of a signal at a step after the edits; `before` its activation or behind it."""

        def edited(value: Tensor) -> Tensor:
            has = self.edits.get(form.name)
            return self._edited(form, signal, before, step, value) if has else value

        put = self.puts.get(form.name)
        if put is None or before or signal.name not in self.cells[form.name].states:
            return edited(value)
        return put(signal.name, step, value, edited)

    def _edited(
        self, form: ObservedForm, signal: Observed, before: bool, step: int, value: Tensor
    ) -> Tensor:
        program = self._program(form, step, value)
        if program is None or signal.name not in program.signals:
            return value
        whole = self._whole(form, value)
        flat = whole.reshape(len(whole), 1, -1)
        flat = flat if flat.is_floating_point() else flat.float()
        act = program.shift if before else program.apply
        made = act(signal.name, flat, 0)
        if made is flat:
            return value
        changed = made.reshape(whole.shape).movedim(0, form.axis)
        made = changed.to(value.dtype)
        if not value.is_floating_point() and not torch.equal(made.to(changed.dtype), changed):
            held = "true or false" if value.dtype is torch.bool else "whole numbers"
            raise EditError(
                f"{signal.name!r} of layer {form.name!r} is {held} in its module's code, and the "
                f"edit makes {float(changed[changed != made.to(changed.dtype)][0]):g} of it at "
                f"step {step}: give it such a value, or edit a gate beside it"
            )
        return _laid_as(value, made.reshape(value.shape) if value.numel() == made.numel() else made)

    def _whole(self, form: ObservedForm, value: Tensor) -> Tensor:
        """A value with a number for each unit.

        Raises:
            RecordingError: the state of this run is of another shape than the edits are for, or the
                value is laid out otherwise than the state.
        """
        value = _in_front(value, form)
        found, known = tuple(value.shape[1:]), form.shape
        of_state = len(found) == len(known) > 1
        with suppress(RuntimeError):
            if not of_state or all(a in (1, b) for a, b in zip(found, known, strict=True)):
                return _filled(value, known)
        if not of_state and len(known) > 1:
            raise RecordingError(
                f"what is edited in layer {form.name!r} has the shape {tuple(value.shape)} in its "
                f"module's code, and a row of the state has {known}: which of its numbers belong "
                "to which row is not known there. Edit a signal that is laid out as the state is, "
                "such as the state itself ('h')"
            )
        raise RecordingError(
            f"a row of layer {form.name!r} has the shape {found} in this run, and units are "
            f"counted in {known}, that of the last recorded run: record(model, ...) an input of "
            "this size first, and edit it then"
        )

    def _program(self, form: ObservedForm, step: int, value: Tensor) -> Program | None:
        at, known = self._programs.get(form.name, (-1, None))
        if at == step and known is not None:
            return known
        like = self._whole(form, value)
        if not like.is_floating_point():
            like = like.float()
        rows = len(like)
        made = self._made(form, rows, step, 1, like.reshape(rows, -1))
        self._programs[form.name] = step, made
        return made

    def _made(self, form: ObservedForm, rows: int, start: int, steps: int, like: Tensor) -> Program:
        total, mean = self.placed(form.name, rows)
        place = Place(
            form.name, rows, steps, self.cells[form.name], start, total or start + steps, None,
            like.detach(), mean or _no_mean,
        )  # fmt: skip
        changes = [edit.change(place) for edit in self.edits[form.name]]
        every = (*form.signals, *form.others)
        reached = {one.name for one in every if one.pre}
        why = {one.name: one.barred for one in every}
        for change in changes:
            if change.before_activation and change.signal not in reached:
                raise SignalError(
                    f"a shift acts before an activation, and {change.signal!r} of layer "
                    f"{form.name!r} {why[change.signal]}: use clamp or scale, or shift "
                    "another signal"
                )
        return Program(changes, steps, like.detach())

    def finish(self) -> None:
        """Take what was read, when the run is over.

        Raises:
            RecordingError: the code has written over a value since it was read.
        """
        self.reading.finish()

    def lengths(self) -> dict[str, int]:
        """How many steps each cell ran.

        Raises:
            RecordingError: the run came by some signals more often than by others; or as `finish`.
        """
        self.finish()
        return {name: self._steps(name) for name in self._series}

    def _steps(self, name: str) -> int:
        form, series = self.forms[name], self._series[name]
        if self.nudged:  # it ended within a step
            return min(len(one.values) for one in series.values())
        lag, made = form.lag, self.reading.times(form.state.site)
        rounds, steps = made // (form.state.each // lag), _steps_in(form, made)
        for one in series.values():
            times, each = self.reading.times(one.spot.site), one.spot.each // lag
            if times != rounds * each:
                raise RecordingError(
                    f"layer {name!r} came by {one.spot!r} {times} times in {rounds} steps; "
                    f"expected {each} a step, as in the run in which its gates were found: its "
                    "code takes another way at some steps, so what was read there is not known to "
                    "belong to them"
                )
        if steps:
            self._check_rivals(name)
        return steps

    def _check_rivals(self, name: str) -> None:
        """Raise if the run made a state by a line by which it made none when it was looked at."""
        form = self.forms[name]
        kept = self._series[name][form.carried].values
        own = row_of(kept[0].shape, form.axis) if kept else form.shape
        ran = self.reading.ran if isinstance(self.reading, Reading) else {}
        for rival in form.rivals:
            shape = ran.get(rival)
            if shape is not None and row_of(shape, form.axis) == own:
                raise RecordingError(
                    f"layer {name!r} came by {rival}, which may make a state in place of its own "
                    f"line ({form.state.site!r}) and did not run when its gates were found: a step "
                    "would be missing. Record this input again: its gates are looked for anew"
                )

    def segments(self, *names: str) -> dict[str, list[ObservedSegment]]:
        """What was read of each cell that is kept, checked at every step.

        Args:
            *names: the layers; none is all.

        Raises:
            RecordingError: a step does not obey the equation of its cell.
        """
        found = {}
        for name in names or self._series:
            steps = self._steps(name)
            if name not in self.keep or not steps:
                continue
            form, series = self.forms[name], self._series[name]
            after, before = series[form.carried].values, series[BEFORE].values
            _check_rows(form, after[0].shape)
            # a step that does not begin where the last one ended begins another run of the lines
            cuts = [0, *(i for i in range(1, steps) if not _equal(after[i - 1], before[i])), steps]
            calls = series[form.carried].calls
            _check_begins(form, cuts[1:-1], after, before, calls)
            found[name] = [
                replace(
                    self._segment(form, slice(one, other), steps),
                    within=one > 0 and calls[one] == calls[one - 1],
                )
                for one, other in pairwise(cuts)
            ]
        return found

    def unconfirmed(self, parts: Mapping[str, Sequence[ObservedSegment]]) -> list[ObservedForm]:
        """The cells of which no step began with a state that is other than zero.

        What is kept of a state is in no number of theirs, and was not compared.

        Args:
            parts: what was read, as `segments` gives it.
        """
        return [self.forms[name] for name, held in parts.items() if all(map(_of_zeros, held))]

    def off_by(self, name: str) -> tuple[float, ...]:
        """How far each step of a cell is off its equation; empty if its steps have many shapes.

        Args:
            name: its layer.
        """
        form, series = self.forms[name], self._series[name]
        steps = slice(0, min(len(one.values) for one in series.values()))
        read = {one: each.values[steps] for one, each in series.items()}
        if len({value.shape for value in read[form.carried]}) != 1:
            return ()
        with grads(False):
            return tuple(ObservedSegment(self.cells[name], read).errors.tolist())

    def _segment(self, form: ObservedForm, steps: slice, total: int) -> ObservedSegment:
        cell = self.cells[form.name]
        read = {name: one.values[steps] for name, one in self._series[form.name].items()}
        if (shape := row_of(read[form.carried][0].shape, form.axis)) != cell.shape:
            cell = replace(cell, shape=shape)
        left = self._counted.left_out.get(form.name, []) if self._counted else []
        made = ObservedSegment(
            cell,
            read,
            left_out=None
            if left is None
            else tuple(
                before - steps.start
                for before in (_steps_in(form, made) for made in left)
                if steps.start <= before < steps.stop or before == steps.stop == total
            ),
            no_graph=self._no_graph(read[form.carried][-1]),
            cuts=self._cuts,
        )
        _check(form, made, steps.start)
        made = replace(made, writes={name: writes_to(of) for name, of in read.items()})
        if self.edits.get(form.name):
            program = self._made(form, len(made.h_0), steps.start, made.steps, made.h_0)
            made = replace(made, program=program)
        return made

    def _no_graph(self, state: Tensor) -> str:
        """Why a state is no part of autograd's graph, in words; "" if it is."""
        if state.requires_grad:
            return ""
        if not self.graph:
            return "the run was recorded without a graph: record(model, ..., grad=True)"
        if torch.is_inference_mode_enabled():
            return "under torch.inference_mode no graph is kept: record it outside of that"
        if any(one.requires_grad for one in self.model.parameters()):
            return (
                "its code makes its states without a graph (torch.no_grad, .detach() or .data), "
                "though the run was recorded with grad=True: let them be part of it"
            )
        return (
            "no weight of the model requires gradients, nor does what it was given: let one of "
            "them, model.requires_grad_() or x.requires_grad_(), and record with grad=True"
        )


def _steps_in(form: ObservedForm, made: int) -> int:
    """How many steps a cell has made when its run has come by its state's line so often."""
    # of states that are carried in turn, the first ones may have had one step more
    lag = form.lag
    return (made // (form.state.each // lag) - form.turn + lag - 1) // lag


def _of_zeros(segment: ObservedSegment) -> bool:
    """Whether every step of a cell began with a state that is nearly zero."""
    least = segment.spacing**0.5
    before = segment.read[READ if READ in segment.read else BEFORE]
    # the last one first: a state is seldom zero behind the first step
    return not any(bool((one.abs() > least).any()) for one in reversed(before))


def _check(form: ObservedForm, segment: ObservedSegment, start: int) -> None:
    with grads(False):
        off = segment.off()
    if off is not None:
        step, size = off
        raise RecordingError(
            f"layer {form.name!r} does not obey {form.equation} at step {start + step}: it is off "
            f"by {size:.2g}. Its code computes something else there than in the steps in which its "
            "gates were found"
        )


def _check_begins(
    form: ObservedForm,
    begins: Sequence[int],
    after: Sequence[Tensor],
    before: Sequence[Tensor],
    calls: Sequence[int],
) -> None:
    """Raise unless steps that do not follow on the last one begin another sequence.

    A cell that is called step by step is given its state. A loop within one call begins anew with
    zeros, or with the state with which it began before.
    """
    for step in begins:
        given = calls[step] != calls[step - 1]
        if given or _equal(before[step], before[0]) or not bool(before[step].any()):
            continue
        last, first = (_in_front(one, form) for one in (after[step - 1], before[step]))
        if gone := _gone(last, first):
            which = f"row {gone[0]}" if len(gone) == 1 else f"rows {', '.join(map(str, gone))}"
            raise RecordingError(
                f"{which} of layer {form.name!r} end with step {step - 1}: its code goes on with "
                f"{len(first)} of {len(last)} rows. Keep the rows where they "
                "are, with a mask: h = torch.where(mask, new, h)"
            )
        raise RecordingError(
            f"layer {form.name!r} does not begin step {step} with the state after step "
            f"{step - 1}, nor with a first one: its code takes another way between them, which is "
            f"no part of {form.equation}. Record the part of the run that takes one way; or all "
            "but observed cells, with observe=False"
        )


def _check_rows(form: ObservedForm, shape: torch.Size) -> None:
    """Raise where a state of one row had rows along an axis that could not be seen."""
    now = row_of(shape, form.axis)
    # of one row, what is as long as another number of units may be several rows
    one_axis = len(now) == 1 and (len(shape) == 1 or shape[form.axis] == 1)
    unsure = form.unsure and shape[form.axis] == 1 and now[0] != form.shape[0]
    if unsure or (one_axis and now != form.shape):
        raise RecordingError(
            f"a state of layer {form.name!r} has the shape {tuple(shape)} in this run; when its "
            f"gates were found, a row of it had the shape {form.shape}, and along which axis its "
            "rows lie could not be seen, as there was one"
        )


def _in_front(value: Tensor, form: ObservedForm) -> Tensor:
    """A value of one step with its rows along the first axis."""
    if not form.axis:
        return value
    axes, shape = len(form.shape) + 1, [*form.shape]
    shape.insert(form.axis, -1)
    spread = value.reshape((1,) * (axes - value.dim()) + value.shape)
    sizes = zip(spread.shape, shape, strict=False)
    if value.dim() < axes and not all(a in (1, b) or b < 0 for a, b in sizes):
        spread = value.reshape(shape)
    return spread.movedim(form.axis, 0)


def _gone(after: Tensor, before: Tensor) -> list[int]:
    """The rows of a state which the next step has not got any more, where it has all others."""
    same = after.dim() == before.dim() > 1 and after.shape[1:] == before.shape[1:]
    if not same or len(before) >= len(after):
        return []
    alike = (after[None] == before[:, None]).flatten(2).all(2)
    left: list[int] = (~alike.any(0)).nonzero().flatten().tolist()
    return left if bool(alike.any(1).all()) else []


def _nudged(step: int, value: Tensor) -> Tensor:
    return value * 0.875 if value.is_floating_point() else value


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two states are the same numbers."""
    if one is other:
        return True
    if one.numel() != other.numel():
        return False
    if one.data_ptr() == other.data_ptr() and one.dtype is other.dtype:
        return True
    return torch.equal(one.flatten(), other.flatten().to(one.dtype))


def _no_mean() -> Tensor:
    raise RecordingError("the mean of the unedited run is not known here")


def _laid_as(value: Tensor, made: Tensor) -> Tensor:
    """A tensor laid out in memory as another one, for torch adds up in the order of the memory."""
    pairs = zip(value.shape, value.stride(), strict=True)
    span = 1 + sum((size - 1) * step for size, step in pairs)
    if value.shape != made.shape or value.stride() == made.stride() or span < value.numel():
        return made  # numbers that share their memory cannot be other ones
    laid = torch.empty_strided(value.shape, value.stride(), dtype=made.dtype, device=made.device)
    return laid.copy_(made)


def _filled(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A value of one step as one number for each unit of each row."""
    if value.dim() == len(shape) + 1:
        return value.expand(len(value), *shape)
    if value.dim() and value.numel() and value[0].numel() == torch.Size(shape).numel():
        return value.reshape(len(value), *shape)
    return value.expand(1, *shape)
