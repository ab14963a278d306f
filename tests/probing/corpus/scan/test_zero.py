"""A relu is 0 at most steps: 0 is one number, and hides nothing of which step is the higher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from grulens.errors import ScanError
from grulens.probing.corpus.scan import scan as scanning
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.scanned import Scan, open_scan
from grulens.views.corpus.histogram import shares

PARTS = [torch.randint(20, (n,), generator=torch.Generator().manual_seed(n)) for n in (700, 300)]


class Relu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(20, 5)
        self.rnn = nn.RNN(5, 6, batch_first=True, nonlinearity="relu")
        self.rnn.bias_hh_l0.data -= 0.8

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.rnn(self.embedding(ids))[0]
        return found


def scan(folder: Path, parts: Any = PARTS) -> Scan:
    labels = {"low": lambda ids: ids < 7}
    return scanning.scan(Relu().eval(), parts, folder, labels=labels, progress=False)


def by_hand() -> tuple[Any, Any, Any]:
    """All states, where the label holds, and the area under the curve of each unit."""
    model = Relu()
    with torch.no_grad():
        states = torch.cat([model(ids[None])[0] for ids in PARTS]).numpy()
    held = (torch.cat(PARTS) < 7).numpy()
    ranks, ones = rankdata(states, axis=0), held.sum()
    areas = (ranks[held].sum(0) - ones * (ones + 1) / 2) / (ones * (~held).sum())
    return states, held, areas


def test_the_area_of_a_unit_that_is_0_at_most_steps_is_known(tmp_path: Path) -> None:
    states, held, areas = by_hand()
    zeros = (states == 0).mean(0)
    assert (zeros > 0.5).sum() > 3
    found = scan(tmp_path / "s").stats()
    off = np.abs(found.auc[0].numpy() - areas)
    assert (off <= found.half_width[0].numpy() + 1e-6).all()
    assert found.half_width.max() < 0.02
    middle = found.bins // 2
    assert np.array_equal(found.counts[0, :, middle].numpy(), (states == 0).sum(0))
    assert np.array_equal(found.counts[1, :, middle].numpy(), (states[held] == 0).sum(0))
    assert found.quantile(0.5)[:, zeros > 0.5].eq(0).all()
    counts = found.counts[:, int(zeros.argmax())].numpy()
    edges, rest, there = shares(counts[0], counts[1], found.edges.numpy())
    assert edges[0] == 0
    assert (rest.sum(), there.sum()) == (pytest.approx(1), pytest.approx(1))


def test_a_scan_of_before_has_no_such_bin_and_is_gone_on_with_as_it_was(tmp_path: Path) -> None:
    new, old = scan(tmp_path / "new"), tmp_path / "old"
    (old / "parts").mkdir(parents=True)
    replace(Manifest.read(new.path), zero=False, parts=0).write(old)
    scan(old, PARTS[:1])
    found = scan(old).stats()
    assert len(open_scan(old).parts) == 2
    assert found.bins == new.stats().bins - 1
    areas = by_hand()[2]
    off = np.abs(found.auc[0].numpy() - areas)
    assert (off <= found.half_width[0].numpy() + 1e-6).all()
    assert found.half_width.max() > 0.1
    with pytest.raises(ScanError, match="cannot be added: bins is 770 and 771"):
        _ = found + new.stats()
