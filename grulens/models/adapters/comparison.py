"""Whether what an adapter says of a module is what the module does, at every step of a call.

Step by step: each state is computed from the state that the module itself had before it, so that
a small difference cannot grow over time into one that looks like a wrong convention; and no step is
left out, so that what a module does now and then (a mask, a clip, a reset) is found when it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from grulens.cells.cell import RecurrentCell
from grulens.cells.kinds.gru import Cell
from grulens.errors import AdapterError, ConventionError
from grulens.models.adapters.adapter import Adapter
from grulens.models.adapters.fitting import alternatives, what_it_does
from grulens.models.adapters.torch_modules import OfCell, OfSequence, looks
from grulens.models.call.call import Call, Cells, Key, Run
from grulens.models.call.segment import Segment
from grulens.models.restore.interrupts import grads, random_kept

ROWS, STEPS = 4, 64
"""How much of a call is looked at to find the convention that fits."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """One call of a module, and what it returned for it.

    Attributes:
        adapter: what is said of the module.
        module: the module.
        call: the call as the adapter reads it.
        cells: the cells with the weights that ran.
        result: what the module returned.
        names: its layers.
        start: the step of the layers' time axis at which the call begins.
        rng: where the random numbers stood before it, if dropout between its levels drew some.
        places: the row and step from which each row was taken, where they are steps that an edit
            led to.
        results: whether what the adapter makes of states is compared with what came back, too.
    """

    adapter: Adapter
    module: nn.Module
    call: Call
    cells: Cells
    result: Any
    names: Mapping[Key, str]
    start: int = 0
    rng: Tensor | None = None
    places: Tensor | None = None
    results: bool = True

    def check(self) -> None:
        """Compare them.

        Raises:
            AdapterError: they differ; the message says at which step, by how much, and what fits.
        """
        with grads(False):
            self._check()

    def _check(self) -> None:
        call = self.call
        body = call.enter(self.result)
        with nullcontext() if self.rng is None else random_kept(self.rng):
            # what is below the last level has to be run: a module does not return it
            done = call.run(self.cells) if call.levels > 1 else None
        x = done.inputs[-1] if done else call.layout.rows(call.body)
        h = call.layout.rows(body)
        said = _stepwise(call, self.cells, x, h)
        off = (said - h).abs()
        eps = torch.finfo(h.dtype).eps
        worst = float(off.max()) if off.numel() else 0.0
        limit = min(32 * eps, _most(h.dtype))
        if not worst <= limit:
            off, limit = _apart(said, h), self._limit(x, h, said)
            if float(off.max()) > limit:
                raise self._mismatch(x, h, said, off, limit)
        if not self.results:
            return
        last = call.last(body)
        h_n = torch.cat([done.h_n[: -call.directions], last]) if done else last
        self._check_results(body, h_n, _scale(h))

    def _limit(self, x: Tensor, h: Tensor, said: Tensor) -> float:
        """How far rounding may take the module's states from these, by how far it took these."""
        most = _most(h.dtype) * _scale(h)
        if self.call.levels > 1:
            return most  # the input of the last level is as far off as those below it have run
        if h.is_cuda and h.dtype is torch.float32 and torch.backends.cudnn.allow_tf32:
            return _most(torch.float16) * _scale(h)  # the kernel rounds each product to 11 bits
        eps = torch.finfo(h.dtype).eps
        other = torch.float32 if h.dtype is torch.float64 else torch.float64
        try:
            cells = {key: cell.over(lambda t: t.to(other)) for key, cell in self.cells.items()}
            call = replace(self.call, body=self.call.body.to(other), h_0=self.call.h_0.to(other))
            exact = _stepwise(call, cells, x.to(other), h.to(other))
        except Exception:  # a function of the user's own, or a device, that knows one dtype only
            return most
        rounding = (exact.double() - said.double()).abs().nan_to_num(0, 0, 0)
        share = eps / max(eps, torch.finfo(other).eps)
        return min(most, 32 * eps * _scale(h) + 32 * share * float(rounding.max()))

    def _mismatch(
        self, x: Tensor, h: Tensor, said: Tensor, off: Tensor, limit: float
    ) -> AdapterError:
        call = self.call
        wrong = off.amax(2) > limit
        step = int(wrong.any(0).nonzero()[0])
        row = int(off[:, step].amax(1).argmax())
        width = off.shape[2] // call.directions
        direction = int(off[row, step].argmax()) // width
        name = self.names[call.levels - 1, direction]
        text = (
            f"{self._who()}: at layer {name!r}, step {self._step(row, step)}, the states "
            f"differ by {float(off[:, step].max()):.2g} (expected at most {limit:.0e})"
        )
        if self.places is not None:
            text += ", from a state that an edit led to"
        best, fit = self._other(x, h, limit, row, step)
        if fit:
            return AdapterError(f"{text}. What fits is {fit}", f"computes another GRU: {fit}")
        if does := self._does(x, h, said, (wrong[:, step], step), direction):
            text += f". There it {does}: no cell says that"
        elif best < float("inf"):
            text += f". No convention that grulens knows fits; the nearest differs by {best:.2g}"
        else:
            text += ". Compare its equations, and the order in which its weights are packed"
        if self._built_in:
            text += f". Say what it computes with grulens.adapters.register, or leave {name!r} out"
        if self.module.training and call.levels > 1:
            text += (
                "; it is in training mode: if it has dropout between its layers, use model.eval()"
            )
        by = f"it {does}" if does else f"the states differ by {float(off[:, step].max()):.2g}"
        return AdapterError(text, f"does not compute what torch's does ({by})")

    def _step(self, row: int, step: int) -> str:
        if self.places is not None:
            row, step = self.places[row].tolist()
        return f"{self.start + step}, row {row}"

    @property
    def _built_in(self) -> bool:
        return isinstance(self.adapter, OfSequence | OfCell)

    def _who(self) -> str:
        kind = type(self.module).__name__
        if not self._built_in:
            return f"the adapter of {kind} does not say what the module computes"
        return (
            f"the forward of this {kind} is not torch's own and does not compute what torch's does"
        )

    def _other(
        self, x: Tensor, h: Tensor, limit: float, row: int, step: int
    ) -> tuple[float, str | None]:
        """How near the nearest other convention comes, and the one that fits at every step."""
        call = self.call
        part, some_x, some_h = call, x, h
        if call.layout.lengths is None and call.levels == call.directions == 1:
            first = max(0, min(row, len(h) - ROWS))
            begin = max(0, min(step, call.steps - STEPS))
            rows, steps = slice(first, first + ROWS), slice(begin, begin + STEPS)
            h_0 = call.h_0[:, rows] if not begin else h[rows, begin - 1][None]
            part = replace(call, body=call.body[steps, rows], h_0=h_0)
            some_x, some_h = x[rows, steps], h[rows, steps]
        best = torch.inf
        grus = {key: cell for key, cell in self.cells.items() if isinstance(cell, Cell)}
        for words, change in alternatives(grus[0, 0]) if (0, 0) in grus else ():
            try:
                cells: Cells = {key: change(cell) for key, cell in grus.items()}
            except ConventionError:
                continue  # a gate for which z cannot be swapped
            near = float(_apart(_stepwise(part, cells, some_x, some_h), some_h).max())
            if near <= limit and part is not call:
                near = float(_apart(_stepwise(call, cells, x, h), h).max())
            if near <= limit:
                return near, f"{words} (a difference of {near:.0e})"
            best = min(best, near)
        return best, None

    def _does(
        self, x: Tensor, h: Tensor, said: Tensor, where: tuple[Tensor, int], direction: int
    ) -> str | None:
        """In words, what it does at a step in the rows in which it is off."""
        call = self.call
        states, expected = (t.chunk(call.directions, 2)[direction] for t in (h, said))
        segment = _segment(call, self.cells, (call.levels - 1, direction))
        before = segment.before(states)
        zero = torch.zeros_like(before)
        anew = segment.cell.output(segment.signals(x, zero, zero), zero)
        return what_it_does(before[where], expected[where], states[where], anew[where])

    def _check_results(self, body: Tensor, h_n: Tensor, scale: float) -> None:
        """Raise AdapterError unless the adapter makes of these states what the module returned."""
        call, built_in = self.call, self._built_in
        made = call.leave(Run(body=body, h_n=h_n))
        ours, shape = tree_flatten(made)
        theirs, expected = tree_flatten(self.result)
        kind, name = type(self.module).__name__, self.names[0, 0]
        who = (
            f"torch's forward, which is not that of this {kind},"
            if built_in
            else (f"'result' of the adapter of {kind}")
        )
        if shape != expected:
            raise AdapterError(
                f"{who} gives {looks(made)}; the module returned {looks(self.result)} at layer "
                f"{name!r}"
            )
        for one, other in zip(ours, theirs, strict=True):
            if not isinstance(other, Tensor):
                continue
            if not isinstance(one, Tensor) or one.shape != other.shape:
                raise AdapterError(
                    f"{who} gives {looks(one)} where the module returned {looks(other)} at layer "
                    f"{name!r}",
                    f"returns {looks(other)}, where torch's returns {looks(one)}",
                )
            if other.is_floating_point() and not torch.equal(one, other):
                off = float(_apart(one, other).max())
                if off > 10 * _most(other.dtype) * scale:
                    raise AdapterError(
                        f"{who} gives values that differ from what the module returned by "
                        f"{off:.2g} at layer {name!r}",
                        f"returns other values than torch's (by {off:.2g})",
                    )


