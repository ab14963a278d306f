"""What public functions take, by name, for readers and for type checkers.

At run time each of these is `Any`: what does not fit is refused in words of ours, which say what
was expected and what came, and not by a checker of annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torch import Tensor, dtype

if TYPE_CHECKING:
    import os

    import onnx
    from numpy.typing import ArrayLike
    from pandas import DataFrame
    from torch import nn
    from torch.nn.utils.rnn import PackedSequence

    from grulens.cells.cell import RecurrentCell
    from grulens.models.adapters.adapter import SequenceAdapter, StepAdapter
    from grulens.models.call.place import EditLike
    from grulens.models.recording import LayerRecording, Recording
    from grulens.probing.corpus.scan.scanned import Scan
    from grulens.probing.edits.sources import Source

    Units = int | slice | Sequence[int] | Sequence[bool] | Tensor | None
    """Units of a layer: one, a slice, several, or a bool mask (unit,); None is all."""

    UnitGroups = Units | Sequence[int | slice | Sequence[int] | None]
    """Units, or groups of them that are taken together."""

    Times = int | slice | Sequence[int] | Sequence[bool] | Tensor | None
    """Steps, likewise, or a bool mask (time,); a negative one counts from the end."""

    Rows = int | slice | Sequence[int] | Sequence[bool] | Tensor | None
    """Rows of the batch, likewise, or a bool mask (batch,)."""

    Positions = int | slice | tuple[int, ...] | tuple[bool, ...] | None
    """Units, steps or rows as an edit keeps them; None is all."""

    Amount = float | Tensor
    """A number, or a tensor that broadcasts to what is changed."""

    EditAmount: TypeAlias = "float | str | Tensor | Source"
    """What an edit keeps of the numbers it puts in: "mean" is a string, a patch has a `Source`."""

    MakeEdit: TypeAlias = "Callable[..., EditLike | Sequence[EditLike]]"
    """From a layer and a unit (and a step, as `at`) to the edit of a run, or several."""

    AblateTo = Literal["mean"] | float | Tensor
    """What a unit is set to: a number, values, or its mean over the unedited run."""

    Readout = Callable[[Any], Tensor]
    """From a model's whole output to the numbers that are measured."""

    TargetClass = int | tuple[int, int]
    """A class; or a pair, a class and the one it is compared with."""

    Step = int | Literal["final"]
    """Where an answer is read: a step, negative from each row's end; or each row's last state."""

    HeadLike = Callable[[Tensor], Tensor] | None
    """What reads states (..., unit): an nn.Linear, a `grulens.credit.Head`; None looks for it."""

    Precision = dtype | None
    """torch.float32 or torch.float64 to compute in; None is the recording's own."""

    MethodName = str | None
    """The name of a model's method that is the run; None is the model itself."""

    Encode = Callable[[str], Any] | None
    """From a text to a model's input; None is the model's own."""

    Decode = Callable[[Tensor], str | Sequence[str]] | None
    """From ids (time,) to a text or texts; None is the model's own."""

    RowPair = tuple[int, int]
    """Two rows, one of each run."""

    Align = Literal["steps", "tokens"]
    """Which steps of two rows stand beside each other."""

    ScaleName = Literal["logits", "probability", "value"] | None
    """What the numbers of an answer are; None tells probabilities, which sum to 1, from values."""

    TokenPair = tuple[Sequence[object], Sequence[object]] | None
    """What the steps of two runs are called, those of each by themselves."""

    Inputs = tuple[tuple[Any, ...], Mapping[str, Any]] | None
    """All arguments of a run, positional and by name."""

    TruthLike = Tensor | Sequence[int | float | str | None] | None
    """What each row's answer should be: a class by number or name, or a number (batch,)."""

    Space = Literal["mean", "max"] | Sequence[int] | None
    """How a state over space is folded: its mean, its largest, or one place (y, x); None is not."""

    LayerName = str | None
    """The name of a layer, as `grulens.layers` gives it; None is as the function says."""

    SignalName = str
    """The name of a signal of a cell: "z"."""

    LayerNames = Sequence[str] | None
    """Names of layers; None is all of them."""

    Edits: TypeAlias = "EditLike | Sequence[EditLike]"
    """What is changed in a run: an edit, or several in the order in which they act."""

    PatchSource: TypeAlias = "Recording | LayerRecording"
    """Another run, or one layer of it, whose values are put into this one."""

    Given = Any
    """What a model is given: one argument, a tuple of arguments, a dict of named ones, or both."""

    Integer = int
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

    State = Tensor | None
    """A state of a layer (unit,); None is as the function says."""

    Direction = Tensor | None
    """A direction in the space of the units (unit,); None is no direction."""

    Phrases = Sequence[int | slice | Sequence[int] | Sequence[bool] | Tensor] | None
    """Phrases, each some steps of the input; None is each step by itself."""

    Pairs = Literal["adjacent", "all"] | Sequence[tuple[int, int]]
    """Which phrases are taken together: places in the sequence of phrases."""

    Path = str | os.PathLike[str]
    """Where a file lies."""

    Frame: TypeAlias = "DataFrame"
    """A pandas.DataFrame, which only users of `to_frame` need pandas for."""

    ModuleClass = type[nn.Module]
    """A class of modules."""

    AdapterLike: TypeAlias = "StepAdapter | SequenceAdapter | None"
    """The adapter of a class of modules; None is no adapter."""

    CellOf = Callable[[Any], RecurrentCell]
    """From a module to the cell that it computes."""

    CellsOf = Callable[[Any], Sequence[RecurrentCell | tuple[RecurrentCell, RecurrentCell]]]
    """From a module to its cells: one a level, or a pair (forward, reverse) a level."""

    ReadArguments = Callable[..., tuple[Tensor | PackedSequence, Tensor | None]] | None
    """From a module and the arguments of its forward to its input and the state it begins with."""

    ReadStates = Callable[..., Tensor | PackedSequence] | None
    """From a module and what its forward returned to its states."""

    MakeResult = Callable[..., Any] | None
    """From a module and its states to what its forward returns."""

    Elementwise = Callable[[Tensor], Tensor]
    """A function from a tensor to one of the same shape and dtype: an activation."""

    KerasWeights = Sequence[ArrayLike]
    """The arrays that `layer.get_weights()` of Keras gives."""

    KerasActivation = str | Callable[[Tensor], Tensor] | None
    """Keras' name of an activation, or a function on tensors; None is the identity."""

    KerasVersion = Literal[2, 3] | None
    """The major version of Keras; None where the activations do not depend on it."""

    OnnxModel = str | os.PathLike[str] | onnx.ModelProto
    """An ONNX file, or what `onnx.load` gives."""

    AlphabetLike = str | Sequence[str] | Sequence[int] | Sequence[str | int]
    """Symbols: a text of different characters, or a sequence of texts or of whole numbers."""

    WordLike = str | Sequence[str] | Sequence[int] | Sequence[str | int]
    """A word over an alphabet: a text where every symbol is one character, or its symbols."""

    WordsLike = Sequence[str | Sequence[str] | Sequence[int]]
    """Words over an alphabet."""

    Transitions = Sequence[Sequence[int]]
    """The next state of an automaton by state and symbol (state, symbol)."""

    Accepting = Sequence[bool]
    """Which states of an automaton accept (state,)."""

    EncodeWord = Callable[[Any], Any] | None
    """From a word to a model's input, one row of a batch; None is as the function says."""

    Accepts = Callable[[Any], Tensor] | None
    """From a model's output to which words of a batch it accepts (batch,); None is the sign."""

    AutomatonMethod = Literal["lstar", "clusters"]
    """How an automaton is built: by questions, or from hidden states."""

    LabelNames = str | Sequence[str] | None
    """The name of a label of a scan, or several; None is all of them."""

    LabelsLike = Mapping[str, Callable[[Any], Any] | str | Sequence[Any]] | None
    """Labels of a corpus by name: functions, names of columns, or what holds in each part."""

    DirectionsLike = Mapping[str, Tensor | Any] | None
    """Directions of a state space by name, (unit,) each; or these by the name of a layer."""

    ScanLike: TypeAlias = "Scan"
    """A scan of a corpus."""

    ControlTask = Literal["type", "context"] | None
    """What control labels are thrown by: the token, or the last few; None has none."""

    NodeName = str | None
    """The name of a node of an ONNX graph; None is the only one of its kind."""

    NodeDirection = Literal["forward", "reverse"]
    """A direction of an ONNX node."""
else:
    AblateTo = SignalName = Encode = Decode = MakeEdit = State = UnitGroups = Any
    Positions = EditAmount = Any
    Units = Times = Rows = Amount = Readout = TargetClass = Step = Any
    HeadLike = Precision = MethodName = Inputs = LayerName = LayerNames = Edits = Any
    PatchSource = Given = Integer = Number = Numbers = BlockSize = MergeBy = Any
    SweepMethod = Direction = Phrases = Pairs = Path = Frame = Any
    ModuleClass = AdapterLike = CellOf = CellsOf = ReadArguments = ReadStates = MakeResult = Any
    Elementwise = KerasWeights = KerasActivation = KerasVersion = Any
    OnnxModel = NodeName = NodeDirection = Any
    AlphabetLike = WordLike = WordsLike = Transitions = Accepting = EncodeWord = Accepts = Any
    AutomatonMethod = LabelNames = ControlTask = ScanLike = LabelsLike = DirectionsLike = Any
    Space = TruthLike = RowPair = Align = ScaleName = TokenPair = Any
