"""The command, without a browser."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from grulens import __version__, cli


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> list[list[str]]:
    """Run this code where JupyterLab would be started; the commands that would have started it."""
    commands: list[list[str]] = []
    popen = subprocess.Popen

    class Popen(popen):  # type: ignore[misc, valid-type]
        def __init__(self, command: list[str]) -> None:
            commands.append(command)
            super().__init__([sys.executable, "-c", code])

    monkeypatch.setattr(subprocess, "Popen", Popen)
    return commands


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
    lab = stand_in(monkeypatch, "raise SystemExit(7)")
    assert cli.main(["demo", "--dir", str(tmp_path)]) == 7
    assert cli.main(["demo", "--no-browser", "--allow-root", "--dir", str(tmp_path)]) == 7
    tour, address = str(tmp_path / "01_tour.ipynb"), "--LabApp.default_url=/lab/tree/01_tour.ipynb"
    command = [sys.executable, "-m", "jupyterlab", tour, address]
    assert lab == [command, [*command, "--no-browser", "--allow-root"]]


def test_ctrl_c_leaves_jupyterlab_the_time_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it gets the terminal's Ctrl-C itself, asks, and stops its kernels: that takes a while
    stand_in(monkeypatch, "import time; time.sleep(1); raise SystemExit(7)")
    wait, interrupts = subprocess.Popen.wait, iter([True, True, False])

    def interrupted(lab: "subprocess.Popen[bytes]", timeout: float | None = None) -> int:
        if next(interrupts, False):
            raise KeyboardInterrupt
        return wait(lab, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    assert cli.main(["demo", "--dir", str(tmp_path)]) == 7
    assert next(interrupts, "all used") == "all used"


def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["demo", "--dir", str(tmp_path / "file" / "tour")]) == 1
    said = capsys.readouterr().err
    assert "Not a directory" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("page", [".", "nowhere/tour.html"])
def test_a_page_that_cannot_be_written_is_said_before_the_tour_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo", "--html", page]) == 1
    said = capsys.readouterr()
    assert said.err == f"cannot write {page}: give a file in a folder that exists\n"
    assert "running" not in said.out


def of_a_tour(folder: Path, cell: str) -> "subprocess.CompletedProcess[str]":
    """`grulens demo --html page.html` with a tour of one cell.

    In a process of its own: a kernel's event loop must not meet nbval's.
    """
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    nbformat.write(broken, folder / cli.NAME)
    code = (
        "import pathlib; from grulens import cli; cli.tour = lambda: pathlib.Path(cli.NAME); "
        "raise SystemExit(cli.main(['demo', '--html', 'page.html']))"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_tour_that_fails_leaves_no_page(tmp_path: Path) -> None:
    # a kernel may complain while it ends: that is not the user's trouble
    cell = "import os; os.write(2, b'noise of a kernel\\n'); 1 / 0"
    done = of_a_tour(tmp_path, cell)
    assert done.returncode == 1
    assert done.stderr == "the tour failed: ZeroDivisionError: division by zero\n"
    assert not (tmp_path / "page.html").exists()


def test_a_kernel_that_dies_leaves_its_last_words(tmp_path: Path) -> None:
    done = of_a_tour(tmp_path, "import os; os.write(2, b'last words\\n'); os._exit(1)")
    assert done.returncode == 1
    assert "last words\nthe tour failed: Kernel died" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "page.html").exists()


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
    assert "<title>grulens: the tour</title>" in html
    assert 'class="grulens-still"' in html
    assert "0.72 -&gt; 0.05" in html
    assert "widget-view+json" not in html
