"""What a phrase of the input contributes by itself: contextual decomposition of a model's states.

`grulens.cells.phrases.decomposition` splits the states of one cell, and says by which rule;
`grulens.probing.phrases.phrases` takes the split through a stack.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from grulens.errors import ReadoutError
from grulens.models.call.invocation import arguments
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.record import record
from grulens.probing.credit.credit import Credit
from grulens.probing.credit.reader import ask, read_by
from grulens.probing.credit.stack import Levels, check_dtype
from grulens.probing.phrases.decomposed import Decomposition
from grulens.probing.phrases.phrases import Scorer, asked, held, split


def contextual_decomposition(
    model: nn.Module,
    *args: Any,
    phrases: Any = None,
    layer: str | None = None,
    head: Any = None,
    dtype: Any = None,
    call: Any = None,
    inputs: Any = None,
    **kwargs: Any,
) -> Decomposition:
    """Split every state of a layer into what a phrase made and the rest, for many phrases at once.

    Contextual decomposition (Murdoch, Liu & Yu 2018, arXiv:1801.05453) is defined for the LSTM; for
    the GRU it is done by the same rule, `grulens.cells.phrases.decomposition`: activations are
    shared by their Shapley value with the bias first, and of products the phrase gets what it
    makes alone or with a bias. Where a layer is one of a stack, the split goes through the levels
    below it.

    Args:
        model: any module that holds a GRU.
        *args: the model's own arguments.
        phrases: a sequence of phrases, each an int, a slice, a sequence of int or a bool mask
            (time,) of steps that need not follow one another; negative steps count from each row's
            own end. None is each step by itself.
        layer: the layer whose states are split; None is the last one that a linear readout reads.
        head: the linear readout: an nn.Linear over the layer's units, or over those of both
            directions side by side; a `Head`; None to find it. It is needed for scores only.
        dtype: torch.float64 to compute in double precision; None is the recording's own, float32
            for 16-bit models.
        call: the name of the method that is the run; None is the model itself; as for `record`.
        inputs: all arguments of the run as (args, kwargs), as for `record`.
        **kwargs: the model's own keyword arguments.

    Returns:
        A `Decomposition`: .beta and .gamma (phrase, batch, time, unit), and their .scores
        (phrase, batch, time, class).

    Raises:
        PositionError: a phrase is out of range.
        LayerError: no such layer.
        ReadoutError: `head` does not fit.
        RecordingError: dropout between layers is active, or an edit is in force.

    >>> rnn = nn.GRU(3, 4, batch_first=True)
    >>> found = contextual_decomposition(rnn, torch.randn(2, 6, 3), phrases=[slice(1, 3), [0, 5]])
    >>> found
    Decomposition('l0', 2 phrases, batch 2, time 6, unit 4)
    >>> bool((found.beta[0, :, 0] == 0).all()), torch.equal(found.h - found.beta, found.gamma)
    (True, True)
    """
    check_dtype(dtype)
    given = arguments(args, kwargs, inputs)
    with as_it_was(model):
        recording = record(model, call=call, inputs=given)
    reader, why = None, ""
    try:
        layer, reader = read_by(model, given, recording, layer, head, call)
    except ReadoutError as error:
        if head is not None:
            raise
        why = str(error)
        layer = layer if layer is not None else list(recording)[-1].removesuffix("_reverse")
    levels = Levels.below(model, recording, layer, dtype)
    listed = asked(phrases, levels)
    inside = held(listed, levels)
    parts = split(levels, inside)
    states = {name: levels.states(name) for name in levels.top}
    return Decomposition(layer, listed, inside, levels.mask, states, parts, reader, why)


def contextual_credit(
    model: nn.Module,
    *args: Any,
    target: Any,
    step: Any = -1,
    layer: str | None = None,
    head: Any = None,
    dtype: Any = None,
    call: Any = None,
    inputs: Any = None,
    **kwargs: Any,
) -> Credit:
    """What each step contributes to a class by itself: one phrase a token.

    These contributions do not add up to the score, for tokens act on each other: what all of them
    together contribute beyond that is the ledger's "interactions". Biases and the first state have
    the rest.

    Args:
        model: any module that holds a GRU.
        *args: the model's own arguments.
        target: the class; or a pair, a class and the one it is held against.
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
    levels, reader = ask(model, given, layer, head, dtype, call)
    scorer = Scorer(levels, reader, target, step)
    batch, steps = scorer.levels.mask.shape
    each = scorer(torch.eye(steps, dtype=torch.bool)[:, None].expand(-1, batch, -1))
    whole = scorer(torch.ones(1, batch, steps, dtype=torch.bool))[0]
    score = scorer.score
    bias = scorer.bias.expand(batch)
    return Credit(
        "contextual decomposition", scorer.levels.layer, score, each.mT[..., None],
        score.new_zeros(batch, 1), bias,
        {"interactions": whole - each.sum(0), "biases and h_0": score - bias - whole},
    )  # fmt: skip
