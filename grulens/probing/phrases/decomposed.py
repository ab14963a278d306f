"""What a contextual decomposition found: the phrases' parts of the states, and of every class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grulens.cells.precision import exact
from grulens.errors import ReadoutError
from grulens.probing.credit.reader import Reader
from grulens.probing.edits import positions
from grulens.probing.edits.positions import Index
from grulens.tables import html_table


@dataclass(frozen=True, eq=False, repr=False)
class Decomposition:
    """The part of every state of a layer that each phrase of the input made: h = beta + gamma.

    Attributes:
        layer: the layer.
        phrases: the phrases, as they were asked for.
        inside: which steps each of them holds, bool (phrase, batch, time).
        mask: (batch, time), False on padding.
        states: the whole states (batch, time, unit) of each direction of the layer's level, by
            layer; zero on padding.
        parts: the phrases' parts of them (phrase, batch, time, unit), likewise.
        reader: the linear readout, or None where there is none.
        why: why there is none.
    """

    layer: str
    phrases: tuple[Index, ...]
    inside: Bool[Tensor, "phrase batch time"]
    mask: Bool[Tensor, "batch time"]
    states: Mapping[str, Tensor]
    parts: Mapping[str, Tensor]
    reader: Reader | None
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
        return self._reader.bias.to(self.h)

    @property
    def _reader(self) -> Reader:
        if self.reader is None:
            raise ReadoutError(self.why)
        return self.reader

    def _read(self, values: Mapping[str, Tensor]) -> Tensor:
        weights = self._reader.weights
        with exact(self.mask.device):
            parts = [values[name] @ weight.to(values[name]).mT for name, weight in weights.items()]
        return torch.stack(parts).sum(0)

    def __repr__(self) -> str:
        count, batch, time, unit = self.beta.shape
        what = "phrase" if count == 1 else "phrases"
        return (
            f"Decomposition({self.layer!r}, {count} {what}, batch {batch}, time {time}, "
            f"unit {unit})"
        )

    def _repr_html_(self) -> str:
        sizes = self.beta.double().flatten(1).norm(dim=1).tolist()
        rows = [
            (positions.words(phrase, "step"), f"{size:.3g}")
            for phrase, size in zip(self.phrases[:12], sizes, strict=False)
        ]
        return html_table(("phrase", "its part of all states, norm"), rows, repr(self))
