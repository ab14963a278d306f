"""A scan by the workers of a cluster is the scan of one process, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch

from grulens.errors import MissingPackageError, ScanError, StoppedWarning
from grulens.probing.corpus.scan import spread
from tests.probing.corpus.scan.test_scan import LABELS, Reader, scan, texts


def files(made: Any) -> dict[str, bytes]:
    parts = made.path / "parts"
    return {
        str(file.relative_to(parts)): file.read_bytes()
        for file in sorted(parts.rglob("*")) if file.is_file()
    }  # fmt: skip


def given(part: list[str], before: Callable[[], None]) -> Callable[[], list[str]]:
    def made() -> list[str]:
        before()
        return part

    return made


def test_two_workers_make_what_one_process_makes_though_one_is_killed(
    client: Any, tmp_path: Path
) -> None:
    model, parts = Reader(), [part for seed in range(3) for part in texts(seed)]
    here = os.getpid()
    once, workers = tmp_path / "killed", tmp_path / "workers"
    workers.mkdir()

    def noted() -> None:
        (workers / str(os.getpid())).touch()

    def killed() -> None:
        noted()
        if os.getpid() != here and not once.exists():
            once.touch()
            os.kill(os.getpid(), 9)

    watched = [given(part, killed if i == 4 else noted) for i, part in enumerate(parts)]
    alone = scan(model, parts, tmp_path / "alone", labels=LABELS, gates=True)
    many = scan(model, watched, tmp_path / "many", labels=LABELS, gates=True, client=client)
    assert once.exists()
    assert len({int(one.name) for one in workers.iterdir()} - {here}) >= 2
    assert files(many) == files(alone)
    assert model.training
    assert {one.name for one in many.path.iterdir()} == {"merged", "parts", "scan.json"}
    sums = [{one.name for one in (each.path / "merged").iterdir()} for each in (alone, many)]
    assert sums[0] == sums[1]
    with pytest.warns(UserWarning, match="holds 9 parts, and the corpus has 2 now"):
        again = scan(
            model, watched[:2], tmp_path / "many", labels=LABELS, gates=True, client=client
        )
    assert len(again.parts) == len(parts)


def test_what_goes_wrong_in_a_worker_is_said_here(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, parts = Reader().eval(), texts()
    odd = {"odd": lambda text: np.zeros(len(text) // 200 + len(text), bool)}
    with pytest.raises(ScanError, match="label 'odd' of input 0 must be a bool for each"):
        scan(model, [parts[1], parts[2]], tmp_path / "s", labels=odd, client=client)

    def broken() -> list[str]:
        raise ZeroDivisionError("of the user's own")

    with pytest.raises(ZeroDivisionError, match="of the user's own"):
        scan(model, [parts[0], broken], tmp_path / "t", client=client)
    assert len(scan(model, parts, tmp_path / "t", client=client).parts) == 3
    here = os.getpid()

    def deadly() -> list[str]:
        if os.getpid() != here:
            os.kill(os.getpid(), 9)
        return parts[0]

    with pytest.raises(ScanError, match=r"part 000001 was not scanned: .*: scan again"):
        scan(model, [parts[0], deadly], tmp_path / "u", client=client)

    def full(*_: Any) -> int:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(ScanError, match=r"the model cannot be written to .* No space left"):
            scan(model, parts, tmp_path / "t", client=client)

    def elsewhere(*_: Any) -> str:
        return "000000"

    monkeypatch.setattr(spread, "_scan", elsewhere)
    with pytest.raises(ScanError, match="a folder that all workers share"):
        scan(model, parts, tmp_path / "v", client=client)


@pytest.mark.filterwarnings("ignore:.*cannot be read and are left out")  # part 0, if 1 was quicker
def test_a_scan_on_a_cluster_is_stopped_as_any(client: Any, tmp_path: Path) -> None:
    model, parts = Reader().eval(), texts()

    def some() -> Iterator[Any]:
        yield parts[0]
        yield parts[1]
        raise KeyboardInterrupt

    class Parts(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            return some()

    with pytest.warns(StoppedWarning, match="stopped after [012] of 3 parts"):
        made = scan(model, Parts(parts), tmp_path / "s", client=client)
    assert len(made.parts) <= 2
    whole = scan(model, parts, tmp_path / "s", client=client)
    assert torch.equal(whole.stats().mean, scan(model, parts, tmp_path / "t").stats().mean)


def test_a_worker_with_another_torch_is_refused(tmp_path: Path) -> None:
    model, made = Reader(), scan(Reader(), texts(), tmp_path / "s")
    shared = tmp_path / "model"
    shared.write_bytes(cloudpickle.dumps(("1.0", (model, None, made.manifest))))
    with pytest.raises(ScanError, match=r"a worker has torch 2.*, and the work is begun with 1\.0"):
        spread._scan(shared, texts()[0], tmp_path / "s" / "new")
    assert not (tmp_path / "s" / "new").exists()


@pytest.mark.parametrize("wrong", ["tcp://127.0.0.1:1", 3])
def test_what_is_no_client_is_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ScanError, match=r"client must be a dask.distributed.Client, got"):
        scan(Reader(), texts(), tmp_path / "s", client=wrong)


def test_without_dask_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grulens.extras.find_spec", lambda name: None)
    with pytest.raises(
        MissingPackageError, match=r'client= needs distributed: pip install "grulens'
    ):
        scan(Reader(), texts(), tmp_path / "s", client=3)
