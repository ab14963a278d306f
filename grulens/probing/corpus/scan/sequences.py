"""From a part of a corpus to runs of the model: texts, ids, files, ready inputs, cut and batched.

A text, or a sequence of ids, is cut into rows of at most so many steps, and rows of one length run
side by side. Rows of different lengths never do: what a model makes of padding is its own affair.
Any other input is what the model itself takes, and runs as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Integer, Shaped
from numpy import ndarray
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from grulens.errors import ScanError, shown
from grulens.probing.coder import Coder
from grulens.probing.corpus.numbers import as_whole
from grulens.probing.corpus.scan.abreast import abreast
from grulens.probing.corpus.scan.given import IDS, Form, at_each_step, bare, form_of, plain
from grulens.probing.corpus.scan.padding import is_mask, named, padding
from grulens.probing.corpus.scan.taken import are_ids, check_ids, rows_of, taken

#: What an id is called that stands for several things.
UNKNOWN: Final = "\N{REPLACEMENT CHARACTER}"
#: So many ids of the first inputs are looked at, whether `decode` has a text for each.
LOOKED_AT: Final = 1000
#: So many rows are asked about a model, or twice as many that hold so few steps.
FEW: Final = 4
LITTLE: Final = 4096
LabelRule: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True)
class Labelled:
    """A part of a corpus with what was given of its labels.

    Attributes:
        part: the part.
        held: by the name of a label, a bool for each step of the part's input, or of each input.
    """

    part: Any
    held: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One call of the model, and what is known of its rows.

    Attributes:
        args: the arguments of the call.
        kwargs: the named ones.
        documents: (row,) which input of the part each row is from.
        starts: (row,) at which step of that input the row begins.
        read: (row, step, ...) what stands at each step: an id, or some numbers; None where it is
            not kept.
        form: how it was given to the model.
        labels: (row, step) by name, whether the label holds there.
        names: what ids are called, as far as texts that were read say.
        ready: what of the arguments may stand at each step, by the name of the argument, where
            rows and labels are not known yet; see `settled`.
        among: the names of the arguments that may stand at each step, where they are several; the
            first is the one that is taken.
        held: by name, what was given of the labels of `ready`.
        turned: whether the steps of `ready` come before its rows, where these are as many and a run
            has told it; None where the numbers of both tell it, or nothing does.
        by: the name of the argument that holds what stands at each step, once it is known; texts
            and ids are the first one.
        padded: the name of an argument that says that steps are padding which the layers take.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    documents: tuple[int, ...]
    starts: tuple[int, ...]
    read: Shaped[ndarray, "row step ..."] | None = None
    form: Form = IDS
    labels: dict[str, Bool[ndarray, "row step"]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    ready: Mapping[str, Tensor | PackedSequence] = field(default_factory=dict)
    among: tuple[str, ...] = ()
    held: dict[str, Any] = field(default_factory=dict)
    turned: bool | None = None
    by: str = ""
    padded: str = ""

    @property
    def few(self) -> Run:
        """Some rows of it, which say as much of the model as all; all of what is given as it is.

        Where all cost about as little as these, it is all of them: what they do is needed anyway.
        """
        if self.ready or self.read is None:
            return self
        many, steps = self.read.shape[:2]
        if many <= FEW or steps == FEW or (many <= 2 * FEW and many * steps <= LITTLE):
            return self
        return self.first_rows(FEW)

    @property
    def beside(self) -> bool:
        """Whether its rows were put side by side by the scan, and are several."""
        return not self.ready and self.read is not None and len(self.documents) > 1

    def first_rows(self, many: int) -> Run:
        """The same with no more than its first rows, which the scan has put side by side."""
        return replace(
            self,
            args=tuple(one[:many] for one in self.args),
            documents=self.documents[:many],
            starts=self.starts[:many],
            read=None if self.read is None else self.read[:many],
            labels={name: held[:many] for name, held in self.labels.items()},
        )


@dataclass(frozen=True)
class Reader:
    """How the parts of a corpus are read.

    Attributes:
        coder: from a text to ids, and from ids to what they are called.
        labels: by name, a function from one input (its text, its ids (step,), or what is given at
            each step (step, input)) to a bool for each of its steps; or the name of the column of
            an input that holds these; or None where they come with the part, as `Labelled`.
        steps: the longest row that a text or a sequence of ids is cut into.
        batch: how many rows run side by side at most.
        column: the name under which an input that is a mapping holds the text or the ids; None
            where a mapping holds the model's named arguments.
        input_of: the name of the argument that holds what stands at each step; None is the first
            that may.
        arguments: the names of what the model takes by place.
        room: how many steps run side by side at most; 0 is any number.
        shorter: whether the layers took no more than the first steps of the first input, which is
            padded further.
        turned: whether steps come before rows in what holds what stands at each step, as the first
            input has told; None where it has not. Where there are as many of both, this tells it.
    """

    coder: Coder
    labels: Mapping[str, LabelRule | str | None]
    steps: int
    batch: int
    column: str | None = None
    input_of: str | None = None
    arguments: tuple[str, ...] = ()
    room: int = 0
    turned: bool | None = None
    shorter: bool = False

    def runs(self, part: Any) -> Iterator[Run]:
        """The runs of a part, in an order that depends on nothing but the part.

        Args:
            part: an input, a list of inputs, the rows of a table, or a function that gives any of
                these. An input is a text, a `Path` of a text file, a tensor or a list of ids
                (step,), what the model itself takes, a tuple of several arguments, or a mapping.

        Raises:
            ScanError: an input is none of these, or a label does not fit its steps.
        """
        with_it: dict[str, Any] = {}
        if isinstance(part, Labelled):
            part, with_it = part.part, part.held
        kinds: Any = list
        if callable(part) and not isinstance(part, Tensor):
            part, kinds = part(), list | Iterator
        rows = rows_of(part)
        part = part if rows is None else rows
        several = isinstance(part, kinds) and not are_ids(part)
        inputs = part if several else [part]
        waiting: dict[int, list[_Piece]] = {}
        count, by = 0, self.input_of
        for number, one in enumerate(inputs):
            count += 1
            held = self._held(one, with_it, number if several else None)
            given = taken(self._in_column(one))
            text, ids = self._ids(given)
            if ids is None:
                run = replace(self._as_it_is(number, given, by), held=held)
                if not all(_empty(of) for of in run.ready.values()):
                    yield run
                continue
            if not len(ids):
                continue
            self._check_first(number)
            by = by or self.first
            labels = self._labels(ids if text is None else text, held, len(ids), number)
            names = {} if text is None else self._names_by(text, ids)
            for start in range(0, len(ids), self.steps):
                cut = slice(start, start + self.steps)
                there = {name: of[cut] for name, of in labels.items()}
                piece = _Piece(number, start, ids[cut], there, names)
                same = waiting.setdefault(len(piece.ids), [])
                same.append(piece)
                if len(same) == abreast(self.batch, self.room, len(piece.ids)):
                    yield from _side_by_side(waiting.pop(len(piece.ids)), self.first)
        for length in sorted(waiting, reverse=True):
            yield from _side_by_side(waiting[length], self.first)
        for name, of in with_it.items():
            if several and _many(of) not in (None, count):
                raise ScanError(
                    f"label {name!r} is given for {_many(of)} inputs of a part that has {count}"
                )

    @property
    def first(self) -> str:
        """The name of the argument that is given texts and ids."""
        return next(iter(named((None,), {}, self.arguments)))

    def _check_first(self, number: int) -> None:
        """Raise where an input is a text or ids, and labels are of another argument than those."""
        if self.arguments and self.input_of not in (None, self.first):
            raise ScanError(
                f"input {number} is a text or ids, which the model takes as {self.first!r}, and "
                f"what stands at each step is {self.input_of!r}, by input_of= or in the first "
                "input: give all inputs one way, such as {" + f"{self.input_of!r}: ..." + "}"
            )

    def _in_column(self, given: Any) -> Any:
        """What an input that is a mapping holds in the column, if one was named."""
        if not isinstance(given, Mapping):
            if self.column is not None:
                raise ScanError(
                    f"column={self.column!r} is where an input that is a mapping holds its text or "
                    f"its ids, and an input is {shown(given, 60)}: make each a mapping, or leave "
                    "column= out"
                )
            return given
        if self.column is None:  # what is left are the model's named arguments
            columns = [rule for rule in self.labels.values() if isinstance(rule, str)]
            return {key: value for key, value in given.items() if key not in columns}
        return _column(given, self.column)

    def _held(self, given: Any, with_it: Mapping[str, Any], number: int | None) -> dict[str, Any]:
        """What was given of the labels of an input: with its part, or in its columns."""
        found: dict[str, Any] = {}
        for name, rule in self.labels.items():
            if isinstance(rule, str):
                if not isinstance(given, Mapping):
                    raise ScanError(
                        f"label {name!r} is in column {rule!r} of each input, and an input is no "
                        f"mapping: {shown(given)}"
                    )
                found[name] = _column(given, rule)
            elif rule is None:
                found[name] = with_it[name] if number is None else _at(with_it[name], number, name)
        return found

    def _ids(self, given: Any) -> tuple[str | None, Integer[ndarray, " step"] | None]:
        """The text of an input, if it is one, and its ids (step,), if it is a sequence of these."""
        text = given if isinstance(given, str) else None
        if isinstance(given, os.PathLike):
            text = _read(Path(given))
        if text == "":
            return text, np.zeros(0, np.int64)
        if text is not None:
            if self.coder.encode is None:
                raise ScanError(
                    "an input is a text, and nothing turns it into what the model reads: give the "
                    "model an `encode`, or scan(..., encode=...)"
                )
            given = taken(self.coder.encode(text))
        if isinstance(given, Tensor) and given.dtype == torch.uint64 and given.numel():
            check_ids(int(given.cpu().numpy().max()))
        if isinstance(given, Tensor) and _whole(given):
            if given.dim() == 2 and len(given) == 1:
                given = given[0]
            if given.dim() == 1:
                return text, given.detach().cpu().numpy()
        if text is not None:
            raise ScanError(
                f"`encode` gives {shown(given)} for a text; a scan needs its ids, a tensor (step,) "
                "or (1, step) of whole numbers"
            )
        return None, None

    def _names_by(self, text: str, ids: Integer[ndarray, " step"]) -> dict[int, str]:
        """What the ids of a text are called, where nothing but the text says it."""
        if self.coder.decode is not None or len(text) != len(ids):
            return {}
        called = self.coder.names(torch.from_numpy(ids), text) or ()
        return one_name(set(zip(ids.tolist(), called, strict=False)))

    def names(self, ids: Integer[ndarray, " id"]) -> dict[int, str]:
        """What these ids are called, each by itself; empty where no `decode` says it."""
        if self.coder.decode is None or not len(ids):
            return {}
        found = [self.coder.names(torch.tensor([number])) for number in ids.tolist()]
        return {number: name[0] for number, name in zip(ids.tolist(), found, strict=True) if name}

    def unnamed(
        self, read: Shaped[ndarray, "row step ..."] | None, mask: Bool[ndarray, "row step"]
    ) -> str:
        """Why `decode` gives no text for one of these ids, in words; "" where it gives all.

        Args:
            read: what stands at each step; of what is no ids nothing is said.
            mask: (row, step), False where there is no step.
        """
        if self.coder.decode is None or read is None or read.shape != mask.shape:
            return ""
        if not np.issubdtype(read.dtype, np.integer):
            return ""
        ids = np.unique(read[mask])[:LOOKED_AT]
        called = self.names(ids)
        none = next((number for number in ids.tolist() if number not in called), None)
        return "" if none is None else f"`decode` {self.coder.reply(none)} for id {none}"

    def _labels(
        self, given: Any, held: Mapping[str, Any], steps: int, number: int
    ) -> dict[str, Bool[ndarray, " step"]]:
        found = {}
        for name, rule in self.labels.items():
            try:
                # what it writes into, nobody else reads
                own = given.copy() if isinstance(given, ndarray) else given
                said = rule(own) if callable(rule) else held[name]
            except Exception as error:
                error.add_note(f"in label {name!r} of input {number}")
                raise
            found[name] = _bools(said, (steps,), f"label {name!r} of input {number}")
        return found

    def _as_it_is(self, number: int, given: Any, by: str | None) -> Run:
        several = isinstance(given, tuple) and not isinstance(given, PackedSequence)
        args: tuple[Any, ...] = given if several else (given,)
        kwargs: dict[str, Any] = {}
        if isinstance(given, Mapping):
            args, kwargs = (), dict(given)
        every = _with_steps(named(args, kwargs, self.arguments))
        if not every and (several or kwargs):
            args = tuple(_as_tensor(one) for one in args)
            kwargs = {name: _as_tensor(one) for name, one in kwargs.items()}
            every = _with_steps(named(args, kwargs, self.arguments))
        if not every:
            raise ScanError(
                f"input {number} is {shown(given)}; a scan takes a text, a path, a tensor of ids "
                "(step,), what the model takes (batch, step, ...), a tuple of arguments, a "
                f"mapping, or a list of these{self._instead(given)}"
            )
        if by is not None and by not in every:
            raise ScanError(
                f"what stands at each step is in argument {shown(by)}, by input_of= or "
                f"in the first input, and of input {number} those with rows and steps are "
                f"{', '.join(map(repr, every))}: name one that all inputs have, input_of="
            )
        if by is not None:
            every = {by: every[by]}
        # a mask says of steps whether they count, and is not what stands there
        ready = dict(sorted(every.items(), key=lambda one: _mask(one[1])))
        return Run(args, kwargs, (number,), (0,), ready=ready)

    def _instead(self, given: Any) -> str:
        """What to give instead of something that is no input, in words."""
        if as_whole(given) is not None:
            return ". This is one number: give the ids of an input together, [3, 1, 4] or a tensor"
        if isinstance(given, Mapping) and self.column is None:
            return ". Say which of its columns holds a text or ids, column=; or give tensors"
        if isinstance(given, tuple) and any(isinstance(one, Tensor) for one in given):
            return (
                ". Each member of a tuple is an argument of the model, with rows and steps. Give "
                "of a pair of input and answer the input alone: [x for x, answer in data]"
            )
        if isinstance(given, Mapping | tuple):
            return ". Give tensors: torch.as_tensor(...) makes one of a list or an array"
        return ""

    def settled(self, run: Run, mask: Bool[ndarray, "row step"]) -> Run:
        """A run with its rows and labels, once it is known which steps its layers took.

        Args:
            run: the run.
            mask: (row, step) the steps that its layers took.

        Raises:
            ScanError: the input has other rows or steps, so nothing can be said of its steps.
        """
        if not run.ready:
            return run
        rows, steps = mask.shape
        if rows == steps > 1 and run.turned is None:
            run = replace(run, turned=self.turned)
        fit = {name: one for name, one in run.ready.items() if fits(one, rows, steps)}
        by, first = next(iter((fit or run.ready).items()))
        several = tuple(name for name, one in fit.items() if name == by or not is_mask(name, one))
        read = at_each_step(first, rows, steps, run.turned)
        run = replace(
            run,
            documents=run.documents * rows,
            starts=run.starts * rows,
            read=read,
            form=form_of(
                run.args,
                run.kwargs,
                None if read is None else first,
                mask.sum(1).tolist(),
                steps,
                run.turned,
            ),
            ready={},
            among=several if len(several) > 1 else (),
            by=by,
        )
        if (name := padding(run.args, run.kwargs, self.arguments, by, mask)) is not None:
            run = replace(run, padded=name)
        if isinstance(first, PackedSequence):
            return replace(run, labels=self._of_packed(first, run, steps))
        if not self.labels and not (_whole(first) and first.dim() == 2):
            return run
        shape = tuple(first.shape[:2])
        hidden = rows == steps > 1 and run.turned is None
        if not fits(first, rows, steps) or hidden:
            why = (
                "which are rows and which are steps cannot be told, for the model takes other "
                "tensors beside it, or does not run a step less; give its rows as two inputs"
                if hidden
                else "a scan of ids or labels needs a layer that takes a step for each of the input"
                + one_off(steps, shape[1] if shape[0] == rows else shape[0])
            )
            which = "an input"
            if len(run.args) + len(run.kwargs) > 1:
                which = f"argument {by!r}"
                why += f"; where another argument than {by!r} has its steps, name it: input_of="
            raise ScanError(f"{which} is {shape} and its layers had {rows} rows of {steps}: {why}")
        if not self.labels:
            return run
        values = plain(first)
        if bare(first, rows, steps):
            values = values[None]
        elif run.turned or shape != (rows, steps):
            values = values.transpose(0, 1)
        held = {name: _rows(given, rows, name) for name, given in run.held.items()}
        each = [
            self._labels(
                row, {name: given[at] for name, given in held.items()}, steps, run.documents[0]
            )
            for at, row in enumerate(values.numpy())
        ]
        return replace(
            run, labels={name: np.stack([one[name] for one in each]) for name in self.labels}
        )

    def _of_packed(
        self, packed: PackedSequence, run: Run, steps: int
    ) -> dict[str, Bool[ndarray, "row step"]]:
        """The labels of a packed input, in the order of its rows; False after the end of each."""
        if any(callable(rule) for rule in self.labels.values()):
            raise ScanError(
                "labels of a packed input cannot be told by a function: which steps are whose is "
                "known to the model alone. Give them as arrays, one a row, or scan rows of one "
                "length each, or texts or ids"
            )
        lengths = pad_packed_sequence(packed)[1].tolist()
        found = {}
        for name, given in run.held.items():
            whole = np.zeros((len(lengths), steps), bool)
            for at, (row, length) in enumerate(
                zip(_rows(given, len(lengths), name), lengths, strict=True)
            ):
                what = f"label {name!r} of row {at} of input {run.documents[0]}"
                whole[at, :length] = _bools(row, (length,), what)
            found[name] = whole
        return found


def _with_steps(every: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some arguments that have rows and steps."""
    return {
        name: one for name, one in every.items()
        if isinstance(one, PackedSequence) or (isinstance(one, Tensor) and one.dim() > 1)
    }  # fmt: skip


