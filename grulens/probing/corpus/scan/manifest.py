"""What a scan was made with: a file beside its parts, so that parts of two scans never mix."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from time import sleep
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import hardsigmoid

from grulens.cells.activations import HardSigmoid
from grulens.cells.signal import Signal
from grulens.errors import ScanError, shown
from grulens.models.recorded import LayerRecording
from grulens.probing.corpus.making import beside, unwritten
from grulens.probing.corpus.scan.direction import SIGNAL, Direction, followed
from grulens.probing.corpus.scan.part import FORMAT, ROUNDING, own_sum
from grulens.words import so_many

NAME: Final = "scan.json"
#: The functions of a cell that bound its signals.
ACTIVATIONS: Final = ("gate", "candidate", "activation")
#: What two hashes that differ say.
HASHED: Final = {
    "weights": "weights (the model has others now)",
    "directions": "directions (their vectors or names are others now)",
    "room": "how many rows run side by side (by batch=, and by memory where that is not given)",
    "first": "the first inputs (they, or what their labels say of them, are others now)",
}


@dataclass(frozen=True)
class ScannedSignal:
    """A signal of a scanned layer: its name, and the values it can have."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class ScannedLayer:
    """A scanned layer.

    Attributes:
        name: its name.
        kind: what its cell is called.
        units: how many units it has.
        states: the signals that its next step reads, "h" first.
        signals: what was counted of it, its state first.
        directions: the directions of its state space that were followed.
    """

    name: str
    kind: str
    units: int
    states: tuple[str, ...]
    signals: tuple[ScannedSignal, ...]
    directions: tuple[Direction, ...] = ()

    @classmethod
    def of(cls, layer: LayerRecording, gates: bool) -> ScannedLayer:
        """A layer as it ran on the first input.

        Args:
            layer: its recording.
            gates: whether its gates are counted, too.
        """
        cell = layer.cell
        signals = [one for one in cell.signals if gates and one.is_gate]
        named = tuple(_signal(layer, one) for one in [cell.signal("h"), *signals])
        return cls(layer.name, cell.kind, cell.hidden_size, tuple(cell.states), named)

    def __str__(self) -> str:
        signals = ", ".join(one.name for one in self.signals)
        return f"{self.name}: {self.kind}, {so_many(self.units, 'unit')}, {signals} counted"

    def row(self, unit: Any) -> int:
        """The place of a unit, or of a direction by its name, among both: units come first.

        Raises:
            ScanError: the layer has no such unit or direction.
        """
        one = followed(unit, self)
        return one.number + (0 if one.direction is None else self.units)

    def at(self, row: int) -> int | str:
        """The unit, or the name of the direction, that has this place among both.

        A place that none has stays a number: somebody else wrote it into the file of names.
        """
        along = dict(enumerate(self.directions, self.units)).get(row)
        return row if along is None else along.name

    def following(self, directions: tuple[Direction, ...]) -> ScannedLayer:
        """The layer, of which these directions are counted, too."""
        if not directions:
            return self
        signal = ScannedSignal(SIGNAL, -math.inf, math.inf)
        return replace(self, signals=(*self.signals, signal), directions=directions)


def _signal(layer: LayerRecording, signal: Signal) -> ScannedSignal:
    """A signal, without bounds where an activation, or the first run, goes past those of its kind.

    A state goes past them that begins there: the cell mixes the initial state with the rest.
    """
    functions = {name: getattr(layer.cell, name, torch.sigmoid) for name in ACTIVATIONS}
    within = all(
        one in (torch.sigmoid, hardsigmoid) or isinstance(one, HardSigmoid)
        or (one is torch.tanh and name != "gate")
        for name, one in functions.items()
    )  # fmt: skip
    low, high = float(signal.low), float(signal.high)
    if signal.name == "h":
        values = layer.h[layer.mask]
        within = within and bool(((values >= low - ROUNDING) & (values <= high + ROUNDING)).all())
    return ScannedSignal(signal.name, *((low, high) if within else (-math.inf, math.inf)))


