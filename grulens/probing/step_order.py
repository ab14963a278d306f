"""Whether the steps of a layer stand in the order of the input, whose names they have.

Which step of a loop reads which step of the input, only its code knows, and a model can turn its
input round before a layer reads it. Of any but an observed loop, what it reads is known: where that
is the same at steps of the same id, and not if they were turned round, nothing more is asked. Else
the model is run again on an input that is another at one step. What the layer reads is compared,
and of an observed loop its states: before the step where that is read they are the same to the last
bit. So are tried the first step, the last and two neighbours between them, no more, since each
takes a run: a loop that turns round others only is not seen. Where there are as many rows, one run
may do for all: these steps are shared out among the rows, and where each row of the layer begins to
be another as if it went forwards, it does. A layer that reads each step later than at its own place
reads what was put before it, as in teacher forcing: by how much is told, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from grulens.errors import shown
from grulens.models.call.invocation import Given
from grulens.models.observed import ObservedLayer
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.readout.readout import tensors_in

Order = Literal["forwards", "backwards", "late", "unknown"]
_WAYS: Final[tuple[Order, ...]] = ("forwards", "backwards", "late")

#: What torch adds to a module's path to name its levels and directions.
LEVEL: Final = re.compile(r"(^|\.)l\d+(_reverse)?$")


def module_of(layer: LayerRecording) -> str:
    """The module whose layers all have the steps of the lowest: a loop that is observed is its own.

    Args:
        layer: a layer of a run.
    """
    return layer.name if isinstance(layer, ObservedLayer) else LEVEL.sub("", layer.name)


class StepOrder:
    """Tells the order in which the layers of a run read its input.

    Args:
        run: the run whose layers are asked about.
        again: records the model on an input.
        given: the input of the run.
        before: what was told of an earlier run of the same model on this input: it holds still.
    """

    def __init__(
        self,
        run: Recording,
        again: Callable[[Given], Recording],
        given: Given,
        before: StepOrder | None = None,
    ) -> None:
        self._run, self._again, self._given = run, again, given
        self._firsts: dict[tuple[Any, ...], dict[str, int] | None] = {}
        self._beside: dict[tuple[Any, ...], dict[str, list[int | None]]] = {}
        known = before._known if before else {}
        self._known: dict[tuple[Any, ...], Order] = {
            of: order for of, order in known.items() if order != "unknown"
        }
        self._why: dict[str, str] = {}
        self._later: dict[str, int] = dict(before._later) if before else {}

    def fits(self, layer: LayerRecording, of: Sequence[Tensor] | None = None) -> bool:
        """Whether the names of the input's steps fit a layer's; if not, `why_of` says so.

        Args:
            layer: a layer of the run.
            of: the tensors of the input whose steps have names; None is all that have as many.
        """
        if layer.shape[1] < 2:
            return True
        order = self.order(layer, of)
        # what torch's own layers read may depend on every step of the input, as above a second
        # direction: their steps are in the order of what they read, unless it is seen to be turned
        if order == "forwards" or (order == "unknown" and not isinstance(layer, ObservedLayer)):
            self._why.pop(module_of(layer), None)
            return True
        how = (
            "it reads the input from the end" if order == "backwards" else
            f"it reads each step of the input {self.later(layer)} later" if order == "late" else
            "which of them reads which step of the input could not be told"
        )  # fmt: skip
        self._why[module_of(layer)] = (
            f"The steps of layer {shown(layer.name)} have numbers, and not the names of the "
            f"input's: {how}. tokens={{{layer.name!r}: [...]}} names them in the order in which "
            "they run."
        )
        return False

    def why_of(self, layer: LayerRecording) -> str:
        """Why the steps of a layer that was asked about are given no names; or "".

        Args:
            layer: a layer of the run.
        """
        return self._why.get(module_of(layer), "")

    def later(self, layer: LayerRecording) -> int:
        """How many steps after its own a layer reads each of the input, where its order is "late".

        Args:
            layer: a layer that was asked about.
        """
        return self._later.get(module_of(layer), 0)

    def order(self, layer: LayerRecording, of: Sequence[Tensor] | None = None) -> Order:
        """In which order a module reads the input.

        Args:
            layer: a layer of it; the lowest one is asked first.
            of: as for `fits`.
        """
        batch, steps, _ = layer.shape
        key = module_of(layer), batch, steps, None if of is None else tuple(map(id, of))
        if key not in self._known:
            self._known[key] = self._found(layer, of)
        return self._known[key]

    def _found(self, layer: LayerRecording, of: Sequence[Tensor] | None) -> Order:
        batch, steps, _ = layer.shape
        if not isinstance(layer, ObservedLayer):
            given = [*tensors_in(self._given)] if of is None else of
            fitting = (by_rows(value, batch, steps) for value in given)
            told = {told_by(rows, layer) for rows in fitting if rows is not None} - {"unknown"}
            if len(told) == 1:
                return told.pop()
        early, last = (steps - 1) // 3, steps - 1
        if self._side_by_side(layer, sorted({last, early + 1, early, 0}, reverse=True), of):
            return "forwards"
        if self._reached(layer, early, of) is None:
            return "unknown"
        if self._reached(layer, last, of) is None:  # padding, that no step reads
            last = (2 * steps - 1) // 3
        firsts = dict[int, int]()
        for at in (early, early + 1, last, 0):
            first = self._reached(layer, at, of)
            if first is None:
                return "unknown"
            firsts[at] = first
            ways = _ways(firsts, steps)
            if not ways:
                return "unknown"
        if ways == {"late"}:
            self._later[module_of(layer)] = firsts[early] - early
        return ways.pop() if len(ways) == 1 else "unknown"

    def follows(self, layer: LayerRecording, one: Tensor, steps: int) -> bool | None:
        """Whether a layer reads neighbours of a tensor of the input at neighbours.

        Args:
            layer: a layer of the run.
            one: the tensor.
            steps: how many steps it has.

        Returns:
            Whether it does; None where no run of the model tells it.
        """
        early = (steps - 1) // 3
        found = list[int]()
        for at in (early, early + 1):
            first = self._reached(layer, at, [one], steps)
            if first is None:
                told = self._firsts[_key(layer, at, [one], steps)] is not None
                return False if told else None
            found.append(first)
        return abs(found[0] - found[1]) == 1

    def _reached(
        self, layer: LayerRecording, at: int, of: Sequence[Tensor] | None, many: int | None = None
    ) -> int | None:
        """The first step at which a layer is another when the input is another at one step."""
        batch, steps = layer.shape[0], many or layer.shape[1]
        key = _key(layer, at, of, steps)
        if key not in self._firsts:
            run = self._changed(lambda value: other_at(value, batch, steps, at), of)
            # the run itself can be large, and goes
            self._firsts[key] = None if run is None else _firsts(self._run, run)
        return (self._firsts[key] or {}).get(layer.name)

    def _side_by_side(
        self, layer: LayerRecording, places: Sequence[int], of: Sequence[Tensor] | None
    ) -> bool:
        """Whether one run, in which each row is another at one of these steps, says "forwards".

        It says so of rows that know nothing of each other, and is made in place of several; where
        it does not, nothing is known.
        """
        batch, steps, _ = layer.shape
        lengths = layer.mask.sum(1).tolist()
        fitting = ([place for place in places if place < length] or [0] for length in lengths)
        at = [fit[row % len(fit)] for row, fit in enumerate(fitting)]
        if set(at) != set(places):
            return False
        if (key := (batch, steps, tuple(at), _ids(of))) not in self._beside:
            run = self._changed(lambda value: _other_in(value, batch, steps, at), of)
            self._beside[key] = {} if run is None else {
                name: found for name, one in self._run.items()
                if (found := _firsts_of_rows(one, run)) is not None
            }  # fmt: skip
        firsts = {*zip(at, self._beside[key].get(layer.name, ()), strict=False)}
        told = {place: first for place, first in firsts if first is not None}
        return len(told) == len(firsts) == len(places) and _ways(told, steps) == {"forwards"}

    def _changed(
        self, change: Callable[[Tensor], Tensor | None], of: Sequence[Tensor] | None
    ) -> Recording | None:
        """The run on an input that is another somewhere; None where there is none."""
        changed = 0

        def other(value: Any) -> Any:
            nonlocal changed
            if isinstance(value, Tensor):
                made = None
                if of is None or any(value is one for one in of):
                    made = change(value)
                changed += made is not None
                return value if made is None else made
            if type(value) in (tuple, list):
                return type(value)(map(other, value))
            if type(value) is dict:
                return {name: other(part) for name, part in value.items()}
            return value

        given = other(self._given)
        if not changed:
            return None
        try:
            with torch.no_grad():
                return self._again(given)
        except Exception:  # whatever a user's model does with such an input: then nothing is known
            return None


def _ids(of: Sequence[Tensor] | None) -> tuple[int, ...] | None:
    return None if of is None else tuple(map(id, of))


def _key(
    layer: LayerRecording, at: int, of: Sequence[Tensor] | None, steps: int
) -> tuple[Any, ...]:
    return layer.shape[0], steps, at, _ids(of)


def _ways(firsts: Mapping[int, int], steps: int) -> set[Order]:
    """The ways through an input that agree with where its steps are read first.

    A step of the layer may read steps of the input that come after its own (a convolution), by
    equally many each; the first one reads the first. Or it may read each step later than at its own
    place, all by as much: `x[:, t - 1]`.

    Args:
        firsts: by step of the input, the first step of the layer that reads it.
        steps: steps.

    >>> _ways({1: 1, 2: 2, 0: 0}, 6), _ways({1: 4, 2: 3}, 6), _ways({1: 2, 2: 3, 0: 1}, 6)
    ({'forwards'}, {'backwards'}, {'late'})
    >>> _ways({1: 2, 2: 4}, 6)
    set()
    """
    found = set[Order]()
    for way in _WAYS:
        if way == "late":  # of what it reads first it may make a start
            later = {first - at for at, first in firsts.items() if at}
            if len(later) == 1 and min(later) > 0:
                found.add(way)
            continue
        places = {at if way == "forwards" else steps - 1 - at: at for at in firsts}
        ahead = {place - firsts[at] for place, at in places.items() if place}
        begins = 0 not in places or firsts[places[0]] == 0
        if begins and len(ahead) <= 1 and min(ahead, default=0) >= 0:
            found.add(way)
    return found


def _firsts(before: Recording, after: Recording) -> dict[str, int]:
    """The first step, by layer, at which a layer of the same shape is another in another run."""
    found = dict[str, int]()
    for name, layer in before.items():
        others = _others(layer, after)
        if others is not None and bool(others.any()):
            found[name] = int(others.any(0).nonzero()[0])
    return found


def _firsts_of_rows(layer: LayerRecording, after: Recording) -> list[int | None] | None:
    """The same of each row of a layer; None where it has another shape in the other run."""
    others = _others(layer, after)
    if others is None:
        return None
    return [int(row.nonzero()[0]) if bool(row.any()) else None for row in others]


def _others(layer: LayerRecording, after: Recording) -> Bool[Tensor, "row step"] | None:
    """At which steps a layer is another in another run; None where it has another shape there."""
    other = after.get(layer.name)
    if other is None or other.shape != layer.shape:
        return None
    was, now = (one.state if isinstance(one, ObservedLayer) else one.x for one in (layer, other))
    same = (was == now) | (was.isnan() & now.isnan())
    return ~same.all(2)


def by_rows(value: Tensor, batch: int, steps: int) -> Tensor | None:
    """An input as (batch, time, ...) on the CPU; None if it has not as many.

    Args:
        value: (batch, time, ...), (time, batch, ...), or (time, ...) of one row.
        batch: rows.
        steps: steps.
    """
    shape = tuple(value.shape)
    if shape[:2] == (batch, steps):
        return value.cpu()
    if shape[:2] == (steps, batch):
        return value.cpu().transpose(0, 1)
    return value.cpu()[None] if batch == 1 and shape[:1] == (steps,) else None


def told_by(rows: Tensor, layer: LayerRecording) -> Order:
    """In which order a layer reads an input, as far as what it reads tells.

    Args:
        rows: the input, ids (batch, time) or numbers (batch, time, input).
        layer: a layer that is not observed.
    """
    if rows.ndim == 2 and not rows.is_floating_point() and not rows.is_complex():
        there, back = (is_read(ids, layer) for ids in (rows, rows.flip(1)))
    else:
        x = layer.x.detach().cpu()
        there, back = (
            rows.dtype == x.dtype and torch.equal(numbers, x) for numbers in (rows, rows.flip(1))
        )
    return "unknown" if there == back else "forwards" if there else "backwards"


def is_read(ids: Tensor, layer: LayerRecording) -> bool:
    """Whether a layer's input can be a table of these ids: where they are equal, it is.

    Args:
        ids: (batch, time).
        layer: a layer that is not observed.
    """
    flat, x = ids.flatten(), layer.x.detach().cpu().flatten(0, 1)
    mask = layer.mask.cpu().flatten()
    flat, x = flat[mask], x[mask]
    order = flat.argsort(stable=True)
    flat, x = flat[order], x[order]
    again = flat[1:] == flat[:-1]
    return bool(torch.equal(x[1:][again], x[:-1][again]))


def other_at(value: Tensor, batch: int, steps: int, at: int) -> Tensor | None:
    """A tensor that is another at one of its steps: there it is as at another of them.

    Args:
        value: (batch, time, ...), (time, batch, ...), or (time, ...) of one row.
        batch: rows.
        steps: steps.
        at: which one.

    Returns:
        It; None where the tensor has no such steps, or is the same at all of them.

    >>> other_at(torch.tensor([[3, 3, 5]]), 1, 3, 0), other_at(torch.ones(3, 2), 1, 4, 0)
    (tensor([[5, 3, 5]]), None)
    """
    shape = tuple(value.shape)
    axis = 1 if shape[:2] == (batch, steps) else 0
    if axis == 0 and shape[:2] != (steps, batch) and not (batch == 1 and shape[:1] == (steps,)):
        return None
    here = value.select(axis, at)
    for there in sorted(range(steps), key=lambda step: abs(step - at)):
        found = value.select(axis, there)
        if not torch.equal(here, found):
            made = value.detach().clone()
            made.select(axis, at).copy_(found)
            return made
    if not value.is_floating_point():
        return None
    made = value.detach().clone()
    made.select(axis, at).add_(1)
    return made


def _other_in(value: Tensor, batch: int, steps: int, at: Sequence[int]) -> Tensor | None:
    """A tensor that is another at one step in each of its rows; None where a row is not.

    Args:
        value: (batch, time, ...) or (time, batch, ...).
        batch: rows.
        steps: steps.
        at: which step of each row.

    >>> _other_in(torch.tensor([[3, 3, 5], [1, 2, 2]]), 2, 3, [0, 2])
    tensor([[5, 3, 5],
            [1, 2, 1]])
    """
    shape = tuple(value.shape[:2])
    if shape not in ((batch, steps), (steps, batch)):
        return None
    axis = int(shape != (batch, steps))
    made = value.detach().clone()
    for row, step in enumerate(at):
        other = other_at(value.narrow(axis, row, 1), 1, steps, step)
        if other is None:
            return None
        made.narrow(axis, row, 1).copy_(other)
    return made
