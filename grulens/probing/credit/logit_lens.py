"""What a model would answer at every step, and what each unit says for an answer.

The readout that the model applies where it answers is applied to every state (nostalgebraist 2020,
"interpreting GPT: the logit lens", there over depth, here over time). A linear readout is a sum
over units, so a logit is shared out among them exactly: a unit's share is its weight times its
state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from grulens.arguments import Edits, Frame, HeadLike, Inputs, Integer, LayerName, MethodName
from grulens.errors import PositionError, ReadoutError, shown
from grulens.models.call.invocation import arguments
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.layers import check_layer
from grulens.models.record import record
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.edits import positions
from grulens.probing.layer import last_read
from grulens.probing.readout.head import Head, fitted, head_of, last_layer
from grulens.results import Result, frame
from grulens.tables import html_table


@dataclass(frozen=True, eq=False, repr=False)
class LogitLens(Result):
    """A readout of every state of a layer.

    Attributes:
        layer: whose states are read.
        head: the name of what reads them.
        logits: (batch, time, class); zero on padding.
        h: the states (batch, time, unit).
        weight: (class, unit), or None where the readout is not linear.
        bias: (class,), or None likewise.
        rest: what is read beside this layer, such as the other direction's state at the same step,
            adds to every logit (batch, time, class).
        states_only: whether this is all that the readout reads. If not, it reads features of
            another kind too, whose part is missing in these logits.
        mask: (batch, time), False on padding.
        last: the position that each row read last (batch,): its end, or 0 where the layer is a
            reverse one.
    """

    layer: str
    head: str
    logits: Float[Tensor, "batch time klass"]
    h: Float[Tensor, "batch time unit"]
    weight: Float[Tensor, "klass unit"] | None
    bias: Float[Tensor, " klass"] | None
    rest: Float[Tensor, "batch time klass"]
    states_only: bool
    mask: Bool[Tensor, "batch time"]
    last: Int[Tensor, " batch"]

    @property
    def probability(self) -> Float[Tensor, "batch time klass"]:
        """The softmax of the logits over classes; zero on padding."""
        return self.logits.softmax(-1).masked_fill(~self.mask[..., None], 0)

    def share(self, klass: Integer) -> Float[Tensor, "batch time unit"]:
        """Each unit's own share of a logit: weight[klass, unit] * h.

            logits[..., klass] = share(klass).sum(-1) + bias[klass] + rest[..., klass]

        Args:
            klass: the class, an int; negative from the end.

        Raises:
            ReadoutError: the readout is not linear.
            PositionError: there is no such class.
        """
        if self.weight is None:
            raise ReadoutError(
                f"the readout {self.head} of layer {self.layer!r} is a function of which nothing "
                "is known, so its logits have no shares; give head=..., an nn.Linear"
            )
        place = _position(klass, self.logits.shape[2], "class", f"the readout of {self.layer!r}")
        return self.h * self.weight[place]

    def top(
        self, t: Integer, k: Integer = 5
    ) -> tuple[Int[Tensor, "batch k"], Float[Tensor, "batch k"]]:
        """The likeliest classes at a step.

        Args:
            t: the step, negative from the end.
            k: how many; all where there are fewer.

        Returns:
            The classes (batch, k), int64, the likeliest first, and their logits.

        Raises:
            PositionError: there is no such step, or k is no positive int.
        """
        _, steps, classes = self.logits.shape
        place = _position(t, steps, "step", f"layer {self.layer!r}")
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise PositionError(f"k must be a positive int, got {shown(k)}")
        found = self.logits[:, place].topk(min(k, classes))
        return found.indices, found.values

    def to_frame(self, row: Integer = 0) -> Frame:
        """A row's logits as a pandas DataFrame: a line a step, a column a class.

        Raises:
            PositionError: there is no such row.
            MissingPackageError: pandas is not installed.
        """
        place = _position(row, len(self.logits), "row", "this run")
        return frame(self.logits[place], index="step", columns="class")

    def __repr__(self) -> str:
        batch, time, classes = self.logits.shape
        return (
            f"LogitLens({self.head} of {self.layer!r}, batch {batch}, time {time}, class {classes})"
        )

    def _repr_html_(self) -> str:
        there = self.mask[0].nonzero().flatten().tolist()
        # a layer that reads from the end read the first positions last
        steps = there[:8] if there and int(self.last[0]) < there[-1] else there[-8:]
        rows = []
        for step in steps:
            classes, logits = (found[0].tolist() for found in self.top(step, 3))
            rows.append((step, *(f"{c}: {v:z.3g}" for c, v in zip(classes, logits, strict=True))))
        places = ("likeliest", "second", "third")[: self.logits.shape[2]]
        head = ("step", *(places if len(places) > 1 else ("class: value",)))
        return html_table(head, rows, f"{self.head} of {self.layer}, row 0, the steps read last")


def logit_lens(
    model: nn.Module,
    *args: Any,
    layer: LayerName = None,
    head: HeadLike = None,
    edits: Edits = (),
    call: MethodName = None,
    inputs: Inputs = None,
    **kwargs: Any,
) -> LogitLens:
    """Apply the readout of a model to every state of a layer.

    Args:
        model: any module that holds a recurrent layer.
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
    name = layer if layer is not None else head.layer if isinstance(head, Head) else last_layer(run)
    check_layer(name, list(run), "did not run on this input; what ran is", model)
    recorded = run[name]
    with torch.no_grad():
        if isinstance(head, nn.Linear):
            head = fitted(head, name, run)
        if isinstance(head, Head):
            return _linear(head, recorded, run)
        return _any(head, recorded)


