"""How much an edit sets, scales or adds: a number, a tensor, "mean", or a signal of another run.

What `positions` is for where an edit acts, this is for how much. What cannot be right for any size
is refused when the edit is made; what depends on a size, when it is known.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grulens.errors import EditError, PositionError, shown
from grulens.models.call.place import Place
from grulens.probing.edits.sources import Source, floating
from grulens.words import Say, english

Amount = float | str | Tensor | Source
MEAN = "mean"


def normal(amount: Any, keyword: str, *, mean: bool) -> float | str | Tensor:
    """A finite number, a finite floating tensor of the edit's own, or "mean" where that is allowed.

    >>> normal(0.1, "by", mean=False), normal([1, 2], "by", mean=False)
    (0.1, tensor([1., 2.], dtype=torch.float64))

    Raises:
        EditError: it is nothing of the kind.
    """
    if type(amount) is float and isfinite(amount):
        return amount  # as nearly all are; what follows takes longer than the rest of an edit
    if mean and isinstance(amount, str) and amount == MEAN:
        return amount

    def unfit() -> EditError:  # made when it is raised: to show a large tensor takes long
        kinds = 'a number, "mean"' if mean else "a number"
        return EditError(f"{keyword} must be {kinds} or a tensor, got {shown(amount)}")

    if isinstance(amount, bool | str) or amount is None:
        raise unfit()
    try:
        # a Python number has float64's digits, and repr must give them back
        exact = torch.float64 if isinstance(amount, int | float) else None
        # torch warns of an array that it could write to by way of the tensor: a copy is our own
        given = np.array(amount) if isinstance(amount, np.ndarray) else amount
        tensor = torch.as_tensor(given, dtype=exact)
        finite = bool(torch.isfinite(tensor).all())
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise unfit() from error
    if tensor.is_complex() or tensor.dtype is torch.bool or not tensor.numel():
        raise unfit()
    if not finite:
        raise EditError(f"{keyword} must be finite, got {shown(amount)}")
    if tensor.requires_grad:
        return tensor  # an amount that is learned stays what the optimizer moves
    if tensor.dim() == 0:
        return float(tensor)
    return tensor.clone() if tensor.is_floating_point() else tensor.double()


def check_units(amount: Amount, units: int, keyword: str, layer: str) -> None:
    """Raise EditError or SourceError unless it fits a layer of `units` units."""
    if isinstance(amount, Source):
        amount.check_units(units, layer)
    elif isinstance(amount, Tensor) and not (
        amount.dim() == 0 or (amount.dim() <= 3 and amount.shape[-1] in (1, units))
    ):
        raise EditError(
            f"{keyword} of shape {tuple(amount.shape)} does not fit layer {layer!r}: expected a "
            f"number or ({units},), (time, {units}) or (batch, time, {units})"
        )


def check_steps(amount: Amount, steps: int, keyword: str, layer: str) -> None:
    """Raise PositionError or SourceError unless it fits a run of `steps` steps."""
    if isinstance(amount, Source):
        amount.check_steps(steps, layer)
    elif isinstance(amount, Tensor) and _times(amount) not in (1, steps):
        raise PositionError(
            f"{keyword} of shape {tuple(amount.shape)} has {_times(amount)} times; this run of "
            f"layer {layer!r} has {steps}"
        )


def values(amount: Amount, place: Place, keyword: str) -> Tensor:
    """How much in one call, broadcasting over its (batch, time, unit), in the run's dtype."""
    end = place.start + place.steps
    if isinstance(amount, Source):
        value = amount.values(place)
    elif isinstance(amount, str):
        value = place.mean()
    elif isinstance(amount, float):
        exact = torch.tensor([[[amount]]], dtype=torch.float64)
        return exact.to(place.like.device, place.like.dtype)
    else:
        value = amount
        rows = len(value) if value.dim() == 3 else 1
        if rows > place.batch == 1 and bool((value == value[:1]).all()):
            value = value[:1]  # the signal may be the same for all rows, and is read for each
        if value.dim() == 3 and len(value) not in (1, place.batch):
            raise PositionError(
                f"{keyword} of shape {tuple(value.shape)} has {len(value)} rows; this run of layer "
                f"{place.layer!r} has {place.batch}"
            )
        if _times(value) != 1:
            if _times(value) < end:
                check_steps(value, end, keyword, place.layer)
            value = value[..., place.start : end, :]
    value = value.to(place.like.device, place.like.dtype)
    return value.reshape((1,) * (3 - value.dim()) + tuple(value.shape))


def same(one: Any, other: Any) -> bool:
    """Whether two amounts are equal, and of one kind."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype
        return alike and torch.equal(one.cpu(), other.cpu())
    return type(one) is type(other) and bool(one == other)


def code(amount: Amount) -> str:
    """The Python that makes it."""
    if isinstance(amount, Tensor):
        plain = amount.dtype is torch.float32
        return f"torch.tensor({amount.tolist()!r}{'' if plain else f', dtype={amount.dtype}'})"
    return repr(amount)


def words(amount: Amount, say: Say = english) -> str:
    """An amount as a person says it."""
    match amount:
        case str():
            return say("its mean")
        case float():
            return f"{amount:g}"
        case Source():
            return say("that of {source}", source=amount)
        case _:
            return say("given values")


def to_json(amount: Amount) -> Any:
    """An amount as JSON."""
    if isinstance(amount, Source):
        return {"source": amount.to_dict()}
    if isinstance(amount, Tensor):
        return {"tensor": amount.tolist(), "dtype": str(amount.dtype).removeprefix("torch.")}
    return amount


def from_json(value: Any) -> Any:
    """The way back from `to_json`."""
    if isinstance(value, dict) and "source" in value:
        return Source.from_dict(value["source"])
    if isinstance(value, dict):
        return floating(value["tensor"], value["dtype"])
    return value


def _times(value: Tensor) -> int:
    return value.shape[-2] if value.dim() > 1 else 1
