"""What a phrase of the input contributes by itself: contextual decomposition of a model's states.

`grulens.cells.phrases.decomposition` splits the states of one cell, and says by which rule;
`grulens.probing.phrases.split` takes the split through a stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from grulens.arguments import Frame, HeadLike, Inputs, MethodName, Phrases, Precision
from grulens.cells.precision import exact
from grulens.errors import ReadoutError
from grulens.models.call.invocation import arguments
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.record import record
from grulens.probing.credit.stack import Stack, check_dtype
from grulens.probing.edits import positions
from grulens.probing.edits.positions import Index
from grulens.probing.phrases.split import indices, masks, split
from grulens.probing.readout.head import Head, head_for
from grulens.results import Result, frame, row_of
from grulens.tables import html_table
from grulens.words import so_many


@dataclass(frozen=True, eq=False, repr=False)
class Decomposition(Result):
    """The part of every state of a layer that each phrase of the input made: h = beta + gamma.

    Attributes:
        layer: the layer.
        phrases: the phrases, as they were given.
        inside: which steps each of them holds, bool (phrase, batch, time).
        mask: (batch, time), False on padding.
        states: the whole states (batch, time, unit) of each direction of the layer's level, by
            layer; zero on padding.
        parts: the phrases' parts of them (phrase, batch, time, unit), likewise.
        head: the linear readout, or None where there is none.
        why: why there is none.
    """

    layer: str
    phrases: tuple[Index, ...]
    inside: Bool[Tensor, "phrase batch time"]
    mask: Bool[Tensor, "batch time"]
    states: Mapping[str, Tensor]
    parts: Mapping[str, Tensor]
    head: Head | None
    why: str = field(default="")

    @property
    def h(self) -> Float[Tensor, "batch time unit"]:
        """The layer's states."""
        return self.states[self.layer]

    @property
    def beta(self) -> Float[Tensor, "phrase batch time unit"]:
        """What each phrase made of the layer's states; zero before the phrase begins."""
        return self.parts[self.layer]

    @property
    def gamma(self) -> Float[Tensor, "phrase batch time unit"]:
        """Everything else: other steps, what they make together with the phrase, biases, h_0."""
        return self.h - self.beta

    @property
    def scores(self) -> Float[Tensor, "phrase batch time klass"]:
        """The phrases' part of every class at every step, through both directions if both are read.

        Raises:
            ReadoutError: there is no linear readout.
        """
        return self._read(self.parts)

    @property
    def rest(self) -> Float[Tensor, "phrase batch time klass"]:
        """The part of everything else: logits - scores - bias."""
        return self._read({name: h - self.parts[name] for name, h in self.states.items()})

    @property
    def logits(self) -> Float[Tensor, "batch time klass"]:
        """What the readout says of the whole states, both directions read at the same step."""
        return self._read(self.states) + self.bias

    @property
    def bias(self) -> Float[Tensor, " klass"]:
        """The readout's own bias, which is nobody's."""
        return self._linear.bias.to(self.h)

    def to_frame(self, row: int = 0) -> Frame:
        """A row as a pandas DataFrame, a line a phrase and step: the norms of beta and of gamma.

        Args:
            row: which row of the batch.

        Raises:
            PositionError: there is no such row.
            MissingPackageError: pandas is not installed.
        """
        row = row_of(row, len(self.mask))
        words = [positions.words(phrase, "step") for phrase in self.phrases]
        steps = self.mask[row].nonzero().flatten().tolist()
        parts = {name: getattr(self, name)[:, row].double().norm(dim=-1)[:, steps].flatten()
                 for name in ("beta", "gamma")}  # fmt: skip
        phrases = [word for word in words for _ in steps]
        return frame({"phrase": phrases, "step": steps * len(words), **parts})

    @property
    def _linear(self) -> Head:
        if self.head is None:
            raise ReadoutError(self.why)
        return self.head

    def _read(self, values: Mapping[str, Tensor]) -> Tensor:
        weights = self._linear.over(self.states)
        with exact(self.mask.device):
            parts = [values[name] @ weight.to(values[name]).mT for name, weight in weights.items()]
        return torch.stack(parts).sum(0)

    def __repr__(self) -> str:
        count, batch, time, unit = self.beta.shape
        return (
            f"Decomposition({self.layer!r}, {so_many(count, 'phrase')}, batch {batch}, "
            f"time {time}, unit {unit})"
        )

    def _repr_html_(self) -> str:
        sizes = self.beta.double().flatten(1).norm(dim=1).tolist()
        rows = [
            (positions.words(phrase, "step"), f"{size:.3g}")
            for phrase, size in zip(self.phrases[:12], sizes, strict=False)
        ]
        return html_table(("phrase", "its part of all states, norm"), rows, repr(self))


def contextual_decomposition(
    model: nn.Module,
    *args: Any,
    phrases: Phrases = None,
    layer: str | None = None,
    head: HeadLike = None,
    dtype: Precision = None,
    call: MethodName = None,
    inputs: Inputs = None,
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
    found, why = None, ""
    try:
        found = head_for(model, given, recording, layer, head, call)
        layer = found.layer
    except ReadoutError as error:
        if head is not None:
            raise
        why = str(error)
        layer = layer if layer is not None else list(recording)[-1].removesuffix("_reverse")
    stack = Stack.of(model, recording, layer, dtype)
    steps = indices(phrases, stack)
    inside = masks(steps, stack)
    parts = split(stack, inside)
    states = {name: stack.states(name) for name in stack.top}
    return Decomposition(layer, steps, inside, stack.mask, states, parts, found, why)
