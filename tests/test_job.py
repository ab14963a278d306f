"""Long work: it is counted, watched, ended by Ctrl-C and by `stop`, and what is done stays."""

import threading
from typing import Any

import pytest

from grulens import job as module
from grulens.errors import StoppedWarning
from grulens.job import Job, stopped, tell


def squares(job: Job[list[int]], numbers: int = 5) -> Job[list[int]]:
    job.result = []
    with job.watched():
        for number in range(numbers):
            job.result.append(number**2)
            job.advance()
    return job


def test_what_ends_by_itself_is_whole() -> None:
    job = squares(Job("squares", "number", 5))
    assert (job.result, job.done, job.note) == ([0, 1, 4, 9, 16], 5, "")
    assert not job.running


@pytest.mark.parametrize("by", ["stop", "Ctrl-C"])
def test_ended_early_what_is_done_stays(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", -1.0)

    def watch() -> None:
        if job.done == 2:
            if by == "Ctrl-C":
                raise KeyboardInterrupt
            job.stop()

    job: Job[list[int]] = Job("squares", "number", 5, watch)
    squares(job)
    assert (job.result, job.done, job.note) == ([0, 1], 2, "stopped after 2 of 5 numbers")
    assert not job.running


def test_another_thread_may_stop_it() -> None:
    job: Job[None] = Job(total=10**9)
    going = threading.Event()

    def work() -> None:
        with job.watched():
            while True:
                going.set()
                job.advance()

    thread = threading.Thread(target=work)
    thread.start()
    assert going.wait(10)
    assert job.running
    job.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert job.done >= 1


def test_stopped_before_it_begins_nothing_is_done() -> None:
    job: Job[str] = Job(total=3)
    job.stop()
    with job.watched():
        job.check()
        job.result = "begun"
    assert job.result is None


def test_another_error_is_seen_and_ends_it() -> None:
    job: Job[None] = Job(total=3)
    with pytest.raises(ZeroDivisionError), job.watched():
        _ = 1 / (job.done if job.active else 1)
    assert not job.running


def test_it_waits_until_it_is_begun() -> None:
    job: Job[None] = Job(total=1)
    assert not job.running
    job.waiting = True
    assert job.running
    with job.watched():
        assert not job.waiting
    assert not job.running


def test_who_watches_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.1, 10.2, 10.31, 10.4])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    told: list[int] = []
    job: Job[list[int]] = Job("squares", "number", 5, lambda: told.append(job.done))
    squares(job)
    assert told == [1, 4]


def test_a_bar_counts_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    job: Job[None] = Job("squares", "number", 4)
    for bar in (False, True):
        with job.watched(bar=bar):
            job.advance(3)
            job.stop()
            job.advance()
        shown: Any = capsys.readouterr().err
        assert ("squares" in shown, "4/4" in shown) == (bar, bar)
        job = Job("squares", "number", 4)


def test_words() -> None:
    assert stopped(1_200, 34_000, "run") == "stopped after 1,200 of 34,000 runs"
    assert stopped(0, 1, "run") == "stopped after 0 of 1 run"
    with pytest.warns(StoppedWarning, match="sweep stopped after 1 of 2 runs; what was done"):
        tell("sweep", stopped(1, 2, "run"))