def _linear(head: Head, recorded: LayerRecording, run: Recording) -> LogitLens:
    if head.layer != recorded.name:
        raise ReadoutError(f"{head!r} reads another layer than {recorded.name!r}")
    h, weight, bias = recorded.h, head.weight.to(recorded.h), head.bias.to(recorded.h)
    if weight.shape[1] != h.shape[2]:
        raise ReadoutError(
            f"{head!r} does not fit layer {recorded.name!r}, which has {h.shape[2]} units"
        )
    missing = [name for name in head.joined if name not in run]
    if missing:
        raise ReadoutError(f"{head!r} reads {', '.join(missing)} too, which did not run")
    rest = h.new_zeros(*h.shape[:2], len(weight))
    for name, part in head.joined.items():
        rest = rest + run[name].h @ part.to(h).t()
    padding = ~recorded.mask[..., None]
    rest = rest.masked_fill(padding, 0)
    logits = (h @ weight.t() + bias + rest).masked_fill(padding, 0)
    return LogitLens(
        recorded.name, repr(head.name), logits, h, weight, bias, rest, head.states_only,
        recorded.mask, last_read(recorded),
    )  # fmt: skip


def _any(head: Any, recorded: LayerRecording) -> LogitLens:
    h = recorded.h
    logits = head(h)
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        came = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise ReadoutError(f"head must return a floating tensor, got {came}")
    if logits.dim() != 3 or logits.shape[:2] != h.shape[:2] or not logits.shape[2]:
        raise ReadoutError(
            f"head must return (batch, time, class) for states {tuple(h.shape)}; it returned "
            f"{tuple(logits.shape)}"
        )
    logits = logits.detach().masked_fill(~recorded.mask[..., None], 0)
    name = getattr(head, "__name__", type(head).__name__)
    return LogitLens(
        recorded.name, str(name), logits, h, None, None, torch.zeros_like(logits), True,
        recorded.mask, last_read(recorded),
    )  # fmt: skip


def _position(value: Any, size: int, word: str, where: str) -> int:
    place = positions.normal(value, word)
    if not isinstance(place, int):
        raise PositionError(f"{word} must be an int, got {shown(value)}")
    positions.check(place, size, word, where)
    return place % size
