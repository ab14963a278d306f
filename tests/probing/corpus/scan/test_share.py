"""The share and the lift of labels in matches, beside those of a count of every step."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens.probing.corpus.scan import scan as scanning
from grulens.probing.corpus.scan.scanned import Scan

UNITS = 6
LABELS = {"even": lambda ids: ids % 2 == 0, "seven": lambda ids: ids == 7, "none": lambda i: i < 0}
LENGTHS = [[90, 64, 63, 1], [70, 129]]


class Two(nn.Module):
    """Two layers, of rows that are padded."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.rnn = nn.Embedding(20, 5), nn.GRU(5, UNITS, 2, batch_first=True)
        for parameter in self.parameters():
            parameter.data *= 3

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        found: Tensor = self.rnn(packed)[0].data
        return found


@cache
def made(on: float) -> tuple[Scan, list[dict[str, ndarray]]]:
    """A scan, and for each row the states of both layers and the labels, without padding."""
    model, random = Two().eval(), torch.Generator().manual_seed(1)
    parts = [
        (torch.randint(20, (len(many), 130), generator=random), torch.tensor(many))
        for many in LENGTHS
    ]
    folder = Path(mkdtemp()) / "s"
    done = scanning.scan(model, parts, folder, labels=LABELS, on=on, progress=False)
    first = nn.GRU(5, UNITS, batch_first=True)
    first.load_state_dict({n: w for n, w in model.rnn.state_dict().items() if n.endswith("l0")})
    rows = []
    with torch.no_grad():
        for ids, lengths in parts:
            for row, many in zip(ids, lengths.tolist(), strict=True):
                read = model.embedding(row[None, :many])
                layers = {"rnn.l0": first(read)[0][0], "rnn.l1": model.rnn(read)[0][0]}
                held = {name: rule(row[:many]) for name, rule in LABELS.items()}
                rows.append({n: one.numpy() for n, one in (layers | held).items()})
    return done, rows


@given(
    st.sampled_from([-0.5, 0.0, 0.4]), st.sampled_from(["rnn.l0", "rnn.l1"]),
    st.sets(st.integers(0, UNITS - 1), min_size=1), st.integers(1, 9), st.integers(1, UNITS),
)  # fmt: skip
def test_share_and_lift_are_those_of_all_steps(
    on: float, layer: str, units: set[int], length: int, least: int
) -> None:
    done, rows = made(on)
    chosen, least = [*units], min(least, len(units))
    there, every = dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0)
    places = steps = 0
    for row in rows:
        enough = [int((now > on).sum()) >= least for now in row[layer][:, chosen]]
        begin = 0
        for step in range(len(enough) + 1):
            if step < len(enough) and enough[step]:
                continue
            if step - begin >= length:
                places, steps = places + 1, steps + step - begin
                for name in LABELS:
                    there[name] += int(row[name][begin:step].sum())
            begin = step + 1
        for name in LABELS:
            every[name] += int(row[name].sum())
    found, of = done.match(chosen, length, at_least=least, layer=layer), sum(map(sum, LENGTHS))
    assert (found.found, found.steps, found.of) == (places, steps, of)
    share = [there[name] / steps if steps else np.nan for name in LABELS]
    chance = [every[name] / of for name in LABELS]
    lift = [a / b if b else np.nan for a, b in zip(share, chance, strict=True)]
    for ours, theirs in ((found.share, share), (found.chance, chance), (found.lift, lift)):
        assert ours.tolist() == pytest.approx(theirs, nan_ok=True)