def _as_tensor(one: Any) -> Any:
    """An array of numbers that has rows and steps as a tensor; all else as it is."""
    return (
        taken(one) if isinstance(one, ndarray) and one.ndim > 1 and one.dtype.kind in "iuf" else one
    )


def _bools(said: Any, shape: tuple[int, ...], what: str) -> Bool[ndarray, " step"]:
    """A bool for each of so many steps."""
    try:
        held = np.asarray(said.cpu() if isinstance(said, Tensor) else said)
    except ValueError:
        held = np.zeros(())  # rows of several lengths are no array
    if held.shape == (1, *shape):  # of an input that has one row
        held = held[0]
    if held.dtype == object and all(isinstance(one, bool | np.bool_) for one in held.flat):
        held = held.astype(bool)
    if held.shape != shape or held.dtype != bool:
        raise ScanError(
            f"{what} must be a bool for each of its {shape[0]} steps, got {held.dtype} {held.shape}"
        )
    return held


def _rows(given: Any, rows: int, name: str) -> Any:
    """What was given of a label for each row of an input."""
    many = _many(given)
    if rows == 1 and many is not None and np.ndim(given[0] if many else 0) == 0:
        return [given]
    if many != rows:
        came = shown(given) if many is None else f"{many} rows"
        raise ScanError(f"label {name!r} must be given for each of the {rows} rows of an input, "
                        f"got {came}")  # fmt: skip
    return given


