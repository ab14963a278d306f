"""What the widgets share: model, input, layer, selection, edits, and the run before and after them.

Widgets read and write this and nothing else, so any number of them stay linked and any of them
works alone. A change that cannot be computed raises and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import traitlets as tl
from torch import Tensor, nn

from grulens.errors import PositionError, shown
from grulens.models.find import check_layer, layers
from grulens.models.recording import LayerRecording, Recording
from grulens.models.splice import LOCK
from grulens.probing import positions
from grulens.probing.edit import Edit
from grulens.probing.readout import Answer, Readout, Scale, divergence
from grulens.widgets.answers import Answers, Array
from grulens.widgets.edit_list import EditList, Slots, check_edit
from grulens.widgets.runs import Input, Runs
from grulens.widgets.tokens import Tokens, names_of, token_rows


class Positions(tl.Tuple):
    """Units or steps: any collection of them is taken, sorted, each once."""

    def validate(self, obj: Any, value: Any) -> Any:
        """The collection as a sorted tuple."""
        try:
            numbers = {int(i) for i in value}
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise tl.TraitError(f"{self.name} takes whole numbers, got {shown(value)}") from error
        return super().validate(obj, tuple(sorted(numbers)))


class Session(EditList):
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
        given: the model's own arguments, (args, kwargs).
        runs: what runs the model.
        busy: whether the model runs right now.

    >>> import torch
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
    units = Positions()
    times = Positions()
    row = tl.Int(0)
    step = tl.Int(0)
    baseline = tl.Instance(Recording)
    edited = tl.Instance(Recording)
    busy = tl.Bool(False)

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
        own = getattr(model, "labels", None)
        # a model's attribute of that name may be anything; what is given must be names
        given = own if labels is None and isinstance(own, list | tuple) else labels
        self.labels = names_of(given)
        self.answers = Answers(readout, scale, self.labels)
        self.runs = Runs(model)
        self._effects: dict[Edit, float] = {}
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
            baseline = self._compute(given)
            names = list(baseline)
            wanted = layer if layer is not None else self.layer or names[0]
            check_layer(wanted, names, "did not run on this input; what ran is", model=self.model)
            edited = self._compute(given, self.on) if self.on else baseline
            batch, steps, _ = baseline[wanted].shape
            rows = token_rows(tokens, self.labels, args, batch, steps)
            self.given = given
            self._effects.clear()
            self.token_rows = rows
            with self.hold_trait_notifications():
                self.step = min(self.step, steps - 1) if self.layer else steps - 1
                self.layer = wanted
                self.row = min(self.row, batch - 1)
                self.times = tuple(t for t in self.times if t < steps)
                self.baseline = baseline
                self.edited = edited

    def enforce(self, slots: Slots) -> None:
        """Run the model with a list of edits; a list that does not fit is refused."""
        with self.lock:
            edited = self._run(slots)
            with self.hold_trait_notifications():
                self.edited = edited  # told first: the picture goes out before the words
                self.set_trait("slots", slots)

    @property
    def args(self) -> tuple[Any, ...]:
        """The model's arguments."""
        return self.given[0]

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

    @property
    def seconds(self) -> float:
        """How long the last run took."""
        return self.runs.seconds

    @property
    def moved(self) -> Tensor:
        """How far the output has moved at each valid step, without its sign (time,)."""
        return self.valid(self.divergence)

    def effect(self, edit: Edit) -> float:
        """What one edit does alone: how far it moves the output of the row shown, mean a step."""
        check_edit(edit)
        with self.lock:
            if edit not in self._effects:
                alone = self.edited if self.on == [edit] else self._compute(self.given, [edit])
                change = divergence(self.answer_before, self._answer(alone))
                self._effects[edit] = float(self.valid(change).mean())
            return self._effects[edit]

    def top(self, step: int, most: int = 8) -> tuple[list[str], Array, Array]:
        """The classes that count most at a step of the output, in either run.

        Returns:
            Their names, and what is shown of them before and after, each (class,) float32; the
            likeliest before comes first.
        """
        place, size = positions.normal(step, "step"), len(self.answer_now.values)
        if not isinstance(place, int):
            raise PositionError(f"step must be an int, got {shown(step)}")
        positions.check(place, size, "step", "this output")
        return self.answers.top(self.answer_before, self.answer_now, step, most)

    def code(self) -> str:
        """The Python that makes the present run, for a notebook cell.

        `model` and `x` stand for the model and its input.
        """
        edits = self.on
        names = sorted({"record", *(edit.kind for edit in edits)})
        lines = [f"from grulens import {', '.join(names)}", "", "edits = ["]
        lines += [f"    {edit!r}," for edit in edits]
        return "\n".join([*lines, "]", "run = record(model, x, edits=edits)"])

    def valid(self, change: Tensor) -> Tensor:
        """A change of the output at the valid steps of the row shown, without its sign."""
        mask = self.before.mask[self.row].cpu()
        return change.abs()[mask] if len(change) == len(mask) else change.abs()

    def _answer(self, run: Recording) -> Answer:
        batch, steps, _ = self.before.shape
        return self.answers.of(run, self.row, batch, steps)

    def _run(self, slots: Slots) -> Recording:
        edits = [slot.edit for slot in slots if slot.on]
        return self._compute(self.given, edits) if edits else self.baseline

    def _compute(self, given: Input, edits: Sequence[Edit] = ()) -> Recording:
        self.busy = True
        try:
            return self.runs(given, edits)
        finally:
            self.busy = False

    @tl.validate("layer")
    def _valid_layer(self, proposal: Any) -> str:
        name: str = proposal["value"]
        if self.layer:
            check_layer(
                name, list(self.baseline), "did not run on this input; what ran is", self.model
            )
        return name

    @tl.validate("units", "times", "row")
    def _valid_positions(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        if self.layer:
            batch, steps, units = self.before.shape
            size = {"units": units, "times": steps, "row": batch}[name]
            for position in value if isinstance(value, tuple) else (value,):
                if not 0 <= position < size:
                    word = name.removesuffix("s")
                    raise PositionError(
                        f"{word} {shown(position)} is not in this run of layer {self.layer!r}, "
                        f"which has {size} {word}s (0 to {size - 1})"
                    )
        return value

    @tl.validate("step")
    def _valid_step(self, proposal: Any) -> Any:
        if proposal["value"] < 0:  # a step past the end is the last one: outputs differ in length
            raise PositionError(f"step must be 0 or more, got {shown(proposal['value'])}")
        return proposal["value"]

    @tl.observe("row")
    def _on_row(self, _: Any) -> None:
        self._effects.clear()

    @tl.observe("layer")
    def _on_layer(self, change: Any) -> None:
        if change["old"]:
            self.units, self.times = (), ()

    def __repr__(self) -> str:
        edits = f"{len(self.on)} of {len(self.slots)} edits on"
        return f"Session({type(self.model).__name__}, {self.layer}, {edits})"
