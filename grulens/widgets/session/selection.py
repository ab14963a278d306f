"""The selection in a run: a layer, a row, a step, units and steps.

Every choice is checked against the run, wherever it comes from: a screen, a cell or a click.
"""

from __future__ import annotations

from typing import Any

import traitlets as tl
from torch import nn

from grulens.errors import PositionError, shown
from grulens.models.layers import check_layer
from grulens.models.recording import Recording


class Positions(tl.Tuple):
    """Units or steps: any collection of them is taken, sorted, each once."""

    def validate(self, obj: Any, value: Any) -> Any:
        """The collection as a sorted tuple."""
        try:
            numbers = {int(i) for i in value}
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise tl.TraitError(f"{self.name} takes whole numbers, got {shown(value)}") from error
        return super().validate(obj, tuple(sorted(numbers)))


class Selection(tl.HasTraits):
    """A choice in a run; `Session` says what each trait is."""

    layer = tl.Unicode()
    units = Positions()
    times = Positions()
    row = tl.Int(0)
    step = tl.Int(0)
    baseline = tl.Instance(Recording)
    model: nn.Module

    @tl.validate("layer")
    def _valid_layer(self, proposal: Any) -> str:
        name: str = proposal["value"]
        if self.layer:
            check_layer(
                name, list(self.baseline), "did not run on this input; what ran is", self.model
            )
        return name

    @tl.validate("units", "times", "row")
    def _valid_positions(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        if self.layer:
            batch, steps, units = self.baseline[self.layer].shape
            size = {"units": units, "times": steps, "row": batch}[name]
            for position in value if isinstance(value, tuple) else (value,):
                if not 0 <= position < size:
                    word = name.removesuffix("s")
                    raise PositionError(
                        f"{word} {shown(position)} is not in this run of layer {self.layer!r}, "
                        f"which has {size} {word}s (0 to {size - 1})"
                    )
        return value

    @tl.validate("step")
    def _valid_step(self, proposal: Any) -> Any:
        if proposal["value"] < 0:  # a step past the end is the last one: outputs differ in length
            raise PositionError(f"step must be 0 or more, got {shown(proposal['value'])}")
        return proposal["value"]

    @tl.observe("layer")
    def _on_layer(self, change: Any) -> None:
        if change["old"]:
            self.units, self.times = (), ()
