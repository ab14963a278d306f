"""Two runs step by step: what is different in every signal, in which units most, in the answers.

The runs may be of two inputs, of two rows of one, of two checkpoints of a model, or of one input
without an edit and with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grulens.arguments import (
    Align,
    Frame,
    LayerName,
    Readout,
    RowPair,
    ScaleName,
    SignalName,
    TokenPair,
)
from grulens.cells.cell import RecurrentCell
from grulens.cells.signal import Signal
from grulens.errors import (
    CellError,
    GrulensError,
    NoAnswerError,
    PositionError,
    ReadoutError,
    RecordingError,
    SignalError,
    shown,
)
from grulens.models.layers import article
from grulens.models.recorded import LayerRecording
from grulens.models.recording import Recording
from grulens.probing.comparison.align import NONE, by_step, by_token
from grulens.probing.layer import layer_of
from grulens.probing.readout.readout import (
    SCALES,
    Answer,
    check_readout,
    divergence,
    first_tensor,
    read,
)
from grulens.results import Result, frame, row_of
from grulens.tables import html_table
from grulens.words import so_many

#: So many units stand in the table of a result.
MOST = 8
ALIGNS = ("steps", "tokens")
#: What must be known of units of two models.
OTHER_WEIGHTS = (
    "a unit is compared with the unit of the same number, which is the same one only where one "
    "model was trained on from the other"
)


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """Two rows of two runs, step beside step. Every difference is b − a.

    Attributes:
        layers: the layer in a and in b.
        rows: the row of a and of b.
        alignment: (place, 2), the step of a and the step of b that stand beside each other, counted
            as in the inputs; -1 where there is none.
        signals: what both cells make, h last; () where units cannot be compared.
        a: the signals of a at the steps that have a partner (pair, unit), by name.
        b: those of b.
        tokens: what the steps of a and of b are called, by place; or None.
        refused: why units cannot be compared; "" where they can.
        answers: what each run answered, or None.
        answer_steps: (answer, 2), which step of each answer stands beside which; as those of the
            layer where there is an answer at each of them.
        note: what must be known of the comparison, in words; "" where there is nothing.
    """

    layers: tuple[str, str]
    rows: tuple[int, int]
    alignment: Int[Tensor, "place 2"]
    signals: tuple[Signal, ...]
    a: dict[str, Float[Tensor, "pair unit"]]
    b: dict[str, Float[Tensor, "pair unit"]]
    tokens: tuple[tuple[str, ...], tuple[str, ...]] | None
    refused: str
    answers: tuple[Answer, Answer] | None
    answer_steps: Int[Tensor, "answer 2"]
    note: str

    @property
    def steps(self) -> Int[Tensor, "pair 2"]:
        """The steps that have a partner: that of a, and that of b (pair, 2)."""
        return self.alignment[(self.alignment != NONE).all(1)]

    @property
    def alone(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The steps of a, and those of b, that have no partner."""
        a, b = self.alignment.unbind(1)
        return tuple(a[b == NONE].tolist()), tuple(b[a == NONE].tolist())

    def difference(self, signal: SignalName = "h") -> Float[Tensor, "pair unit"]:
        """What a signal is in b less what it is in a (pair, unit), float64.

        Args:
            signal: one of `signals` by name.

        Raises:
            CellError: units cannot be compared; `refused` says why.
            SignalError: they have no such signal.
        """
        a, b = self.both(signal)
        return b.double() - a.double()

    def both(self, signal: SignalName = "h") -> tuple[Tensor, Tensor]:
        """A signal of a and of b at the steps that have a partner, each (pair, unit).

        Args:
            signal: one of `signals` by name.

        Raises:
            CellError: units cannot be compared.
            SignalError: they have no such signal.
        """
        if self.refused:
            raise CellError(self.refused)
        if not isinstance(signal, str) or signal not in self.a:
            raise SignalError(f"signal must be one of {', '.join(self.a)}, got {shown(signal)}")
        return self.a[signal], self.b[signal]

    def per_unit(self, signal: SignalName = "h") -> Float[Tensor, " unit"]:
        """How far each unit differs: the mean size of its difference over the steps (unit,).

        Raises:
            PositionError: no step has a partner; otherwise as `difference`.
        """
        return self._sizes(signal).mean(0)

    def per_step(self, signal: SignalName = "h") -> Float[Tensor, " pair"]:
        """How far each pair of steps differs: the mean size over the units (pair,)."""
        return self.difference(signal).abs().mean(1)

    def ranked(self, signal: SignalName = "h") -> Int[Tensor, " unit"]:
        """The units, those that differ most first (unit,).

        Raises:
            PositionError: no step has a partner; otherwise as `difference`.
        """
        return self.per_unit(signal).argsort(descending=True, stable=True)

    @property
    def answer_difference(self) -> Float[Tensor, " answer"]:
        """How far the answers are apart at `answer_steps` (answer,).

        KL(a ‖ b) in bits for logits and probabilities; for values b − a where there is one class,
        else the Euclidean norm.

        Raises:
            ReadoutError: there are no answers, or they have other classes.
        """
        if self.answers is None:
            raise ReadoutError(f"there are no answers to compare{self._because}")
        a, b = (
            Answer(answer.values[steps], answer.scale)
            for answer, steps in zip(self.answers, self.answer_steps.unbind(1), strict=True)
        )
        return divergence(a, b)

    def to_frame(self) -> Frame:
        """A line a unit: the mean size of the difference of each signal, and where h is furthest.

        Columns: unit, those of the signals by name, h_most (the difference of h that is largest in
        size), step_a and step_b (where that is).

        Raises:
            MissingPackageError: pandas is not installed; otherwise as `per_unit`.
        """
        sizes = {signal.name: self.per_unit(signal.name) for signal in self.signals}
        change = self.difference()
        at = change.abs().argmax(0)
        most = change.gather(0, at[None])[0]
        steps = self.steps[at]
        units = torch.arange(len(at))
        return frame(
            {"unit": units, **sizes, "h_most": most, "step_a": steps[:, 0], "step_b": steps[:, 1]}
        )

    def _sizes(self, signal: str) -> Tensor:
        change = self.difference(signal)
        if not len(change):
            raise PositionError("no step of one row has a partner in the other")
        return change.abs()

    @property
    def _because(self) -> str:
        return f": {self.note}" if self.note else ""

    def __repr__(self) -> str:
        names = dict.fromkeys(self.layers)
        alone = sum(map(len, self.alone))
        more = f", {alone} alone" if alone else ""
        steps = so_many(len(self.steps), "step")
        return f"Comparison({' and '.join(map(repr, names))}, {steps}{more})"

    def _repr_html_(self) -> str:
        said = "; ".join(filter(None, [repr(self), self.refused, self.note]))
        if self.refused or not len(self.steps):
            return html_table(("units that differ most",), (), said)
        names = [signal.name for signal in self.signals]
        sizes = torch.stack([self.per_unit(name) for name in names], 1)
        most = self.ranked()[:MOST].tolist()
        rows = [(unit, *(f"{value:.3g}" for value in sizes[unit])) for unit in most]
        return html_table(("unit", *(f"mean |difference| of {name}" for name in names)), rows, said)


