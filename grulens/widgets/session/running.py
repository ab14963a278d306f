"""Which runs a page can make again by itself, and all that it is told for that.

A network is read out of a recorded run: which layer reads which is seen in their inputs and states,
bit for bit, and never guessed from the model's code. Before it is offered, it is run here three
times and compared with the model: as it stands, with something changed in every layer (so that
whatever depends on a state in a way that was not seen shows itself), and on another text, if the
page offers that. What differs is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from grulens.cells.changes import Change, Program, reverse
from grulens.cells.unroll import unroll
from grulens.errors import GrulensError, RecordingError, shown
from grulens.models.call.place import Place
from grulens.models.observed import ObservedLayer
from grulens.models.recorded import LayerRecording
from grulens.models.recording import Recording
from grulens.models.restore.standing import CHANGED
from grulens.probing.edits.edit import Edit, scale, shift
from grulens.probing.readout.head import heads_of
from grulens.probing.readout.readout import Answer
from grulens.widgets.session.described import Described, Read, Stacked, describe
from grulens.widgets.session.session import Session
from grulens.widgets.session.spelling import Spelling, spelling
from grulens.words import message

#: Bytes of weights that are written as they are, and at most, as float16.
FULL, MOST = 4 << 20, 8 << 20
#: An input that is one of so many numbers may be an id.
ONE_HOT: Final = 1024
#: How far a run of what is told may be from the model's, in parts of the largest number.
TOLERANCE: Final = 1e-4
#: What the page does with the numbers of the linear readout.
FINISH: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "none": lambda values: values,
    "softmax": lambda values: values.softmax(-1),
    "log_softmax": lambda values: values.log_softmax(-1),
    "sigmoid": torch.sigmoid,
}


@dataclass(frozen=True, eq=False)
class Answered:
    """How the page makes its answer of the linear readout.

    Attributes:
        read: the linear readout.
        finish: what is done with its numbers: one of `FINISH`.
        pick: the class that is the answer, or None for all.
    """

    read: Read
    finish: str = "none"
    pick: int | None = None

    def of(self, values: Float[Tensor, "time klass"]) -> Float[Tensor, "time answer"]:
        """The answer, of the numbers of the linear readout."""
        made = FINISH[self.finish](values)
        return made if self.pick is None else made[:, self.pick : self.pick + 1]


@dataclass(frozen=True, eq=False)
class Running:
    """What a page is told to make a run by itself.

    Attributes:
        described: the network.
        dtype: in which its numbers are written: "f4" or "f2".
        given: the input of the row that is shown: ids, or numbers step by step.
        edits: the edits as the engine takes them, each with its key in the session's list.
        answered: how the answer is made; None where the page makes none.
        unanswered: why it makes none, or "".
        spelling: how another text is encoded; None where none can be.
        unspelled: why none can be, or "".
        apart: how far the answer (or the states, where there is none) is from the model's, with
            numbers in that dtype: in parts of the largest number.
    """

    described: Described
    dtype: Literal["f4", "f2"]
    given: list[int] | list[float]
    edits: list[dict[str, Any]]
    answered: Answered | None
    unanswered: str
    spelling: Spelling | None
    unspelled: str
    apart: float


def running(session: Session) -> Running:
    """All that a page needs to make the session's run by itself.

    Raises:
        RecordingError: it cannot; the message ends a sentence that says so, after "because".

    >>> session = Session(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> found = running(session)
    >>> [layer["kind"] for layer in found.described.network["layers"]], len(found.given)
    (['GRU'], 18)
    """
    with session.lock, torch.no_grad():
        if session.look():
            raise RecordingError(CHANGED)
        return _Reading(session).running()


class _Reading:
    """One session's network, as it is found."""

    def __init__(self, session: Session) -> None:
        self.session, self.row = session, session.row
        run = session.baseline
        self.steps = session.steps
        if not self.steps:
            raise RecordingError("this row has no steps")
        for name, layer in run.items():
            self._check(name, layer)
        held = sum(part.numel() for layer in run.values() for part in layer.cell.parameters)
        self._check_size(2 * held)
        self.x, self.stack = self._stacked(run)
        self.ids, self.table = self._input()
        self._check_given()

    def running(self) -> Running:
        session = self.session
        plain = self._run(self.x, self.stack)
        self._compare(plain, session.baseline, "the states")
        answered, unanswered = self._answered(plain)
        self._check_changed(answered)
        edits = [
            told | {"key": slot.key} for slot in session.slots if (told := self._told(slot.edit))
        ]
        on = {slot.key for slot in session.slots if slot.on}
        changes = _changes([edit for edit in edits if edit["key"] in on], self.stack, self.steps)
        self._agree(changes, answered, session.edited, "the edits that are on")
        words, unspelled = self._spelled(answered)
        words = self._only_what_is_read(words)
        read = None if answered is None else answered.read
        described = self._describe(read)
        self._check_size(described.size("f2"))
        dtype: Literal["f4", "f2"] = "f4" if described.size("f4") <= FULL else "f2"
        apart = self._apart(dtype, answered)
        return Running(
            described, dtype,
            self.x.flatten().tolist() if self.ids is None else self.ids.tolist(),
            edits, answered, unanswered, words, unspelled, apart,
        )  # fmt: skip

    # what there is

    def _check(self, name: str, layer: LayerRecording) -> None:
        if isinstance(layer, ObservedLayer):
            raise RecordingError(
                f"layer {name} is a cell of the user's own, whose steps are known by their result "
                "and not by weights"
            )
        if len(layer.segments) > 1 and not self._goes_on(layer):
            raise RecordingError(
                f"layer {name} was called {len(layer.segments)} times in the run, and not each "
                "time from the state that the call before left: what lies between the calls is "
                "the model's own code"
            )
        if layer.h.dtype not in (torch.float32, torch.float64):
            raise RecordingError(f"layer {name} computes in {layer.h.dtype}")
        mask = layer.mask
        same = mask.shape == self.session.before.mask.shape and torch.equal(
            mask[self.row], self.session.before.mask[self.row]
        )
        if not same or not bool(mask[self.row, : self.steps].all()):
            raise RecordingError("its layers run over steps of their own")

    def _goes_on(self, layer: LayerRecording) -> bool:
        """Whether each call of a layer began in the state that the one before left."""
        given = layer.handing.given
        return len(given) == len(layer.segments) - 1 and all(
            bool(one.next[self.row]) for one in given
        )

    def _check_given(self) -> None:
        """Raise unless a layer that is called again and again reads what the model was given.

        Between its calls anything may happen, such as a word being chosen that is read next.
        """
        again = [name for name, layer in self.session.baseline.items() if len(layer.segments) > 1]
        if not again or self.ids is not None:
            return
        args, kwargs = self.session.given
        for value in (*args, *kwargs.values()):
            if not isinstance(value, Tensor) or value.dim() not in (2, 3):
                continue
            rows = [value] if value.dim() == 2 else [*value[self.row : self.row + 1]]
            rows += [value[:, self.row]] if value.dim() == 3 and self.row < value.shape[1] else []
            for own in rows:
                part = own[: self.steps].detach().cpu().double()
                if part.shape == self.x.shape and torch.equal(part, self.x):
                    return
        raise RecordingError(
            f"layer {again[0]} is called step by step, and what it reads is not the model's input "
            "as it was given: it is made between the calls, by the model's own code"
        )

    @staticmethod
    def _check_size(half: int) -> None:
        if half > MOST:
            raise RecordingError(
                f"its weights are {half / 2**20:.0f} MB as float16, and a page holds "
                f"{MOST >> 20} MB"
            )

    def _of(self, value: Tensor) -> Tensor:
        return value[self.row, : self.steps].detach().cpu().double()

    def _stacked(self, run: Recording) -> tuple[Tensor, list[Stacked]]:
        """The input of the lowest layers (time, input); the layers, each behind those it reads."""
        states = {name: layer.h[self.row, : self.steps].detach() for name, layer in run.items()}
        x: Tensor | None = None
        stack: list[Stacked] = []
        for name, layer in run.items():
            own, reads = layer.x[self.row, : self.steps].detach(), list[str]()
            at = 0
            while at < own.shape[1]:
                part = own[:, at:]
                found = next(
                    (
                        below.name for below in stack
                        if (h := states[below.name]).shape[1] <= part.shape[1]
                        and torch.equal(part[:, : h.shape[1]], h)
                    ),
                    None,
                )  # fmt: skip
                if found is None:
                    break
                reads.append(found)
                at += states[found].shape[1]
            if at < own.shape[1]:
                if x is not None and (x.shape != own.shape or not torch.equal(x, own)):
                    raise RecordingError(
                        f"what layer {name} reads is neither the model's input nor states of "
                        "other layers as they are"
                    )
                x, reads = own, []
            segment = layer.segments[0]
            start = segment.h_0[self.row].detach()
            stack.append(
                Stacked(
                    name, layer.cell.over(lambda weight: weight.detach().cpu().double()),
                    tuple(reads), segment.reverse,
                    start.cpu().double() if bool(start.any()) else None,
                )
            )  # fmt: skip
        if x is None:
            raise RecordingError("no layer reads the model's input")
        return x.cpu().double(), stack

    def _input(self) -> tuple[Tensor | None, Tensor | None]:
        """The ids of the input and what each becomes (token, input); None where it is numbers."""
        batch = len(self.session.before.h)
        size = self.x.shape[1]
        tables = [
            module.weight.detach().cpu().double() for module in self.session.model.modules()
            if isinstance(module, nn.Embedding) and module.weight.shape[1] == size
        ]  # fmt: skip
        if size <= ONE_HOT:
            tables.append(torch.eye(size, dtype=torch.float64))
        for ids in self.session._input.naming.ids:
            rows = [ids] if ids.dim() == 1 else []
            rows += [ids[self.row]] if ids.dim() == 2 and len(ids) == batch else []
            rows += [ids[:, self.row]] if ids.dim() == 2 and ids.shape[1] == batch else []
            for given in rows:
                row = given.detach().cpu().long()[: self.steps]
                if len(row) < self.steps or int(row.min()) < 0:
                    continue
                last = int(row.max())
                for table in tables:
                    if last < len(table) and torch.equal(table[row], self.x):
                        return row, table
        return None, None

    def _answered(self, plain: dict[str, Tensor]) -> tuple[Answered | None, str]:
        """How the answer of the run is made of its states, and why it is not known."""
        session = self.session
        if session.unread:
            return None, message("no answer was read from the model's output")
        said = session.answer_before.values.double().cpu()
        if not said.isfinite().all():
            return None, message("it is infinite or no number (NaN) at some step")
        tries: list[Read] = []
        why = message("it is no linear map of the layers' states")
        try:
            with session.studying():
                heads = heads_of(session.model, session.call, session.given)
            for head in heads:
                if head.states_only:
                    weights = {name: w.double().cpu() for name, w in head.over(plain).items()}
                    tries += _reads(weights, head.bias.double().cpu())
        except GrulensError:
            pass
        last = self._last_layers()
        units = [plain[name].shape[1] for name in last]
        if sum(units) == said.shape[1]:
            parts = torch.eye(sum(units), dtype=torch.float64).split(units, 1)
            tries += _reads(dict(zip(last, parts, strict=True)), said.new_zeros(sum(units)))
        for read in tries:
            values = self._read(read, plain)
            there = said[: self.steps] if read.each and len(said) >= self.steps else said
            for finish in FINISH:
                for pick in (None, *(range(len(read.bias)) if said.shape[1] == 1 else ())):
                    answered = Answered(read, finish, pick)
                    made = answered.of(values)
                    if made.shape == there.shape and _off(made, there) <= TOLERANCE:
                        return answered, ""
        return None, why

    def _last_layers(self) -> list[str]:
        read = {name for layer in self.stack for name in layer.reads}
        return [layer.name for layer in self.stack if layer.name not in read]

    # runs of what is told

    def _run(
        self,
        x: Tensor,
        stack: Sequence[Stacked],
        changes: dict[str, list[Change]] | None = None,
    ) -> dict[str, Tensor]:
        """The states (time, unit) of every layer."""
        made: dict[str, Tensor] = {}
        for layer in stack:
            read = torch.cat([made[name] for name in layer.reads], 1) if layer.reads else x
            read = read[None]
            own = (changes or {}).get(layer.name)
            program = Program(own, read.shape[1], read) if own else None
            size = layer.cell.hidden_size * len(layer.cell.states)
            start = read.new_zeros(1, size) if layer.start is None else layer.start[None]
            if layer.reverse:
                read = reverse(read, None)
                program = program and program.reversed(None)
            h = unroll(layer.cell, read, start, program).h
            made[layer.name] = (reverse(h, None) if layer.reverse else h)[0]
        return made

    def _read(self, read: Read, states: dict[str, Tensor]) -> Tensor:
        """What a linear readout says of these states: (time, class), or (1, class)."""
        out = read.bias
        backward = {layer.name: layer.reverse for layer in self.stack}
        for name, weight in read.weights.items():
            h = states[name]
            first = read.ends and backward[name]
            out = out + (h if read.each else h[:1] if first else h[-1:]) @ weight.t()
        return out

    def _compare(self, made: dict[str, Tensor], run: Recording, what: str) -> None:
        for name, h in made.items():
            there = run[name].h
            if there.shape[1] < self.steps or _off(h, self._of(there)) > TOLERANCE:
                raise RecordingError(
                    f"{what} of layer {name} come out otherwise from its weights alone: something "
                    "else in the model takes part"
                )

    def _agree(
        self,
        changes: dict[str, list[Change]],
        answered: Answered | None,
        run: Recording,
        what: str,
    ) -> None:
        """Raise unless these changes do to what is told what they did to the model's run."""
        states = self._run(self.x, self.stack, changes)
        self._compare(states, run, f"with {what}, the states")
        if answered is None:
            return
        made = answered.of(self._read(answered.read, states))
        there = self._answer(run).values.double().cpu()
        if _off(made, there[: len(made)]) > TOLERANCE:
            raise RecordingError(
                f"with {what}, the answer is not what the states say: something else in the model "
                "takes part"
            )

    def _answer(self, run: Recording) -> Answer:
        return self.session._answer(run)

    def _check_changed(self, answered: Answered | None) -> None:
        """Compare a run in which something is changed in every layer."""
        edits: list[Edit] = []
        for layer in self.stack:
            first = layer.cell.signals[0].name
            edits += [shift(layer.name, first, by=0.5), scale(layer.name, "h", by=0.75)]
        try:
            run = self.session.runs.aside(self.session.given, edits)
        except Exception as error:  # of any kind: it is the model's own
            raise RecordingError(
                f"its forward failed where something was changed in all layers ({shown(error)})"
            ) from error
        told = [one for edit in edits if (one := self._told(edit))]
        self._agree(_changes(told, self.stack, self.steps), answered, run, "changes in all layers")

    def _apart(self, dtype: str, answered: Answered | None) -> float:
        """How far a run with numbers of this type is from the model's."""

        def rounded(value: Tensor) -> Tensor:
            return value.to(torch.float16 if dtype == "f2" else torch.float32).double()

        table = self.x if self.table is None else self.table
        weights = [table, *(part for layer in self.stack for part in layer.cell.parameters)]
        if not all(bool(rounded(weight).isfinite().all()) for weight in weights):
            raise RecordingError("its weights are too large for float16")
        stack = [replace(layer, cell=layer.cell.over(rounded)) for layer in self.stack]
        x = rounded(self.x) if self.table is not None else self.x
        states = self._run(x, stack)
        if answered is None:
            return max(_off(h, self._of(self.session.baseline[n].h)) for n, h in states.items())
        read = answered.read
        held = {name: rounded(weight) for name, weight in read.weights.items()}
        made = answered.of(self._read(replace(read, weights=held, bias=rounded(read.bias)), states))
        return _off(made, self._answer(self.session.baseline).values.double().cpu()[: len(made)])

    # what the page is told

    def _told(self, edit: Edit) -> dict[str, Any] | None:
        """An edit as the engine takes it; None where it touches nothing of this row."""
        layer = self.session.baseline.get(edit.layer)
        if layer is None:
            return None
        if isinstance(edit.amount, str) and any(
            s.name == layer.name and s.reads for s in self.stack
        ):
            raise RecordingError(
                f"an edit puts in the mean of layer {layer.name}, which edits of the layers under "
                "it change"
            )
        batch, steps, units = layer.shape
        segment = layer.segments[0]
        place = Place(
            layer.name, batch, steps, layer.cell, 0, steps, segment.lengths, segment.h_0,
            layer.mean,
        )  # fmt: skip
        try:
            change = edit.change(place)
        except GrulensError:
            return None  # it does not fit this input, and is off
        where = change.where.expand(batch, steps, units)[self.row, : self.steps].cpu()
        at, of = where.any(1).nonzero()[:, 0].tolist(), where.any(0).nonzero()[:, 0].tolist()
        if not at:
            return None
        how = "before" if change.before_activation else "add"
        if not change.before_activation and not bool((change.factor == 1).all()):
            how = "scale" if bool(change.factor.any()) else "set"
        amount = change.factor if how == "scale" else change.offset
        value: Any = amount.double().cpu()
        if value.numel() == 1:
            # an edit has the digits that a person gave
            value = edit.amount if isinstance(edit.amount, float) else float(value)
        else:
            rows = min(self.row, len(value) - 1)
            value = value[rows, : self.steps].expand(-1, units)
            value = value.flatten().tolist()
        return {
            "layer": edit.layer, "signal": edit.signal, "how": how, "value": value,
            "units": None if len(of) == units else of,
            "steps": None if len(at) == self.steps else at,
        }  # fmt: skip

    def _describe(self, read: Read | None) -> Described:
        return describe(self.stack, self.x.shape[1], self.table, read)

    def _spelled(self, answered: Answered | None) -> tuple[Spelling | None, str]:
        """How the page encodes another text, if that gives what the model's own way gives."""
        session = self.session
        args, kwargs = session.given
        if self.ids is None or self.table is None:
            return None, message("the input is numbers and no text")
        if session.coder.encode is None:
            return None, message("the model has no `encode` that says how a text becomes ids")
        if len(args) != 1 or kwargs or len(session.before.h) != 1:
            return None, message("the model reads more than one row of ids")
        found = spelling(session.coder, len(self.table))
        if found is None:
            return None, message("its `encode` gives neither an id a character nor one a word")
        try:
            run = session.runs.aside(((session.coder.read(found.example),), {}))
            ids = torch.tensor([found.ids[part] for part in found.parts(found.example)])
            states = self._run(self.table[ids], self.stack)
            same = all(
                run[name].h.shape[:2] == (1, len(ids)) and _off(h, run[name].h[0].double().cpu())
                <= TOLERANCE for name, h in states.items()
            )  # fmt: skip
            if same and answered is not None:
                made = answered.of(self._read(answered.read, states))
                batch, steps, _ = run[session.layer].shape
                said = session.answers.read(run.output, 0, batch, steps).values.double().cpu()
                same = said.shape == made.shape and _off(made, said) <= TOLERANCE
        except Exception:  # of any kind: a model may refuse a text, and then so does the page
            same = False
        return (
            (found, "")
            if same
            else (None, message("another text gave another run in the model itself"))
        )

    def _only_what_is_read(self, words: Spelling | None) -> Spelling | None:
        """Leave out the rows of the table that neither this input nor a text can ask for."""
        if self.ids is None or self.table is None:
            return words
        wanted = {*self.ids.tolist(), *(words.ids.values() if words else ())}
        rows = {old: new for new, old in enumerate(sorted(wanted))}
        self.table = self.table[sorted(wanted)]
        self.ids = torch.tensor([rows[i] for i in self.ids.tolist()])
        return words and replace(words, ids={name: rows[i] for name, i in words.ids.items()})


def _reads(weights: dict[str, Tensor], bias: Tensor) -> list[Read]:
    """A linear readout at each step, where each layer ends, and at the last step."""
    return [
        Read(weights, bias, each=True),
        Read(weights, bias, each=False),
        Read(weights, bias, each=False, ends=False),
    ]


def _changes(
    told: Sequence[dict[str, Any]], stack: Sequence[Stacked], steps: int
) -> dict[str, list[Change]]:
    """What the engine is told, as changes: so that what is compared is what is told."""
    units = {layer.name: layer.cell.hidden_size for layer in stack}
    made: dict[str, list[Change]] = {}
    for edit in told:
        count = units[edit["layer"]]
        where = torch.zeros(1, steps, count, dtype=torch.bool)
        at = slice(None) if edit["steps"] is None else torch.tensor(edit["steps"])[:, None]
        of = slice(None) if edit["units"] is None else torch.tensor(edit["units"])
        where[0, at, of] = True
        value = torch.tensor(edit["value"], dtype=torch.float64)
        many = value.numel() == steps * count and steps > 1
        value = value.reshape((1, steps, count) if many else (1, 1, -1))
        how, one, nothing = edit["how"], torch.ones_like(value), torch.zeros_like(value)
        factor, offset = {
            "set": (nothing, value), "scale": (value, nothing),
            "add": (one, value), "before": (one, value),
        }[how]  # fmt: skip
        change = Change(edit["signal"], where, factor, offset, how == "before")
        made.setdefault(edit["layer"], []).append(change)
    return made


def _off(made: Tensor, there: Tensor) -> float:
    """The largest difference, in parts of the largest number where that is above 1."""
    if made.shape != there.shape or not bool(made.isfinite().all()):
        return float("inf")
    if not made.numel():
        return 0.0
    return float((made - there).abs().max() / there.abs().max().clamp(min=1))