def steps_of(call: Call, cells: Cells, done: Run) -> tuple[Tensor, Tensor, Tensor]:
    """Each step of a run as a row of its own, without padding.

    Returns:
        x (step, 1, input), the states before them (level and direction, step, unit), and the row
        and step that each was, (step, 2).
    """
    keys = [(level, d) for level in range(call.levels) for d in range(call.directions)]
    states = [done.states[key] for key in keys]
    segments = [_segment(call, cells, key) for key in keys]
    mask = segments[0].mask
    before = [s.before(h)[mask] for s, h in zip(segments, states, strict=True)]
    return done.inputs[0][mask][:, None].detach(), torch.stack(before).detach(), mask.nonzero()


def _stepwise(call: Call, cells: Cells, x: Tensor, h: Tensor) -> Tensor:
    """One step from each state that the module had, (batch, time, direction and unit)."""
    if call.steps == call.levels == call.directions == 1 and call.layout.lengths is None:
        return _step(cells[0, 0], x.transpose(0, 1), call.h_0).transpose(0, 1)
    parts = []
    for direction, states in enumerate(h.chunk(call.directions, 2)):
        segment = _segment(call, cells, (call.levels - 1, direction))
        before = segment.before(states)
        signals = segment.signals(x, states, before)
        if len(segment.cell.states) > 1:
            before = segment.before(segment.whole(states, signals))
        parts.append(segment.cell.output(signals, before))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _step(cell: RecurrentCell, x: Tensor, state: Tensor) -> Tensor:
    """A single step of each row, (1, batch, unit): a loop of cells asks for it each time."""
    return cell.output(cell.compute(cell.project(x), state), state)


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """How far two tensors are apart; infinity where one of them alone is no number."""
    same = (one == other) | (one.isnan() & other.isnan())
    return (one - other).abs().masked_fill(same, 0).nan_to_num(torch.inf)


def _segment(call: Call, cells: Cells, key: Key) -> Segment:
    h_0 = call.state_of(key)
    return Segment(
        cells[key], lambda: h_0, lambda: h_0, h_0, call.steps, call.layout.lengths, bool(key[1]),
        None,
    )  # fmt: skip


def _most(dtype: torch.dtype) -> float:
    """What no rounding exceeds, for states of the size of 1."""
    return float(torch.finfo(dtype).eps ** 0.5 / 4)


def _scale(h: Tensor) -> float:
    """The size of the largest state, at least 1."""
    finite = h.abs().nan_to_num(0, 0, 0)
    return max(1.0, float(finite.max())) if h.numel() else 1.0
