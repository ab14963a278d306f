"""A tensor that a model is given, as what a score is credited to.

What a cell that was observed reads is known to its module alone. What the model itself was given
is known to everybody, and the score is a function of it whatever lies between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from grulens.errors import LayerError, RecordingError
from grulens.models.call.invocation import Given, fresh, positional
from grulens.models.recording import LayerRecording

Where = int | str
"""Which argument: its place among the positional ones, or its name among the others."""


@dataclass(frozen=True, eq=False)
class ModelInput:
    """One floating argument of a run, its axes put in the order (batch, time, input).

    Attributes:
        name: what the model calls it.
        where: where it stands among the arguments.
        value: as it was given.
        axes: which of its axes are those of the rows and of the steps; None where it has none: of
            one row alone, or of an input that is not given step by step.
    """

    name: str
    where: Where
    value: Tensor
    axes: tuple[int | None, int | None]

    @staticmethod
    def of(
        model: nn.Module, given: Given, call: Any, layer: LayerRecording, name: str | None = None
    ) -> ModelInput:
        """The argument of a name, or the only floating one.

        Args:
            model: the model.
            given: its arguments.
            call: its method that is the run, or None.
            layer: a layer of a recorded run, whose rows and steps it has.
            name: what the model calls it.

        Raises:
            LayerError: there are several, or none of that name.
            RecordingError: there is none, or its rows are not those of the layer.
        """
        found = dict(floating(model, given, call))
        if not found:
            raise RecordingError(
                f"layer {layer.name!r} was observed, and what its input is, only its module knows; "
                "and the model itself is given no floating tensor that could be credited: credit a "
                "model that begins with vectors, such as those that its embedding makes"
            )
        if name is None and len(found) > 1:
            raise LayerError(
                f"layer {layer.name!r} was observed, and what its input is, only its module knows; "
                f"of what the model itself is given say which is credited, input_of= one of "
                f"{', '.join(map(repr, found))}"
            )
        name = next(iter(found)) if name is None else name
        where = found[name]
        value = given[0][where] if isinstance(where, int) else given[1][where]
        rows, steps, _ = layer.shape
        axes = _axes(tuple(value.shape), rows, steps)
        if axes is None:
            raise RecordingError(
                f"{name!r} is {tuple(value.shape)}, and layer {layer.name!r} has {rows} rows: "
                "credit needs an input whose first axis, or second behind the steps, are the rows"
            )
        return ModelInput(name, where, value.detach().clone(), axes)

    @property
    def x(self) -> Float[Tensor, "batch time input"]:
        """Its values, one step if it has no axis of steps."""
        return self._laid(self.value)

    def _laid(self, value: Tensor) -> Tensor:
        row, step = self.axes
        if row == 1:
            value = value.transpose(0, 1)
        if row is None:
            value = value[None]
        if step is None:
            value = value[:, None]
        return value.reshape(*value.shape[:2], -1)

    def given(self, given: Given, x: Tensor) -> Given:
        """The arguments with other values in its place."""
        row, _ = self.axes
        shape = self.value.transpose(0, 1).shape if row == 1 else self.value.shape
        value = x.reshape(shape)
        value = value.transpose(0, 1) if row == 1 else value
        args, kwargs = fresh(given)
        if isinstance(self.where, int):
            return (*args[: self.where], value, *args[self.where + 1 :]), kwargs
        return args, {**kwargs, self.where: value}

    def check_rows(self, slopes: Tensor, rows: int) -> None:
        """Raise where what a row's score depends on is not that row alone.

        Args:
            slopes: the gradient of the first row's score by `x`.
            rows: how many there are.

        Raises:
            RecordingError: another row acts on it.
        """
        if rows > 1 and bool(slopes[1:].any()):
            raise RecordingError(
                f"the first row's score depends on other rows of {self.name!r} too: rows act on "
                "each other, or its axes are not (batch, time, ...) or (time, batch, ...); give "
                "the model one row"
            )


def floating(model: nn.Module, given: Given, call: Any) -> Iterator[tuple[str, Where]]:
    """The floating tensors among the arguments: what the model calls each, and where it stands."""
    args, kwargs = given
    names = positional(model, call)
    for place, value in enumerate(args):
        if isinstance(value, Tensor) and value.is_floating_point():
            yield names[place] if place < len(names) else f"argument {place}", place
    for name, value in kwargs.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            yield name, name


def _axes(shape: tuple[int, ...], rows: int, steps: int) -> tuple[int | None, int | None] | None:
    """Which axes of a tensor are the rows and the steps; None if no axis is the rows.

    >>> _axes((2, 6, 3), 2, 6), _axes((6, 2, 3), 2, 6), _axes((6, 3), 1, 6), _axes((2, 3), 2, 6)
    ((0, 1), (1, 0), (None, 0), (0, None))
    """
    if shape[:2] == (rows, steps):
        return 0, 1
    if shape[:2] == (steps, rows):
        return 1, 0
    if rows == 1 and shape[:1] == (steps,):
        return None, 0
    return (0, None) if shape[:1] == (rows,) else None
