"""The rows of a batch as a table: picked by their text, their answer, and whether that is right.

find [film      ]  show [all | only wrong]     12 of 5000 rows · 4993 of 5000 answers right
row  text                                  answer  share  truth  right
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Final

import ipywidgets as W
import numpy as np
from torch import nn

from grulens import csv
from grulens.errors import GrulensError, NoAnswerError
from grulens.views.figure.tokens import set_apart, visible_name, visible_text
from grulens.views.units.table import UnitTable
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.session.controls import choice, quiet, row
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.row_answers import RowAnswers, row_answers
from grulens.widgets.session.session import Session
from grulens.words import message, say

#: So many characters of a row's text are shown, and found.
CUT: Final = 240
#: So many rows are seen at once.
SEEN: Final = 8
#: What columns are called in a file, where that is not their own name.
IN_FILES: Final = {"value": "answer", "judged": "right"}
ALL, WRONG, RIGHT = message("all"), message("only wrong"), message("only right")


class RowTable(Panel):
    """The rows of the run shown, of which one is picked.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        pick: called with the row that a person picks; None shows it in the session.
        **options: as `Session`.

    Attributes:
        find: numbers of rows, or a part of their texts, answers or truths.
        show: all, only those whose answer is wrong, or only those whose answer is right.
        picked: the row that is marked.
        answers: the answers of the rows, or None where they have none.

    >>> import torch
    >>> screen = RowTable(nn.GRU(3, 4, batch_first=True), torch.ones(2, 6, 3))
    >>> screen.pick(1)
    >>> screen.session.row
    1
    """

    def __init__(
        self,
        model: nn.Module | Session,
        *args: Any,
        pick: Callable[[int], object] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, *args, **options)
        session = self.session
        self.answers: RowAnswers | None = None
        self._given = pick
        self.picked = session.row
        self._held: dict[str, Any] = {}
        self._columns: dict[str, Any] = {}
        self._rows = np.arange(0)

        # controls
        self.find = W.Text(
            description=say("Find"), placeholder=say("a text, or 3, 8-12"),
            tooltip=say("a part of a row's text, answer or truth; or numbers of rows"),
            continuous_update=True,
            layout=W.Layout(width="220px"), style={"description_width": "auto"},
        )  # fmt: skip
        self._label, self.show = choice(
            say("Show"), [(say(word), word) for word in (ALL, WRONG, RIGHT)],
            [say("all rows"), say("rows whose answer is not the truth"),
             say("rows whose answer is the truth")],
        )  # fmt: skip
        self._count, self._why = W.HTML(), W.HTML()

        # layout
        self._table = UnitTable(rows=SEEN)
        self._table.root.update(name=say("table of rows"), autosize_mode="force_fit")
        self.picture = BokehView(self._table.root, lock=session.lock, retire=False)
        self.picture.offer(say("table as CSV"), lambda: (f"{self.about} rows", self.to_csv()))
        self.fill(row(self.find, self._label, self.show, self._count), self._why, self.picture)
        self.settles_with(self.picture)

        # both ways
        for control in (self.find, self.show):
            control.observe(self.callbacks.guard(lambda _: self._on_filter()), "value")
        self._table.on_units(self.callbacks.guard(self._on_rows))
        self.follow(self._on_run, "edited", "baseline", "layer", "truth")
        if pick is None:
            self.follow(lambda: self.mark(session.row), "row")
        self._on_run()

    def pick(self, number: int) -> None:
        """Pick a row, as a click on it does."""
        if self._given is None:
            self.session.row = number
        else:
            self.session.check_positions("row", (number,))
            self.mark(number)
            self._given(number)

    def mark(self, number: int) -> None:
        """Mark a row as the one that is picked; tells nobody."""
        self.picked = number
        with self.picture.batch():
            self._table.select((number,))

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """The rows that are seen, in the order in which they are, as CSV.

        Texts are whole, and no language's words stand in it but the model's own; a text that a
        spreadsheet would run has an apostrophe before it. The column "run" says whether the answers
        are of the "edited" run or of the "baseline"; "unedited" is what those were without edits.

        Args:
            path: a file to write it to as well, in UTF-8; one that is there is replaced.

        Raises:
            FileError: `path` is no name of a file.
        """
        session, rows = self.session, self._rows[self._table.ordered]
        run = "baseline" if session.edited is session.baseline else "edited"
        texts = {"text": row_texts(session, None)} if "text" in self._held else {}
        named: dict[str, Any] = {"row": rows, "run": [run] * len(rows)}
        for name, values in (self._held | texts).items():
            seen = values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]
            if name == "judged":
                seen = ["" if one is None else str(one) for one in seen]
            named[IN_FILES.get(name, name)] = seen
        return csv.written(csv.text_of(named), path)

    def wait(self, timeout: float | None = None) -> bool:
        """Nothing is computed in the background: it is always there."""
        return True

    # what a change does

    def _on_rows(self, chosen: Sequence[int]) -> None:
        other = [one for one in chosen if one != self.picked]
        if other:
            self.pick(other[-1])
        self.mark(self.picked)  # of none any more, or of several, it is the one that is shown

    def _on_run(self) -> None:
        session = self.session
        why, self.answers = "", None
        plain = None
        edits = session.edited is not session.baseline
        try:
            plain = (
                row_answers(session.answers, session.baseline, session.before) if edits else None
            )
            try:
                self.answers = row_answers(
                    session.answers, session.edited, session.now, session.truth
                )
            except NoAnswerError:
                raise
            except GrulensError as error:  # a layer of other rows than the truth is of
                why = say("No row is said to be right: {error}.", error=error)
                self.answers = row_answers(session.answers, session.edited, session.now)
        except NoAnswerError:
            why = say("There is no answer for each row of this layer, so rows have texts alone.")
        self._held = self._described(plain)
        self._columns = {name: _shown(name, values) for name, values in self._held.items()}
        self._why.value = quiet(why)
        self._why.layout.display = None if why else "none"
        judged = self.answers is not None and self.answers.right is not None
        for control in (self._label, self.show):
            control.layout.display = None if judged else "none"
        if not judged:
            self.show.value = ALL
        if self._given is None:
            self.picked = session.row
        self.picked = min(self.picked, len(session.before.h) - 1)
        self._on_filter()

    def _described(self, plain: RowAnswers | None) -> dict[str, Any]:
        """The columns by name, those that say most first."""
        session, found = self.session, self.answers
        columns: dict[str, Any] = {}
        texts = row_texts(session, CUT)
        if texts is not None:
            columns["text"] = texts
        else:
            columns["steps"] = session.before.mask.sum(1).cpu().numpy()
        if found is None:
            return columns
        if found.is_number:
            columns["value"] = found.values
        else:
            columns["answer"] = found.names
            columns["share" if found.is_share else "largest"] = found.values
        if plain is not None:
            columns["unedited"] = plain.names
        if found.truths is not None:
            columns["truth"] = found.truths
        if found.off is not None:
            columns["off"] = found.off
        if found.right is not None:
            columns["judged"] = found.right
        return columns

    def _on_filter(self) -> None:
        found, total = self.answers, len(self.session.before.h)
        rows = np.arange(total)
        if found is not None and found.right is not None and self.show.value != ALL:
            wanted = self.show.value == RIGHT
            rows = rows[[one is wanted for one in found.right]]
        columns = {
            name: values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]
            for name, values in self._columns.items()
        }
        self._rows = rows
        with self.picture.batch():
            self._table.update(columns, units=rows, noun="row")
            self._table.filter(text=self.find.value)
            self._table.select((self.picked,))
        shown = len(self._table.shown)
        text = say("{shown} of {total} rows", shown=shown, total=total)
        if found is not None and found.right is not None:
            known = [one for one in found.right if one is not None]
            share = f" ({100 * sum(known) / len(known):.0f} %)" if known else ""
            text += " · " + say("{n} of {total} answers right", n=sum(known), total=len(known))
            text += share
        self._count.value = f'<span role="status">{escape(text)}</span>'


def _shown(name: str, values: Any) -> Any:
    """A column as the table shows it."""
    if name == "text":
        return [visible_text(text, CUT).replace("\N{OPEN BOX}", " ") for text in values]
    if name == "judged":
        return ["" if one is None else say("right") if one else say("wrong") for one in values]
    # the name of a class; nothing where there is none
    if name in ("answer", "unedited", "truth"):
        return [visible_name(one, 40) if one else "" for one in values]
    return values


def row_texts(session: Session, most: int | None) -> list[str] | None:
    """The text of each row; None where steps have no names.

    Args:
        session: whose rows they are.
        most: so many tokens are enough; None is all.
    """
    names = session.token_rows
    if not names:
        return None
    mask = session.before.mask.cpu().numpy()
    return [
        joined([token for token, there in zip(tokens[:most], held, strict=False) if there])
        for tokens, held in zip(names, mask, strict=True)
    ]


def joined(tokens: Sequence[str]) -> str:
    """Tokens as one text: letters stand close, words apart.

    >>> joined(["not", "bad"]), joined([*"ab"]), joined(["1", "10", "2"])
    ('not bad', 'ab', '1 10 2')
    """
    return (" " if set_apart(tokens) else "").join(tokens)
