"""Where the memory comes from: what each state is made of and depends on, how long units keep it.

memory [attention | gradient | timescales]
weigh toward [no class: mean over units ▾]   state after step [17]
half of the state after step 17 was written within the last 3 steps; 4.1 % is h_0
┌ states by the steps they were written at ┐     or     ┌ saturation ┐ ┌ histograms ┐
└ one state: tokens, bars, share of h_0    ┘            └ half-life of every unit    ┘
"""

from __future__ import annotations

from typing import Any

import traitlets as tl
from ipywidgets import link
from torch import nn

from grulens.widgets.memory.attention import AttentionView
from grulens.widgets.memory.flow import FlowView
from grulens.widgets.memory.timescales import TimescalesView
from grulens.widgets.session.controls import choice, row
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.session import Session
from grulens.words import say


class GateMemory(Panel):
    """Gate attention, the flow of gradients, and the time scales of the gates.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`.

    Attributes:
        view: "attention", "gradient" or "timescales".
        attention: which past the states are made of, and the controls of that.
        gradient: which past the states still depend on, and the controls of that.
        timescales: half-lives, saturation and histograms, and the controls of that.

    >>> import torch
    >>> from grulens.memory import GateMemory
    >>> screen = GateMemory(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> screen.view = "timescales"
    >>> screen.timescales.found
    Timescales('l0', 4 units, 6 steps)
    """

    view: Any = tl.Enum(("attention", "gradient", "timescales"), "attention")

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        session = self.session

        # controls
        word, self._view = choice(
            say("memory"),
            [(say("attention"), "attention"), (say("gradient"), "gradient"),
             (say("timescales"), "timescales")],
            [say("which past each state is made of"),
             say("which past each state still depends on"),
             say("how long each unit holds its state")],
        )  # fmt: skip
        link((self, "view"), (self._view, "value"))

        # layout
        self.attention = AttentionView(session, self.callbacks)
        self.gradient = FlowView(session, self.callbacks)
        self.timescales = TimescalesView(session, self.callbacks, self.settles_with)
        self._views: dict[str, Any] = {
            "attention": self.attention, "gradient": self.gradient, "timescales": self.timescales,
        }  # fmt: skip
        self.fill(row(word, self._view), *(view.box for view in self._views.values()))

        for view in (self.attention, self.gradient):
            self.settles_with(view.picture)
        self.follow(self._on_run, "edited", "baseline", "layer", "row")
        self.follow(self._on_space, "space")
        self.follow(self._on_units, "units")
        self.follow(self._on_step, "step")
        self._on_run()
        self._show()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being computed; whether that was reached in time."""
        done: bool = self._shown_view.wait(timeout)
        return done

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        return str(self._shown_view.still() or super().still())

    # what a change does

    @property
    def _shown_view(self) -> Any:
        return self._views[self.view]

    @tl.observe("view")
    def _on_view(self, _: Any) -> None:
        if hasattr(self, "_views"):
            self._show()
            self.callbacks.guard(self._shown_view.refresh)()

    def _show(self) -> None:
        for view in self._views.values():
            view.box.layout.display = None if view is self._shown_view else "none"

    def _on_run(self) -> None:
        self._shown_view.refresh()

    def _on_space(self) -> None:
        if self.view == "timescales":
            self.timescales.refresh()

    def _on_units(self) -> None:
        # attention is a mean over the selected units; time scales only mark them
        if self.view == "attention":
            self.attention.refresh()
        elif self.view == "timescales":
            self.timescales.mark()

    def _on_step(self) -> None:
        if self.view != "timescales":
            self._shown_view.mark()
