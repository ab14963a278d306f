"""An edit as a value, and the five functions that make one.

An edit says what is changed and where, for any input. It becomes tensors only in a run (`change`),
so one edit serves inputs of any length, prints as the call that makes it, and can be JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from torch import Tensor

from grulens.arguments import (
    AblateTo,
    Amount,
    EditAmount,
    PatchSource,
    Positions,
    Rows,
    Times,
    Units,
)
from grulens.cells.changes import Change
from grulens.cells.signal import NAMED, Signal
from grulens.errors import EditError, SignalError, shown
from grulens.models.call.place import Place
from grulens.probing.edits import amounts, positions
from grulens.probing.edits.positions import Index
from grulens.probing.edits.sources import Source
from grulens.words import Say, english, message

KEYWORDS = {"ablate": "to", "clamp": "value", "scale": "by", "shift": "by", "patch": "source"}
WHERE = ("units", "at", "rows")
LINE = re.compile(r"line \d+(\.\d+)?")
"""What an observed cell's code makes at a line, "line 44.2" being the second of that line."""


@dataclass(frozen=True, eq=False, repr=False)
class Edit:
    """A change to one signal of one layer; made by `ablate`, `clamp`, `scale`, `shift`, `patch`.

    Attributes:
        kind: the function that makes it.
        layer: name of the layer.
        signal: a signal of the layer's cell: "r", "z", "n" or "h" of a GRU.
        units: which units: int, slice, tuple, or None for all.
        amount: a number, a tensor that broadcasts over (batch, time, unit), "mean", or for a
            patch its `Source`.
        at: which steps, counted as in the input; None is all.
        rows: which rows of the batch; None is all.

    >>> from grulens import clamp
    >>> clamp("l0", "z", [3, 4], value=1.0, at=slice(2, 5))
    clamp('l0', 'z', [3, 4], value=1.0, at=slice(2, 5, None))
    """

    kind: str
    layer: str
    signal: str
    units: Positions
    amount: EditAmount
    at: Positions = None
    rows: Positions = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in KEYWORDS:
            raise EditError(f"kind {shown(self.kind)} is none of {', '.join(KEYWORDS)}")
        if not isinstance(self.layer, str):
            raise EditError(f"layer must be the name of a layer, got {shown(self.layer)}")
        if not isinstance(self.signal, str) or not _may_name(self.signal):
            raise SignalError(
                f"signal {shown(self.signal)} cannot be edited; it must be one of "
                f"{', '.join(NAMED)}, or a name that an observed cell has"
            )
        if self.kind == "ablate" and self.signal != "h":
            raise SignalError(f"ablate sets the state h, got signal {self.signal!r}: use clamp")
        for name in WHERE:
            object.__setattr__(self, name, positions.normal(getattr(self, name), name))
        amount: amounts.Amount
        if self.kind == "patch":
            amount = Source.of(self.amount, self.layer, self.signal)
        else:
            amount = amounts.normal(self.amount, self._keyword, mean=self.kind == "ablate")
        object.__setattr__(self, "amount", amount)

    @property
    def relative(self) -> bool:
        """Whether it refers to the unedited run: its mean, or positions from its end."""
        return isinstance(self.amount, str) or positions.is_relative(self.at)

    def check_units(self, units: int) -> None:
        """Raise PositionError, EditError or SourceError unless it fits a layer of `units` units."""
        positions.check(self.units, units, "unit", f"layer {self.layer!r}")
        amounts.check_units(self.amount, units, self._keyword, self.layer)

    def check_steps(self, steps: int) -> None:
        """Raise PositionError or SourceError unless it fits a run of `steps` steps."""
        positions.check(self.at, steps, "time", f"this run of layer {self.layer!r}")
        amounts.check_steps(self.amount, steps, self._keyword, self.layer)

    def change(self, place: Place) -> Change:
        """The change it makes in one call of its layer."""
        where = self._units(place)[None, None]
        if self.at is not None:
            where = self._times(place)[..., None] & where
        if self.rows is not None:
            where = self._rows(place)[:, None, None] & where
        where = where.to(place.like.device)
        amount = amounts.values(self.amount, place, self._keyword)
        if self.kind == "scale":
            return Change(self.signal, where, amount, amount.new_zeros(1, 1, 1))
        if self.kind == "shift":
            # asked of this cell: another kind may have an activation where this one has none
            before = place.cell.signal(self.signal).activated
            one = amount.new_ones(1, 1, 1)
            return Change(self.signal, where, one, amount, before_activation=before)
        return Change(self.signal, where, amount.new_zeros(1, 1, 1), amount)

    def _units(self, place: Place) -> Tensor:
        if self.units is None:
            return torch.ones(1, dtype=torch.bool)
        return positions.mask(self.units, place.units)

    def _rows(self, place: Place) -> Tensor:
        positions.check(self.rows, place.batch, "row", f"this batch of layer {self.layer!r}")
        return positions.mask(self.rows, place.batch)

    def _times(self, place: Place) -> Tensor:
        """(row or 1, time), bool: the part of its times that lies in this call."""
        end = place.start + place.steps
        part = slice(place.start, end)
        if not positions.is_relative(self.at):
            return positions.mask(self.at, end)[None, part]
        # positions from the end are those of the unedited run; this one may be longer
        size = max(place.total, end)
        ends = [place.total] if place.lengths is None else place.lengths.tolist()
        return torch.stack([positions.mask(self.at, size, length)[part] for length in ends])

    @property
    def _keyword(self) -> str:
        return KEYWORDS[self.kind]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Edit):
            return NotImplemented
        names = ("kind", "layer", "signal", *WHERE)
        return all(
            type(getattr(self, name)) is type(getattr(other, name))
            and getattr(self, name) == getattr(other, name)
            for name in names
        ) and amounts.same(self.amount, other.amount)

    def __hash__(self) -> int:
        return hash((self.kind, self.layer, self.signal, repr(self.units), repr(self.at)))

    def __repr__(self) -> str:
        parts = [repr(self.layer)]
        parts += [repr(self.signal)] if self.kind != "ablate" else []
        parts += [_code(self.units)] if self.units is not None else []
        parts += [f"{self._keyword}={amounts.code(self.amount)}"]
        parts += [f"{n}={_code(v)}" for n in ("at", "rows") if (v := getattr(self, n)) is not None]
        return f"{self.kind}({', '.join(parts)})"

    def code(self, amount: str | None = None) -> str:
        """The call that makes it, as a person writes it: steps in a row are a slice.

        Args:
            amount: the expression for what it puts in; None writes that out.

        >>> from grulens import ablate
        >>> ablate("l0", 3, at=[2, 3, 4]).code()
        "ablate('l0', 3, to=0.0, at=slice(2, 5))"
        """
        parts = [repr(self.layer)]
        parts += [repr(self.signal)] if self.kind != "ablate" else []
        parts += [_code(self.units)] if self.units is not None else []
        parts += [f"{self._keyword}={amounts.code(self.amount) if amount is None else amount}"]
        where = {"at": positions.in_a_row(self.at), "rows": self.rows}
        parts += [f"{name}={_written(index)}" for name, index in where.items() if index is not None]
        return f"{self.kind}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        return f"<code>{escape(repr(self))}</code><br>{escape(self.words())}"

    def words(self, signal: Signal | None = None, say: Say = english) -> str:
        """What it does, as a person says it.

        Args:
            signal: the one of its layer's cell. None is an edit that is in no run yet: where two
                kinds of cells mean different things by a name, only the name is said.
            say: says it in a language.

        >>> from grulens import ablate
        >>> ablate("l0", [3], at=slice(0, 4)).words()
        'state of unit 3 set to 0, steps 0 to 3'
        """
        does = {
            "scale": message("{signal} of {units} times {amount}"),
            "shift": message("{signal} of {units} plus {amount}"),
        }.get(self.kind, message("{signal} of {units} set to {amount}"))
        known = NAMED.get(self.signal, ()) if signal is None else (signal,)
        activated = self.kind == "shift" and bool(known) and all(one.activated for one in known)
        words = {one.words for one in known}
        name = say(words.pop()) if len(words) == 1 else say("signal {name}", name=self.signal)
        units, amount = positions.words(self.units, "unit", say), amounts.words(self.amount, say)
        text = say(does, signal=name, units=units, amount=amount)
        text += say(" (before the activation)") if activated else ""
        text += "" if self.at is None else say(", ") + positions.words(self.at, "step", say)
        return text + (
            "" if self.rows is None else say(", ") + positions.words(self.rows, "row", say)
        )

    def to_dict(self) -> dict[str, Any]:
        """The edit as JSON-ready values; `from_dict` is the way back.

        >>> from grulens import ablate
        >>> Edit.from_dict(ablate("l0", 3, to="mean").to_dict())
        ablate('l0', 3, to='mean')
        """
        where = {name: positions.to_json(getattr(self, name)) for name in WHERE}
        what = {"kind": self.kind, "layer": self.layer, "signal": self.signal}
        return what | {"amount": amounts.to_json(self.amount)} | where

    @staticmethod
    def from_dict(data: Any) -> Edit:
        """The edit that `to_dict` described.

        Args:
            data: the dict that `to_dict` gave, or what JSON made of it.

        Raises:
            EditError: it is no such description.
        """
        if not isinstance(data, Mapping):
            raise EditError(f"an edit is described by a dict, got {shown(data)}")
        try:
            units, at, rows = (positions.from_json(data[name], name) for name in WHERE)
            amount = amounts.from_json(data["amount"])
            return Edit(data["kind"], data["layer"], data["signal"], units, amount, at, rows)
        except EditError:
            raise
        except Exception as error:  # whatever it holds, it is no edit
            raise EditError(f"this describes no edit ({shown(error)}): {shown(data)}") from error


