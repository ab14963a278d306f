"""Contextual decomposition: the part of every state that a phrase of the input made.

The state is split exactly, h = beta + gamma: beta is what the phrase made alone, gamma everything
else. Murdoch, Liu & Yu 2018 (arXiv:1801.05453) did this for the LSTM; here it is done for the GRU,
whose own products are (1 - z) n, z h_prev and the reset.

Every signal has three parts: the phrase's (beta), that of the rest (gamma), and the bias's, which
is what the signal would be without either. The rule for what belongs to whom:

    sum          part by part.
    activation f of beta + gamma + bias: the bias comes first and gets f(bias); phrase and rest
                 share what is left of f by its Shapley value, the mean over their two orders:
                 f_beta = (f(beta + bias) - f(bias) + f(all) - f(gamma + bias)) / 2.
    product      phrase times phrase, and phrase times bias, belong to the phrase; bias times bias
                 to the bias; everything that the rest has a hand in belongs to the rest, also what
                 it makes together with the phrase.
    1 - z        has the parts -z_beta, -z_gamma and 1 - z_bias.
    state        has no bias's part: that of (1 - z) n joins gamma, and h_0 does. What biases have
                 made is from the next step on the rest's.

So gamma needs no computing of its own: it is h - beta, and a product of gates that are known needs
only beta's. For one state and one activation this costs two evaluations instead of one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from grulens.cells.activations import Activation
from grulens.cells.kinds.gru import Cell, Terms


def contextual(
    cell: Cell,
    x: Float[Tensor, "batch time input"],
    h_prev: Float[Tensor, "batch time unit"],
    beta_x: Float[Tensor, "phrase batch time input"],
    beta_0: Float[Tensor, "phrase batch unit"] | None = None,
) -> Float[Tensor, "phrase batch time unit"]:
    """The part of every state that each phrase made (rules: the head of this file).

    Args:
        cell: the cell that ran, of any convention and any activations.
        x: its whole input, in the order in which it reads it, of the cell's dtype.
        h_prev: the state before each step of that run.
        beta_x: each phrase's part of the input; the rest of it is x - beta_x.
        beta_0: each phrase's part of the first state h_0; None is nothing.

    Returns:
        beta, the phrase's part of the state after each step; the rest's is h - beta. It is exactly
        zero up to the step at which the phrase begins.

    >>> one = torch.ones(3, 1)
    >>> cell = Cell(one, one, None, None)
    >>> x, h_prev = torch.ones(1, 2, 1), torch.tensor([[[0.0], [0.2048]]])
    >>> beta_x = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).reshape(2, 1, 2, 1)
    >>> contextual(cell, x, h_prev, beta_x)[..., 0].squeeze()
    tensor([[0.2048, 0.1460],
            [0.0000, 0.1962]])
    """
    phrases, batch, steps, _ = beta_x.shape
    begun = beta_x.ne(0).any(3).cummax(2).values  # (phrase, batch, time)
    beta = x.new_zeros(phrases, batch, cell.hidden_size)
    if beta_0 is not None:
        beta, begun = beta_0, begun | beta_0.ne(0).any(2)[..., None]
    first = int(begun.any(0).any(0).to(torch.uint8).argmax()) if bool(begun.any()) else steps
    result = x.new_zeros(steps, phrases, batch, cell.hidden_size)
    step = _Step(cell)
    for start in range(first, steps, BLOCK):
        block = slice(start, start + BLOCK)
        known = cell.terms(cell.project(x[:, block]), h_prev[:, block])
        inputs = linear(beta_x[:, :, block], cell.weight_ih)
        for offset, t in enumerate(range(start, min(start + BLOCK, steps))):
            there = Terms(*(signal[:, offset] for signal in known))
            beta = step(there, inputs[:, :, offset], beta)
            # vectors and what is left over of them round an activation differently: zero is set
            beta = beta.where(begun[:, :, t, None], beta.new_zeros(()))
            result[t] = beta
    return result.permute(1, 2, 0, 3)


BLOCK = 64
"""Steps whose inputs are multiplied at a time."""


class _Step:
    """One step of the decomposition, for all phrases and rows at once."""

    def __init__(self, cell: Cell) -> None:
        self.cell, units = cell, cell.hidden_size
        nothing = cell.weight_hh.new_zeros(max(cell.input_size, units))
        # without an input and a state, all that is left is the biases'
        base = cell.terms(cell.project(nothing[: cell.input_size]), nothing[:units])
        self.base_r, self.base_z, self.base_n = base.pre_r, base.pre_z, base.pre_n
        self.r, self.z, self.n = base.r, base.z, base.n
        self.b_hn = nothing[:units] if cell.bias_hh is None else cell.bias_hh[2 * units :]
        weight = cell.weight_hh.t()
        self.weight = weight.contiguous()
        self.weight_rz = weight[:, : 2 * units].contiguous()
        self.weight_n = weight[:, 2 * units :].contiguous()

    def __call__(self, known: Terms, inputs: Tensor, beta: Tensor) -> Tensor:
        """The phrases' part (phrase, batch, unit) of the next state.

        Args:
            known: the whole signals of the step, each (batch, unit).
            inputs: W_i beta_x (phrase, batch, 3 unit).
            beta: their part of the state before it.
        """
        cell, units = self.cell, self.cell.hidden_size
        in_r, in_z, in_n = torch.split(inputs, units, 2)
        if cell.reset_after:
            rec_r, rec_z, rec_n = torch.split(beta @ self.weight, units, 2)
        else:
            rec_r, rec_z = torch.split(beta @ self.weight_rz, units, 2)
        r = shapley(cell.gate, in_r + rec_r, self.base_r, self.r, known.pre_r, known.r)
        z = shapley(cell.gate, in_z + rec_z, self.base_z, self.z, known.pre_z, known.z)
        if cell.reset_after:
            reset = (r + self.r) * rec_n + r * self.b_hn
        else:
            reset = ((r + self.r) * beta) @ self.weight_n
        n = shapley(cell.candidate, in_n + reset, self.base_n, self.n, known.pre_n, known.n)
        # 1 - z has the parts -z and 1 - its base; beta and phrase, or phrase and bias: beta's
        mixed: Tensor = (1 - self.z - z) * n - z * self.n + (self.z + z) * beta
        return mixed


def shapley(
    activate: Activation,
    beta: Float[Tensor, "*any"],
    bias: Float[Tensor, " ..."],
    of_bias: Float[Tensor, " ..."],
    total: Float[Tensor, " ..."],
    of_total: Float[Tensor, " ..."],
) -> Float[Tensor, "*any"]:
    """What `beta` adds to activate(beta + gamma + bias): its Shapley value, the bias coming first.

    Args:
        activate: any elementwise function.
        beta: the phrase's part of the argument.
        bias: the bias's part.
        of_bias: activate(bias).
        total: the whole argument.
        of_total: activate(total).

    >>> one = torch.ones(1)
    >>> shapley(torch.square, one, 0 * one, 0 * one, 3 * one, 9 * one)       # (1 + 2)^2 = 9
    tensor([3.])
    """
    return 0.5 * (activate(beta + bias) - of_bias + of_total - activate(total - beta))
