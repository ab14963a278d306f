"""What public functions take, by name, for readers and for type checkers.

At run time each of these is `Any`: what does not fit is refused in words of ours, which say what
was expected and what came, and not by a checker of annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, dtype

if TYPE_CHECKING:
    Units = int | slice | Sequence[int] | Sequence[bool] | Tensor | None
    """Units of a layer: one, a slice, several, or a bool mask (unit,); None is all."""

    Times = int | slice | Sequence[int] | Sequence[bool] | Tensor | None
    """Steps, likewise, or a bool mask (time,); a negative one counts from the end."""

    Rows = int | slice | Sequence[int] | Sequence[bool] | Tensor | None
    """Rows of the batch, likewise, or a bool mask (batch,)."""

    Amount = float | Tensor
    """A number, or a tensor that broadcasts to what is changed."""

    Readout = Callable[[Any], Tensor]
    """From a model's whole output to the numbers that are asked about."""

    TargetClass = int | tuple[int, int]
    """A class; or a pair, a class and the one it is compared with."""

    Step = int | Literal["final"]
    """Where an answer is read: a step, negative from each row's end; or each row's last state."""

    HeadLike = Callable[[Tensor], Tensor] | None
    """What reads states (..., unit): an nn.Linear, a `grulens.credit.Head`; None is to be found."""

    Precision = dtype | None
    """torch.float32 or torch.float64 to compute in; None is the recording's own."""

    MethodName = str | None
    """The name of a model's method that is the run; None is the model itself."""

    Inputs = tuple[tuple[Any, ...], Mapping[str, Any]] | None
    """All arguments of a run, positional and by name."""

    LayerName = str | None
    """The name of a layer, as `grulens.layers` gives it; None is as the function says."""
else:
    Units = Times = Rows = Amount = Readout = TargetClass = Step = HeadLike = Any
    Precision = MethodName = Inputs = LayerName = Any
