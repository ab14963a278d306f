"""The selection in a run: a layer, a row, a step, units and steps.

Every choice is checked against the run, wherever it comes from: a screen, a cell or a click.
"""

from __future__ import annotations

from dataclasses import replace
from operator import index
from typing import Any, TypeGuard

import numpy as np
import torch
import traitlets as tl
from torch import nn

from grulens.cells.observed import ObservedCell
from grulens.cells.signal import Signalling
from grulens.cells.space import Fold
from grulens.errors import PositionError, shown
from grulens.models.layers import check_layer
from grulens.models.recording import Recording


class Positions(tl.Tuple):
    """Units or steps: any collection of them is taken, sorted, each once."""

    def validate(self, obj: Any, value: Any) -> Any:
        """The collection as a sorted tuple."""
        try:
            numbers = {_whole(i) for i in value}
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise tl.TraitError(f"{self.name} takes whole numbers, got {shown(value)}") from error
        return super().validate(obj, tuple(sorted(numbers)))


def _whole(value: Any) -> int:
    """A whole number; True is none, for a mask says of each unit whether it is meant."""
    if isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) is torch.bool:
        raise TypeError("a bool is no position")
    return index(value)


def has_space(cell: Signalling) -> TypeGuard[ObservedCell]:
    """Whether the state of a cell has several axes, channels over space."""
    return isinstance(cell, ObservedCell) and cell.has_space


def shape_of(cell: Signalling) -> tuple[int, ...]:
    """The shape of one row's state where it has several axes; else ()."""
    return cell.shape if has_space(cell) else ()


def fitting(cell: Signalling, space: Any) -> Any:
    """The same fold, if the state of a cell can be folded so; else None."""
    if space is None or not has_space(cell):
        return None
    try:
        return cell.fold(space).how
    except PositionError:
        return None


class Selection(tl.HasTraits):
    """A choice in a run; `Session` says what each trait is."""

    layer = tl.Unicode()
    units = Positions()
    times = Positions()
    row = tl.Int(0)
    step = tl.Int(0)
    space: Any = tl.Any(None)
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
        self.check_positions(name, value if isinstance(value, tuple) else (value,))
        return value

    def check_positions(self, name: str, positions: tuple[int, ...]) -> None:
        """Check that the layer shown has these units, times or rows.

        Raises:
            PositionError: it has not.
        """
        if not self.layer:
            return
        batch, steps, units = self.baseline[self.layer].shape
        word = name.removesuffix("s")
        size = {"unit": units, "time": steps, "row": batch}[word]
        for position in positions:
            if not 0 <= position < size:
                raise PositionError(
                    f"{word} {shown(position)} is not in this run of layer {self.layer!r}, "
                    f"which has {size} {word}s (0 to {size - 1})"
                )

    @tl.validate("step")
    def _valid_step(self, proposal: Any) -> Any:
        if proposal["value"] < 0:  # a step past the end is the last one: outputs differ in length
            raise PositionError(f"step must be 0 or more, got {shown(proposal['value'])}")
        return proposal["value"]

    @tl.validate("space")
    def _valid_space(self, proposal: Any) -> Any:
        value = proposal["value"]
        if value is None or not self.layer:
            return value
        cell = self.baseline[self.layer].cell
        if not has_space(cell):
            raise PositionError(
                f"the state of layer {self.layer!r} has one axis, of {cell.hidden_size} units: "
                "there is no space to fold"
            )
        return cell.fold(value).how

    @tl.observe("layer")
    def _on_layer(self, change: Any) -> None:
        if change["old"]:
            self.units, self.times = (), ()
            self.space = fitting(self.baseline[self.layer].cell, self.space)

    @tl.observe("space")
    def _on_space(self, change: Any) -> None:
        cell, fold = self.baseline[self.layer].cell, self.fold
        if fold is not None and self.units:
            before = fitting(cell, change["old"])
            self.units = fold.moved(self.units, before and replace(fold, how=before))

    @property
    def chosen_units(self) -> list[int] | slice | None:
        """The selected units as an edit names them: None is all, a channel's places a slice."""
        units, cell = list(self.units), self.baseline[self.layer].cell
        if units and has_space(cell):
            fold = cell.fold("mean")
            channels = fold.channels(units)
            step = units[1] - units[0] if len(units) > 1 else 1
            is_even = units == list(range(units[0], units[-1] + 1, step))
            if is_even and {*fold.units(channels)} == {*units}:
                return slice(units[0], units[-1] + 1, None if step == 1 else step)
        return units or None

    @property
    def fold(self) -> Fold | None:
        """How the screens fold the state over space of the layer shown, if they do."""
        cell = self.baseline[self.layer].cell
        if self.space is None or not has_space(cell):
            return None
        return cell.fold(self.space)
