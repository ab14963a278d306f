"""The five edits: what a person can do to a signal inside the recurrence."""

from __future__ import annotations

from typing import Any

from grulens.probing.edits.edit import Edit


def ablate(
    layer: str, units: Any = None, *, to: Any = 0.0, at: Any = None, rows: Any = None
) -> Edit:
    """Switch units off: their state is set to a constant after every step.

    Args:
        layer: name of the layer.
        units: int, slice, sequence of int, bool mask (unit,), or None for all.
        to: a number, "mean" (the unit's mean over valid steps and rows of the layer's own
            unedited states on the input it receives), or a tensor (unit,).
        at: int, slice, sequence, bool mask (time,), or None for all times.
        rows: the same for rows of the batch.

    >>> ablate("rnn.l0", 3)
    ablate('rnn.l0', 3, to=0.0)
    """
    return Edit("ablate", layer, "h", units, to, at, rows)


def clamp(
    layer: str, signal: str, units: Any = None, *, value: Any, at: Any = None, rows: Any = None
) -> Edit:
    """Set a signal to a value.

    Args:
        layer: name of the layer.
        signal: "r", "z", "n" or "h".
        units: which units; None is all.
        value: a number, or a tensor that broadcasts over the layer's (batch, time, unit).
        at: which times; None is all.
        rows: which rows; None is all.

    >>> clamp("rnn.l0", "z", 3, value=1)
    clamp('rnn.l0', 'z', 3, value=1.0)
    """
    return Edit("clamp", layer, signal, units, value, at, rows)


def scale(
    layer: str, signal: str, units: Any = None, *, by: Any, at: Any = None, rows: Any = None
) -> Edit:
    """Multiply a signal; arguments as `clamp`.

    >>> scale("rnn.l0", "n", by=0.5)
    scale('rnn.l0', 'n', by=0.5)
    """
    return Edit("scale", layer, signal, units, by, at, rows)


def shift(
    layer: str, signal: str, units: Any = None, *, by: Any, at: Any = None, rows: Any = None
) -> Edit:
    """Add to a signal: to r, z and n before their activation, to h after the step.

    >>> shift("rnn.l0", "z", 3, by=2)
    shift('rnn.l0', 'z', 3, by=2.0)
    """
    return Edit("shift", layer, signal, units, by, at, rows)


def patch(
    layer: str, signal: str, units: Any = None, *, source: Any, at: Any = None, rows: Any = None
) -> Edit:
    """Put in the values that the signal had in another run.

    Args:
        layer: name of the layer.
        signal: "r", "z", "n" or "h".
        units: which units; None is all.
        source: a Recording or LayerRecording with as many units and steps; one row serves for all.
        at: which times; None is all.
        rows: which rows; None is all.

    Raises:
        SourceError: the source does not hold this layer, or does not fit.
    """
    return Edit("patch", layer, signal, units, source, at, rows)