def compare(
    a: Recording | LayerRecording,
    b: Recording | LayerRecording,
    layer: LayerName = None,
    *,
    rows: RowPair = (0, 0),
    align: Align = "steps",
    tokens: TokenPair = None,
    readout: Readout | None = None,
    scale: ScaleName = None,
) -> Comparison:
    """Set two runs beside each other, step by step.

    Args:
        a: a recording, or one layer of it.
        b: another, or the same with another row. Of another model, its layer of the same name must
            have as many units; where it has not, only the answers are compared.
        layer: which layer; may be left out for a `LayerRecording`, or where there is one.
        rows: which row of a, and which of b.
        align: "steps" sets a step beside the one that is as far from its own row's start;
            "tokens" beside the one of the same token in the same order (Python's difflib), so that
            what is put in or left out moves nothing.
        tokens: a pair, what the steps of a and what those of b are called: a text (a character a
            step), or (time,) texts or ids, for all steps or for those that are no padding.
        readout: from a model's whole output to (batch, time, class), (batch, class), (batch, time)
            or (batch,); None takes the first floating tensor of it.
        scale: what the answers' numbers are: "logits", "probability" or "value"; None tells
            probabilities from values.

    Raises:
        GrulensError: `align` or `tokens` is none of these; or tokens do not fit the steps.
        LayerError: a recording holds no such layer.
        PositionError: there is no such row.
        ReadoutError: `readout` was given, and does not read an output.
        RecordingError: a or b is no recording, or `layer` is missing; or `readout` was given for
            what has no output.

    >>> from grulens import record
    >>> run = record(torch.nn.GRU(3, 4, batch_first=True), torch.randn(2, 6, 3))
    >>> found = compare(run, run, rows=(0, 1))
    >>> found
    Comparison('l0', 6 steps)
    >>> torch.equal(found.difference("z"), (run["l0"].z[1].double() - run["l0"].z[0].double()))
    True
    >>> words = "the film was bad".split(), "the new film was good".split()
    >>> run = record(torch.nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3))
    >>> compare(run["l0"], run["l0"], rows=(0, 1), align="tokens",
    ...         tokens=([*words[0], "now"], words[1])).alone
    ((3, 4), (1, 4))
    """
    sides = [layer_of(run, layer) for run in (a, b)]
    places = _rows(rows, sides)
    if not isinstance(align, str) or align not in ALIGNS:
        raise GrulensError(f"align must be one of {', '.join(ALIGNS)}, got {shown(align)}")
    if readout is not None:
        check_readout(readout)
    if scale is not None and (not isinstance(scale, str) or scale not in SCALES):
        raise ReadoutError(f"scale must be one of {', '.join(SCALES)}, got {shown(scale)}")
    there = [side.mask[row].cpu().nonzero()[:, 0] for side, row in zip(sides, places, strict=True)]
    names = _named(tokens, sides, there)
    if align == "tokens":
        if names is None:
            raise GrulensError("align='tokens' needs tokens=(of a, of b): what each step is called")
        called = [[one[i] for i in at.tolist()] for one, at in zip(names, there, strict=True)]
        alignment = by_token(there[0], there[1], (called[0], called[1]))
    else:
        alignment = by_step(there[0], there[1])
    steps = alignment[(alignment != NONE).all(1)]
    refused = _refused(*sides)
    common = () if refused else sides[1].cell.signals
    signals = [
        {
            signal.name: side.signal(signal.name)[row].detach().cpu()[at] for signal in common
        }
        for side, row, at in zip(sides, places, steps.unbind(1), strict=True)
    ]  # fmt: skip
    answers, why = _answers((a, b), sides, places, readout, scale)
    answer_steps = _answer_steps(answers, sides, steps)
    if answers is not None and not len(answer_steps):
        lengths = " and ".join(str(len(answer.values)) for answer in answers)
        why = f"the answers have {lengths} steps, and which stand beside each other is not known"
    notes = ["" if refused else _weights_note(*sides), why]
    return Comparison(
        layers=(sides[0].name, sides[1].name), rows=places, alignment=alignment,
        signals=tuple(common), a=signals[0], b=signals[1],
        tokens=None if names is None else (tuple(names[0]), tuple(names[1])), refused=refused,
        answers=answers, answer_steps=answer_steps, note="; ".join(filter(None, notes)),
    )  # fmt: skip


