"""What a sweep asks of a model, and how the model answers unedited.

Each run begins from the model as it was: its buffers, attributes and random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from torch import Tensor, nn

from grulens.errors import ReadoutError
from grulens.models.call.invocation import Given, fresh, invocation
from grulens.models.call.place import EditLike, Place
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.readout.readout import Readout


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of a model, and how it answers unedited.

    Attributes:
        model: the user's model.
        given: its arguments, (args, kwargs).
        call: its method that is the run, or None.
        layer: the layer that is edited.
        reverse: whether that layer reads its input from the end.
        readout: from the model's output to a tensor.
        known: the layers of that layer's module as they run unedited.
        baseline: the readout of the unedited run.
        looks: whether what the model does depends on numbers that it computes from the layer.
    """

    model: nn.Module
    given: Given
    call: str | None
    layer: str
    reverse: bool
    readout: Readout
    known: Recording
    baseline: Tensor
    looks: bool = False

    @property
    def recording(self) -> LayerRecording:
        """The layer, unedited."""
        return self.known[self.layer]

    @cached_property
    def place(self) -> Place:
        """Its whole time axis, as edits are asked for their changes."""
        layer = self.recording
        batch, steps, units = layer.shape
        lengths = None if layer.mask.all() else layer.mask.sum(1).cpu()
        mean = cache(layer.mean)
        return Place(self.layer, batch, steps, units, 0, steps, lengths, layer.x, mean)

    def run(self, given: Given | None = None) -> Any:
        """Run the model, on its own arguments or on others."""
        given = fresh(self.given) if given is None else given
        return invocation(self.model, given, self.call)()

    def ask(self, output: Any) -> Tensor:
        """The readout of an output."""
        return floating(self.readout(output))

    def answer(self, output: Any, edits: Sequence[EditLike]) -> Tensor:
        """The readout of an edited run.

        Raises:
            ReadoutError: it is no tensor of the unedited run's shape.
        """
        values = self.ask(output)
        if values.shape != self.baseline.shape:
            said = ", ".join(map(repr, edits)) or "no edit"
            raise ReadoutError(
                f"the readout returned {tuple(self.baseline.shape)} for the unedited run and "
                f"{tuple(values.shape)} for {said}; it must return one shape"
            )
        return values


def floating(values: Any) -> Tensor:
    """What a readout returned.

    Raises:
        ReadoutError: it is no floating tensor.
    """
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise ReadoutError(f"a readout must return a floating tensor, got {kind}")
    return values.detach()
