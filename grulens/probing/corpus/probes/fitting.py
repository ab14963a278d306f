"""One run over the parts of a scan, which fits probes, chooses among them, tests and codes at once.

The parts are taken in blocks that double in size: 1, 1, 2, 4 and so on. Each is scored by probes of
the blocks before it, for the code; those that test by the probes that are given in the end, too. So
the parts of a block can be run at once by several workers. What is kept of a part are moments and
counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64
from numpy import ndarray
from torch import nn

from grulens.errors import ScanError
from grulens.probing.corpus.probes.control import coins
from grulens.probing.corpus.probes.online_code import BINS, counted, length
from grulens.probing.corpus.probes.ridge import Moments, Probes, Solved, least
from grulens.probing.corpus.rows import rerun
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.part import Part


@dataclass(frozen=True)
class Task:
    """What is probed, and how.

    Attributes:
        layer: the number of the layer.
        labels: the numbers of the labels.
        control: "type", "context" or None.
        tokens: how many of the last tokens decide a control label.
        rates: (label,) how often each label holds in the corpus.
        strengths: of ridge regression, rising.
        seed: of the controls.
    """

    layer: int
    labels: tuple[int, ...]
    control: str | None
    tokens: int
    rates: tuple[float, ...]
    strengths: tuple[float, ...]
    seed: int


@dataclass(frozen=True)
class Visited:
    """What was counted of one part.

    Attributes:
        moments: of its states and targets.
        bins: for each of the probes it was scored by, (target, bin, truth).
        inputs: (input, 1 + target) the steps of each input, and at how many the last of these
            probes is right.
    """

    moments: Moments
    bins: tuple[Int64[ndarray, "target bin truth"], ...]
    inputs: Int64[ndarray, "input both"]


def visited(
    model: nn.Module, manifest: Manifest, part: Part, task: Task, plans: Sequence[Probes]
) -> Visited:
    """Run a part again, and count.

    Args:
        model: the model, in eval mode.
        manifest: what the scan was made with.
        part: the part.
        task: what is probed, and how.
        plans: the probes that it is scored by.

    Raises:
        ScanError: the model does not do what it did, or the inputs were no ids.
    """
    moments: Moments | None = None
    bins: list[Any] = [0 for _ in plans]
    inputs: dict[tuple[int, int], Any] = {}
    for ran in rerun(model, part, manifest, task.layer):
        held = ran.labels(part, len(manifest.labels))[list(task.labels)]
        if task.control is not None:
            if ran.read.ndim > 2 or not np.issubdtype(ran.read.dtype, np.integer):
                raise ScanError(
                    "a control task goes by the ids that were read, and the inputs of part "
                    f"{part.number} were no ids: control=None"
                )
            held = np.concatenate(
                [held, coins(ran.read, task.tokens, task.rates, task.seed, task.labels)]
            )
        targets: Bool[ndarray, "step target"] = held.reshape(len(held), -1).T
        states = ran.states[task.layer]
        states = states.reshape(-1, states.shape[-1])
        found = Moments.of(states, targets)
        moments = found if moments is None else moments + found
        if not plans:
            continue
        for number, plan in enumerate(plans):
            scores = plan.scores(states)
            bins[number] = bins[number] + counted(scores, targets)
        right = ((scores >= 0) == targets).reshape(*ran.read.shape[:2], -1).sum(1)
        for row, count in zip(ran.rows, np.insert(right, 0, ran.read.shape[1], 1), strict=True):
            place = part.in_row(row, 0, 1)
            key = place.document, place.batch_row  # each row of a batch is an input of its own
            inputs[key] = inputs.get(key, 0) + count
    assert moments is not None  # a part of a scan has a step
    none = np.zeros((0, 1 + targets.shape[1]), np.int64)
    counts = np.stack([inputs[key] for key in sorted(inputs)]) if inputs else none
    return Visited(moments, tuple(bins), counts)


def blocks(many: int, test: int) -> list[range]:
    """The blocks of so many parts: they double in size, and one begins where the test does.

    >>> [list(one) for one in blocks(9, 7)]
    [[0], [1], [2, 3], [4, 5, 6], [7], [8]]
    """
    begin = {0, test, *(1 << i for i in range(many.bit_length()))}
    ends = [*sorted(one for one in begin if one < many), many]
    return [range(start, stop) for start, stop in pairwise(ends)]


class Work:
    """What is known of the probes after so many parts.

    Args:
        task: what is probed, and how.
        train: how many parts train; those after them choose the strengths.
        test: the number of the first part that tests.

    Attributes:
        taken: how many parts were taken.
        final: the probes that are given, once a part is to be tested.
        chosen: (target,) the numbers of their strengths.
        fitted: the moments that they are of.
        said: (target, truth, said) of the parts that were tested.
        inputs: of each of these parts, see `Visited`.
    """

    def __init__(self, task: Task, train: int, test: int) -> None:
        self.task, self._train, self._test = task, train, test
        self.taken = 0
        self.final: Probes | None = None
        self.chosen: list[int] = []
        self.fitted: Moments | None = None
        self.said: Any = 0
        self.inputs: list[Int64[ndarray, "input both"]] = []
        self._seen: Moments | None = None
        self._solved: Solved | None = None
        self._trained: Solved | None = None
        # the squared errors of each strength: on every block by those before it; on the parts
        # that choose by those that train
        self._ahead: Any = 0
        self._aside: Any = 0
        self._first: Any = 0
        self._bins: Any = 0
        self._truths: Any = 0

    def plans(self) -> list[Probes]:
        """The probes that the next block is scored by: those of the code, and of the test."""
        if self._seen is None:
            return []
        self._solved = solved = Solved.of(self._seen, self.task.strengths)
        if self.taken == self._test:
            self.chosen, self.fitted = least(self._aside), self._seen
            self.final = solved.at(self.chosen)
        plan = solved.at(least(np.zeros_like(solved.bias) + self._ahead))
        return [plan] if self.final is None else [plan, self.final]

    def take(self, found: Visited) -> None:
        """Add what was counted of the next part, which was scored by the probes planned last."""
        moments = found.moments
        held = np.rint(moments.mean[moments.units :] * moments.steps).astype(np.int64)
        truths = np.stack([moments.steps - held, held], 1)
        self._truths = self._truths + truths
        if self._solved is None:
            self._first = truths
        else:
            self._bins = self._bins + found.bins[0]
            self._ahead = self._ahead + self._solved.errors(moments)
        if self.taken == self._train:
            assert self._seen is not None  # a part trains
            self._trained = Solved.of(self._seen, self.task.strengths)
        if self.final is not None:
            low, high = np.split(found.bins[1], [BINS // 2], axis=1)
            self.said = self.said + np.stack([low.sum(1), high.sum(1)], 2)
            self.inputs.append(found.inputs)
        elif self._trained is not None:
            self._aside = self._aside + self._trained.errors(moments)
        self._seen = moments if self._seen is None else self._seen + moments
        self.taken += 1

    @property
    def bits(self) -> Float64[ndarray, " target"]:
        """(target,) bits a step of the online code."""
        found: ndarray = length(self._first[:, None]) + length(self._bins)
        found /= self._truths.sum(1)
        return found

    @property
    def entropy(self) -> Float64[ndarray, " target"]:
        """(target,) bits a step of the same code without states."""
        found: ndarray = length(self._truths[:, None])
        found /= self._truths.sum(1)
        return found


def interval(
    counts: Int[ndarray, "input label"], steps: Int[ndarray, " input"], lowest: float
) -> Float64[ndarray, "label 2"]:
    """The 95% interval of counts / steps, the inputs being drawn and not the steps.

    Steps of one text go together. So it is that of a ratio of means over whole inputs (Cochran
    1977, chapter 6), by Student's t.
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - it takes long to load

    many = len(steps)
    if many < 2:
        return np.full((counts.shape[1], 2), np.nan)
    share = counts.sum(0) / steps.sum()
    rest = counts - steps[:, None] * share
    spread = np.sqrt((rest**2).sum(0) * many / (many - 1)) / steps.sum()
    half = float(stdtrit(many - 1, 0.975)) * spread
    ends: ndarray = np.stack([np.maximum(share - half, lowest), np.minimum(share + half, 1.0)], 1)
    return ends