@dataclass(frozen=True)
class Manifest:
    """What a scan was made with.

    Attributes:
        model: the class of the model.
        weights: a hash of everything in its state_dict.
        layers: the layers.
        labels: the names of the labels.
        on: above which value a state counts as on.
        gates: whether gates are counted.
        steps: the longest row.
        batch: how many rows ran side by side at most.
        call: the name of the method that was the run, or None.
        first: a hash of what the first run of the corpus was given, and of its labels.
        format: the version of the format.
        torch: the version of torch that ran the model.
        parts: how many parts the corpus has, once all were scanned; 0 before.
        room: how many steps ran side by side at most; 0 is any number.
        rules: a hash of the functions that told its labels, see `rules_of`; "" where that is not
            known. Others may tell the same, so they are no other scan.
        zero: whether 0 has a bin of its own in signals without bounds. A scan of before, which has
            none, is gone on with as it was begun.
    """

    model: str
    weights: str
    layers: tuple[ScannedLayer, ...]
    labels: tuple[str, ...]
    on: float
    gates: bool
    steps: int
    batch: int
    call: str | None
    first: str
    format: int = FORMAT
    torch: str = torch.__version__
    parts: int = 0
    room: int = 0
    rules: str = ""
    zero: bool = False

    def write(self, folder: Path) -> None:
        """Write it; readers see all of it or nothing.

        Raises:
            ScanError: it cannot be written.
        """
        with self._made(folder) as making:
            making.replace(folder / NAME)

    def begin(self, folder: Path) -> bool:
        """Write it where there is none; of several processes at once, one does.

        Returns:
            Whether this one did.

        Raises:
            ScanError: it cannot be written.
        """
        place = folder / NAME
        if place.exists():
            return False
        with self._made(folder) as making:
            try:
                place.hardlink_to(making)
            except FileExistsError:
                return False
            except OSError:  # a disk without links: it is written at one stroke
                try:
                    with place.open("xb", buffering=0) as file:
                        file.write(making.read_bytes())
                except FileExistsError:
                    _wait(place)
                    return False
        return True

    @contextmanager
    def _made(self, folder: Path) -> Iterator[Path]:
        """It as a file of another name, to be put into its place."""
        making = beside(folder / NAME)
        try:
            held = asdict(self)
            held["sum"] = own_sum(held)
            making.write_text(json.dumps(held, indent=1), encoding="utf-8")
            yield making
        except OSError as error:
            raise ScanError(f"{folder / NAME} cannot be written: {unwritten(error)}") from error
        finally:
            with suppress(OSError):
                making.unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a scan.

        Raises:
            ScanError: there is none, or it is of another version, or damaged.
        """
        place = folder / NAME
        try:
            found = json.loads(place.read_text(encoding="utf-8"))
            if found.get("format") != FORMAT:
                raise ScanError(
                    f"{folder} was scanned by another version of grulens (format "
                    f"{found.get('format')}, this one reads {FORMAT}): scan again, into another "
                    "folder"
                )
            if found.pop("sum", said := own_sum(found)) != said:
                raise ScanError(
                    f"{place} has changed since it was written: its checksum is another. Put it "
                    "back as it was, or scan into another folder"
                )
            layers = tuple(
                ScannedLayer(
                    one["name"], one["kind"], one["units"], tuple(one["states"]),
                    tuple(ScannedSignal(**signal) for signal in one["signals"]),
                    tuple(
                        Direction(each["name"], tuple(each["weights"]))
                        for each in one.get("directions", ())
                    ),
                )
                for one in found.pop("layers")
            )  # fmt: skip
            return cls(layers=layers, labels=tuple(found.pop("labels")), **found)
        except NotADirectoryError:
            raise ScanError(f"{folder} is a file, and a scan is a folder") from None
        except FileNotFoundError:
            raise ScanError(f"{folder} holds no scan: it has no {NAME}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, ScanError):
                raise
            raise ScanError(f"{place} is damaged: {error}") from error

    def check(self, now: Manifest, folder: Path) -> None:
        """Compare what was scanned with what is to be scanned now.

        Raises:
            ScanError: they differ; it says in what.
        """
        pairs = [
            (one.name, getattr(self, one.name), getattr(now, one.name))
            for one in fields(self)
            if one.name not in ("parts", "rules", "zero")
        ]
        mine, others = ({one.name: one.directions for one in m.layers} for m in (self, now))
        if mine.keys() == others.keys() and mine != others:
            pairs = [("directions", mine, others), *(p for p in pairs if p[0] != "layers")]
        cuts = [(one.steps, one.batch, one.room) for one in (self, now)]
        if cuts[0] != cuts[1]:  # the first inputs are cut elsewhere, and cannot be compared
            pairs = [pair for pair in pairs if pair[0] != "first"]
        differ = [
            HASHED.get(name, f"{name} ({_short(before)}, now {_short(after)})")
            for name, before, after in pairs
            if before != after
        ]
        if differ:
            raise ScanError(
                f"{folder} holds a scan that was made otherwise: {'; '.join(differ)}. Parts of two "
                "scans cannot be added; scan into another folder, or with what was used there"
            )

    def layer(self, name: Any) -> int:
        """The number of a layer; None is the only one, or the last.

        Raises:
            ScanError: it was not scanned.
        """
        names = [layer.name for layer in self.layers]
        if name is None:
            return len(names) - 1
        if not isinstance(name, str) or name not in names:
            raise ScanError(f"layer {shown(name)} was not scanned; what was is {', '.join(names)}")
        return names.index(name)


def _wait(place: Path) -> None:
    """Wait a little for a file that another process has begun to write."""
    for _ in range(50):
        if place.stat().st_size:
            break
        sleep(0.1)


def weights_of(model: nn.Module) -> str:
    """A hash of the names, shapes, dtypes and values of a model's parameters and buffers."""
    return hash_of(sorted(model.state_dict().items()))


def hash_of(named: Iterable[tuple[str, Any]]) -> str:
    """A hash of names, and of the shapes, dtypes and values of the tensors that they name.

    >>> one, other = torch.zeros(2), torch.ones(2)
    >>> [hash_of([("a", one)]) == hash_of([("a", two)]) for two in (one.clone(), other)]
    [True, False]
    """
    found = hashlib.sha256()
    for name, value in named:
        found.update(name.encode())
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu().contiguous()
            found.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
            found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


def _short(value: Any) -> str:
    if isinstance(value, tuple) and any(isinstance(one, ScannedLayer) for one in value):
        return "; ".join(map(str, value))
    text = repr(value) if not isinstance(value, Sequence) or isinstance(value, str) else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
