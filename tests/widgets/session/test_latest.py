"""The newest value wins, whoever sets it; what goes wrong is seen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ipywidgets import FloatSlider, IntSlider, link

from grulens.widgets.jupyter.callbacks import guarded
from grulens.widgets.session.latest import Latest


def unexpected(error: Exception) -> None:
    raise error


def move(slider: Any, value: float) -> None:
    """What the front end sends when a person moves a slider."""
    data = {"method": "update", "state": {"value": value}, "buffer_paths": []}
    slider._handle_msg({"content": {"data": data}, "buffers": []})


class Slow:
    """A function that a test lets go on, value by value."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.threads: list[threading.Thread] = []
        self.started = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def __call__(self, value: float) -> None:
        self.seen.append(value)
        self.threads.append(threading.current_thread())
        self.started.release()
        assert self.go_on.acquire(timeout=10)


def test_values_in_between_are_never_computed() -> None:
    slow = Slow()
    slider = FloatSlider(max=100)
    latest = Latest(slow, unexpected)
    slider.observe(latest, "value")
    move(slider, 1)
    assert slow.started.acquire(timeout=10)
    for value in range(2, 61):
        move(slider, value)  # returns at once: the computation of 1 has not ended
    assert not latest.wait(0.0)
    slow.go_on.release(2)
    assert latest.wait(10.0)
    assert slow.seen == [1, 60]
    assert threading.current_thread() not in slow.threads
    move(slider, 7)
    slow.go_on.release()
    assert latest.wait(10.0)
    assert slow.seen == [1, 60, 7]


def test_python_code_is_answered_at_once() -> None:
    seen: list[tuple[int, threading.Thread]] = []
    slider = IntSlider()
    slider.observe(
        Latest(lambda value: seen.append((value, threading.current_thread())), unexpected), "value"
    )
    slider.value = 3
    assert seen == [(3, threading.current_thread())]


def test_a_slider_moved_in_answer_is_python_code() -> None:
    seen: list[threading.Thread] = []
    moved, follower = IntSlider(), IntSlider()
    link((moved, "value"), (follower, "value"))
    follower.observe(Latest(lambda _: seen.append(threading.current_thread()), unexpected), "value")
    move(moved, 3)
    assert follower.value == 3
    assert seen == [threading.current_thread()]


def test_a_cell_has_the_last_word() -> None:
    slow = Slow()
    lock = threading.RLock()
    slider = FloatSlider(max=100)
    latest = Latest(slow, unexpected, lock=lock)
    slider.observe(latest, "value")
    move(slider, 1)
    assert slow.started.acquire(timeout=10)
    move(slider, 2)  # pending: computed before 3, or never
    slow.go_on.release(10)
    slider.value = 3
    assert latest.wait(10.0)
    assert slow.seen[-1] == 3
    with lock:  # widgets are set under the lock too: the worker waits for nothing the cell holds
        move(slider, 4)
        slider.value = 5
    assert latest.wait(10.0)
    assert slow.seen[-1] == 5
    assert 4 not in slow.seen


@pytest.mark.parametrize("by_person", [True, False])
def test_errors_are_shown_and_cleared(by_person: bool) -> None:
    shown: list[str] = []

    def compute(value: int) -> None:
        if value > 5:
            raise ValueError(f"no step {value}")

    slider = IntSlider()
    latest = Latest(compute, lambda error: shown.append(str(error)), lambda: shown.append("fine"))
    slider.observe(latest, "value")
    for value in (9, 2):
        if by_person:
            move(slider, value)
            assert latest.wait(10.0)
        else:
            slider.value = value
    assert shown == ["no step 9", "fine"]


def test_an_interrupt_is_no_error() -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Latest(interrupted, unexpected).now(1)
    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted, unexpected)(1)


def test_guarded_keeps_the_callbacks_name_and_arguments() -> None:
    def choose(unit: int, *, again: bool = False) -> None:
        """Choose a unit."""
        seen.append((unit, again))

    seen: list[tuple[int, bool]] = []
    call = guarded(choose, unexpected)
    call(3, again=True)
    assert (call.__name__, call.__doc__) == ("choose", "Choose a unit.")
    assert seen == [(3, True)]


def test_a_value_is_busy_from_when_it_is_sent_until_it_is_answered_or_overtaken() -> None:
    slow = Slow()
    told: list[str] = []

    @contextmanager
    def busy() -> Iterator[None]:
        told.append("begun")
        yield
        told.append("ended")

    latest = Latest(slow, unexpected, busy=busy)
    latest.later(1.0)
    assert told == ["begun"]
    assert slow.started.acquire(timeout=10)
    latest.later(2.0)
    latest.later(3.0)  # 2 is overtaken
    assert told == ["begun", "begun", "ended", "begun"]
    slow.go_on.release(2)
    assert latest.wait(10.0)
    assert told == ["begun", "begun", "ended", "begun", "ended", "ended"]
    assert slow.seen == [1.0, 3.0]
