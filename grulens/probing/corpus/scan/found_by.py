"""Which label each unit of a scanned layer follows best: by that it is found."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from grulens.probing.corpus.scan.scanned import Scan
from grulens.probing.corpus.scan.statistics import Statistics

#: What stands before the name of a unit that is pinned.
PIN: Final = "\N{BLACK STAR}"


def apart(found: Statistics) -> Float64[Tensor, "label unit"]:
    """How far each area under the ROC curve is from 0.5; 0 where it is not known."""
    return (found.auc.nan_to_num(0.5) - 0.5).abs()


def label_columns(found: Statistics) -> dict[str, Any]:
    """The label that each unit follows best, the area under the ROC curve for it, and for all.

    The best is the one whose area is farthest from 0.5, either way; "" where no area is known,
    for each label holds nowhere or everywhere. Without labels there are none.
    """
    if not found.labels:
        return {}
    areas = found.auc
    best = apart(found).argmax(0)
    area = areas.gather(0, best[None])[0].numpy()
    columns: dict[str, Any] = {
        "found_by": np.where(np.isnan(area), "", np.array(found.labels)[best.numpy()]),
        "found_auc": area,
    }
    return columns | {
        f"auc_{name}": area.numpy() for name, area in zip(found.labels, areas, strict=True)
    }


def called(scan: Scan, layer: str) -> dict[str, Any]:
    """The column with the names of the units, ★ for those that are pinned; none without either."""
    names, pins = scan.names(layer), scan.pins(layer)
    if not names and not pins:
        return {}
    units = scan.manifest.layers[scan.manifest.layer(layer)].units
    said = (f"{PIN * (unit in pins)} {names.get(unit, '')}".strip() for unit in range(units))
    return {"called": np.array([*said])}


def corpus_columns(scan: Scan, layer: str) -> dict[str, Any]:
    """All columns of a unit over a corpus: what it is called and found by, and how it moves."""
    found = scan.stats(layer)
    first = label_columns(found)
    heads = {name: first.pop(name) for name in ("found_by", "found_auc") if name in first}
    moved: dict[str, Any] = {"mean": found.mean.numpy(), "std": found.std.numpy()}
    if found.on_together is not None:
        moved["on"] = (found.on_together.diagonal() / max(1, found.steps)).numpy()
    return called(scan, layer) | heads | moved | first
