"""The kinds of cells, one a file: `kinds.GRU`, `kinds.LSTM`, and whatever else lies here.

A new file is loaded with the others, so that a saved run is read whatever kind it was of; nothing
else has to know it.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from grulens.cells.cell import RecurrentCell

KINDS: dict[str, type[RecurrentCell]] = {}
"""Every kind that grulens has, by what it is called."""

for _file in iter_modules(__path__, f"{__name__}."):
    for _value in vars(import_module(_file.name)).values():
        is_kind = isinstance(_value, type) and issubclass(_value, RecurrentCell)
        if is_kind and _value.__module__ == _file.name:
            KINDS[_value.kind] = _value


def __getattr__(name: str) -> type[RecurrentCell]:
    if name in KINDS:
        return KINDS[name]
    raise AttributeError(f"grulens has no kind of cell {name!r}; it has {', '.join(KINDS)}")
