"""The statistics of all parts of a scan, added up once and kept in a file beside the parts.

Those of a hundred parts are half a gigabyte, which takes seconds to read; their sum is one file of
a few megabytes. Its name holds a hash of what was added, which parts in which order and the
checksum of each, so a scan that has other parts by now adds them up anew. Its own checksum stands
in its name, too: a file that is damaged counts as not there, and where nothing can be written the
sum is made each time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from hashlib import sha256
from operator import add
from pathlib import Path
from typing import Final

import torch

from grulens.errors import FileError
from grulens.probing.corpus.making import beside, sweep
from grulens.probing.corpus.scan.part import Part, checksum
from grulens.probing.corpus.scan.statistics import Statistics

#: The folder in a scan that has the sums.
MERGED: Final = "merged"
#: The version of how parts are added up, and of the file.
FORMAT: Final = 1


def merged(folder: Path, parts: Sequence[Part], layer: int, signal: str) -> Statistics:
    """What one signal of a layer did in all parts: from the file that has it, or added up.

    Args:
        folder: the folder of the scan.
        parts: its parts, one or more, in the order in which they are added.
        layer: the number of the layer.
        signal: the name of the signal.

    Raises:
        ScanError: a part is damaged.
    """
    sums = [part.sum_of(f"{layer}-{signal}") for part in parts]
    if len(parts) == 1 or None in sums:  # a part of before has no checksum to know it by
        return _added(parts, layer, signal)
    each = [(part.number, *known) for part, known in zip(parts, sums, strict=True) if known]
    held = json.dumps([FORMAT, torch.__version__, each])
    kept = folder / MERGED, f"{layer}-{signal}-{sha256(held.encode()).hexdigest()[:16]}"
    found = _read(*kept)
    if found is None:
        found = _added(parts, layer, signal)
        with suppress(OSError):
            _write(*kept, found)
    return found


def _added(parts: Sequence[Part], layer: int, signal: str) -> Statistics:
    return reduce(add, (part.statistics(layer, signal) for part in parts))


def _read(folder: Path, name: str) -> Statistics | None:
    """The sum of this name, if it is there and whole."""
    with suppress(OSError, FileError):
        for file in folder.iterdir():
            if file.name.startswith(name) and file.name == f"{name}-{checksum(file):08x}":
                return Statistics.load(file)
    return None


def _write(folder: Path, name: str, found: Statistics) -> None:
    """Keep a sum, whole or not at all, in place of those of other parts.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(exist_ok=True)
    sweep(folder)
    making = beside(folder / name)
    try:
        found.save(making)
        place = folder / f"{name}-{checksum(making):08x}"
        making.replace(place)
    finally:
        making.unlink(missing_ok=True)
    for file in folder.iterdir():
        if file != place and file.name.rsplit("-", 2)[0] == name.rpartition("-")[0]:
            file.unlink(missing_ok=True)
