"""What of a state counts for a class: the linear readout of one level of a stack, both directions.

A score that is to be taken apart is a sum over states: weights, units, and the places in time at
which each direction is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from grulens.errors import PositionError, ReadoutError, shown
from grulens.models.call.invocation import Given
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.layers import check_layer
from grulens.models.record import record
from grulens.models.recording import Recording
from grulens.probing.credit.stack import Levels, check_dtype
from grulens.probing.edits import positions
from grulens.probing.readout.head import Head, head_of

Target = int | tuple[int, int]
FINAL = "final"


@dataclass(frozen=True, eq=False)
class Reader:
    """A linear readout of the layers of one level.

    What else it may read (another level, a feature of its own) is none of this level's score.

    Attributes:
        weights: (class, unit) of each direction that is read, by layer name.
        bias: (class,).
    """

    weights: Mapping[str, Tensor]
    bias: Tensor

    @property
    def classes(self) -> int:
        """How many numbers it gives."""
        return len(self.bias)

    def check(self, target: Any) -> Target:
        """A target as an int, or a pair of them.

        Raises:
            ReadoutError: it is neither, or no such class.
        """
        whole = target if isinstance(target, tuple | list) else (target,)
        fits = len(whole) == (2 if isinstance(target, tuple | list) else 1) and all(
            isinstance(i, int) and not isinstance(i, bool) and -self.classes <= i < self.classes
            for i in whole
        )
        if not fits:
            raise ReadoutError(
                f"target must be a class, or a pair (class, class it is held against), of "
                f"0 to {self.classes - 1}; got {shown(target)}"
            )
        numbers = [i % self.classes for i in whole]
        return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])

    def toward(self, target: Target) -> tuple[dict[str, Tensor], Tensor]:
        """What a target reads of each layer's state (unit,), and its bias ()."""

        def of(values: Tensor) -> Tensor:
            if isinstance(target, tuple):
                return values[target[0]] - values[target[1]]
            return values[target]

        return {name: of(weight) for name, weight in self.weights.items()}, of(self.bias)


def read_by(
    model: nn.Module,
    given: Given,
    recording: Recording,
    layer: str | None,
    head: Any,
    call: str | None = None,
) -> tuple[str, Reader]:
    """The layer that is asked about, and what reads it.

    Args:
        model: the model.
        given: its arguments, positional and named.
        recording: its run.
        layer: the layer; None is the last one that a linear readout reads.
        head: an nn.Linear over the layer's units or over those of both directions side by side, a
            `Head`, or None to find it.
        call: the model's method that was the run, or None.

    Raises:
        ReadoutError: none is found, or the one given does not fit.
        LayerError: no such layer.
    """
    if layer is not None:
        check_layer(layer, list(recording), "did not run on this input; what ran is", model)
    if head is None:
        head = head_of(model, layer=layer, call=call, inputs=given)
    if isinstance(head, Head):
        name = head.layer if layer is None else layer
        if name == head.layer:
            both = {name: head.weight, **head.joined}
            sides = _sides(name, recording)
            return name, Reader({side: both[side] for side in sides if side in both}, head.bias)
        raise ReadoutError(f"{head!r} reads another layer than {name!r}")
    name = layer if layer is not None else _last(recording)
    if not isinstance(head, nn.Linear):
        raise ReadoutError(
            f"head must be an nn.Linear over the states of layer {name!r}, or a Head, got "
            f"{shown(head)}; only what is linear can be shared among its parts"
        )
    weight = head.weight.detach()
    bias = weight.new_zeros(len(weight)) if head.bias is None else head.bias.detach()
    sides = _sides(name, recording)
    for layers in ([name], sides):
        widths = [recording[side].shape[2] for side in layers]
        if sum(widths) == weight.shape[1]:
            return name, Reader(
                dict(zip(layers, torch.split(weight, widths, 1), strict=True)), bias
            )
    widths = [recording[side].shape[2] for side in sides]
    raise ReadoutError(
        f"head reads {weight.shape[1]} numbers; layer {name!r} has {widths[sides.index(name)]} "
        f"units" + (f", both directions {sum(widths)}" if len(sides) > 1 else "")
    )


def places(levels: Levels, step: Any) -> dict[str, Tensor]:
    """Where each direction of the top level is read, (batch,) positions.

    Args:
        levels: the stack.
        step: a position, negative from each row's end; or "final", each direction's own last
            state: the last position of a forward layer, the first of a reverse one.

    Raises:
        PositionError: there is no such step, or a row ends before it.
    """
    batch, steps = levels.mask.shape
    one_call = len(levels.calls) == 1
    ends = levels.mask.sum(1) if one_call else torch.full((batch,), steps)
    if isinstance(step, str) and step == FINAL:
        first = steps - levels.calls[-1][0][0].h.shape[1]
        return {
            run.layer: torch.full_like(ends, first) if run.backwards else ends - 1
            for run in levels.calls[-1][-1]
        }
    place = positions.normal(step, "step")
    if not isinstance(place, int):
        raise PositionError(f'step must be an int or "{FINAL}", got {shown(step)}')
    positions.check(place, steps, "step", f"layer {levels.layer!r}")
    at = ends + place if place < 0 else torch.full_like(ends, place)
    for row in range(batch):
        if not 0 <= int(at[row]) < int(ends[row]):
            raise PositionError(f"step {place} is past row {row}, which has {int(ends[row])} steps")
    return dict.fromkeys(levels.top, at)


def at(value: Tensor, place: Tensor) -> Tensor:
    """(*any, batch, unit) of (*any, batch, time, unit) at each row's own position."""
    rows = torch.arange(len(place), device=value.device)
    return value[..., rows, place.to(value.device), :]


def _last(recording: Recording) -> str:
    names = list(recording)
    forward = [name for name in names if not recording[name].segments[0].reverse]
    return (forward or names)[-1]


def _sides(layer: str, recording: Recording) -> list[str]:
    """The directions of a layer's level, the forward one first."""
    forward = layer.removesuffix("_reverse")
    return [name for name in (forward, f"{forward}_reverse") if name in recording]


def ask(
    model: nn.Module,
    given: Given,
    layer: str | None,
    head: Any,
    dtype: Any,
    call: str | None = None,
) -> tuple[Levels, Reader]:
    """Run a model: the stack of the layer that is asked about, and what reads it."""
    check_dtype(dtype)
    with as_it_was(model):
        recording = record(model, call=call, inputs=given)
    name, reader = read_by(model, given, recording, layer, head, call)
    return Levels.below(model, recording, name, dtype), reader