def ablate(
    layer: str, units: Units = None, *, to: AblateTo = 0.0, at: Times = None, rows: Rows = None
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
    return _edit("ablate", layer, "h", units, to, at, rows)


def clamp(
    layer: str,
    signal: str,
    units: Units = None,
    *,
    value: Amount,
    at: Times = None,
    rows: Rows = None,
) -> Edit:
    """Set a signal to a value.

    Args:
        layer: name of the layer.
        signal: a signal of the layer's cell: "r", "z", "n", "h" of a GRU; "i", "f", "g", "o", "c",
            "h" of an LSTM; "a" (its pre-activation), "h" of an RNN.
        units: which units; None is all.
        value: a number, or a tensor that broadcasts over the layer's (batch, time, unit).
        at: which times; None is all.
        rows: which rows; None is all.

    >>> clamp("rnn.l0", "z", 3, value=1)
    clamp('rnn.l0', 'z', 3, value=1.0)
    """
    return _edit("clamp", layer, signal, units, value, at, rows)


def scale(
    layer: str, signal: str, units: Units = None, *, by: Amount, at: Times = None, rows: Rows = None
) -> Edit:
    """Multiply a signal.

    Args:
        layer: name of the layer.
        signal: a signal of the layer's cell, as for `clamp`.
        units: which units; None is all.
        by: the factor: a number, or a tensor that broadcasts over (batch, time, unit).
        at: which times; None is all.
        rows: which rows; None is all.

    >>> scale("rnn.l0", "n", by=0.5)
    scale('rnn.l0', 'n', by=0.5)
    """
    return _edit("scale", layer, signal, units, by, at, rows)


def shift(
    layer: str, signal: str, units: Units = None, *, by: Amount, at: Times = None, rows: Rows = None
) -> Edit:
    """Add to a signal: to gates and candidates before their activation, to a state after the step.

    Of an observed cell, what comes out of no activation is added to as it is. Where a signal comes
    out of one that cannot be reached (gates that are cut out of one call) or out of several, a
    shift is refused.

    Args:
        layer: name of the layer.
        signal: a signal of the layer's cell, as for `clamp`.
        units: which units; None is all.
        by: the summand: a number, or a tensor that broadcasts over (batch, time, unit).
        at: which times; None is all.
        rows: which rows; None is all.

    >>> shift("rnn.l0", "z", 3, by=2)
    shift('rnn.l0', 'z', 3, by=2.0)
    """
    return _edit("shift", layer, signal, units, by, at, rows)


def patch(
    layer: str,
    signal: str,
    units: Units = None,
    *,
    source: PatchSource,
    at: Times = None,
    rows: Rows = None,
) -> Edit:
    """Put in the values that the signal had in another run.

    Args:
        layer: name of the layer.
        signal: a signal of the layer's cell: "r", "z", "n", "h" of a GRU; "i", "f", "g", "o", "c",
            "h" of an LSTM; "a" (its pre-activation), "h" of an RNN.
        units: which units; None is all.
        source: a Recording or LayerRecording with as many units and steps; one row serves for all.
        at: which times; None is all.
        rows: which rows; None is all.

    Raises:
        SourceError: the source does not hold this layer, or does not fit.
    """
    return _edit("patch", layer, signal, units, source, at, rows)


def _edit(kind: str, layer: str, signal: str, *given: Any) -> Edit:
    """An edit of whatever a user gave as units, amount, times and rows: it checks them itself."""
    return Edit(kind, layer, signal, *given)


def _may_name(signal: str) -> bool:
    """Whether some cell may have a signal of this name that an edit changes; its run says more."""
    if signal in NAMED or LINE.fullmatch(signal):
        return True
    return signal.isidentifier() and signal not in ("x", "h_prev")


def _written(index: Index) -> str:
    if isinstance(index, slice) and index.step is None:
        return f"slice({index.start!r}, {index.stop!r})"
    return _code(index)


def _code(index: Index) -> str:
    return repr(list(index)) if isinstance(index, tuple) else repr(index)
