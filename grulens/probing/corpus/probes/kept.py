"""What was counted for a probe that is not done yet, a file a part, in the folder of its scan.

A probe of a large corpus takes as long as the scan. What was counted of a part depends on nothing
but the scan, the task and the parts before it, all of which the name of the folder is a hash of; so
the same call goes on from there, bit for bit, after Ctrl-C or kill -9. Once the probe is done they
are deleted. A file that cannot be read whole (zip archives have a checksum) counts as not there,
and where nothing can be written the probe goes on without.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import torch

from grulens.probing.corpus.making import beside, sweep
from grulens.probing.corpus.probes.fitting import Task, Visited
from grulens.probing.corpus.probes.ridge import Moments
from grulens.probing.corpus.scan.part import Part
from grulens.probing.corpus.scan.scanned import Scan

#: The folder in a scan that has the probes which are not done.
PROBES: Final = "probes"
#: The version of what is counted, and of its files.
FORMAT: Final = 1


class Kept:
    """What was counted of the parts of a probe, on disk.

    Args:
        scan: the scan.
        task: what is probed, and how.
        parts: its parts, in the order in which the probe takes them.

    Attributes:
        whole: whether all that was put is there.
    """

    def __init__(self, scan: Scan, task: Task, parts: Sequence[Part]) -> None:
        # a part tells by its head what is in its files
        heads = [(one.place / "part.json").read_text(encoding="utf-8") for one in parts]
        numbers = [one.number for one in parts]
        versions = FORMAT, torch.__version__, np.__version__
        held = json.dumps([versions, asdict(scan.manifest), asdict(task), numbers, heads])
        name = sha256(held.encode()).hexdigest()[:16]
        self._folder, self._parts = scan.path / PROBES / name, parts
        self.whole = True
        sweep(self._folder)

    def get(self, number: int) -> Visited | None:
        """What was counted of the part that is taken as this; None where it is not there."""
        try:
            with self._file(number).open("rb") as file, np.load(file, allow_pickle=False) as held:
                steps, units, bins = held["sizes"].tolist()
                moments = Moments(steps, units, held["mean"], held["products"])
                each = tuple(held[f"bins{i}"] for i in range(bins))
                return Visited(moments, each, held["inputs"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None

    def put(self, number: int, found: Visited) -> None:
        """Keep what was counted of a part: whole, or not at all."""
        place, moments = self._file(number), found.moments
        making = beside(place)
        held: dict[str, Any] = {f"bins{i}": one for i, one in enumerate(found.bins)}
        held["sizes"] = np.array([moments.steps, moments.units, len(found.bins)])
        held |= {"mean": moments.mean, "products": moments.products, "inputs": found.inputs}
        try:
            making.parent.mkdir(parents=True, exist_ok=True)
            with making.open("wb") as file:
                np.savez(file, **held)
            making.replace(place)
        except OSError:
            self.whole = False
            with suppress(OSError):
                making.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete all that was kept, for the probe is done."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):  # another probe may be there
            self._folder.parent.rmdir()

    def _file(self, number: int) -> Path:
        return self._folder / f"{self._parts[number].number:06d}.npz"
