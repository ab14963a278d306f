"""What Keras layers on torch's backend change while they run, so that it can be put back."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn


def kept_values(model: nn.Module) -> list[Tensor]:
    """What Keras layers change while they run: running means, seeds of dropout."""
    layers: list[Any] = [module for module in model.modules() if is_keras(module)]
    return [variable.value for layer in layers for variable in layer.non_trainable_variables]


def is_keras(module: Any) -> bool:
    """Whether it is a Keras layer on torch's backend."""
    layers = keras_layers()
    return layers is not None and isinstance(module, layers.Layer)


def keras_layers() -> Any:
    """keras.layers, if the user has imported it, and it runs on torch."""
    keras = sys.modules.get("keras")
    layers = getattr(keras, "layers", None)
    kind = getattr(layers, "Layer", None)
    return layers if isinstance(kind, type) and issubclass(kind, nn.Module) else None
