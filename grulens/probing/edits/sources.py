"""Where the values of a patch come from: one signal of one layer of another run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from grulens.errors import SourceError, shown
from grulens.models.call.place import Place
from grulens.models.recording import LayerRecording, Recording


@dataclass(frozen=True, eq=False)
class Source:
    """The values a patch puts in.

    Attributes:
        name: what they are of, in words.
        signal: (batch, time, unit), as recorded.
    """

    name: str
    signal: Tensor

    @classmethod
    def of(cls, source: Any, layer: str, signal: str) -> Source:
        """The source that a user gave: a Recording, a LayerRecording or a Source.

        Raises:
            SourceError: it is none of these, or holds no such layer.
        """
        if isinstance(source, Source):
            return source
        if isinstance(source, Recording):
            if layer not in source:
                raise SourceError(
                    f"the source of a patch of layer {layer!r} holds no such layer; it has "
                    f"{', '.join(source)}"
                )
            source = source[layer]
        if not isinstance(source, LayerRecording):
            raise SourceError(
                f"source must be a Recording or a LayerRecording, got {type(source).__name__}"
            )
        source.check_one_batch("a patch")
        return cls(repr(source), source.signal(signal))

    def check_units(self, units: int, layer: str) -> None:
        """Raise SourceError unless it has as many units as the layer."""
        if self.signal.shape[2] != units:
            raise SourceError(
                f"the source of a patch of layer {layer!r} has {self.signal.shape[2]} units "
                f"({self.name}); the layer has {units}"
            )

    def check_steps(self, steps: int, layer: str) -> None:
        """Raise SourceError unless it has as many steps as the run."""
        if self.signal.shape[1] != steps:
            raise SourceError(
                f"the source of a patch of layer {layer!r} has {self.signal.shape[1]} steps "
                f"({self.name}); this run has {steps}"
            )

    def values(self, place: Place) -> Tensor:
        """The part (batch, time, unit) that lies in one call.

        Raises:
            SourceError: its rows or steps are not those of the run.
        """
        batch = len(self.signal)
        if batch not in (1, place.batch):
            raise SourceError(
                f"the source of a patch of layer {place.layer!r} has {batch} rows ({self.name}); "
                f"this run has {place.batch}, and only one row serves for all"
            )
        if self.signal.shape[1] < place.start + place.steps:
            self.check_steps(place.start + place.steps, place.layer)
        return self.signal[:, place.start : place.start + place.steps]

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON."""
        dtype = str(self.signal.dtype).removeprefix("torch.")
        return {"name": self.name, "dtype": dtype, "values": self.signal.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Source:
        """The way back from `to_dict`.

        Raises:
            SourceError: these are no values (batch, time, unit) with a name.
        """
        name, signal = data["name"], floating(data["values"], data["dtype"])
        if not isinstance(name, str) or signal.dim() != 3 or not signal.numel():
            raise SourceError(
                "the source of a patch has a name and values (batch, time, unit); this one is "
                f"called {shown(name)} and has the shape {tuple(signal.shape)}"
            )
        return cls(name, signal)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Source):
            return NotImplemented
        one, two = self.signal, other.signal
        same = self.name == other.name and (one.shape, one.dtype) == (two.shape, two.dtype)
        # what was recorded may hold NaN, and is equal to itself
        return same and torch.allclose(one, two.to(one.device), rtol=0, atol=0, equal_nan=True)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


def floating(values: Any, dtype: Any) -> Tensor:
    """A tensor of the nested lists and the name of a dtype that JSON holds.

    >>> floating([0.5], "float16")
    tensor([0.5000], dtype=torch.float16)

    Raises:
        SourceError: the dtype is no floating one.
    """
    kind = getattr(torch, dtype) if isinstance(dtype, str) else None
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise SourceError(f"dtype {shown(dtype)} is no floating dtype of torch")
    return torch.tensor(values, dtype=kind)
