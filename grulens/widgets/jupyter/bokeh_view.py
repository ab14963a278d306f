"""How a Bokeh document reaches the browser: the only file that knows, with bokeh_view.js.

    Python                                    page
    Document ── doc, at each view's `open` ─→ one BokehJS document per view
             ── patch, to all views ────────→
             ←── patch of what a person did ── one in flight; passed on to the sibling views

Nothing is kept in traits: a display made later, or a page loaded again, asks for the document as it
is then. One lock guards the document, because messages may arrive on a subshell's thread while a
cell runs.
"""

from __future__ import annotations

import html
import json
import os
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anywidget
import bokeh.io.doc
import ipywidgets
import traitlets as tl
from bokeh.core.json_encoder import serialize_json
from bokeh.core.serialization import Buffer, Serialized
from bokeh.core.types import ID
from bokeh.document import Document
from bokeh.document.events import DocumentPatchedEvent
from bokeh.model import Model
from bokeh.protocol import Protocol

from grulens.errors import FileError, GrulensError, shown
from grulens.views.figure.tokens import valid
from grulens.widgets.jupyter.bokeh_js import PARTS, VIEW_CSS, VIEW_JS, gzipped, parts
from grulens.widgets.jupyter.callbacks import guarded, title_of
from grulens.widgets.jupyter.rerun import RERUN, forget
from grulens.widgets.jupyter.still import Still
from grulens.words import of_script, so_many

WIDGET_VIEW: Final = "application/vnd.jupyter.widget-view+json"

Message = dict[str, Any]


