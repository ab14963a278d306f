"""Whose parts a folder takes: of one model that does what it did, and of one process that began."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grulens.errors import ScanError
from grulens.probing.corpus.scan import manifest
from grulens.probing.corpus.scan import scan as scanning
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.scanned import Scan, open_scan
from grulens.probing.corpus.scan.writer import Writer


class Scaled(nn.Module):
    """A model that goes by a number besides its weights."""

    def __init__(self, k: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.rnn, self.k = nn.Embedding(5, 3), nn.GRU(3, 4, batch_first=True), k

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.rnn(self.k * self.embedding(ids))[0]
        return found


PARTS = [[torch.randint(5, (n,)) for n in (70, 300, 9)] for _ in range(3)]


def scan(model: nn.Module, parts: Any, folder: Path, **options: Any) -> Scan:
    return scanning.scan(model.eval(), parts, folder, progress=False, **options)


def test_parts_of_a_model_that_does_something_else_are_not_added(tmp_path: Path) -> None:
    scan(Scaled(), PARTS[:2], tmp_path / "s")
    with pytest.raises(ScanError, match=r"part 0 .* states of layer 'rnn.l0' are .* what else"):
        scan(Scaled(2.0), PARTS, tmp_path / "s")
    assert len(open_scan(tmp_path / "s").parts) == 2
    assert len(scan(Scaled(), PARTS, tmp_path / "s").parts) == 3


def test_states_that_were_kept_and_are_damaged_say_so(tmp_path: Path) -> None:
    made = scan(Scaled(), PARTS[:1], tmp_path / "s")
    file = made.parts[0].place / "0" / "low.npy"
    values = np.load(file)
    values[1] += 1
    np.save(file, values)
    with pytest.raises(ScanError, match=r"0/low\.npy has changed since"):
        scan(Scaled(), PARTS, tmp_path / "s")


def _begins(model: nn.Module, folder: Path, more: int, gate: Any, said: Any) -> None:
    torch.set_num_threads(1)
    beside, waited = manifest.beside, []

    def together(place: Path) -> Path:
        if not waited:  # there is none yet, and each is about to write one
            waited.append(gate.wait(60))
        return beside(place)

    manifest.beside = together  # type: ignore[attr-defined]
    try:
        scan(model, PARTS, folder, labels={"more": lambda ids: ids > more})
    except ScanError as error:
        said.put(str(error))
    else:
        said.put("")


@pytest.mark.parametrize("links", [True, False])
def test_of_two_processes_that_begin_at_once_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def none(*_: Any) -> None:
            raise PermissionError("no links here")

        monkeypatch.setattr(os, "link", none)
    context = multiprocessing.get_context("fork")
    for number in range(3):
        gate, said = context.Barrier(2), context.Queue()
        each = [
            context.Process(target=_begins, args=(Scaled(), tmp_path / str(number), i, gate, said))
            for i in (1, 3)
        ]
        for one in each:
            one.start()
        first, second = sorted(said.get(timeout=60) for _ in each)
        for one in each:
            one.join()
        assert not first
        assert "was made otherwise: the first inputs" in second
        assert not [*(tmp_path / str(number)).glob(".*")]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(30, os.strerror(30)), "Read-only file system: take a folder that may be written"),
        (OSError("564 requested and 496 written"), "No space left on device: make room"),
    ],
)
def test_what_cannot_be_written_says_why_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, said: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Writer, "_write", full)
    with pytest.raises(ScanError, match=f"part 000000 cannot be written to .*: {said}"):
        scan(Scaled(), PARTS, tmp_path / "s")
    assert not [*(tmp_path / "s" / "parts").iterdir()]
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ScanError, match=rf"scan\.json cannot be written: {said}"):
        scan(Scaled(), PARTS, tmp_path / "t")
    assert not [*(tmp_path / "t").glob("*.json")]


def test_a_manifest_that_is_there_stays(tmp_path: Path) -> None:
    made = scan(Scaled(), PARTS[:1], tmp_path / "s").manifest
    held = (tmp_path / "s" / "scan.json").read_bytes()
    assert not Manifest.begin(made, tmp_path / "s")
    assert (tmp_path / "s" / "scan.json").read_bytes() == held
