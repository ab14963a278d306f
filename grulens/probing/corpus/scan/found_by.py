"""Which label each unit, or direction, of a scanned layer follows best: by that it is found."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from grulens.probing.corpus.scan.direction import SIGNAL, followed
from grulens.probing.corpus.scan.scanned import Scan
from grulens.probing.corpus.scan.statistics import Statistics

#: What stands before the name of a unit that is pinned, and of what is a direction.
PIN: Final = "\N{BLACK STAR}"
DIRECTION: Final = "\N{RIGHTWARDS ARROW}"


def counted(scan: Scan, layer: str, unit: int | str) -> tuple[Statistics, int]:
    """The statistics that count a unit, or a direction by its name, and its place in them.

    Raises:
        ScanError: the layer has no such unit or direction.
    """
    one = followed(unit, scan.manifest.layers[scan.manifest.layer(layer)])
    return scan.stats(layer, "h" if one.direction is None else SIGNAL), one.number


def apart(found: Statistics) -> Float64[Tensor, "label unit"]:
    """How far each area under the ROC curve is from 0.5, at least; 0 where it may be 0.5."""
    return ((found.auc - 0.5).abs() - found.half_width).nan_to_num(0.0).clamp(min=0.0)


def label_columns(found: Statistics) -> dict[str, Any]:
    """The label that each unit follows best, the area under the ROC curve for it, and for all.

    The best is the one whose area is farthest from 0.5, either way, however far off the area may
    be; "" where none is surely another than 0.5. Without labels there are none.
    """
    if not found.labels:
        return {}
    areas, far = found.auc, apart(found)
    best = far.argmax(0)
    known = far.amax(0).numpy() > 0
    columns: dict[str, Any] = {
        "found_by": np.where(known, np.array(found.labels)[best.numpy()], ""),
        "found_auc": np.where(known, areas.gather(0, best[None])[0].numpy(), np.nan),
    }
    return columns | {
        f"auc_{name}": area.numpy() for name, area in zip(found.labels, areas, strict=True)
    }


def called(scan: Scan, layer: str) -> dict[str, Any]:
    """The column with the names of the units, ★ for those that are pinned; none without either."""
    names, pins = scan.names(layer), scan.pins(layer)
    units = range(scan.manifest.layers[scan.manifest.layer(layer)].units)
    said = [f"{PIN * (unit in pins)} {names.get(unit, '')}".strip() for unit in units]
    return {"called": np.array(said)} if any(said) else {}


def directions_called(scan: Scan, layer: str) -> list[str]:
    """An arrow and the name of each direction, what it is called; ★ for those that are pinned."""
    names, pins = scan.names(layer), scan.pins(layer)
    return [
        f"{PIN} " * (one in pins)
        + f"{DIRECTION} {one}"
        + (f": {names[one]}" if one in names else "")
        for one in scan.directions.get(layer, ())
    ]


def corpus_columns(scan: Scan, layer: str) -> dict[str, Any]:
    """All columns over a corpus: what a unit is called and found by, and how it moves.

    The directions stand under the units, an arrow before their names.
    """
    columns = called(scan, layer) | _moved(scan.stats(layer))
    said = directions_called(scan, layer)
    if not said:
        return columns
    along = {"called": np.array(said), **_moved(scan.stats(layer, SIGNAL))}
    units = len(columns["mean"])
    columns = {
        "unit": np.arange(units, dtype=float), "called": np.array([""] * units), **columns
    }  # fmt: skip
    none = np.full(len(said), np.nan)
    return {name: np.concatenate([one, along.get(name, none)]) for name, one in columns.items()}


def _moved(found: Statistics) -> dict[str, Any]:
    first = label_columns(found)
    heads = {name: first.pop(name) for name in ("found_by", "found_auc") if name in first}
    moved: dict[str, Any] = {"mean": found.mean.numpy(), "std": found.std.numpy()}
    if found.on_together is not None:
        moved["on"] = (found.on_together.diagonal() / max(1, found.steps)).numpy()
    return heads | moved | first