def place_names(found: Comparison) -> list[str]:
    """What to call each place: the token or the step that stands there, "a→b" where there are two.

    >>> from grulens import record
    >>> layer = record(torch.nn.GRU(2, 3, batch_first=True), torch.zeros(1, 3, 2))["l0"]
    >>> place_names(compare(layer, layer, tokens=("abc", "abd")))
    ['a', 'b', 'c→d']
    """
    called = []
    for steps in found.alignment.tolist():
        if found.tokens is None:
            names = [str(step) for step in steps if step != NONE]
        else:
            names = [
                tokens[step] for tokens, step in zip(found.tokens, steps, strict=True)
                if step != NONE
            ]  # fmt: skip
        called.append("→".join(dict.fromkeys(names)))
    return called


def _rows(rows: Any, sides: Sequence[LayerRecording]) -> tuple[int, int]:
    try:
        a, b = rows
    except (TypeError, ValueError) as error:
        raise PositionError(f"rows must be a pair, (of a, of b), got {shown(rows)}") from error
    return row_of(a, sides[0].shape[0]), row_of(b, sides[1].shape[0])


def _named(
    tokens: Any, sides: Sequence[LayerRecording], there: Sequence[Tensor]
) -> list[list[str]] | None:
    """What every step of the time axis of each side is called; "" where there is padding."""
    if tokens is None:
        return None
    if isinstance(tokens, str) or not isinstance(tokens, Sequence) or len(tokens) != 2:
        raise GrulensError(f"tokens must be a pair, (of a, of b), got {shown(tokens)}")
    found = []
    for given, side, at, word in zip(tokens, sides, there, "ab", strict=True):
        given = given.tolist() if isinstance(given, Tensor) else given  # noqa: PLW2901
        if not isinstance(given, str | Sequence) or not all(
            isinstance(token, str | int) for token in given
        ):
            raise GrulensError(f"tokens of {word} must be a list of texts, got {shown(given)}")
        steps = side.shape[1]
        if len(given) not in (steps, len(at)):
            raise GrulensError(
                f"{so_many(len(given), 'token')} of {word} for its row of "
                + so_many(len(at), "step")
                + (f" of {steps}" if steps != len(at) else "")
            )
        names = [""] * steps
        for place, step in enumerate(at.tolist()):
            names[step] = str(given[step if len(given) == steps else place])
        found.append(names)
    return found


