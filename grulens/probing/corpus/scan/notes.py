"""What a person calls the units of a scan, and which are pinned: a file in the scan's folder.

The file is read again when it has changed, for another notebook may have written since. One that is
damaged stops nobody from asking the scan: it is said, and left as it is.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from grulens.errors import ScanError, shown
from grulens.probing.corpus.making import beside

NOTES: Final = "units.json"
#: So many characters a name has at most.
LONGEST: Final = 80


class Notes:
    """The names and pins of units, by layer.

    Args:
        folder: the folder of the scan.

    Warns:
        UserWarning: the file is damaged.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     notes, others = Notes(Path(folder)), Notes(Path(folder))
    ...     notes.name("rnn.l0", 3, " in a text ")
    ...     notes.pin("rnn.l0", 7, True)
    ...     others.names("rnn.l0"), others.pinned("rnn.l0"), others.names("rnn.l1")
    ({3: 'in a text'}, (7,), {})
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / NOTES
        self._held = _held({})
        self._seen: tuple[int, ...] | None = None
        _ = self._now

    def names(self, layer: str) -> dict[int, str]:
        """What units of a layer are called."""
        return {int(unit): name for unit, name in self._now["names"].get(layer, {}).items()}

    def pinned(self, layer: str) -> tuple[int, ...]:
        """The pinned units of a layer."""
        return tuple(sorted(self._now["pinned"].get(layer, [])))

    def name(self, layer: str, unit: int, name: str) -> None:
        """Call a unit so; "" takes its name away.

        Raises:
            ScanError: that is no name, it is too long, or the file cannot be written.
        """
        if not isinstance(name, str):
            raise ScanError(f"the name of a unit is a text, got {shown(name)}")
        said = name.strip()
        if len(said) > LONGEST:
            raise ScanError(
                f"the name of a unit has {LONGEST} characters at most, and this one has "
                f"{len(said)}: {shown(said)}. Give a shorter one"
            )
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
            ScanError: the file cannot be written.
        """
        with self._changed() as held:
            pinned = set(held["pinned"].get(layer, []))
            (pinned.add if on else pinned.discard)(unit)
            held["pinned"][layer] = sorted(pinned)

    @property
    def _now(self) -> dict[str, Any]:
        """What is on disk by now; of a file that is damaged, what was there before."""
        seen = self._state()
        if seen != self._seen:
            self._seen = seen
            try:
                self._held = self._read()
            except ScanError as error:
                warnings.warn(
                    f"{error}. Until then no unit is shown by a new name, and none can be given",
                    stacklevel=2,
                )
        return self._held

    def _state(self) -> tuple[int, ...] | None:
        """What tells that the file was written again; None where there is none."""
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """What is on disk, to be changed: another notebook may have written since."""
        with _alone(self._file.parent):
            held = self._read()
            yield held
            making = beside(self._file)
            try:
                making.write_text(json.dumps(held, indent=1), encoding="utf-8")
                making.replace(self._file)
            except OSError as error:
                raise ScanError(
                    f"names and pins of units are kept in {self._file}, which cannot be written: "
                    f"{error.strerror or error}"
                ) from error
            self._held, self._seen = held, self._state()

    def _read(self) -> dict[str, Any]:
        """What is on disk.

        Raises:
            ScanError: it is damaged.
        """
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            found = {}
        except (OSError, ValueError) as error:
            raise self._damaged(f": {error}") from error
        held = _held(found)
        names = held["names"].values()
        if not (
            all(_all(one, dict, str) and all(map(str.isdigit, one)) for one in names)
            and all(_all(one, list, int) for one in held["pinned"].values())
        ):
            raise self._damaged("")
        return held

    def _damaged(self, why: str) -> ScanError:
        return ScanError(
            f"{self._file}, which has the names and pins of units, is damaged{why}. Mend it, or "
            "delete it"
        )


def _held(found: Any) -> dict[str, dict[str, Any]]:
    """The names and the pins of what a file holds."""
    held = found if isinstance(found, dict) else {}
    both = {name: held.get(name, {}) for name in ("names", "pinned")}
    return {name: one if isinstance(one, dict) else {} for name, one in both.items()}


def _all(held: Any, kind: type, of: type) -> bool:
    """Whether something is a list, or a mapping to values, of one kind."""
    if not isinstance(held, kind):
        return False
    values: Any = held.values() if isinstance(held, dict) else held
    return all(type(one) is of for one in values)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else changes what is in a folder, where the system can see to that."""
    try:
        import fcntl  # noqa: PLC0415 - Windows has none

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):  # a disk that knows no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
