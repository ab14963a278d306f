"""What a scan cannot be made of, or into, is refused with what was expected and what to do."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
import torch
from torch import nn

from grulens.corpus import Scan, open_scan
from grulens.corpus import scan as scanned
from grulens.errors import ScanError
from grulens.probing.corpus.cluster import Workers, check_client
from grulens.probing.corpus.probes.control import coins
from tests.probing.corpus.scan.test_begin import Scaled

PARTS = [torch.randint(5, (40,)) for _ in range(2)]


def scan(out: Path, parts: Any = PARTS, model: Any = None, **options: Any) -> Scan:
    return scanned(model or Scaled().eval(), parts, out, progress=False, **options)


@pytest.mark.parametrize(
    "name",
    ["thesis.tex", "parts/mine.txt", "2024", ".git", "parts/12", "parts/.mine", "parts/000000"],
)
def test_a_folder_of_something_else_stays_as_it_is(name: str, tmp_path: Path) -> None:
    file = tmp_path / "s" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(ScanError, match=f"new or empty folder, .* holds {name} and no scan.json"):
        scan(tmp_path / "s")
    assert [one for one in (tmp_path / "s").rglob("*") if one.is_file()] == [file]


def test_a_name_that_is_too_long_is_said(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="cannot be read: File name too long"):
        scan(tmp_path / ("x" * 300))


def test_what_a_system_or_a_killed_scan_left_is_no_other_folder(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for name in (".DS_Store", ".scan.json~here-1~99~0a1b2c3d"):
        (tmp_path / name).write_text("")
    assert len(scan(tmp_path).parts) == 2


def test_another_programs_manifest_is_no_scan(tmp_path: Path) -> None:
    (tmp_path / "scan.json").write_text("{}")
    with pytest.raises(ScanError, match="another version of grulens"):
        scan(tmp_path, batch=4)
    assert [one.name for one in tmp_path.iterdir()] == ["scan.json"]


def test_a_changed_manifest_is_said_and_one_of_before_is_read(tmp_path: Path) -> None:
    scan(tmp_path / "s")
    file = tmp_path / "s" / "scan.json"
    held = file.read_text()
    file.write_text(held.replace('"on": 0.3', '"on": 0.4'))
    with pytest.raises(ScanError, match=r"scan.json has changed .*: its checksum is another"):
        open_scan(tmp_path / "s")
    before = held[: held.rindex(",")] + "}"
    assert '"sum"' in held
    assert '"sum"' not in before
    file.write_text(before)
    assert len(open_scan(tmp_path / "s").parts) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": []}, r"layers must name one layer or more, .* got \[\]"),
        ({"column": "text"}, r"column='text' is where an input that is a mapping .* leave column="),
    ],
)
def test_options_that_mean_nothing_are_refused(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ScanError, match=said):
        scan(tmp_path / "s", **options)


def test_a_model_that_takes_steps_first_is_told_how(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.GRU(3, 4)).eval()
    ids = torch.randint(5, (1, 5))
    with pytest.raises(ScanError, match=r"5 rows of 1 step .* takes steps first, .* \(ids,\)"):
        scan(tmp_path / "s", [ids], model)
    assert scan(tmp_path / "t", [(ids,)], model).steps == 5


class Keeps(Scaled):
    """Goes on where its last call ended."""

    last: torch.Tensor | None = None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found, last = self.rnn(self.embedding(ids), self.last)
        self.last = last.detach()
        return found  # type: ignore[no-any-return]


class Noisy(Scaled):
    """Draws numbers in eval mode, too."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found = self.rnn(self.embedding(ids) + torch.randn(3))[0]
        return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [Keeps, Noisy])
def test_a_model_that_does_something_else_each_time_is_refused(
    kind: type[Scaled], tmp_path: Path
) -> None:
    with pytest.raises(ScanError, match="other states when it runs once more on the same input"):
        scan(tmp_path / "s", model=kind().eval())
    assert not (tmp_path / "s").exists()


class Closed:
    """What a client of dask says once it is closed."""

    asynchronous, status = False, "closed"


class Sending:
    """A client that pickles what it hands out, and says so as dask does."""

    def scheduler_info(self) -> dict[str, Any]:
        return {"workers": {}}

    def cancel(self, _: Any) -> None:
        pass

    def submit(self, *given: Any, **_: Any) -> None:
        raise TypeError("Could not serialize object of type LLGExpr") from TypeError("a lock")


def test_what_cannot_go_to_workers_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "Client", Closed)
    with pytest.raises(ScanError, match=r"this one is closed: make another one"):
        check_client(Closed())
    said = r"part 3 must be pickled .*: 'a lock'"
    with (
        Workers(Sending(), tmp_path, "a model", ("", "")) as workers,
        pytest.raises(ScanError, match=said),
    ):
        workers.hand_out(3, 3, print)
    with pytest.raises(ScanError, match=r"what workers need must be pickled, .*'_thread.lock'"):
        Workers(Sending(), tmp_path, threading.Lock(), ("", "")).__enter__()
    assert not [*tmp_path.iterdir()]


def test_the_control_of_a_label_does_not_go_by_the_others() -> None:
    ids = np.arange(200).reshape(2, 100)
    every = coins(ids, 1, [0.5, 0.5, 0.5], 7)
    assert (coins(ids, 1, [0.5], 7, [2])[0] == every[2]).all()
    assert (every[0] != every[2]).any()


@pytest.mark.unchecked
def test_a_signal_that_is_no_text_was_not_counted(tmp_path: Path) -> None:
    made = scan(tmp_path / "s")
    with pytest.raises(ScanError, match="was not counted; what was is h"):
        made.stats(signal=np.ones(3, bool))  # type: ignore[arg-type]