def _refused(a: LayerRecording, b: LayerRecording) -> str:
    """Why two layers have no units in common; "" where they have."""
    units, names = (a.shape[2], b.shape[2]), [[s.name for s in one.cell.signals] for one in (a, b)]
    if units[0] != units[1]:
        return (
            f"layer {a.name!r} has {so_many(units[0], 'unit')} in a, and {b.name!r} has "
            f"{units[1]} in b: no unit of one is a unit of the other. Their answers can be compared"
        )
    if names[0] != names[1]:
        return (
            f"layer {a.name!r} is {article(a.cell.kind)} in a, with {', '.join(names[0])}, and "
            f"{b.name!r} {article(b.cell.kind)} in b, with {', '.join(names[1])}. Their answers "
            "can be compared"
        )
    return ""


def _weights_note(a: LayerRecording, b: LayerRecording) -> str:
    """That two layers have other weights, so that what a unit is may be another thing."""
    cells: list[Any] = [a.cell, b.cell]
    if not all(isinstance(cell, RecurrentCell) for cell in cells):
        return ""  # of what was observed, only its signals are known
    first, second = (cell.parameters for cell in cells)
    same = len(first) == len(second) and all(
        one is other or (one.shape == other.shape and torch.equal(one.cpu(), other.cpu()))
        for one, other in zip(first, second, strict=True)
    )
    return "" if same else f"the layers have other weights: {OTHER_WEIGHTS}"


def _answers(
    runs: tuple[Any, Any],
    sides: Sequence[LayerRecording],
    rows: tuple[int, int],
    readout: Readout | None,
    scale: Any,
) -> tuple[tuple[Answer, Answer] | None, str]:
    """The answers of both runs; None, and why, where they have none."""
    found = []
    for run, side, row in zip(runs, sides, rows, strict=True):
        batch, steps, _ = side.shape
        try:
            output = _output(run)
            with torch.no_grad():
                found.append(read(output, readout or first_tensor, scale, row, batch, steps))
        except (NoAnswerError, ReadoutError, RecordingError) as error:
            if readout is not None:
                raise
            return None, f"answers are not compared: {error}"
    a, b = found
    return (Answer(a.values.cpu(), a.scale), Answer(b.values.cpu(), b.scale)), ""


def _output(run: Any) -> Any:
    if not isinstance(run, Recording):
        raise RecordingError("one layer of a run has no answer: give the whole recording")
    return run.output


def _answer_steps(
    answers: tuple[Answer, Answer] | None, sides: Sequence[LayerRecording], steps: Tensor
) -> Int[Tensor, "answer 2"]:
    if answers is None:
        return steps[:0]
    lengths = [len(answer.values) for answer in answers]
    if lengths == [side.shape[1] for side in sides]:
        return steps
    if lengths[0] != lengths[1]:
        return steps[:0]
    return torch.arange(lengths[0])[:, None].repeat(1, 2)
