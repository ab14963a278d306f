"""What of an edit another input has not got, in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from grulens import ablate, clamp, patch, record, scale
from grulens.probing.edits.mismatch import describe_mismatch

torch.manual_seed(0)
RNN = nn.GRU(3, 4, batch_first=True)
RUN = record(RNN, torch.randn(2, 5, 3))
LONG = record(RNN, torch.randn(2, 8, 3))
THREE = record(RNN, torch.randn(3, 5, 3))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (ablate("l0", at=12), "step 12 of 5"),
        (ablate("l0", at=[3, 12, 13]), "steps 12, 13 of 5"),
        (ablate("l0", at=range(3, 9)), "steps 5 to 8 of 5"),
        (ablate("l0", at=slice(6, 9)), "steps 6 to 8 of 5"),
        (ablate("l0", at=slice(5, None)), "steps from 5 of 5"),
        (ablate("l0", at=-6), "step -6 of 5"),
        (ablate("l0", rows=[1, 2]), "row 2 of 2"),
        (ablate("l0", [3, 4]), "unit 4 of 4"),
        (ablate("l1"), "layer l1, which did not run"),
        (ablate("l0", at=[True] * 8), "a bool mask of 8 times does not fit"),
        (clamp("l0", "z", value=torch.zeros(8, 4)), "has 8 times"),
        (clamp("l0", "z", value=torch.zeros(3, 1, 4)), "has 3 rows"),
        (clamp("l0", "z", value=torch.zeros(7)), "does not fit layer 'l0'"),
        (patch("l0", "h", source=LONG), "has 8 steps"),
        (patch("l0", "h", source=THREE), "has 3 rows"),
    ],
)
def test_what_does_not_fit_is_said(edit: Any, said: str) -> None:
    assert said in describe_mismatch(edit, RUN)
    assert describe_mismatch(edit, RUN).count("\n") == 0


@pytest.mark.parametrize(
    "edit",
    [
        ablate("l0", at=4), ablate("l0", at=-5), ablate("l0", to="mean"),
        ablate("l0", at=slice(3, 9)),
        ablate("l0", at=slice(0, 0)), ablate("l0", at=slice(None, -2)), ablate("l0", at=[]),
        ablate("l0", rows=[0, 1]), scale("l0", "r", by=torch.ones(2, 5, 4)),
        patch("l0", "h", source=RUN), ablate("l0", at=[True] * 5),
    ],
)  # fmt: skip
def test_what_fits_is_not_marked(edit: Any) -> None:
    assert describe_mismatch(edit, RUN) == ""
    record(RNN, torch.zeros(2, 5, 3), edits=edit)
