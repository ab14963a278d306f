"""In which order to show the units of a layer, so that a picture of them has a shape."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from grulens.words import message

Order = Literal["index", "activity", "similarity"]
ORDERS = (message("index"), message("activity"), message("similarity"))
CLUSTERED = 4096
#: So many steps are taken at a time: a long run's signal is large.
STEPS = 8192


def order_units(
    values: Float[np.ndarray, "unit time"], by: Order = "index"
) -> Int[np.ndarray, " unit"]:
    """Units in the order in which to show them.

    Args:
        values: one signal (unit, time).
        by: "index"; "activity", the most varying first; or "similarity", neighbours vary alike:
            the leaves of an average-linkage tree over correlation distance (scipy's
            `linkage(..., optimal_ordering=True)`, Bar-Joseph et al. 2001). Layers of more than
            4,096 units are ordered by their projection on the first principal component instead,
            since the tree's distances grow with the square of the units.

    Returns:
        (unit,), int64: the unit of each row.

    >>> order_units(np.array([[0., 0.], [0., 9.], [0., 1.]], np.float32), "activity").tolist()
    [1, 2, 0]
    """
    units = len(values)
    if by == "index" or units < 2:
        return np.arange(units)
    if by == "activity":
        # a unit at a time: a long run's signal is large, and here it would be copied twice
        return np.argsort([-np.linalg.norm(_centred(unit)) for unit in values], kind="stable")
    if units > CLUSTERED:
        unit_vectors = _centred(values)
        # a unit that never varies is like no other: it stays where its zero vector puts it
        unit_vectors /= np.maximum(np.linalg.norm(unit_vectors, axis=1), 1e-12)[:, None]
        _, _, axes = np.linalg.svd(unit_vectors, full_matrices=False)
        return np.argsort(unit_vectors @ axes[0], kind="stable")
    from scipy.cluster.hierarchy import leaves_list, linkage  # noqa: PLC0415 - slow to import
    from scipy.spatial.distance import squareform  # noqa: PLC0415

    distance = 1 - np.clip(_correlation(values), -1, 1)
    np.fill_diagonal(distance, 0)
    tree: Any = linkage(
        squareform(distance, checks=False), "average", optimal_ordering=units <= CLUSTERED // 8
    )
    leaves: Int[np.ndarray, " unit"] = leaves_list(tree).astype(np.int64)
    return leaves


def _correlation(values: Float[np.ndarray, "unit time"]) -> Float[np.ndarray, "unit unit"]:
    """The correlation of the units over time; 0 with one that never varies. NaN counts as 0."""
    units, time = values.shape
    blocks = [slice(start, start + STEPS) for start in range(0, time, STEPS)]
    mean = sum((np.nan_to_num(values[:, block].astype(np.float64)).sum(1) for block in blocks),
               np.zeros(units)) / max(1, time)  # fmt: skip
    products = np.zeros((units, units))
    for block in blocks:
        moved = np.nan_to_num(values[:, block].astype(np.float64)) - mean[:, None]
        products += moved @ moved.T
    norms = np.maximum(np.sqrt(products.diagonal()), 1e-12)
    found: Float[np.ndarray, "unit unit"] = products / norms[:, None] / norms
    return found


def _centred(values: Float[np.ndarray, "*unit time"]) -> Float[np.ndarray, "*unit time"]:
    """A float64 copy less its mean over time; NaN counts as 0."""
    copy = values.astype(np.float64)
    np.nan_to_num(copy, copy=False)
    copy -= copy.mean(-1, keepdims=True)
    return copy
