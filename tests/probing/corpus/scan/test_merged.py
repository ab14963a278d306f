"""The sum of all parts on disk: the bits that adding up gives, and never those of other parts."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor

from grulens.probing.corpus.scan import scan as scanning
from grulens.probing.corpus.scan.merged import MERGED
from grulens.probing.corpus.scan.part import Part
from grulens.probing.corpus.scan.scanned import Scan, open_scan
from grulens.probing.corpus.scan.statistics import Statistics
from tests.probing.corpus.scan.test_begin import Scaled


def scan(folder: Path, parts: int, gates: bool = False) -> Scan:
    torch.manual_seed(2)
    corpus = [torch.randint(5, (200,)) for _ in range(parts)]
    return scanning.scan(Scaled().eval(), corpus, folder, gates=gates, progress=False)


def same(one: Statistics, other: Statistics) -> bool:
    pairs = ((getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return all(a.equal(b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def added(held: Scan, signal: str = "h") -> Statistics:
    first, *rest = (part.statistics(0, signal) for part in held.parts)
    for each in rest:
        first += each
    return first


def files(held: Scan) -> list[str]:
    return sorted(one.name for one in (held.path / MERGED).iterdir())


@pytest.fixture
def made(tmp_path: Path) -> Scan:
    return scan(tmp_path / "s", 3)


def test_whoever_opens_a_scan_reads_no_statistics_of_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = scan(tmp_path / "s", 3, gates=True)
    sums = {signal: added(held, signal) for signal in ("h", "r", "z")}
    assert [name.rsplit("-", 2)[0] for name in files(held)] == ["0-h", "0-r", "0-z"]
    monkeypatch.setattr(Part, "statistics", None)
    opened = open_scan(held.path)
    for signal, each in sums.items():
        assert same(opened.stats(signal=signal), each)


@pytest.mark.parametrize("damage", ["byte", "cut", "empty", "folder"])
def test_a_damaged_sum_is_made_again(made: Scan, damage: str) -> None:
    (name,) = files(made)
    file = made.path / MERGED / name
    whole = file.read_bytes()
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        changed = {"byte": whole[:-1] + bytes([whole[-1] ^ 1]), "cut": whole[:-9], "empty": b""}
        file.write_bytes(changed[damage])
    assert same(open_scan(made.path).stats(), added(made))
    if damage != "folder":
        assert file.read_bytes() == whole


def test_a_part_that_came_since_is_in_the_sum_and_the_old_one_goes(made: Scan) -> None:
    before = files(made)
    more = scan(made.path, 4)
    assert same(more.stats(), added(more))
    assert more.stats().steps == 800
    assert len(files(more)) == 1
    assert files(more) != before


def test_a_part_that_is_damaged_is_not_in_the_sum(made: Scan) -> None:
    (made.parts[1].place / "part.json").write_text("{}")
    with pytest.warns(UserWarning, match="1 of 3 parts"):
        left = open_scan(made.path)
    assert left.stats().steps == 400
    assert same(left.stats(), added(left))


def test_where_nothing_can_be_written_the_sum_is_made_each_time(made: Scan) -> None:
    (name,) = files(made)
    (made.path / MERGED / name).unlink()
    (made.path / MERGED).rmdir()
    (made.path / MERGED).write_text("a file")  # so no folder can be made, by root either
    assert same(open_scan(made.path).stats(), added(made))
    assert (made.path / MERGED).read_text() == "a file"


def test_parts_that_have_no_checksums_are_added_up_each_time(made: Scan) -> None:
    for part in made.parts:
        head = json.loads((part.place / "part.json").read_text())
        del head["sum"], head["sums"]["0-h"]
        (part.place / "part.json").write_text(json.dumps(head))
    (name,) = files(made)
    (made.path / MERGED / name).unlink()
    opened = open_scan(made.path)
    assert same(opened.stats(), added(opened))
    assert not files(made)


def test_of_one_part_nothing_is_kept(tmp_path: Path) -> None:
    held = scan(tmp_path / "s", 1)
    assert held.stats().steps == 200
    assert not (held.path / MERGED).exists()
