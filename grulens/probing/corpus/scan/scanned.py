"""A scanned corpus on disk, and what it answers: statistics, top windows, matches, replays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from numpy import ndarray
from torch import Tensor, nn

from grulens.arguments import Integer, LayerName
from grulens.errors import ScanError, shown
from grulens.models.adapters.closed import look
from grulens.models.layers import layers
from grulens.probing.corpus.numbers import whole
from grulens.probing.corpus.scan.bits import ahead
from grulens.probing.corpus.scan.direction import SIGNAL, followed
from grulens.probing.corpus.scan.excerpt import AROUND, Excerpt, excerpt
from grulens.probing.corpus.scan.manifest import Manifest, weights_of
from grulens.probing.corpus.scan.match import Match, matches
from grulens.probing.corpus.scan.merged import merged
from grulens.probing.corpus.scan.notes import Notes
from grulens.probing.corpus.scan.part import WINDOW, Part, unpacked
from grulens.probing.corpus.scan.place import Context, Place
from grulens.probing.corpus.scan.replay import Replay, replay, states_again
from grulens.probing.corpus.scan.statistics import Statistics
from grulens.probing.corpus.scan.top import Top, top
from grulens.tables import html_table
from grulens.words import Say, english, so_many

#: The folder in a scan that has its parts.
PARTS: Final = "parts"


class Scan:
    """A scanned corpus on disk.

    Attributes:
        path: its folder.
        manifest: what it was made with.
        parts: its parts, in the order of the corpus, without those that hold no step.
        model: the model, for `replay`, or None.
        whole: whether all of the corpus was scanned; False where that was stopped, or goes on.
        missing: the parts that cannot be read, or are not there while later ones are, and why; they
            are left out of all answers.

    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from grulens.corpus import scan
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
        self._notes = Notes(path)
        if model is not None:
            look(model)
        if model is not None and weights_of(model) != self.manifest.weights:
            raise ScanError(
                f"{path} is a scan of another model than this, or of other weights: a "
                f"{self.manifest.model}. Open it without a model, or with the one it was made of"
            )
        self.parts: tuple[Part, ...] = ()
        self.missing: dict[int, str] = {}
        there = max([0, *(one + 1 for one in numbers_in(path))])
        self.whole = there <= self.manifest.parts
        for number in range(max(self.manifest.parts, there)):
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
        ahead(sum(part.windows for part in self.parts))
        self._cut: bool | None = None  # not known before the model is looked at
        self._near = 0.0  # how far the last states that ran again may be from the scan's
        self._statistics: dict[tuple[int, str], Statistics] = {}
        self._cuts: dict[int, bool] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the scanned layers."""
        return tuple(layer.name for layer in self.manifest.layers)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels."""
        return self.manifest.labels

    def names(self, layer: LayerName = None) -> dict[int | str, str]:
        """What units and directions of a layer are called by `name`, which is kept with the scan.

        Args:
            layer: its name; None is the only layer, or the last.

        Raises:
            ScanError: it was not scanned.
        """
        found = self.manifest.layers[self.manifest.layer(layer)]
        return {found.at(row): name for row, name in self._notes.names(found.name).items()}

    def pins(self, layer: LayerName = None) -> tuple[int | str, ...]:
        """The units and directions of a layer that were pinned.

        Args:
            layer: its name; None is the only layer, or the last.

        Raises:
            ScanError: it was not scanned.
        """
        found = self.manifest.layers[self.manifest.layer(layer)]
        return tuple(found.at(row) for row in self._notes.pinned(found.name))

    def name(self, unit: Integer | str, name: str, *, layer: LayerName = None) -> None:
        """Call a unit by a name, which is kept with the scan and shown on its screens.

        Args:
            unit: the unit, or the name under which a direction was scanned.
            name: the name; "" takes it away.
            layer: its layer; None is the only one, or the last.

        Raises:
            ScanError: no such unit or layer; no text, or one of more than 80 characters; or the
                folder cannot be written to, or the file of names and pins is damaged.
        """
        self._notes.name(*self._one(unit, layer), name)

    def pin(self, unit: Integer | str, on: bool = True, *, layer: LayerName = None) -> None:
        """Pin a unit, so that it is found again; that is kept with the scan.

        Args:
            unit: the unit, or the name of a direction.
            on: whether it is pinned from now on.
            layer: its layer; None is the only one, or the last.

        Raises:
            ScanError: no such unit or layer; or the folder cannot be written to, or the file of
                names and pins is damaged.
        """
        if not isinstance(on, bool):
            raise ScanError(f"a unit is pinned or not, True or False, got {shown(on)}")
        self._notes.pin(*self._one(unit, layer), on)

    def _one(self, unit: Any, layer: LayerName) -> tuple[str, int]:
        """The name of a layer, and the place of a unit or direction of it."""
        found = self.manifest.layers[self.manifest.layer(layer)]
        return found.name, found.row(unit)

    @property
    def directions(self) -> dict[str, tuple[str, ...]]:
        """The names of the directions that were followed, by layer."""
        return {
            layer.name: tuple(one.name for one in layer.directions)
            for layer in self.manifest.layers if layer.directions
        }  # fmt: skip

    @property
    def steps(self) -> int:
        """How many steps were scanned."""
        return sum(int(part.rows[:, 2].sum()) for part in self.parts)

    def stats(self, layer: LayerName = None, signal: str = "h") -> Statistics:
        """What one signal of a layer did over the corpus.

        Args:
            layer: its name; None is the only layer, or the last.
            signal: "h"; a gate, if the scan counted gates; or "directions", if it followed any,
                of which each is then a unit, in their order.

        Raises:
            ScanError: it was not scanned.
        """
        number = self.manifest.layer(layer)
        names = [one.name for one in self.manifest.layers[number].signals]
        if not isinstance(signal, str) or signal not in names:
            how = "" if self.manifest.gates else ". Gates are counted by scan(..., gates=True)"
            if isinstance(signal, str) and signal == SIGNAL:
                how = ". Directions are counted by scan(..., directions={...})"
            raise ScanError(
                f"signal {shown(signal)} of layer {self.layers[number]!r} was not counted; what "
                f"was is {', '.join(names)}{how}"
            )
        key = number, signal
        if key not in self._statistics:
            self._check_any()
            self._statistics[key] = merged(self.path, self.parts, number, signal)
        return self._statistics[key]

    def top(
        self,
        unit: Integer | str,
        k: Integer = 20,
        *,
        layer: LayerName = None,
        where: str | None = None,
        end: str = "high",
    ) -> Top:
        """The windows in which a unit, or a direction, goes furthest.

        A window is 64 steps of one row. Of two windows with the same value the one that comes first
        in the corpus is first; so the answer is the same however the corpus was scanned.

        Args:
            unit: the unit, or the name of a direction that was scanned.
            k: how many windows.
            layer: the layer; None is the only one, or the last.
            where: a label: only the steps where it holds are looked at. Where it holds at some
                steps of a window, the row may be run again: that takes the model, and inputs that
                the scan has kept. In half precision `note` says how near its values are.
            end: "high" or "low".

        Raises:
            ScanError: no such unit, direction, label, layer or end.
        """
        self._check_any()
        number = self.manifest.layer(layer)
        label = None if where is None else self.label(where)
        self._near = 0.0

        def again(windows: Sequence[tuple[Part, int]]) -> list[Float[ndarray, "step unit"]]:
            if self.model is None:
                raise ScanError(
                    f"label {shown(where)} holds at some steps of a window and not at others, so "
                    f"windows are run again, which takes the model: open_scan({str(self.path)!r}, "
                    "model)"
                )
            return self._again(number, [(part, part.place_of(window)) for part, window in windows])

        found = top(self.parts, self.manifest, number, unit, k, label, end, again)
        return replace(found, near=self._near)

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

    def replay(self, place: Place) -> Replay:
        """Run a place again, by itself, from the nearest states that the scan kept.

        The states are those of the scan to about 1e-5, for torch rounds another way for another
        number of rows; they are compared with what the scan has kept of each window. The whole row
        is run where a layer runs backwards, was not scanned, or was opened by its equation, and
        where a run from the kept states gives others.

        Args:
            place: one of `top(...).places` or `match(...).places`, or any other.

        Raises:
            ScanError: there is no model; no such place; what the model took there is not kept; or
                it does not do what it did.
        """
        model, part = self._model(), self._part(place)
        cut = self._may_cut(model) and part.form(place.row).cut
        found = replay(model, part, self.manifest, place, cut=cut)
        length = int(part.rows[place.row, 2])
        ran = found.recording[self.layers[0]].h.shape[1]
        if cut:  # what could not be cut once is not tried again
            self._cut = not (ran == length > place.stop + WINDOW)
        return found

    def excerpt(self, place: Place, around: Integer = AROUND) -> Excerpt:
        """A place and some steps before and after it, as an input that begins where the row stood.

        It is run once and compared with what the scan has kept of it. The whole row is taken where
        a run cannot begin in a kept state, and its `note` says why: of torch's `nn.GRU`, `nn.LSTM`
        and `nn.RNN` that go forward it can.

        Args:
            place: one of `top(...).places` or `match(...).places`, or any other.
            around: how many steps before and after it, at least; it begins at a kept state.

        Raises:
            ScanError: there is no model; no such place; what the model took there is not kept; or
                it does not do what it did.
        """
        model, part, around = self._model(), self._part(place), whole(around, "around", least=0)
        cut = self._may_cut(model)
        return excerpt(self.path, model, part, self.manifest, place, around, cut)

    def lost(self, place: Place, say: Say = english) -> str:
        """Why the row of a place cannot be run again, as `say` says it; "" where it can.

        Raises:
            ScanError: no such place.
        """
        part = self._part(place)
        if self.model is None:
            return say("the model is not there: open_scan(path, model)")
        return part.lost(place.row, say)

    def cuts(self, label: str) -> bool:
        """Whether a label holds at some steps of a window and not at others.

        The windows of `top(where=label)` are run again then.

        Raises:
            ScanError: it was not scanned.
        """
        number = self.label(label)
        if number not in self._cuts:
            each = ((np.bitwise_count(part.holds(number)), part.lengths) for part in self.parts)
            self._cuts[number] = any(bool(((n > 0) & (n < all_)).any()) for n, all_ in each)
        return self._cuts[number]

    def given(self, place: Place) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """What the model may be given for the row of a place: arguments, and named ones.

        Of ids it is not known whether the model takes their rows or their steps first: both are
        given, and the first of which a layer makes as many steps is meant.

        Raises:
            ScanError: no such place; or what it took there is not all kept.
        """
        part, row = self._part(place), place.row
        read = part.again(row, 0, int(part.rows[row, 2]))[None]
        return [*part.form(row).again(read, [part.batch_row(row)])]

    def context(
        self, place: Place, unit: Integer | str | None = None, *, layer: LayerName = None
    ) -> Context:
        """What stands at a place: what was read there, and which labels hold.

        Args:
            place: one of `top(...).places` or `match(...).places`, or any other.
            unit: a unit, or the name of a direction. Its values there are the context's values,
                made again by `replay`, which takes the model; None is without values.
            layer: the layer of the unit; None is the only one, or the last.

        Raises:
            ScanError: no such place, unit or layer; or it cannot be run again.
        """
        return self.contexts([place], unit, layer=layer)[0]

    def contexts(
        self,
        places: Sequence[Place],
        unit: Integer | str | None = None,
        *,
        layer: LayerName = None,
    ) -> tuple[Context, ...]:
        """What stands at several places, as `context` has it of one; they run again side by side.

        Args:
            places: those of a top or a match, or any others.
            unit: as for `context`.
            layer: as for `context`.

        Raises:
            ScanError: no such place, unit or layer; or one of them cannot be run again.
        """
        if not isinstance(places, list | tuple):
            raise ScanError(f"places are a list, those of a top or a match; got {shown(places)}")
        found, number = [(self._part(place), place) for place in places], self.manifest.layer(layer)
        if unit is None:
            return tuple(part.context(place, self.labels) for part, place in found)
        one = followed(unit, self.manifest.layers[number])
        values = (one.values(states).tolist() for states in self._again(number, found))
        return tuple(
            part.context(place, self.labels, each)
            for (part, place), each in zip(found, values, strict=True)
        )

    def holds(self, place: Place) -> Bool[Tensor, "label step"]:
        """Which labels hold at each step of a place (label, step).

        Raises:
            ScanError: no such place.
        """
        part = self._part(place)
        windows, inside = part.around(place)
        words = () if part.labels is None else part.labels[:, windows]
        found = [torch.from_numpy(unpacked(word)[inside]) for word in words]
        return torch.stack(found) if found else torch.zeros(0, place.stop - place.start).bool()

    def row_of(self, place: Place) -> Place:
        """The whole row that a place is in.

        Raises:
            ScanError: no such place.
        """
        part = self._part(place)
        return replace(place, start=0, stop=int(part.rows[place.row, 2]))

    def ids(self, place: Place) -> Int64[Tensor, " step"] | None:
        """The ids that were read at a place (step,), or None where the inputs were no ids.

        Raises:
            ScanError: no such place.
        """
        part = self._part(place)
        read = None if part.ids is None else part.read(place.row, place.start, place.stop)
        return None if read is None else torch.from_numpy(read.astype(np.int64))

    def inputs(self, place: Place) -> Shaped[Tensor, "step number"] | None:
        """The numbers that stood at each step of a place (step, number).

        None where the inputs were ids, or more than 16 numbers a step, which are not kept.

        Raises:
            ScanError: no such place.
        """
        part = self._part(place)
        read = None if part.inputs is None else part.read(place.row, place.start, place.stop)
        return None if read is None else torch.from_numpy(read.copy())

    def extremes(
        self, place: Place, unit: Integer | str, *, layer: LayerName = None
    ) -> Float[Tensor, "end window"]:
        """The least and the largest value of a unit in each window of a place (2, window).

        A window is 64 steps of a row; the first is the one that the place begins in. In
        place of a unit, the name of a direction.

        Raises:
            ScanError: no such place, unit or layer.
        """
        part, number = self._part(place), self.manifest.layer(layer)
        one = followed(unit, self.manifest.layers[number])
        windows, _ = part.around(place)
        ends = [one.ends(part, number, name)[windows] for name in ("low", "high")]
        return torch.from_numpy(np.stack(ends))

    def _again(
        self, layer: int, places: Sequence[tuple[Part, Place]]
    ) -> list[Float[ndarray, "step unit"]]:
        """The states of a layer at some places, which run again side by side."""
        model = self._model()
        cut = self._may_cut(model)
        states, self._cut, self._near = states_again(model, self.manifest, layer, places, cut)
        return states

    def _may_cut(self, model: nn.Module) -> bool:
        """Whether a run from kept states does what the whole row did.

        It does where all that carries a state was scanned and goes forward in time. Else the least
        and the largest value of a window may agree with what was kept, and those between not.
        """
        if self._cut is None:
            held = layers(model)
            self._cut = not (held.closed or held.observed) and all(
                layer.name in self.layers and layer.direction == "forward" for layer in held
            )
        return self._cut

    def _model(self) -> nn.Module:
        """The model, which a replay runs."""
        if self.model is None:
            raise ScanError(f"a replay runs the model: open_scan({str(self.path)!r}, model)")
        return self.model

    def _part(self, place: Any) -> Part:
        """The part that a place is in."""
        if not isinstance(place, Place):
            raise ScanError(f"a place is one of a top's or a match's places, got {shown(place)}")
        whole = all(type(value) is int for value in vars(place).values())
        for part in self.parts if whole else ():
            there = part.number == place.part and 0 <= place.row < len(part.rows)
            if there and 0 <= place.start < place.stop <= int(part.rows[place.row, 2]):
                known = part.in_row(place.row, place.start, place.stop)
                if known != place:
                    raise ScanError(
                        f"row {place.row} of part {place.part} is of input {known.document} from "
                        f"step {known.offset} on, row {known.batch_row} of it; got {shown(place)}"
                    )
                return part
        raise ScanError(f"this scan has no such place: {shown(place)}")

    def label(self, name: Any) -> int:
        """The number of a label.

        Raises:
            ScanError: it was not scanned.
        """
        if not isinstance(name, str) or name not in self.labels:
            known = ", ".join(self.labels) or "none"
            raise ScanError(f"label {shown(name)} was not scanned; what was is {known}")
        return self.labels.index(name)

    def _check_any(self) -> None:
        if not self.parts:
            raise ScanError(f"{self.path} has no part yet that is whole: scan again")

    def __repr__(self) -> str:
        parts, steps = so_many(len(self.parts), "part"), so_many(self.steps, "step")
        return f"Scan({parts}, {steps}, {', '.join(self.layers)})"

    def _repr_html_(self) -> str:
        head = ("layer", "kind", "unit", "counted", "labels")
        rows = [
            (one.name, one.kind, one.units, ", ".join(s.name for s in one.signals),
             ", ".join(self.labels))
            for one in self.manifest.layers
        ]  # fmt: skip
        return html_table(head, rows, repr(self))


def open_scan(path: str | os.PathLike[str], model: nn.Module | None = None) -> Scan:
    """Open a scan that is on disk.

    Args:
        path: its folder.
        model: the model that was scanned, for `replay`; everything else works without it.

    Raises:
        ScanError: there is no scan, or it is of another model.

    Warns:
        UserWarning: a part cannot be read, and is left out; or the names and pins cannot.
    """
    return Scan(folder_of(path), model)


def numbers_in(folder: Path) -> list[int]:
    """The numbers of the parts that are in the folder of a scan."""
    return [int(one.name) for one in (folder / PARTS).glob("[0-9]" * 6)]


def folder_of(path: Any) -> Path:
    """The folder of a scan."""
    if not isinstance(path, str | os.PathLike) or "\0" in str(path) or not str(path).strip():
        raise ScanError(f"a scan is a folder, a str or a Path; got {shown(path)}")
    return Path(path).absolute()  # whoever changes the working folder keeps the scan
