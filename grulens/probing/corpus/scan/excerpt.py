"""Some steps of a row of a corpus as an input of their own, which begins where the row stood there.

A row may have a million steps, and a person looks at some hundred. A run of these alone begins in
the states that the scan kept before them, not in those of the model; it is compared with what the
scan kept of its windows. Where a layer cannot begin in a state of somebody's choice, or the run
gives others than the scan, the whole row is run, and that is said.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import nn

from grulens.errors import GrulensError, ScanError
from grulens.models.adapters.closed import look
from grulens.models.instrument.first_states import FirstStates, takes_first_state
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.part import ANCHOR, WINDOW, Part
from grulens.probing.corpus.scan.place import Place
from grulens.probing.corpus.scan.replay import Stretch, differ, replay, run, ways
from grulens.words import Say, english, message

#: So many steps to either side of a place, unless another number is given.
AROUND: Final = 256

#: Why it is the whole row, to be said later: a message, and what stands in it.
Reason: TypeAlias = tuple[str, dict[str, str]]
NONE: Final[Reason] = "", {}
OTHERWISE: Final[Reason] = (
    message("a run from the states that were kept gives others than the scan"), {}
)  # fmt: skip
ALL_OF_IT: Final[Reason] = (
    message(
        "a layer reads it from the end, was not scanned or was opened by its equation, or the "
        "model took more than what stands at each step"
    ),
    {},
)


@dataclass(frozen=True, eq=False, repr=False)
class Excerpt:
    """Some steps of a row of a corpus, as the model takes them.

    A run of `given` inside `with first():` has the states of the corpus.

    Attributes:
        scan: the folder of the scan.
        asked: the place that was asked for.
        around: how many steps to either side of it were asked for.
        place: the steps that it has.
        row: how many steps the whole row has.
        given: the model's arguments, (args, kwargs).
        states: the states in which a run of it begins; None where it begins as the row does.
        reason: why it is the whole row, where less was asked for.
    """

    scan: Path
    asked: Place
    around: int
    place: Place
    row: int
    given: tuple[tuple[Any, ...], dict[str, Any]]
    states: FirstStates | None = None
    reason: Reason = NONE

    def __repr__(self) -> str:
        return f"Excerpt({self.place}, of a row of {self.row:,})"

    def first(self) -> AbstractContextManager[Any]:
        """A block in which a run of the model begins where the row stood before these steps."""
        return nullcontext() if self.states is None else self.states()

    @property
    def steps(self) -> slice:
        """The steps of the place that was asked for, counted in the excerpt."""
        return slice(self.asked.start - self.place.start, self.asked.stop - self.place.start)

    @property
    def why(self) -> str:
        """Why it is the whole row, where less was asked for; else ""."""
        text, values = self.reason
        return english(text, **values)

    @property
    def note(self) -> str:
        """Which part of the row it is, and where its run begins, in words."""
        return self.words()

    def words(self, say: Say = english) -> str:
        """The note, as `say` says it."""
        place = self.place
        given = {"part": place.part, "input": place.document, "row": place.row}
        where = say("part {part}, input {input}", **given)
        if place.batch_row or place.offset:
            where = say("part {part}, input {input}, row {row}", **given)
        if place.stop - place.start == self.row:
            said = say("the whole row of {steps} steps ({where})", steps=f"{self.row:,}",
                       where=where)  # fmt: skip
            text, values = self.reason
            return say("{said}: {why}", said=said, why=say(text, **values)) if text else said
        first = f"{place.start:,}"
        said = say("steps {first} to {last} of a row of {steps} ({where})", first=first,
                   last=f"{place.stop - 1:,}", steps=f"{self.row:,}", where=where)  # fmt: skip
        if self.states is None:
            return say("{said}; the row goes on after them", said=said)
        return say(
            "{said}; step 0 here is step {first}, and begins in the state that the scan kept "
            "before it. What the model does beside its layers begins anew",
            said=said, first=first,
        )  # fmt: skip


def excerpt(
    scan: Path, model: nn.Module, part: Part, manifest: Manifest, place: Place, around: int,
    cut: bool,
) -> Excerpt:  # fmt: skip
    """See `Scan.excerpt`; `cut` is whether a run from kept states may do what the row did."""
    row = place.row
    length = int(part.rows[row, 2])
    begin = max(0, place.start - around) // ANCHOR
    end = min(length, -(-(place.stop + around) // WINDOW) * WINDOW)
    why = NONE
    if begin or end < length:
        states, why = _states(model, part, manifest, row, begin)
        if not (cut and part.form(row).cut):
            why = ALL_OF_IT
        stretch = Stretch(part, row, begin, end, after=True)
        if why is NONE and _runs_so(model, manifest, stretch, states):
            return Excerpt(
                scan, place, around, replace(place, start=stretch.start, stop=end), length,
                ways(model, part, row, stretch.read[None])[0], states,
            )  # fmt: skip
        why = OTHERWISE if why is NONE else why
    again = replay(model, part, manifest, place, cut=False)
    steps = again.recording[manifest.layers[-1].name].h.shape[1]
    if steps != length:
        raise GrulensError(f"the row has {length} steps, and the layer ran {steps}")
    return Excerpt(
        scan, place, around, replace(place, start=0, stop=length), length,
        ways(model, part, row, part.again(row, 0, length)[None])[0], None, why,
    )  # fmt: skip


def _states(
    model: nn.Module, part: Part, manifest: Manifest, row: int, anchor: int
) -> tuple[FirstStates | None, Reason]:
    """The states that the scan kept before a step, by layer; or why no run can begin in them."""
    if not anchor:
        return None, NONE
    kept: dict[str, torch.Tensor] = {}
    for number, layer in enumerate(manifest.layers):
        found = torch.from_numpy(part.anchor(number, row, anchor).astype("float32"))
        kept[layer.name] = found.view(-1, layer.units)
    of: dict[nn.RNNBase, tuple[torch.Tensor, ...]] = {}
    for path, module in look(model).opened.items():
        if not isinstance(module, nn.RNNBase) or not takes_first_state(module):
            kind = type(module).__name__
            return None, (
                message("{layer} is a {kind}, which is given no first state here"),
                {"layer": repr(path or "the model"), "kind": kind},
            )
        levels = [f"{path}.l{i}".lstrip(".") for i in range(module.num_layers)]
        if not all(level in kept for level in levels):
            return None, (message("not every layer of {layer} was scanned"), {"layer": repr(path)})
        of[module] = torch.stack([kept[level] for level in levels], 1).unbind(0)
    return FirstStates(of), NONE


def _runs_so(
    model: nn.Module, manifest: Manifest, stretch: Stretch, states: FirstStates | None
) -> bool:
    """Whether a run of a stretch that begins in these states gives the states of the scan."""
    try:
        with nullcontext() if states is None else states():
            recording = run(model, [stretch], manifest)
    except ScanError:
        return False
    once = all(len(recording[layer.name].segments) == 1 for layer in manifest.layers)
    return (once or states is None) and not differ(recording, [stretch], manifest)[0]
