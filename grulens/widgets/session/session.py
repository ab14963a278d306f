"""What the screens share: model, input, layer, selection, edits, and the run before and after them.

Screens read and write the session and nothing else, so any number of them stay linked, and each
works alone. A change that cannot be computed raises an error and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import traitlets as tl
from torch import nn

from grulens.arguments import Decode, Encode, Inputs, MethodName
from grulens.errors import GrulensError, WeightsChangedError
from grulens.models.call.invocation import arguments
from grulens.models.instrument.lock import LOCK
from grulens.models.layers import check_layer, layers
from grulens.models.recording import Recording
from grulens.models.restore.standing import CHANGED, Standing
from grulens.probing.edits.edit import Edit
from grulens.probing.edits.mismatch import describe_mismatch
from grulens.probing.layer import last_read
from grulens.probing.readout.readout import Readout, Scale, divergence
from grulens.widgets.session.answers import Answers
from grulens.widgets.session.code import write
from grulens.widgets.session.coder import Coder, ids_in
from grulens.widgets.session.comparison import Comparison
from grulens.widgets.session.edit_list import EditList, Slots, check_edit
from grulens.widgets.session.names import Names, here
from grulens.widgets.session.runs import Input, Runs
from grulens.widgets.session.tokens import Naming, Rows, TokensBy, names_of, texts


class Session(Comparison, EditList):
    """One model on one input, shown by any number of linked screens.

    Args:
        model: any module that holds recurrent layers which `grulens.layers` lists.
        *args: the model's own arguments; a single text is encoded, where there is an `encode`.
        tokens: the name of each step: a text (a character a step), one list for all rows, or one
            list a row; or a dict of these by the name of a layer or of a module,
            {"enc": [...], "dec": [...]}. The steps of a layer that they do not fit have numbers.
        encode: a function from a text to the model's input; None is the model's own `encode`, if
            it has one.
        decode: a function from ids (time,) to a text or a list of texts; None is the model's own.
        readout: a function from the model's output to (batch, time, class), (batch, class),
            (batch, time) or (batch,); None takes the first tensor in the output.
        layer: the layer to show first; None is the first that ran.
        scale: what the readout's numbers are: "logits", "probability" or "value"; None takes
            numbers with named classes for logits.
        labels: names of the classes.
        call: the name of the method, or of the submodule, whose call is the run; None is the
            model.
        inputs: all arguments of the run as (args, kwargs), in place of `*args` and `**kwargs`; for
            a model that has keyword arguments of the same names as this class.
        **kwargs: the model's own keyword arguments.

    Attributes:
        layer: the name of the layer shown.
        units: the selected units; empty means all.
        times: the selected steps; empty means all.
        row: the row of the batch that is shown.
        step: the selected step of the output.
        slots: the edits, in the order in which they act.
        baseline: the run without edits.
        edited: the run with the edits that are on; `baseline` itself when none is on.
        given: the model's own arguments, (args, kwargs).
        call: the name of the method, or of the submodule, whose call is the run, or None.
        text: the text of the input as it was given; for an input of ids, a text that encodes to
            them, or "".
        coder: encodes texts to the model's input, and names ids.
        typed: the text that the input was encoded from; None where no text was given.
        names: the names of the user's variables, for `code`.
        runs: runs the model.
        busy: whether the model runs right now.
        changed: whether the model was seen to differ from the runs shown: it was trained, or has
            other weights, another mode or other modules. Set by `look` and by every comparison; an
            edit, another input or `run_again` makes both runs anew.
        evaluate: whether these runs are in eval mode; the model itself stays in its own mode.
        mode: which parts act as in training in the runs shown, "training mode: dropout is on"; or
            that the runs are in eval mode and the model is not; or "".
        standing: the state of the model in the runs shown, to compare with.

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
        self.coder = Coder.of(model, encode, decode, self.labels)
        self.names = self._made = here() or Names({})
        self.typed: str | None = None
        self._effects: dict[Edit, float] = {}
        self.standing = self.runs.standing()
        self.set_input(*args, tokens=tokens, layer=layer, inputs=inputs, **kwargs)

    def set_input(
        self,
        *args: Any,
        tokens: TokensBy = None,
        layer: str | None = None,
        inputs: Inputs = None,
        **kwargs: Any,
    ) -> None:
        """Run the model on another input; the edits stay.

        An edit that reaches past the end of the new input is off until it fits, and the screen
        says why.

        Args:
            *args: as for the class.
            tokens: as for the class.
            layer: the layer to show; None keeps the present one, if it ran.
            inputs: as for the class.
            **kwargs: the model's own keyword arguments.
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

        Where the model has changed since the run without edits, that run is made anew, too.
        """
        with self.lock:
            on = [slot.edit for slot in slots if slot.on]
            if on and not self.standing.same(self.model):
                self._show(self.given, self._naming, slots, text=self.text)
                return
            edited = self._edited_run(self.standing, self.given, on) if on else self.baseline
            with self.hold_trait_notifications():
                self.edited = edited  # first, so that the picture reaches the page before the texts
                self.set_trait("slots", slots)
            if not on:
                self.look()

    def fitted(self, slots: Slots) -> Slots:
        """The same edits, each with the positions of it that the present input does not have."""
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
        edited = self._edited_run(standing, given, on) if on else baseline
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

    def _edited_run(self, standing: Standing, given: Input, edits: Sequence[Edit]) -> Recording:
        """The run with edits, of the same model as the run without.

        Raises:
            WeightsChangedError: the model has changed since then, or changes while it runs.
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

    @property
    def seconds(self) -> float:
        """How long the last run took."""
        return self.runs.seconds

    def effect(self, edit: Edit) -> float:
        """How far one edit alone moves the output of the row shown, as a mean over its valid steps.

        The unit is that of `divergence`: bits, or a plain difference.
        """
        check_edit(edit)
        with self.lock:
            if edit not in self._effects:
                if self.on == [edit]:
                    alone = self.edited
                elif self.look():
                    raise WeightsChangedError(CHANGED)
                else:
                    alone = self._edited_run(self.standing, self.given, [edit])
                change = divergence(self.answer_before, self._answer(alone))
                self._effects[edit] = float(self.valid(change).mean())
            return self._effects[edit]

    @contextmanager
    def studying(self) -> Iterator[None]:
        """A context in which the model is as in the runs shown: the same mode and the same weights.

        Analyses of the model run inside it.

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

        The code uses the names that stand in the user's call of `Session` or `set_input`, and
        encodes a text as the session did. What cannot be written is named in a comment.
        """
        with self.lock:
            return write(self)

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
    def _on_selection(self, _: Any) -> None:
        self.end_drag()

    @tl.observe("row")
    def _on_row(self, _: Any) -> None:
        self._effects.clear()

    def __repr__(self) -> str:
        edits = f"{len(self.on)} of {len(self.slots)} edits on"
        return f"Session({type(self.model).__name__}, {self.layer}, {edits})"
