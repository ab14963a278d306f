"""What a lens can look into further, one thing at a time.

look into [cell] [compare] [memory] [motion] [credit] [phrases] [corpus]
── the one that is open ─────────────────────────────────────────────────────────

Each is a screen of its own and costs time: it is made when it is first opened, and sleeps while it
is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import traitlets as tl
from torch import nn

from grulens.errors import GrulensError, shown
from grulens.widgets.session.controls import choice, row
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.session import Session
from grulens.words import message, say

NONE: Final = message("nothing")


@dataclass(frozen=True)
class Study:
    """A screen that a lens offers.

    Attributes:
        screen: its class, made with the session alone; or "module:Class", which is loaded when it
            is first opened.
        tip: what it answers.
    """

    screen: Any
    tip: str

    def load(self) -> type[Panel]:
        """The class of the screen.

        Raises:
            GrulensError: what is found under its name is no screen.
        """
        found: Any = self.screen
        if isinstance(found, str):
            module, _, name = found.partition(":")
            found = getattr(import_module(module), name)
        if not isinstance(found, type) or not issubclass(found, Panel):
            raise GrulensError(f"a study must be a class of screens (Panel), got {shown(found)}")
        return found


STUDIES: Final[dict[str, Study]] = {}
"""By the name on its button, in the order in which a lens offers them."""


def register_study(name: Any, screen: Any, tip: str) -> None:
    """Let every lens that is made from now on offer a study.

    Args:
        name: what its button says.
        screen: the class, or "module:Class".
        tip: what it answers, in a few words.

    Raises:
        GrulensError: there is a study of that name; or it is no name, or no class of screens.

    >>> register_study("memory", "grulens.widgets.memory.screen:GateMemory", "another")
    Traceback (most recent call last):
        ...
    grulens.errors.GrulensError: there is a study called 'memory' already
    """
    if not isinstance(name, str) or not name.strip():
        raise GrulensError(f"the name of a study must be a text, got {shown(name)}")
    if name in (NONE, *STUDIES):
        raise GrulensError(f"there is a study called {name!r} already")
    study = Study(screen, tip)
    if not isinstance(screen, str):
        study.load()
    elif not all(part.isidentifier() for part in screen.replace(":", ".", 1).split(".")):
        raise GrulensError(f'a study must be a class or "module:Class", got {shown(screen)}')
    STUDIES[name] = study


_SCREENS: Final = "grulens.widgets"
register_study(message("cell"), f"{_SCREENS}.units.cell_view:CellView",
               message("what adds up to the gates of one unit at one step"))  # fmt: skip
register_study(message("compare"), f"{_SCREENS}.comparison.compare_view:CompareView",
               message("two rows, texts, checkpoints, or with and without the edits"))  # fmt: skip
register_study(message("memory"), f"{_SCREENS}.memory.screen:GateMemory",
               message("which steps a state was written at, and for how long"))  # fmt: skip
register_study(message("motion"), f"{_SCREENS}.dynamics.portrait:PhasePortrait",
               message("where the network stands still, and what moves"))  # fmt: skip
register_study(message("credit"), f"{_SCREENS}.credit.screen:CreditBars",
               message("which steps an answer is owed to; the logit lens"))  # fmt: skip
register_study(message("phrases"), f"{_SCREENS}.phrases.tree:PhraseTree",
               message("what parts of the input do together"))  # fmt: skip
register_study(message("corpus"), f"{_SCREENS}.corpus.study:CorpusStudy",
               message("what units encode over a scanned corpus; where else they are on"),
)  # fmt: skip


class Studies(Panel):
    """Further screens on a session.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`.

    Attributes:
        shown: which one is open: "nothing", or a name in `STUDIES`.
        opened: the screens made so far, by name.

    >>> import torch
    >>> studies = Studies(nn.GRU(3, 4, batch_first=True), torch.randn(1, 6, 3))
    >>> studies.shown = "memory"
    >>> studies.opened["memory"]
    GateMemory(GRU, l0, 0 of 0 edits on)
    """

    shown = tl.Unicode(NONE)

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        self.opened: dict[str, Panel] = {}
        self._studies = dict(STUDIES)
        words = [NONE, *self._studies]
        tips = [say("only the gates, the edits and the units")]
        tips += [say(study.tip) for study in self._studies.values()]
        label, self._choice = choice(say("look into"), [(say(word), word) for word in words], tips)
        tl.link((self, "shown"), (self._choice, "value"))
        self._head = row(label, self._choice)
        self.observe(self.callbacks.guard(lambda _: self._on_shown()), "shown")
        self.fill(self._head)

    def still(self) -> str:
        """The open screen's picture, nothing where none is open."""
        open_ = self.opened.get(self.shown)
        return "" if open_ is None else open_.still()

    def settled(self, seconds: float = 30.0) -> str:
        """The open screen's picture once it has computed; it is waited for so many seconds.

        Nothing where a screen has no picture, but its name alone.
        """
        open_: Any = self.opened.get(self.shown)
        if open_ is None:
            return ""
        open_.wait(seconds)
        picture = self.still()
        return "" if picture == Panel.still(open_) else picture

    @tl.validate("shown")
    def _valid_shown(self, proposal: Any) -> str:
        name: str = proposal["value"]
        if name not in (known := (NONE, *getattr(self, "_studies", ()))):
            raise tl.TraitError(f"shown must be one of {', '.join(known)}, got {shown(name)}")
        return name

    # what a change does

    def _on_shown(self) -> None:
        for name, panel in self.opened.items():
            if name != self.shown:
                panel.layout.display = "none"
                panel.sleep()
        if self.shown == NONE:
            return
        panel = self.opened.get(self.shown) or self._make(self.shown)
        panel.layout.display = None
        panel.wake()

    def _make(self, name: str) -> Panel:
        panel = self._studies[name].load()(self.session)
        panel.join()
        self.opened[name] = panel
        self.fill(self._head, *self.opened.values())
        return panel