class BokehView(anywidget.AnyWidget):
    """A widget that shows Bokeh models, both ways, alone or in a VBox, in any number of views.

    Change the models as usual; every view follows. Whoever changes them from a thread, or several
    at a time, does so inside `batch()`, which holds the lock and sends one message. What a person
    does arrives in the models' own `on_change` and `on_event` callbacks; an error in one of those
    is shown in every view until a callback succeeds.

    Args:
        *roots: Bokeh models, one below the other.
        still: the present state as self-contained HTML, for wherever no kernel runs.
        text: a short and stable description.
        lock: guards the models; share it with whatever else changes them.
        retire: whether the cell that makes the view closes it when it runs again. A part of a
            larger widget says False: the whole registers itself (see `rerun`).

    Attributes:
        document: the Bokeh document that holds the roots.
        lock: the lock.
        about: what is shown, for the names of the files that a person saves.
        offers: the files that Python makes; see `offer`.
        words: what the script says, in the language of the screens.

    >>> from bokeh.plotting import figure
    >>> view = BokehView(figure(), text=lambda: "one figure")
    >>> view, len(view.document.roots)
    (one figure, 1)
    >>> view.close()
    """

    _esm = VIEW_JS
    _css = VIEW_CSS

    about = tl.Unicode().tag(sync=True)
    offers = tl.List(tl.Unicode()).tag(sync=True)
    words = tl.Dict().tag(sync=True)

    def __init__(
        self,
        *roots: Model,
        still: Callable[[], str] | None = None,
        text: Callable[[], str] | None = None,
        lock: threading.RLock | None = None,
        retire: bool = True,
        **traits: Any,
    ) -> None:
        if retire:
            RERUN.replace(self)  # first: the earlier view gives the models away
        self.document = Document()
        self._roots: Sequence[Model] = roots
        self.lock: Any = lock or threading.RLock()
        self._draw, self._text = still, text
        self._still = Still(self._html)
        self._unsettled = False
        self._settled: list[Callable[[], object]] = [self._still.refresh]
        self._views: set[str] = set()
        self._files: dict[str, Callable[[], tuple[str, str]]] = {}
        self._asked: dict[str, tuple[Path, set[str]]] = {}
        self._held: list[DocumentPatchedEvent] | None = None
        self._error: Message | None = None
        self._closed = False
        super().__init__(words=of_script(VIEW_JS), **traits)
        self.document.on_change(self._changed)
        self.on_msg(self._received)

    # ------------------------------------------------------------------ Python to the page

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Hold the lock, and send what changes meanwhile as one message; also after an error."""
        with self.lock:
            if self._held is not None:  # inside another batch
                yield
                return
            self._held = []
            try:
                yield
            finally:
                held, self._held = self._held, None
                self._send_patch(held)

    def _changed(self, event: object) -> None:
        if not isinstance(event, DocumentPatchedEvent):
            return
        with self.lock:
            if event.setter is not None:  # from a view: _apply passes it on, whatever comes of it
                return
            if self._held is not None:
                self._held.append(event)
            else:
                self._send_patch([event])

    def _send_patch(self, events: Sequence[DocumentPatchedEvent]) -> None:
        self._unsettled = self._unsettled or bool(events)
        if not self._views:
            # nobody listens, and the next `open` sends everything: nothing is new any more
            self.document.models.flush_synced()
        elif events:
            message = Protocol().create("PATCH-DOC", list(events))
            self._post("patch", Serialized(message.content, message.buffers))

    def _post(self, kind: str, content: Serialized[Any], **more: Any) -> None:
        buffers = content.buffers or []
        message = {
            "kind": kind,
            "content": serialize_json(content.content),
            "ids": [buffer.id for buffer in buffers],
            "parts": parts(self.document),
            **more,
        }
        self.send(message, buffers=[buffer.to_bytes() for buffer in buffers])

    # ------------------------------------------------------------------ the page to Python

    def _received(self, _: object, message: Message, buffers: Sequence[Any]) -> None:
        view = str(message.get("view", ""))
        match message.get("kind"):
            case "need" if message.get("part") in PARTS:
                part = message["part"]
                self.send({"kind": "js", "part": part}, buffers=[gzipped(part)])
            case "open":
                with self.lock:
                    self._views.add(view)
                    self._post("doc", self.document.to_json(), view=view)
                    if self._error is not None:
                        self.send(self._error)
            case "gone":
                self._views.discard(view)
            case "offer" if message.get("offer") in self._files:
                guarded(self._send_file, self.show_error)(view, message["offer"])
            case "drawn" if message.get("id") in self._asked:
                guarded(self._drawn, self.show_error)(view, message, buffers)
            case "settled" if self._unsettled:
                self._unsettled = False
                for callback in self._settled:
                    guarded(callback, self.show_error)()
            case "patch":
                self._unsettled = True
                try:
                    with self.lock:
                        self._apply(view, message["content"], buffers)
                except Exception as error:
                    self.show_error(error)
                finally:
                    self.send({"kind": "ack", "view": view})

    def _apply(self, view: str, content: str, buffers: Sequence[Any]) -> None:
        """Apply a view's patch, event by event: an error in one callback loses no other event."""
        events = json.loads(content)["events"]
        data = [Buffer(ID(str(i)), bytes(buffer)) for i, buffer in enumerate(buffers)]
        siblings = [event for event in events if event["kind"] != "MessageSent"]
        if siblings and len(self._views) > 1:
            self._post("patch", Serialized({"events": siblings}, data), skip=view)
        answered = False
        errors: list[Exception] = []
        setter: Any = view  # only handed back in what the patch changes, see _changed
        for event in events:
            answered = answered or self._is_answered(event)
            depth = len(bokeh.io.doc._PATCHED_CURDOCS)
            try:
                self.document.apply_json_patch(Serialized({"events": [event]}, data), setter=setter)
            except Exception as error:
                errors.append(error)
                # a callback that raises leaves its document the current one, for good: Bokeh 3.9
                del bokeh.io.doc._PATCHED_CURDOCS[depth:]
        if errors:
            self.show_error(errors[0])
        elif answered:
            self.clear_error()

    def offer(self, word: str, make: Callable[[], tuple[str, str]]) -> None:
        """Offer a file beside the pictures of the figures.

        Args:
            word: what the menu calls it.
            make: gives its name and its text, whenever a person wants it.
        """
        self._files[word] = make
        self.offers = [*self._files]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the figures, as the page shows them, to a file: what *save* in their corner does.

        The page draws them, so it must show them; and it answers when the cell is done. So the
        file is there a moment after that, and an error (the page hides them) stands over the
        figures.

        Args:
            path: where to, .png or .svg; an existing file is replaced.

        Returns:
            The path.

        Raises:
            FileError: `path` ends in something else.
            GrulensError: no page shows the view.
        """
        place = Path(path)
        kind = place.suffix.lower().removeprefix(".")
        if kind not in ("png", "svg"):
            raise FileError(f"path must end in .png or .svg, got {shown(path)}")
        if not self._views:
            raise GrulensError(
                "a page draws the figures, and none shows these: show them in an earlier cell"
            )
        asked = uuid.uuid4().hex
        # where the cell is when it asks, not where it is when the page has answered
        self._asked[asked] = place.absolute(), set(self._views)
        self.send({"kind": "draw", "as": kind, "id": asked})
        return place

    def _drawn(self, view: str, message: Message, buffers: Sequence[Any]) -> None:
        """The first view that has a picture gives it; an error is that none has one."""
        place, views = self._asked[message["id"]]
        why = message.get("why")
        if why is not None:
            views.discard(view)
            if views:
                return
        del self._asked[message["id"]]
        if why is not None:
            raise GrulensError(f"{place.name} was not saved: {why}")
        place.write_bytes(bytes(buffers[0]))

    def _send_file(self, view: str, word: str) -> None:
        with self.lock:
            name, text = self._files[word]()
        self.send({"kind": "file", "view": view, "name": name}, buffers=[text.encode()])

    def on_settled(self, callback: Callable[[], object]) -> None:
        """Call `callback()` when a page saw changes, and then none for a second or two."""
        self._settled.append(callback)

    def _is_answered(self, event: Message) -> bool:
        """Whether a callback answers: a mere change of size is no success that clears an error."""
        if event["kind"] == "MessageSent":
            return True
        model = self.document.models.get_by_id(event["model"]["id"]) if "model" in event else None
        return model is not None and bool(model._callbacks.get(event.get("attr", "")))

    # ------------------------------------------------------------------ errors

    def show_error(self, error: Exception) -> None:
        """Show an error in every view, its name first and the traceback one click away."""
        trace = valid("".join(traceback.format_exception(error)))
        self._error = {"kind": "error", "title": title_of(error), "traceback": trace}
        self.send(self._error)

    def clear_error(self) -> None:
        """Take the error away, if there is one."""
        if self._error is not None:
            self._error = None
            self.send({"kind": "error", "title": "", "traceback": ""})

    # ------------------------------------------------------------------ life and representation

    def open(self) -> None:
        """Make the widget known to the page; a closed one comes back in its present state."""
        if self._closed:
            self._closed, self._model_id = False, None
            self.set_trait("layout", ipywidgets.Layout())
        for root in self._roots:
            self.document.add_root(root)
        super().open()

    def close(self) -> None:
        """Remove every view and let the models go; calling it again does nothing."""
        if self.comm is None:
            return
        self._closed = True
        super().close()
        self.layout.close()
        with self.lock:
            self._views.clear()
            self._roots = self.document.roots
            self.document.clear()
        forget(self)
        # ipywidgets puts None before the method: a closed view could not be shown again
        self.__dict__.pop("_repr_mimebundle_", None)

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.comm is None:
            self.open()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {"text/plain": repr(self), "text/html": self._html(), WIDGET_VIEW: view}, {}

    def _ipython_display_(self) -> None:
        self._still.show(self._repr_mimebundle_()[0])

    def _html(self) -> str:
        if self._draw is not None:
            try:
                with self.lock:
                    return self._draw()
            except Exception as error:
                # a picture that cannot be drawn must not take the live view with it
                self.show_error(error)
        return f"<p>{html.escape(repr(self))}: run the cell to see it live.</p>"

    def __repr__(self) -> str:
        if self._text is not None:
            return self._text()
        count = len(self.document.roots or self._roots)
        return f"BokehView({so_many(count, 'root')})"
