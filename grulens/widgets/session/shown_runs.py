"""The two runs that are shown, made of the model as it stands: without edits, and with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import traitlets as tl

from grulens.errors import GrulensError, NoAnswerError, WeightsChangedError
from grulens.models.call.invocation import Given
from grulens.models.instrument.lock import LOCK
from grulens.models.layers import check_layer
from grulens.models.recording import Recording
from grulens.models.restore.standing import CHANGED, Standing
from grulens.probing.edits.edit import Edit
from grulens.probing.edits.mismatch import describe_mismatch
from grulens.probing.layer import last_read
from grulens.probing.readout.readout import divergence
from grulens.probing.step_order import StepOrder
from grulens.widgets.session.comparison import Comparison
from grulens.widgets.session.edit_list import EditList, Slots, check_edit
from grulens.widgets.session.input import Input
from grulens.widgets.session.names import Names
from grulens.widgets.session.row_answers import Truth, check_truth, row_answers, truth_of
from grulens.widgets.session.runs import Runs
from grulens.widgets.session.selection import fitting, shape_of
from grulens.words import say


class ShownRuns(Comparison, EditList):
    """The runs of one model on one input, made anew when the input, the edits or the model change.

    What cannot be computed raises an error, and the runs before it stay.

    Attributes:
        runs: runs the model.
        standing: the state of the model in the runs shown, to compare with.
    """

    busy = tl.Bool(False)
    changed = tl.Bool(False)
    evaluate = tl.Bool(False)
    mode = tl.Unicode("")
    text = tl.Unicode("")
    truth: Any = tl.Any(None)
    _input: Input
    _named: bool
    runs: Runs
    standing: Standing
    lock = LOCK

    def __init__(self) -> None:
        super().__init__()
        self._effects: dict[Edit, float] = {}

    def _show(self, new: Input, slots: Slots, layer: str | None = None) -> None:
        """Run the model on an input without edits and with them, and show both.

        Args:
            new: the input.
            slots: the edits.
            layer: the layer to show; None keeps the present one, if it ran.
        """
        again = new is getattr(self, "_input", None)
        standing, mode = self.runs.standing(), self.runs.mode
        baseline = self._compute(new.given)
        if standing.lazy:
            standing = self.runs.standing()
        names = list(baseline)
        kept = self.layer if self.layer in baseline else names[0]
        wanted = kept if layer is None else layer
        check_layer(wanted, names, "did not run on this input; what ran is", model=self.model)
        known = {slot.edit for slot in self.slots}
        # an edit that is new to the list must fit
        slots = tuple(
            fitted if slot.edit in known else slot
            for slot, fitted in zip(slots, self._fitted(slots, baseline), strict=True)
        )
        on = [slot.edit for slot in slots if slot.on]
        edited = self._edited_run(standing, new.given, on) if on else baseline
        batch, steps, units = baseline[wanted].shape
        order = StepOrder(baseline, self._aside, new.given, self._order if again else None)
        try:
            names_by = new.naming.of(baseline, wanted, order)
        except GrulensError:
            if not again:
                raise
            names_by = dict.fromkeys(baseline)  # the model runs other steps now than they are of
        if new.truth is not None:
            self._check_truth(new.truth, baseline, wanted)
        if self._named:
            self.answers.check_labels(baseline.output, batch, steps)
        text = self.text if again else new.text(names_by[names[0]])
        self._input, self._names_by, self._order = new, names_by, order
        # kept while it holds: what was found of the model is known by it
        if self.standing.mode != standing.mode or not self.standing.same(self.model):
            self.standing = standing
        self._effects.clear()
        with self.hold_trait_notifications():
            last = max(0, int(last_read(baseline[wanted])[0]))
            self.step = min(self.step, steps - 1) if self.layer else last
            # of a state of another shape, the same numbers are units of other places
            same = not self.layer or shape_of(self.before.cell) == shape_of(baseline[wanted].cell)
            self.layer = wanted
            self.row = min(self.row, batch - 1)
            self.times = tuple(t for t in self.times if t < steps)
            self.units = tuple(u for u in self.units if u < units) if same else ()
            self.space = fitting(baseline[wanted].cell, self.space)
            self.mode, self.changed, self.text = mode, False, text
            self.truth = new.truth
            self.baseline = baseline
            self.edited = edited
            self.set_trait("slots", slots)

    def run_again(self) -> None:
        """Make the runs shown anew, of the model as it is now."""
        with self.lock:
            self._show(self._input, self.slots)

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
                self._show(self._input, slots)
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

    @property
    def given(self) -> Given:
        """The model's own arguments, (args, kwargs)."""
        return self._input.given

    @property
    def typed(self) -> str | None:
        """The text that the input was encoded from; None where no text was given."""
        return self._input.typed

    @property
    def names(self) -> Names:
        """The names of the user's variables where the input was given."""
        return self._input.names

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

    @staticmethod
    def _fitted(slots: Slots, run: Recording) -> Slots:
        return tuple(
            replace(slot, mismatch=describe_mismatch(slot.edit, run, say)) for slot in slots
        )

    def _edited_run(self, standing: Standing, given: Given, edits: Sequence[Edit]) -> Recording:
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

    def _compute(self, given: Given, edits: Sequence[Edit] = ()) -> Recording:
        self.busy = True
        try:
            return self.runs(given, edits)
        finally:
            self.busy = False

    def _aside(self, given: Given) -> Recording:
        self.busy = True
        try:
            return self.runs.aside(given)
        finally:
            self.busy = False

    def _check_truth(self, truth: Truth, run: Recording, layer: str) -> None:
        """Raise GrulensError unless a truth fits the rows and the classes of a run."""
        check_truth(truth, len(run[layer].h))
        with suppress(NoAnswerError):
            row_answers(self.answers, run, run[layer], truth)

    @tl.validate("truth")
    def _valid_truth(self, proposal: Any) -> Truth:
        truth = truth_of(proposal["value"])
        if truth is not None and self.layer:
            self._check_truth(truth, self.baseline, self.layer)
        return truth

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

    @tl.observe("row", "layer", "baseline")
    def _stay_in_row(self, _: Any) -> None:
        """Where the row shown ends before the step chosen, choose the last one that it read."""
        layer = self.baseline[self.layer]
        valid = layer.mask[self.row]
        if self.step < len(valid) and not valid[self.step] and valid.any():
            self.step = int(last_read(layer)[self.row])
