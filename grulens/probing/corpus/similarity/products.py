"""The products of the units of one scan and of another, over all steps of the parts of both.

A scan has kept the products of its own units, but those of a unit of one model and a unit of
another take both at one step. So both models run again over the rows that the scans have kept, side
by side, a part at a time. What is counted of parts adds up, in their order, so it is the same bit
for bit whoever counted it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from numpy import ndarray
from torch import nn

from grulens.errors import ScanError
from grulens.probing.corpus.rows import Rows, rows_again, side_by_side
from grulens.probing.corpus.scan.manifest import Manifest, weights_of
from grulens.probing.corpus.scan.part import Part
from grulens.probing.corpus.scan.scanned import Scan
from grulens.probing.corpus.similarity.same import apart, partners

#: The inputs are dealt to so many groups, and each is left out once.
GROUPS: Final = 10
#: float32 products of so many steps are added exactly enough.
AT_ONCE: Final = 4096
#: A layer whose variance is less than this, in its own scale, does not move: that is rounding.
STILL: Final = 1e-9
#: A unit whose standard deviation is less than this, in its mean, only rounds to float32.
ROUNDING: Final = 1.2e-7
#: No float32 number but 0 is smaller.
LEAST: Final = 1e-45


@dataclass(frozen=True)
class Side:
    """One of two scans, and what is compared of it.

    Attributes:
        model: its model.
        manifest: what it was made with.
        layers: the numbers of the layers.
        middle: (unit,) a value near the mean of each unit, of one layer after another.
        scale: (unit,) by what its numbers are divided: one number for all units of a layer.
    """

    model: nn.Module
    manifest: Manifest
    layers: tuple[int, ...]
    middle: Float32[ndarray, " unit"]
    scale: Float32[ndarray, " unit"]

    @classmethod
    def of(cls, scan: Scan, layers: tuple[int, ...]) -> Side:
        """What is compared of a scan."""
        if scan.model is None:
            raise ScanError(f"cka runs both models: open_scan({str(scan.path)!r}, model)")
        if weights_of(scan.model) != scan.manifest.weights:
            raise ScanError(
                f"the model of {scan.path} has other weights now than when it was scanned. Two "
                "checkpoints are two models: open_scan(path, model) each with its own"
            )
        middle, scale = [], []
        for layer in layers:
            known = scan.stats(scan.layers[layer])
            size = known.mean.abs()
            moved = known.std.where(known.std > ROUNDING * size, 0)  # the rest is rounding
            spread = float(moved.square().mean().sqrt())
            one = next((s for s in (spread, float(size.max())) if s > LEAST), 1.0)
            middle.append(known.mean.numpy())
            scale.append(np.full(len(size), one))
        joined = (np.concatenate(one).astype(np.float32) for one in (middle, scale))
        return cls(scan.model, scan.manifest, layers, *joined)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the layers."""
        return tuple(self.manifest.layers[i].name for i in self.layers)

    @property
    def slices(self) -> list[slice]:
        """The units of each layer, among those of all."""
        ends = np.cumsum([0, *(self.manifest.layers[i].units for i in self.layers)]).tolist()
        return [slice(*two) for two in pairwise(ends)]

    def taken(self, ran: Rows, steps: Int[ndarray, " step"]) -> Float[ndarray, "step unit"]:
        """The states at some steps of rows that ran, less the middle and over the scale.

        Args:
            ran: the rows.
            steps: which steps, counted over all rows.
        """
        found = np.empty((len(steps), len(self.middle)), np.float32)
        rows, columns = np.divmod(steps, ran.read.shape[1])
        for layer, units in zip(self.layers, self.slices, strict=True):
            found[:, units] = ran.states[layer][rows, columns]
        found -= self.middle
        found /= self.scale
        return found


Pair: TypeAlias = tuple[Side, Side]


@dataclass(frozen=True)
class Block:
    """Sums over some steps; they add up.

    Attributes:
        steps: how many steps.
        sums: for both scans, (unit,): of the values.
        own: for each layer of the first, then of the second, (unit, unit): of their products.
        cross: (unit, unit): of the products of the first's units and the second's.
    """

    steps: int
    sums: tuple[Float64[ndarray, " unit"], Float64[ndarray, " partner"]]
    own: tuple[Float64[ndarray, "_ _"], ...]
    cross: Float64[ndarray, "unit partner"]

    @classmethod
    def of(
        cls,
        values: tuple[Float[ndarray, "step unit"], Float[ndarray, "step partner"]],
        slices: tuple[Sequence[slice], Sequence[slice]],
    ) -> Block:
        """The sums over the steps of some values."""
        own = [
            one[:, units].T @ one[:, units]
            for one, every in zip(values, slices, strict=True) for units in every
        ]  # fmt: skip
        one, other = values
        sums = one.sum(0, dtype=np.float64), other.sum(0, dtype=np.float64)
        every = tuple(products.astype(np.float64) for products in own)
        return cls(len(one), sums, every, (one.T @ other).astype(np.float64))

    def __add__(self, new: Block) -> Block:
        return self._with(new, 1)

    def __sub__(self, new: Block) -> Block:
        return self._with(new, -1)

    def _with(self, new: Block, sign: int) -> Block:
        sums = self.sums[0] + sign * new.sums[0], self.sums[1] + sign * new.sums[1]
        own = tuple(a + sign * b for a, b in zip(self.own, new.own, strict=True))
        return Block(self.steps + sign * new.steps, sums, own, self.cross + sign * new.cross)

    def sizes(self, pair: Pair) -> tuple[Float64[ndarray, " layer"], Float64[ndarray, " other"]]:
        """The Frobenius norm of each layer's own products, NaN where all its units stand still.

        Each unit is less its mean over these steps; so it is in `cka`.
        """
        counted = iter(self.own)
        found: list[list[float]] = []
        for side, sums in zip(pair, self.sums, strict=True):
            found.append([])
            for units in side.slices:
                own = next(counted) - np.outer(sums[units], sums[units]) / self.steps
                moves = np.trace(own) > STILL * self.steps
                found[-1].append(float(np.linalg.norm(own)) if moves else np.nan)
        return np.array(found[0]), np.array(found[1])

    def cka(
        self, pair: Pair, cross: Float64[ndarray, "unit partner"] | None = None
    ) -> Float64[ndarray, "layer other"]:
        """The CKA of each two layers over these steps.

        Args:
            pair: what is compared of the two scans.
            cross: the products of the first's units and the second's, if other ones than these.
        """
        cross = self.cross if cross is None else cross
        cross = cross - np.outer(*self.sums) / self.steps
        rows, columns = (side.slices for side in pair)
        shared = [[np.linalg.norm(cross[one, two]) ** 2 for two in columns] for one in rows]
        found: ndarray = np.array(shared) / np.outer(*self.sizes(pair))
        return found.clip(0.0, 1.0)


