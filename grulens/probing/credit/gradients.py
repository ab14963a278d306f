"""Which inputs a score is owed to, by its gradients: along a path, or where it stands.

Both methods need gradients with respect to what a layer in the middle of a model reads: each is
that of the whole model, run with another input there. The rest is a product or a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from grulens.arguments import (
    Amount,
    Edits,
    Inputs,
    Integer,
    LayerName,
    MethodName,
    Readout,
    Step,
    TargetClass,
)
from grulens.errors import EditError, shown
from grulens.job import Job, tell
from grulens.models.call.invocation import arguments
from grulens.probing.credit.credit import Credit
from grulens.probing.credit.score import Score, baseline_of

MOST_STEPS = 100_000


def integrated_gradients(
    model: nn.Module,
    *args: Any,
    target: TargetClass | None = None,
    step: Step = -1,
    readout: Readout | None = None,
    input_of: LayerName = None,
    baseline: Amount = 0.0,
    steps: Integer = 64,
    edits: Edits = (),
    progress: bool | Callable[[int], object] = True,
    call: MethodName = None,
    inputs: Inputs = None,
    **kwargs: Any,
) -> Credit:
    """How much each input of a layer adds to a score on the straight path from a baseline to it.

    With x' the baseline, the share of each x_i is (x_i - x'_i) times the mean of d score / d x_i
    over the points x' + a (x - x'), a from 0 to 1 (Sundararajan, Taly and Yan 2017,
    arXiv:1703.01365, eq. 1), by a Gauss-Legendre sum over `steps` points. The first state
    goes the same way from zero, and has its own share.

    The path is that of the layer's input as the layer reads it, such as an embedding's output; for
    an upper layer, the states of the one below. Both directions of a bidirectional layer read it,
    so its shares are for both; of the two first states only that of `input_of` moves. Other parts
    of the model that read the original input (a skip connection) still do, so their effect is part
    of `bias`. Where a module is called step by step, every call reads its own part of the path,
    even one that the model would compute from earlier states; the first state is that of the first
    call.

    An argument of the model is credited as it is given, laid out as (batch, time, input): rows
    first, or behind the steps; one step where it has no axis of the layer's steps. There is no
    first state then. What else the model is given stays as it is, and is part of `bias`.

    The steps run one after another, and a run leaves nothing behind: memory is that of one run with
    its graph. It is assumed that rows do not act on each other.

    Args:
        model: any module that holds a recurrent layer.
        *args: the model's own arguments.
        target: the class of the model's answer whose number is the score; or a pair, a class and
            the one it is compared with.
        step: where the answer is read, negative from each row's end; of a model that answers once
            a row, -1 or "final".
        readout: in place of target and step, from the model's output to the score: (batch,), or
            one number for batch 1.
        input_of: the layer whose input is credited, or the name of an argument of the model: a
            floating tensor that it is given. None is the first layer that runs; where that was
            observed, whose input only its module knows, it is the model's only floating argument.
        baseline: x': a number, or a tensor that broadcasts to the layer's input (batch, time,
            input). Padding stays as it is.
        steps: the number of points on the path; the gap says whether they are enough.
        edits: what is changed in every run: the credit is that of the edited model. A mean to which
            an edit refers is that of the run that is explained.
        progress: whether to show a bar; or a function that is told how many more points are done,
            with no lock held. An error that it raises ends the computation, KeyboardInterrupt as
            Ctrl-C does.
        call: the name of the method that is the run; None is the model itself; as for `record`.
        inputs: all arguments of the run as (args, kwargs), as for `record`.
        **kwargs: the model's own keyword arguments.

    Returns:
        A `Credit`. `bias` is the score at the baseline: x' in place of the input, h_0 zero. `gap`
        is score - bias - the sum of all shares, and goes to 0 as steps grow. A KeyboardInterrupt
        ends it early: the credit is then the sum over the points that are done, which are spread
        over the whole path, with a `note` and a `StoppedWarning` that say so. Before the first
        point the KeyboardInterrupt is raised.

    Raises:
        ReadoutError: neither target nor readout is given, or both; there is no such class; the
            readout gives no floating (batch,), or no gradient flows through it.
        PositionError: there is no such step.
        EditError: `baseline` or `steps` does not fit, or an edit does not.
        LayerError: no such layer.
        RecordingError: the layer did not run, or with other inputs is called another number of
            times; or the model detaches what moves with the layer, so that gradients end there.

    >>> rnn = nn.GRU(3, 4, batch_first=True)
    >>> credit = integrated_gradients(rnn, torch.randn(2, 6, 3), progress=False,
    ...                               readout=lambda output: output[0][:, -1, 0])
    >>> credit.tokens.shape, bool(credit.gap.abs().max() < 1e-4)
    (torch.Size([2, 6]), True)
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 0 < steps <= MOST_STEPS:
        raise EditError(f"steps must be an int from 1 to {MOST_STEPS}, got {shown(steps)}")
    score = Score(
        model, arguments(args, kwargs, inputs), target=target, step=step, readout=readout,
        input_of=input_of, edits=edits, call=call,
    )  # fmt: skip
    start = baseline_of(score, baseline), torch.zeros_like(score.h_0)
    way = [read - begin for read, begin in zip((score.x, score.h_0), start, strict=True)]
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    total, reached = [torch.zeros_like(move) for move in way], 0.0
    job: Job[Credit] = Job("integrated gradients", "point", steps)
    with job.watched(bar=progress is True):
        # one point of the path at a time: a model cannot be asked for more rows than it has
        for place in _all_over(steps):
            # nodes are from -1 to 1, and their weights add up to 2
            far, share = (1 + float(nodes[place])) / 2, float(weights[place]) / 2
            at = (begin + far * move for begin, move in zip(start, way, strict=True))
            slopes = score.gradients(*at)
            total = [old + share * slope for old, slope in zip(total, slopes, strict=True)]
            reached += share
            job.advance()
            if callable(progress):
                progress(1)
    if not job.done:
        raise KeyboardInterrupt  # nothing is known yet
    if job.note:  # of the points that there are, which lie all over the way, the mean
        total = [part / reached for part in total]
        tell("integrated_gradients", job.note)
    shares = [move * slope for move, slope in zip(way, total, strict=True)]
    return _credit("integrated gradients", score, shares, score.at(*start), job.note)


