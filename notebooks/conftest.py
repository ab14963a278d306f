"""What each notebook takes when the check runs it, against what Binder gives."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

from notebooks.solutions import solutions

# each is the English notebook cell by cell, but for words: tests/test_languages.py; so what holds
# of the one when it runs holds of the other
collect_ignore = ["zh"]

# Binder gives 2 GB, and JupyterLab's server lives there too
MOST_MEMORY = 1200
took: dict[str, tuple[float, int]] = {}
begun: dict[str, float] = {}


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: Any) -> Iterator[None]:
    """Put the solutions to a notebook's exercises behind its cells."""
    report = yield
    if isinstance(collector, IPyNbFile) and report.passed:
        for number, cell in enumerate(solutions(collector.path), 1):
            name = f"Solution {number}"
            options = defaultdict(bool, check=True)
            report.result.append(
                IPyNbCell.from_parent(
                    collector, name=name, cell_num=len(report.result), cell=cell, options=options
                )
            )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: Any) -> Iterator[None]:
    """Look at the clock at a notebook's first cell."""
    begun.setdefault(named(item.path), time.monotonic())
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: Any, nextitem: Any) -> Iterator[None]:
    """After a notebook's last cell ask the system for its kernel's largest size."""
    last = nextitem is None or nextitem.path != item.path
    kernel = getattr(item.parent, "kernel", None)
    if last and kernel is not None and kernel.is_alive():
        peak = largest(kernel.km.provisioner.pid)
        if peak is not None:
            name = named(item.path)
            took[name] = (time.monotonic() - begun[name], peak)
            if peak > MOST_MEMORY:
                pytest.fail(f"{name} took {peak} MB at its peak, {MOST_MEMORY} MB at most")
    yield


def named(path: Path) -> str:
    """What a notebook is called: its place among the notebooks."""
    return path.relative_to(Path(__file__).parent).with_suffix("").as_posix()


def largest(pid: int) -> int | None:
    """The largest resident set that a process ever had, in MB; None where the system won't say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(s.split()[1]) // 1024 for s in lines if s.startswith("VmHWM")), None)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what each took."""
    if took:
        terminalreporter.section("notebooks")
    for name, (seconds, peak) in took.items():
        terminalreporter.line(f"{name}: {seconds:.0f} s, {peak:,} MB at its peak")
