"""An edit as a value: what is changed and where, in words that hold for any input.

It becomes tensors only when a run asks it to (`change`), so that one edit serves inputs of any
length, prints as the call that makes it, and travels as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from html import escape
from typing import Any

import torch
from torch import Tensor

from grulens.errors import EditError, PositionError, SignalError
from grulens.gru.changes import Change
from grulens.models.place import Place
from grulens.probing import positions
from grulens.probing.positions import Index
from grulens.probing.sources import Source

KEYWORDS = {"ablate": "to", "clamp": "value", "scale": "by", "shift": "by", "patch": "source"}
SIGNALS = ("r", "z", "n", "h")
NAMES = {"r": "reset gate", "z": "update gate", "n": "candidate", "h": "state"}


@dataclass(frozen=True, eq=False, repr=False)
class Edit:
    """A change to one signal of one layer; made by `ablate`, `clamp`, `scale`, `shift`, `patch`.

    Attributes:
        kind: the function that makes it.
        layer: name of the layer.
        signal: "r", "z", "n" or "h".
        units: which units: int, slice, tuple, or None for all.
        amount: a number, a tensor that broadcasts over (batch, time, unit), "mean", or for a
            patch its `Source`.
        at: which times, positions of the input sequence; None is all.
        rows: which rows of the batch; None is all.

    >>> from grulens import clamp
    >>> clamp("l0", "z", [3, 4], value=1.0, at=slice(2, 5))
    clamp('l0', 'z', [3, 4], value=1.0, at=slice(2, 5, None))
    """

    kind: str
    layer: str
    signal: str
    units: Any
    amount: Any
    at: Any = None
    rows: Any = None

    def __post_init__(self) -> None:
        if self.kind not in KEYWORDS:
            raise EditError(f"kind {self.kind!r} is none of {', '.join(KEYWORDS)}")
        if self.signal not in SIGNALS:
            raise SignalError(
                f"signal {self.signal!r} cannot be edited; it must be one of r, z, n, h"
            )
        for name in ("units", "at", "rows"):
            object.__setattr__(self, name, positions.normal(getattr(self, name), name))
        if self.kind == "patch":
            amount: Any = Source.of(self.amount, self.layer, self.signal)
        elif self.kind == "ablate" and isinstance(self.amount, str) and self.amount == "mean":
            amount = self.amount
        else:
            amount = _checked(self._keyword, self.amount, self.kind == "ablate")
        object.__setattr__(self, "amount", amount)

    @property
    def relative(self) -> bool:
        """Whether it refers to the unedited run: its mean, or positions from its end."""
        return isinstance(self.amount, str) or positions.is_relative(self.at)

    def check_units(self, units: int) -> None:
        """Raise PositionError, EditError or SourceError unless it fits a layer of `units` units."""
        positions.check(self.units, units, "unit", f"layer {self.layer!r}")
        if isinstance(self.amount, Source):
            self.amount.check_units(units, self.layer)
        elif isinstance(self.amount, Tensor) and not self._fits(self.amount, units):
            raise EditError(
                f"{self._keyword} of shape {tuple(self.amount.shape)} does not fit layer "
                f"{self.layer!r}: expected a number or ({units},), (time, {units}) or "
                f"(batch, time, {units})"
            )

    def check_steps(self, steps: int) -> None:
        """Raise PositionError unless its times fit a run of `steps` steps."""
        positions.check(self.at, steps, "time", f"this run of layer {self.layer!r}")
        if isinstance(self.amount, Source):
            self.amount.check_steps(steps, self.layer)
        elif isinstance(self.amount, Tensor) and self._times_of(self.amount) not in (1, steps):
            raise PositionError(
                f"{self._keyword} of shape {tuple(self.amount.shape)} has "
                f"{self._times_of(self.amount)} times; this run of layer {self.layer!r} has {steps}"
            )

    def change(self, place: Place) -> Change:
        """The change it makes in one call of its layer."""
        where = (
            self._rows(place)[:, None, None] & self._times(place)[..., None] & self._units(place)
        ).to(place.like.device)
        amount = self._amount(place)
        zero, one = amount.new_zeros(1, 1, 1), amount.new_ones(1, 1, 1)
        if self.kind == "scale":
            return Change(self.signal, where, amount, zero)
        if self.kind == "shift":
            return Change(self.signal, where, one, amount, before_activation=self.signal != "h")
        return Change(self.signal, where, zero, amount)

    def _units(self, place: Place) -> Tensor:
        if self.units is None:
            return torch.ones(1, dtype=torch.bool)
        return positions.mask(self.units, place.units)

    def _rows(self, place: Place) -> Tensor:
        if self.rows is None:
            return torch.ones(1, dtype=torch.bool)
        positions.check(self.rows, place.batch, "row", f"this batch of layer {self.layer!r}")
        return positions.mask(self.rows, place.batch)

    def _times(self, place: Place) -> Tensor:
        """(row or 1, time or 1), bool: the part of its times that lies in this call."""
        if self.at is None:
            return torch.ones(1, 1, dtype=torch.bool)
        part = slice(place.start, place.start + place.steps)
        if place.lengths is not None and positions.is_relative(self.at):
            ends = place.lengths.tolist()
            return torch.stack([positions.mask(self.at, place.total, end)[part] for end in ends])
        return positions.mask(self.at, place.total)[None, part]

    def _amount(self, place: Place) -> Tensor:
        """How much, broadcasting over (batch, time, unit) of this call, in the run's dtype."""
        end = place.start + place.steps
        if isinstance(self.amount, Source):
            value = self.amount.values(place)
        elif isinstance(self.amount, str):
            value = place.mean()
        else:
            value = torch.as_tensor(self.amount)
            if self._times_of(value) > 1:
                if self._times_of(value) < end:
                    self.check_steps(end)
                value = value[..., place.start : end, :]
        value = value.to(place.like.device, place.like.dtype)
        return value.reshape((1,) * (3 - value.dim()) + tuple(value.shape))

    @staticmethod
    def _fits(value: Tensor, units: int) -> bool:
        return value.dim() == 0 or (value.dim() <= 3 and value.shape[-1] in (1, units))

    @staticmethod
    def _times_of(value: Tensor) -> int:
        return value.shape[-2] if value.dim() > 1 else 1

    @property
    def _keyword(self) -> str:
        return KEYWORDS[self.kind]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Edit):
            return NotImplemented
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, Tensor) and isinstance(theirs, Tensor):
                if not (mine.shape == theirs.shape and torch.equal(mine, theirs)):
                    return False
            elif type(mine) is not type(theirs) or mine != theirs:
                return False
        return True

    def __hash__(self) -> int:
        return hash((self.kind, self.layer, self.signal, repr(self.units), repr(self.at)))

    def __repr__(self) -> str:
        amount = repr(self.amount)
        if isinstance(self.amount, Tensor):
            amount = f"torch.tensor({self.amount.tolist()!r})"
        parts = [repr(self.layer)]
        parts += [repr(self.signal)] if self.kind != "ablate" else []
        parts += [_code(self.units)] if self.units is not None else []
        parts += [f"{self._keyword}={amount}"]
        parts += [f"{n}={_code(v)}" for n in ("at", "rows") if (v := getattr(self, n)) is not None]
        return f"{self.kind}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        return f"<code>{escape(repr(self))}</code><br>{escape(self.words())}"

    def words(self) -> str:
        """What it does, as a person says it.

        >>> from grulens import ablate
        >>> ablate("l0", [3], at=slice(0, 4)).words()
        'state of unit 3 set to 0, steps 0 to 3'
        """
        match self.amount:
            case str():
                said = "its mean"
            case float():
                said = f"{self.amount:g}"
            case Source():
                said = f"that of {self.amount}"
            case _:
                said = "given values"
        does = {"scale": "times", "shift": "plus"}.get(self.kind, "set to")
        before = " (before the activation)" if self.kind == "shift" and self.signal != "h" else ""
        text = (
            f"{NAMES[self.signal]} of {positions.words(self.units, 'unit')} {does} {said}{before}"
        )
        text += "" if self.at is None else f", {positions.words(self.at, 'step')}"
        return text + ("" if self.rows is None else f", {positions.words(self.rows, 'row')}")

    def to_dict(self) -> dict[str, Any]:
        """The edit as JSON-ready values; `from_dict` is the way back.

        >>> from grulens import ablate
        >>> Edit.from_dict(ablate("l0", 3, to="mean").to_dict())
        ablate('l0', 3, to='mean')
        """
        amount: Any = self.amount
        if isinstance(amount, Source):
            amount = {"source": amount.to_dict()}
        elif isinstance(amount, Tensor):
            amount = {"tensor": amount.tolist(), "dtype": str(amount.dtype).removeprefix("torch.")}
        where = {name: positions.to_json(getattr(self, name)) for name in ("units", "at", "rows")}
        what = {"kind": self.kind, "layer": self.layer, "signal": self.signal, "amount": amount}
        return what | where

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Edit:
        """The edit that `to_dict` described.

        Raises:
            EditError: it is no such description.
        """
        try:
            amount = data["amount"]
            if isinstance(amount, dict) and "source" in amount:
                amount = Source.from_dict(amount["source"])
            elif isinstance(amount, dict):
                amount = torch.tensor(amount["tensor"], dtype=getattr(torch, amount["dtype"]))
            where = {n: positions.from_json(data[n], n) for n in ("units", "at", "rows")}
            return Edit(data["kind"], data["layer"], data["signal"], amount=amount, **where)
        except (KeyError, TypeError, AttributeError) as error:
            raise EditError(f"this describes no edit ({error!r}): {data!r}") from error


def _checked(keyword: str, value: Any, mean: bool) -> float | Tensor:
    """A finite number or a finite floating tensor."""
    kinds = 'a number, "mean"' if mean else "a number"
    expected = f"{keyword} must be {kinds} or a tensor, got {value!r}"
    if isinstance(value, bool | str) or value is None:
        raise EditError(expected)
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EditError(expected) from error
    if not torch.isfinite(tensor).all():
        raise EditError(f"{keyword} must be finite, got {value!r}")
    if tensor.dim() == 0 and not tensor.requires_grad:
        return float(tensor)
    return tensor if tensor.is_floating_point() else tensor.double()


def _code(index: Index) -> str:
    return repr(list(index)) if isinstance(index, tuple) else repr(index)
