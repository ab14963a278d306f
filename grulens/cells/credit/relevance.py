"""Relevance on its way back through a GRU: whatever leaves a state arrives somewhere.

Layer-wise relevance propagation hands a score back from each sum to its terms, in proportion to
them (epsilon rule: Bach et al. 2015, PLoS ONE 10:e0130140), and from each gated product wholly to
the signal and not to the gate ("signal-take-all": Arras et al. 2017, arXiv:1706.07206, for the
LSTM). In a GRU the gates are r, z and 1 - z, and the sums are

    h = (1 - z) n + z h_prev
    argument of n = W_in x + b_in + r (W_hn h_prev + b_hn)      reset after the product
    argument of n = W_in x + b_in + W_hn (r h_prev) + b_hn      reset before it

The candidate hands on what it gets, as every activation does. A term a of a sum s gets a / (s +
epsilon) of the sum's relevance, epsilon with the sign of s; what this leaves over is the part that
epsilon absorbed, and it is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from grulens.cells.kinds.gru import Cell


@dataclass(frozen=True, eq=False, repr=False)
class Relevance:
    """Where the relevance of a run's states went.

    Attributes:
        inputs: to the input (batch, time, input).
        initial: to the first state h_0 (batch, unit).
        bias: to the candidate's biases, over all steps (batch,).
        absorbed: what epsilon kept, over all steps (batch,).
    """

    inputs: Float[Tensor, "batch time input"]
    initial: Float[Tensor, "batch unit"]
    bias: Float[Tensor, " batch"]
    absorbed: Float[Tensor, " batch"]

    def __repr__(self) -> str:
        batch, time, width = self.inputs.shape
        return f"Relevance(batch {batch}, time {time}, input {width})"


def relevance(
    cell: Cell,
    x: Float[Tensor, "batch time input"],
    h_prev: Float[Tensor, "batch time unit"],
    incoming: Float[Tensor, "batch time unit"],
    eps: float,
) -> Relevance:
    """Hand the relevance of a run's states back to its input, its first state and its biases.

    inputs + initial + bias + absorbed = incoming, each summed over everything but the batch.

    Args:
        cell: the cell that ran, of any convention.
        x: its input, in the order in which it reads it, of the cell's dtype.
        h_prev: the state before each step of that run.
        incoming: the relevance that every state gets from outside, beside what the next one hands
            back.
        eps: the epsilon of the rule, 0 or more, in units of the sums.

    >>> one = torch.ones(3, 1)
    >>> cell = Cell(one, one, None, None)
    >>> x, h_prev = torch.ones(1, 2, 1), torch.tensor([[[0.0], [0.2048]]])
    >>> incoming = torch.tensor([0.0, 1.0]).reshape(1, 2, 1)
    >>> relevance(cell, x, h_prev, incoming, eps=0.0).inputs.flatten()
    tensor([0.5287, 0.4713])
    """
    steps, units = x.shape[1], cell.hidden_size
    weight_in, weight_hn = (w[2 * units :] for w in (cell.weight_ih, cell.weight_hh))
    none = cell.weight_hh.new_zeros(3 * units)
    b_in, b_hn = ((none if b is None else b)[2 * units :] for b in (cell.bias_ih, cell.bias_hh))
    made = cell.terms(cell.project(x), h_prev)
    r, z, n = made.r, made.z, made.n
    stays, enters = z * h_prev, (1 - z) * n
    if cell.reset_after:
        kept = r * linear(h_prev, weight_hn)
        biases = b_in + r * b_hn
    else:
        kept = linear(r * h_prev, weight_hn)
        biases = (b_in + b_hn).expand_as(r)
    of_h, lost_h = _shares(enters + stays, eps)
    of_n, lost_n = _shares(linear(x, weight_in) + kept + biases, eps)

    inputs, bias, absorbed = torch.zeros_like(x), x.new_zeros(len(x)), x.new_zeros(len(x))
    back = torch.zeros_like(h_prev[:, 0])
    for t in reversed(range(steps)):
        given = incoming[:, t] + back
        shared = given * of_h[:, t]
        to_n, stayed = shared * enters[:, t], shared * stays[:, t]
        each = to_n * of_n[:, t]
        inputs[:, t] = x[:, t] * (each @ weight_in)
        if cell.reset_after:
            through = h_prev[:, t] * ((each * r[:, t]) @ weight_hn)
        else:
            through = r[:, t] * h_prev[:, t] * (each @ weight_hn)
        bias += (each * biases[:, t]).sum(1)
        absorbed += (given * lost_h[:, t] + to_n * lost_n[:, t]).sum(1)
        back = stayed + through
    return Relevance(inputs, back, bias, absorbed)


def _shares(total: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """What each term of a sum is multiplied by, and the share of the sum that epsilon absorbs."""
    signed = torch.full_like(total, eps).where(total >= 0, -eps)
    whole = total + signed
    # a sum that is nothing has no terms to share among, without an epsilon: all of it is lost
    nothing = whole == 0
    each = torch.where(nothing, 0.0, 1 / whole)
    return each, torch.where(nothing, 1.0, signed * each)
