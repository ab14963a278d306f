"""A byte of a scan on disk that has changed: an error that names the part, and no other number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch

from grulens.errors import ScanError
from grulens.probing.corpus.scan import scan as scanning
from grulens.probing.corpus.scan.part import Part
from grulens.probing.corpus.scan.place import Place
from grulens.probing.corpus.scan.scanned import Scan, open_scan
from tests.probing.corpus.scan.test_begin import Scaled

FIRST = Place(0, 0, 0, 0, 0, 64)
DIRECTION = torch.tensor([1.0, -1.0, 0.5, 0.0])


@pytest.fixture
def made(tmp_path: Path) -> Scan:
    torch.manual_seed(1)
    parts = [torch.randint(5, (700,)) for _ in range(2)]
    return scanning.scan(
        Scaled().eval(), parts, tmp_path / "s", directions={"way": DIRECTION}, on=0.0,
        progress=False,
    )  # fmt: skip


def change(file: Path, at: int, to: bytes | None = None) -> None:
    held = bytearray(file.read_bytes())
    held[at : at + len(to or b".")] = bytes([held[at] ^ 1]) if to is None else to
    file.write_bytes(held)


def as_it_was_written_once(scan: Scan) -> None:
    """Parts whose arrays have one checksum each."""
    for part in scan.parts:
        head = json.loads((part.place / "part.json").read_text())
        del head["sum"]
        for name in head.pop("units"):
            head["sums"][name] = crc32((part.place / name).read_bytes())
        (part.place / "part.json").write_text(json.dumps(head))


ASKED: dict[str, Callable[[Scan], Any]] = {
    "on": lambda one: one.match([0]),
    "high": lambda one: one.top(0),
    "low": lambda one: one.top(0, end="low"),
    "direction_high": lambda one: one.top("way"),
    "direction_low": lambda one: one.extremes(FIRST, "way"),
}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("name", ASKED)
def test_a_changed_byte_of_an_index_is_named(made: Scan, name: str, before: bool) -> None:
    if before:
        as_it_was_written_once(made)
    for part in made.parts:
        change(part.place / "0" / f"{name}.npy", 130)
    with pytest.raises(ScanError, match=f"^part 000000 of .*: 0/{name}.npy has changed.* Delete"):
        ASKED[name](open_scan(made.path))
    for part in made.parts:
        change(part.place / "0" / f"{name}.npy", 130)
    ASKED[name](open_scan(made.path))


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("name", ASKED)
def test_what_says_the_shape_of_an_index_is_compared_too(
    made: Scan, name: str, before: bool
) -> None:
    if before:
        as_it_was_written_once(made)
    file = made.parts[0].place / "0" / f"{name}.npy"
    whole = file.read_bytes()
    for at, to in ((8, bytes(100)), (whole.index(b", 11)") - 1, b"3"), (whole.index(b"<"), b">")):
        change(file, at, to)
        with pytest.raises(ScanError, match=r"^part 000000 of .* is not whole: .* Delete"):
            ASKED[name](open_scan(made.path))
        file.write_bytes(whole)


def test_a_question_of_some_units_reads_those_alone(made: Scan) -> None:
    file = made.parts[0].place / "0" / "on.npy"
    change(file, file.stat().st_size - 1)  # of the last unit
    rest = open_scan(made.path)
    assert rest.match([0, 1]).found == made.match([0, 1]).found
    with pytest.raises(ScanError, match=r"0/on.npy has changed"):
        rest.match([0, 3])


def test_a_replay_beside_a_damaged_index_says_so(made: Scan) -> None:
    place = made.top(0).places[0]
    held = made.parts[place.part].place / "0" / "high.npy"
    values = np.load(held)
    values[2] += 1
    np.save(held, values)
    again = open_scan(made.path, made.model)
    with pytest.raises(ScanError, match=r"0/high.npy has changed since"):
        again.replay(place)


def test_a_state_that_was_kept_and_has_changed_is_not_gone_on_from(made: Scan) -> None:
    part = made.parts[0]
    change(part.place / "0" / "anchors.npy", 131)
    with pytest.raises(ScanError, match=r"0/anchors.npy has changed since"):
        Part(part.place).anchor(0, 0, 1)
    Part(part.place).anchor(0, 0, 2)


@pytest.mark.parametrize("name", ["windows", "labels", "sizes", "units"])
def test_a_head_that_has_changed_is_no_head(made: Scan, name: str) -> None:
    file = made.parts[1].place / "part.json"
    head = json.loads(file.read_text())
    head[name] = {"windows": 10, "labels": "other", "sizes": {}, "units": {}}[name]
    file.write_text(json.dumps(head))
    with pytest.warns(UserWarning, match=r"left out of every answer \(1\).*part.json has changed"):
        assert [one.number for one in open_scan(made.path).parts] == [0]
