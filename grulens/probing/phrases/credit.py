"""Credit by contextual decomposition: each step is a phrase by itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from grulens.arguments import HeadLike, Inputs, MethodName, Precision, Step, TargetClass
from grulens.models.call.invocation import arguments
from grulens.probing.credit.credit import Credit
from grulens.probing.credit.target import stack_and_head
from grulens.probing.phrases.split import PhraseScore
from grulens.words import message


def contextual_credit(
    model: nn.Module,
    *args: Any,
    target: TargetClass,
    step: Step = -1,
    layer: str | None = None,
    head: HeadLike = None,
    dtype: Precision = None,
    call: MethodName = None,
    inputs: Inputs = None,
    **kwargs: Any,
) -> Credit:
    """What each step contributes to a class by itself: one phrase a token.

    These contributions do not add up to the score, for tokens act on each other: what all of them
    together contribute beyond that is the ledger's "interactions". Biases and the first state have
    the rest.

    Args:
        model: any module that holds a GRU.
        *args: the model's own arguments.
        target: the class; or a pair, a class and the one it is compared with.
        step: where the layer is read: a step, negative from each row's end; or "final", each
            direction's own last state.
        layer: as for `contextual_decomposition`, and so are `head`, `dtype` and the errors.
        head: the linear readout.
        dtype: the precision.
        call: the name of the method that is the run; None is the model itself; as for `record`.
        inputs: all arguments of the run as (args, kwargs), as for `record`.
        **kwargs: the model's own keyword arguments.

    Returns:
        A `Credit` with one share a step, (batch, time, 1).

    >>> rnn, head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
    >>> credit = contextual_credit(rnn, torch.randn(1, 6, 3), target=1, head=head)
    >>> list(credit.ledger())
    ['inputs', 'h_0', 'bias', 'interactions', 'biases and h_0', 'gap']
    """
    given = arguments(args, kwargs, inputs)
    stack, found = stack_and_head(model, given, layer, head, dtype, call)
    score = PhraseScore(stack, found, target, step)
    batch, steps = stack.mask.shape
    each = score.of_phrases(torch.eye(steps, dtype=torch.bool)[:, None].expand(-1, batch, -1))
    together = score.of_phrases(torch.ones(1, batch, steps, dtype=torch.bool))[0]
    bias = score.bias.expand(batch)
    return Credit(
        "contextual decomposition", stack.layer, score.value, each.mT[..., None],
        score.value.new_zeros(batch, 1), bias,
        {message("interactions"): together - each.sum(0),
         message("biases and h_0"): score.value - bias - together},
        mask=stack.mask,
    )  # fmt: skip
