"""One scanned part of a corpus on disk: an index of its steps, and what its signals did.

    00017/            written under another name, and renamed when it is whole
      part.json       what is in it, how large each file is, and checksums, its own too
      rows.npy        (row, 4): the input, where the row begins in it, its steps, its first window
      ids.npy         (window, 64): what was read at each step, if it was ids
      names.json      what each of these ids is called, if that is known
      inputs.npy      (window, 64, number): what stood at each step, if it was a few numbers
      given.json      how inputs were given to the model, where it was not by their ids alone
      labels.npy      (label, window): a bit a step, whether the label holds
      0/on.npy        (unit, window): a bit a step, whether the unit of layer 0 is on
      0/low.npy       (unit, window): its least value in the window
      0/high.npy      (unit, window): its largest
      0/furthest.npy  (unit, label, end, k): how far it goes in the windows where it goes furthest
                      under a label that holds at some of their steps, high first; where there are
                      so few windows that k would be 0, there is none
      0/furthest_at.npy  the same: which windows these are, -1 for none
      0/anchors.npy   (anchor, state): the states after every 256th step of a row that goes on
      0-h             statistics of a signal of layer 0

A window is 64 steps that follow one another in one row; a row's last one may hold fewer.

What says where rows are is compared with its checksum when a part is opened, and all else when it
is first read. The index of a layer has a checksum for each unit (and each kept state), for a
question reads a few of them, and not the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Shaped, UInt64
from numpy import ndarray
from torch import Tensor

from grulens.errors import ScanError
from grulens.probing.corpus.scan.given import IDS, KEPT, Form
from grulens.probing.corpus.scan.place import Context, Place
from grulens.probing.corpus.scan.statistics import Statistics
from grulens.words import Say, english

#: The version of the format; a part of another one is refused.
FORMAT: Final = 1
WINDOW: Final = 64
#: After so many steps of a row the states are kept.
ANCHOR: Final = 256
#: So far past its bounds a value may lie by rounding.
ROUNDING: Final = 1e-5
#: What a part is opened by.
FIRST: Final = ("rows.npy", "given.json", "names.json")


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


def anchors_of(steps: Int[ndarray, " row"]) -> Int[ndarray, " row"]:
    """How many states are kept of rows of so many steps.

    >>> anchors_of(np.array([0, 256, 257, 600]))
    array([0, 0, 1, 2])
    """
    many: ndarray = np.maximum(steps - 1, 0) // ANCHOR
    return many


def checksum(file: Path) -> int:
    """The checksum of a file: CRC-32, by which damage is told, and no intent."""
    found = 0
    with file.open("rb") as held:
        while piece := held.read(1 << 20):
            found = crc32(piece, found)
    return found


def checksums(file: Path) -> list[int]:
    """Those of an array on disk: of what says its shape, and of each entry of its first axis."""
    held = np.load(file, mmap_mode="r", allow_pickle=False)
    return [_headed(file, held), *(_sum(one) for one in np.asarray(held))]


def _headed(file: Path, held: Any) -> int:
    """The checksum of what stands in a file before the numbers of an array."""
    with file.open("rb") as opened:
        return crc32(opened.read(held.offset))


def _sum(one: Shaped[ndarray, "*axes"]) -> int:
    return crc32(np.ascontiguousarray(one).data)


def own_sum(head: Mapping[str, Any]) -> int:
    """The checksum of what `part.json` says, which stands in it, too."""
    return crc32(json.dumps({name: one for name, one in head.items() if name != "sum"}).encode())


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
        # of two zeros either may be the least; + 0 makes it the one without a sign
        ends.append(np.ascontiguousarray(found.transpose(2, 0, 1)) + np.float32(0))
    return ends[0], ends[1]


def digest(held: Any) -> str:
    """A hash of arrays, or of sequences of them by name; a list of bools is what an array is.

    >>> digest({"a": [True, False]}) == digest({"a": np.array([True, False])})
    True
    >>> digest({"a": [True]}) == digest({"a": [[True]]})
    False
    """
    found = sha256()

    def add(one: Any) -> None:
        if isinstance(one, Mapping):
            for name in sorted(one):
                found.update(f"{name}:".encode())
                add(one[name])
            return
        with suppress(Exception):
            plain = np.asarray(one.cpu() if isinstance(one, Tensor) else one)
            if plain.dtype != object:
                found.update(f"{plain.shape}".encode() + plain.tobytes())
                return
        for each in one if isinstance(one, list | tuple) else ():
            found.update(b"[")
            add(each)

    add(held)
    return found.hexdigest()


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
        if version == FORMAT and head.get("sum", own_sum(head)) != own_sum(head):
            raise self._changed("part.json")
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
        with self._read():
            for name in FIRST:
                self._compare(name, head)

    def _compare(self, name: str, head: Any = None) -> None:
        """Compare a file with its checksum; a part of before has none.

        Raises:
            ScanError: it has changed since it was written.
        """
        sums = (self._head if head is None else head).get("sums", {})
        file = self.place / name
        if name in sums and file.exists() and checksum(file) != sums[name]:
            raise self._changed(name)

    def check_labels(self, held: Mapping[str, Any]) -> None:
        """Compare the labels that are given with the part with those that it was scanned with.

        Raises:
            ScanError: they are others.
        """
        try:
            head = json.loads((self.place / "part.json").read_text(encoding="utf-8"))
            then = head.get("labels")
        except (OSError, ValueError, AttributeError):
            return  # it is damaged, which is said where it is read
        if then and then != digest(held):
            raise ScanError(
                f"part {self.number} of {self.place.parent.parent} was scanned with other labels "
                f"than are given now ({', '.join(held)}): scan into another folder"
            )

    @cached_property
    def rows(self) -> Int[ndarray, "row 4"]:
        """(row, 4): the input, where the row begins in it, its steps, its first window."""
        return self._array("rows.npy")

    @cached_property
    def ids(self) -> Integer[ndarray, "window 64"] | None:
        """What was read at each step, if it was ids."""
        return self._array("ids.npy") if (self.place / "ids.npy").exists() else None

    @cached_property
    def inputs(self) -> Shaped[ndarray, "window 64 number"] | None:
        """What stood at each step, if it was a few numbers."""
        return self._array("inputs.npy") if (self.place / "inputs.npy").exists() else None

    @cached_property
    def _forms(self) -> tuple[list[Form], dict[int, int]]:
        """How inputs were given to the model, and which of these ways each input."""
        place = self.place / "given.json"
        if not place.exists():
            return [], {}
        with self._read():
            held = json.loads(place.read_text("utf-8"))
            forms = [Form.from_dict(one) for one in held["forms"]]
            return forms, {int(document): number for document, number in held["of"].items()}

    def form(self, row: int) -> Form:
        """How the input that a row is from was given to the model."""
        forms, of = self._forms
        number = of.get(int(self.rows[row, 0]))
        return IDS if number is None else forms[number]

    def batch_row(self, row: int) -> int:
        """Which row of its input a row is."""
        return int(self._batch_rows[row])

    def read(self, row: int, start: int, stop: int) -> Shaped[ndarray, "step ..."] | None:
        """What stands at some steps of a row (step, ...), ids or numbers; None: not kept."""
        held = self.inputs if self.ids is None else self.ids
        if held is None or not self.form(row).reads:
            return None
        first = int(self.rows[row, 3])
        windows = held[first + start // WINDOW : first + -(-stop // WINDOW)]
        begin = start % WINDOW
        return windows.reshape(-1, *held.shape[2:])[begin : begin + stop - start]

    def again(self, row: int, start: int, stop: int) -> Shaped[ndarray, "step ..."]:
        """The same, to be given to the model again.

        Raises:
            ScanError: it is not kept, or something else is not that the model took.
        """
        found, why = self.read(row, start, stop), self.lost(row)
        if found is None or why:
            raise ScanError(
                f"{why}: record(model, ...) input {int(self.rows[row, 0])} of it itself"
            )
        return found

    def lost(self, row: int, say: Say = english) -> str:
        """Why a row cannot be given to the model again, in words; "" where it can."""
        form = self.form(row)
        if not form.reads or (self.ids is None and self.inputs is None):
            return say(
                "the inputs of part {part} were no ids and not up to {most} numbers at each step "
                "of rows that can be told from steps, and are not kept",
                part=self.number, most=KEPT,
            )  # fmt: skip
        if form.lost:
            return say(
                "of what the model took in part {part} not all is kept ({what})",
                part=self.number, what=form.lost,
            )  # fmt: skip
        return ""

    @cached_property
    def names(self) -> dict[int, str]:
        """What each id is called, as far as that is known."""
        place = self.place / "names.json"
        if not place.exists():
            return {}
        with self._read():
            return {int(i): str(n) for i, n in json.loads(place.read_text("utf-8")).items()}

    @cached_property
    def positives(self) -> Int[ndarray, " label"]:
        """At how many steps each label holds."""
        if self.labels is None:
            return np.zeros(0, np.int64)
        many: ndarray = np.bitwise_count(self.labels).sum(1, dtype=np.int64)
        return many

    def holds(self, label: int) -> UInt64[ndarray, " window"]:
        """A bit a step, whether a label holds."""
        words = self.labels
        return np.zeros(self.windows, np.uint64) if words is None else words[label]

    def place_of(self, window: int, start: int = 0, stop: int | None = None) -> Place:
        """The place of some steps of a window, counted from its first."""
        row = self.row_of(window)
        begin = (window - int(self.rows[row, 3])) * WINDOW
        last = int(self.lengths[window]) if stop is None else stop
        return self.in_row(row, begin + start, begin + last)

    def in_row(self, row: int, start: int, stop: int) -> Place:
        """The place of some steps of a row, counted from its first."""
        document, offset = self.rows[row, :2].tolist()
        return Place(self.number, row, document, offset, start, stop, int(self._batch_rows[row]))

    @cached_property
    def _batch_rows(self) -> Int[ndarray, " row"]:
        """Which row of its input each is: those that begin at one step of it are a batch."""
        number = np.arange(len(self.rows))
        begins = np.ones(len(number), bool)
        begins[1:] = (np.diff(self.rows[:, :2], axis=0) != 0).any(1)
        found: ndarray = number - np.maximum.accumulate(np.where(begins, number, 0))
        return found

    def around(self, place: Place) -> tuple[slice, slice]:
        """The windows that a place lies in, and where its steps are in these."""
        first = int(self.rows[place.row, 3])
        windows = slice(first + place.start // WINDOW, first + -(-place.stop // WINDOW))
        return windows, slice(place.start % WINDOW, place.start % WINDOW + place.stop - place.start)

    def context(
        self, place: Place, labels: Sequence[str], values: Sequence[float] | None = None
    ) -> Context:
        """What stands at a place of this part.

        Args:
            place: the place.
            labels: the names of the labels.
            values: a number for each of its steps.
        """
        windows, inside = self.around(place)
        tokens = None
        if self.ids is not None and self.form(place.row).reads:
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

    def index(
        self, layer: int, name: str, units: Iterable[int] | None = None
    ) -> Shaped[ndarray, "unit window"]:
        """One array of a layer: "on", "low" or "high".

        Args:
            layer: the number of the layer.
            name: which.
            units: which of its units are asked for, to be compared with their checksums, each once;
                None is all.

        Raises:
            ScanError: one has changed since it was written.
        """
        found = self.unchecked(layer, name)
        self._compare_rows(f"{layer}/{name}.npy", range(len(found)) if units is None else units)
        return found

    def unchecked(self, layer: int, name: str) -> Shaped[ndarray, "unit window"]:
        """The same, for a few windows of all units: they are not compared with their checksums."""
        return self._array(f"{layer}/{name}.npy")

    def furthest(
        self, layer: int, prefix: str, unit: int
    ) -> tuple[Float[ndarray, "label 2 kept"], Int[ndarray, "label 2 kept"]] | None:
        """How far a unit goes where it goes furthest under each label, and in which windows.

        Args:
            layer: the number of the layer.
            prefix: "" of units, "direction_" of directions.
            unit: which.

        Returns:
            None where that was not kept: the part is short, or was made before.

        Raises:
            ScanError: it has changed since it was written.
        """
        far, at = f"{layer}/{prefix}furthest.npy", f"{layer}/{prefix}furthest_at.npy"
        if far not in self._head["sizes"]:
            return None
        for name in (far, at):
            self._compare_rows(name, [unit])
        return self._array(far)[unit], self._array(at)[unit]

    def anchor(self, layer: int, row: int, number: int) -> Float[ndarray, " state"]:
        """The states of a layer that were kept of a row, number 1 being the first."""
        name, at = f"{layer}/anchors.npy", int(self._anchors[row]) + number - 1
        found: ndarray = self._array(name)[at]
        self._compare_rows(name, [at])
        return found

    @cached_property
    def _anchors(self) -> Int[ndarray, " row"]:
        """How many states are kept of the rows before each."""
        many = anchors_of(self.rows[:, 2])
        found: ndarray = many.cumsum() - many
        return found

    def sum_of(self, name: str) -> tuple[int, int] | None:
        """The size and the checksum that a file was written with; None of a part of before."""
        sums = self._head.get("sums", {})
        return (self._head["sizes"][name], sums[name]) if name in sums else None

    def statistics(self, layer: int, signal: str) -> Statistics:
        """What one signal of a layer did."""
        with self._read():
            self._compare(f"{layer}-{signal}")
            return Statistics.load(self.place / f"{layer}-{signal}")

    @cached_property
    def lengths(self) -> Int[ndarray, " window"]:
        """How many steps each window holds."""
        rows = self.rows
        many = np.diff(rows[:, 3], append=self.windows)
        left = np.repeat(rows[:, 2] + WINDOW * rows[:, 3], many) - WINDOW * np.arange(self.windows)
        found: ndarray = left.clip(0, WINDOW)
        return found

    @cached_property
    def follows(self) -> Bool[ndarray, " window"]:
        """Whether a window goes on from the one before it, in the same row."""
        found = np.ones(self.windows, bool)
        found[self.rows[:, 3]] = False
        return found

    @cached_property
    def windows(self) -> int:
        """How many windows there are."""
        return int(self._head["windows"])

    @cached_property
    def _head(self) -> Any:
        """What `part.json` says."""
        return json.loads((self.place / "part.json").read_text(encoding="utf-8"))

    def row_of(self, window: int) -> int:
        """The row that a window is in."""
        return int(np.searchsorted(self.rows[:, 3], window, side="right")) - 1

    def _array(self, name: str) -> ndarray:
        if name not in self._open:
            with self._read():
                if name not in self._sums:
                    self._compare(name)
                mapped = np.load(self.place / name, mmap_mode="r", allow_pickle=False)
                if name in self._sums and _headed(self.place / name, mapped) != self._sums[name][0]:
                    raise self._changed(name)
                self._open[name] = np.asarray(mapped)  # a memmap's own slices take long to make
        return self._open[name]

    def _compare_rows(self, name: str, rows: Iterable[int]) -> None:
        """Compare entries of an array with their checksums, each once.

        Raises:
            ScanError: one has changed since it was written.
        """
        held = self._array(name)
        if name not in self._sums:  # a part of before has one checksum of all of it
            return
        seen = self._compared.setdefault(name, set())
        for row in rows:
            if row not in seen and _sum(held[row]) != self._sums[name][1 + row]:
                raise self._changed(name)
            seen.add(row)

    @cached_property
    def _sums(self) -> dict[str, list[int]]:
        """The checksums of the arrays that are read a few entries at a time."""
        found: dict[str, list[int]] = self._head.get("units", {})
        return found

    @cached_property
    def _compared(self) -> dict[str, set[int]]:
        """The entries of each array that were compared with their checksums."""
        return {}

    @cached_property
    def _open(self) -> dict[str, ndarray]:
        """The arrays that were asked for: they stay on disk, and a part never changes."""
        return {}

    @contextmanager
    def _read(self) -> Iterator[None]:
        try:
            yield
        except ScanError:
            raise
        except MemoryError:
            raise
        except Exception as error:  # numpy takes a damaged head for Python, which raises anything
            raise self._damaged(str(error)) from error

    def _changed(self, name: str) -> ScanError:
        return self._damaged(f"{name} has changed since it was written: its checksum is another")

    def _damaged(self, why: str) -> ScanError:
        return ScanError(
            f"part {self.place.name} of {self.place.parent.parent} is not whole: {why}. Delete "
            f"{self.place} and scan again: the other parts stay"
        )
