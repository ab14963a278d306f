"""What the widgets share: model, input, layer, selection, edits, and the run before and after them.

Widgets read and write this and nothing else, so any number of them stay linked and any of them
works alone. A change that cannot be computed raises and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import traitlets as tl
from torch import Tensor, nn

from grulens.arguments import Decode, Encode, Inputs, MethodName
from grulens.errors import GrulensError, NoAnswerError, PositionError, WeightsChangedError, shown
from grulens.models.call.invocation import arguments
from grulens.models.instrument.editing import LOCK
from grulens.models.layers import check_layer, layers
from grulens.models.recording import LayerRecording, Recording
from grulens.models.restore.standing import CHANGED, Standing
from grulens.probing.edits import positions
from grulens.probing.edits.edit import Edit
from grulens.probing.edits.mismatch import describe_mismatch
from grulens.probing.layer import last_read
from grulens.probing.readout.readout import Answer, Readout, Scale, divergence
from grulens.widgets.session.answers import Answers, Array
from grulens.widgets.session.code import write
from grulens.widgets.session.edit_list import EditList, Slots, check_edit
from grulens.widgets.session.names import Names, here
from grulens.widgets.session.runs import Input, Runs
from grulens.widgets.session.selection import Selection
from grulens.widgets.session.text import Text, ids_in, vocabulary_of
from grulens.widgets.session.tokens import Naming, Rows, TokensBy, names_of, texts


def _own(model: nn.Module, name: str, given: Any) -> Any:
    """A function that was given, or the model's own of that name, or None.

    Raises:
        GrulensError: what was given is no function.
    """
    if given is not None and not callable(given):
        raise GrulensError(f"{name} must be a function, got {shown(given)}")
    own = getattr(model, name, None) if given is None else given
    return own if callable(own) else None


class Session(Selection, EditList):
    """One model on one input, under any number of widgets.

    Args:
        model: any module that holds an nn.GRU or nn.GRUCell.
        *args: the model's own arguments; one text is encoded where there is an `encode`.
        tokens: what to call each step: a text, one list for all rows, or one list a row; or these
            by the name of a layer or of a module, {"enc": [...], "dec": [...]}. A layer of another
            number of steps has numbers.
        encode: from a text to the model's input; None is the model's own `encode`, if it has one.
        decode: from ids (time,) to a text or a list of texts; None is the model's own.
        readout: from the model's output to (batch, time, class), (batch, class), (batch, time)
            or (batch,).
        layer: which layer to begin with; None is the first that ran.
        scale: what the readout's numbers are: "logits", "probability" or "value".
        labels: names of the classes.
        call: the name of the method, or of the part, whose call is the run; None is the model.
        inputs: all arguments of the run as (args, kwargs), in place of `*args` and `**kwargs`: for
            a model whose own keywords are those of this class.
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
        call: the name of the model's method that is the run, or None for the model itself.
        text: the text that was given, as it was given; of ids, one that is encoded to them, or "".
        coder: what stands between texts and ids.
        typed: the text that the input was encoded from; None where the input was given as it is.
        names: what the user calls things.
        runs: what runs the model.
        busy: whether the model runs right now.
        changed: whether the model has been seen to be another than in the runs shown: trained on,
            given other weights, another mode or other modules. Set by whatever compares, and by
            `look`; an edit, another input or `run_again` makes both runs anew.
        evaluate: whether these runs are in eval mode, whatever mode the model is in; the model
            itself is left in its own.
        mode: what acts as in training in the runs shown, "training mode: dropout is on"; or that
            they are in eval although the model is not.
        standing: how the model stood in the runs shown.

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

    edited = tl.Instance(Recording)
    busy = tl.Bool(False)
    changed = tl.Bool(False)
    evaluate = tl.Bool(False)
    mode = tl.Unicode("")
    text = tl.Unicode("")

    def __init__(
        self,
        model: nn.Module,
        *args: Any,
        tokens: TokensBy = None,
        encode: Encode = None,
        decode: Decode = None,
        readout: Readout | None = None,
        layer: str | None = None,
        scale: Scale | None = None,
        labels: Sequence[str] | None = None,
        call: MethodName = None,
        inputs: Inputs = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        layers(model)  # says at once, by name, why a model cannot be opened
        self.lock = LOCK
        self.model = model
        own = getattr(model, "labels", None)
        # a model's attribute of that name may be anything; what is given must be names
        self._named = labels is not None
        owned = texts(own, "labels") if isinstance(own, list | tuple) else None
        self.labels = names_of(labels) if self._named else owned
        self.answers = Answers(readout, scale, self.labels)
        self.call = call
        self.runs = Runs(model, call)
        self.coder = Text(
            _own(model, "encode", encode), _own(model, "decode", decode),
            vocabulary_of(model, self.labels),
        )  # fmt: skip
        self.names = self._made = here() or Names({})
        self.typed: str | None = None
        self._effects: dict[Edit, float] = {}
        self.standing = self.runs.standing()
        self.set_input(*args, tokens=tokens, layer=layer, inputs=inputs, **kwargs)

    # what was asked

    def set_input(
        self,
        *args: Any,
        tokens: TokensBy = None,
        layer: str | None = None,
        inputs: Inputs = None,
        **kwargs: Any,
    ) -> None:
        """Run the model on another input; the edits stay.

        An edit that reaches past the end of the new input is off, and says why, until it fits.
        """
        args, kwargs = arguments(args, kwargs, inputs)
        text, at = None, here()
        if len(args) == 1 and isinstance(args[0], str) and self.coder.encode is not None:
            text = args[0]
            args = (self.coder.read(text),)
        spelled = None if text is None else self.coder.spelled(args[0], text)
        names = partial(self.coder.names, text=text)
        naming = Naming(tokens, names, ids_in(args, kwargs), spelled)
        with self.lock:
            before = self.typed, self.names
            self.typed = text
            self.names = self._made if at is None else at.before(self._made)
            try:
                self._show((args, kwargs), naming, self.slots, layer, text)
            except BaseException:
                self.typed, self.names = before
                raise

    def run_again(self) -> None:
        """Make the runs shown anew, of the model as it is now."""
        with self.lock:
            self._show(self.given, self._naming, self.slots, text=self.text)

    def look(self) -> bool:
        """Whether the model has changed since the runs shown; `changed` is set to that."""
        with self.lock:
            self.changed = not self.standing.same_weights(self.model)
            return self.changed

    def enforce(self, slots: Slots) -> None:
        """Run the model with a list of edits; a list that does not fit is refused.

        Where the model is not what it was in the unedited run, that is made anew, too.
        """
        with self.lock:
            on = [slot.edit for slot in slots if slot.on]
            if on and not self.standing.same(self.model):
                self._show(self.given, self._naming, slots, text=self.text)
                return
            edited = self._of_one(self.standing, self.given, on) if on else self.baseline
            with self.hold_trait_notifications():
                self.edited = edited  # told first: the picture goes out before the words
                self.set_trait("slots", slots)
            if not on:
                self.look()

    def fitted(self, slots: Slots) -> Slots:
        """A list of edits, each with what of it the present input has not got."""
        return self._fitted(slots, self.baseline)

    def _show(
        self,
        given: Input,
        naming: Naming,
        slots: Slots,
        layer: str | None = None,
        text: str | None = None,
    ) -> None:
        """Run the model on an input without edits and with them, and show both."""
        standing, mode = self.runs.standing(), self.runs.mode
        baseline = self._compute(given)
        if standing.lazy:
            standing = self.runs.standing()
        names = list(baseline)
        wanted = self.layer if layer is None and self.layer in baseline else layer or names[0]
        check_layer(wanted, names, "did not run on this input; what ran is", model=self.model)
        known = {slot.edit for slot in self.slots}
        # an edit that is new to the list must fit
        slots = tuple(
            fitted if slot.edit in known else slot
            for slot, fitted in zip(slots, self._fitted(slots, baseline), strict=True)
        )
        on = [slot.edit for slot in slots if slot.on]
        edited = self._of_one(standing, given, on) if on else baseline
        batch, steps, units = baseline[wanted].shape
        try:
            names_by = naming.of(baseline, wanted)
        except GrulensError:
            if given is not getattr(self, "given", None):
                raise
            names_by = dict.fromkeys(baseline)  # the model runs other steps now than they are of
        if self._named:
            self.answers.check_labels(baseline.output, batch, steps)
        if text is None:
            text = self._written(naming, names_by[next(iter(names_by))])
        self.given, self._naming, self._names_by = given, naming, names_by
        # kept while it holds: what was found of the model is known by it
        if self.standing.mode != standing.mode or not self.standing.same(self.model):
            self.standing = standing
        self._effects.clear()
        with self.hold_trait_notifications():
            last = max(0, int(last_read(baseline[wanted])[0]))
            self.step = min(self.step, steps - 1) if self.layer else last
            self.layer = wanted
            self.row = min(self.row, batch - 1)
            self.times = tuple(t for t in self.times if t < steps)
            self.units = tuple(u for u in self.units if u < units)
            self.mode, self.changed, self.text = mode, False, text
            self.baseline = baseline
            self.edited = edited
            self.set_trait("slots", slots)

    def _written(self, naming: Naming, rows: Rows | None) -> str:
        """The text of an input that was given as ids."""
        names = rows[0] if rows and len(rows) == 1 else None
        return self.coder.written(naming.ids[0], names) if len(naming.ids) == 1 else ""

    @staticmethod
    def _fitted(slots: Slots, run: Recording) -> Slots:
        return tuple(replace(slot, mismatch=describe_mismatch(slot.edit, run)) for slot in slots)

    def _of_one(self, standing: Standing, given: Input, edits: Sequence[Edit]) -> Recording:
        """An edited run of the model as it stood in the unedited one.

        Raises:
            WeightsChangedError: it is not what it was, or changes while it runs.
        """
        run = self._compute(given, edits)
        if not standing.same(self.model):
            raise WeightsChangedError(
                "the model changed while it ran (it is trained in another thread, or its forward "
                "writes to its own weights), so no two runs of it can be compared; wait until it "
                "stands still, or look at a copy: copy.deepcopy(model)"
            )
        return run

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
    def token_rows(self) -> Rows | None:
        """What to call each step of the layer shown, one list a row; None is its number."""
        return self._names_by.get(self.layer)

    @property
    def tokens(self) -> list[str] | None:
        """What to call each step of the row shown; None is its number."""
        return self.tokens_of(self.layer, self.row)

    def tokens_of(self, layer: str, row: int) -> list[str] | None:
        """What to call each step of a row of a layer; None is its number."""
        rows = self._names_by.get(layer)
        return rows[row] if rows else None

    @property
    def steps(self) -> int:
        """Valid steps of the row shown."""
        return int(self.before.mask[self.row].sum())

    @property
    def unread(self) -> NoAnswerError | None:
        """Why the output cannot be shown beside this layer, and the readout that would show it."""
        try:
            self._answer(self.baseline)
        except NoAnswerError as error:
            return error
        return None

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
                if self.on == [edit]:
                    alone = self.edited
                elif self.look():
                    raise WeightsChangedError(CHANGED)
                else:
                    alone = self._of_one(self.standing, self.given, [edit])
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

    @contextmanager
    def studying(self) -> Iterator[None]:
        """For what is computed of the model beside its runs: in their mode, of the same weights.

        Raises:
            WeightsChangedError: the model has changed since the runs shown, or does meanwhile.
        """
        try:
            with self.runs.studying(self.standing):
                yield
        except WeightsChangedError:
            self.look()
            raise

    def code(self) -> str:
        """The Python that makes the present run, for a notebook cell.

        Things are called what they are called in the call that made the session or set its input;
        a text goes through what encodes it. What cannot be written is said in a comment.
        """
        with self.lock:
            return write(self)

    def valid(self, change: Tensor) -> Tensor:
        """A change of the output at the valid steps of the row shown, without its sign."""
        mask = self.before.mask[self.row].cpu()
        return change.abs()[mask] if len(change) == len(mask) else change.abs()

    def _answer(self, run: Recording) -> Answer:
        batch, steps, _ = self.before.shape
        return self.answers.of(run, self.row, batch, steps)

    def _compute(self, given: Input, edits: Sequence[Edit] = ()) -> Recording:
        self.busy = True
        try:
            return self.runs(given, edits)
        finally:
            self.busy = False

    @tl.observe("evaluate")
    def _on_evaluate(self, change: Any) -> None:
        before, self.runs.evaluate = self.runs.evaluate, change["new"]
        try:
            self.run_again()
        except BaseException:
            self.runs.evaluate = before
            self.set_trait("evaluate", before)
            raise

    @tl.observe("layer", "units", "times", "row", "step", "baseline")
    def _on_another_look(self, _: Any) -> None:
        self.end_drag()

    @tl.observe("row")
    def _on_row(self, _: Any) -> None:
        self._effects.clear()

    def __repr__(self) -> str:
        edits = f"{len(self.on)} of {len(self.slots)} edits on"
        return f"Session({type(self.model).__name__}, {self.layer}, {edits})"
