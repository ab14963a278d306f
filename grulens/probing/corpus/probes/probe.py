"""What the states of a corpus say of labels by a linear probe, and what they say of random ones.

A probe that is right says little by itself: it may have learned the task rather than read it. So
every probe has a control task beside it (`control.py`), is tested on parts that nothing of it was
fitted to, and is given as a code as well, which pays for what it takes to learn the probe.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray
from torch import Tensor

from grulens.arguments import ControlTask, Integer, LabelNames, LayerName, Numbers, ScanLike
from grulens.errors import ScanError, StoppedWarning, shown
from grulens.job import Job, stopped, tell
from grulens.models.restore.mode import evaluated
from grulens.probing.corpus.cluster import Workers, alone_with, check_client
from grulens.probing.corpus.numbers import whole
from grulens.probing.corpus.probes.fitting import Task, Visited, Work, blocks, interval, visited
from grulens.probing.corpus.probes.kept import Kept
from grulens.probing.corpus.probes.ridge import Probes
from grulens.probing.corpus.scan.part import Part
from grulens.probing.corpus.scan.scanned import Scan
from grulens.results import Result, frame
from grulens.tables import html_table
from grulens.words import so_many

#: One part of so many tests, and one chooses the strength.
EVERY: Final = 5
CONTROLS: Final = ("type", "context")
AGAIN: Final = "probed", "What was counted by then is kept: probe again"


@dataclass(frozen=True, eq=False, repr=False)
class Probe(Result):
    """Linear probes of the states of a layer, one a label, each with its control task.

    Attributes:
        layer: the name of the layer.
        labels: the names of the labels.
        control: "type", "context", or None where there are no controls.
        context: how many of the last tokens decide a control label.
        seed: what the order of the parts and the control labels come from.
        train: the parts that the probes were fitted to.
        validation: the parts that the strengths were chosen by; the probes were fitted to them,
            too, once that was done.
        test: the parts that the shares are counted on.
        strength: (label,) how strongly the weights were held down, in mean variances of the units.
        weights: (label, unit) the weights w of the score w·h + b, which is 0 or above where the
            label is said to hold.
        bias: (label,) b.
        std: (unit,) the standard deviation of each unit where the probes were fitted.
        counts: (label, truth, said) at how many steps of the test the label does not hold and
            holds, and is said not to hold and to hold.
        control_counts: (label, truth, said) those of the control labels, or None.
        interval: (label, 2) the 95% interval of `accuracy`; NaN where the test has one input.
        selectivity_interval: (label, 2) that of `selectivity`, or None.
        bits: (label,) bits a step of the online code of the label given the states.
        control_bits: (label,) those of the control label, or None.
        entropy: (label,) bits a step of the same code without states: those of a label that holds
            at random as often.
        control_entropy: (label,) those of the control label, or None.
        stopped: that Ctrl-C came before all parts were tested, or "".
    """

    layer: str
    labels: tuple[str, ...]
    control: str | None
    context: int
    seed: int
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    strength: Float64[Tensor, " label"]
    weights: Float64[Tensor, "label unit"]
    bias: Float64[Tensor, " label"]
    std: Float64[Tensor, " unit"]
    counts: Int64[Tensor, "label 2 2"]
    control_counts: Int64[Tensor, "label 2 2"] | None
    interval: Float64[Tensor, "label 2"]
    selectivity_interval: Float64[Tensor, "label 2"] | None
    bits: Float64[Tensor, " label"]
    control_bits: Float64[Tensor, " label"] | None
    entropy: Float64[Tensor, " label"]
    control_entropy: Float64[Tensor, " label"] | None
    stopped: str = ""

    @property
    def steps(self) -> int:
        """How many steps the test has."""
        return int(self.counts[0].sum())

    @property
    def accuracy(self) -> Float64[Tensor, " label"]:
        """(label,) at which share of the steps of the test the probe is right."""
        return _right(self.counts)

    @property
    def control_accuracy(self) -> Float64[Tensor, " label"] | None:
        """(label,) at which share the probe of the control label is."""
        return None if self.control_counts is None else _right(self.control_counts)

    @property
    def majority(self) -> Float64[Tensor, " label"]:
        """(label,) at which share whoever always says the same is: what holds more often."""
        return _always(self.counts)

    @property
    def control_majority(self) -> Float64[Tensor, " label"] | None:
        """(label,) the same of the control label."""
        return None if self.control_counts is None else _always(self.control_counts)

    @property
    def selectivity(self) -> Float64[Tensor, " label"] | None:
        """(label,) accuracy - control_accuracy (Hewitt and Liang 2019)."""
        control = self.control_accuracy
        return None if control is None else self.accuracy - control

    @property
    def contributions(self) -> Float64[Tensor, "label unit"]:
        """(label, unit) by how much the score moves when a unit moves by its own std.

        Where units go together, the regression shares a label among them: what one of them alone
        can tell is said by `Scan.stats().auc`.
        """
        return self.weights * self.std

    @property
    def note(self) -> str:
        """What must be known of these numbers, or ""."""
        said = [self.stopped] if self.stopped else []
        if bool(self.interval.isnan().any()):
            said.append(
                "the test has one input only, so nothing is known of how far another would differ"
            )
        never = [name for name, share in zip(self.labels, self.majority, strict=True) if share == 1]
        if never:
            said.append(f"all steps of the test are alike in {', '.join(never)}")
        if self.control_entropy is not None and self.control_bits is not None:
            apart = self._named((self.control_entropy / self.entropy).log2().abs() > 1)
            if apart:
                said.append(
                    f"the control label holds much more or less often than {apart}, for a few "
                    "frequent tokens decide that: another seed throws others"
                )
            learned = self._named(
                (self.control_bits / self.control_entropy < self.bits / self.entropy)
                & (self.bits < 0.9 * self.entropy)
            )
            if learned:
                said.append(
                    f"the control label is learned as well as {learned}: the states hold the "
                    "tokens that it goes by, and a selectivity says nothing"
                    + (", so take control='context'" if self.control == "type" else "")
                )
        return "; ".join(said)

    def _named(self, which: Bool[Tensor, " label"]) -> str:
        """The names of these labels."""
        return ", ".join(n for n, held in zip(self.labels, which.tolist(), strict=True) if held)

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a label.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        columns: dict[str, Any] = {
            "accuracy": self.accuracy, "low": self.interval[:, 0], "high": self.interval[:, 1],
            "majority": self.majority, "bits": self.bits, "entropy": self.entropy,
            "strength": self.strength,
        }  # fmt: skip
        for name in (
            "control_accuracy", "control_majority", "selectivity", "control_bits",
            "control_entropy",
        ):  # fmt: skip
            held = getattr(self, name)
            columns |= {} if held is None else {name: held}
        if self.selectivity_interval is not None:
            low, high = self.selectivity_interval.T
            columns |= {"selectivity_low": low, "selectivity_high": high}
        table = frame(columns)
        table.index = list(self.labels)
        return table.rename_axis(index="label")

    def __repr__(self) -> str:
        control = f", control by {self.control}" if self.control else ""
        labels, steps = so_many(len(self.labels), "label"), so_many(self.steps, "step")
        return f"Probe({self.layer!r}, {labels}, {steps} tested{control})"

    def _repr_html_(self) -> str:
        head = ["label", "accuracy", "95%", "always the same", "bits a step", "without states"]
        columns: list[Sequence[Any]] = [
            self.labels, _three(self.accuracy),
            [f"{a:.3f}–{b:.3f}" for a, b in self.interval.tolist()],
            _three(self.majority), _three(self.bits), _three(self.entropy),
        ]  # fmt: skip
        if self.control_accuracy is not None and self.control_bits is not None:
            assert self.selectivity is not None
            head[4:4] = ["control", "selectivity"]
            columns[4:4] = [_three(self.control_accuracy), _three(self.selectivity)]
            head.append("bits of the control")
            columns.append(_three(self.control_bits))
        return html_table(head, list(zip(*columns, strict=True)), repr(self), self.note)


def probe(
    scan: ScanLike,
    labels: LabelNames = None,
    *,
    control: ControlTask = "type",
    context: Integer = 3,
    layer: LayerName = None,
    strengths: Numbers = (1e-6, 1e-4, 1e-2, 1.0),
    seed: Integer = 0,
    client: Any = None,
    progress: bool = True,
) -> Probe:
    """Ask how well labels can be read off the states of a layer by a linear probe.

    All labels are probed at once, in one more run over the rows of the scan, from their ids. The
    parts are taken in an order of chance: a fifth of them, the last, tests, a fifth before these
    chooses how strongly the weights are held down, and the rest trains. The same order is that of
    the online code (Voita and Titov 2020): the parts are sent in blocks that double in size, each
    by probes of the blocks before it, and the first part without one. The code is short where a
    label can be read off with little learning.

    Ctrl-C gives what was tested by then; the same call goes on from there, and so it does after its
    process was killed: what was counted of a part is kept beside the scan until the probe is done.

    Args:
        scan: the scan; opened with its model, of inputs that are ids.
        labels: the name of a label, or several; None is all labels of the scan.
        control: what the labels of the control task are thrown by: "type", the token, or
            "context", the last tokens. Each holds with the chance with which its label holds in the
            corpus (Hewitt and Liang 2019). None has no controls, and takes less time.
        context: how many of the last tokens decide a control by context.
        layer: the layer; None is the only one, or the last.
        strengths: of ridge regression, relative to the mean variance of the units.
        seed: of the order of the parts, and of the control labels.
        client: a `dask.distributed.Client`: its workers run the parts, and what comes out is the
            same bit for bit. They read the folder of the scan. None runs them here.
        progress: whether to show a progress bar.

    Raises:
        ScanError: there are no labels, or fewer than three parts; the inputs were no ids; the scan
            has no model, or it does not do what it did; Ctrl-C came before a part was tested; or
            the workers of `client` do not stay alive.

    Warns:
        StoppedWarning: Ctrl-C came before all parts were tested.

    >>> from tempfile import TemporaryDirectory
    >>> from torch import nn
    >>> from grulens.corpus import probe, scan
    >>> model = nn.Sequential(nn.Embedding(5, 3), nn.GRU(3, 8, batch_first=True))
    >>> parts = [torch.randint(5, (400,)) for _ in range(5)]
    >>> with TemporaryDirectory() as folder:
    ...     done = scan(model, parts, folder, labels={"two": lambda ids: ids == 2}, progress=False)
    ...     found = probe(done, control="context", progress=False)
    >>> found, found.weights.shape
    (Probe('1.l0', 1 label, 400 steps tested, control by context), torch.Size([1, 8]))
    >>> bool(found.accuracy[0] > found.majority[0])
    True
    """
    if not isinstance(scan, Scan):
        raise ScanError(f"a probe is of a scan, of corpus.scan or open_scan; got {shown(scan)}")
    task = _task(scan, labels, control, context, layer, strengths, seed)
    if client is not None:
        check_client(client)
    if scan.model is None:
        raise ScanError(f"a probe runs the model: open_scan({str(scan.path)!r}, model)")
    parts, train, test = _order(scan.parts, task.seed)
    work, kept = Work(task, train, test), Kept(scan, task, parts)
    job: Job[Probe] = Job("probe", "part", len(parts))
    with job.watched(bar=progress), evaluated(scan.model):
        for block in blocks(len(parts), test):
            plans, there = work.plans(), dict[int, Visited]()
            for number, found in _each(client, scan, parts, block, task, plans, kept):
                there[number] = found
                while work.taken in there:  # in their order, whichever came first
                    work.take(there.pop(work.taken))
                job.advance()
    note = stopped(work.taken, len(parts), "part")
    if note and work.taken <= test:
        on = "; the same call goes on from there" if kept.whole else ""
        raise ScanError(f"the probe {note}, before one was tested{on}")
    if note and not kept.whole:
        warnings.warn(
            f"the probe {note}; what it counted could not be written to {scan.path}, so the same "
            "call begins anew",
            StoppedWarning,
            stacklevel=2,
        )
    elif note:
        tell("the probe", note)
    else:
        kept.clear()
    numbers = [part.number for part in parts]
    tested = numbers[test : test + len(work.inputs)]
    return _result(scan, work, (numbers[:train], numbers[train:test], tested), note)


def _each(
    client: Any,
    scan: Scan,
    parts: Sequence[Part],
    block: range,
    task: Task,
    plans: Sequence[Probes],
    kept: Kept,
) -> Iterator[tuple[int, Visited]]:
    """What is counted of each part of a block, here or on a cluster; what is kept comes first."""
    left = []
    for number in block:
        found = kept.get(number)
        if found is None:
            left.append(number)
        else:
            yield number, found
    for number, found in _counted(client, scan, parts, left, task, plans):
        kept.put(number, found)
        yield number, found


def _counted(
    client: Any,
    scan: Scan,
    parts: Sequence[Part],
    left: Sequence[int],
    task: Task,
    plans: Sequence[Probes],
) -> Iterator[tuple[int, Visited]]:
    """The same of some parts, none of which is kept, as they are done."""
    if client is None or not left:
        assert scan.model is not None
        for number in left:
            yield number, visited(scan.model, scan.manifest, parts[number], task, plans)
        return
    shared = scan.model, scan.manifest, task, plans
    with Workers(client, scan.path, shared, AGAIN) as workers:
        for number in left:
            workers.hand_out(parts[number].number, number, _visit, parts[number].place)
            if workers.full:
                yield from workers.first()
        while workers.busy:
            yield from workers.first()


def _visit(shared: Path, place: Path) -> Visited:
    """Count a part in a worker."""
    part = Part(place)
    part.check()  # that the worker sees the scan
    with alone_with(shared) as (model, manifest, task, plans), evaluated(model):
        return visited(model, manifest, part, task, plans)


def _result(
    scan: Scan, work: Work, parts: tuple[Sequence[int], Sequence[int], Sequence[int]], note: str
) -> Probe:
    """The probes of the labels; those of the control labels stand after them."""
    task, final, fitted = work.task, work.final, work.fitted
    assert final is not None
    assert fitted is not None
    count = len(task.labels)
    inputs = np.concatenate(work.inputs)
    steps, right = inputs[:, 0], inputs[:, 1:]
    variance = np.diag(fitted.products)[: fitted.units] / fitted.steps

    def own(values: ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values[:count]))

    def control(values: ndarray) -> Tensor | None:
        return None if task.control is None else torch.from_numpy(values[count:].copy())

    apart = None
    if task.control is not None:
        apart = own(interval(right[:, :count] - right[:, count:], steps, -1.0))
    train, validation, test = map(tuple, parts)
    return Probe(
        scan.layers[task.layer], tuple(scan.labels[i] for i in task.labels), task.control,
        task.tokens, task.seed, train, validation, test,
        own(np.array(task.strengths)[work.chosen]), own(final.weights.T), own(final.bias),
        torch.from_numpy(np.sqrt(np.maximum(variance, 0))), own(work.said), control(work.said),
        own(interval(right[:, :count], steps, 0.0)), apart, own(work.bits), control(work.bits),
        own(work.entropy), control(work.entropy), note,
    )  # fmt: skip


def _order(parts: Sequence[Part], seed: int) -> tuple[list[Part], int, int]:
    """The parts in an order of chance; how many of them train, and the first that tests."""
    if len(parts) < 3:
        raise ScanError(
            f"a probe is fitted to some parts, chosen by others and tested on others again, and "
            f"the scan has {len(parts)} with a step: scan the corpus in three parts or more"
        )
    order = np.random.default_rng(seed).permutation(len(parts)).tolist()
    few = max(1, len(parts) // EVERY)
    return [parts[i] for i in order], len(parts) - 2 * few, len(parts) - few


def _task(
    scan: Scan, labels: Any, control: Any, context: Any, layer: Any, strengths: Any, seed: Any
) -> Task:
    """What is probed, and how; everything as it must be."""
    number = scan.manifest.layer(layer)
    names = [labels] if isinstance(labels, str) else scan.labels if labels is None else labels
    if isinstance(names, Mapping) or not isinstance(names, Sequence):
        raise ScanError(f"labels must be names of labels of the scan, got {shown(labels)}")
    if not names and scan.labels:
        raise ScanError(
            f"labels must name one label or more, of {', '.join(scan.labels)}; got {shown(labels)}"
        )
    if not names:
        raise ScanError("a probe needs a label: scan(..., labels={'upper': lambda text: ...})")
    chosen = tuple(scan.label(name) for name in names)
    if len(set(chosen)) < len(chosen):
        raise ScanError(f"labels must be each once, got {shown(labels)}")
    if control is not None and not (isinstance(control, str) and control in CONTROLS):
        raise ScanError(f"control must be 'type', 'context' or None, got {shown(control)}")
    context, seed = whole(context, "context"), whole(seed, "seed", 0)
    if seed >= 1 << 63:
        raise ScanError(f"seed must be below 2 ** 63, got {seed}")
    try:
        several = tuple(sorted({float(strength) for strength in strengths}))
    except (TypeError, ValueError, OverflowError):
        several = ()
    if not several or not all(np.isfinite(one) and one > 0 for one in several):
        raise ScanError(f"strengths must be one or more numbers above 0, got {shown(strengths)}")
    held = sum((part.positives for part in scan.parts), np.zeros(len(scan.labels), np.int64))
    rates = tuple(float(held[i]) / max(scan.steps, 1) for i in chosen)
    tokens = 1 if control == "type" else context
    return Task(number, chosen, control, tokens, rates, several, seed)


def _right(counts: Int64[Tensor, "label 2 2"]) -> Float64[Tensor, " label"]:
    return counts.diagonal(dim1=1, dim2=2).sum(1) / counts[0].sum().double()


def _always(counts: Int64[Tensor, "label 2 2"]) -> Float64[Tensor, " label"]:
    return counts.sum(2).amax(1) / counts[0].sum().double()


def _three(values: Float64[Tensor, " label"]) -> list[str]:
    return [f"{value:.3f}" for value in values.tolist()]
