"""What to call each step of each layer: texts that a user gave, or what the input's ids are called.

Layers may run other steps and other rows, and a name that belongs to one would be wrong at another.
So names are kept for each layer by itself, and where none fit, steps have numbers. The steps of an
observed loop have names where it is known to go through the input forwards; those of another layer
where it is not seen to read the input from its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grulens.errors import GrulensError, LayerError, shown
from grulens.models.observed import ObservedLayer
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.step_order import StepOrder, by_rows, is_read, module_of
from grulens.views.figure.tokens import valid
from grulens.words import so_many

Tokens = str | Sequence[str] | Sequence[Sequence[str]] | None
TokensBy = Tokens | Mapping[str, Tokens]
Rows = list[list[str]]


@dataclass(frozen=True, eq=False)
class Naming:
    """What is known of the names of one input's steps.

    Attributes:
        tokens: what a user gave: for all layers, or by the name of a layer or of a module.
        call: what names ids: from the ids (time,) of one row to their names, or None.
        ids: the integer tensors among the model's arguments.
        spelled: the parts of a text that became one step of numbers each, where it did.
    """

    tokens: TokensBy
    call: Callable[[Tensor], list[str] | None]
    ids: Sequence[Tensor]
    spelled: list[str] | None = None

    def of(self, run: Recording, first: str, order: StepOrder) -> dict[str, Rows | None]:
        """Names for each layer of a run: one list a row, or None.

        Args:
            run: the run.
            first: the layer to begin with: what was given for all must fit it, or another one.
            order: tells whether the steps of a layer stand in the order of the input.

        Raises:
            LayerError: tokens were given for what is no layer and no module of one.
            GrulensError: tokens do not fit.
        """
        if self.tokens is None:
            return self._by_ids(run, order)
        if isinstance(self.tokens, Mapping):
            return self._by_layer(self.tokens, run, order)
        found = {name: _fitting(self.tokens, layer) for name, layer in run.items()}
        if found[first] is None:
            batch, steps, _ = run[first].shape
            try:
                found[first] = token_rows(self.tokens, batch, steps)
            except GrulensError:
                if not any(found.values()):
                    raise
        return {
            name: rows if rows and order.fits(run[name]) else None for name, rows in found.items()
        }

    def _by_layer(
        self, given: Mapping[str, Tokens], run: Recording, order: StepOrder
    ) -> dict[str, Rows | None]:
        found: dict[str, Rows | None] = dict.fromkeys(run)
        for key in sorted(given, key=len):  # the longer names are the more exact ones
            named = [name for name in run if name == key or name.startswith(f"{key}.")]
            if not named:
                raise LayerError(
                    f"tokens were given for {shown(key)}, which is no layer that ran on this input "
                    f"and no module of one; what ran is {', '.join(run)}"
                )
            for name in named:
                batch, steps, _ = run[name].shape
                try:
                    rows = token_rows(given[key], batch, steps)
                except GrulensError as error:
                    raise GrulensError(f"tokens of {shown(key)}: {error}") from error
                # what is given for the very layer is in the order of its steps
                found[name] = rows if name == key or order.fits(run[name]) else None
        return found

    def _by_ids(self, run: Recording, order: StepOrder) -> dict[str, Rows | None]:
        """By what each module's first layer reads; those above it have the same steps."""
        found: dict[str, Rows | None] = {}
        modules: dict[tuple[str, tuple[int, ...]], Rows | None] = {}
        for name, layer in run.items():
            place = module_of(layer), layer.shape[:2]
            if place not in modules:
                modules[place] = self._read_by(layer, order)
            found[name] = modules[place]
        return found

    def _read_by(self, layer: LayerRecording, order: StepOrder) -> Rows | None:
        """By the one argument that this layer can have read; None where there may be two."""
        batch, steps, _ = layer.shape
        if self.spelled is not None:
            fits = (batch, steps) == (1, len(self.spelled)) and order.fits(layer)
            return [[valid(part) for part in self.spelled]] if fits else None
        fitting: list[tuple[Tensor, Tensor]] = []
        for ids in self.ids:
            rows = by_rows(ids, batch, steps)
            if rows is not None and not any(torch.equal(rows, other) for _, other in fitting):
                fitting.append((ids, rows))
        if isinstance(layer, ObservedLayer):
            return self._reached_by(layer, fitting, order)
        # zeros and ones may be a mask, and two texts of one length could be each other's
        if len(fitting) > 1 or any(_may_be_mask(rows) for _, rows in fitting):
            fitting = [pair for pair in fitting if is_read(pair[1], layer)]
        names = self._called(fitting[0][1]) if len(fitting) == 1 else None
        return names if names and order.fits(layer, [fitting[0][0]]) else None

    def _reached_by(
        self, layer: LayerRecording, fitting: Sequence[tuple[Tensor, Tensor]], order: StepOrder
    ) -> Rows | None:
        """By the one argument that an observed layer goes through forwards; else None.

        Args:
            layer: the layer.
            fitting: the arguments that it can have read, and each by rows.
            order: tells the order of its steps.
        """
        texts = [pair for pair in fitting if not _may_be_mask(pair[1])] or fitting
        called = [(ids, self._called(rows)) for ids, rows in texts]
        found = [names for ids, names in called if names and order.fits(layer, [ids])]
        return found[0] if len(found) == 1 else None

    def _called(self, ids: Tensor) -> Rows | None:
        """What ids (batch, time) are called."""
        names = [self.call(row) for row in ids]
        steps = ids.shape[1]
        found = [[*map(valid, row)] for row in names if row is not None and len(row) == steps]
        return found if len(found) == len(ids) else None


