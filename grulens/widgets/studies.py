"""What a lens can look into further, one thing at a time.

look into [memory] [motion] [credit] [phrases]
── the one that is open ─────────────────────────────────────────────────────────

Each is a screen of its own and costs time: it is made when it is first opened, and sleeps while it
is not seen.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import traitlets as tl
from torch import nn

from grulens.widgets.session.panel import Panel, choice, row
from grulens.widgets.session.session import Session

#: By name: the module and class of the screen, and what it answers.
KINDS: Final = {
    "memory": (
        "memory.screen",
        "GateMemory",
        "which steps a state was written at, and for how long",
    ),
    "motion": (
        "dynamics.portrait",
        "PhasePortrait",
        "where the network stands still, and what moves",
    ),
    "credit": ("credit.screen", "CreditBars", "which steps an answer is owed to; the logit lens"),
    "phrases": ("phrases.tree", "PhraseTree", "what parts of the input do together"),
}
NONE: Final = "nothing"


class Studies(Panel):
    """Further screens on a session.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`.

    Attributes:
        shown: which one is open: "nothing", or a name of `KINDS`.
        opened: the screens made so far, by name.

    >>> import torch
    >>> studies = Studies(nn.GRU(3, 4, batch_first=True), torch.randn(1, 6, 3))
    >>> studies.shown = "memory"
    >>> studies.opened["memory"]
    GateMemory(GRU, l0, 0 of 0 edits on)
    """

    shown = tl.Enum((NONE, *KINDS), NONE)

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        self.opened: dict[str, Panel] = {}
        words = [NONE, *KINDS]
        tips = ["only the gates, the edits and the units", *(tip for _, _, tip in KINDS.values())]
        label, self._choice = choice("look into", [(word, word) for word in words], tips)
        tl.link((self, "shown"), (self._choice, "value"))
        self._head = row(label, self._choice)
        self.observe(self.callbacks.guard(lambda _: self._on_shown()), "shown")
        self.fill(self._head)

    def still(self) -> str:
        """The open screen's picture, nothing where none is open."""
        open_ = self.opened.get(self.shown)
        return "" if open_ is None else open_.still()

    def settled(self, seconds: float = 30.0) -> str:
        """The open screen's picture once it has computed; it is waited for so many seconds."""
        open_: Any = self.opened.get(self.shown)
        if open_ is not None:
            open_.wait(seconds)
        return self.still()

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
        module, kind, _ = KINDS[name]
        panel: Panel = getattr(import_module(f"grulens.widgets.{module}"), kind)(self.session)
        panel.join()
        self.opened[name] = panel
        self.fill(self._head, *self.opened.values())
        return panel
