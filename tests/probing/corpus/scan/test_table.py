"""The rows of a table are inputs, and many of them are one part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from grulens.errors import ScanError
from grulens.probing.corpus.scan import scan as scanning
from grulens.probing.corpus.scan import table
from grulens.probing.corpus.scan.scanned import Scan
from tests.probing.corpus.scan.test_taken import Reader

ROWS = [{"ids": [(3 * i + k) % 20 for k in range(4 + i % 5)]} for i in range(30)]
ROWS = [row | {"even": [one % 2 == 0 for one in row["ids"]]} for row in ROWS]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "ROWS", 12)


def scan(parts: Any, folder: Path, **options: Any) -> Scan:
    model: nn.Module = Reader().eval()
    options = {"labels": {"even": "even"}, "column": "ids"} | options
    return scanning.scan(model, parts, folder, progress=False, **options)


def same(one: Scan, other: Scan) -> bool:
    a, b = one.stats(), other.stats()
    return torch.equal(a.products, b.products) and torch.equal(a.counts, b.counts)


def test_the_rows_of_a_table_are_parts_as_lists_of_them_are(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS)
    made = scan(frame, tmp_path / "frame")
    assert len(made.parts) == 3
    assert same(made, scan([ROWS[:12], ROWS[12:24], ROWS[24:]], tmp_path / "lists"))
    evens = [np.array(row["even"]) for row in ROWS]
    column = scan(frame["ids"], tmp_path / "column", column=None, labels={"even": evens})
    assert same(made, column)
    # and within a list of parts it is one of them, whose counts are those of all
    whole = scan([frame], tmp_path / "whole")
    assert len(whole.parts) == 1
    assert torch.equal(whole.stats().positives, made.stats().positives)
    place = made.top(0, 1).places[0]
    assert (made.ids(place) % 2 == 0).equal(torch.as_tensor(made.holds(place)[0]))
    ids = ROWS[12 * place.part + place.document]["ids"]
    assert made.ids(place).tolist() == ids[place.start : place.stop]


class Asked(Dataset[dict[str, Any]]):
    """Rows that are asked for by number, as those of a data set are; it says which were."""

    def __init__(self, rows: list[dict[str, Any]] = ROWS) -> None:
        self.rows, self.asked = rows, list[int]()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        self.asked.append(number)
        return self.rows[number]


class Iterated(Asked):
    """The same, which can be gone through as well."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(len(self)))


@pytest.mark.parametrize("kind", [Asked, Iterated])
def test_the_items_of_a_data_set_are_rows_of_a_table(kind: type[Asked], tmp_path: Path) -> None:
    data = kind()
    made = scan(data, tmp_path / "set")
    assert data.asked == [*range(30)], "each once, in their order"
    lists = scan([ROWS[:12], ROWS[12:24], ROWS[24:]], tmp_path / "lists")
    assert len(made.parts) == 3
    assert same(made, lists)
    for one, other in zip(made.parts, lists.parts, strict=True):
        assert np.array_equal(one.rows, other.rows)
        assert np.array_equal(one.index(0, "high"), other.index(0, "high"))
    evens = [np.array(row["even"]) for row in ROWS]
    assert same(made, scan(kind(), tmp_path / "evens", labels={"even": evens}))
    with pytest.raises(ScanError, match=r"label even ends before part 29"):
        scan(kind(), tmp_path / "short", labels={"even": evens[:-1]})
    with pytest.raises(ScanError, match=r"at least one part"):
        scan(kind([]), tmp_path / "none")


def test_the_rows_of_a_batch_count_as_what_a_part_holds() -> None:
    batch = {"ids": torch.zeros(64, 2048, dtype=torch.int64)}
    assert [len(part) for part in table.grouped([batch] * 5)] == [2, 2, 1]


def test_long_rows_make_smaller_parts_and_files_are_parts(tmp_path: Path) -> None:
    long = "a" * table.LONG
    files = [Path("a.txt"), Path("b.txt")]
    assert [len(one) for one in table.grouped([{"t": "a"}, {"t": long}, "a", *files])] == [2, 2, 1]
    several = [["a", "b"], ["c"]]
    assert [*table.grouped(["x", *several, "y"])] == [["x"], *several, ["y"]]


def test_the_last_part_of_a_table_that_has_more_rows_now_is_refused(tmp_path: Path) -> None:
    scan(pd.DataFrame(ROWS[:15]), tmp_path / "s")
    made = scan(pd.DataFrame(ROWS[:15]), tmp_path / "s")
    assert made.steps == sum(len(row["ids"]) for row in ROWS[:15])
    with pytest.raises(ScanError, match=r"part 1 .* other inputs than it has now.* more or"):
        scan(pd.DataFrame(ROWS[:20]), tmp_path / "s")


def test_whole_parts_may_be_followed_by_more_and_empty_inputs_are_none(tmp_path: Path) -> None:
    none = [{"ids": [], "even": []}] * 2
    scan(pd.DataFrame([*ROWS[:10], *none]), tmp_path / "s")
    made = scan(pd.DataFrame([*ROWS[:10], *none, *ROWS[10:20]]), tmp_path / "s")
    assert made.steps == sum(len(row["ids"]) for row in ROWS[:20])


def test_a_column_of_numbers_is_one_input(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"Series of numbers, .* give it as a part, \[series\]"):
        scan(pd.Series([3, 1, 4]), tmp_path / "s", column=None, labels=None)