def _may_be_mask(ids: Tensor) -> bool:
    return int(ids.max()) < 2


def _fitting(tokens: Tokens, layer: LayerRecording) -> Rows | None:
    """Tokens that were given for all layers, if they are exactly as many as this one's steps."""
    batch, steps, _ = layer.shape
    try:
        found = token_rows(tokens, batch, steps)
    except GrulensError:
        return None
    given = _listed(tokens, "tokens")
    if not _nested(given):
        return found
    longest = max(len(_listed(row, "tokens")) for row in given)
    return found if longest == steps else None


def token_rows(tokens: Tokens, batch: int, steps: int) -> Rows:
    """One list of texts a row.

    Args:
        tokens: a text (one character a step), one list for all rows, or one list a row.
        batch: rows of the run.
        steps: steps of the run.

    Raises:
        GrulensError: there are more or fewer tokens than steps, or lists than rows.

    >>> token_rows("abc", 2, 3)
    [['a', 'b', 'c'], ['a', 'b', 'c']]
    """
    given = _listed(tokens, "tokens")
    nested = _nested(given)
    rows = [texts(row) for row in given] if nested else [texts(given)]
    if nested and len(rows) != batch:
        many, there = so_many(len(rows), "row"), so_many(batch, "row")
        raise GrulensError(f"tokens of {many} for a run of {there}")
    for row in rows:
        # rows of a padded batch end before the longest one
        if len(row) > steps or (not nested and len(row) != steps):
            many, there = so_many(len(row), "token"), so_many(steps, "step")
            raise GrulensError(f"{many} for a run of {there}")
    padded = [row + [""] * (steps - len(row)) for row in rows]
    return padded if nested else padded * batch


def names_of(labels: Any) -> list[str] | None:
    """The names of the classes as texts; None if there are none.

    Raises:
        GrulensError: they are no list with one name a class.

    >>> names_of(("a", 3))
    ['a', '3']
    """
    if labels is None:
        return None
    expected = "labels must be a list with one name a class"
    if isinstance(labels, Mapping):
        raise GrulensError(
            f"{expected}, got a {type(labels).__name__}, whose order says nothing of the classes: "
            f"{shown(labels)}"
        )
    if isinstance(labels, str | bytes | Set | Tensor):
        raise GrulensError(f"{expected}, got {shown(labels)}")
    given = _listed(labels, "labels")
    for place, name in enumerate(given):
        if isinstance(name, Mapping | Set | list | tuple | Tensor | np.ndarray):
            raise GrulensError(f"{expected}, and item {place} is {shown(name)}")
    return texts(given, "labels")


def texts(given: Any, what: str = "tokens") -> list[str]:
    """Each item as a text that a page can show.

    Raises:
        GrulensError: they are no list.
    """
    found = []
    for item in _listed(given, what):
        try:
            text = str(item)
        except Exception:  # an object of the user's that cannot be shown: its kind is its name
            text = shown(item)
        found.append(valid(text))
    return found


def _listed(given: Any, what: str) -> list[Any]:
    try:
        return list(given)
    except Exception as error:
        raise GrulensError(f"{what} must be a list of texts, got {shown(given)}") from error


def _nested(given: Sequence[Any]) -> bool:
    return bool(given) and not isinstance(given[0], str) and isinstance(given[0], Sequence)
