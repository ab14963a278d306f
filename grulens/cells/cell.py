"""What a recurrent cell is to everything above it: its signals, one step, and a run read again.

A new kind of cell is one file: it names its signals and says how they follow from the input and
the state before. Recording, edits, sweeps and screens ask for nothing else.

The state of a cell is one tensor (..., state): the output h in its first `hidden_size` numbers and,
behind it, the states that a cell keeps beside its output (the c of an LSTM).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from grulens.cells.activations import Activation
from grulens.cells.batched.steps import PlainSteps, Steps
from grulens.cells.changes import Edit, Program
from grulens.cells.derivative import derivative
from grulens.cells.signal import Signal, check_signals, note_signals
from grulens.errors import CellError, shown

BLOCK_ROWS = 1024
"""Rows whose signals are made at a time: what one activation wrote, the next one finds in the
cache."""

Kind = TypeVar("Kind", bound="RecurrentCell")


@dataclass(frozen=True, eq=False, repr=False)
class RecurrentCell(ABC):
    """One direction of one recurrent layer: its weights, and what it computes from them.

    A kind of cell gives `kind`, `blocks`, `signals`, `compute` and `output`; the rest is done here,
    and may be done faster (`kernel`, `replay`, `reread`, `slope`, `steps`).

    Attributes:
        weight_ih: (block of units, input), floating; one block for each product of the step.
        weight_hh: (block of units, unit), same dtype.
        bias_ih: (block of units,) or None.
        bias_hh: (block of units,) or None.
        kind: what such a cell is called: "GRU".
        blocks: the signals whose rows are packed in the weights, in that order.
        signals: what a step makes, in the order in which it does; the states last, h the very last.
        states: the signals that the next step reads, h first.

    Raises:
        CellError: the shapes or dtypes do not fit together.
    """

    weight_ih: Float[Tensor, "_ input"]
    weight_hh: Float[Tensor, "_ unit"]
    bias_ih: Float[Tensor, _] | None
    bias_hh: Float[Tensor, _] | None

    kind: ClassVar[str]
    blocks: ClassVar[tuple[str, ...]]
    signals: ClassVar[tuple[Signal, ...]]
    states: ClassVar[tuple[str, ...]] = ("h",)

    def __init_subclass__(cls) -> None:
        check_signals(cls.__name__, getattr(cls, "signals", None), cls.states)
        note_signals(cls.signals)

    def __post_init__(self) -> None:
        ranks = {"weight_hh": 2, "weight_ih": 2, "bias_ih": 1, "bias_hh": 1}
        for name, rank in ranks.items():
            value = getattr(self, name)
            if value is None and rank == 1:
                continue
            if not isinstance(value, Tensor) or not value.is_floating_point():
                came = value.dtype if isinstance(value, Tensor) else shown(value)
                raise CellError(f"{name} must be a floating tensor, got {came}")
        dtype, count = self.weight_hh.dtype, len(self.blocks)
        rows = count * (self.weight_hh.shape[-1] if self.weight_hh.dim() else 0)
        if not rows:
            raise CellError(
                f"weight_hh has shape {tuple(self.weight_hh.shape)}; a cell has at least one unit"
            )
        for name, rank in ranks.items():
            value = getattr(self, name)
            if value is None:
                continue
            if value.dim() != rank or value.shape[0] != rows:
                packed = " and ".join([", ".join(self.blocks[:-1]), self.blocks[-1]][count == 1 :])
                raise CellError(
                    f"{name} has shape {tuple(value.shape)}; a cell of {rows // count} units packs "
                    f"{packed} in {count} x {rows // count} = {rows} rows"
                )
            if value.dtype != dtype:
                raise CellError(f"{name} is {value.dtype}, weight_hh is {dtype}")

    @abstractmethod
    def compute(
        self,
        products: Float[Tensor, "*any blocks"],
        state: Float[Tensor, "*any state"],
        edit: Edit | None = None,
    ) -> dict[str, Tensor]:
        """Every signal but h, from what the input adds and the state before the step.

        Args:
            products: what `project` gave, for any number of steps and rows.
            state: the state before each of them.
            edit: what changes signals on the way, or None.
        """

    @abstractmethod
    def output(
        self, signals: Mapping[str, Tensor], state: Float[Tensor, "*any state"]
    ) -> Float[Tensor, "*any unit"]:
        """The h that these signals make of the state before the step."""

    @property
    def convention(self) -> str:
        """What weights alone do not say of it, in words."""
        return ""

    @property
    def equation(self) -> str:
        """What h is made of, in a line for screens."""
        return f"a step of the {self.kind}"

    def project(self, x: Float[Tensor, "*any input"]) -> Float[Tensor, "*any blocks"]:
        """What the input adds to each step, W_i x + b_i: it does not wait for the state."""
        return linear(x, self.weight_ih, self.bias_ih)

    def step(
        self,
        products: Float[Tensor, "*any blocks"],
        state: Float[Tensor, "*any state"],
        edit: Edit | None = None,
    ) -> Float[Tensor, "*any state"]:
        """The state after a step; arguments as `compute`. This is the reference."""
        signals = self.compute(products, state, edit)
        h = self.output(signals, state)
        if edit is not None:
            h = edit("h", h, False)
        if len(self.states) == 1:
            return h
        return torch.cat([h, *(signals[name].to(h.dtype) for name in self.states[1:])], -1)

    def replay(
        self,
        x: Float[Tensor, "batch time input"],
        state: Float[Tensor, "batch time state"],
        edits: Program | None = None,
    ) -> dict[str, Tensor]:
        """Every signal but h at every step at once, from the state before each.

        Once the state before every step is known, no step waits for another.

        Args:
            x: input of the steps, of the cell's dtype.
            state: the state before each of them.
            edits: what the run changed on its way, or None.

        Returns:
            By name, each (batch, time, unit). They are part of the graph when grad mode is on and
            an argument requires it.
        """
        steps, block = x.shape[1], max(1, BLOCK_ROWS // max(1, x.shape[0]))
        shape = x.shape[0], min(block, steps), self.hidden_size
        parts: list[dict[str, Tensor]] = []
        found: dict[str, Tensor] = {}
        for start in range(0, max(1, steps), block):
            here = slice(start, start + block)
            edit = None if edits is None else edits.edit(start)
            made = self.compute(self.project(x[:, here]), state[:, here], edit)
            if not start:
                self._check_made(made, shape)
                if steps <= block:
                    return made
                if not any(value.requires_grad for value in made.values()):
                    found = {
                        name: value.new_empty(shape[0], steps, shape[2])
                        for name, value in made.items()
                    }
            if not found:
                parts.append(made)
            for name in found:  # straight to where it stays: no part of a long run lies there twice
                found[name][:, here] = made[name]
        if found:
            return found
        # one signal after another: the parts of the others are let go as they are joined
        return {name: torch.cat([part.pop(name) for part in parts], 1) for name in [*parts[0]]}

    def gates(
        self,
        x: Float[Tensor, "batch time input"],
        state: Float[Tensor, "batch time state"],
        edits: Program | None = None,
    ) -> dict[str, Tensor]:
        """The gates alone at every step at once, the same bits as `replay` gives.

        Args:
            x: input of the steps, of the cell's dtype.
            state: the state before each of them.
            edits: what the run changed on its way, or None.
        """
        made = self.replay(x, state, edits)
        return {signal.name: made[signal.name] for signal in self.signals if signal.is_gate}

    def _check_made(self, made: Mapping[str, Tensor], shape: tuple[int, int, int]) -> None:
        for signal in self.signals[:-1]:
            value = made.get(signal.name)
            if value is None or tuple(value.shape) != shape:
                came = "no such signal" if value is None else tuple(value.shape)
                raise CellError(
                    f"`compute` of {type(self).__name__} must give {signal.name!r} for every step "
                    f"and unit, (batch, time, unit) = {shape}; it gives {came}"
                )

    def slope(
        self, products: Float[Tensor, "batch blocks"], state: Float[Tensor, "batch state"]
    ) -> Float[Tensor, "batch state state"]:
        """The derivative of the state after a step by the state before it, by autograd."""
        return derivative(lambda before: self.step(products.detach(), before), state)

    def reread(
        self,
        x: Float[Tensor, "batch time input"],
        h: Float[Tensor, "batch time unit"],
        state_0: Float[Tensor, "batch state"],
        edits: Program | None = None,
    ) -> dict[str, Tensor]:
        """Every signal but h, of a cell with several states, from the outputs h that a run gave.

        What a cell keeps beside its output is computed again, one step from the other.

        Args:
            x: input in the order in which the cell reads it.
            h: the output after each of these steps.
            state_0: the state before the first.
            edits: what the run changed on its way, or None.

        Returns:
            By name, each (batch, time, unit).
        """
        state, found = state_0, []
        for t, products in enumerate(self.project(x).unbind(1)):
            edit = None if edits is None else edits.edit(t)
            signals = self.compute(products[:, None], state[:, None], edit)
            beside = [signals[name][:, 0].to(h.dtype) for name in self.states[1:]]
            state = torch.cat([h[:, t], *beside], 1)
            found.append(signals)
        return {name: torch.cat([made[name] for made in found], 1) for name in found[0]}

    @property
    def kernel(self) -> Callable[..., Any] | None:
        """The function by which torch runs such a cell over time, or None if it has none."""
        return None

    def fused(
        self,
        body: Tensor,
        batch_sizes: Tensor | None,
        state: Float[Tensor, "direction batch state"],
        directions: Sequence[RecurrentCell],
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        """All steps of a level by torch's own kernel; only for a cell that has one.

        Args:
            body: (time, batch, input), or the data of a packed sequence.
            batch_sizes: those of the packed sequence, or None.
            state: before the first step, of each direction.
            directions: the cells of the level, this one first.
            training: whether the kernel is to have a backward.

        Returns:
            The level's own body, and the last state of each direction.
        """
        if self.kernel is None:
            raise CellError(f"torch has no kernel for {self!r}")
        weights = [tensor for cell in directions for tensor in cell.parameters]
        parts = tuple(part.contiguous() for part in state.chunk(len(self.states), -1))
        first = parts if len(parts) > 1 else parts[0]
        given = (first, weights, self.bias_ih is not None, 1, 0.0, training, len(directions) == 2)
        if batch_sizes is None:
            output, *last = self.kernel(body, *given, False)
        else:
            output, *last = self.kernel(body, batch_sizes, *given)
        return output, last[0] if len(last) == 1 else torch.cat(last, -1)

    def steps(self, copies: int, batch: int, like: Tensor) -> Steps:
        """What runs many copies of it side by side, step by step."""
        return PlainSteps(self, batch)

    @property
    def is_torch(self) -> bool:
        """Whether torch's fused kernel computes this cell."""
        return self.kernel is not None

    @property
    def by_columns(self: Kind) -> Kind:
        """The same cell with its recurrent weights laid out as a loop over steps reads them.

        A product with a transposed view is 1.5 x slower per step.
        """
        return replace(self, weight_hh=self.weight_hh.t().contiguous().t())

    @property
    def input_size(self) -> int:
        """Number of inputs."""
        return self.weight_ih.shape[1]

    @property
    def hidden_size(self) -> int:
        """Number of units."""
        return self.weight_hh.shape[1]

    @property
    def state_size(self) -> int:
        """The size of the whole state: the number of units times the number of states."""
        return len(self.states) * self.hidden_size

    def signal(self, name: str) -> Signal:
        """One of its signals by name; KeyError if it has none of that name."""
        for signal in self.signals:
            if signal.name == name:
                return signal
        raise KeyError(name)

    def over(self: Kind, change: Callable[[Tensor], Tensor]) -> Kind:
        """The same cell with `change` applied to each weight and bias that it has."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        held = {name: getattr(self, name) for name in names}
        changed: dict[str, Any] = {n: None if t is None else change(t) for n, t in held.items()}
        return replace(self, **changed)

    @property
    def parameters(self) -> list[Tensor]:
        """The weights and the biases that are there, in the order torch's kernel takes them."""
        found = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return [tensor for tensor in found if tensor is not None]

    def __repr__(self) -> str:
        sizes = f"input {self.input_size}, hidden {self.hidden_size}"
        dtype = str(self.weight_hh.dtype).removeprefix("torch.")
        said = f", {self.convention}" if self.convention else ""
        return f"{type(self).__name__}({sizes}, {dtype}{said})"


def activated(
    name: str, pre: Tensor, activation: Activation, edit: Edit | None
) -> tuple[Tensor, Tensor]:
    """The argument of an activation and its value, each after the edits that change it.

    Args:
        name: the signal.
        pre: its argument (..., unit).
        activation: the activation.
        edit: what changes signals on the way, or None.

    >>> activated("z", torch.zeros(1), torch.sigmoid, None)
    (tensor([0.]), tensor([0.5000]))
    """
    if edit is None:
        return pre, activation(pre)
    pre = edit(name, pre, True)
    return pre, edit(name, activation(pre), False)
