"""What a person calls the units of a scan, and which are pinned: a file in the scan's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from grulens.errors import ScanError, shown

NOTES: Final = "units.json"
#: So many characters of a name are kept.
LONGEST: Final = 80


class Notes:
    """The names and pins of units, by layer.

    Args:
        folder: the folder of the scan.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     notes = Notes(Path(folder))
    ...     notes.name("rnn.l0", 3, " in a text ")
    ...     notes.pin("rnn.l0", 7, True)
    ...     again = Notes(Path(folder))
    ...     again.names("rnn.l0"), again.pinned("rnn.l0"), again.names("rnn.l1")
    ({3: 'in a text'}, (7,), {})
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / NOTES
        self._held = self._read()

    def names(self, layer: str) -> dict[int, str]:
        """What units of a layer are called."""
        return {int(unit): name for unit, name in self._held["names"].get(layer, {}).items()}

    def pinned(self, layer: str) -> tuple[int, ...]:
        """The pinned units of a layer."""
        return tuple(sorted(self._held["pinned"].get(layer, [])))

    def name(self, layer: str, unit: int, name: str) -> None:
        """Call a unit so; "" takes its name away.

        Raises:
            ScanError: that is no name, or the folder cannot be written to.
        """
        if not isinstance(name, str):
            raise ScanError(f"the name of a unit is a text, got {shown(name)}")
        said = name.strip()[:LONGEST]
        try:
            said.encode()
        except UnicodeError as error:  # half of a pair, which no page can be sent
            raise ScanError(f"{shown(name)} cannot be written: {error}") from error
        with self._changed() as held:
            names = held["names"].setdefault(layer, {})
            names.pop(str(unit), None)
            names |= {str(unit): said} if said else {}

    def pin(self, layer: str, unit: int, on: bool) -> None:
        """Pin a unit, or do so no longer.

        Raises:
            ScanError: the folder cannot be written to.
        """
        with self._changed() as held:
            pinned = set(held["pinned"].get(layer, []))
            (pinned.add if on else pinned.discard)(unit)
            held["pinned"][layer] = sorted(pinned)

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """What is on disk, to be changed: another notebook may have written since."""
        held = self._read()
        yield held
        making = self._file.with_name(f".{NOTES}-{os.getpid()}")
        try:
            making.write_text(json.dumps(held, indent=1), encoding="utf-8")
            making.replace(self._file)
        except OSError as error:
            raise ScanError(
                f"names and pins of units are kept in {self._file}, which cannot be written: "
                f"{error.strerror or error}"
            ) from error
        self._held = held

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            found = {}
        except (OSError, ValueError) as error:
            raise ScanError(f"{self._file} is damaged: {error}. Delete it to go on") from error
        held = {name: _of(found, name) for name in ("names", "pinned")}
        names = held["names"].values()
        if not (
            all(_all(one, dict, str) and all(map(str.isdigit, one)) for one in names)
            and all(_all(one, list, int) for one in held["pinned"].values())
        ):
            raise ScanError(f"{self._file} is damaged. Delete it to go on")
        return held


def _of(found: Any, name: str) -> dict[str, Any]:
    held = found.get(name, {}) if isinstance(found, dict) else {}
    return held if isinstance(held, dict) else {}


def _all(held: Any, kind: type, of: type) -> bool:
    """Whether something is a list, or a mapping to values, of one kind."""
    if not isinstance(held, kind):
        return False
    values: Any = held.values() if isinstance(held, dict) else held
    return all(type(one) is of for one in values)