def _many(given: Any) -> int | None:
    """How many things there are; None where it is no sequence of them."""
    if isinstance(given, str | bytes | Mapping):
        return None
    try:
        return len(given)
    except TypeError:  # an array without an axis has no length
        return None


def _at(given: Any, number: int, name: str) -> Any:
    """What was given of a label for an input of a part that is a list of several."""
    try:
        return given[number]
    except Exception as error:
        raise ScanError(
            f"label {name!r} must be given for each input of a part, and there is none for input "
            f"{number}"
        ) from error


def _column(given: Mapping[str, Any], name: str) -> Any:
    if name not in given:
        names = ", ".join(map(str, given))
        raise ScanError(f"an input has no column {name!r}; it has {names}")
    return given[name]


def labelled(parts: Iterable[Any], labels: Mapping[str, Any]) -> Iterator[Any]:
    """The parts, each with what was given of its labels.

    Args:
        parts: the parts.
        labels: by name; those that are sequences have one entry a part.

    Raises:
        ScanError: a label has more or fewer entries than there are parts.
    """
    given = {name: iter(of) for name, of in labels.items() if isinstance(of, list | tuple)}
    many = 0
    for many, part in enumerate(parts, 1):
        try:
            held = {name: next(of) for name, of in given.items()}
        except StopIteration:
            short = ", ".join(n for n in given if len(labels[n]) < many)
            raise ScanError(f"label {short} ends before part {many - 1}: it needs an array for "
                            "each part") from None  # fmt: skip
        yield Labelled(part, held) if given else part
    for name, of in given.items():
        if next(of, given) is not given:
            raise ScanError(f"label {name!r} has arrays for more parts than the {many} there are")


