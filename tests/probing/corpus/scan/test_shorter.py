"""Inputs that are padded past their longest row: a run shows which steps the layers take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens.errors import ScanError
from grulens.probing.corpus.scan import scan as scanning
from grulens.probing.corpus.scan import shorter
from grulens.probing.corpus.scan.scanned import Scan

STEPS = 80
LENGTHS = torch.tensor([10, 70, 20, 33, 5, 66])
IDS = torch.randint(1, 20, (6, STEPS), generator=torch.Generator().manual_seed(0))
IDS = IDS * (torch.arange(STEPS) < LENGTHS[:, None])  # 0 is padding


class Packs(nn.Module):
    def __init__(self, cut: Callable[..., tuple[Tensor, Tensor]], first: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cut, self.first = cut, first
        self.embedding, self.rnn = nn.Embedding(20, 3), nn.GRU(3, 4, batch_first=first)

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        given, many = self.cut(ids, lengths)
        packed = pack_padded_sequence(self.embedding(given), many, self.first, False)
        found: Tensor = self.rnn(packed)[0].data
        return found


def told(ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return ids, lengths


def masked(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return ids, mask.sum(1)


def counted(ids: Tensor, _: Any) -> tuple[Tensor, Tensor]:
    return ids, (ids != 0).sum(1)


def scan(model: nn.Module, parts: Any, folder: Path, labels: Any = None) -> Scan:
    labels = labels or {"even": lambda ids: ids % 2 == 0}
    return scanning.scan(model.eval(), parts, folder, labels=labels, progress=False)


def by_hand(model: Packs, rows: list[tuple[Tensor, int]]) -> tuple[Tensor, int]:
    """The mean of all states, and at how many steps an id is even."""
    with torch.no_grad():
        states = [model.rnn(model.embedding(ids[None, :n]).transpose(0, 1 - model.first))[0]
                  for ids, n in rows]  # fmt: skip
    mean = torch.cat([one.reshape(-1, 4) for one in states]).double().mean(0)
    return mean, sum(int((ids[:n] % 2 == 0).sum()) for ids, n in rows)


@pytest.mark.parametrize(
    ("cut", "part"),
    [
        (told, (IDS, LENGTHS)),
        (told, {"ids": IDS, "lengths": LENGTHS}),
        (masked, (IDS, torch.arange(STEPS) < LENGTHS[:, None])),
        (counted, IDS),
    ],
    ids=["lengths", "by name", "mask", "of the ids"],
)
def test_steps_past_the_longest_row_are_none(cut: Any, part: Any, tmp_path: Path) -> None:
    model = Packs(cut)
    rows = [*zip(IDS, LENGTHS.tolist(), strict=True)]
    mean, evens = by_hand(model, rows)
    made = scan(model, [part], tmp_path / "s")
    assert made.steps == int(LENGTHS.sum())
    torch.testing.assert_close(made.stats().mean, mean)
    assert made.stats().positives.tolist() == [evens]
    for place in made.top(0, 9).places:
        assert made.ids(place).equal(IDS[place.batch_row, place.start : place.stop])
        made.replay(place)
    arrays = {"even": [(IDS % 2 == 0).numpy()]}  # for all steps of the input
    assert scan(model, [part], tmp_path / "t", arrays).stats().positives.tolist() == [evens]
    again = {"even": lambda ids: (ids % 2) == 0}  # another function, so labels are compared
    assert len(scan(model, [part, part], tmp_path / "s", again).parts) == 2


def test_later_inputs_may_be_so_and_those_with_steps_first(tmp_path: Path) -> None:
    model = Packs(told)
    whole = LENGTHS + STEPS - 70
    parts = [(IDS, whole), (IDS, LENGTHS), (IDS[:1], LENGTHS[:1])]
    rows = [(ids, n) for part in parts for ids, n in zip(part[0], part[1].tolist(), strict=True)]
    mean, evens = by_hand(model, rows)
    made = scan(model, parts, tmp_path / "s")
    torch.testing.assert_close(made.stats().mean, mean)
    assert made.stats().positives.tolist() == [evens]
    turned = Packs(told, first=False)
    mean, evens = by_hand(turned, rows[6:12])
    made = scan(turned, [(IDS.T.contiguous(), LENGTHS)], tmp_path / "t")
    torch.testing.assert_close(made.stats().mean, mean)
    assert made.stats().positives.tolist() == [evens]


def test_what_the_first_input_has_shown_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, same = [], shorter._same
    monkeypatch.setattr(shorter, "_same", lambda *both: tried.append(1) or same(*both))
    scan(Packs(told), [(IDS, LENGTHS)] * 5, tmp_path / "s")
    assert len(tried) == 1


@pytest.mark.parametrize(
    "cut",
    [
        lambda ids, lengths: (ids[:, 1:], lengths),
        lambda ids, lengths: (ids[:, 1:], lengths - 1),
        lambda ids, lengths: (ids[:, ::2], (lengths + 1) // 2),
        lambda ids, lengths: (ids.flip(1), lengths),
    ],
    ids=["without the first", "both", "every second", "from the end"],
)
def test_layers_that_take_other_steps_than_the_first_are_refused(cut: Any, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"is \(6, 80\) and its layers had 6 rows of \d+: a scan"):
        scan(Packs(cut), [(IDS, LENGTHS)], tmp_path / "s")
