"""The bar beside a button says how long the rest takes."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from grulens import AblationToggles
from grulens.job import Job
from grulens.widgets.session import job_button
from grulens.widgets.session.job_button import JobButton


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.0, "about 18 s left"), (60.0, "about 9 min left")]
)
def test_how_long_the_rest_takes_is_told_by_what_is_done(
    monkeypatch: pytest.MonkeyPatch, seconds: float, text: str
) -> None:
    now, go, on = [100.0], threading.Event(), threading.Event()
    monkeypatch.setattr(job_button.time, "monotonic", lambda: now[0])
    panel = AblationToggles(nn.GRU(2, 3, batch_first=True), torch.ones(1, 4, 2))
    said: list[tuple[str, str | None]] = []

    def work(job: Job[int]) -> None:
        job.total = 10
        now[0] += seconds
        job.advance()
        on.set()
        go.wait(30)

    made: JobButton[int] = JobButton(
        panel, text="build", tip="", noun="piece", work=work,
        show=lambda: said.append((made.bar.description, made.bar.layout.display)),
    )  # fmt: skip
    made.begin()
    assert on.wait(30)
    assert made.left == text
    made.stop()
    go.set()
    assert made.wait(30)
    assert said[-1] == ("", "none")
