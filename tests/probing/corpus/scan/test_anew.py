"""Every input finds the model, and itself, as the scan did; a model that goes on is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from grulens.corpus import Scan
from grulens.corpus import scan as scanned
from grulens.errors import ScanError
from grulens.probing.corpus.scan import anew
from grulens.probing.corpus.scan.anew import apart

PARTS = [torch.randint(9, (n,), generator=torch.Generator().manual_seed(n)) for n in (30, 40, 50)]


class Reads(nn.Module):
    """Reads ids."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.rnn = nn.Embedding(9, 4), nn.GRU(4, 5, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.rnn(self.embed(ids))[0]
        return out


class Counts(Reads):
    """Counts its calls in a buffer, and halves its input from the fourth on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.calls: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.rnn(self.embed(ids) * (1 if self.calls < 4 else 0.5))[0]
        return out


class Keeps(Reads):
    """Keeps the mean of the first input that it meets, and takes it from all."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: list[Tensor] = []

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        if not self.mean:
            self.mean.append(x.mean((0, 1)))
        out: Tensor = self.rnn(x - self.mean[0])[0]
        return out


class Drifts(Reads):
    """Takes a running mean from its input, which moves in eval mode, too, a little in each call."""

    mean: Tensor | float = 0.0

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        self.mean = 0.9995 * self.mean + 5e-4 * (x.mean((0, 1)) + 1)
        out: Tensor = self.rnn(x - self.mean)[0]
        return out


class Episodes(Reads):
    """Goes on where its last input ended, but where an input begins with 0."""

    last: Tensor | None = None

    def forward(self, ids: Tensor) -> Tensor:
        same = self.last is not None and self.last.shape[1] == len(ids)
        last = self.last if same else None
        begins = None if last is None else last * (ids[:, 0] != 0)[None, :, None]
        out, self.last = self.rnn(self.embed(ids), begins)
        return out  # type: ignore[no-any-return]


def scan(model: nn.Module, parts: Any, out: Path, **options: Any) -> Scan:
    return scanned(model.eval(), parts, out, progress=False, **options)


@pytest.mark.parametrize("kind", [Counts, Keeps, Drifts])
def test_what_a_model_keeps_changes_no_number_and_is_as_it_was(
    kind: Callable[[], Reads], tmp_path: Path
) -> None:
    model = kind()
    there = scan(model, PARTS, tmp_path / "there")
    back = scan(model, PARTS[::-1], tmp_path / "back")
    one, other = there.stats(), back.stats()
    assert torch.allclose(one.mean, other.mean, rtol=0, atol=1e-12)
    for part in range(3):  # each as if it were the only one
        only = scan(kind(), [PARTS[part]], tmp_path / f"only{part}").parts[0]
        assert np.array_equal(only.index(0, "high"), there.parts[part].index(0, "high"))
    assert not getattr(model, "mean", 0)
    assert int(getattr(model, "calls", 0)) == 0
    place = there.top(0, k=3).places[-1]
    there.replay(place)
    assert there.replay(place).recording["rnn.l0"].h.shape[0] == 1


@pytest.mark.parametrize("parts", [[0, 5, 5], [0, [5, 5]], [[0, 5]], [0, 0, 0, 0, [0, 0, 5]]])
def test_a_model_that_goes_on_where_an_input_ended_is_refused_though_the_first_does_not_show_it(
    parts: list[Any], tmp_path: Path
) -> None:
    def begun(first: int) -> Tensor:
        return torch.cat([torch.tensor([first]), PARTS[0].clamp(min=1)])

    given = [list(map(begun, one)) if isinstance(one, list) else begun(one) for one in parts]
    with pytest.raises(ScanError, match=r"part \d: .* other states when it runs once more"):
        scan(Episodes(), given, tmp_path / "s", batch=1)
    assert scan(Episodes(), [begun(0)] * 3, tmp_path / "t").steps == 93


