"""What each input, each unit and each bias adds to the pre-activations of one unit at one step.

A pre-activation is linear in its own rows of the weights, whatever the cell does on the way: of a
GRU whose reset acts after the product, each term of the candidate's recurrent part carries the r of
this unit; where it acts before, the r of the unit that the term comes from. So a weight's part is
the weight times the derivative by it, which is read off the cell's own code, and compared with it:
the parts must sum to the pre-activation that the code makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from grulens.cells.cell import RecurrentCell
from grulens.cells.changes import Edit
from grulens.cells.precision import exact
from grulens.errors import CellError

#: In float64, parts and their sum may be so far apart, of the size of the parts.
CLOSE = 1e-9


@dataclass(frozen=True, eq=False)
class PreActivation:
    """One pre-activation of one unit at one step, as a sum. Everything is float64.

    Attributes:
        inputs: what each input adds (input,).
        units: what each unit of the output before the step adds (unit,).
        biases: what b_ih and b_hh add (2,); 0 where the cell has none.
        shift: what edits add to it.
        value: what they sum to.
    """

    inputs: Float[Tensor, " input"]
    units: Float[Tensor, " unit"]
    biases: Float[Tensor, " 2"]
    shift: float
    value: float


def sums(
    cell: RecurrentCell,
    x: Float[Tensor, "batch input"],
    state: Float[Tensor, "batch state"],
    unit: int,
    row: int = 0,
    edit: Edit | None = None,
) -> tuple[dict[str, PreActivation], dict[str, float]]:
    """The pre-activations of a unit as sums, and every signal that they make.

    Args:
        cell: the weights.
        x: the input of the step.
        state: the state before it.
        unit: which unit.
        row: which row.
        edit: what changes signals on the way, or None.

    Returns:
        The sums by the name of the signal whose rows the weights pack; and the signals of the step
        by name, h last, after what `edit` does to them.

    Raises:
        CellError: the cell asks no edit of such a pre-activation, or makes it by no such sum.

    >>> from grulens.cells.kinds import GRU
    >>> cell = GRU(torch.ones(3, 2), torch.ones(3, 1), None, torch.ones(3))
    >>> found, signals = sums(cell, torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5]]), 0)
    >>> found["r"].inputs, found["r"].units, found["r"].biases, found["r"].value
    (tensor([1., 2.], dtype=torch.float64), tensor([0.5000], dtype=torch.float64),
     tensor([0., 1.], dtype=torch.float64), 4.5)
    >>> found["n"].units.item() == 0.5 * signals["r"]       # r * (W_hn h_prev + b_hn)
    True
    """
    before: dict[str, Tensor] = {}
    after: dict[str, Tensor] = {}

    def seen(name: str, value: Tensor, is_before: bool) -> Tensor:
        # of what has no activation behind it, the value itself is the sum
        sums_here = name in cell.blocks and is_before == cell.signal(name).activated
        if sums_here:
            before[name] = value
        # the shift of a program has the dtype of its run
        value = value if edit is None else edit(name, value, is_before).to(value.dtype)
        if sums_here:
            after[name] = value
        return value

    with _graph(x.device):
        double = cell.over(lambda weight: weight.detach().clone().double().requires_grad_())
        x, state = x.detach().clone().double(), state.detach().clone().double()
        signals = double.compute(double.project(x)[:, None], state[:, None], seen)
        h = seen("h", double.output(signals, state[:, None]), False)
        if missing := [name for name in cell.blocks if name not in before]:
            raise CellError(
                f"`compute` of {type(cell).__name__} gives no edit the pre-activation of "
                f"{' and '.join(missing)}, so what adds up to it cannot be seen: make it by "
                "`activated`"
            )
        found = {
            name: _sum(double, name, before[name][row, 0, unit], after[name][row, 0, unit], unit)
            for name in cell.blocks
        }
    made = {**signals, "h": h}
    names = [signal.name for signal in cell.signals]
    return found, {name: float(made[name][row, 0, unit].detach()) for name in names}


def _sum(cell: RecurrentCell, name: str, pre: Tensor, shifted: Tensor, unit: int) -> PreActivation:
    """One of them, from the derivative by each weight of its row."""
    at = cell.blocks.index(name) * cell.hidden_size + unit
    derivatives = torch.autograd.grad(pre, cell.parameters, retain_graph=True, allow_unused=True)
    by = dict(zip(map(id, cell.parameters), derivatives, strict=True))

    def parts(weight: Tensor | None) -> Tensor:
        if weight is None or (slope := by[id(weight)]) is None:
            return pre.new_zeros(()) if weight is None else torch.zeros_like(weight[at]).detach()
        return (weight[at] * slope[at]).detach()

    inputs, units = parts(cell.weight_ih), parts(cell.weight_hh)
    biases = torch.stack([parts(cell.bias_ih), parts(cell.bias_hh)])
    terms = torch.cat([inputs, units, biases])
    value, size = float(pre.detach()), float(terms.abs().sum())
    # what is not finite has no parts, and no sum to compare
    apart = abs(float(terms.sum()) - value)
    if apart > CLOSE * max(1.0, size):
        raise CellError(
            f"the pre-activation of {name!r} in {type(cell).__name__} is {value:g}, and what its "
            f"own weights add is {float(terms.sum()):g}: `compute` makes it by something else "
            "than a sum over its rows of the weights, so its parts cannot be told"
        )
    end = float(shifted.detach())
    return PreActivation(inputs, units, biases, end - value, end)


@contextmanager
def _graph(device: torch.device) -> Iterator[None]:
    """Exact numbers and a graph, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad(), exact(device):
        yield
