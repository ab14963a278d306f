"""A probe that was stopped, killed or spread over workers is the probe of one run, bit for bit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens.corpus import Probe, Scan, open_scan
from grulens.errors import ScanError, StoppedWarning
from grulens.probing.corpus.probes import kept
from grulens.probing.corpus.probes import probe as module
from grulens.probing.corpus.probes.fitting import visited
from tests.probing.corpus.probes.test_probe import ask, same
from tests.probing.corpus.scan.test_scan import LABELS, Reader, scan, texts


class Deadly(Reader):
    """Kills the worker that runs it, while a file is not there."""

    once = ""

    def forward(self, ids: Tensor) -> Tensor:
        if self.once:
            home, once = self.once.split(":")
            if str(os.getpid()) != home and not Path(once).exists():
                Path(once).touch()
                os.kill(os.getpid(), 9)
        return super().forward(ids)


class Moody(Reader):
    """Does something else in a worker."""

    home = os.getpid()

    def forward(self, ids: Tensor) -> Tensor:
        out = super().forward(ids)
        return out if os.getpid() == self.home else out + 1


@pytest.fixture
def made(tmp_path: Path) -> Scan:
    parts = [part for seed in range(4) for part in texts(seed)]
    return scan(Deadly().eval(), parts, tmp_path / "s", labels=LABELS, steps=100)


def stopping(monkeypatch: pytest.MonkeyPatch, at: int, error: type[BaseException]) -> list[int]:
    """Have the probe end at the run of a part; gives the parts that ran."""
    ran: list[int] = []

    def run(model: Any, manifest: Any, part: Any, *args: Any) -> Any:
        if len(ran) == at:
            ran.append(-1)
            raise error
        ran.append(part.number)
        return visited(model, manifest, part, *args)

    monkeypatch.setattr(module, "visited", run)
    return ran


@pytest.mark.parametrize("at", [1, 6, 11])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_one_that_ended_early_goes_on_where_it_was(
    made: Scan, at: int, error: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ask(made)
    ran = stopping(monkeypatch, at, error)
    ended: Any = pytest.raises((ScanError, ZeroDivisionError))
    if error is KeyboardInterrupt and at == 11:
        ended = pytest.warns(StoppedWarning, match="stopped after 11 of 12 parts")
    with ended:
        ask(made)
    assert len(ran) == at + 1
    found = ask(open_scan(made.path, made.model))
    assert sorted(ran) == [-1, *range(12)]  # none ran again
    assert same(found, whole)
    assert {one.name for one in made.path.iterdir()} == {"merged", "parts", "scan.json"}
    assert same(ask(made), whole)


def test_what_is_kept_is_of_this_probe_alone_and_whole(
    made: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [{"seed": 1}, {"control": "context"}, {"labels": "space"}, {"strengths": [0.1]}]
    apart = [ask(made, **other) for other in others]
    whole = ask(made)
    ran = stopping(monkeypatch, 6, KeyboardInterrupt)
    with pytest.raises(ScanError, match=r"stopped after 6 of 12 parts, .*goes on from there"):
        ask(made)
    for other, then in zip(others, apart, strict=True):
        assert same(ask(made, **other), then)
    files = sorted((made.path / kept.PROBES).rglob("*.npz"))
    assert len(files) == 6
    assert len(ran) == 7 + 12 * len(others)
    ran = stopping(monkeypatch, 99, KeyboardInterrupt)
    files[0].write_bytes(files[0].read_bytes()[:-9])
    broken = bytearray(files[1].read_bytes())
    broken[len(broken) // 2] ^= 1
    files[1].write_bytes(broken)
    files[2].write_bytes(b"")
    assert same(ask(made), whole)
    assert len(ran) == 9


def test_a_disk_that_takes_nothing_stops_no_probe(
    made: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ask(made)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(kept.np, "savez", full)
    assert same(ask(made), whole)
    stopping(monkeypatch, 2, KeyboardInterrupt)
    with pytest.raises(ScanError, match=r"before one was tested$"):
        ask(made)


def test_two_workers_find_what_one_process_finds_though_one_is_killed(
    client: Any, made: Scan, tmp_path: Path
) -> None:
    whole, model = ask(made, control="context"), made.model
    assert isinstance(model, Deadly)
    model.once = f"{os.getpid()}:{tmp_path / 'killed'}"
    found = ask(made, control="context", client=client)
    assert (tmp_path / "killed").exists()
    assert isinstance(found, Probe)
    assert same(found, whole)
    assert {one.name for one in made.path.iterdir()} == {"merged", "parts", "scan.json"}


def test_a_probe_on_a_cluster_is_stopped_and_goes_on(
    client: Any, made: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, first, back = ask(made), module.Workers.first, list[int]()

    def some(self: Any) -> Any:
        for number, found in first(self):
            if len(back) == 5:
                raise KeyboardInterrupt
            back.append(number)
            yield number, found

    with monkeypatch.context() as patched:
        patched.setattr(module.Workers, "first", some)
        with pytest.raises(ScanError, match=r"stopped after [45] of 12 parts"):
            ask(made, client=client)
    assert len(list((made.path / kept.PROBES).rglob("*.npz"))) == 5
    assert not list(made.path.glob(".model*"))
    ran = stopping(monkeypatch, 99, KeyboardInterrupt)
    assert same(ask(made), whole)
    assert len(ran) == 7


def test_what_goes_wrong_in_a_worker_is_said(client: Any, tmp_path: Path) -> None:
    model = Moody().eval()
    made = scan(model, texts(), tmp_path / "s", labels=LABELS)
    nn.init.zeros_(model.embedding.weight)
    with pytest.raises(ScanError, match=r"client must be a dask.distributed.Client, got 3"):
        ask(made, client=3)
    with pytest.raises(ScanError, match=r"part . does not run as it did in the scan"):
        ask(made, client=client)
    assert torch.is_grad_enabled()
