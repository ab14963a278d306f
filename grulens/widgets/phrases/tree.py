"""Phrases of the input as a tree: which tokens act together on a class, and which way.

class [the likeliest ▾] against [nothing ▾]  join first [what interacts|what scores]  [build] ▓▓░░
┌ boxes of phrases over the tokens ┐
└ the tokens, each alone           ┘
phrase [1: not good −0.90 ▾]   adds −0.90 to "+"; −1.40 of it only as its two parts are together
"""

from __future__ import annotations

from html import escape
from typing import Any

import ipywidgets as W
import traitlets as tl
from torch import nn

from grulens.errors import ReadoutError
from grulens.job import Job, stopped
from grulens.probing.credit.target import FINAL
from grulens.probing.phrases.agglomerate import Hierarchy
from grulens.probing.phrases.merging import Group
from grulens.views.figure.tokens import visible_name
from grulens.views.phrases.phrase import Phrase, as_score, describe, words
from grulens.views.phrases.tree import PhraseBoxes
from grulens.views.still.lens import compose
from grulens.views.still.phrases import phrases
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.phrases.build import NONE, build_tree, step_read
from grulens.widgets.session.class_list import numbered
from grulens.widgets.session.controls import choice, row
from grulens.widgets.session.job_button import JobButton
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.session import Session
from grulens.widgets.session.unavailable import needs_gru, no_head
from grulens.words import message, say, say_n


