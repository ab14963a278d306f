"""Arrays, lists and columns of ids are what they hold, however they lie; else it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from grulens.errors import ScanError
from grulens.probing.corpus.scan import scan as scanning
from grulens.probing.corpus.scan.scanned import Scan, open_scan


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.rnn = nn.Embedding(20, 3), nn.GRU(3, 4, batch_first=True)

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        found: Tensor = self.rnn(self.embedding(ids))[0]
        return found


def scan(parts: Any, folder: Path, **options: Any) -> Scan:
    labels = {"even": lambda ids: ids % 2 == 0}
    return scanning.scan(Reader().eval(), parts, folder, labels=labels, progress=False, **options)


IDS = np.random.default_rng(0).integers(0, 20, 70)
SAME: dict[str, Any] = {
    "backwards": IDS[::-1].copy()[::-1],
    "of another machine": IDS.astype(">i4"),
    "objects": IDS.astype(object),
    "without a sign": IDS.astype(np.uint16),
    "not to be written": np.broadcast_to(IDS, (1, 70))[0],
    "numbers of numpy": list(IDS),
    "numbers of Python": IDS.tolist(),
    "a column": pd.Series(IDS),
    "in a list": [pd.Series(IDS)],
    "a tuple of one, as data sets give it": (torch.from_numpy(IDS),),
}


@pytest.mark.parametrize("name", SAME)
def test_ids_are_the_same_however_they_are_given(name: str, tmp_path: Path) -> None:
    plain = scan([torch.from_numpy(IDS)], tmp_path / "plain").stats()
    given = scan([SAME[name]], tmp_path / "given")
    assert torch.equal(given.stats().counts, plain.counts)
    assert torch.equal(given.stats().products, plain.products)


@pytest.mark.parametrize("kind", [">i8", "uint32", "object"])
def test_a_batch_of_numpy_is_one_of_torch(kind: str, tmp_path: Path) -> None:
    batch = IDS.reshape(5, 14)
    plain = scan([torch.from_numpy(batch)], tmp_path / "plain").stats()
    given = scan([batch[::-1].astype(kind)[::-1]], tmp_path / "given")
    assert torch.equal(given.stats().products, plain.products)
    assert {place.batch_row for place in given.top(0, 5).places} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (np.array(["ab", "c"]), r"array of numpy is of <U2; .*as a list, array.tolist"),
        (np.array(["ab", None], object), "holds objects, such as 'ab'"),
        (np.array([[1, 2], [3]], object), r"holds objects, such as \[1, 2\]"),
        (np.array(["2026-11-28"], "datetime64[D]"), r"is of datetime64\[D\]; torch has no"),
        (np.ma.masked_equal(IDS, 3), "has masked values"),
        (np.array([2**63], object), r"an id is 9223372036854775808; torch has ids up to"),
        ([[np.int64(3), 2**63]], r"an id is 9223372036854775808; torch has ids up to"),
        ([pd.DataFrame({"ids": [[1]]})], "DataFrame of 1 row stands among .*as a part"),
        (np.int64(3), "input 0 is .*3.*give the ids of an input together"),
        ((3, 4), r"input 0 is \(3, 4\); .*Give tensors: torch.as_tensor"),
        ({"ids": IDS.tolist()}, "Say which of its columns holds a text or ids, column="),
    ],
)  # fmt: skip
def test_what_holds_no_ids_says_what_to_give(part: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=words):
        scan([part], tmp_path / "s")


@pytest.mark.parametrize("shape", [(0, 9), (3, 0), (0,), (0, 9, 2)])
def test_a_batch_without_a_row_or_a_step_is_passed_over(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    none = torch.zeros(shape, dtype=torch.int64)
    made = scan([none, (torch.from_numpy(IDS)[None],), [none, none]], tmp_path / "s")
    assert made.steps == 70
    assert [part.number for part in made.parts] == [1]
    with pytest.raises(ScanError, match="holds no input that has a step"):
        scan([none], tmp_path / "none")


def test_an_answer_beside_an_input_is_said_to_be_no_argument(tmp_path: Path) -> None:
    rows, answers = torch.from_numpy(IDS).view(5, 14), torch.ones(5, 3)
    with pytest.raises(TypeError, match="were given") as raised:
        scanning.scan(
            nn.Sequential(Reader()).eval(),
            DataLoader(TensorDataset(rows, answers), batch_size=5),
            tmp_path,
            progress=False,
        )
    assert any("the 2 members of an input as arguments" in note for note in raised.value.__notes__)
    with pytest.raises(TypeError, match="unexpected") as raised:
        scan([{"ids": rows, "labels": answers}], tmp_path)
    assert any("the 2 members of an input as arguments" in note for note in raised.value.__notes__)
    with pytest.raises(ScanError, match="Give of a pair of input and answer the input alone"):
        scan(TensorDataset(rows, torch.ones(5)), tmp_path)


def test_labels_may_be_bools_of_python(tmp_path: Path) -> None:
    held = IDS % 2 == 0
    for name, given in (("numpy", held), ("python", held.astype(object))):
        scanning.scan(
            Reader().eval(),
            [torch.from_numpy(IDS)],
            tmp_path / name,
            labels={"even": [given]},
            progress=False,
        )
    parts = [open_scan(tmp_path / name).stats().counts for name in ("numpy", "python")]
    assert torch.equal(*parts)
    with pytest.raises(ScanError, match="must be a bool for each of its 70 steps"):
        scanning.scan(
            Reader().eval(), [IDS], tmp_path / "other", labels={"even": [held.astype(object) * 1]},
            progress=False,
        )  # fmt: skip


@pytest.mark.parametrize("lengths", [np.array([35, 35]), [35, 35], torch.tensor([35, 35])])
def test_arrays_of_named_arguments_are_what_they_hold(lengths: Any, tmp_path: Path) -> None:
    ids = IDS.reshape(2, 35)
    named = scan([{"ids": ids, "lengths": lengths}, (ids, lengths)], tmp_path / "s")
    plain = scan([torch.from_numpy(ids)] * 2, tmp_path / "t")
    assert named.steps == plain.steps == 140
    assert torch.equal(named.stats().mean, plain.stats().mean)
    assert torch.equal(named.stats().positives, plain.stats().positives)
    first = named.top(0, 1).places[0]
    assert named.context(first).tokens == plain.context(plain.top(0, 1).places[0]).tokens


def test_one_step_is_no_steps(tmp_path: Path) -> None:
    assert repr(scan([IDS[:1]], tmp_path / "s")) == "Scan(1 part, 1 step, rnn.l0)"
