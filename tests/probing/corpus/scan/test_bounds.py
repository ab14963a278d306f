"""A state that goes past the bounds of its kind is counted where it is, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from grulens.errors import ScanError
from tests.probing.corpus.scan.test_scan import scan


@pytest.mark.parametrize("kind", ["rnn", "h0"])
def test_a_state_past_the_bounds_of_its_kind_is_counted_where_it_is(
    tmp_path: Path, kind: str
) -> None:
    x = 4 * torch.randn(2, 40, 3)
    if kind == "rnn":
        model: nn.Module = nn.RNN(3, 6, batch_first=True, nonlinearity="relu").eval()
        parts: list[Any] = [x, x]
    else:
        model, parts = nn.GRU(3, 6, batch_first=True).eval(), [(x, torch.full((1, 2, 6), 9.0))]
    made = scan(model, parts, tmp_path / "s")
    found, (top,) = made.stats(), made.top(2, 1).values
    assert top > 1.0
    assert (found.low, found.high) == (-np.inf, np.inf)
    low, high = found.quantile(1)[:, 2]
    assert low <= top < high <= 1.1 * top
    with pytest.raises(ScanError, match="has no bounds"):
        _ = found.at_ends


def test_a_state_past_the_bounds_of_the_first_run_is_refused(tmp_path: Path) -> None:
    x, model = torch.randn(2, 40, 3), nn.GRU(3, 6, batch_first=True).eval()
    parts = [(x, torch.full((1, 2, 6), start)) for start in (0.0, -9.0)]
    with pytest.raises(ScanError, match=r"^part 1: signal 'h' of layer 'l0' is -\d.* past -1 to 1"):
        scan(model, parts, tmp_path / "s")
