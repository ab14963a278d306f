"""Run a model over a whole corpus once, and keep an index to ask afterwards, not the states.

The states of ten million steps fill a disk; what is asked of them is a few hundred moments. So a
scan keeps, for each unit, a bit a step (is it on?), its least and largest value in every window of
64 steps, and statistics that add up. What else is wanted is made again by a run of the row that it
is in: `Scan.replay`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import chain
from operator import add, length_hint
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from grulens.arguments import Decode, Encode, Integer, LayerName, LayerNames, MethodName, Number
from grulens.errors import ScanError, shown
from grulens.job import Job, tell
from grulens.models.adapters.closed import look
from grulens.models.record import record
from grulens.models.recording import Recording
from grulens.models.restore.mode import evaluated
from grulens.probing.coder import Coder
from grulens.probing.corpus.scan.manifest import NAME, Manifest, weights_of
from grulens.probing.corpus.scan.match import Match, matches
from grulens.probing.corpus.scan.part import Part
from grulens.probing.corpus.scan.place import Place
from grulens.probing.corpus.scan.scan_part import manifest_of, numbers, scan_part
from grulens.probing.corpus.scan.sequences import LabelRule, Reader, Run
from grulens.probing.corpus.scan.statistics import Statistics
from grulens.probing.corpus.scan.top import Top, top
from grulens.tables import html_table

#: A state above this is on, unless another value is given.
ON: Final = 0.3
PARTS: Final = "parts"


class Scan:
    """A scanned corpus on disk.

    Attributes:
        path: its folder.
        manifest: what it was made with.
        parts: its parts, in the order of the corpus, without those that hold no step.
        model: the model, for `replay`, or None.
        missing: the parts that cannot be read, or are not there while later ones are, and why; they
            are left out of all answers.

    >>> from tempfile import TemporaryDirectory
    >>> model = nn.GRU(3, 4, batch_first=True)
    >>> with TemporaryDirectory() as folder:
    ...     done = scan(model, [torch.rand(2, 100, 3) for _ in range(3)], f"{folder}/s.grulens")
    ...     print(done)
    ...     print(done.stats().mean.shape, len(done.top(1, k=5).places))
    Scan(3 parts, 600 steps, l0)
    torch.Size([4]) 5
    """

    def __init__(self, path: Path, model: nn.Module | None = None) -> None:
        self.path, self.model = path, model
        self.manifest = Manifest.read(path)
        if model is not None:
            look(model)
        if model is not None and weights_of(model) != self.manifest.weights:
            raise ScanError(
                f"{path} is a scan of another model than this, or of other weights: a "
                f"{self.manifest.model}. Open it without a model, or with the one it was made of"
            )
        self.parts: tuple[Part, ...] = ()
        self.missing: dict[int, str] = {}
        there = [int(one.name) for one in (path / PARTS).glob("[0-9]" * 6)]
        for number in range(max(there, default=-1) + 1):
            part = Part(path / PARTS / f"{number:06d}")
            try:
                part.check()
            except ScanError as error:
                self.missing[part.number] = str(error)
            else:
                self.parts += (part,) if part.windows else ()
        if self.missing:
            numbers = ", ".join(map(str, self.missing))
            warnings.warn(
                f"{len(self.missing)} of {len(self.parts) + len(self.missing)} parts of {path} "
                f"cannot be read and are left out of every answer ({numbers}): "
                f"{next(iter(self.missing.values()))}",
                stacklevel=2,
            )
        self._statistics: dict[tuple[int, str], Statistics] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the scanned layers."""
        return tuple(layer.name for layer in self.manifest.layers)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels."""
        return self.manifest.labels

    @property
    def steps(self) -> int:
        """How many steps were scanned."""
        return sum(int(part.rows[:, 2].sum()) for part in self.parts)

    def stats(self, layer: LayerName = None, signal: str = "h") -> Statistics:
        """What one signal of a layer did over the corpus.

        Args:
            layer: its name; None is the only layer, or the last.
            signal: "h", or a gate if the scan counted gates.

        Raises:
            ScanError: it was not scanned.
        """
        number = self.manifest.layer(layer)
        names = [one.name for one in self.manifest.layers[number].signals]
        if not isinstance(signal, str) or signal not in names:
            raise ScanError(
                f"signal {shown(signal)} of layer {self.layers[number]!r} was not counted; what "
                f"was is {', '.join(names)}. Gates are counted by scan(..., gates=True)"
            )
        key = number, signal
        if key not in self._statistics:
            self._check_any()
            each = (part.statistics(number, signal) for part in self.parts)
            self._statistics[key] = reduce(add, each)
        return self._statistics[key]

    def top(
        self,
        unit: Integer,
        k: Integer = 20,
        *,
        layer: LayerName = None,
        where: str | None = None,
        end: str = "high",
    ) -> Top:
        """The windows in which a unit goes furthest.

        A window is 64 steps of one row. Of two windows with the same value the one that comes first
        in the corpus is first; so the answer is the same however the corpus was scanned.

        Args:
            unit: the unit.
            k: how many windows.
            layer: the layer; None is the only one, or the last.
            where: a label: only the steps where it holds are looked at. Where it holds at some
                steps of a window, the row is run again, which takes the model.
            end: "high" or "low".

        Raises:
            ScanError: no such unit, label, layer or end.
        """
        self._check_any()
        number = self.manifest.layer(layer)
        label = None if where is None else self._label(where)
        name, runs = self.layers[number], dict[tuple[int, int], ndarray]()

        def replay(place: Place) -> Float[ndarray, "step unit"]:
            key = place.part, place.row
            if key not in runs:
                runs[key] = numbers(self.replay(place)[name].h)[0]
            return runs[key]

        return top(self.parts, self.manifest, number, unit, k, label, end, replay)

    def match(
        self,
        units: Sequence[int],
        length: Integer = 5,
        *,
        at_least: Integer | None = None,
        layer: LayerName = None,
        limit: Integer = 1000,
    ) -> Match:
        """Where these units are on together for so many steps.

        Args:
            units: two or more units, or one.
            length: for how many steps on end, 1 to 64.
            at_least: how many of the units must be on at each of these steps; None is all.
            layer: the layer; None is the only one, or the last.
            limit: how many places are kept, those with the most units first; all are counted.

        Raises:
            ScanError: no such unit or layer, or a number that makes no sense.
        """
        self._check_any()
        number = self.manifest.layer(layer)
        return matches(self.parts, self.manifest, number, units, length, at_least, limit)

    def replay(self, place: Place) -> Recording:
        """Run the row that a place is in again, from its first step, by itself.

        The states are those of the scan to about 1e-5: torch rounds another way for another number
        of rows. Steps are counted from the row's first.

        Args:
            place: one of `top(...).places` or `match(...).places`.

        Raises:
            ScanError: there is no model, or the corpus was not one of ids.
        """
        if self.model is None:
            raise ScanError(f"a replay runs the model: open_scan({str(self.path)!r}, model)")
        part = self._part(place)
        if part.ids is None:
            raise ScanError(
                "the inputs of this scan were no ids, and are not kept: record(model, ...) the "
                f"input {place.document} of part {place.part} itself"
            )
        _, _, steps, first = part.rows[place.row].tolist()
        ids = part.ids[first:].reshape(-1)[:steps]
        with evaluated(self.model):
            return record(self.model, torch.from_numpy(ids.astype(np.int64))[None])

    def _part(self, place: Any) -> Part:
        """The part that a place is in."""
        if not isinstance(place, Place):
            raise ScanError(f"a place is one of a top's or a match's places, got {shown(place)}")
        whole = all(type(value) is int for value in vars(place).values())
        for part in self.parts if whole else ():
            there = part.number == place.part and 0 <= place.row < len(part.rows)
            if there and 0 <= place.start < place.stop <= int(part.rows[place.row, 2]):
                return part
        raise ScanError(f"this scan has no such place: {shown(place)}")

    def _label(self, name: Any) -> int:
        if not isinstance(name, str) or name not in self.labels:
            known = ", ".join(self.labels) or "none"
            raise ScanError(f"label {shown(name)} was not scanned; what was is {known}")
        return self.labels.index(name)

    def _check_any(self) -> None:
        if not self.parts:
            raise ScanError(f"{self.path} has no part yet that is whole: scan again")

    def __repr__(self) -> str:
        parts = f"{len(self.parts)} part{'' if len(self.parts) == 1 else 's'}"
        return f"Scan({parts}, {self.steps:,} steps, {', '.join(self.layers)})"

    def _repr_html_(self) -> str:
        head = ("layer", "kind", "unit", "counted", "labels")
        rows = [
            (one.name, one.kind, one.units, ", ".join(s.name for s in one.signals),
             ", ".join(self.labels))
            for one in self.manifest.layers
        ]  # fmt: skip
        return html_table(head, rows, repr(self))


def scan(
    model: nn.Module,
    parts: Iterable[Any] | Dataset[Any],
    out: str | os.PathLike[str],
    *,
    layers: LayerNames = None,
    labels: Mapping[str, LabelRule] | None = None,
    gates: bool = False,
    on: Number = ON,
    encode: Encode = None,
    decode: Decode = None,
    column: str | None = None,
    call: MethodName = None,
    steps: Integer = 2048,
    batch: Integer = 64,
    progress: bool = True,
) -> Scan:
    """Run a model over a corpus, in eval mode, and keep an index of what its units did.

    Ctrl-C keeps the parts that are done; the same call goes on with the others. A part is written
    whole or not at all, so nothing is lost by a process that is killed.

    Args:
        model: any module that `record` opens.
        parts: the pieces of the corpus; each is an input, a list of inputs, or a function that
            gives either or an iterator of inputs. An input is a text, a `Path` of a text file, a
            tensor of ids (step,), what the model itself takes (batch, step, ...), a tuple of
            several arguments, or a mapping; an empty text or tensor of ids holds no step.
            Each is some hundred thousand steps at best: small ones cost space, large ones memory. A
            batch of a `DataLoader` that has several columns is a tuple of arguments, too.
        out: the folder of the scan.
        layers: the names of the layers; None is all.
        labels: by name, a function from an input (its text, its ids (step,), or what it holds at
            each step (step, input)) to a bool for each step.
        gates: whether gates are counted, too; that takes about as long again.
        on: above which value a state counts as on.
        encode: from a text to ids; None is the model's own.
        decode: from ids to a text, to say what each was; None is the model's own. The names are
            kept with the scan.
        column: the name under which an input that is a mapping holds its text or its ids; None
            where a mapping holds the model's named arguments.
        call: the name of the method that is the run.
        steps: texts and ids are cut into rows of so many steps at most; each row begins with the
            state that the model itself begins with.
        batch: how many rows run side by side.
        progress: whether to show a progress bar.

    Raises:
        ScanError: the folder holds a scan that was made otherwise; an input, a label or a layer
            does not fit; or the disk is full.

    Warns:
        StoppedWarning: Ctrl-C came before all parts were done.
    """
    folder = _folder(out)
    look(model)
    rules = {} if labels is None else labels
    if not isinstance(rules, Mapping) or not all(
        isinstance(name, str) and callable(rule) for name, rule in rules.items()
    ):
        raise ScanError(
            "labels must be functions by name, such as {'upper': lambda text: ...}; got "
            f"{shown(labels)}"
        )
    if column is not None and not isinstance(column, str):
        raise ScanError(f"column must be the name of a column, got {shown(column)}")
    reader = Reader(
        Coder.of(model, encode, decode, None), dict(rules),
        _number(steps, "steps"), _number(batch, "batch"), column,
    )  # fmt: skip
    every = _each(parts)
    job: Job[Scan] = Job("scan", "part", length_hint(parts))
    with evaluated(model):
        begun, run = _begun(every, reader)
        manifest = manifest_of(model, run, reader, layers, gates, on, call)
        _make(folder / PARTS)
        if (folder / NAME).exists():
            Manifest.read(folder).check(manifest, folder)
        else:
            manifest.write(folder)
        with job.watched(bar=progress):
            for number, part in enumerate(chain(begun, every)):
                place = folder / PARTS / f"{number:06d}"
                if not place.exists():
                    scan_part(model, part, place, reader, manifest, call)
                job.advance()
            job.total = job.done  # of an iterator, it is known only now
    if job.note or not job.done:
        tell("the scan", job.note or "stopped before a part was done")
    return Scan(folder, model)


def open_scan(path: str | os.PathLike[str], model: nn.Module | None = None) -> Scan:
    """Open a scan that is on disk.

    Args:
        path: its folder.
        model: the model that was scanned, for `replay`; everything else works without it.

    Raises:
        ScanError: there is no scan, or it is of another model.

    Warns:
        UserWarning: a part cannot be read; it is left out.
    """
    return Scan(_folder(path), model)


def _folder(path: Any) -> Path:
    """The folder of a scan."""
    if not isinstance(path, str | os.PathLike) or "\0" in str(path) or not str(path).strip():
        raise ScanError(f"a scan is a folder, a str or a Path; got {shown(path)}")
    return Path(path)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, UnicodeError) as error:
        raise ScanError(f"{shown(str(folder))} cannot be made: {shown(str(error))}") from error


def _each(parts: Any) -> Iterator[Any]:
    """The parts, one after another."""
    words = (
        "parts must be a sequence of the parts of a corpus, each an input, a list of inputs or a "
        f"function that gives them; got {shown(parts)}"
    )
    if isinstance(parts, str | bytes | Mapping | os.PathLike | Tensor):
        raise ScanError(words)
    if isinstance(parts, DataLoader):  # what it gives as a list are the columns of a batch
        return (tuple(one) if isinstance(one, list) else one for one in parts)
    try:
        if not isinstance(parts, Iterable):  # a data set need not say where it ends but by len()
            return map(parts.__getitem__, range(len(parts)))
        return iter(parts)
    except Exception as error:
        raise ScanError(words) from error


def _begun(parts: Iterator[Any], reader: Reader) -> tuple[list[Any], Run]:
    """The parts up to the first that holds a step, and its first run."""
    begun = []
    for part in parts:
        begun.append(part)
        run = next(reader.runs(part), None)
        if run is not None:
            return begun, run
    if not begun:
        raise ScanError("a scan needs at least one part, and there is none")
    raise ScanError("the corpus holds no input that has a step")


def _number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ScanError(f"{name} must be a whole number from 1 on, got {shown(value)}")
    return value