@dataclass(frozen=True)
class Sums:
    """What is counted of the parts of two scans; they add up.

    Attributes:
        groups: the sums of each group of inputs, by its number.
        elsewhere: (unit, other): of the products of the first's units at all steps and the second's
            half of the steps further on, among rows that ran together.
        alone: the steps that ran by themselves, and so have no other one.
        inputs: how many inputs there are.
        apart: how far the numbers that were read lie from each other, in their standard deviation.
        renamed: whether ids that are the same are called otherwise in the two scans.
    """

    groups: Mapping[int, Block]
    elsewhere: Float64[ndarray, "unit partner"]
    alone: int
    inputs: int
    apart: float
    renamed: bool

    def __add__(self, new: Sums) -> Sums:
        groups = dict(self.groups)
        for number, block in new.groups.items():
            groups[number] = groups[number] + block if number in groups else block
        return Sums(
            groups, self.elsewhere + new.elsewhere, self.alone + new.alone,
            self.inputs + new.inputs, max(self.apart, new.apart), self.renamed or new.renamed,
        )  # fmt: skip


def compared(pair: Pair, parts: tuple[Part, Part]) -> Sums:
    """Run a part of both scans again, side by side, and count.

    Args:
        pair: what is compared of the two scans.
        parts: the part of each.

    Raises:
        ScanError: they hold other inputs; what a model took is not kept, or it does not do what it
            did.
    """
    one, other = pair
    rows = partners(parts)
    scanned = [
        (part, side.manifest, each) for part, side, each in zip(parts, pair, rows, strict=True)
    ]
    inputs = _inputs(parts[0])
    group_of = [(parts[0].number + number) % GROUPS for number in inputs]
    slices = one.slices, other.slices
    groups: dict[int, Block] = {}
    elsewhere = np.zeros((len(one.middle), len(other.middle)))
    alone, furthest, renamed = 0, 0.0, False
    for chosen in side_by_side(*scanned):
        ran = _ran(pair, parts, [[each[i] for i in chosen] for each in rows])
        far, other_names = apart(parts, ran)
        furthest, renamed = max(furthest, far), renamed or other_names
        steps = ran[0].read.shape[1]
        alone += steps * len(chosen) == 1
        for number in sorted({group_of[i] for i in chosen}):
            its = [place for place, i in enumerate(chosen) if group_of[i] == number]
            every = (np.array(its)[:, None] * steps + np.arange(steps)).reshape(-1)
            for start in range(0, len(every), AT_ONCE):
                at = every[start : start + AT_ONCE]
                values = one.taken(ran[0], at), other.taken(ran[1], at)
                block = Block.of(values, slices)
                groups[number] = groups[number] + block if number in groups else block
                there = (at + steps * len(chosen) // 2) % (steps * len(chosen))
                elsewhere += values[0].T @ other.taken(ran[1], there)
    return Sums(groups, elsewhere, alone, len({*inputs}), furthest, renamed)


def _ran(
    pair: Pair, parts: tuple[Part, Part], chosen: Sequence[Sequence[int]]
) -> tuple[Rows, Rows]:
    """The same rows of both, run again; once, where both are of one scan."""
    one, other = pair
    if parts[0].place == parts[1].place:
        layers = sorted({*one.layers, *other.layers})
        ran = rows_again(one.model, parts[0], one.manifest, layers, chosen[0])
        return ran, ran
    first, second = (
        rows_again(side.model, part, side.manifest, side.layers, rows)
        for side, part, rows in zip(pair, parts, chosen, strict=True)
    )
    return first, second


def _inputs(part: Part) -> list[int]:
    """The number of the input of each row, among those of the part."""
    inputs = [(int(part.rows[row, 0]), part.batch_row(row)) for row in range(len(part.rows))]
    number = {one: place for place, one in enumerate(sorted({*inputs}))}
    return [number[one] for one in inputs]
