"""Which inputs a class owes its score to, by layer-wise relevance propagation through a stack.

`grulens.cells.credit.relevance` hands relevance back through one call of one cell, and says by
which rules. Here it comes from a linear readout, goes down level by level (the input of a level is
the states of the one below) and, where a call begins with the state that the call before ended
with, on into that one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from grulens.arguments import HeadLike, Inputs, MethodName, Number, Precision, Step, TargetClass
from grulens.cells.credit.relevance import relevance
from grulens.cells.precision import exact
from grulens.errors import EditError, shown
from grulens.models.call.invocation import arguments
from grulens.probing.credit.credit import Credit
from grulens.probing.credit.stack import Call, LayerCall, Stack
from grulens.probing.credit.target import ClassScore, stack_and_head
from grulens.words import message

METHOD = "layer-wise relevance"
LARGEST = 1e30


def layerwise_relevance(
    model: nn.Module,
    *args: Any,
    target: TargetClass,
    step: Step = -1,
    layer: str | None = None,
    head: HeadLike = None,
    eps: Number = 1e-3,
    dtype: Precision = None,
    call: MethodName = None,
    inputs: Inputs = None,
    **kwargs: Any,
) -> Credit:
    """The relevance of every input to a class at one step (LRP).

    The rules are epsilon on sums (Bach et al. 2015, PLoS ONE 10:e0130140) and signal-take-all on
    gated products (Arras et al. 2017, arXiv:1706.07206), carried over to the GRU: gates get none.
    The readout shares its score among the units without an epsilon.

    Args:
        model: any module that holds a GRU.
        *args: the model's own arguments.
        target: the class; or a pair, a class and the one it is compared with.
        step: where the layer is read: a step, negative from each row's end; or "final", each
            direction's own last state.
        layer: the layer that is read; None is the last one that a linear readout reads. The credit
            goes to the input of the lowest level of its stack.
        head: the linear readout: an nn.Linear over the layer's units, or over those of both
            directions side by side; a `Head`; None to find it.
        eps: what keeps a sum of opposite terms from handing out more than it got, 0 to 1e30. With
            0 nothing is absorbed but what cannot be shared, and relevances may grow very large.
        dtype: torch.float64 to compute in double precision; None is the recording's own.
        call: the name of the method that is the run; None is the model itself; as for `record`.
        inputs: all arguments of the run as (args, kwargs), as for `record`.
        **kwargs: the model's own keyword arguments.

    Returns:
        A `Credit`: shares of inputs (batch, time, input), of h_0 (of every layer of the stack side
        by side), of the biases, the readout's included, and in `others` what was "absorbed". They
        add up to the score.

    Raises:
        ReadoutError: there is no such class, no readout is found, or it does not fit.
        PositionError: there is no such step.
        EditError: `eps` is no such number.
        LayerError: no such layer.
        RecordingError: dropout between layers is active, or an edit is in force.

    >>> rnn, head = nn.GRU(3, 4, num_layers=2, batch_first=True), nn.Linear(4, 2)
    >>> credit = layerwise_relevance(rnn, torch.randn(1, 6, 3), target=1, head=head)
    >>> credit.inputs.shape, bool(credit.gap.abs().max() < 1e-6)
    (torch.Size([1, 6, 3]), True)
    """
    known = isinstance(eps, int | float) and not isinstance(eps, bool)
    if not known or not 0 <= eps <= LARGEST:
        raise EditError(f"eps must be a number of 0 or more (to {LARGEST:g}), got {shown(eps)}")
    given = arguments(args, kwargs, inputs)
    stack, found = stack_and_head(model, given, layer, head, dtype, call)
    with torch.no_grad(), exact(stack.mask.device):
        score = ClassScore(stack, found, target, step)
        back = _BackThrough(stack, float(eps))
        for name, share in score.shares({n: stack.states(n) for n in stack.top}).items():
            back.put(name, share, score.positions[name])
        back.run()
    return Credit(
        METHOD, stack.layer, score.value, torch.cat(back.inputs[::-1], 1), back.initial,
        back.bias + score.bias, {message("absorbed"): back.absorbed}, mask=stack.mask,
    )  # fmt: skip


class _BackThrough:
    """Relevance on its way down a stack, call by call from the last one."""

    def __init__(self, stack: Stack, eps: float) -> None:
        self.stack, self.eps = stack, eps
        self._incoming = {
            name: torch.zeros_like(stack.states(name)) for name in stack.top
        }  # by position
        self._handed: dict[str, Tensor] = {}  # to the last state of a layer's call before
        self.inputs: list[Tensor] = []
        batch = len(stack.mask)
        one = next(iter(self._incoming.values()))
        self._first: dict[str, Tensor] = {}
        self.bias, self.absorbed = one.new_zeros(batch), one.new_zeros(batch)

    @property
    def initial(self) -> Tensor:
        """The relevance of the first states, those of all layers side by side."""
        names = [part.layer for level in self.stack.calls[0] for part in level]
        return torch.cat([self._first[name] for name in names], 1)

    def put(self, layer: str, share: Tensor, place: Tensor) -> None:
        """Give the states of a layer at these positions this relevance (batch, unit)."""
        rows = torch.arange(len(place), device=share.device)
        self._incoming[layer][rows, place.to(share.device)] += share

    def run(self) -> None:
        """Hand everything back."""
        stop = self.stack.mask.shape[1]
        for call in reversed(self.stack.calls):
            start = stop - call[0][0].x.shape[1]
            incoming = {name: value[:, start:stop] for name, value in self._incoming.items()}
            self.inputs.append(self._down(call, incoming))
            stop = start

    def _down(self, call: Call, incoming: dict[str, Tensor]) -> Tensor:
        """Through the levels of one call; the relevance of its input, by position."""
        for number in reversed(range(len(call))):
            first = call[number][0]
            below = torch.zeros_like(first.x)
            for part in call[number]:
                below = below + self._back(part, part.flipped(incoming[part.layer]))
            if number:
                lower = call[number - 1]
                shares = torch.split(below, [part.h.shape[2] for part in lower], 2)
                names = [part.layer for part in lower]
                incoming = dict(zip(names, shares, strict=True))
        return below

    def _back(self, part: LayerCall, incoming: Tensor) -> Tensor:
        """Through one layer's call, from its states in reading order to its input by position."""
        if part.layer in self._handed:
            ends = torch.full((len(incoming),), incoming.shape[1])
            ends = ends if part.lengths is None else part.lengths
            rows = torch.arange(len(incoming), device=incoming.device)
            incoming = incoming.clone()
            incoming[rows, ends.to(incoming.device) - 1] += self._handed.pop(part.layer)
        found = relevance(part.cell, part.x, part.h_prev, incoming, self.eps)
        self.bias, self.absorbed = self.bias + found.bias, self.absorbed + found.absorbed
        if part.continues:
            self._handed[part.layer] = found.initial
        else:
            earlier = self._first.get(part.layer, 0)
            self._first[part.layer] = earlier + found.initial
        return part.flipped(found.inputs)
