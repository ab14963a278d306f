"""What a model would answer at every step, and what each unit says for an answer.

The readout that the model applies where it answers is applied to every state (nostalgebraist 2020,
"interpreting GPT: the logit lens", there over depth, here over time). A linear readout is a sum
over units, so a logit is shared out among them exactly: a unit's share is its weight times its
state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from grulens.errors import ReadoutError, shown
from grulens.models.call.invocation import arguments
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.layers import check_layer
from grulens.models.record import record
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.credit.lensed import LogitLens
from grulens.probing.layer import last_read
from grulens.probing.readout.head import Head, head_of


def logit_lens(
    model: nn.Module,
    *args: Any,
    layer: Any = None,
    head: Any = None,
    edits: Any = (),
    call: Any = None,
    inputs: Any = None,
    **kwargs: Any,
) -> LogitLens:
    """Apply the readout of a model to every state of a layer.

    Args:
        model: any module that holds a GRU.
        *args: the model's own arguments.
        layer: whose states are read; None is the last layer that a linear readout reads, or the
            last one that runs if `head` is given.
        head: None to find what reads the layer (see `head_of`); an nn.Linear over its units, or
            over those of both directions side by side; a `Head`; or any function from states
            (..., unit) to logits (..., class), which has no shares of units.
        edits: what is changed in the run, in order.
        call: the name of the method that is the run; None is the model itself; as for `record`.
        inputs: all arguments of the run as (args, kwargs), as for `record`.
        **kwargs: the model's own keyword arguments.

    Raises:
        ReadoutError: no readout is found; the one given does not fit; or it gives no floating
            (batch, time, class).
        LayerError: no such layer.
        EditError: an edit that does not fit.
        RecordingError: the layer did not run.

    >>> rnn, head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
    >>> lens = logit_lens(rnn, torch.randn(1, 5, 3), head=head)
    >>> lens.logits.shape, lens.share(1).shape
    (torch.Size([1, 5, 2]), torch.Size([1, 5, 4]))
    >>> whole = lens.share(1).sum(-1) + lens.bias[1]
    >>> bool(torch.allclose(whole, lens.logits[..., 1], atol=1e-6))
    True
    """
    if head is not None and not callable(head):
        raise ReadoutError(
            f"head must be an nn.Linear, a Head or a function from states (..., unit) to logits "
            f"(..., class), got {shown(head)}"
        )
    given = arguments(args, kwargs, inputs)
    if head is None:
        head = head_of(model, layer=layer, call=call, inputs=given)
    with as_it_was(model):
        run = record(model, edits=edits, call=call, inputs=given)
    name = layer if layer is not None else head.layer if isinstance(head, Head) else _last(run)
    check_layer(name, list(run), "did not run on this input; what ran is", model)
    held = run[name]
    with torch.no_grad():
        if isinstance(head, nn.Linear):
            head = _fitted(head, name, run)
        if isinstance(head, Head):
            return _linear(head, held, run)
        return _any(head, held)


def _linear(head: Head, held: LayerRecording, run: Recording) -> LogitLens:
    if head.layer != held.name:
        raise ReadoutError(f"{head!r} reads another layer than {held.name!r}")
    h, weight, bias = held.h, head.weight.to(held.h), head.bias.to(held.h)
    if weight.shape[1] != h.shape[2]:
        raise ReadoutError(
            f"{head!r} does not fit layer {held.name!r}, which has {h.shape[2]} units"
        )
    missing = [name for name in head.joined if name not in run]
    if missing:
        raise ReadoutError(f"{head!r} reads {', '.join(missing)} too, which did not run")
    rest = h.new_zeros(*h.shape[:2], len(weight))
    for name, part in head.joined.items():
        rest = rest + run[name].h @ part.to(h).t()
    padding = ~held.mask[..., None]
    rest = rest.masked_fill(padding, 0)
    logits = (h @ weight.t() + bias + rest).masked_fill(padding, 0)
    return LogitLens(
        held.name, repr(head.name), logits, h, weight, bias, rest, head.whole, held.mask,
        last_read(held),
    )  # fmt: skip


def _any(head: Any, held: LayerRecording) -> LogitLens:
    h = held.h
    logits = head(h)
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        came = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise ReadoutError(f"head must return a floating tensor, got {came}")
    if logits.dim() != 3 or logits.shape[:2] != h.shape[:2] or not logits.shape[2]:
        raise ReadoutError(
            f"head must return (batch, time, class) for states {tuple(h.shape)}; it returned "
            f"{tuple(logits.shape)}"
        )
    logits = logits.detach().masked_fill(~held.mask[..., None], 0)
    name = getattr(head, "__name__", type(head).__name__)
    return LogitLens(
        held.name, str(name), logits, h, None, None, torch.zeros_like(logits), True, held.mask,
        last_read(held),
    )  # fmt: skip


def _fitted(head: nn.Linear, name: str, run: Recording) -> Head:
    """An nn.Linear that the user gave, as the readout of one direction, or of both."""
    sides = _sides(name, run)
    for layers in ([name], sides):
        widths = [run[side].shape[2] for side in layers]
        if sum(widths) == head.in_features:
            parts = dict(zip(layers, torch.split(head.weight.detach(), widths, 1), strict=True))
            weight = parts.pop(name)
            bias = weight.new_zeros(len(weight)) if head.bias is None else head.bias.detach()
            joined: Mapping[str, Tensor] = parts
            return Head("head", name, weight, bias, joined, True)
    both = sum(run[side].shape[2] for side in sides)
    raise ReadoutError(
        f"head reads {head.in_features} numbers; layer {name!r} has {run[name].shape[2]} units"
        + (f", both directions {both}" if len(sides) > 1 else "")
    )


def _sides(name: str, run: Recording) -> list[str]:
    """The directions of a layer's level, the forward one first."""
    forward = name.removesuffix("_reverse")
    return [side for side in (forward, f"{forward}_reverse") if side in run]


def _last(run: Recording) -> str:
    forward = [name for name in run if not name.endswith("_reverse")]
    return (forward or list(run))[-1]
