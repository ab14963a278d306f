"""What public functions take, by name, for readers and for type checkers.

At run time each of these is `Any`: what does not fit is refused in words of ours, which say what
was expected and what came, and not by a checker of annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, dtype

if TYPE_CHECKING:
    import os

    from grulens.models.call.place import EditLike
    from grulens.models.recording import LayerRecording, Recording

    Units = int | slice | Sequence[int] | Sequence[bool] | Tensor | None
    """Units of a layer: one, a slice, several, or a bool mask (unit,); None is all."""

    Times = int | slice | Sequence[int] | Sequence[bool] | Tensor | None
    """Steps, likewise, or a bool mask (time,); a negative one counts from the end."""

    Rows = int | slice | Sequence[int] | Sequence[bool] | Tensor | None
    """Rows of the batch, likewise, or a bool mask (batch,)."""

    Amount = float | Tensor
    """A number, or a tensor that broadcasts to what is changed."""

    AblateTo = Literal["mean"] | float | Tensor
    """What a unit is set to: a number, values, or its mean over the unedited run."""

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

    Encode = Callable[[str], Any] | None
    """From a text to a model's input; None is the model's own."""

    Decode = Callable[[Tensor], str | Sequence[str]] | None
    """From ids (time,) to a text or texts; None is the model's own."""

    Inputs = tuple[tuple[Any, ...], Mapping[str, Any]] | None
    """All arguments of a run, positional and by name."""

    LayerName = str | None
    """The name of a layer, as `grulens.layers` gives it; None is as the function says."""

    SignalName = str
    """The name of a signal of a cell: "z"."""

    LayerNames = Sequence[str] | None
    """Names of layers; None is all of them."""

    Edits = EditLike | Sequence[EditLike]
    """What is changed in a run: an edit, or several in the order in which they act."""

    PatchSource = Recording | LayerRecording
    """Another run, or one layer of it, whose values are put into this one."""

    Given = Any
    """What a model is given: one argument, a tuple of arguments, a dict of named ones, or both."""

    Whole = int
    """A whole number: a row, a count of steps or units, bytes."""

    Number = float
    """A number."""

    Numbers = Sequence[float]
    """Several numbers."""

    BlockSize = int | None
    """How many units are taken at a time; None is all at once."""

    MergeBy = Literal["interaction", "score"]
    """What decides which neighbours are joined next."""

    SweepMethod = Literal["exact", "gradient"]
    """One edited run for each unit, or a first-order estimate of it."""

    Direction = Tensor | None
    """A direction in the space of the units (unit,); None is no direction."""

    Phrases = Sequence[int | slice | Sequence[int] | Sequence[bool] | Tensor] | None
    """Phrases, each some steps of the input; None is each step by itself."""

    Pairs = Literal["adjacent", "all"] | Sequence[tuple[int, int]]
    """Which phrases are taken together: places in the sequence of phrases."""

    Path = str | os.PathLike[str]
    """Where a file lies."""
else:
    AblateTo = SignalName = Encode = Decode = Any
    Units = Times = Rows = Amount = Readout = TargetClass = Step = Any
    HeadLike = Precision = MethodName = Inputs = LayerName = LayerNames = Edits = Any
    PatchSource = Given = Whole = Number = Numbers = BlockSize = MergeBy = Any
    SweepMethod = Direction = Phrases = Pairs = Path = Any
