"""A watch over a run of a model: how it begins, what each call makes of it, and what was seen."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from grulens.cells.changes import Change
from grulens.errors import (
    LayerError,
    NonFiniteWarning,
    RecordingError,
    WeightsMovedWarning,
    shown,
)
from grulens.models.call.call import Call, Cells, Inside, Key, MakeProgram, Run
from grulens.models.call.invocation import copied
from grulens.models.call.place import EditLike, Place
from grulens.models.call.segment import Segment
from grulens.models.instrument import here
from grulens.models.instrument.lock import locked
from grulens.models.instrument.outermost import Outermost
from grulens.models.instrument.reads import Reads
from grulens.models.instrument.watchable import Watchable
from grulens.models.instrument.watched import Watched
from grulens.models.observe.form import ObservedForm
from grulens.models.observe.look import forget, made_otherwise_in, reshaped
from grulens.models.observe.reading.observing import Observing, Put
from grulens.models.observed import ObservedLayer
from grulens.models.recording import LayerRecording, Recording
from grulens.models.restore.versions import version

_marks = count()


#: What a refused run ends with.
ANEW: Final = "its gates are looked for anew"
AGAIN: Final = f". Record this input again: {ANEW}"


class Watch(Watched):
    """A model under watch, in one run.

    Args:
        watchable, edits, keep, may_observe: as for `Watched`.
        graph: whether what is recorded is part of autograd's graph.
        marks: whether nothing else watches the run, and it comes to each forward by its module.
        puts: what observed cells hand on in place of their states, as for `Observing`.

    Attributes:
        run: the run.
        reads: what its modules read, where somebody asks for that.
        refused: whether its run did not obey what is known of the model's observed cells.
    """

    def __init__(
        self,
        watchable: Watchable,
        edits: Sequence[EditLike] = (),
        *,
        keep: Sequence[str] | None = None,
        graph: bool = False,
        may_observe: bool = False,
        marks: bool = False,
        puts: Mapping[str, Put] | None = None,
    ) -> None:
        super().__init__(watchable, edits, keep=keep, may_observe=may_observe)
        self.graph = graph
        self.marks, self.puts = marks, puts or {}
        self.mark = next(_marks)
        self.thread = threading.get_ident()
        self.run = Outermost()
        self.reads: Reads | None = None
        self.refused = False
        self.observing: Observing | None = None
        self.weights: dict[nn.Module, tuple[object, list[Tensor], Cells]] = {}
        self._parameters: list[nn.Parameter] = []
        self._warned: set[nn.Module] = set()

    def began(self, run: Outermost) -> Outermost:
        """Note what a run that is recorded begins with."""
        if self.keep is not None:
            # a lazy module has none before its first run
            held = self.model.parameters()
            self._parameters = [p for p in held if not is_lazy(p)]
            run.versions = [version(tensor) for tensor in self._parameters]
        return run

    @property
    def given(self) -> object:
        """What a block that is opened for it gives."""
        return self

    def follow(self) -> Iterable[Callable[[], None]]:
        """Put what it needs besides taps into the model; each comes with what takes it out."""
        self.observing = self.observe(lambda: self.run)
        return self.observing.follow() if self.observing else ()

    def observe(self, run: Callable[[], Outermost]) -> Observing | None:
        """What reads the observed cells in a run; None if nothing of them is asked for.

        Args:
            run: gives the run while it is under way.
        """
        keep = self.keep
        kept = [name for name in self.observed if keep is not None and (not keep or name in keep)]
        edits = {name: self._by_layer[name] for name in self.observed if name in self._by_layer}
        if not kept and not edits and not self.puts:
            return None

        def placed(name: str, rows: int) -> tuple[int, Callable[[], Tensor] | None]:
            before = run().unedited
            layer = before.get(name) if before else None
            return (layer.steps_of(rows), layer.mean) if layer else (0, None)

        return Observing(
            self.observed, self.seen_cells, self.model, kept, edits, placed, self.graph,
            lambda: self.is_here, marks=self.marks, puts=self.puts,
        )  # fmt: skip

    def observed_ran(
        self, observing: Observing | None, run: Outermost, call: Callable[[], Any]
    ) -> None:
        """Note what was read of observed cells in a run.

        Args:
            observing: what read them; None if nothing did.
            run: the run.
            call: makes it once more.

        Raises:
            RecordingError: a cell did not obey its equation, or its states tell nothing of that,
                and its code is another than that in which it was found.
        """
        if observing is None:
            return
        observing.stop()
        try:
            lengths, parts = observing.lengths(), observing.segments()
            self._check_unconfirmed(observing.unconfirmed(parts), call)
        except RecordingError as error:
            self.refuse()
            if self.new or str(error).endswith(ANEW):
                raise
            raise RecordingError(f"{error}{AGAIN}") from error
        for name, steps in lengths.items():
            run.passed(name, 0, steps)
        for name, segments in parts.items():
            if segments and segments[-1].cell.shape != self.observed[name].shape:
                reshaped(self.model, name, segments[-1].cell.shape)
            held: list[Any] = list(segments)  # what reads a layer's parts reads these alike
            run.segments[name] = held

    def refuse(self) -> None:
        """Forget what is known of the observed cells: their code may be another since."""
        self.refused = True
        forget(self.model)

    def _check_unconfirmed(self, forms: Sequence[ObservedForm], call: Callable[[], Any]) -> None:
        """Raise if the code of cells whose states were all zero is not that in which it was found.

        The run is made once more for that.
        """
        if self.new or not forms:
            return
        again = copied(call)
        try:
            with locked(), here.unseen(None):
                found = made_otherwise_in(self.model, again, forms, self.modules.values())
        except Exception as error:  # whatever the user's own code says of a second run
            found = {form.name: f"made once more, it fails: {shown(error)}" for form in forms}
        for form in forms:
            if form.name in found:
                raise RecordingError(
                    f"layer {form.name!r} has only zeros before each step of this run, so no "
                    f"number shows whether it obeys {form.equation}; and it is not known to run as "
                    f"when that was found: {found[form.name]}"
                )

    def done(self) -> None:
        """Its block has come to its end, and no exception has ended it."""

    @property
    def is_here(self) -> bool:
        """Whether the code that runs is the code that opened it."""
        return here.is_here(self)

    def under_way(self, module: nn.Module) -> Outermost:
        """The run to which the present call of a module belongs."""
        return self.run

    def saw(self, module: nn.Module, given: Any) -> None:
        """Note what a call of a module is given, where somebody asks."""
        if self.reads is not None:
            self.reads.call(next(iter(self.names[module].values())), given)

    def opened(self, module: nn.Module, call: Call) -> None:
        """The same, of a call that is opened."""
        self.saw(module, (call.body, call.h_0))

    def changes(self, module: nn.Module, inside: Inside, run: Outermost) -> list[Change]:
        """What its edits change in one layer of the call under way.

        Raises:
            RecordingError: one refers to the unedited run, and nobody can make that.
        """
        edits = self.edits_at(module, inside.key)
        if not edits:
            return []
        name = self.names[module][inside.key]
        batch, steps, _ = inside.x.shape
        start = run.start(name, batch)
        total, lengths, mean = start + steps, inside.lengths, inside.mean
        before = run.unedited.get(name) if run.unedited else None
        if before is None and not run.alone:
            for edit in edits:
                if edit.relative:
                    raise _unknown(edit)
        if before and len(before.calls) > 1:
            # a module called several times has one time axis, known from the unedited run
            total, lengths = before.steps_of(batch), None
            mean = before.mean
        place = Place(name, batch, steps, inside.cell, start, total, lengths, inside.h_0, mean)
        return [edit.change(place) for edit in edits]

    def run_levels(
        self, module: nn.Module, call: Call, cells: Cells, make_program: MakeProgram
    ) -> Run:
        """The layers of a call; asked of the watch that was opened last, if any changes them."""
        return call.run(cells, make_program)

    def has_seen(self, module: nn.Module, call: Call) -> bool:
        """Whether a run before this one made the same call, and the module was compared in it."""
        return False

    def add(self, module: nn.Module, segments: dict[Key, Segment], run: Outermost) -> None:
        """Record one call of a module."""
        for key, segment in segments.items():
            name = self.names[module][key]
            if not self.keep or name in self.keep:
                run.segments.setdefault(name, []).append(segment)

    def passed(self, module: nn.Module, rows: int, steps: int, run: Outermost) -> None:
        """Move the time axis of a module's layers on."""
        for name in self.names[module].values():
            run.passed(name, rows, steps)

    def check(self, run: Outermost, *, whole: bool = True) -> None:
        """Check, after a run, what only the length of its axes can tell.

        Args:
            run: the run.
            whole: whether every edit must have had its layer in this run.

        Raises:
            LayerError: an edit's layer did not run.
            PositionError, SourceError: an edit does not fit so many steps.
        """
        for edit in self.edits:
            steps = run.length(edit.layer)
            if steps:
                edit.check_steps(steps)
            elif whole:
                raise LayerError(
                    f"layer {edit.layer!r} did not run in this forward, so {edit!r} did nothing"
                )

    def recording(self, run: Outermost, output: object, edits: Sequence[object] = ()) -> Recording:
        """What was recorded of a run, in execution order.

        Warns:
            WeightsMovedWarning: parameters were changed in place while it ran.
        """
        if run.versions and [version(tensor) for tensor in self._parameters] != run.versions:
            warnings.warn(
                "parameters of the model were changed while it was recorded (does another thread "
                "train it?): each call is recorded with the weights that ran, but not all calls "
                "with the same",
                WeightsMovedWarning,
                stacklevel=3,
            )
        layers: dict[str, LayerRecording] = {}
        for name, parts in run.segments.items():
            kind = ObservedLayer if name in self.observed else LayerRecording
            layers[name] = kind(name, parts)
        return Recording(layers, output, edits, self.found.closed)

    def tell(self, module: nn.Module) -> None:
        """Say that a call of a module is not its own: other code makes it than opened the watch."""

    def warn_nonfinite(self, module: nn.Module, x: Tensor, run: Outermost) -> None:
        """Say where NaN or infinity entered a module, once a watch."""
        if module in self._warned:
            return
        self._warned.add(module)
        name = next(iter(self.names[module].values()))
        bad = (~torch.isfinite(x)).any(2).nonzero()
        where = "its weights or its first state"
        if len(bad):
            row, step = bad[0].tolist()
            where = f"its input, first at row {row}, step {run.start(name, len(x)) + step}"
        warnings.warn(
            f"layer {name!r}: NaN or infinity in {where}; it is recorded as it is, and so are the "
            "states that it spoils",
            NonFiniteWarning,
            stacklevel=2,
        )


def _unknown(edit: EditLike) -> RecordingError:
    return RecordingError(
        f"{edit!r} refers to the unedited run (a mean, or a position from the end), and that is "
        "not known here: the run began where grulens does not see its arguments. Make it with "
        "record(model, ..., edits=..., call='the method'), call the method on the model inside the "
        "block, or give positions from the start and numbers"
    )