class Mixes(Reads):
    """Takes from each row what stands in the rows beside it."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        out: Tensor = self.rnn(x - x.mean(0))[0]
        return out


@pytest.mark.parametrize(
    "parts",
    [
        [[PARTS[0], PARTS[0].flip(0)]],
        [PARTS[0], [PARTS[0], PARTS[0].flip(0)]],
        [[PARTS[2], PARTS[2][:45], PARTS[1], PARTS[0], PARTS[0].flip(0)]],  # its fourth run
    ],
)
def test_a_model_that_mixes_rows_which_the_scan_puts_side_by_side_runs_them_alone_or_not_at_all(
    parts: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(ScanError, match=r"the rows that run beside it .* batch=1 runs each by"):
        scan(Mixes(), parts, tmp_path / "s")
    assert scan(Mixes(), parts, tmp_path / "t", batch=1).steps > 0
    assert scan(Mixes(), [torch.randint(9, (3, 40))], tmp_path / "u").steps == 120  # a batch


@pytest.mark.filterwarnings("ignore::grulens.errors.WeightsMovedWarning")
def test_a_model_that_writes_into_its_weights_is_refused_at_once(tmp_path: Path) -> None:
    class Cuts(Reads):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 4, max_norm=0.5)

    known = torch.ones(30, dtype=torch.long)
    with pytest.raises(ScanError, match=r"part 0: .* into its weights when it runs \(embed.weight"):
        scan(Cuts(), [[known, PARTS[0]], PARTS[1]], tmp_path / "s", batch=1)
    cut = Cuts()
    cut(torch.arange(9)[None])
    assert scan(cut, [[known, PARTS[0]], PARTS[1]], tmp_path / "t").steps == 100


class Clamps(Reads):
    """Writes into what it is given."""

    def forward(self, ids: Tensor, lengths: list[int] | None = None) -> Tensor:
        ids.clamp_(max=4)
        if lengths is not None:
            lengths.clear()
        return super().forward(ids)


@pytest.mark.parametrize("many", [1, 3])
def test_a_model_that_writes_into_a_batch_changes_neither_labels_nor_the_batch(
    many: int, tmp_path: Path
) -> None:
    ids = torch.randint(9, (many, 40), generator=torch.Generator().manual_seed(1))
    kept, lengths = ids.clone(), [40] * many
    made = scan(Clamps(), [(ids, lengths)], tmp_path / "s", labels={"eight": lambda x: x == 8})
    assert torch.equal(ids, kept)
    assert lengths == [40] * many
    assert int(made.stats().positives[0]) == int((kept == 8).sum())
    assert made.ids(made.top(0, k=1).places[0]) is not None
    assert 8 in torch.cat([made.ids(place) for place in made.top(0, k=many).places])  # type: ignore[arg-type]


def test_a_model_that_writes_into_packed_rows_meets_them_as_they_were(tmp_path: Path) -> None:
    class Doubles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 5, batch_first=True)

        def forward(self, rows: PackedSequence) -> Any:
            rows.data.mul_(2)
            return self.rnn(rows)[0]

    rows = pack_sequence([torch.randn(9, 3), torch.randn(7, 3)])
    kept = rows.data.clone()
    assert scan(Doubles(), [rows], tmp_path / "s").steps == 16
    assert torch.equal(rows.data, kept)


def test_one_thing_that_is_given_twice_is_one_thing(tmp_path: Path) -> None:
    class Asks(Reads):
        def forward(self, ids: Tensor, again: Tensor) -> Tensor:  # type: ignore[override]
            if ids is not again:
                raise ValueError("two things")
            return super().forward(ids)

    ids = torch.randint(9, (2, 30))
    assert scan(Asks(), [(ids, ids)], tmp_path / "s", input_of="ids").steps == 60


def test_rows_of_which_one_alone_is_not_a_number_are_apart() -> None:
    one = torch.tensor([[[0.0]], [[torch.nan]], [[torch.nan]], [[torch.inf]]])
    two = torch.tensor([[[0.0]], [[torch.nan]], [[1.0]], [[1.0]]])
    assert apart(one, two).tolist() == [0, 0, torch.inf, torch.inf]


class Queued(Reads):
    """Says how many rows it was given, by what no run puts back."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: SimpleQueue[int] = SimpleQueue()

    def forward(self, ids: Tensor) -> Tensor:
        self.ran.put(len(ids))
        return super().forward(ids)


@pytest.mark.parametrize("batch", [torch.stack([part[:30] for part in PARTS]), PARTS[0]])
def test_a_small_first_input_runs_twice_and_once_for_its_rows_and_is_the_same_to_the_last_bit(
    batch: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Queued()
    made = scan(model, [batch], tmp_path / "s")
    assert model.ran.qsize() == (3 if batch.dim() > 1 else 2)
    monkeypatch.setattr(anew, "HELD", 0)
    other = scan(model, [batch], tmp_path / "t")
    for name in ("high", "low"):
        assert np.array_equal(made.parts[0].index(0, name), other.parts[0].index(0, name))


def test_a_part_that_gives_something_else_the_second_time_is_what_it_gives_then(
    tmp_path: Path,
) -> None:
    given = iter([PARTS[0], PARTS[0].flip(0)])
    made = scan(Reads(), [lambda: next(given)], tmp_path / "s")
    then = scan(Reads(), [PARTS[0].flip(0)], tmp_path / "t")
    assert np.array_equal(made.parts[0].index(0, "high"), then.parts[0].index(0, "high"))
