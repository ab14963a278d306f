"""Python's side of the bridge, with a page that is played by hand."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bokeh.events import Tap
from bokeh.io import curdoc
from bokeh.models import ColumnDataSource, DataTable, Slider, TableColumn
from bokeh.plotting import figure

from grulens.errors import FileError, GrulensError
from grulens.widgets.jupyter.bokeh_js import gzipped, parts
from grulens.widgets.jupyter.bokeh_view import WIDGET_VIEW, BokehView


class Page:
    """What the browser does: it opens views, and hears what Python sends."""

    def __init__(self, view: BokehView, monkeypatch: pytest.MonkeyPatch) -> None:
        self.view = view
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []
        monkeypatch.setattr(
            view, "send", lambda content, buffers=(): self.sent.append((content, list(buffers)))
        )

    def say(self, kind: str, buffers: tuple[bytes, ...] = (), **content: Any) -> None:
        self.view._handle_custom_msg({"kind": kind, **content}, list(buffers))

    def patch(self, *events: dict[str, Any], view: str = "a") -> None:
        self.say("patch", view=view, content=json.dumps({"events": events}))

    def heard(self, kind: str) -> list[dict[str, Any]]:
        return [content for content, _ in self.sent if content["kind"] == kind]

    def events(self) -> list[list[Any]]:
        return [
            [(e["kind"], e.get("attr"), e.get("new")) for e in json.loads(m["content"])["events"]]
            for m in self.heard("patch")
        ]


def moved(model: Any, attr: str, value: Any) -> dict[str, Any]:
    return {"kind": "ModelChanged", "model": {"id": model.id}, "attr": attr, "new": value}


def tapped(model: Any, x: float = 1.0) -> dict[str, Any]:
    entries = [["model", {"id": model.id}], ["x", x], ["y", 2], ["sx", 3], ["sy", 4],
               ["modifiers", {"type": "map", "entries": []}]]  # fmt: skip
    data = {"type": "event", "name": "tap", "values": {"type": "map", "entries": entries}}
    return {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": data}


@pytest.fixture
def slider() -> Slider:
    return Slider(start=0, end=10, value=5)


@pytest.fixture
def view(slider: Slider) -> Iterator[BokehView]:
    made = BokehView(slider)
    yield made
    made.close()


@pytest.fixture
def page(view: BokehView, monkeypatch: pytest.MonkeyPatch) -> Page:
    made = Page(view, monkeypatch)
    made.say("open", view="a")
    return made


def test_a_view_opens_with_the_present_state(page: Page, slider: Slider) -> None:
    slider.value = 7
    page.say("open", view="b")
    first, second = page.heard("doc")
    assert (first["view"], second["view"]) == ("a", "b")
    values = [json.loads(m["content"])["roots"][0]["attributes"]["value"] for m in (first, second)]
    assert values == [5, 7]
    assert first["parts"] == ["bokeh", "widgets"]


def test_python_changes_reach_all_views(page: Page, slider: Slider) -> None:
    slider.value = 6
    assert page.events() == [[("ModelChanged", "value", 6)]]
    assert "skip" not in page.heard("patch")[0]


def test_without_views_nothing_is_sent(
    view: BokehView, slider: Slider, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(view, monkeypatch)
    slider.value = 6
    page.say("open", view="a")
    page.say("gone", view="a")
    slider.value = 7
    assert page.events() == []


def test_a_batch_is_one_message(page: Page, view: BokehView, slider: Slider) -> None:
    def fails() -> None:
        with view.batch(), view.batch():
            slider.value = 6
            slider.title = "depth"
            assert page.events() == []
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        fails()
    changes = [("ModelChanged", "value", 6), ("ModelChanged", "title", "depth")]
    assert page.events() == [changes]  # what had changed before the error did change
    with view.batch():
        pass
    slider.value = 7
    assert len(page.events()) == 2


def test_arrays_travel_as_bytes(page: Page, view: BokehView) -> None:
    import numpy as np

    source = ColumnDataSource({"image": [np.zeros((2, 2), np.uint8)]})
    plot = figure()
    plot.image(image="image", x=0, y=0, dw=1, dh=1, source=source)
    view.document.add_root(plot)
    page.sent.clear()
    source.data = {"image": [np.full((2, 2), 7, np.uint8)]}
    [(message, buffers)] = page.sent
    assert [bytes(buffer) for buffer in buffers] == [b"\7\7\7\7"]
    assert len(message["ids"]) == 1


def test_a_model_that_came_before_its_view_is_known_by_its_id(
    view: BokehView, slider: Slider, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(view, monkeypatch)
    view.document.add_root(figure(name="late"))
    page.say("open", view="a")
    plot = view.document.roots[1]
    plot.title = "one"
    plot.title.text = "two"
    assert page.events()[-1] == [("ModelChanged", "text", "two")]


def test_a_persons_change_calls_back_and_goes_to_the_siblings(page: Page, slider: Slider) -> None:
    seen: list[Any] = []
    slider.on_change("value", lambda attr, old, new: seen.append((attr, old, new)))
    slider.on_change("value", lambda attr, old, new: setattr(slider, "title", f"at {new}"))
    page.say("open", view="b")
    page.patch(moved(slider, "value", 8))
    assert seen == [("value", 5, 8)]
    assert page.events() == [[("ModelChanged", "value", 8)], [("ModelChanged", "title", "at 8")]]
    assert [message.get("skip") for message in page.heard("patch")] == ["a", None]
    assert page.heard("ack") == [{"kind": "ack", "view": "a"}]


def test_events_reach_python_and_not_the_siblings(page: Page, view: BokehView) -> None:
    plot = figure()
    seen: list[float] = []
    plot.on_event(Tap, lambda event: seen.append(event.x))
    view.document.add_root(plot)
    page.say("open", view="b")
    page.sent.clear()
    page.patch(tapped(plot, 1.5))
    assert seen == [1.5]
    assert page.events() == []


def test_an_error_is_shown_until_a_callback_succeeds(page: Page, slider: Slider) -> None:
    def fails(attr: str, old: int, new: int) -> None:
        if new > 5:
            raise ValueError(f"<b>{new}</b>")

    slider.on_change("value", fails)
    page.say("open", view="b")
    page.patch(moved(slider, "value", 8), moved(slider, "title", "also"))
    [error] = page.heard("error")
    assert error["title"] == "ValueError: <b>8</b>"
    assert "in fails" in error["traceback"]
    assert (slider.value, slider.title) == (8, "also")  # the error lost no other change
    assert page.events()[0][0] == ("ModelChanged", "value", 8)  # nor the sibling's
    assert page.heard("ack")
    assert curdoc() is not slider.document  # Bokeh goes on as if there had been no error

    page.say("open", view="c")  # a view that opens later shows it too
    assert page.heard("error") == [error, error]
    page.patch(moved(slider, "title", "no callback"))
    assert len(page.heard("error")) == 2
    page.patch(moved(slider, "value", 3))
    assert page.heard("error")[-1] == {"kind": "error", "title": "", "traceback": ""}
    page.patch(moved(slider, "value", 2))
    assert len(page.heard("error")) == 3


def test_a_file_goes_to_whoever_asked(page: Page, view: BokehView) -> None:
    page.say("offer", view="a", offer="all as CSV")  # nobody offers that
    assert not page.heard("file") + page.heard("error")
    view.offer("all as CSV", lambda: ("units", "unit\r\n字\r\n"))
    assert view.offers == ["all as CSV"]
    page.say("offer", view="b", offer="all as CSV")
    assert page.sent[-1:] == [
        ({"kind": "file", "view": "b", "name": "units"}, ["unit\r\n字\r\n".encode()])
    ]
    view.offer("all as CSV", lambda: (_ for _ in ()).throw(ValueError("no such unit")))
    page.say("offer", view="b", offer="all as CSV")
    assert page.heard("error")[-1]["title"] == "ValueError: no such unit"


def test_a_picture_is_drawn_by_a_page_and_written(
    page: Page, view: BokehView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileError, match=r"must end in .png or .svg, got 'a.pdf'"):
        view.save("a.pdf")
    page.say("open", view="b")
    monkeypatch.chdir(tmp_path)
    assert view.save("a.SVG") == Path("a.SVG")
    asked = page.heard("draw")[-1]
    assert asked["as"] == "svg"
    monkeypatch.chdir("/")
    page.say("drawn", view="b", id=asked["id"], why="no figure is seen")
    page.say("drawn", view="a", id=asked["id"], buffers=(b"<svg/>",))
    page.say("drawn", view="b", id=asked["id"], buffers=(b"another view",))
    assert not page.heard("error")
    page.say("drawn", view="c", id="/etc/passwd", buffers=(b"nobody asked",))
    assert [*tmp_path.iterdir()] == [tmp_path / "a.SVG"]
    assert (tmp_path / "a.SVG").read_bytes() == b"<svg/>"
    view.save("b.png")
    for name in ("a", "b"):
        assert not page.heard("error")
        page.say("drawn", view=name, id=page.heard("draw")[-1]["id"], why="no figure is seen")
    title = "GrulensError: b.png was not saved: no figure is seen"
    assert page.heard("error")[-1]["title"] == title
    for name in ("a", "b"):
        page.say("gone", view=name)
    with pytest.raises(GrulensError, match="none shows these: show them in an earlier cell"):
        view.save("a.png")


def test_errors_from_elsewhere(page: Page, view: BokehView) -> None:
    view.clear_error()
    assert page.heard("error") == []
    view.show_error(RuntimeError("too slow"))
    view.clear_error()
    assert [message["title"] for message in page.heard("error")] == ["RuntimeError: too slow", ""]


def test_a_message_that_makes_no_sense_is_answered(page: Page) -> None:
    page.say("patch", view="a", content="{}")
    assert page.heard("error")[0]["title"] == "KeyError: 'events'"
    assert page.heard("ack")
    page.say("need", part="../../secret")
    page.say("something")
    assert page.heard("js") == []


def test_bokehjs_is_the_installed_one(page: Page) -> None:
    import bokeh

    page.say("need", part="bokeh")
    [(message, [buffer])] = [sent for sent in page.sent if sent[0]["kind"] == "js"]
    assert message["part"] == "bokeh"
    assert f'"{bokeh.__version__}"'.encode() in gzip.decompress(buffer)
    assert len(gzipped("bokeh")) < 400_000


def test_tables_bring_their_part(view: BokehView) -> None:
    source = ColumnDataSource({"unit": [1]})
    view.document.add_root(DataTable(source=source, columns=[TableColumn(field="unit")]))
    assert parts(view.document) == ["bokeh", "widgets", "tables"]


def test_the_lock_is_shared_and_held(slider: Slider, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.RLock()
    view = BokehView(slider, lock=lock)
    page = Page(view, monkeypatch)
    assert view.lock is lock
    opened = threading.Thread(target=lambda: page.say("open", view="a"))
    with view.batch():
        opened.start()
        opened.join(0.05)
        assert page.heard("doc") == []
    opened.join(10)
    assert len(page.heard("doc")) == 1
    view.close()


def test_closing_leaves_nothing_and_works_twice(slider: Slider) -> None:
    import ipywidgets

    registry = ipywidgets.widgets.widget._instances
    before = dict(registry)
    view = BokehView(slider)
    assert len(registry) == len(before) + 2  # and its layout
    view.close()
    view.close()
    assert dict(registry) == before
    slider.value = 6  # the models live on


def test_a_closed_view_can_be_shown_again(slider: Slider) -> None:
    view = BokehView(slider)
    old = view.model_id
    view.close()
    data, _ = view._repr_mimebundle_()
    assert data[WIDGET_VIEW]["model_id"] == view.model_id != old
    assert [root.value for root in view.document.roots] == [5]
    view.close()


def test_what_is_shown_where_no_kernel_runs(slider: Slider) -> None:
    view = BokehView(slider, still=lambda: "<p>still</p>", text=lambda: "a slider")
    data, _ = view._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html", WIDGET_VIEW}
    assert (data["text/plain"], data["text/html"]) == ("a slider", "<p>still</p>")
    view.close()
    plain = BokehView(slider, text=lambda: "<b>")
    assert plain._repr_mimebundle_()[0]["text/html"] == (
        "<p>&lt;b&gt;: run the cell to see it live.</p>"
    )
    plain.close()


def test_a_still_that_fails_takes_nothing_with_it(
    slider: Slider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def still() -> str:
        raise ValueError("no picture")

    view = BokehView(slider, still=still)
    page = Page(view, monkeypatch)
    data, _ = view._repr_mimebundle_()
    assert WIDGET_VIEW in data
    assert data["text/html"] == "<p>BokehView(1 root): run the cell to see it live.</p>"
    assert page.heard("error")[0]["title"] == "ValueError: no picture"
    view.close()


def test_models_can_move_to_the_view_that_replaces_theirs(
    slider: Slider, monkeypatch: pytest.MonkeyPatch
) -> None:
    from grulens.widgets.jupyter import bokeh_view
    from grulens.widgets.jupyter.rerun import CellRun, Rerun

    runs = iter([CellRun("cell", "1"), CellRun("cell", "2"), CellRun("cell", "3")])
    monkeypatch.setattr(bokeh_view, "RERUN", Rerun(now=lambda: next(runs)))
    first = BokehView(slider)
    second = BokehView(slider)
    assert first.comm is None
    assert second.document.roots == [slider]
    part = BokehView(retire=False)
    third = BokehView()
    assert (second.comm, part.comm is None) == (None, False)
    third.close()
    part.close()


def test_the_picture_follows_what_a_page_has_seen(
    slider: Slider, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[tuple[str, dict[str, Any], str | None]] = []
    for name in ("publish", "update"):
        monkeypatch.setattr(
            f"grulens.widgets.jupyter.still.{name}",
            lambda data, raw, display_id=None, name=name: published.append(
                (name, data, display_id)
            ),
        )
    view = BokehView(slider, still=lambda: f"at {slider.value}", text=lambda: "a slider")
    page = Page(view, monkeypatch)
    slider.value = 6
    page.say("settled")
    assert published == []  # shown nowhere
    view._ipython_display_()
    (first, widget, _), (second, still, shown_as) = published
    assert (first, second) == ("publish", "publish")
    assert set(widget) == {"text/plain", WIDGET_VIEW}
    assert still["text/html"].endswith('<div class="grulens-still">at 6</div>')

    page.say("settled")
    assert len(published) == 2  # nothing has changed
    page.patch(moved(slider, "value", 7))
    page.say("settled")
    page.say("settled")  # a second view of the same change
    [(name, data, updated)] = published[2:]
    assert (name, updated) == ("update", shown_as)
    assert "at 7" in data["text/html"]

    calls: list[int] = []
    view.on_settled(lambda: calls.append(1))
    slider.value = 8
    page.say("settled")
    assert calls == [1]
    view.close()
