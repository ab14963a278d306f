"""One layer of a recording, by name or alone: where a question about a layer begins."""

from __future__ import annotations

from typing import Any

from grulens.errors import RecordingError, shown
from grulens.models.layers import check_layer
from grulens.models.recording import LayerRecording, Recording


def layer_of(recording: Any, layer: Any = None) -> LayerRecording:
    """A layer of a recording; without a name the recording must hold one layer only.

    Args:
        recording: a `Recording`, or a `LayerRecording`, which is taken as it is.
        layer: the layer's name, or None.

    Raises:
        LayerError: the recording holds no such layer.
        RecordingError: it is no recording, or `layer` is missing.
    """
    if isinstance(recording, LayerRecording):
        if layer is not None:
            check_layer(layer, [recording.name], "is not this layer, which is")
        return recording
    if not isinstance(recording, Recording):
        raise RecordingError(
            "a recording was expected, what record(model, ...) returns, or one layer of it; got "
            f"{shown(recording)}"
        )
    if layer is None and len(recording) != 1:
        raise RecordingError(f"say which layer: {', '.join(recording)}")
    return recording[next(iter(recording)) if layer is None else layer]
