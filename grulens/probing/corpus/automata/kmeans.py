"""k-means, deterministic: the same states and seed give the same clusters.

Starts are spread out as k-means++ does it (Arthur and Vassilvitskii 2007, SODA), the best of a few
is kept, and a cluster that runs empty begins again at the state farthest from its own centre.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def kmeans(points: Array, clusters: int, seed: int, starts: int = 4, rounds: int = 100) -> Array:
    """The centres (cluster, unit) of points (point, unit), at most as many as there are points.

    Args:
        points: what is clustered, float64.
        clusters: how many, at most.
        seed: where the starts come from.
        starts: how many times it begins.
        rounds: how many times it goes on at most.

    >>> points = np.array([[0.0], [0.1], [5.0], [5.2], [9.0]])
    >>> np.sort(kmeans(points, 3, seed=0)[:, 0]).round(2).tolist()
    [0.05, 5.1, 9.0]
    """
    points = np.unique(points, axis=0) if len(points) <= clusters else points
    clusters = min(clusters, len(points))
    rng = np.random.default_rng(seed)
    best, least = points[:clusters], np.inf
    for _ in range(starts):
        centres = _spread(points, clusters, rng)
        label = nearest(points, centres)
        for _ in range(rounds):
            centres = _means(points, label, centres)
            again = nearest(points, centres)
            if np.array_equal(again, label):
                break
            label = again
        cost = float(((points - centres[label]) ** 2).sum())
        if cost < least:
            best, least = centres, cost
    return best


def nearest(points: Array, centres: Array) -> NDArray[np.int64]:
    """The nearest centre of each point (point,)."""
    # |p - c|² but for |p|², which is the same for all centres
    far = (centres**2).sum(1) - 2 * points @ centres.T
    label: NDArray[np.int64] = far.argmin(1)
    return label


def _spread(points: Array, clusters: int, rng: np.random.Generator) -> Array:
    """Centres among the points, each drawn by its squared distance from those before."""
    chosen = [int(rng.integers(len(points)))]
    far = ((points - points[chosen[0]]) ** 2).sum(1)
    while len(chosen) < clusters:
        total = far.sum()
        share = far / total if total > 0 else None
        chosen.append(int(rng.choice(len(points), p=share)))
        far = np.minimum(far, ((points - points[chosen[-1]]) ** 2).sum(1))
    return points[chosen]


def _means(points: Array, label: NDArray[np.int64], centres: Array) -> Array:
    """The mean of each cluster; of an empty one, a point far from its own centre."""
    count = np.bincount(label, minlength=len(centres))
    total = np.zeros_like(centres)
    np.add.at(total, label, points)
    means = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], 0.0)
    empty = np.flatnonzero(count == 0)
    if len(empty):
        far = ((points - centres[label]) ** 2).sum(1)
        means[empty] = points[np.argsort(-far, kind="stable")[: len(empty)]]
    return means
