"""How many rows run side by side where nobody says: by memory, whatever the length of rows."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens.corpus import Scan, probe
from grulens.corpus import scan as scanned
from grulens.errors import ScanError
from grulens.probing.corpus.scan import abreast
from tests.probing.corpus.scan.test_begin import Scaled

PARTS = [[torch.randint(5, (40,)) for _ in range(20)], [torch.randint(5, (90,))] * 3] * 2


class Counted(Scaled):
    """Knows how many ids it was given at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: SimpleQueue[tuple[int, ...]] = SimpleQueue()  # a run does not put it back

    def forward(self, ids: Tensor) -> Tensor:
        self.ran.put(tuple(ids.shape))
        return super().forward(ids)


def taken(model: Counted) -> list[tuple[int, ...]]:
    """What it was given since this was asked last."""
    return [model.ran.get() for _ in range(model.ran.qsize())]


class Begun(Scaled):
    """Begins each row with a state by its first id, past 1 for one of them."""

    def forward(self, ids: Tensor) -> Tensor:
        first = 3.0 * (ids[:, 0] == 4)[None, :, None].expand(1, -1, 4) + 0.1
        found: Tensor = self.rnn(self.embedding(ids), first)[0]
        return found


def scan(*args: Any, **kwargs: Any) -> Scan:
    return scanned(*args, progress=False, on=0.0, **kwargs)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for 360 steps at a time, of 4 units that are kept and given back and read 3 numbers."""
    monkeypatch.setattr(abreast, "BYTES", 360 * 4 * (5 * 4 + 4 + 4 + 3))


@pytest.mark.usefixtures("small")
def test_as_many_rows_run_as_there_is_room_for(tmp_path: Path) -> None:
    model = Counted().eval()
    labels = {"two": lambda ids: ids == 2}
    made = scan(model, PARTS, tmp_path / "s", labels=labels)
    assert (made.manifest.batch, made.manifest.room) == (64, 360)
    # four rows say what the model holds, whether it does the same again, and whether its rows are
    # those of the input, and one whether it is so alone; of rows of 40 steps 8 have room, of 90 4
    rows = [shape[0] for shape in taken(model)]
    first, second = [8] * 3 + [4] * 2, [3] * 2 + [1]
    third, fourth = [8] * 2 + [1] + [8] * 2 + [4] * 2, [3]
    assert rows == [4, 4, 1, 4, *first, *second, *third, *fourth]
    asked = scan(model, PARTS, tmp_path / "t", labels=labels, batch=20)
    assert asked.manifest.room == 0
    torch.testing.assert_close(made.stats().mean, asked.stats().mean)
    taken(model)
    probe(made, control=None, progress=False)
    made.contexts(made.top(0, 60).places, 0)
    assert max(rows * steps for rows, steps in taken(model)) <= 360


@pytest.mark.usefixtures("small")
def test_a_scan_goes_on_with_as_many_rows_as_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Counted().eval()
    scan(model, PARTS[:1], tmp_path / "s")
    scan(model, PARTS[:1], tmp_path / "t", batch=7)
    monkeypatch.undo()
    assert scan(model, PARTS, tmp_path / "s").manifest.room == 360
    assert scan(model, PARTS, tmp_path / "t").manifest.batch == 7
    for folder, batch in (("s", 64), ("t", 9)):
        with pytest.raises(ScanError, match=r"made otherwise: (how many rows|batch) [^;]*\. Parts"):
            scan(model, PARTS, tmp_path / folder, batch=batch)


def test_states_that_begin_elsewhere_are_looked_at_in_all_rows(tmp_path: Path) -> None:
    rows = [torch.zeros(9, dtype=torch.int64)] * 4 + [torch.full((9,), 4)]
    made = scan(Begun().eval(), [rows], tmp_path / "s")
    assert made.manifest.layers[0].signals[0].high == float("inf")
    assert float(made.stats().quantile(1)[1].max()) > 1


def test_room_is_for_a_gigabyte(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(5, 64), nn.GRU(64, 512, batch_first=True)).eval()
    made = scan(model, [[torch.zeros(3, dtype=torch.int64)] * 2], tmp_path / "s")
    assert abreast.abreast(64, made.manifest.room, 2048) == 32
