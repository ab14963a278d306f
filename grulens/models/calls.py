"""One call of a GRU module, and its layers run one by one through the same kernel.

torch returns the states of the last layer only. Run layer by layer, in the body's own shape and
with the dropout masks drawn where the kernel would draw them, the others come out bit for bit as
the kernel computed them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

from grulens.errors import DropoutMaskError, EmptySequenceError
from grulens.gru.cell import Cell
from grulens.gru.changes import Program, reverse
from grulens.gru.unroll import run
from grulens.models.find import GRU
from grulens.models.form import Dense, Form, Packed

Key = tuple[int, int]  # level, direction (1 is the reverse one)


@dataclass(frozen=True, eq=False)
class Inside:
    """One direction of one level while it runs: what a program is made for.

    Attributes:
        key: level and direction.
        cell: its weights.
        x: its input, in rows, at the positions of the input sequence.
        h_0: (batch, unit).
        lengths: row lengths or None.
    """

    key: Key
    cell: Cell
    x: Tensor
    h_0: Tensor
    lengths: Tensor | None

    def states(self, program: Program | None) -> tuple[Tensor, Tensor]:
        """The states at the positions of the input, zero on padding; and the last one."""
        x = self.x
        if self.key[1]:
            x = reverse(x, self.lengths)
            program = program and program.reversed(self.lengths)
        h = run(self.cell, x, self.h_0, program, self.lengths)
        last = h[:, -1]
        if self.key[1]:
            h = reverse(h, self.lengths)
        if self.lengths is not None:
            time = torch.arange(h.shape[1], device=h.device)
            h = h.masked_fill((time >= self.lengths[:, None])[..., None], 0)
        return h, last

    def mean(self) -> Tensor:
        """The mean unedited state (unit,) over valid steps and rows."""
        h, _ = self.states(None)
        if self.lengths is None:
            return h.mean((0, 1))
        return h.sum((0, 1)) / self.lengths.sum().to(h.device)


MakeProgram = Callable[[Inside], Program | None]


@dataclass
class Run:
    """All layers of one call.

    Attributes:
        inputs: per level, rows (batch, time, feature).
        states: per level and direction, rows (batch, time, unit).
        programs: per level and direction, what was changed.
        body: the last level's output.
        h_n: the last states (level and direction, batch, unit).
    """

    inputs: list[Tensor] = field(default_factory=list)
    states: dict[Key, Tensor] = field(default_factory=dict)
    programs: dict[Key, Program] = field(default_factory=dict)
    body: Tensor = field(default_factory=lambda: torch.empty(0))
    h_n: Tensor = field(default_factory=lambda: torch.empty(0))

    def keep_copies(self, graph: bool) -> None:
        """Hold copies, so that nothing the model or the user does to these tensors moves them."""
        self.inputs = [kept(rows, graph) for rows in self.inputs]
        self.states = {key: kept(h, graph) for key, h in self.states.items()}


class SequenceCall:
    """A call of `nn.GRU`: its arguments in one form, checked as torch checks them."""

    def __init__(self, module: nn.GRU, given: Any, hx: Tensor | None, name: str) -> None:
        self.dropout = module.dropout if module.training and module.num_layers > 1 else 0.0
        self.levels = module.num_layers
        self.directions = 2 if module.bidirectional else 1
        self.form: Form = (
            Packed(given.batch_sizes, given.sorted_indices, given.unsorted_indices)
            if isinstance(given, PackedSequence)
            else Dense(module.batch_first, given.dim() == 3)
        )
        self.body = self.form.enter(given)
        if isinstance(given, PackedSequence):
            self.steps, batch = len(given.batch_sizes), int(given.batch_sizes[0])
        else:
            self.steps, batch = self.body.shape[:2]
        if not self.steps:
            raise EmptySequenceError(
                f"layer {name!r} was called with a sequence of no steps: input of shape "
                f"{tuple(given.shape)}; expected at least one"
            )
        if hx is None:
            count = self.levels * self.directions
            hx = self.body.new_zeros(count, batch, module.hidden_size)
        self.h_0 = hx if hx.dim() == 3 else hx[:, None]

    def state_of(self, key: Key) -> Tensor:
        """h_0 (batch, unit) of one level and direction."""
        return self.h_0[key[0] * self.directions + key[1]]

    def run(self, cells: dict[Key, Cell], make_program: MakeProgram | None = None) -> Run:
        """The layers one by one; those for which `make_program` gives a program, changed."""
        count, levels = self.directions, self.levels
        done = Run()
        body, last = self.body, []
        for level in range(levels):
            rows = self.form.rows(body)
            done.inputs.append(rows)
            insides = [
                Inside(key, cells[key], rows, self.state_of(key), self.form.lengths)
                for key in ((level, direction) for direction in range(count))
            ]
            programs = {i.key: p for i in insides if make_program and (p := make_program(i))}
            done.programs |= programs
            if programs:
                results = [inside.states(programs.get(inside.key)) for inside in insides]
                # in the memory order of the kernel's own output: dropout draws its mask along it
                body = self.form.body(torch.cat([h for h, _ in results], 2)).contiguous()
                states = [h for h, _ in results]
                last += [h_n for _, h_n in results]
            else:
                body = self._fused(body, insides)
                states = list(self.form.rows(body).chunk(count, 2))
                last += [self._last(h, bool(d)) for d, h in enumerate(states)]
            done.states |= {inside.key: h for inside, h in zip(insides, states, strict=True)}
            if self.dropout and level < levels - 1:
                body = dropout(body, self.dropout, training=True)
        done.body, done.h_n = body, torch.stack(last)
        return done

    def _fused(self, body: Tensor, insides: list[Inside]) -> Tensor:
        h_0 = torch.stack([inside.h_0 for inside in insides])
        return self.form.kernel(body, h_0, [i.cell for i in insides], torch.is_grad_enabled())

    def _last(self, h: Tensor, reverse_way: bool) -> Tensor:
        lengths = self.form.lengths
        if reverse_way:
            return h[:, 0]
        if lengths is None:
            return h[:, -1]
        return h[torch.arange(len(h), device=h.device), lengths.to(h.device) - 1]


@dataclass(eq=False)
class Replay:
    """The layers of a call that has run, found again when somebody asks for them.

    Nothing is computed for the input of the first level and the states of the last: they are the
    call's own input and output.
    """

    call: SequenceCall
    cells: dict[Key, Cell]
    output: Tensor
    rng: Tensor | None
    trained: bool
    _run: Run | None = None

    def keep_copies(self, graph: bool) -> None:
        """Hold copies, so that nothing the model or the user does to these tensors moves them."""
        self.call.body = kept(self.call.body, graph)
        self.output = kept(self.output, graph)

    def inputs(self, key: Key) -> Tensor:
        """Input rows of one level."""
        return self.call.form.rows(self.call.body) if key[0] == 0 else self._all().inputs[key[0]]

    def states(self, key: Key) -> Tensor:
        """State rows of one level and direction."""
        if key[0] < self.call.levels - 1:
            return self._all().states[key]
        return self.call.form.rows(self.output).chunk(self.call.directions, 2)[key[1]]

    def _all(self) -> Run:
        if self._run is None:
            with torch.no_grad(), torch.random.fork_rng(devices=[], enabled=self.rng is not None):
                if self.rng is not None:
                    torch.set_rng_state(self.rng)
                cells = {key: _like_live(c, self.trained) for key, c in self.cells.items()}
                self._run = self.call.run(cells)
        return self._run


def cells_of(module: GRU, *, copy: bool) -> dict[Key, Cell]:
    """The cells of a module: its own parameters, or copies that later training does not move."""

    def cell(suffix: str) -> Cell:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        found: list[Any] = [getattr(module, kind + suffix, None) for kind in kinds]
        if copy:
            found = [t if t is None else t.detach().clone() for t in found]
        weight_ih, weight_hh, bias_ih, bias_hh = found
        return Cell(weight_ih, weight_hh, bias_ih, bias_hh)

    if isinstance(module, nn.GRUCell):
        return {(0, 0): cell("")}
    directions = 2 if module.bidirectional else 1
    return {
        (level, direction): cell(f"_l{level}{'_reverse' if direction else ''}")
        for level in range(module.num_layers)
        for direction in range(directions)
    }


def _like_live(cell: Cell, trained: bool) -> Cell:
    """The same weights, marked as the module's own: the kernel rounds another way for others."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    held: dict[str, Any] = {name: getattr(cell, name) for name in names}
    marked: dict[str, Any] = {
        n: None if t is None else t.detach().requires_grad_(trained) for n, t in held.items()
    }
    return replace(cell, **marked)


def kept(tensor: Tensor, graph: bool) -> Tensor:
    """A copy to keep, in the graph or out of it."""
    return tensor.clone() if graph else tensor.detach().clone()


def check_masks(call: SequenceCall, name: str) -> None:
    """Refuse to record what only the kernel knows: cuDNN draws its dropout masks itself."""
    if call.dropout and call.body.is_cuda:
        raise DropoutMaskError(
            f"layer {name!r} runs in training mode with dropout {call.dropout} between its layers; "
            "cuDNN draws those masks where nobody can see them. Record in model.eval(), with "
            "dropout 0, or on the CPU"
        )
