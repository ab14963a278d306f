"""One model on one input, with a readout: what a sweep edits, and what it gives unedited.

Each run begins from the model as it was: its buffers, attributes and random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from torch import Tensor, nn

from grulens.errors import ReadoutError, RecordingError
from grulens.models.call.invocation import Given, fresh, invocation
from grulens.models.call.place import EditLike, Place
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.instrument.watch import Watch
from grulens.models.instrument.watchable import Watchable
from grulens.models.observe.look import looked
from grulens.models.observed import ObservedLayer
from grulens.models.record import recorded
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.readout.readout import Readout, check_readout
from grulens.probing.units.data_dependence import DataDependence
from grulens.probing.units.peak_memory import PeakMemory


@dataclass(frozen=True, eq=False)
class Experiment:
    """A model, its input, the layer that is edited, and the unedited run.

    Attributes:
        watchable: the user's model, and what of it can be watched.
        given: its arguments, (args, kwargs).
        call: its method that is the run, or None.
        layer: the layer that is edited.
        reverse: whether that layer reads its input from the end.
        readout: from the model's output to a tensor.
        unedited: the layers of that layer's module, as they run unedited.
        baseline: the readout of the unedited run, `(*readout)`.
        peak: bytes that the unedited run held at its peak, what was recorded of it included.
        data_dependent: whether what the model does depends on numbers that it computes from the
            layer.
    """

    watchable: Watchable
    given: Given
    call: str | None
    layer: str
    reverse: bool
    readout: Readout
    unedited: Recording
    baseline: Tensor
    peak: int
    data_dependent: bool = False

    @property
    def model(self) -> nn.Module:
        """The user's model."""
        return self.watchable.model

    @property
    def recording(self) -> LayerRecording:
        """The layer, unedited."""
        return self.unedited[self.layer]

    @property
    def is_observed(self) -> bool:
        """Whether the layer is read in its module's own forward."""
        return isinstance(self.recording, ObservedLayer)

    @property
    def output(self) -> Any:
        """What the model returns unedited."""
        return self.unedited.output

    @cached_property
    def place(self) -> Place:
        """Its whole time axis, as edits are asked for their changes."""
        layer = self.recording
        batch, steps, _ = layer.shape
        lengths = None if layer.mask.all() else layer.mask.sum(1).cpu()
        mean = cache(layer.mean)
        return Place(self.layer, batch, steps, layer.cell, 0, steps, lengths, layer.h, mean)

    def run(self, given: Given | None = None) -> Any:
        """Run the model, on its own arguments or on others."""
        given = fresh(self.given) if given is None else given
        return invocation(self.model, given, self.call)()

    def read(self, output: Any, edits: Sequence[EditLike]) -> Tensor:
        """The readout of an edited run.

        Raises:
            ReadoutError: it is no tensor of the unedited run's shape.
        """
        values = floating(self.readout(output))
        if values.shape != self.baseline.shape:
            names = ", ".join(map(repr, edits)) or "no edit"
            raise ReadoutError(
                f"the readout returned {tuple(self.baseline.shape)} for the unedited run and "
                f"{tuple(values.shape)} for {names}; it must return one shape"
            )
        return values


def prepare(
    model: nn.Module, given: Given, layer: str, readout: Readout, call: str | None = None
) -> Experiment:
    """Run a model unedited.

    Args:
        model: the user's model.
        given: its arguments, (args, kwargs).
        layer: the layer that is to be edited.
        readout: from the model's output to a floating tensor.
        call: the model's method that is the run, or None.

    Raises:
        LayerError: no such layer.
        ReadoutError: the readout is no function, or gives no floating tensor.
    """
    check_readout(readout)
    known = looked(model)
    try:
        return _prepared(model, given, layer, readout, call)
    except RecordingError:
        if not known or looked(model):
            raise
        # its observed cells are others since, and forgotten: they are looked for anew
        return _prepared(model, given, layer, readout, call)


def _prepared(
    model: nn.Module, given: Given, layer: str, readout: Readout, call: str | None
) -> Experiment:
    with as_it_was(model):
        watchable = Watchable.in_run(model, given, call)
    watch = Watch(watchable, keep=[layer], marks=call != "forward")
    reverse, dependence = False, DataDependence()
    if layer not in watch.observed:
        module, key = watch.place_of(layer)
        # what its other layers read is what tells whether a run is the same up to here
        watch.keep = [*watch.names[module].values()]
        reverse, dependence = bool(key[1]), DataDependence(module)
    with as_it_was(model), PeakMemory() as memory, dependence:
        unedited = recorded(invocation(model, fresh(given), call), watch)
    with as_it_was(model):
        unedited[layer].check_one_batch("a sweep")
        baseline = floating(readout(unedited.output))
    return Experiment(
        watchable, given, call, layer, reverse, readout, unedited, baseline, memory.peak,
        data_dependent=dependence.found,
    )  # fmt: skip


def floating(values: Any) -> Tensor:
    """What a readout returned.

    Raises:
        ReadoutError: it is no floating tensor.
    """
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise ReadoutError(f"a readout must return a floating tensor, got {kind}")
    return values.detach()
