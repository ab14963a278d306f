"""Which inputs a class owes its score to, by layer-wise relevance propagation through a stack.

`grulens.cells.credit.relevance` hands relevance back through one run of one cell, and says by which
rules. Here it comes from a linear readout, goes down level by level (the input of a level is the
states of the one below) and, where a call took up the state of the call before, on into that one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from grulens.cells.credit.relevance import relevance
from grulens.cells.precision import exact
from grulens.errors import EditError, shown
from grulens.models.call.invocation import arguments
from grulens.probing.credit.credit import Credit
from grulens.probing.credit.reader import ask, at, places
from grulens.probing.credit.stack import Call, Levels, Run

METHOD = "layer-wise relevance"
LARGEST = 1e30


def layerwise_relevance(
    model: nn.Module,
    *args: Any,
    target: Any,
    step: Any = -1,
    layer: str | None = None,
    head: Any = None,
    eps: Any = 1e-3,
    dtype: Any = None,
    call: Any = None,
    inputs: Any = None,
    **kwargs: Any,
) -> Credit:
    """The relevance of every input to a class at one step (LRP).

    The rules are epsilon on sums (Bach et al. 2015, PLoS ONE 10:e0130140) and signal-take-all on
    gated products (Arras et al. 2017, arXiv:1706.07206), carried over to the GRU: gates get none.
    The readout shares its score among the units without an epsilon.

    Args:
        model: any module that holds a GRU.
        *args: the model's own arguments.
        target: the class; or a pair, a class and the one it is held against.
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
    levels, reader = ask(model, given, layer, head, dtype, call)
    with torch.no_grad(), exact(levels.mask.device):
        where = places(levels, step)
        toward, bias = reader.toward(reader.check(target))
        read = {name: direction.to(levels.states(name)) for name, direction in toward.items()}
        shares = {
            name: at(levels.states(name), where[name]) * direction
            for name, direction in read.items()
        }
        bias = bias.to(next(iter(shares.values())))
        score = torch.stack([share.sum(1) for share in shares.values()]).sum(0) + bias
        way = _WayBack(levels, float(eps))
        for name, share in shares.items():
            way.put(name, share, where[name])
        way.go()
    return Credit(
        METHOD, levels.layer, score, torch.cat(way.inputs[::-1], 1), way.initial, way.bias + bias,
        {"absorbed": way.absorbed},
    )  # fmt: skip


class _WayBack:
    """Relevance on its way down a stack, call by call from the last one."""

    def __init__(self, levels: Levels, eps: float) -> None:
        self.levels, self.eps = levels, eps
        self._incoming = {
            name: torch.zeros_like(levels.states(name)) for name in levels.top
        }  # by position
        self._handed: dict[str, Tensor] = {}  # to the last state of a layer's call before
        self.inputs: list[Tensor] = []
        batch = len(levels.mask)
        one = next(iter(self._incoming.values()))
        self._first: dict[str, Tensor] = {}
        self.bias, self.absorbed = one.new_zeros(batch), one.new_zeros(batch)

    @property
    def initial(self) -> Tensor:
        """The relevance of the first states, those of all layers side by side."""
        names = [run.layer for level in self.levels.calls[0] for run in level]
        return torch.cat([self._first[name] for name in names], 1)

    def put(self, layer: str, share: Tensor, place: Tensor) -> None:
        """Give the states of a layer at these positions this relevance (batch, unit)."""
        rows = torch.arange(len(place), device=share.device)
        self._incoming[layer][rows, place.to(share.device)] += share

    def go(self) -> None:
        """Hand everything back."""
        stop = self.levels.mask.shape[1]
        for call in reversed(self.levels.calls):
            start = stop - call[0][0].x.shape[1]
            incoming = {name: value[:, start:stop] for name, value in self._incoming.items()}
            self.inputs.append(self._down(call, incoming))
            stop = start

    def _down(self, call: Call, incoming: dict[str, Tensor]) -> Tensor:
        """Through the levels of one call; the relevance of its input, by position."""
        for number in reversed(range(len(call))):
            first = call[number][0]
            below = torch.zeros_like(first.x)
            for run in call[number]:
                below = below + self._back(run, run.turned(incoming[run.layer]))
            if number:
                lower = call[number - 1]
                parts = torch.split(below, [run.h.shape[2] for run in lower], 2)
                incoming = {run.layer: part for run, part in zip(lower, parts, strict=True)}
        return below

    def _back(self, run: Run, incoming: Tensor) -> Tensor:
        """Through one run, from its states in reading order to its input by position."""
        if run.layer in self._handed:
            ends = torch.full((len(incoming),), incoming.shape[1])
            ends = ends if run.lengths is None else run.lengths
            rows = torch.arange(len(incoming), device=incoming.device)
            incoming = incoming.clone()
            incoming[rows, ends.to(incoming.device) - 1] += self._handed.pop(run.layer)
        found = relevance(run.cell, run.x, run.h_prev, incoming, self.eps)
        self.bias, self.absorbed = self.bias + found.bias, self.absorbed + found.absorbed
        if run.takes_up:
            self._handed[run.layer] = found.initial
        else:
            earlier = self._first.get(run.layer, 0)
            self._first[run.layer] = earlier + found.initial
        return run.turned(found.inputs)
