"""How alike the states of two scans are: linear centred kernel alignment (CKA), layer by layer.

With X and Y the states (step, unit) of two layers at the same steps, each unit less its mean, and
|·| the Frobenius norm, CKA = |Xᵀ Y|² / (|Xᵀ X| |Yᵀ Y|) (Kornblith, Norouzi, Lee and Hinton 2019,
section 3). It is 1 where one layer's states are those of the other turned, mirrored and scaled as a
whole, and 0 where no unit of one goes along with any of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor

from grulens.arguments import LayerNames, ScanLike
from grulens.errors import ScanError, shown
from grulens.job import Job, stopped, tell
from grulens.models.restore.mode import evaluated
from grulens.probing.corpus.cluster import Workers, alone_with, check_client
from grulens.probing.corpus.scan.part import Part
from grulens.probing.corpus.scan.scanned import Scan
from grulens.probing.corpus.similarity.products import GROUPS, Pair, Side, Sums, compared
from grulens.probing.corpus.similarity.same import SAME
from grulens.results import Result, frame
from grulens.tables import html_table
from grulens.words import so_many

AGAIN: Final = "compared", "Ask again"


@dataclass(frozen=True, eq=False, repr=False)
class CKA(Result):
    """How alike each layer of a scan and each of another are.

    Attributes:
        layers: the layers of the first scan.
        others: those of the second.
        parts: the parts that were compared.
        steps: how many steps these have.
        value: (layer, other) the linear CKA of two layers, from 0 to 1; NaN where all units of one
            of them never move, but for rounding.
        corrected: (layer, other) the same, less what a corpus of finite size adds to it: by values
            with a tenth of the inputs left out in turn (the jackknife). NaN of a single input.
        interval: (layer, other, 2) the 95% interval around `corrected`, by the same values: whole
            inputs are what is drawn. It takes them to be of one kind and many: of fewer than some
            twenty, or where a few have most of the steps, it may be too narrow, and `corrected`
            further off than `value`. NaN of a single input.
        chance: (layer, other) the CKA of the first's states with those that the second has half of
            the steps further on, among rows that ran together: in other rows, as far as there are
            any. What two layers have in common without reading the same stands here.
        note: what must be known of these numbers, or "".
    """

    layers: tuple[str, ...]
    others: tuple[str, ...]
    parts: tuple[int, ...]
    steps: int
    value: Float64[Tensor, "layer other"]
    corrected: Float64[Tensor, "layer other"]
    interval: Float64[Tensor, "layer other 2"]
    chance: Float64[Tensor, "layer other"]
    note: str = ""

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row for each pair of layers, with all of their numbers.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        pairs = [(one, other) for one in self.layers for other in self.others]
        table = frame({
            "cka": self.value.flatten(), "corrected": self.corrected.flatten(),
            "low": self.interval[..., 0].flatten(), "high": self.interval[..., 1].flatten(),
            "chance": self.chance.flatten(),
        })  # fmt: skip
        table.insert(0, "layer", [one for one, _ in pairs])
        table.insert(1, "other", [other for _, other in pairs])
        return table

    def __repr__(self) -> str:
        pairs = f"{len(self.layers)} x {len(self.others)} layers"
        if len(self.layers) == len(self.others) == 1:
            pairs = f"{self.layers[0]!r}, {self.others[0]!r}, {float(self.value[0, 0]):.3f}"
        return f"CKA({pairs}, {so_many(self.steps, 'step')})"

    def _repr_html_(self) -> str:
        head = ("layer", "other", "CKA", "corrected", "95%", "by chance")
        rows = [
            (one, other, f"{self.value[i, j]:.3f}", f"{self.corrected[i, j]:.3f}",
             "–".join(f"{end:.3f}" for end in self.interval[i, j].tolist()),
             f"{self.chance[i, j]:.3f}")
            for i, one in enumerate(self.layers) for j, other in enumerate(self.others)
        ]  # fmt: skip
        return html_table(head, rows, repr(self), self.note)


def cka(
    scan: ScanLike,
    other: ScanLike,
    *,
    layers: LayerNames = None,
    others: LayerNames = None,
    client: Any = None,
    progress: bool = True,
) -> CKA:
    """Compare the states of two scans of the same inputs: the linear CKA of their layers.

    Two models, two checkpoints, or the layers of one model (the same scan, twice). Both models run
    once more over the rows that the scans have kept; all steps count. What stands at each step must
    be the same in both: the same ids, or ids of the same texts, or the same numbers.

    A high CKA says that the directions in which the states vary most are shared. It says nothing of
    those in which they vary little, nor what either model does with them; and layers that read the
    same inputs have something in common untrained, too. `CKA.chance` shows what they have in common
    where they read other inputs. An untrained model is a control of your own.

    Ctrl-C gives what was compared by then.

    Args:
        scan: a scan; opened with its model.
        other: the scan of another model, or of this one; opened with its model.
        layers: the layers of `scan`; None is all that were scanned.
        others: the layers of `other`; likewise.
        client: a `dask.distributed.Client`: its workers run the parts, and what comes out is the
            same bit for bit. They read the folders of both scans. None runs them here.
        progress: whether to show a progress bar.

    Raises:
        ScanError: a scan has no model, or its model has other weights now; it has no such layer;
            the scans are of other inputs, or were cut into other rows; what a model took is not
            kept, or it does not do what it did; Ctrl-C came before a part was compared; or the
            workers of `client` do not stay alive.

    Warns:
        StoppedWarning: Ctrl-C came before all parts were compared.

    >>> from tempfile import mkdtemp
    >>> from torch import nn
    >>> from grulens.corpus import cka, scan
    >>> models = [
    ...     nn.Sequential(nn.Embedding(5, 3), nn.GRU(3, size, batch_first=True)) for size in (8, 16)
    ... ]
    >>> parts = [torch.randint(5, (400,)) for _ in range(4)]
    >>> one, two = (scan(model, parts, mkdtemp(), progress=False) for model in models)
    >>> found = cka(one, two, progress=False)
    >>> found.layers, found.others, found.steps
    (('1.l0',), ('1.l0',), 1600)
    >>> bool(found.chance[0, 0] < found.value[0, 0] < 1)
    True
    """
    pair = _pair(scan, other, layers, others)
    if client is not None:
        check_client(client)
    parts, alone = _common(scan, other)
    job: Job[CKA] = Job("cka", "part", len(parts))
    sums: list[Sums] = []
    models = scan.model, other.model
    assert models[0] is not None
    assert models[1] is not None
    with job.watched(bar=progress), evaluated(models[0]), evaluated(models[1]):
        waiting: dict[int, Sums] = {}
        for number, found in _each(client, scan, pair, parts):
            waiting[number] = found
            while len(sums) in waiting:  # in their order, whichever came first
                sums.append(waiting.pop(len(sums)))
            job.advance()
    note = stopped(len(sums), len(parts), "part")
    if note and not sums:
        raise ScanError(f"the comparison {note}, before one was compared")
    if note:
        tell("the comparison", note)
    numbers = [one.number for one, _ in parts[: len(sums)]]
    return _result(pair, numbers, reduce(add, sums), [one for one in (note, alone) if one])


def _pair(scan: Any, other: Any, layers: Any, others: Any) -> Pair:
    """What is compared of the two scans; everything as it must be."""
    for one in (scan, other):
        if not isinstance(one, Scan):
            raise ScanError(f"cka is of two scans, of corpus.scan or open_scan; got {shown(one)}")
    chosen = []
    for name, one, given in (("layers", scan, layers), ("others", other, others)):
        names = one.layers if given is None else given
        plain = isinstance(names, Sequence) and not isinstance(names, str)
        if not plain or not names or any(each is None for each in names):
            raise ScanError(
                f"{name} must be names of layers, of {', '.join(one.layers)}; got {shown(names)}"
            )
        numbers = tuple(one.manifest.layer(each) for each in names)
        if len({*numbers}) < len(names):
            raise ScanError(f"{name} must be each once, got {shown(names)}")
        chosen.append(numbers)
    return Side.of(scan, chosen[0]), Side.of(other, chosen[1])


def _common(scan: Scan, other: Scan) -> tuple[list[tuple[Part, Part]], str]:
    """The parts that both scans have, and that there are more, in words."""
    there = {part.number: part for part in other.parts}
    parts = [(part, there[part.number]) for part in scan.parts if part.number in there]
    if not parts:
        raise ScanError(
            f"the scans have no part in common: one has {len(scan.parts)}, the other "
            f"{len(other.parts)} with a step"
        )
    every = {part.number for part in scan.parts} | {*there}
    if len(parts) == len(every):
        return parts, ""
    return parts, f"{len(parts)} of {len(every)} parts are in both scans, and only these count"


def _each(
    client: Any, scan: Scan, pair: Pair, parts: Sequence[tuple[Part, Part]]
) -> Iterator[tuple[int, Sums]]:
    """What is counted of each two parts, here or on a cluster, as they are done."""
    if client is None:
        for number, both in enumerate(parts):
            yield number, compared(pair, both)
        return
    with Workers(client, scan.path, pair, AGAIN) as workers:
        for number, (one, other) in enumerate(parts):
            workers.hand_out(one.number, number, _compare, one.place, other.place)
            if workers.full:
                yield from workers.first()
        while workers.busy:
            yield from workers.first()


def _compare(shared: Path, one: Path, other: Path) -> Sums:
    """Compare two parts in a worker."""
    parts = Part(one), Part(other)
    for part in parts:
        part.check()  # that the worker sees the scans
    with alone_with(shared) as pair, evaluated(pair[0].model), evaluated(pair[1].model):
        return compared(pair, parts)


def _result(pair: Pair, parts: Sequence[int], sums: Sums, notes: list[str]) -> CKA:
    """The CKA of what was counted, with its interval and what is there by chance."""
    groups = [sums.groups[number] for number in sorted(sums.groups)]
    every = reduce(add, groups)
    value, chance = every.cka(pair), every.cka(pair, sums.elsewhere)
    corrected, interval = np.full_like(value, np.nan), np.full((*value.shape, 2), np.nan)
    if len(groups) > 1:
        left_out = np.stack([(every - one).cka(pair) for one in groups])
        corrected, interval = _jackknife(value, left_out)
        if (np.isnan(corrected) & ~np.isnan(value)).any():
            notes.append("a layer moves in a few inputs only, so nothing is known without them")
        if sums.inputs < GROUPS:
            notes.append(
                f"there are {sums.inputs} inputs only, and of so few the interval may be too narrow"
            )
    else:
        notes.append("there is one input only, so nothing is known of how far others would differ")
    if sums.alone > every.steps / 100:
        chance[:] = np.nan
        notes.append("rows of one step each ran by themselves, so nothing is known of chance")
    never = [
        repr(name)
        for side, sizes in zip(pair, every.sizes(pair), strict=True)
        for name, size in zip(side.names, sizes, strict=True) if np.isnan(size)
    ]  # fmt: skip
    if never:
        notes.append(f"the units of {', '.join(dict.fromkeys(never))} never move, but for rounding")
    if sums.apart > SAME:
        notes.append(
            f"the numbers that were read differ by up to {sums.apart:.2g} of their standard "
            "deviation"
        )
    if sums.renamed:
        notes.append("ids that are the same are called otherwise in the two scans")
    return CKA(
        pair[0].names, pair[1].names, tuple(parts), every.steps, torch.from_numpy(value),
        torch.from_numpy(corrected), torch.from_numpy(interval), torch.from_numpy(chance),
        "; ".join(notes),
    )  # fmt: skip


def _jackknife(
    value: Float64[ndarray, "layer other"], left_out: Float64[ndarray, "group layer other"]
) -> tuple[Float64[ndarray, "layer other"], Float64[ndarray, "layer other 2"]]:
    """The value less its bias, and the 95% interval around that, by Student's t.

    Efron and Tibshirani 1993, chapters 10 and 11.
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - it takes long to load

    many = len(left_out)
    middle = many * value - (many - 1) * left_out.mean(0)
    spread = np.sqrt((many - 1) * left_out.var(0))
    half = float(stdtrit(many - 1, 0.975)) * spread
    ends: ndarray = np.stack([middle - half, middle + half], -1)
    return middle.clip(0.0, 1.0), ends.clip(0.0, 1.0)
