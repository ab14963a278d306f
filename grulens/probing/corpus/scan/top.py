"""The windows of a corpus in which a unit goes furthest, found in the extremes that a scan keeps.

Under a label only the steps count where it holds. Where it holds at some steps of a window, the
extreme of the window is but a bound: the row is run again, unless known windows go further.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from grulens.errors import ScanError, shown
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.part import Part, unpacked
from grulens.probing.corpus.scan.place import Context, Place
from grulens.results import Result, frame
from grulens.tables import html_table

ENDS = ("high", "low")


@dataclass(frozen=True, eq=False, repr=False)
class Top(Result):
    """The windows in which a unit goes furthest, the furthest first.

    Attributes:
        layer: the name of the layer.
        unit: the unit.
        end: "high" or "low".
        where: the label whose steps alone were looked at, or None.
        windows: how many windows there were to choose from.
        contexts: the windows, and what stands there.
        values: the unit's largest value in each, or its least, at the steps that were looked at.
    """

    layer: str
    unit: int
    end: str
    where: str | None
    windows: int
    contexts: tuple[Context, ...]
    values: tuple[float, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """The windows."""
        return tuple(one.place for one in self.contexts)

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a window.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        names = ("part", "row", "document", "batch_row", "offset", "start", "stop")
        columns: dict[str, Any] = {n: [getattr(p, n) for p in self.places] for n in names}
        columns["value"] = list(self.values)
        columns["text"] = [one.text for one in self.contexts]
        columns["labels"] = [", ".join(one.labels) for one in self.contexts]
        return frame(columns)

    def __repr__(self) -> str:
        where = f" where {self.where}" if self.where else ""
        return (
            f"Top({self.layer!r}, unit {self.unit}, {len(self.places)} windows, {self.end}{where})"
        )

    def _repr_html_(self) -> str:
        head = ("value", "part", "input", "row", "steps", "text", "labels")
        rows = [
            (f"{value:.4f}", p.part, p.document, p.batch_row,
             f"{p.offset + p.start}–{p.offset + p.stop - 1}",
             one.text, ", ".join(one.labels))
            for value, one, p in zip(self.values, self.contexts, self.places, strict=True)
        ]  # fmt: skip
        return html_table(head, rows, repr(self))


def top(
    parts: Sequence[Part],
    manifest: Manifest,
    layer: int,
    unit: Any,
    k: Any,
    label: int | None,
    end: Any,
    replay: Callable[[Place], Float[ndarray, "step unit"]],
) -> Top:
    """See `Scan.top`; `replay` gives the states of a place (step, unit)."""
    scanned = manifest.layers[layer]
    check_unit(unit, scanned.units, scanned.name)
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ScanError(f"k must be a whole number from 1 on, got {shown(k)}")
    if not isinstance(end, str) or end not in ENDS:
        raise ScanError(f"end must be 'high' or 'low', got {shown(end)}")
    best: list[_Found] = []
    several = 0
    sign = 1.0 if end == "high" else -1.0
    for at, part in enumerate(parts):
        far = sign * np.asarray(part.index(layer, end)[unit])
        held = part.lengths if label is None else part.labelled(label)
        allowed = held > 0
        several += int(allowed.sum())
        chosen = np.flatnonzero(allowed)
        if label is None:
            best = sorted(
                [*best, *(_Found(-far[i], at, int(i)) for i in _furthest(far, chosen, k))]
            )[:k]
            continue
        whole = held == part.lengths
        for i in chosen[np.argsort(-far[chosen], kind="stable")].tolist():
            if len(best) == k and -best[-1].far >= far[i]:
                break  # no window further on can hold a step that goes further
            value = far[i]
            if not whole[i]:
                place = part.place_of(i)
                states = sign * replay(place)[:, unit]
                value = states[_steps_of(part, label, i)].max()
            best = sorted([*best, _Found(-value, at, i)])[:k]
    contexts = tuple(
        parts[one.part].context(parts[one.part].place_of(one.window), manifest.labels)
        for one in best
    )
    return Top(
        scanned.name, int(unit), end, None if label is None else manifest.labels[label], several,
        contexts, tuple(-sign * float(one.far) for one in best),
    )  # fmt: skip


class _Found(NamedTuple):
    """A window; sorted, the furthest comes first, and of equal ones the first of the corpus."""

    far: float
    part: int
    window: int


def _furthest(
    far: Float[ndarray, " window"], chosen: Int[ndarray, " chosen"], k: int
) -> Int[ndarray, " best"]:
    """The k windows that go furthest; of equal ones the first."""
    if len(chosen) <= k:
        return chosen
    limit = np.partition(far[chosen], -k)[-k]
    above = chosen[far[chosen] > limit]
    return np.concatenate([above, chosen[far[chosen] == limit][: k - len(above)]])


def _steps_of(part: Part, label: int, window: int) -> Int[ndarray, " step"]:
    """The steps of a window at which a label holds."""
    words = np.zeros(1, "<u8") if part.labels is None else part.labels[label, window : window + 1]
    return np.flatnonzero(unpacked(words))


def check_unit(unit: Any, units: int, layer: str) -> None:
    """Raise unless a unit is one of a layer."""
    if isinstance(unit, bool) or not isinstance(unit, int | np.integer) or not 0 <= unit < units:
        raise ScanError(
            f"unit {shown(unit)} is none of layer {layer!r}, which has 0 to {units - 1}"
        )
