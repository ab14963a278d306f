"""How many bits it takes to say a label to someone who knows the states: the online code.

The parts are sent block by block, each by a probe of the blocks before it (prequential coding;
Voita and Titov 2020, whose blocks grow, too). A probe's score is no probability: it falls into one
of 32 bins, and in each bin the chance of the label is what was seen there so far, (held + 1/2) /
(seen + 1) (Krichevsky and Trofimov 1981). The length of such a code depends on nothing but how
often the label held in each bin at the end, so the bins of the parts add up. The first part has no
probe: there the chance is that of the label alone, as in the code of a label without states.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from numpy import ndarray
from torch import Tensor

BINS: Final = 32
#: Scores lie around −1 and +1; what is further out than this is in the last bin there.
FAR: Final = 1.5


def counted(
    scores: Float[ndarray, "step target"], targets: Bool[ndarray, "step target"]
) -> Int64[ndarray, "target bin truth"]:
    """How many steps of each truth have their score in each bin; 0 is where bin 16 begins.

    >>> some = np.array([[-1.0], [0.1], [0.2]], np.float32), np.array([[False], [True], [True]])
    >>> counts = counted(*some)
    >>> counts[0, 5].tolist(), counts[0, 16:19].tolist()
    ([1, 0], [[0, 0], [0, 1], [0, 1]])
    """
    count = scores.shape[1]
    bins = np.floor(scores * np.float32(BINS / 2 / FAR)).astype(np.int64) + BINS // 2
    places = np.clip(bins, 0, BINS - 1) * 2 + targets + np.arange(count) * BINS * 2
    found: ndarray = np.bincount(places.ravel(), minlength=count * BINS * 2)
    return found.reshape(count, BINS, 2).astype(np.int64)


def length(counts: Int[ndarray, "*axes bin truth"]) -> Float64[ndarray, "*axes"]:
    """The bits of the code of labels that held so often in each bin.

    >>> length(np.array([[[0, 0], [1, 0]], [[0, 0], [900, 0]]])).round(2).tolist()
    [1.0, 5.73]
    """
    both = torch.from_numpy(np.asarray(counts) + 0.5)
    # the beta function of what held and what did not, over that of (1/2, 1/2)
    chance: Tensor = both.lgamma().sum(-1) - both.sum(-1).lgamma() - math.log(math.pi)
    bits: ndarray = (-chance.sum(-1) / math.log(2)).numpy()
    return bits
