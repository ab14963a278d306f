"""What a scan says where something is not as it was meant, and how many parts it says it has."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from grulens.errors import ScanError, StoppedWarning
from grulens.probing.corpus.probes import probe as probes
from grulens.probing.corpus.probes.kept import Kept
from grulens.probing.corpus.scan import scan as scanning
from grulens.probing.corpus.scan.scan_part import scan_part
from grulens.probing.corpus.scan.scanned import Scan, open_scan
from tests.probing.corpus.scan.test_begin import Scaled

PARTS = [torch.randint(5, (90,)) for _ in range(5)]


def scan(parts: Any, folder: Path, **options: Any) -> Scan:
    return scanning.scan(Scaled().eval(), parts, folder, progress=False, **options)


def test_parts_that_workers_wrote_count_though_they_had_not_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spread(_: Any, model: Any, places: Any, reader: Any, made: Any, __: Any) -> Iterator[str]:
        for _, (place, part) in zip(range(2), places, strict=False):
            scan_part(model, part, place, reader, made)
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(scanning, "spread", spread)
    monkeypatch.setattr(scanning, "check_client", lambda _: None)
    with pytest.warns(StoppedWarning, match="stopped after 2 of 5 parts, and workers end those"):
        found = scan(PARTS, tmp_path / "s", client="a client")
    assert len(found.parts) == 2


def _raises(ids: Any) -> str:
    raise RuntimeError("no such table")


@pytest.mark.parametrize(
    ("decode", "said"),
    [
        (_raises, r"`decode` raises RuntimeError \('no such table'\) for id 0: ids without a text"),
        (lambda ids: 7, "`decode` gives 7 for id 0"),
        (lambda ids: None, "`decode` gives None for id 0"),
        (lambda ids: None if int(ids[0]) == 3 else "a", "`decode` gives None for id 3"),
    ],
)
@pytest.mark.parametrize("rows", [False, True])
def test_a_decode_that_gives_no_text_is_said_once(
    tmp_path: Path, decode: Any, said: str, rows: bool
) -> None:
    ids = torch.arange(90) % 5
    with pytest.warns(UserWarning, match=said) as seen:
        scan([torch.stack([ids, ids]) if rows else ids] * 3, tmp_path / "s", decode=decode)
    assert len(seen) == 1


def test_a_decode_that_gives_texts_is_not_spoken_of(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan(PARTS, tmp_path / "s", decode=lambda ids: ["abcde"[int(i)] for i in ids])


def test_other_steps_say_nothing_of_the_first_inputs(tmp_path: Path) -> None:
    scan(PARTS, tmp_path / "s")
    with pytest.raises(ScanError, match="made otherwise: steps") as raised:
        scan(PARTS, tmp_path / "s", steps=32)
    assert "first inputs" not in str(raised.value)


def test_a_file_is_no_scan(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    with pytest.raises(ScanError, match="is a file, and a scan is a folder"):
        open_scan(tmp_path / "s")


def test_what_counts_directions_is_said_of_directions(tmp_path: Path) -> None:
    made = scan(PARTS, tmp_path / "s")
    with pytest.raises(ScanError, match=r"directions=\{\.\.\.\}\)$") as raised:
        made.stats(signal="directions")
    assert "gates=True" not in str(raised.value)
    with pytest.raises(ScanError, match="gates=True"):
        made.stats(signal="z")


def test_what_the_model_raises_of_the_first_part_names_it(tmp_path: Path) -> None:
    with pytest.raises(IndexError) as raised:
        scan([torch.zeros(0, dtype=torch.int64), PARTS[0] + 5], tmp_path / "s")
    assert "in part 1 of the scan" in raised.value.__notes__


def test_no_label_of_a_scan_that_has_some_is_said(tmp_path: Path) -> None:
    made = scan(PARTS, tmp_path / "s", labels={"two": lambda ids: ids == 2})
    with pytest.raises(ScanError, match="labels must name one label or more, of two; got"):
        probes.probe(made, (), progress=False)


def test_a_probe_that_cannot_be_gone_on_with_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [torch.randint(5, (90,)) for _ in range(12)]
    made = scan(parts, tmp_path / "s", labels={"two": lambda ids: ids == 2})
    put, done = Kept.put, []

    def full(self: Kept, *given: Any) -> None:
        monkeypatch.setattr(Path, "mkdir", _full)
        put(self, *given)
        done.append(given)
        if len(done) == 12:
            raise KeyboardInterrupt

    def _full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Kept, "put", full)
    with pytest.warns(StoppedWarning, match="could not be written to .*the same call begins anew"):
        found = probes.probe(made, progress=False)
    assert found.stopped
