"""Labels are told by a function, in a column or as arrays, and are the same labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens.corpus import Scan, open_scan, probe
from grulens.corpus import scan as scanned
from grulens.errors import ScanError


def scan(*args: Any, **kwargs: Any) -> Scan:
    return scanned(*args, progress=False, **kwargs)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(6, 3), nn.GRU(3, 4, batch_first=True)).eval()


def held(made: Scan) -> Any:
    return made.stats().counts


def test_functions_columns_and_arrays_are_the_same_labels(tmp_path: Path) -> None:
    parts = [torch.arange(90) % 5, [torch.arange(70) % 3, torch.arange(65) % 4]]
    twos = [parts[0] == 2, [(one == 2).numpy() for one in parts[1]]]
    rows = [{"ids": parts[0], "two": twos[0]},
            [{"ids": i, "two": t} for i, t in zip(parts[1], twos[1], strict=True)]]  # fmt: skip
    made = {
        "rule": scan(model(), parts, tmp_path / "a", steps=40, labels={"t": lambda i: i == 2}),
        "arrays": scan(model(), parts, tmp_path / "b", steps=40, labels={"t": twos}),
        "column": scan(model(), rows, tmp_path / "c", steps=40, column="ids", labels={"t": "two"}),
    }
    for one in made.values():
        assert torch.equal(held(one), held(made["rule"]))
        assert one.labels == ("t",)
    again = scan(model(), parts, tmp_path / "a", steps=40, labels={"t": twos})
    assert torch.equal(held(again), held(made["rule"]))
    with pytest.raises(ScanError, match="the first inputs"):
        scan(model(), parts, tmp_path / "b", steps=40, labels={"t": [~twos[0], twos[1]]})
    assert len(open_scan(tmp_path / "b").parts) == 2


def test_the_rows_of_a_data_frame_are_its_inputs(tmp_path: Path) -> None:
    ids = [np.arange(n) % 6 for n in (50, 30)]
    rows = [{"ids": one, "two": one == 2} for one in ids]
    options: Any = {"column": "ids", "labels": {"t": "two"}}
    frame = scan(model(), pd.DataFrame(rows), tmp_path / "frame", **options)
    assert torch.equal(held(frame), held(scan(model(), rows, tmp_path / "rows", **options)))
    assert int(frame.stats().positives) == sum(int((one == 2).sum()) for one in ids)


def test_labels_of_batches_and_of_packed_rows(tmp_path: Path) -> None:
    net, x = nn.GRU(3, 4, batch_first=True).eval(), torch.randn(3, 70, 3)
    up = x[..., 0] > 0
    batch = scan(net, [x, x[:1]], tmp_path / "a", labels={"up": [up, up[0]]})
    assert torch.equal(held(batch), held(scan(
        net, [x, x[:1]], tmp_path / "b", labels={"up": lambda x: x[:, 0] > 0}
    )))  # fmt: skip
    lengths = [60, 5, 70]
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    own = [up[row, :length] for row, length in enumerate(lengths)]
    made = scan(net, [packed], tmp_path / "c", labels={"up": [own]})
    each = [x[row : row + 1, :length] for row, length in enumerate(lengths)]
    apart = scan(net, [each], tmp_path / "d", labels={"up": [own]})
    assert torch.equal(made.stats().counts, apart.stats().counts)
    assert int(made.stats().positives) == sum(int(one.sum()) for one in own)
    named = scan(
        nn.GRU(3, 4, batch_first=True).eval(), [{"input": x, "up": up}], tmp_path / "e",
        labels={"up": "up"},
    )  # fmt: skip
    assert int(named.stats().positives) == int(up.sum())


def test_a_probe_of_labels_that_are_arrays(tmp_path: Path) -> None:
    parts = [torch.randint(6, (300,)) for _ in range(5)]
    made = scan(model(), parts, tmp_path / "s", labels={"t": [one == 2 for one in parts]})
    assert float(probe(made, progress=False).accuracy) > 0.9


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"t": [[True] * 5]}, "label t ends before part 1: it needs an array for each part"),
        ({"t": [[True] * 5, [True] * 4, []]}, "label 't' has arrays for more parts than the 2"),
        ({"t": [[True] * 5, [True] * 3]}, "label 't' of input 0 must be a bool for each of its 4"),
        ({"t": [[1] * 5, [True] * 4]}, r"for each of its 5 steps, got int64 \(5,\)"),
        ({"t": "t"}, "label 't' is in column 't' of each input, and an input is no mapping"),
        ({"t": 3}, "labels must be functions by name, .* or lists with the bools of each part"),
        ({"": lambda ids: ids > 1}, "labels must be functions by name"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: Any, words: str) -> None:
    with pytest.raises(ScanError, match=words):
        scan(model(), [torch.arange(5), torch.arange(4)], tmp_path / "s", labels=labels)


def test_labels_of_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    net, x = nn.GRU(3, 4, batch_first=True).eval(), torch.randn(2, 9, 3)
    packed = pack_padded_sequence(x, torch.tensor([9, 4]), batch_first=True)
    several = [torch.arange(5), torch.arange(4)]
    for part, given, words in (
        (packed, [[True] * 9], "label 't' must be given for each of the 2 rows of an input"),
        (packed, [[True] * 9] * 2, "label 't' of row 1 of input 0 must be a bool for each of its"),
        (packed, 3, "for each of the 2 rows of an input, got 3"),
        (x, np.ones((3, 9), bool), "for each of the 2 rows of an input, got 3 rows"),
        (several, [[True] * 5], "there is none for input 1"),
    ):
        own = model() if part is several else net
        with pytest.raises(ScanError, match=words):
            scan(own, [part], tmp_path / "s", labels={"t": [given]})
    with pytest.raises(ScanError, match="an input has no column 'u'; it has ids"):
        scan(model(), [{"ids": several[0]}], tmp_path / "s", column="ids", labels={"t": "u"})


def test_labels_of_more_inputs_than_a_part_has_are_refused(tmp_path: Path) -> None:
    labels = {"n": [[np.ones(10, bool)] * 5]}
    with pytest.raises(ScanError, match="'n' is given for 5 inputs of a part that has 2"):
        scan(model(), [[torch.zeros(10).long()] * 2], tmp_path / "s", labels=labels)


def test_other_arrays_of_a_later_part_are_seen(tmp_path: Path) -> None:
    parts = [torch.arange(30) % 5, torch.arange(20) % 3]
    twos = [one == 2 for one in parts]
    made = scan(model(), parts, tmp_path / "s", labels={"t": twos})
    again = scan(model(), parts, tmp_path / "s", labels={"t": [one.tolist() for one in twos]})
    assert torch.equal(held(again), held(made))
    with pytest.raises(ScanError, match=r"part 1 of .* was scanned with other labels .* \(t\)"):
        scan(model(), parts, tmp_path / "s", labels={"t": [twos[0], ~twos[1]]})


def test_one_row_may_have_an_axis_of_rows_and_no_axis_at_all_is_refused(tmp_path: Path) -> None:
    ids = torch.arange(30) % 5
    made = [
        scan(model(), [part], tmp_path / name, labels={"t": [label]})
        for name, part, label in (
            ("plain", ids, ids == 2), ("row", ids, (ids == 2)[None]), ("list", [ids], [ids == 2]),
        )
    ]  # fmt: skip
    assert torch.equal(held(made[0]), held(made[1]))
    assert torch.equal(held(made[0]), held(made[2]))
    batch, net = torch.randn(2, 9, 3), nn.GRU(3, 4, batch_first=True).eval()
    for own, part in ((model(), [ids]), (model(), ids), (net, batch)):
        with pytest.raises(ScanError, match=r"label 't' .*must be|is none for input 0"):
            scan(own, [part], tmp_path / "no", labels={"t": [np.array(True)]})
