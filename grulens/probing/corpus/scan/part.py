"""One scanned part of a corpus on disk: an index of its steps, and what its signals did.

    00017/            written under another name, and renamed when it is whole
      part.json       what is in it, and how large each file is
      rows.npy        (row, 4): the input, where the row begins in it, its steps, its first window
      ids.npy         (window, 64): what was read at each step, if it was ids
      names.json      what each of these ids is called, if that is known
      labels.npy      (label, window): a bit a step, whether the label holds
      0/on.npy        (unit, window): a bit a step, whether the unit of layer 0 is on
      0/low.npy       (unit, window): its least value in the window
      0/high.npy      (unit, window): its largest
      0-h             statistics of a signal of layer 0

A window is 64 steps that follow one another in one row; a row's last one may hold fewer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Shaped, UInt64
from numpy import ndarray

from grulens.errors import FileError, ScanError
from grulens.probing.corpus.scan.place import Context, Place
from grulens.probing.corpus.scan.statistics import Statistics

#: The version of the format; a part of another one is refused.
FORMAT: Final = 1
WINDOW: Final = 64


def packed(on: Bool[ndarray, "row step unit"]) -> UInt64[ndarray, "unit row window"]:
    """A bit a step: the lowest of each word is the window's first.

    >>> packed(np.array([[[True], [False], [True]]]))
    array([[[5]]], dtype=uint64)
    """
    rows, steps, units = on.shape
    windows = -(-steps // WINDOW)
    whole = np.zeros((units, rows, windows * WINDOW), bool)
    whole[..., :steps] = on.transpose(2, 0, 1)
    words: ndarray = np.packbits(whole, axis=-1, bitorder="little").view("<u8")
    return words.astype(np.uint64, copy=False)


def unpacked(words: Shaped[ndarray, " window"]) -> Bool[ndarray, " step"]:
    """The bits of words, a bool a step.

    >>> np.flatnonzero(unpacked(np.array([5, 1], np.uint64)))
    array([ 0,  2, 64])
    """
    found: ndarray = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")
    return found.astype(bool)


def extremes(
    values: Float[ndarray, "row step unit"], mask: Bool[ndarray, "row step"]
) -> tuple[Float[ndarray, "unit row window"], Float[ndarray, "unit row window"]]:
    """The least and the largest value of each window; inf and -inf where it has no step.

    Args:
        values: (row, step, unit).
        mask: (row, step), False where there is no step.
    """
    rows, steps, units = values.shape
    windows = -(-steps // WINDOW)
    ends = []
    for worst, pick in ((np.float32(np.inf), np.minimum), (np.float32(-np.inf), np.maximum)):
        whole = values
        if steps % WINDOW or not mask.all():
            whole = np.full((rows, windows * WINDOW, units), worst, np.float32)
            whole[:, :steps] = np.where(mask[..., None], values, worst)
        found = pick.reduce(whole.reshape(rows, windows, WINDOW, units), axis=2)
        ends.append(np.ascontiguousarray(found.transpose(2, 0, 1)))
    return ends[0], ends[1]


class Writer:
    """Collects the runs of one part, and writes them as a folder: whole or not at all.

    Args:
        layers: how many layers are scanned.
    """

    def __init__(self, layers: int) -> None:
        self._rows: list[Int[ndarray, "row 4"]] = []
        self._windows = 0
        self._ids: list[Integer[ndarray, "window 64"]] = []
        self._labels: list[UInt64[ndarray, "label window"]] = []
        self.names: dict[int, str] = {}
        self._index: list[dict[str, list[ndarray]]] = [
            {"on": [], "low": [], "high": []} for _ in range(layers)
        ]
        self.statistics: dict[tuple[int, str], Statistics] = {}

    def rows(
        self,
        documents: Sequence[int],
        starts: Sequence[int],
        lengths: Sequence[int],
        steps: int,
        ids: Integer[ndarray, "row step"] | None,
        labels: Sequence[Bool[ndarray, "row step"]],
    ) -> None:
        """Add the rows of one run.

        Args:
            documents: which input of the part each row is from.
            starts: at which step of it.
            lengths: how many steps each row has.
            steps: how many steps the run has, its longest row's at least.
            ids: (row, step) or None.
            labels: (row, step), a bool a step; False where there is no step.
        """
        windows = -(-steps // WINDOW)
        count = len(documents)
        first = self._windows + np.arange(count) * windows
        self._rows.append(np.stack([documents, starts, lengths, first], 1).astype(np.int64))
        self._windows += count * windows
        if ids is not None:
            whole = np.zeros((count, windows * WINDOW), _smallest(ids))
            whole[:, :steps] = ids
            self._ids.append(whole.reshape(-1, WINDOW))
        if labels:
            words = packed(np.stack(labels, -1))
            self._labels.append(words.reshape(len(labels), -1))

    def layer(
        self,
        number: int,
        values: Float[ndarray, "row step unit"],
        mask: Bool[ndarray, "row step"],
        on: Bool[ndarray, "row step unit"],
    ) -> None:
        """Add what one layer did in the run whose rows were added last."""
        low, high = extremes(values, mask)
        kept = self._index[number]
        for name, found in (("on", packed(on)), ("low", low), ("high", high)):
            kept[name].append(found.reshape(len(found), -1))

    def count(self, number: int, statistics: Statistics) -> None:
        """Add what one signal of a layer did."""
        key = number, statistics.signal
        known = self.statistics.get(key)
        self.statistics[key] = statistics if known is None else known + statistics

    def unnamed(self) -> Integer[ndarray, " id"]:
        """The ids that have no name by now."""
        none = np.zeros(0, np.int64)
        found = np.unique(np.concatenate([none, *(np.unique(ids) for ids in self._ids)]))
        return found[~np.isin(found, list(self.names))]

    def write(self, place: Path) -> None:
        """Write the part, unless it is there by now.

        Raises:
            ScanError: the disk is full, or cannot be written to; nothing of the part is left.
        """
        making = place.with_name(f".{place.name}-{os.getpid()}-{uuid4().hex[:8]}")
        try:
            making.mkdir(parents=True)
            self._write(making)
            making.rename(place)
        except OSError as error:
            if not place.is_dir():  # another worker may have written the same part meanwhile
                raise ScanError(
                    f"part {place.name} cannot be written to {place.parent}: "
                    f"{error.strerror or error}; the parts that are there stay as they are: make "
                    "room, and scan again"
                ) from error
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _in_order(self) -> tuple[Int[ndarray, "row 4"], Int[ndarray, " window"]]:
        """The rows in the order of the corpus, not of the runs, and the windows in that order."""
        rows = np.concatenate([np.zeros((0, 4), np.int64), *self._rows])
        windows = np.diff(rows[:, 3], append=self._windows)
        order = np.lexsort((rows[:, 1], rows[:, 0]))
        rows, windows = rows[order], windows[order]
        last = windows.cumsum()
        # where each window was: as far from its row's first as it will be
        was = np.repeat(rows[:, 3] - (last - windows), windows) + np.arange(self._windows)
        rows[:, 3] = last - windows
        return rows, was

    def _write(self, folder: Path) -> None:
        rows, order = self._in_order()
        np.save(folder / "rows.npy", rows)
        if self._ids:
            kind = np.result_type(*self._ids)
            ids = np.concatenate(self._ids).astype(kind)[order]
            np.save(folder / "ids.npy", ids)
            names = {i: self.names[i] for i in np.unique(ids).tolist() if i in self.names}
            if names:
                (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
        if self._labels:
            np.save(folder / "labels.npy", np.concatenate(self._labels, 1)[:, order])
        for number, index in enumerate(self._index):
            (folder / str(number)).mkdir()
            for name, blocks in index.items():
                if blocks:  # a part whose inputs are all empty has none
                    np.save(
                        folder / str(number) / f"{name}.npy", np.concatenate(blocks, 1)[:, order]
                    )
        for (number, signal), statistics in self.statistics.items():
            statistics.save(folder / f"{number}-{signal}")
        sizes = {
            str(file.relative_to(folder)): file.stat().st_size
            for file in sorted(folder.rglob("*")) if file.is_file()
        }  # fmt: skip
        head = {"format": FORMAT, "windows": self._windows, "sizes": sizes}
        (folder / "part.json").write_text(json.dumps(head), encoding="utf-8")


@dataclass(frozen=True)
class Part:
    """A scanned part on disk.

    Attributes:
        place: its folder.
    """

    place: Path

    @property
    def number(self) -> int:
        """Its place in the corpus."""
        return int(self.place.name)

    def check(self) -> None:
        """Look whether all of it is there.

        Raises:
            ScanError: it is of another version, or a file of it is missing or cut short.
        """
        if not self.place.exists():
            raise ScanError(
                f"part {self.place.name} of {self.place.parent.parent} is not there: scan again, "
                "the other parts stay"
            )
        try:
            head = json.loads((self.place / "part.json").read_text(encoding="utf-8"))
            version = head["format"]
            sizes, _ = (head["sizes"].items(), head["windows"]) if version == FORMAT else ((), 0)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(f"part.json cannot be read ({error})") from error
        if version != FORMAT:
            raise self._damaged(
                f"it was written in format {version}, and this version of grulens reads {FORMAT}"
            )
        for name, size in sizes:
            file = self.place / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                is_now = "is missing" if found is None else f"has {found:,} bytes"
                raise self._damaged(f"{name} {is_now}, it was written with {size:,}")

    @cached_property
    def rows(self) -> Int[ndarray, "row 4"]:
        """(row, 4): the input, where the row begins in it, its steps, its first window."""
        return self._array("rows.npy")

    @cached_property
    def ids(self) -> Integer[ndarray, "window 64"] | None:
        """What was read at each step, if it was ids."""
        return self._array("ids.npy") if (self.place / "ids.npy").exists() else None

    @cached_property
    def names(self) -> dict[int, str]:
        """What each id is called, as far as that is known."""
        place = self.place / "names.json"
        if not place.exists():
            return {}
        with self._read():
            return {int(i): str(n) for i, n in json.loads(place.read_text("utf-8")).items()}

    def labelled(self, label: int) -> Int[ndarray, " window"]:
        """At how many steps of each window a label holds."""
        words = self.labels
        if words is None:
            return np.zeros(self.windows, np.int64)
        many: ndarray = np.bitwise_count(words[label]).astype(np.int64)
        return many

    def place_of(self, window: int, start: int = 0, stop: int | None = None) -> Place:
        """The place of some steps of a window, counted from its first."""
        row = self.row_of(window)
        begin = (window - int(self.rows[row, 3])) * WINDOW
        last = int(self.lengths[window]) if stop is None else stop
        return self.in_row(row, begin + start, begin + last)

    def in_row(self, row: int, start: int, stop: int) -> Place:
        """The place of some steps of a row, counted from its first."""
        document, offset = self.rows[row, :2].tolist()
        # rows of one input that begin at one step of it are those of a batch
        same = (self.rows[:row, :2] == [document, offset]).all(1)
        return Place(self.number, row, document, offset, start, stop, int(same.sum()))

    def context(
        self, place: Place, labels: Sequence[str], values: Sequence[float] | None = None
    ) -> Context:
        """What stands at a place of this part.

        Args:
            place: the place.
            labels: the names of the labels.
            values: a number for each of its steps.
        """
        first = int(self.rows[place.row, 3])
        windows = slice(first + place.start // WINDOW, first + -(-place.stop // WINDOW))
        inside = slice(place.start % WINDOW, place.start % WINDOW + place.stop - place.start)
        tokens = None
        if self.ids is not None:
            read = self.ids[windows].reshape(-1)[inside].tolist()
            tokens = tuple(self.names.get(i, str(i)) for i in read)
        hold = () if self.labels is None else self.labels[:, windows]
        there = tuple(
            name for name, words in zip(labels, hold, strict=False) if unpacked(words)[inside].any()
        )
        return Context(place, tokens, there, None if values is None else tuple(values))

    @cached_property
    def labels(self) -> UInt64[ndarray, "label window"] | None:
        """A bit a step, whether a label holds; None where there are no labels."""
        return self._array("labels.npy") if (self.place / "labels.npy").exists() else None

    def index(self, layer: int, name: str) -> Shaped[ndarray, "unit window"]:
        """One array of a layer: "on", "low" or "high"."""
        return self._array(f"{layer}/{name}.npy")

    def statistics(self, layer: int, signal: str) -> Statistics:
        """What one signal of a layer did."""
        with self._read():
            return Statistics.load(self.place / f"{layer}-{signal}")

    @cached_property
    def lengths(self) -> Int[ndarray, " window"]:
        """How many steps each window holds."""
        found = np.zeros(self.windows, np.int64)
        for _, _, steps, first in self.rows.tolist():
            whole, rest = divmod(steps, WINDOW)
            found[first : first + whole] = WINDOW
            if rest:
                found[first + whole] = rest
        return found

    @cached_property
    def windows(self) -> int:
        """How many windows there are."""
        return int(json.loads((self.place / "part.json").read_text(encoding="utf-8"))["windows"])

    def row_of(self, window: int) -> int:
        """The row that a window is in."""
        return int(np.searchsorted(self.rows[:, 3], window, side="right")) - 1

    def _array(self, name: str) -> ndarray:
        with self._read():
            found: ndarray = np.load(self.place / name, mmap_mode="r", allow_pickle=False)
            return found

    @contextmanager
    def _read(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, FileError) as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> ScanError:
        return ScanError(
            f"part {self.place.name} of {self.place.parent.parent} is not whole: {why}. Delete "
            f"{self.place} and scan again: the other parts stay"
        )


def _smallest(ids: Integer[ndarray, "row step"]) -> Any:
    """The smallest whole numbers that hold these ids."""
    low, high = (int(ids.min()), int(ids.max())) if ids.size else (0, 0)
    return np.result_type(np.min_scalar_type(low), np.min_scalar_type(high))
