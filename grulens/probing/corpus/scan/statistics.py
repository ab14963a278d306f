"""What one signal of one layer did over a corpus, in numbers that add up part by part.

Every part of a corpus gives such numbers, and they are added in the order of the parts: counts as
whole numbers, moments in float64 and about each part's own mean (Chan, Golub and LeVeque 1983), so
that the variance of a unit that hardly moves does not drown in rounding. So they are the same bit
for bit whoever made the parts, and however many did.

The area under the ROC curve is read off two histograms, of the steps where a label holds and of
the others (the rank sum of Mann and Whitney, 1947). Which of two steps in one bin is the higher is
not known there, so the area is known up to half of the pairs that share a bin: `half_width`. Of a
unit that never moves it is known: all pairs are ties, and count half. So it is of steps at which a
signal without bounds is 0, as a relu mostly is: these have a bin of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from grulens.arguments import Number
from grulens.errors import ScanError, shown
from grulens.probing.corpus.numbers import as_number
from grulens.probing.corpus.scan.codes import Code
from grulens.results import Result, frame
from grulens.tables import html_table
from grulens.words import so_many


@dataclass(frozen=True, eq=False, repr=False)
class Statistics(Result):
    """What one signal of one layer did over all steps of a corpus.

    Attributes:
        layer: the name of the layer.
        signal: the name of the signal: "h".
        low: the least value that the signal can have, or -inf.
        high: the largest one, or inf.
        labels: the names of the labels.
        steps: how many steps there were.
        mean: (unit,) the mean of each unit.
        products: (unit, unit) the sum of the products of value - mean of two units.
        counts: (1 + label, unit, bin) how many steps lie in each bin: all steps first, then those
            where each label holds.
        on_together: (unit, unit) in how many steps both units are on, that is, above the scan's
            threshold; how often a unit is on stands on the diagonal. None for a gate.
    """

    layer: str
    signal: str
    low: float
    high: float
    labels: tuple[str, ...]
    steps: int
    mean: Float64[Tensor, " unit"]
    products: Float64[Tensor, "unit unit"]
    counts: Int64[Tensor, "set unit bin"]
    on_together: Int64[Tensor, "unit unit"] | None

    def __add__(self, other: Statistics) -> Statistics:
        """The statistics of the steps of both.

        Raises:
            ScanError: they are of other signals or labels.
        """
        names = ("layer", "signal", "low", "high", "labels", "bins")
        for name in names:
            if getattr(self, name) != getattr(other, name):
                raise ScanError(
                    f"statistics of two kinds cannot be added: {name} is "
                    f"{shown(getattr(self, name))} and {shown(getattr(other, name))}"
                )
        mine, others = self.on_together, other.on_together
        steps, apart = self.steps + other.steps, other.mean - self.mean
        share = other.steps / steps
        return replace(
            self,
            steps=steps,
            mean=self.mean + share * apart,
            products=self.products + other.products + self.steps * share * apart[:, None] * apart,
            counts=self.counts + other.counts,
            on_together=None if mine is None or others is None else mine + others,
        )

    @property
    def bins(self) -> int:
        """How many bins a histogram has."""
        return int(self.counts.shape[-1])

    @property
    def edges(self) -> Float64[Tensor, " edge"]:
        """The values between which each bin lies (bin + 1,); they never fall."""
        return torch.from_numpy(self._code.edges())

    @property
    def _code(self) -> Code:
        return Code.of_bins(self.low, self.high, self.bins)

    @property
    def covariance(self) -> Float64[Tensor, "unit unit"]:
        """The covariance of the units (unit, unit), over all steps (not steps - 1)."""
        return self.products / self.steps

    @property
    def std(self) -> Float64[Tensor, " unit"]:
        """The standard deviation of each unit (unit,)."""
        return self.covariance.diagonal().clamp(min=0).sqrt()

    @property
    def correlation(self) -> Float64[Tensor, "unit unit"]:
        """The correlation of the units (unit, unit); NaN for a unit that never moves."""
        return self.covariance / (self.std[:, None] * self.std)

    def quantile(self, q: Number) -> Float64[Tensor, "end unit"]:
        """The ends of the bin in which a quantile of each unit lies (2, unit).

        Args:
            q: from 0 to 1; 0.5 is the median.

        Raises:
            ScanError: `q` is no number from 0 to 1.
        """
        share = as_number(q)
        if share is None or not 0 <= share <= 1:
            raise ScanError(f"a quantile is asked for by a number from 0 to 1, got {shown(q)}")
        below = self.counts[0].cumsum(1)
        rank = max(1.0, np.ceil(share * self.steps))
        at = (below < rank).sum(1)
        return torch.stack([self.edges[at], self.edges[at + 1]])

    @property
    def at_ends(self) -> Float64[Tensor, "end unit"]:
        """The share of steps at which a unit is near its low and its high bound (2, unit).

        Near is within 1/32 of the range: a gate below 0.031 or above 0.969, a state of a GRU
        beyond 0.9375.

        Raises:
            ScanError: the signal has no bounds.
        """
        code = self._code
        if not code.bounded:
            raise ScanError(f"signal {self.signal!r} has no bounds, and so no ends to be near")
        near, every = code.near, self.counts[0].double()
        ends = torch.stack([every[:, :near].sum(1), every[:, -near:].sum(1)])
        return ends / self.steps

    @property
    def still(self) -> Bool[Tensor, " unit"]:
        """Whether a unit has one and the same value at all steps (unit,)."""
        return self.products.diagonal() == 0

    @property
    def positives(self) -> Int64[Tensor, " label"]:
        """At how many steps each label holds (label,)."""
        return self.counts[1:, 0].sum(-1)

    @property
    def auc(self) -> Float64[Tensor, "label unit"]:
        """The area under the ROC curve of each unit for each label (label, unit).

        It is the chance that the unit is higher at a random step where the label holds than at one
        where it does not; 0.5 is chance; NaN where a label holds nowhere, or everywhere. The true
        area lies within `half_width` of it. Of a unit that never moves (`still`) it is 0.5, for no
        step is higher than another: such a unit says nothing of any label.
        """
        return self._areas[0].clone()

    @property
    def half_width(self) -> Float64[Tensor, "label unit"]:
        """How far the true area can lie from `auc` (label, unit): the bins hide no more.

        0 of a unit that never moves, though all its steps share a bin.
        """
        return self._areas[1].clone()

    @cached_property
    def _areas(self) -> tuple[Tensor, Tensor]:
        """The areas and their half widths, counted once: a screen asks at every click."""
        held = self.counts[1:].double()
        rest = self.counts[0].double() - held
        pairs = held.sum(-1) * rest.sum(-1)
        both = held * rest
        shared = both.sum(-1) / 2
        below = rest.cumsum(-1) - rest
        nowhere = torch.where(pairs > 0, 1.0, float("nan"))
        pairs = pairs.clamp(min=1)
        areas = ((held * below).sum(-1) + shared) / pairs * nowhere
        if (exact := self._code.exact) is not None:  # equal numbers, which hide nothing
            shared -= both[..., exact] / 2
        shared = torch.where(self.still, 0.0, shared)  # all are ties: nothing is hidden
        return areas, shared / pairs * nowhere

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a unit: mean, std, the median's bin, on, and an AUC a label.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        low, high = self.quantile(0.5)
        columns: dict[str, Any] = {
            "mean": self.mean,
            "std": self.std,
            "median_from": low,
            "median_to": high,
        }
        if self._code.bounded:
            columns |= {"at_low": self.at_ends[0], "at_high": self.at_ends[1]}
        if self.on_together is not None:
            columns["on"] = self.on_together.diagonal() / self.steps
        auc, half = self.auc, self.half_width
        for place, name in enumerate(self.labels):
            columns |= {f"auc_{name}": auc[place], f"half_width_{name}": half[place]}
        return frame(columns).rename_axis(index="unit")

    def __repr__(self) -> str:
        units = len(self.mean)
        labels = f", {so_many(len(self.labels), 'label')}" if self.labels else ""
        steps = so_many(self.steps, "step")
        return f"Statistics({self.layer!r}, {self.signal}, {steps}, unit {units}{labels})"

    def _repr_html_(self) -> str:
        head = ("label", "steps", "highest AUC", "unit", "lowest AUC", "unit")
        rows = []
        for name, many, areas in zip(self.labels, self.positives, self.auc, strict=True):
            if areas.isnan().all():
                rows.append((name, f"{many:,}", *"––––"))
                continue
            known = areas.nan_to_num(0.5)
            best, worst = int(known.argmax()), int(known.argmin())
            rows.append(
                (name, f"{many:,}", f"{areas[best]:.3f}", best, f"{areas[worst]:.3f}", worst)
                if not areas.isnan().all()
                else (name, f"{many:,}", "–", "–", "–", "–")
            )
        return html_table(head, rows, repr(self))