def one_name(names: Iterable[tuple[int, str]]) -> dict[int, str]:
    """What each id is called: one that stands for several things, for all that is unknown, say, �.

    >>> one_name([(1, "a"), (0, "é"), (0, "ü"), (1, "a")])
    {1: 'a', 0: '�'}
    """
    found: dict[int, str] = {}
    for number, name in names:
        if found.setdefault(number, name) != name:
            found[number] = UNKNOWN
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ScanError(f"{shown(str(file))} cannot be read as a text: {error}") from error


@dataclass(frozen=True)
class _Piece:
    document: int
    start: int
    ids: Integer[ndarray, " step"]
    labels: dict[str, Bool[ndarray, " step"]]
    names: dict[int, str]


def _side_by_side(pieces: Sequence[_Piece], by: str) -> Iterator[Run]:
    """Rows of one length as runs: never as many rows as steps, for which is which must be seen."""
    if len(pieces) == len(pieces[0].ids) > 1:
        yield from chain(_side_by_side(pieces[:1], by), _side_by_side(pieces[1:], by))
        return
    ids = np.stack([piece.ids for piece in pieces])
    yield Run(
        (torch.from_numpy(ids.astype(np.int64)),),  # of its own: a model may write into it
        {},
        tuple(piece.document for piece in pieces),
        tuple(piece.start for piece in pieces),
        ids,
        labels={name: np.stack([p.labels[name] for p in pieces]) for name in pieces[0].labels},
        names=one_name(chain.from_iterable(piece.names.items() for piece in pieces)),
        by=by,
    )


