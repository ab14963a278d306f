"""A run is marked once it takes long, and no mark is left of one that has ended."""

from __future__ import annotations

import threading

import ipywidgets as W

from grulens.widgets.session.busy import MARK, BusyMark


class Box(W.VBox):
    """A box that tells when its classes change."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, ...]] = []
        self.marked = threading.Event()
        self.observe(self._changed, "_dom_classes")

    def _changed(self, change: object) -> None:
        self.told.append(tuple(self._dom_classes))
        if MARK in self._dom_classes:
            self.marked.set()


def test_what_goes_on_is_marked_until_it_ends() -> None:
    box = Box()
    mark = BusyMark(box, after=0.0)
    mark.show(True)
    assert box.marked.wait(60)
    mark.show(False)
    assert box.told == [(MARK,), ()]


def test_what_ends_soon_tells_the_page_nothing() -> None:
    box = Box()
    mark = BusyMark(box, after=3600.0)
    for _ in range(3):
        mark.show(True)
        mark.show(True)
        mark.show(False)
    assert box.told == []
    assert not [
        t
        for t in threading.enumerate()
        if isinstance(t, threading.Timer) and not t.finished.is_set()
    ]


def test_a_mark_that_comes_too_late_is_not_set() -> None:
    box = Box()
    mark = BusyMark(box, after=3600.0)
    mark.show(True)
    late = mark._timer
    mark.show(False)
    assert late is not None
    thread = threading.Thread(target=late.function)  # it had begun when the end came
    thread.start()
    thread.join(60)
    assert box.told == []


def test_what_goes_on_twice_is_marked_until_both_have_ended() -> None:
    box = Box()
    told: list[bool] = []
    mark = BusyMark(box, after=0.0, tell=lambda _, busy: told.append(busy))
    with mark.held():
        assert box.marked.wait(60)
        with mark.held():
            pass
        mark.show(True)
        mark.show(False)
        assert box.told == [(MARK,)]
    assert box.told == [(MARK,), ()]
    assert told == [True, False]
