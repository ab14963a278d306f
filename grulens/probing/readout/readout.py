"""What a model answers, step by step, and how far two answers are apart.

A readout takes the model's whole output and returns (batch, time, class), (batch, class),
(batch, time) or (batch,). How two of them are compared depends on what the numbers are: for logits
and probabilities the Kullback-Leibler divergence KL(before ‖ after) in bits (Cover & Thomas 2006,
eq. 2.26), for plain values the difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from grulens.errors import NoAnswerError, ReadoutError, shown
from grulens.probing.readout.suggestion import fits, parts, suggestions
from grulens.words import so_many

Readout = Callable[[Any], Tensor]
Scale = Literal["logits", "probability", "value"]
#: So many tensors alike in a tuple may be a mean and a variance, or states h and c.
FEW = 3
SCALES = ("logits", "probability", "value")


@dataclass(frozen=True, eq=False, repr=False)
class Answer:
    """What a model answered for one row.

    Attributes:
        values: (time, class); a readout of (batch, time) has one class.
        scale: what the numbers are: "logits", "probability" or "value".
    """

    values: Float[Tensor, "time klass"]
    scale: Scale

    def __repr__(self) -> str:
        return f"Answer(time {len(self.values)}, class {self.values.shape[1]}, {self.scale})"

    @property
    def shown(self) -> Float[Tensor, "time klass"]:
        """What is shown of it: probabilities of the classes, or the values."""
        return self.values.softmax(-1) if self.scale == "logits" else self.values


def check_readout(readout: Any) -> None:
    """Raise ReadoutError unless it is a function."""
    if not callable(readout):
        raise ReadoutError(f"readout must be a function of the output, got {shown(readout)}")


def first_tensor(output: Any) -> Tensor:
    """The default readout: the first floating tensor of an output, however nested.

    A packed sequence is padded, (batch, time, feature).

    Raises:
        ReadoutError: there is none.

    >>> first_tensor({"loss": 3, "logits": (torch.zeros(2, 5),)}).shape
    torch.Size([2, 5])
    """
    for tensor in tensors_in(output):
        if tensor.is_floating_point():
            return tensor
    raise ReadoutError(
        f"the model's output ({type(output).__name__}) holds no floating tensor; give "
        "readout=..., a function from the output to (batch, time, class)"
    )


def read(
    output: Any,
    readout: Readout,
    scale: Scale | None,
    row: int,
    batch: int,
    steps: int,
    names: int | None = None,
) -> Answer:
    """One row of a readout as an `Answer`.

    Args:
        output: the model's whole output.
        readout: from the output to (batch, time, class), (batch, class), (batch, time) or
            (batch,).
        scale: what the numbers are; None tells probabilities (they sum to 1) from values.
        row: which row of the batch.
        batch: rows of the run.
        steps: steps of the run; a (batch, time) readout of values has so many columns.
        names: how many classes have names; so many columns are classes.

    Raises:
        NoAnswerError: the result has another shape.
        ReadoutError: it is no floating tensor.
    """
    one = rows(output, readout, scale, batch, steps, names)[row].detach().float()
    if scale is None:
        sums = one.sum(-1)
        whole = one.shape[1] > 1 and bool((one >= 0).all() and ((sums - 1).abs() < 1e-3).all())
        scale = "probability" if whole else "value"
    return Answer(one, scale)


def rows(
    output: Any,
    readout: Readout,
    scale: Scale | None,
    batch: int,
    steps: int,
    names: int | None = None,
) -> Float[Tensor, "batch time klass"]:
    """A readout of every row, in the graph that it came with; arguments as `read`."""
    by_default = readout is first_tensor
    values = _found(output, batch, steps) if by_default else readout(output)
    if not isinstance(values, Tensor) or not values.is_floating_point():
        came = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise ReadoutError(f"a readout must return a floating tensor, got {came}")
    if values.layout is not torch.strided or values.is_meta:
        where = "on the meta device" if values.is_meta else f"of layout {values.layout}"
        raise ReadoutError(f"a readout must return a dense tensor with values, got one {where}")
    shape = tuple(values.shape)
    if by_default:
        values = _batch_first(values, batch, steps)
    if not fits(values, batch):
        raise _no_answer(output, batch, f"{'the output' if by_default else 'it'} is {shape}")
    if values.dim() == 1:
        return values[:, None, None]
    if values.dim() == 2:
        over_time = values.shape[1] == steps != names and scale in (None, "value")
        values = values[..., None] if over_time else values[:, None]
    return values


def _found(output: Any, batch: int, steps: int) -> Tensor:
    """The default readout of an output: its first floating tensor, or its steps one by one.

    A number alone, a loss, is no answer where there is another tensor.
    """
    found = [
        (code, value) for code, value in parts(output)
        if not isinstance(value, Tensor) or value.is_floating_point()
    ]  # fmt: skip
    if not found:
        raise _no_answer(output, batch, f"the output ({type(output).__name__}) has no such tensor")
    tensors = [one for one in found if not isinstance(one[1], Tensor) or one[1].dim()]
    code, value = (tensors or found)[0]
    if isinstance(value, Tensor):
        return value
    first, count = value[0], len(value)
    by_steps = count == steps and first.dim() in (1, 2) and len(first) == batch
    # a list is of one thing; a tuple may be of several that only look alike, and a few steps, too
    if by_steps and (isinstance(value, list) or count > FEW):
        return torch.stack(list(value), 1)
    if isinstance(value, tuple) and not by_steps:
        return first
    shape = tuple(first.shape)
    raise _no_answer(output, batch, f"{code} is {count} tensors {shape}")


def _no_answer(output: Any, batch: int, came: str) -> NoAnswerError:
    lines = suggestions(output, batch)
    message = (
        f"an answer is (batch, time, class), (batch, class), (batch, time) or (batch,) for the "
        f"{so_many(batch, 'row')} of this layer, and {came}"
    )
    if len(lines) == 1:
        message += f"; this would show it: {lines[0]}"
    elif lines:
        each = "".join(f"\n    {line}" for line in lines)
        message += f"; {len(lines)} layouts fit by size, and which one is right is not known:{each}"
    return NoAnswerError(message, lines)


def divergence(before: Answer, after: Answer) -> Float[Tensor, " time"]:
    """How far two answers are apart at each step.

    Returns:
        (time,): KL(before ‖ after) in bits for logits and probabilities; for values the signed
        difference where there is one class, else the Euclidean norm of the difference.

    Raises:
        ReadoutError: they are not of one shape and scale.

    >>> even, sure = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]])
    >>> divergence(Answer(even, "probability"), Answer(sure, "probability"))
    tensor([0.2075])
    """
    if before.values.shape != after.values.shape or before.scale != after.scale:
        raise ReadoutError(f"cannot compare {before!r} with {after!r}")
    if before.scale == "value":
        change = after.values - before.values
        return change[:, 0] if change.shape[1] == 1 else change.norm(dim=1)
    if before.scale == "logits":
        log_p, log_q = (answer.values.double().log_softmax(-1) for answer in (before, after))
    else:
        log_p, log_q = (answer.values.double().log() for answer in (before, after))
    p = log_p.exp()
    # a class of probability 0 before adds nothing, whatever it is after: 0 log 0 = 0
    terms = torch.where(p > 0, p * (log_p - log_q), 0.0)
    return (terms.sum(-1) / math.log(2)).clamp(min=0).float()


def _batch_first(values: Tensor, batch: int, steps: int) -> Tensor:
    """The default readout's tensor with its batch first, as far as sizes tell."""
    if values.dim() >= 2 and values.shape[:2] == (steps, batch) != (batch, steps):
        return values.transpose(0, 1)
    if batch == 1 and not values.dim():
        return values.reshape(1, 1)
    # unbatched, as the input was: steps, or the classes of one answer
    if batch == 1 and (values.shape[:1] == (steps,) or values.dim() == 1) and values.dim() <= 2:
        return values.reshape(1, *values.shape)
    return values


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in what a model takes or gives; a packed sequence is padded, the batch first.

    Args:
        value: a tensor, or what holds some: tuples, lists, mappings and dataclasses.
    """
    if isinstance(value, PackedSequence):
        yield pad_packed_sequence(value, batch_first=True)[0]
    elif isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name))