def input_x_gradient(
    model: nn.Module,
    *args: Any,
    target: TargetClass | None = None,
    step: Step = -1,
    readout: Readout | None = None,
    input_of: LayerName = None,
    edits: Edits = (),
    call: MethodName = None,
    inputs: Inputs = None,
    **kwargs: Any,
) -> Credit:
    """Each input of a layer times the gradient of a score there.

    One backward pass: what the score would lose at each input if it were linear (Shrikumar et al.
    2016, arXiv:1605.01713, whose baseline it is measured against). It is not, and the gap says by
    how much these shares miss the score. Where credit goes is described at `integrated_gradients`.

    Args:
        model: any module that holds a recurrent layer.
        *args: the model's own arguments.
        target: the class of the model's answer whose number is the score; or a pair, a class and
            the one it is compared with.
        step: where the answer is read, negative from each row's end; of a model that answers once
            a row, -1 or "final".
        readout: in place of target and step, from the model's output to the score: (batch,), or
            one number for batch 1.
        input_of: the layer whose input is credited, or the name of an argument of the model: a
            floating tensor that it is given. None is the first layer that runs; where that was
            observed, whose input only its module knows, it is the model's only floating argument.
        edits: what is changed in the run: the credit is that of the edited model.
        call: the name of the method that is the run; None is the model itself; as for `record`.
        inputs: all arguments of the run as (args, kwargs), as for `record`.
        **kwargs: the model's own keyword arguments.

    Returns:
        A `Credit`; its `bias` is 0, its `gap` score - the sum of all shares.

    Raises:
        ReadoutError: neither target nor readout is given, or both; there is no such class; the
            readout gives no floating (batch,), or no gradient flows through it.
        PositionError: there is no such step.
        LayerError: no such layer.
        EditError: an edit that does not fit.
        RecordingError: the layer did not run, or the model detaches what moves with it, so that
            gradients end there.

    >>> rnn = nn.GRU(3, 4, batch_first=True)
    >>> input_x_gradient(rnn, torch.ones(2, 6, 3), readout=lambda output: output[0][:, -1, 0])
    Credit('input × gradient' to 'l0', batch 2, time 6, largest gap ...)
    """
    score = Score(
        model, arguments(args, kwargs, inputs), target=target, step=step, readout=readout,
        input_of=input_of, edits=edits, call=call,
    )  # fmt: skip
    read = score.x, score.h_0
    shares = [value * slope for value, slope in zip(read, score.gradients(*read), strict=True)]
    return _credit("input × gradient", score, shares, torch.zeros_like(score.value))


def _all_over(count: int) -> list[int]:
    """0 to count - 1 in an order of which every beginning lies all over them (van der Corput 1935).

    >>> _all_over(6)
    [0, 4, 2, 1, 5, 3]
    """
    bits = max(1, (count - 1).bit_length())
    mirrored = (int(f"{place:0{bits}b}"[::-1], 2) for place in range(2**bits))
    return [place for place in mirrored if place < count]


def _credit(
    method: str, score: Score, shares: Sequence[Tensor], bias: Tensor, note: str = ""
) -> Credit:
    inputs, initial = (share.detach() for share in shares)
    mask = score.mask if score.input is None else None
    return Credit(method, score.layer, score.value, inputs, initial, bias, note=note, mask=mask)
