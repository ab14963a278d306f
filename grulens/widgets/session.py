"""What the widgets share: model, input, layer, selection, edits, and the run before and after them.

Widgets read and write this and nothing else, so any number of them stay linked and any of them
works alone. A change that cannot be computed raises and changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
import traitlets as tl
from torch import Tensor, nn

from grulens.models.find import check_layer, layers
from grulens.models.record import record
from grulens.models.recording import LayerRecording, Recording
from grulens.models.splice import LOCK
from grulens.probing.edit import Edit
from grulens.probing.readout import Answer, Readout, Scale, divergence, first_tensor, read
from grulens.widgets.history import History
from grulens.widgets.tokens import Tokens, token_rows

Input = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Slot:
    """One edit in the list, and whether it is on.

    Attributes:
        key: what it keeps while it is changed or moved.
        edit: the edit.
        on: whether it acts.
    """

    key: int
    edit: Edit
    on: bool = True


Slots = tuple[Slot, ...]


class Session(tl.HasTraits):
    """One model on one input, under any number of widgets.

    Args:
        model: any module that holds an nn.GRU or nn.GRUCell.
        *args: the model's own arguments; one text is encoded where the model has `encode`.
        tokens: what to call each step: a text, one list for all rows, or one list a row.
        readout: from the model's output to (batch, time, class), (batch, class) or (batch, time).
        layer: which layer to begin with; None is the first that ran.
        scale: what the readout's numbers are: "logits", "probability" or "value".
        labels: names of the classes.
        **kwargs: the model's own keyword arguments.

    Attributes:
        layer: name of the layer shown.
        units: selected units; empty means all.
        times: selected steps; empty means all.
        row: which row of the batch is shown.
        step: the step of the output that is looked at.
        slots: the edits, in the order in which they act.
        baseline: the run without them.
        edited: the run with those that are on; `baseline` itself when none is.
        seconds: how long the last run took.

    >>> from grulens import Session, ablate
    >>> session = Session(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> session.add(ablate("l0", 2))
    >>> float(session.now.h[0, :, 2].abs().max()), float(session.divergence.max()) > 0
    (0.0, True)
    >>> session.undo()
    >>> session.edited is session.baseline
    True
    """

    layer = tl.Unicode()
    units = tl.Tuple()
    times = tl.Tuple()
    row = tl.Int(0)
    step = tl.Int(0)
    slots = tl.Tuple()
    baseline = tl.Instance(Recording)
    edited = tl.Instance(Recording)
    seconds = tl.Float(0.0)

    def __init__(
        self,
        model: nn.Module,
        *args: Any,
        tokens: Tokens = None,
        readout: Readout | None = None,
        layer: str | None = None,
        scale: Scale | None = None,
        labels: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.lock = LOCK
        self.model = model
        self.readout = readout or first_tensor
        self.scale = scale
        self.labels = labels if labels is not None else getattr(model, "labels", None)
        self._keys = count()
        self._history: History[Slots] = History()
        self._random: Tensor = torch.get_rng_state()
        self._answers: dict[int, tuple[Recording, int, Answer]] = {}
        layers(model)  # says at once, by name, why a model cannot be opened
        self.set_input(*args, tokens=tokens, layer=layer, **kwargs)

    # what was asked

    def set_input(
        self, *args: Any, tokens: Tokens = None, layer: str | None = None, **kwargs: Any
    ) -> None:
        """Run the model on another input; the edits stay.

        Raises:
            EditError: an edit does not fit the new input; nothing is changed.
        """
        encode = getattr(self.model, "encode", None)
        if len(args) == 1 and isinstance(args[0], str) and encode is not None:
            tokens = list(args[0]) if tokens is None else tokens
            args = (encode(args[0]),)
        given = (args, kwargs)
        with self.lock:
            baseline = self._record(given, ())
            names = list(baseline)
            wanted = layer or self.layer or names[0]
            check_layer(wanted, names, "did not run on this input; what ran is")
            edited = self._record(given, self._on(self.slots)) or baseline
            batch, steps, _ = baseline[wanted].shape
            rows = token_rows(tokens, self.labels, args, batch, steps)
            self.args, self.kwargs = given
            self.token_rows = rows
            with self.hold_trait_notifications():
                self.step = min(self.step, steps - 1) if self.layer else steps - 1
                self.layer = wanted
                self.row = min(self.row, batch - 1)
                self.times = tuple(t for t in self.times if t < steps)
                self.baseline = baseline
                self.edited = edited if self._on(self.slots) else baseline

    # what is edited

    def add(self, edit: Edit) -> None:
        """Put an edit at the end of the list, switched on."""
        self.set_slots((*self.slots, Slot(next(self._keys), edit)))

    def put(self, old: Edit | None, new: Edit | None) -> None:
        """Replace one edit by another in its place; None adds or removes. One drag is one undo."""
        slot = next((s for s in self.slots if s.edit == old), None) if old is not None else None
        if new is None:
            if slot is not None:
                self.remove(slot.key)
        elif slot is None:
            self.set_slots((*self.slots, Slot(key := next(self._keys), new)), drag=key)
        else:
            changed = tuple(
                replace(s, edit=new, on=True) if s.key == slot.key else s for s in self.slots
            )
            self.set_slots(changed, drag=slot.key)

    def remove(self, key: int) -> None:
        """Take an edit out of the list."""
        self.set_slots(tuple(slot for slot in self.slots if slot.key != key))

    def switch(self, on: Callable[[Slot], bool]) -> None:
        """Switch every edit on or off as `on(slot)` says."""
        self.set_slots(tuple(replace(slot, on=on(slot)) for slot in self.slots))

    def move(self, key: int, by: int) -> None:
        """Move an edit up (negative) or down the list."""
        slots = list(self.slots)
        here = next(i for i, slot in enumerate(slots) if slot.key == key)
        slots.insert(max(0, here + by), slots.pop(here))
        self.set_slots(tuple(slots))

    def undo(self) -> None:
        """Take the last change of the edits back."""
        self._travel(self._history.back)

    def redo(self) -> None:
        """Do again what was undone."""
        self._travel(self._history.forth)

    @property
    def can_undo(self) -> bool:
        """Whether there is something to take back."""
        return bool(self._history.past)

    @property
    def can_redo(self) -> bool:
        """Whether there is something to do again."""
        return bool(self._history.future)

    def set_slots(self, slots: Slots, drag: int | None = None) -> None:
        """Put a whole list of edits in force.

        Args:
            slots: the edits.
            drag: the key of the edit that is under the hand; its changes are one undo.

        Raises:
            EditError, LayerError: an edit does not fit; the list stays as it was.
        """
        with self.lock:
            edited = self._run(slots)
            self._history.note(self.slots, drag)
            self._show(slots, edited)

    # what came out

    @property
    def before(self) -> LayerRecording:
        """The layer shown, without edits."""
        return self.baseline[self.layer]

    @property
    def now(self) -> LayerRecording:
        """The layer shown, with the edits that are on."""
        return self.edited[self.layer]

    @property
    def tokens(self) -> list[str] | None:
        """What to call each step of the row shown; None is its number."""
        return self.token_rows[self.row] if self.token_rows else None

    @property
    def steps(self) -> int:
        """Valid steps of the row shown."""
        return int(self.before.mask[self.row].sum())

    @property
    def answer_before(self) -> Answer:
        """The readout without edits, of the row shown."""
        return self._answer(self.baseline)

    @property
    def answer_now(self) -> Answer:
        """The readout with the edits, of the row shown."""
        return self._answer(self.edited)

    @property
    def divergence(self) -> Tensor:
        """How far the output has moved at each step (time,): bits, or a plain difference."""
        return divergence(self.answer_before, self.answer_now)

    def code(self) -> str:
        """The Python that makes the edits that are on, for a notebook cell."""
        lines = [f"    {slot.edit!r}," for slot in self.slots if slot.on]
        return "\n".join(["edits = [", *lines, "]", "run = grulens.record(model, x, edits=edits)"])

    def _answer(self, recording: Recording) -> Answer:
        held = self._answers.get(id(recording))
        if held is None or held[0] is not recording or held[1] != self.row:
            batch, steps, _ = self.before.shape
            with torch.no_grad():
                answer = read(recording.output, self.readout, self.scale, self.row, batch, steps)
            named = self.labels is not None and len(self.labels) == answer.values.shape[1]
            if self.scale is None and named and answer.scale == "value":
                answer = replace(answer, scale="logits")
            held = (recording, self.row, answer)
            self._answers = {id(r[0]): r for r in self._answers.values() if r[0] is self.baseline}
            self._answers[id(recording)] = held
        return held[2]

    def _on(self, slots: Slots) -> list[Edit]:
        return [slot.edit for slot in slots if slot.on]

    def _run(self, slots: Slots) -> Recording:
        edits = self._on(slots)
        return self._record((self.args, self.kwargs), edits) if edits else self.baseline

    def _record(self, given: Input, edits: Sequence[Edit]) -> Recording:
        began = time.perf_counter()
        args, kwargs = given
        # the same random numbers in every run: what differs is what the edits did
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random)
            recording = record(self.model, *args, edits=edits, **kwargs)
        self.seconds = time.perf_counter() - began
        return recording

    def _travel(self, way: Callable[[Slots], Slots]) -> None:
        with self.lock:
            slots = way(self.slots)
            self._show(slots, self._run(slots))

    def _show(self, slots: Slots, edited: Recording) -> None:
        with self.hold_trait_notifications():
            self.slots = slots
            self.edited = edited

    @tl.validate("layer")
    def _valid_layer(self, proposal: Any) -> str:
        name: str = proposal["value"]
        if self.layer:
            check_layer(name, list(self.baseline), "did not run on this input; what ran is")
        return name

    @tl.observe("layer")
    def _on_layer(self, change: Any) -> None:
        if change["old"]:
            self.units, self.times = (), ()

    @tl.validate("units", "times")
    def _valid_positions(self, proposal: Any) -> tuple[int, ...]:
        return tuple(sorted({int(i) for i in proposal["value"]}))

    def __repr__(self) -> str:
        edits = f"{len(self._on(self.slots))} of {len(self.slots)} edits on"
        return f"Session({type(self.model).__name__}, {self.layer}, {edits})"
