"""What the screens share: model, input, layer, selection, edits, and the run before and after them.

Screens read and write the session and nothing else, so any number of them stay linked, and each
works alone. A change that cannot be computed raises an error and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import traitlets as tl
from torch import nn

from grulens.arguments import Decode, Encode, Inputs, MethodName, Space, TruthLike
from grulens.errors import GrulensError, shown
from grulens.models.call.invocation import arguments
from grulens.models.layers import layers
from grulens.probing.coder import Coder
from grulens.probing.corpus.scan.excerpt import Excerpt
from grulens.probing.corpus.scan.scanned import Scan
from grulens.probing.readout.readout import Readout, Scale
from grulens.widgets.session.answers import Answers
from grulens.widgets.session.code import write
from grulens.widgets.session.input import Input
from grulens.widgets.session.looked_at import LookedAt
from grulens.widgets.session.names import Names, here
from grulens.widgets.session.pins import Pins
from grulens.widgets.session.row_answers import truth_of
from grulens.widgets.session.runs import Runs
from grulens.widgets.session.shown_runs import ShownRuns
from grulens.widgets.session.tokens import TokensBy, names_of, texts


class Session(ShownRuns, LookedAt, Pins):
    """One model on one input, shown by any number of linked screens.

    Args:
        model: any module that holds recurrent layers which `grulens.layers` lists.
        *args: the model's own arguments; a single text is encoded, where there is an `encode`. Or
            one `Excerpt` of a scanned corpus (`Scan.excerpt`).
        tokens: the name of each step: a text (a character a step), one list for all rows, or one
            list a row; or a dict of these by the name of a layer or of a module,
            {"enc": [...], "dec": [...]}. The steps of a layer that they do not fit have numbers,
            and so have those of an observed loop that is not seen to go forwards.
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
        space: how the screens show a state over space, as in a ConvGRU: a row a channel, which is
            the "mean" or the "max" over its places, or one place, (y, x); None is a row a unit.
        inputs: all arguments of the run as (args, kwargs), in place of `*args` and `**kwargs`; for
            a model that has keyword arguments of the same names as this class.
        truth: what each row's answer should be, (batch,): numbers of classes, names of them, or
            numbers where an answer is one; None for a row of which it is not known. The table of
            rows says which answers are wrong.
        scan: a scan of the model over a corpus (`corpus.scan`, `corpus.open_scan`): the table of
            units says what each is found by, and the study "corpus" where else units are on.
        **kwargs: the model's own keyword arguments.

    Attributes:
        layer: the name of the layer shown.
        units: the selected units; empty means all.
        unit: the unit that is looked at, the last one that was chosen, or the name of a direction
            of the scan; the study "corpus" shows it. A unit that is set is chosen with the others,
            a direction is none of them, and None takes it away: then it is one of the chosen units
            again, if there are any.
        directions: the names of the directions that the scan followed of the layer shown.
        pins: the pinned units, {layer: {unit: name}}, 24 of a layer at most; they are seen as lines
            whatever is chosen. `pin(3, name="in a string")` adds one, `unpin(3)` takes it away, and
            `pinned` has those of the layer shown.
        times: the selected steps; empty means all.
        row: the row of the batch that is shown.
        step: the selected step of the output.
        space: as given. `units` are units still: a channel that a person chooses is all its places,
            or the one place.
        slots: the edits, in the order in which they act.
        baseline: the run without edits.
        edited: the run with the edits that are on; `baseline` itself when none is on.
        given: the model's own arguments, (args, kwargs).
        call: the name of the method, or of the submodule, whose call is the run, or None.
        text: the text of the input as it was given; for an input of ids, a text that encodes to
            them, or "".
        coder: encodes texts to the model's input, and names ids.
        truth: what each row's answer should be, as given, or None.
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
        scan: a scan of the model over a corpus, or None; it can be set, and taken away, later.
        other: what the study "compare" can show beside this: another model, which is given the same
            input (two checkpoints), or another session; None at first.
        excerpt: which part of a row of the corpus the input is, or None. Its runs begin in the
            states in which the row stood there.

    Raises:
        ScanError: `scan` is none, or of another model, or of other weights.

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

    excerpt = tl.Any(None, allow_none=True)
    other: Any = tl.Any(None, allow_none=True)

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
        space: Space = None,
        inputs: Inputs = None,
        truth: TruthLike = None,
        scan: Scan | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        layers(model)  # says at once, by name, why a model cannot be opened
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
        self._made = here() or Names({})
        self.standing = self.runs.standing()
        if len(args) == 1 and isinstance(args[0], Excerpt):
            if truth is not None:
                raise GrulensError("an excerpt of a corpus is one row of it, and has no truth")
            self.show_excerpt(args[0], tokens=tokens, layer=layer)
        else:
            self.set_input(*args, tokens=tokens, layer=layer, inputs=inputs, truth=truth, **kwargs)
        self.space = space
        self.scan = scan

    def set_input(
        self,
        *args: Any,
        tokens: TokensBy = None,
        layer: str | None = None,
        inputs: Inputs = None,
        truth: TruthLike = None,
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
            truth: as for the class; that of another input is forgotten.
            **kwargs: the model's own keyword arguments.
        """
        at = here()
        names = self._made if at is None else at.before(self._made)
        given, known = arguments(args, kwargs, inputs), truth_of(truth)
        self._take(Input.of(given, tokens, self.coder, names, known), layer)

    def show_excerpt(
        self, excerpt: Excerpt, *, tokens: TokensBy = None, layer: str | None = None
    ) -> None:
        """Show some steps of a row of a scanned corpus; the edits stay.

        Its runs, and all that is asked of the model, begin in the states in which the row stood.

        Args:
            excerpt: what `Scan.excerpt` gave.
            tokens: as for the class.
            layer: as for `set_input`.
        """
        new = Input.of(excerpt.given, tokens, self.coder, self._made)
        self._take(new, layer, excerpt)

    def _take(self, new: Input, layer: str | None, excerpt: Excerpt | None = None) -> None:
        with self.lock:
            before = self.runs.first
            self.runs.first = nullcontext if excerpt is None else excerpt.first
            try:
                self._show(new, self.slots, layer)
            except BaseException:
                self.runs.first = before
                raise
            self.excerpt = excerpt

    @tl.validate("other")
    def _valid_other(self, proposal: Any) -> Any:
        other = proposal["value"]
        if other is None or (isinstance(other, Session) and other is not self):
            return other
        if not isinstance(other, nn.Module):
            raise GrulensError(f"other must be a model or another Session, got {shown(other)}")
        layers(other)  # says at once, by name, why a model cannot be opened
        return other

    def code(self) -> str:
        """The Python that makes the present run, for a notebook cell.

        The code uses the names that stand in the user's call of `Session` or `set_input`, and
        encodes a text as the session did. What cannot be written is named in a comment.
        """
        with self.lock:
            return write(self)

    def __repr__(self) -> str:
        edits = f"{len(self.on)} of {len(self.slots)} edits on"
        return f"Session({type(self.model).__name__}, {self.layer}, {edits})"