def _whole(given: Tensor | PackedSequence) -> bool:
    """Whether a tensor holds whole numbers, as ids are."""
    return not (
        isinstance(given, PackedSequence)
        or given.dtype.is_floating_point
        or given.dtype.is_complex
        or given.dtype == torch.bool
    )


def _empty(given: Tensor | PackedSequence) -> bool:
    """Whether it has no row, or no step."""
    return isinstance(given, Tensor) and 0 in given.shape[:2]


def _mask(given: Tensor | PackedSequence) -> bool:
    """Whether a tensor looks like a mask: a bool a step, or ones at one end of each row, else 0."""
    if isinstance(given, PackedSequence) or given.dim() != 2 or given.is_complex():
        return False
    if given.dtype == torch.bool:
        return True
    if not bool(((given == 0) | (given == 1)).all()):
        return False
    turns = [given.long().diff(dim=axis) for axis in (0, 1)]
    return any(bool((turn <= 0).all() or (turn >= 0).all()) for turn in turns)


def one_off(steps: int, given: int) -> str:
    """What to do where a layer takes one step less than the input has, or more, in words."""
    if abs(steps - given) != 1:
        return ""
    return (
        f"; it takes one step {'less' if steps < given else 'more'} than the input, as in teacher "
        "forcing: scan what the model gives its shifted input to, call="
    )


def fits(given: Tensor | PackedSequence, rows: int, steps: int) -> bool:
    """Whether an argument may have a step for each that the layers took."""
    if isinstance(given, PackedSequence):
        return True
    shape = tuple(given.shape[:2])
    return (rows, steps) in (shape, shape[::-1]) or bare(given, rows, steps)
