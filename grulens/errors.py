"""Every error grulens raises, in one tree, so that one `except` can catch as much as a user means.

GrulensError
├── ModelError                 something about the model
│   ├── NoLayerError           it holds no recurrent layer
│   ├── UnsupportedLayerError  it holds one that cannot be opened (scripted, quantized, unknown)
│   ├── AdapterError           what an adapter says of a module is not what the module does
│   └── DropoutMaskError       the kernel hides the dropout masks it drew (cuDNN)
├── CellError (ValueError)     weights that make no cell, or cells that do not fit together
│   └── ConventionError        a convention that no Cell holds exactly, or that was not said
├── LayerError (KeyError)      a layer name that is not there
├── RecordingError             a run that cannot be recorded
│   ├── EmptySequenceError     a sequence of no steps
│   └── WeightsChangedError    the weights moved during a run, or under a recording with a graph
├── EditError (ValueError)     an edit that makes no sense by itself
│   ├── SignalError            a signal that the layer's cell has not got
│   ├── PositionError          units, times or rows out of range
│   └── SourceError            a patch from another length, layer or shape
├── ReadoutError               a readout whose result cannot be shown or compared
│   └── NoAnswerError          an output that has no answer for each row of a layer, as it is
├── AutomatonError (ValueError) symbols, words or tables that make no automaton
│   └── FidelityError          what was built is too unlike the network to be called its automaton
├── LanguageError (ValueError) a language that the screens do not speak
├── DemoError                  the bundled models and their data
├── ScanError (ValueError)     a corpus that cannot be scanned so, or an impossible question
├── FileError (ValueError)     a file that holds no result, or a result that no file can hold
└── MissingPackageError (ImportError)  an optional package that is not installed

NonFiniteWarning (UserWarning) NaN or infinity entered a layer; it is recorded as it is
StoppedWarning (UserWarning)   Ctrl-C ended long work; what was done by then is returned
OtherThreadWarning (UserWarning) a call from another thread or task is not edited or not recorded
NothingRanWarning (UserWarning) a block of editing or recording ended, and its layers did not run
NotComparedWarning (UserWarning) an edit led a class of the user's own to where none can look
GraphCutWarning (UserWarning)  a model detached a state whose derivatives were asked for
WeightsMovedWarning (UserWarning) parameters of the model changed while a run was recorded
LeftBehindWarning (UserWarning) a run of which nothing should remain left something behind
"""

from __future__ import annotations

from collections.abc import Sequence


class GrulensError(Exception):
    """The root of everything grulens raises on purpose."""


class ModelError(GrulensError):
    """Something about the user's model."""


class NoLayerError(ModelError):
    """The model holds no recurrent layer."""


class UnsupportedLayerError(ModelError):
    """The model holds a layer that cannot be opened; the message says what to use instead."""


class AdapterError(ModelError):
    """What an adapter says of a module is not what the module does.

    Attributes:
        why: what the module does instead, in a few words; may be empty.
    """

    def __init__(self, message: str, why: str = "") -> None:
        super().__init__(message)
        self.why = why


class DropoutMaskError(ModelError):
    """The kernel drew dropout masks that nobody can see or draw again (cuDNN, training mode)."""


class CellError(GrulensError, ValueError):
    """Weights that make no cell, or cells that do not fit together."""


class ConventionError(CellError):
    """A convention that no Cell holds exactly, or one that was not said and is never guessed."""


class LayerError(GrulensError, KeyError):
    """A layer name that is not there."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument: the message would stand in quotes
        return str(self.args[0]) if self.args else ""


class RecordingError(GrulensError):
    """A run that cannot be recorded."""


class EmptySequenceError(RecordingError):
    """A layer was called with a sequence of no steps."""


class WeightsChangedError(RecordingError):
    """Weights were changed while a layer ran, or under a recording that is part of a graph."""


class EditError(GrulensError, ValueError):
    """An edit that makes no sense by itself."""


class SignalError(EditError):
    """A signal that the layer's cell has not got."""


class PositionError(EditError, IndexError):
    """Units, times or rows that are out of range."""


class SourceError(EditError):
    """A patch whose source does not fit: another length, layer or shape."""


class ReadoutError(GrulensError):
    """A readout whose result cannot be shown or compared."""


class NoAnswerError(ReadoutError):
    """An output that has no answer for each row of a layer; the message gives readouts that have.

    Attributes:
        lines: those readouts, such as "readout=lambda output: output.flatten(2)"; of several, sizes
            do not tell which one is right.
    """

    def __init__(self, message: str, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.lines = tuple(lines)


class AutomatonError(GrulensError, ValueError):
    """Symbols, words or tables that make no automaton, or a model that cannot be asked for them."""


class FidelityError(AutomatonError):
    """What was built is too unlike the network, or not compared with it, to be its automaton."""


class LanguageError(GrulensError, ValueError):
    """A language that the screens do not speak."""


class DemoError(GrulensError):
    """The bundled models and their data."""


class ScanError(GrulensError, ValueError):
    """A corpus that cannot be scanned so, or a question that its scan cannot answer."""


class FileError(GrulensError, ValueError):
    """A file that holds no such result, or a result that no file can hold."""


class MissingPackageError(GrulensError, ImportError):
    """An optional package that is not installed; the message says how to get it."""


class NonFiniteWarning(UserWarning):
    """NaN or infinity entered a layer; it is recorded as it is."""


class StoppedWarning(UserWarning):
    """Ctrl-C ended long work before its end; what was done by then is returned."""


class OtherThreadWarning(UserWarning):
    """A call from another thread or task than the block's own: it is not edited or not recorded."""


class NothingRanWarning(UserWarning):
    """A block of editing or recording has ended, and layers that it named did not run in it."""


class NotComparedWarning(UserWarning):
    """An edit led a class of the user's own to states from which it cannot be called."""


class GraphCutWarning(UserWarning):
    """A model handed a state on without its graph: derivatives by earlier signals end there."""


class WeightsMovedWarning(UserWarning):
    """Parameters of the model changed while a run was recorded: it is not of one model."""


class LeftBehindWarning(UserWarning):
    """A run of which nothing should remain left something behind, which the next one may feel."""


def shown(value: object, most: int = 300) -> str:
    """`repr(value)` for a message: bounded, and of anything, even of what cannot show itself.

    >>> shown("l0"), shown([1] * 9, most=7)
    ("'l0'", '[1, 1, …')
    """
    try:
        text = repr(value)
    except Exception:  # whatever goes wrong in there, the message to be made matters more
        text = f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= most else f"{text[:most]}…"
