"""Directions of a layer's state space that a scan follows as it follows units.

What the units of a layer encode together lies along a direction: the weights of a probe, a
principal component, the difference of two states. How far the states go along it is seen in no
index of single units, so a direction is told before the scan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from grulens.errors import ScanError, shown
from grulens.probing.corpus.numbers import as_whole
from grulens.probing.corpus.scan.part import Part

if TYPE_CHECKING:
    from grulens.probing.corpus.scan.manifest import ScannedLayer

#: The signal of a layer that has a value for each of its directions.
SIGNAL: Final = "directions"
#: What the index of a part calls the extremes of the directions.
DIRECTION: Final = "direction_"
ENDS: Final = {"low": f"{DIRECTION}low", "high": f"{DIRECTION}high"}


@dataclass(frozen=True)
class Direction:
    """A direction of a layer's state space, with a name.

    Attributes:
        name: its name.
        weights: (unit,) how far the state goes along it is h · weights.
    """

    name: str
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Followed:
    """A unit of a layer, or a direction, that is followed over a corpus.

    Attributes:
        number: its place among the units, or the directions, of the layer.
        direction: the direction; None for a unit.
    """

    number: int
    direction: Direction | None = None

    def ends(self, part: Part, layer: int, end: str) -> Float[ndarray, " window"]:
        """Its least or largest value in each window of a part."""
        name = ENDS[end] if self.direction else end
        found: ndarray = part.index(layer, name, [self.number])[self.number]
        return found

    def furthest(
        self, part: Part, layer: int, label: int, end: str
    ) -> tuple[Float[ndarray, " kept"], Int[ndarray, " kept"]] | None:
        """How far it goes in the windows that a part has kept of a label, and which they are."""
        kept = part.furthest(layer, DIRECTION if self.direction else "", self.number)
        place = label, int(end == "low")
        return None if kept is None else (kept[0][place], kept[1][place])

    def values(self, states: Float[ndarray, "*axes unit"]) -> Float[ndarray, "*axes"]:
        """Its values, of states of the layer."""
        found: ndarray = states[..., self.number]
        return found if self.direction is None else along(states, [self.direction])[..., 0]


def along(
    states: Float[ndarray, "*axes unit"], directions: Sequence[Direction]
) -> Float[ndarray, "*axes direction"]:
    """How far states go along each direction, h · weights: summed in float64, kept as float32.

    >>> along(np.array([[1.0, 2.0]], np.float32), [Direction("both", (1.0, 0.5))])
    array([[2.]], dtype=float32)
    """
    weights = np.array([one.weights for one in directions])
    with np.errstate(over="ignore"):  # an infinite one is an error of its own
        found: ndarray = (states.astype(np.float64) @ weights.T).astype(np.float32)
    return found


def followed(unit: Any, layer: ScannedLayer) -> Followed:
    """A unit of a layer by its number, or a direction by its name.

    Raises:
        ScanError: the layer has no such unit or direction.
    """
    names = [one.name for one in layer.directions]
    if isinstance(unit, str) and unit in names:
        return Followed(names.index(unit), layer.directions[names.index(unit)])
    if isinstance(unit, str):
        known = ", ".join(map(shown, names)) or "none"
        raise ScanError(
            f"direction {shown(unit)} of layer {layer.name!r} was not scanned; what was is {known}:"
            " directions are told before, scan(..., directions={...})"
        )
    return Followed(check_unit(unit, layer.units, layer.name))


def check_unit(unit: Any, units: int, layer: str) -> int:
    """The number of a unit.

    Raises:
        ScanError: the layer has no such unit.
    """
    found = as_whole(unit)
    if found is None or not 0 <= found < units:
        raise ScanError(
            f"unit {shown(unit)} is none of layer {layer!r}, which has 0 to {units - 1}"
        )
    return found


def told(directions: Any, layers: Mapping[str, int]) -> dict[str, tuple[Direction, ...]]:
    """The directions of each layer.

    Args:
        directions: vectors by name, of the only layer; or these by the name of a layer; or None.
        layers: how many units each scanned layer has.

    Raises:
        ScanError: they are no such thing, or do not fit a layer.
    """
    if directions is None:
        return {}
    if not isinstance(directions, Mapping) or not directions:
        raise _wrong(directions)
    by_layer = all(isinstance(one, Mapping) and one for one in directions.values())
    if not by_layer and len(layers) > 1:
        raise ScanError(
            "several layers are scanned, so say of which each direction is: directions="
            f"{{{next(iter(layers))!r}: {{'name': weights}}}}; got {shown(directions)}"
        )
    each: Mapping[Any, Any] = directions if by_layer else {next(iter(layers)): directions}
    unknown = [name for name in each if name not in layers]
    if unknown:
        raise ScanError(
            f"layer {shown(unknown[0])} is not scanned, so it has no directions; what is scanned "
            f"is {', '.join(layers)}"
        )
    return {
        layer: tuple(_direction(name, vector, layer, layers[layer]) for name, vector in one.items())
        for layer, one in each.items()
    }


def _direction(name: Any, vector: Any, layer: str, units: int) -> Direction:
    if not isinstance(name, str) or not name.strip():
        raise ScanError(f"the name of a direction is a text, got {shown(name)}")
    try:
        plain = vector.detach().cpu().double() if isinstance(vector, Tensor) else vector
        weights = np.asarray(plain, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ScanError(f"direction {shown(name)} must be numbers, got {shown(vector)}") from error
    if weights.shape != (units,):
        raise ScanError(
            f"direction {shown(name)} has shape {weights.shape}, layer {layer!r} has units "
            f"({units},)"
        )
    if not np.isfinite(weights).all() or not weights.any():
        raise ScanError(f"direction {shown(name)} must be finite, and not 0 everywhere")
    return Direction(name, tuple(weights.tolist()))


def _wrong(directions: Any) -> ScanError:
    return ScanError(
        "directions must be vectors (unit,) by name, such as {'in_text': found.weights[0]}, or "
        f"these by the name of a layer; got {shown(directions)}"
    )
