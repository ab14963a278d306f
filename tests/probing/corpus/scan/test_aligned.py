"""A layer that has the input's steps or rows in another order is refused; others are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from grulens.corpus import Scan
from grulens.corpus import scan as scanned
from grulens.errors import ScanError

IDS = torch.randint(20, (4, 30), generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([10, 30, 20, 5])
ONE = [row.clone() for row in IDS]


class Reads(nn.Module):
    """Reads ids forwards."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(20, 6)
        self.there, self.back = (nn.GRU(6, 5, batch_first=True) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.there(self.embed(ids))[0]
        return out


class ByHand(Reads):
    """Two directions by hand."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return torch.cat([self.there(x)[0], self.back(x.flip(1))[0].flip(1)], -1)


class Ahead(Reads):
    """Each step reads the one after it, too, through a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 6, 3, padding=1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.conv(self.embed(ids).transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.there(x)[0]
        return out


class Sorts(Reads):
    """Sorts its rows by their lengths, as packing once asked for."""

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        lengths, order = lengths.sort(descending=True)
        packed = pack_padded_sequence(self.embed(ids[order]), lengths, batch_first=True)
        out: Tensor = pad_packed_sequence(self.there(packed)[0], batch_first=True)[0]
        return out[order.argsort()]


class Packs(Reads):
    """Packs its rows as they come."""

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        packed = pack_padded_sequence(
            self.embed(ids), lengths, batch_first=True, enforce_sorted=False
        )
        out: Tensor = pad_packed_sequence(self.there(packed)[0], batch_first=True)[0]
        return out


class Turns(Reads):
    """Has its rows the other way round."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids.flip(0)).flip(0)


class Rolls(Reads):
    """Has its rows one further."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids.roll(1, 0)).roll(-1, 0)


class Swaps(Reads):
    """Has two of its rows in each other's place."""

    def forward(self, ids: Tensor) -> Tensor:
        order = [1, 0, *range(2, len(ids))]
        return super().forward(ids[order])[order]


class SortsBySize(Reads):
    """Sorts its rows by what stands in them."""

    def forward(self, ids: Tensor) -> Tensor:
        order = ids.sum(1).argsort()
        return super().forward(ids[order])[order.argsort()]


class Centred(Reads):
    """Takes from each row what all have at a step: its rows know of each other."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        out: Tensor = self.there(x - 0.5 * x.mean(0))[0]
        return out


class Both(Reads):
    """Two levels of two directions, of torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.there = nn.GRU(6, 5, 2, batch_first=True, bidirectional=True)


class Forced(Reads):
    """Reads at each step what came the step before, after a start of zeros."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        out: Tensor = self.there(torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1))[0]
        return out


class ForcedCell(Reads):
    """The same, in a loop over a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.there = nn.GRUCell(6, 5)  # type: ignore[assignment]

    def forward(self, ids: Tensor) -> Tensor:
        x, h, out = self.embed(ids), torch.zeros(len(ids), 5), []
        for t in range(ids.shape[1]):
            h = self.there(x[:, t - 1] if t else torch.zeros_like(x[:, 0]), h)
            out.append(h)
        return torch.stack(out, 1)


class Causal(Reads):
    """Each step reads its own and the two before it, through a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 6, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.conv(nn.functional.pad(self.embed(ids).mT, (2, 0))).mT
        out: Tensor = self.there(x)[0]
        return out


class Translates(Reads):
    """Reads a source, and from there a target, whose last step it leaves out."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.cut = cut

    def forward(self, source: Tensor, target: Tensor) -> Tensor:  # type: ignore[override]
        _, last = self.there(self.embed(source))
        out: Tensor = self.back(self.embed(target[:, :-1] if self.cut else target), last)[0]
        return out


def scan(model: Reads, parts: Any, out: Path, **options: Any) -> Scan:
    return scanned(model.eval(), parts, out, progress=False, **options)


@pytest.mark.parametrize("parts", [[IDS], [ONE], ONE])
def test_a_layer_that_reads_from_the_end_is_refused(parts: Any, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"'back.l0' reads the input from the end: .*layers="):
        scan(ByHand(), parts, tmp_path / "s")
    assert scan(ByHand(), parts, tmp_path / "t", layers="there.l0").steps == 120


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (Sorts, [(IDS, LENGTHS)]),
        (Sorts, [(IDS, LENGTHS.sort(descending=True).values)]),
        (Turns, [IDS]),
        (Turns, [ONE]),
        (Rolls, [IDS]),
        (Swaps, [IDS]),
        (Swaps, [ONE]),
        (SortsBySize, [IDS]),
        (SortsBySize, [IDS[IDS.sum(1).argsort()]]),
        (SortsBySize, [ONE]),
    ],
)
def test_a_model_that_has_its_rows_in_another_order_is_refused(
    kind: type[Reads], parts: Any, tmp_path: Path
) -> None:
    with pytest.raises(ScanError, match=r"'there.l0' has the rows of the input in another order"):
        scan(kind(), parts, tmp_path / "s")


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (Reads, [IDS]),
        (Reads, [IDS[:1].expand(4, -1)]),
        (Ahead, [IDS]),
        (Ahead, ONE),
        (Causal, [IDS]),
        (Causal, ONE),
        (Both, [ONE]),
        (Centred, [IDS]),
        (Packs, [(IDS, LENGTHS)]),
        (Sorts, [(row[None], torch.tensor([30])) for row in ONE]),
    ],
)
def test_what_is_in_the_order_of_the_input_is_scanned(
    kind: type[Reads], parts: Any, tmp_path: Path
) -> None:
    made = scan(kind(), parts, tmp_path / "s")
    assert made.steps == (65 if kind is Packs else 120)


@pytest.mark.parametrize("parts", [[IDS], ONE])
@pytest.mark.parametrize("kind", [Forced, ForcedCell])
def test_a_layer_that_reads_each_step_one_later_is_said(
    kind: type[Reads], parts: Any, tmp_path: Path
) -> None:
    said = r"layer 'there(.l0)?' reads .* of the input one step later, .*labels"
    with pytest.warns(UserWarning, match=said):
        assert scan(kind(), parts, tmp_path / "s").steps == 120


@pytest.mark.parametrize("cut", [False, True])
def test_a_layer_that_goes_by_another_argument_is_said(cut: bool, tmp_path: Path) -> None:
    target = torch.cat([IDS.flip(0), IDS[:, :1]], 1) if cut else IDS.flip(0)
    options: dict[str, Any] = {"labels": {"two": lambda ids: ids == 2}, "input_of": "source"}
    with pytest.warns(UserWarning, match=r"'back.l0' goes by argument 'target', .* of 'source': "):
        scan(Translates(cut), [(IDS, target)], tmp_path / "s", **options)
    scan(Translates(cut), [(IDS, target)], tmp_path / "t", layers="there.l0", **options)


@pytest.mark.parametrize("given", [IDS, ONE[0]])
def test_a_layer_of_one_step_less_is_refused_with_what_to_do(given: Any, tmp_path: Path) -> None:
    class Less(Reads):
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids[:, :-1])

    with pytest.raises(ScanError, match=r"one step less than the input, .*call="):
        scan(Less(), [given], tmp_path / "s")


def test_ids_that_torch_does_not_have_are_refused(tmp_path: Path) -> None:
    for ids in (np.array([3, 2**63 + 3], np.uint64), [3, 2**64]):
        with pytest.raises(ScanError, match=r"an id is \d+; torch has ids up to 9223372"):
            scan(Reads(), [[ids]], tmp_path / "s")
    assert scan(Reads(), [np.array([3, 4], np.uint64)], tmp_path / "t").steps == 2
