"""The command, without a browser."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from grulens import __version__, cli


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"grulens {__version__}\n"


def test_a_call_without_a_command_is_told_what_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([])
    assert left.value.code == 2
    assert "{demo}" in capsys.readouterr().err


def test_a_changed_copy_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = cli.copy_tour(tmp_path / "tour")
    assert copy.read_bytes() == cli.tour().read_bytes()
    copy.write_text("mine")
    assert cli.copy_tour(tmp_path / "tour").read_text() == "mine"
    assert "--fresh makes a new one" in capsys.readouterr().out
    assert cli.copy_tour(tmp_path / "tour", fresh=True).read_text() != "mine"


def test_it_opens_jupyterlab_on_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def call(command: list[str]) -> int:
        called.append(command)
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    assert cli.main(["demo", "--no-browser", "--dir", str(tmp_path)]) == 0
    tour = str(tmp_path / "01_tour.ipynb")
    assert called == [[sys.executable, "-m", "jupyterlab", tour, "--no-browser"]]


@pytest.mark.parametrize(
    ("more", "name"), [([], "jupyterlab"), (["--html", "t.html"], "nbconvert")]
)
def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str], name: str
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda wanted: None if wanted == name else object())
    assert cli.main(["demo", *more]) == 1
    assert capsys.readouterr().err == f"{name} not installed: pip install 'grulens[lab]'\n"


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    page = tmp_path / "tour.html"
    command = [sys.executable, "-m", "grulens.cli", "demo", "--html", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    html = page.read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"']?https?:", html)
    assert "cdnjs" not in html
    assert 'class="grulens-still"' in html
    assert "0.72 -&gt; 0.05" in html
    assert "widget-view+json" not in html
