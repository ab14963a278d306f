"""Collects the runs of one part of a corpus, and writes them: whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Shaped, UInt64
from numpy import ndarray

from grulens.errors import ScanError
from grulens.probing.corpus.making import beside, unwritten
from grulens.probing.corpus.scan.furthest import Furthest
from grulens.probing.corpus.scan.given import IDS, Form
from grulens.probing.corpus.scan.part import (
    ANCHOR,
    FORMAT,
    WINDOW,
    anchors_of,
    checksum,
    checksums,
    digest,
    own_sum,
)
from grulens.probing.corpus.scan.statistics import Statistics


class Writer:
    """Collects the runs of one part, and writes them as a folder: whole or not at all.

    Args:
        layers: how many layers are scanned.
        held: what was given of its labels with the part, if anything was.
    """

    def __init__(self, layers: int, held: Mapping[str, Any] | None = None) -> None:
        self._held = "" if held is None else digest(held)
        self._rows: list[Int[ndarray, "row 4"]] = []
        self._windows = 0
        self._read: list[Shaped[ndarray, "window 64 ..."] | int] = []
        self._forms: list[Form] = []
        self._form_of: dict[int, int] = {}
        self._labels: list[UInt64[ndarray, "label window"]] = []
        self.names: dict[int, str] = {}
        self._index: list[dict[str, list[ndarray]]] = [
            {"on": [], "low": [], "high": [], "anchors": []} for _ in range(layers)
        ]
        self.statistics: dict[tuple[int, str], Statistics] = {}
        self._furthest: dict[str, Furthest] = {}

    def rows(
        self,
        documents: Sequence[int],
        starts: Sequence[int],
        lengths: Sequence[int],
        steps: int,
        read: Shaped[ndarray, "row step ..."] | None,
        labels: UInt64[ndarray, "label row window"],
        form: Form = IDS,
    ) -> Int[ndarray, " row"]:
        """Add the rows of one run.

        Args:
            documents: which input of the part each row is from.
            starts: at which step of it.
            lengths: how many steps each row has.
            steps: how many steps the run has, its longest row's at least.
            read: (row, step, ...) what stands at each step, or None.
            labels: a bit a step for each; none where there is no step.
            form: how the input was given to the model.

        Returns:
            The first window of each row, as long as nothing is written.
        """
        windows = -(-steps // WINDOW)
        count = len(documents)
        first = self._windows + np.arange(count) * windows
        self._rows.append(np.stack([documents, starts, lengths, first], 1).astype(np.int64))
        self._windows += count * windows
        self._read.append(count * windows)
        if read is not None:
            ids = read.ndim == 2 and np.issubdtype(read.dtype, np.integer)
            flat = read if ids else read.reshape(count, steps, -1)
            kind = _smallest(read) if ids else read.dtype
            whole = np.zeros((count, windows * WINDOW, *flat.shape[2:]), kind)
            whole[:, :steps] = flat
            self._read[-1] = whole.reshape(-1, WINDOW, *flat.shape[2:])
        if form != IDS:
            if form not in self._forms:
                self._forms.append(form)
            self._form_of |= dict.fromkeys(documents, self._forms.index(form))
        if len(labels):
            self._labels.append(labels.reshape(len(labels), -1))
        return first

    def layer(
        self,
        number: int,
        index: Mapping[str, Shaped[ndarray, "unit row window"]],
        mask: Bool[ndarray, "row step"],
        states: Float[ndarray, "row kept state"],
    ) -> None:
        """Add what one layer did in the run whose rows were added last.

        Args:
            number: the number of the layer.
            index: "on", "low" and "high", as `Tally.add` gives them, and those of directions.
            mask: (row, step), False where there is no step.
            states: all that its next step reads: of an LSTM, h and c; none where no step is kept.
        """
        kept = self._index[number]
        for name, found in index.items():
            kept.setdefault(name, []).append(found.reshape(len(found), -1))
        goes_on = mask[:, ANCHOR::ANCHOR]
        kept["anchors"].append(states[:, ANCHOR - 1 : -1 : ANCHOR][goes_on].astype(np.float32))

    @property
    def any(self) -> bool:
        """Whether there is a step."""
        return self._windows > 0

    def count(self, number: int, statistics: Statistics) -> None:
        """Add what one signal of a layer did in all runs."""
        self.statistics[number, statistics.signal] = statistics

    def furthest(self, number: int, prefix: str, found: Furthest) -> None:
        """Add where the units of a layer, or its directions, go furthest under each label."""
        self._furthest[f"{number}/{prefix}furthest"] = found

    def unnamed(self) -> Integer[ndarray, " id"]:
        """The ids that have no name by now."""
        none = np.zeros(0, np.int64)
        every = (np.unique(ids) for ids in self._read if isinstance(ids, ndarray) and ids.ndim == 2)
        found = np.unique(np.concatenate([none, *every]))
        return found[~np.isin(found, list(self.names))]

    def write(self, place: Path) -> None:
        """Write the part, unless it is there by now.

        Raises:
            ScanError: the disk is full, or cannot be written to; nothing of the part is left.
        """
        making = beside(place)
        try:
            making.mkdir(parents=True)
            self._write(making)
            making.rename(place)
        except OSError as error:
            if not place.is_dir():  # another worker may have written the same part meanwhile
                raise ScanError(
                    f"part {place.name} cannot be written to {place.parent}: "
                    f"{unwritten(error)}; the parts that are there stay as they are"
                ) from error
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _in_order(
        self,
    ) -> tuple[Int[ndarray, "row 4"], Int[ndarray, " window"], Int[ndarray, " anchor"]]:
        """The rows in the order of the corpus, not of the runs; where windows and anchors were."""
        rows = np.concatenate([np.zeros((0, 4), np.int64), *self._rows])
        windows = np.diff(rows[:, 3], append=self._windows)
        anchors = anchors_of(rows[:, 2])
        kept = anchors.cumsum() - anchors
        order = np.lexsort((rows[:, 1], rows[:, 0]))
        rows, windows, anchors = rows[order], windows[order], anchors[order]
        was = _ranges(rows[:, 3], windows), _ranges(kept[order], anchors)
        rows[:, 3] = windows.cumsum() - windows
        return rows, *was

    def _write(self, folder: Path) -> None:
        rows, windows, anchors = self._in_order()
        np.save(folder / "rows.npy", rows)
        self._write_read(folder, windows)
        if self._labels:
            np.save(folder / "labels.npy", _chosen(self._labels, windows))
        for number, index in enumerate(self._index):
            (folder / str(number)).mkdir()
            for name, blocks in index.items():
                if not blocks:  # a part whose inputs are all empty has none
                    continue
                if name == "anchors":
                    whole = np.concatenate(blocks)[anchors]
                else:
                    whole = _chosen(blocks, windows)
                np.save(folder / str(number) / f"{name}.npy", whole)
        number_of = np.empty_like(windows)
        number_of[windows] = np.arange(len(windows))
        for name, furthest in self._furthest.items():
            if (kept := furthest.written(number_of)) is not None:
                np.save(folder / f"{name}.npy", kept[0])
                np.save(folder / f"{name}_at.npy", kept[1])
        for (number, signal), statistics in self.statistics.items():
            statistics.save(folder / f"{number}-{signal}")
        files = {
            str(file.relative_to(folder)): file
            for file in sorted(folder.rglob("*")) if file.is_file()
        }  # fmt: skip
        head = {
            "format": FORMAT, "windows": self._windows, "labels": self._held,
            "sizes": {name: file.stat().st_size for name, file in files.items()},
            "sums": {name: checksum(one) for name, one in files.items() if one.parent == folder},
            "units": {name: checksums(one) for name, one in files.items() if one.parent != folder},
        }  # fmt: skip
        head["sum"] = own_sum(head)
        (folder / "part.json").write_text(json.dumps(head), encoding="utf-8")

    def _write_read(self, folder: Path, windows: Int[ndarray, " window"]) -> None:
        """Write what was read, and how it was given to the model."""
        known = [read for read in self._read if isinstance(read, ndarray)]
        if known:
            if len({read.shape[1:] for read in known}) > 1:
                raise ScanError(
                    "one input of the part is of ids, and another has numbers at each step, or "
                    "others have more of them: make parts of each"
                )
            room = known[0].shape[1:]
            whole = np.concatenate([
                np.zeros((read, *room), known[0].dtype) if isinstance(read, int) else read
                for read in self._read
            ])[windows]  # fmt: skip
            np.save(folder / ("inputs.npy" if len(room) > 1 else "ids.npy"), whole)
            names = {} if len(room) > 1 else self.names
            names = {i: names[i] for i in np.unique(whole).tolist() if i in names}
            if names:
                (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
        if self._forms:
            held = {"forms": [one.to_dict() for one in self._forms], "of": self._form_of}
            (folder / "given.json").write_text(json.dumps(held), encoding="utf-8")


def _chosen(
    blocks: Sequence[Shaped[ndarray, "unit _"]], windows: Int[ndarray, " window"]
) -> Shaped[ndarray, "unit window"]:
    """Some windows of what lies side by side, those of a unit one after another.

    A question reads a few units: indexing would leave the units of a window side by side, and each
    of them would be read off all pages of the file.
    """
    return np.concatenate(blocks, 1).take(windows, 1)


def _ranges(first: Int[ndarray, " row"], many: Int[ndarray, " row"]) -> Int[ndarray, " some"]:
    """So many numbers from each first on, one after another."""
    return np.repeat(first - (many.cumsum() - many), many) + np.arange(many.sum())


def _smallest(ids: Integer[ndarray, "row step"]) -> Any:
    """The smallest whole numbers that hold these ids."""
    low, high = (int(ids.min()), int(ids.max())) if ids.size else (0, 0)
    found = np.result_type(np.min_scalar_type(low), np.min_scalar_type(high))
    # numpy takes numbers below 0 beside some of 64 bits without a sign for floats, which round
    return found if found.itemsize < 8 else np.int64