class PhraseTree(Panel):
    """A tree of the phrases of the row shown, for one class at the step looked at.

    The tree belongs to the model without the session's edits, and to the tokens that reach the
    state at that step.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`.

    Attributes:
        by: what is joined first: what has the largest "interaction", or the largest "score".

    >>> from grulens.phrases import PhraseTree
    >>> from grulens.demo import load
    >>> screen = PhraseTree(load().model, "def f(x):")
    >>> screen.build.click()
    >>> screen.wait(), screen.tree
    (True, Hierarchy('rnn.l0', class ..., 9 tokens, 8 merges))
    """

    by = tl.Enum(("interaction", "score"), "interaction")

    of_edited = False

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        session = self.session
        self._names: list[str] = []
        self._why = ""
        self._showing = False

        # controls
        self.target, self.against = (
            W.Dropdown(
                description=word, style={"description_width": "auto"},
                layout=W.Layout(width="auto", max_width="200px"),
            )
            for word in (say("class"), say("against"))
        )  # fmt: skip
        by, self._by = choice(
            say("join first"),
            [(say("what interacts"), "interaction"), (say("what scores"), "score")],
            [say("neighbours whose being together changes most"),
             say("neighbours that say most together")],
        )  # fmt: skip
        self._choice = by, self._by
        W.link((self, "by"), (self._by, "value"))
        self._building: JobButton[Hierarchy] = JobButton(
            self,
            text=message("build"),
            tip=say("join neighbouring tokens into phrases for this class at the step looked at"),
            noun="phrase",
            work=self._build,
            show=self._show,
        )
        self.build = self._building.button
        self._built = W.HTML()
        self.phrase = W.Dropdown(
            description=say("phrase"), style={"description_width": "auto"},
            layout=W.Layout(width="auto", max_width="420px"),
        )  # fmt: skip
        self._chosen = W.HTML()

        # layout
        self._boxes = PhraseBoxes()
        self.picture = BokehView(self._boxes.root, lock=session.lock, retire=False)
        self._shown = W.VBox([self.picture, row(self.phrase, self._chosen)])
        self.fill(
            row(
                self.target,
                self.against,
                *self._choice,
                self.build,
                self._building.bar,
                self._built,
            ),
            self._shown,
        )

        self.settles_with(self.picture)

        # both ways
        self._boxes.on_phrase(self._choose)
        self._boxes.on_times(lambda times: setattr(session, "times", times))
        self.phrase.observe(self.callbacks.guard(self._on_phrase), "value")
        for control in (self.target, self.against):
            control.observe(self.callbacks.guard(lambda _: self._on_asked()), "value")
        self.observe(self.callbacks.guard(lambda _: self._on_asked()), "by")
        self.follow(self._on_input, "baseline", "layer", "row")
        self.follow(self._on_step, "step")
        self.follow(self._show_built, "edited")
        self.follow(self._on_times, "times")
        self._on_input()

    @property
    def tree(self) -> Hierarchy | None:
        """The tree shown, or None."""
        return self._building.job.result

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no tree is being built; whether that was reached in time."""
        return self._building.wait(timeout)

    def still(self) -> str:
        """The tree, if built, as HTML that needs no kernel and no network."""
        tree = self.tree
        if tree is None:
            return super().still()
        return compose(phrases(tree.groups, tokens=self._tokens(), title=self._title()))

    # what a change does

    def _on_input(self) -> None:
        session = self.session
        self._name_classes(0 if session.unread else session.answer_before.values.shape[1])
        self._on_asked()

    def _on_step(self) -> None:
        if step_read(self.session) != FINAL:
            self._on_asked()

    def _on_asked(self) -> None:
        if not self._showing:
            self._why = ""
            self._building.clear()
            self._building.show()

    def _build(self, job: Job[Hierarchy]) -> None:
        session = self.session
        if session.unread:
            return  # as stands beside the button
        try:
            build_tree(
                session, job, target=self.target.value, against=self.against.value, by=self.by,
                on_classes=self._name_classes,
            )  # fmt: skip
        except ReadoutError as error:
            if not no_head(error):
                raise
            with session.lock:
                if job is self._building.job:
                    self._why = say("No phrases: {why}.", why=error)

    def _show(self) -> None:
        groups = self.tree.groups if self.tree else ()
        with self.picture.batch():
            self._boxes.update(groups, tokens=self._tokens(), title=self._title())
        merges = [group for group in groups if group.order]
        # nothing to see yet needs no place
        self._shown.layout.display = None if merges else "none"
        listed = [(f"{g.order}: {self._words(g)}  {as_score(g.score)}", g.order) for g in merges]
        self._set(self.phrase, [(say("none"), 0), *listed], 0)
        self._show_built()
        self._on_times()

    def _show_built(self) -> None:
        text, tree = "", self.tree
        if self._building.job.running:
            text = say("building, {percent} %", percent=self._building.percent)
        elif tree is not None:
            merges = max(len(tree.tokens) - 1, 1)
            note = stopped(len(tree.merges), merges, "merge", say)
            part = say(", ") + note if note else ""
            edits = say(", of the model without the edits") if self.session.on else ""
            text = say_n("{n} token", "{n} tokens", len(tree.tokens)) + part + edits
        elif none := needs_gru(self.session, message("phrases")):
            text = escape(none)
        elif self.session.unread:
            text = say("No phrases: there is no answer that they could be for.")
        elif self._why:
            text = escape(self._why)
        else:
            text = say(
                "Joins neighbouring tokens into phrases, one pair after another, and says what "
                "each phrase adds to the answer; it can be stopped."
            )
        # what cannot be built is said, and no button of it is left
        closed = bool(needs_gru(self.session, message("phrases")))
        for part in (self.target, self.against, self.build, *self._choice):
            part.layout.display = "none" if closed else None
        self._built.value = f'<span role="status" class="grulens-quiet">{text}</span>'

    def _on_times(self) -> None:
        times, groups = self.session.times, self.tree.groups if self.tree else ()
        with self.picture.batch():
            self._boxes.select(times)
        group = next((group for group in groups if group.tokens == times), None)
        self._set(self.phrase, None, group.order if group else 0)
        text = describe(self._words(group), group, self._class()) if group is not None else ""
        self._chosen.value = f'<span role="status">{escape(text)}</span>'

    def _on_phrase(self, change: Any) -> None:
        if not self._showing:
            groups = self.tree.merges if self.tree else ()
            found = [group.tokens for group in groups if group.order == change["new"]]
            self.session.times = found[0] if found else ()

    def _choose(self, group: Phrase) -> None:
        self.session.times = tuple(range(group.first, group.stop))

    # what things are called

    def _name_classes(self, classes: int) -> None:
        labels = self.session.labels
        named = labels if labels is not None and len(labels) == classes else None
        names = list(map(visible_name, named)) if named else numbered(classes)
        if names == self._names:
            return
        self._names = names
        each = [(name, i) for i, name in enumerate(names)]
        for control, first in (
            (self.target, say("the likeliest")),
            (self.against, say("nothing")),
        ):
            kept = control.value if control.value in range(classes) else NONE
            self._set(control, [(first, NONE), *each], kept)

    def _set(self, control: W.Dropdown, options: Any, value: int) -> None:
        """Set a list's options and value without taking it for a person's choice."""
        before, self._showing = self._showing, True
        try:
            if options is not None and list(control.options) != options:
                control.options = options
            if control.value != value:
                control.value = value
        finally:
            self._showing = before

    def _words(self, group: Group) -> str:
        return words(self._tokens(), group, 30)

    def _class(self) -> str:
        target = self.tree.target if self.tree else 0
        if not isinstance(target, tuple):
            return self._names[target]
        one, other = (self._names[i] for i in target)
        return say("{one} against {other}", one=one, other=other)

    def _tokens(self) -> list[str] | None:
        tokens = self.session.tokens
        return tokens[: len(self.tree.tokens)] if tokens is not None and self.tree else tokens

    def _title(self) -> str:
        if self.tree is None:
            return ""
        step = step_read(self.session)
        given = {"name": self._class(), "layer": self.tree.layer}
        if step == FINAL:
            return say("phrases for {name} at the end · {layer}", **given)
        return say("phrases for {name} at step {step} · {layer}", step=step, **given)
