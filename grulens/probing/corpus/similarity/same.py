"""Whether two scans are of the same inputs: the same rows, and the same at each of their steps."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from numpy import ndarray

from grulens.errors import ScanError
from grulens.probing.corpus.rows import Rows
from grulens.probing.corpus.scan.part import Part

#: Numbers that were read may differ by so much of their standard deviation.
NEAR: Final = 0.01
#: Numbers that differ by so little of themselves are the same, rounded to float32.
SAME: Final = 1e-6


def apart(parts: tuple[Part, Part], ran: tuple[Rows, Rows]) -> tuple[float, bool]:
    """How far apart what was read lies, and whether equal ids are called otherwise.

    Ids are the same where they are equal, or are called the same; numbers where they differ by
    rounding, as those of a model in half precision do: each of those at a step in its own scale.

    Raises:
        ScanError: it is not the same.
    """
    one, other = (each.read for each in ran)
    ids = all(np.issubdtype(each.dtype, np.integer) for each in (one, other))
    if one.shape == other.shape and ids:
        pairs = np.unique(np.stack([one.ravel(), other.ravel()], 1), axis=0).tolist()
        names = [(parts[0].names.get(a), parts[1].names.get(b)) for a, b in pairs]
        alike = all(a == b is not None for a, b in names)
        if alike or all(a == b for a, b in pairs):
            return 0.0, not alike and any(None not in both and both[0] != both[1] for both in names)
    elif one.shape == other.shape:
        far = np.abs(one.astype(np.float64) - other)
        spread = np.broadcast_to(one.std((0, 1), dtype=np.float64), one.shape)
        near = (far <= NEAR * spread) | (far <= SAME * np.abs(one))
        if (near | (_rounded(one) == _rounded(other))).all():
            return float((far[spread > 0] / spread[spread > 0]).max(initial=0.0)), False
    document = int(parts[0].rows[ran[0].rows[0], 0])
    raise ScanError(
        f"the scans are of other inputs: what was read in part {parts[0].number}, around input "
        f"{document} of it, is not the same. CKA compares the states of the same inputs"
    )


def _rounded(read: Shaped[ndarray, "row step ..."]) -> Float32[ndarray, "row step ..."]:
    """Numbers as bfloat16 has them, which none has in fewer digits."""
    found: ndarray = torch.from_numpy(np.ascontiguousarray(read)).bfloat16().float().numpy()
    return found


def partners(parts: tuple[Part, Part]) -> tuple[list[int], list[int]]:
    """The rows of a part of one scan, and the same rows of the other's.

    Raises:
        ScanError: they are cut into other rows.
    """
    known = [
        {(*part.rows[row, :3].tolist(), part.batch_row(row)): row for row in range(len(part.rows))}
        for part in parts
    ]
    one, other = known
    if one.keys() != other.keys():
        document, offset, steps, row = min(one.keys() ^ other.keys())
        has = "first" if (document, offset, steps, row) in one else "second"
        raise ScanError(
            f"the scans were cut into other rows, or are of other inputs: only the {has} has a row "
            f"of {steps} steps that begins at step {offset} of input {document} of part "
            f"{parts[0].number}. Scan the same parts with the same steps=, and with tokenisers "
            "that cut a text into the same steps: CKA compares step by step"
        )
    return [*one.values()], [other[key] for key in one]
