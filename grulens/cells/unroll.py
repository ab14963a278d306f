"""A run of a cell over time, step by step where something is changed, fused where nothing is.

torch's fused kernel is the fastest way through a sequence and takes no changes. So a changed run
is the kernel up to the first changed step, a loop as far as the last one, and the kernel again.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

from grulens.cells.activations import Activation
from grulens.cells.changes import Program
from grulens.cells.gru import Cell

BLOCK_ROWS = 4096

# where the graph needs the result only, a step writes it over the pre-activation
IN_PLACE: list[tuple[Activation, Activation]] = [
    (torch.sigmoid, torch.sigmoid_),
    (torch.tanh, torch.tanh_),
    (torch.relu, torch.relu_),
]


def run(
    cell: Cell,
    x: Float[Tensor, "batch time input"],
    h_0: Float[Tensor, "batch unit"],
    program: Program | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch time unit"]:
    """The states of a run, by the quickest exact way.

    Args:
        cell: the cell.
        x: input (batch, time, input), in the order in which the cell reads it.
        h_0: state before the first step (batch, unit).
        program: what is changed on the way, or None.
        lengths: (batch,), int64: how far each row goes; None when all are full.

    Returns:
        h (batch, time, unit). Past its end a row keeps its last state.

    >>> cell = Cell(torch.zeros(3, 1), torch.zeros(3, 1), None, None)      # z = 1/2, n = 0
    >>> run(cell, torch.zeros(1, 3, 1), torch.ones(1, 1)).flatten()
    tensor([0.5000, 0.2500, 0.1250])
    """
    steps = x.shape[1]
    if not cell.is_torch:
        return unroll(cell, x, h_0, program, lengths=lengths)
    first = steps if program is None else program.first
    stop = steps if program is None else program.stop
    parts = []
    if first:
        parts.append(_held(fused(cell, x[:, :first], h_0), h_0, lengths, 0))
        h_0 = parts[-1][:, -1]
    if first < stop:
        parts.append(unroll(cell, x[:, first:stop], h_0, program, lengths=lengths, start=first))
        h_0 = parts[-1][:, -1]
    if stop < steps:
        parts.append(_held(fused(cell, x[:, stop:], h_0), h_0, lengths, stop))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def fused(
    cell: Cell, x: Float[Tensor, "batch time input"], h_0: Float[Tensor, "batch unit"]
) -> Float[Tensor, "batch time unit"]:
    """The states (batch, time, unit) by torch's own kernel, for a cell with torch's convention."""
    output, _ = torch._VF.gru(
        x.transpose(0, 1),
        h_0[None].contiguous(),
        cell.parameters,
        cell.bias_ih is not None,
        1,
        0.0,
        torch.is_grad_enabled(),  # cuDNN has a backward only for what it ran as training
        False,
        False,
    )
    return output.transpose(0, 1)


def unroll(
    cell: Cell,
    x: Float[Tensor, "batch time input"],
    h_0: Float[Tensor, "batch unit"],
    program: Program | None = None,
    *,
    lengths: Int[Tensor, " batch"] | None = None,
    start: int = 0,
) -> Float[Tensor, "batch time unit"]:
    """The states (batch, time, unit), one step after another; arguments as `run`.

    Args:
        cell: the cell, of any convention.
        x: input (batch, time, input).
        h_0: state before the first of these steps (batch, unit).
        program: what is changed, or None.
        lengths: row lengths in steps of the whole run, or None.
        start: the step of the run (of `program` and `lengths`) at which `x` begins.
    """
    batch, steps, _ = x.shape
    loop, bias = _Step(cell, program), _input_bias(cell)
    states = []
    h = h_0
    block = max(1, BLOCK_ROWS // max(1, batch))
    for begin in range(0, steps, block):
        # the input's product does not wait for the state: one product for many steps
        products = linear(x[:, begin : begin + block].transpose(0, 1), cell.weight_ih, bias)
        for offset, product in enumerate(products.unbind(0)):
            t = start + begin + offset
            new = loop(product, h, t)
            h = new if lengths is None else torch.where((t < lengths)[:, None], new, h)
            states.append(h)
    return torch.stack(states).transpose(0, 1)


class _Step:
    """One step of the recurrence, of any convention; it asks a program only where there is one."""

    def __init__(self, cell: Cell, program: Program | None) -> None:
        self.program = program
        self.units = units = cell.hidden_size
        self.reset_after = cell.reset_after
        self.gate = _in_place(cell.gate)
        self.candidate = _in_place(cell.candidate)
        # the transpose, once and in one piece: 1.5 x faster per step than a view of it
        weight = cell.weight_hh.t()
        if cell.reset_after:
            self.weight, self.bias = weight.contiguous(), cell.bias_hh
        else:
            # nothing stands between these products and the input's: the bias goes in there
            self.weight_rz = weight[:, : 2 * units].contiguous()
            self.weight_n = weight[:, 2 * units :].contiguous()

    def __call__(self, product: Tensor, h: Tensor, t: int) -> Tensor:
        units, program = self.units, self.program
        in_rz, in_n = product[:, : 2 * units], product[:, 2 * units :]
        if self.reset_after:
            bias, weight = self.bias, self.weight
            recurrent = h @ weight if bias is None else torch.addmm(bias, h, weight)
            pre = in_rz + recurrent[:, : 2 * units]
        else:
            pre = torch.addmm(in_rz, h, self.weight_rz)
        if program is not None and (program.shifts("r") or program.shifts("z")):
            r, z = torch.split(pre, units, 1)
            r, z = program.shift("r", r[:, None], t), program.shift("z", z[:, None], t)
            pre = torch.cat([r, z], 2)[:, 0]
        r, z = torch.split(self.gate(pre), units, 1)
        if program is not None:
            r = program.apply("r", r[:, None], t)[:, 0]
            z = program.apply("z", z[:, None], t)[:, 0]
        if self.reset_after:
            pre = torch.addcmul(in_n, r, recurrent[:, 2 * units :])
        else:
            pre = torch.addmm(in_n, r * h, self.weight_n)
        if program is None:
            return _mix(self.candidate(pre), h, z)
        n = self.candidate(program.shift("n", pre[:, None], t))
        n = program.apply("n", n, t)[:, 0]
        return program.apply("h", _mix(n, h, z)[:, None], t)[:, 0]


def _mix(n: Tensor, h: Tensor, z: Tensor) -> Tensor:
    """(1 - z) n + z h; under autocast states may have more precision than gates."""
    if n.dtype != h.dtype:
        n, z = n.to(h.dtype), z.to(h.dtype)
    return torch.lerp(n, h, z)


def _in_place(activation: Activation) -> Activation:
    return next((other for known, other in IN_PLACE if known is activation), activation)


def _input_bias(cell: Cell) -> Tensor | None:
    """What is added to the input's product: all of the bias, if r does not come in between."""
    if cell.reset_after or cell.bias_hh is None:
        return cell.bias_ih
    return cell.bias_hh if cell.bias_ih is None else cell.bias_ih + cell.bias_hh


def _held(
    h: Float[Tensor, "batch time unit"],
    h_0: Float[Tensor, "batch unit"],
    lengths: Int[Tensor, " batch"] | None,
    start: int,
) -> Float[Tensor, "batch time unit"]:
    """`h` of steps `start`..., where rows that end on the way keep their last state."""
    if lengths is None:
        return h
    time = torch.arange(h.shape[1], device=h.device)
    last = (lengths.to(h.device) - start - 1)[:, None]
    index = torch.minimum(time, last.clamp(min=0))
    held = h.gather(1, index[..., None].expand(-1, -1, h.shape[2]))
    return torch.where((last < 0)[..., None], h_0[:, None], held)
