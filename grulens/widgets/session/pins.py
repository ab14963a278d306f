"""The units that are pinned: seen as lines whatever is chosen, under names of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import traitlets as tl

from grulens.errors import PositionError, shown
from grulens.probing.corpus.numbers import as_whole
from grulens.widgets.session.selection import Selection

#: So many units of a layer are pinned at most: more lines are no overview.
MOST: Final = 24


class Pins(Selection):
    """A choice in a run, and the units of it that are pinned; `Session` says what `pins` is."""

    pins: Any = tl.Dict()

    @property
    def pinned(self) -> dict[int, str]:
        """The pinned units of the layer shown, each with its name, or ""."""
        return dict(self.pins.get(self.layer, {}))

    def pin(self, *units: int, name: str | None = None) -> None:
        """Pin units of the layer shown.

        Args:
            *units: their numbers; the chosen units where none is given.
            name: what to call them, "" for no name; None keeps the name they have.

        Raises:
            PositionError: no unit is given or chosen, there is no such unit, or more than 24 would
                be pinned.
        """
        those = units or self.units
        if not those:
            raise PositionError("pin(3, 17) pins these units; none is given, and none is chosen")
        held = self.pinned
        called = {unit: held.get(unit, "") if name is None else name for unit in those}
        self.pins = {**self.pins, self.layer: held | called}

    def unpin(self, *units: int) -> None:
        """Unpin units of the layer shown; all of them where none is given."""
        kept = {unit: name for unit, name in self.pinned.items() if units and unit not in units}
        others = {layer: held for layer, held in self.pins.items() if layer != self.layer}
        self.pins = {**others, self.layer: kept} if kept else others

    @tl.validate("pins")
    def _valid_pins(self, proposal: Any) -> dict[str, dict[int, str]]:
        given, found = proposal["value"], {}
        for layer, held in given.items():
            if not isinstance(layer, str) or not isinstance(held, Mapping):
                raise PositionError(
                    'pins are names by unit, by layer, such as {"rnn.l0": {3: "in a string"}}; got '
                    f"{shown(given)}"
                )
            found[layer] = {self._pin(layer, unit): _name(name) for unit, name in held.items()}
            if len(found[layer]) > MOST:
                raise PositionError(
                    f"{MOST} units of a layer are pinned at most, got {len(found[layer])} of "
                    f"{layer!r}"
                )
        return {layer: dict(sorted(held.items())) for layer, held in found.items() if held}

    def _pin(self, layer: str, unit: Any) -> int:
        number = as_whole(unit)
        ran = self.layer and layer in self.baseline
        size = self.baseline[layer].shape[2] if ran else None
        if number is None or number < 0 or (size is not None and number >= size):
            of = f"{layer!r}" if size is None else f"{layer!r}, which has {size} (0 to {size - 1})"
            raise PositionError(f"{shown(unit)} is no unit of layer {of}")
        return number


def _name(given: Any) -> str:
    if not isinstance(given, str):
        raise PositionError(f"the name of a pinned unit is a text, got {shown(given)}")
    return given
