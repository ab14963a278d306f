"""The states of a run in a plane, where the network stands still, and where it goes from anywhere.

plane [PC 1 × PC 2 ▾]  colour [step ▾]  input [zero ▾]   ☐ how every point moves
[find fixed points] ▓▓▓░░  slow points [none ▾]  27 fixed points, 8 stable
point [0: stable, 12 steps ▾]  [clear]
┌ states of rnn.l0 ───────────────────┐   ┌ eigenvalues ┐
│        ●····○····●                  │   │      ○      │
└─────────────────────────────────────┘   └─────────────┘
"""

from __future__ import annotations

import threading
from typing import Any, Final

import ipywidgets as W
import numpy as np
import torch
from torch import Tensor, nn

from grulens.probing.portrait import Plane, Portrait, growing, portrait, run
from grulens.views import still
from grulens.views.phase_portrait import PhasePlot
from grulens.views.spectrum import Spectrum
from grulens.views.still_portrait import portrait as picture_of
from grulens.widgets.bokeh_view import BokehView
from grulens.widgets.latest import Latest
from grulens.widgets.panel import Panel, button, row
from grulens.widgets.phase_colors import choices, coloured
from grulens.widgets.phase_words import STEPS, journey, modes, progress
from grulens.widgets.search import Search
from grulens.widgets.session import Session

FIND, STOP = "find fixed points", "stop"
SLOW: Final = {"none": 0.0, "below 1e-4": 1e-4, "below 1e-3": 1e-3, "below 1e-2": 1e-2}
_AUTO: Final[dict[str, Any]] = {
    "style": {"description_width": "auto"}, "layout": {"width": "auto"},
}  # fmt: skip


class PhasePortrait(Panel):
    """The layer shown as a dynamical system.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`.

    Attributes:
        plane: which two principal components are shown.
        color: what colours the states.
        still_input: the input under which the network stands still or moves.
        point: the fixed point looked at, None for none.

    >>> from grulens import PhasePortrait
    >>> screen = PhasePortrait(nn.GRU(3, 4, batch_first=True), torch.randn(1, 9, 3))
    >>> screen.find.click()
    >>> screen.wait(60.0)
    True
    """

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        session, guard = self.session, self.guard

        # controls
        self.plane = W.Dropdown(description="plane", options=[("PC 1 × PC 2", (0, 1))], **_AUTO)
        self.color = W.Dropdown(description="colour", options=[("step", "step")], **_AUTO)
        self.still_input = W.Dropdown(
            description="input", value="zero",
            options=[("zero", "zero"), ("its mean", "mean"), ("that of the step", "step")], **_AUTO,
        )  # fmt: skip
        self.field = W.Checkbox(
            description="how every point moves", indent=False, layout=W.Layout(width="auto")
        )
        self.find = button(
            FIND, "search from states of this run, in the background", guard(self._on_find)
        )
        self._bar = W.IntProgress(layout=W.Layout(width="120px", display="none"))
        self._said = W.HTML()
        self.slow = W.Dropdown(description="slow points", options=list(SLOW.items()), **_AUTO)
        self.point = W.Dropdown(description="point", options=[("none", None)], **_AUTO)
        self.clear = button("clear", "take the started trajectory away", guard(self._on_clear))
        self._about = W.HTML()
        self._search = Search()
        self._searching: Latest[threading.Event] = Latest(
            self._run_search, self.show_error, self.clear_error
        )

        # layout
        self._plot, self._spectrum = PhasePlot(), Spectrum()
        self.picture = BokehView(self._plot.root, lock=session.lock, retire=False)
        self.modes = BokehView(self._spectrum.root, lock=session.lock, retire=False)
        for view in (self.picture, self.modes):
            view.layout.width = "auto"
        self._words = W.HTML(layout=W.Layout(width="230px"))
        aside = W.VBox([self.modes, self._words])
        self.fill(
            row(self.plane, self.color, self.still_input, self.field),
            row(self.find, self._bar, self.slow, self._said),
            row(self.point, self.clear, self._about),
            row(self.picture, aside),
        )
        self.settles_with(self.picture)

        # both ways
        self._plot.on_tap(
            lambda place: setattr(self.point, "value", place), self._on_state, self._on_place
        )
        for control in (self.plane, self.field):
            control.observe(guard(lambda _: self._show_all()), "value")
        self.color.observe(guard(lambda _: self._show_states()), "value")
        self.still_input.observe(guard(lambda _: self._on_asked()), "value")
        self.slow.observe(guard(lambda _: self._show_points()), "value")
        self.point.observe(guard(lambda _: self._on_point()), "value")
        self.follow(self._on_layer, "baseline", "layer")
        self.follow(self._on_run, "edited", "row", "units")
        self.follow(self._on_step, "step")
        self._on_layer()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no search runs; whether that was reached in time."""
        return self._searching.wait(timeout)

    @property
    def found(self) -> Any:
        """The `FixedPoints` of the last search, None before the first."""
        return self._search.found

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        shown = self._shown
        if shown is None:
            return super().still()
        plane, _ = shown
        places, ways = self._places(plane)
        return still.compose(
            picture_of(
                self._project(self.session.now.h), places, ways.tolist(), axes=self._axes(),
                title=f"states of {self.session.layer}",
            )
        )  # fmt: skip

    def close(self) -> None:
        """Search no further, and close the panel."""
        if hasattr(self, "_search"):  # a panel that could not be made is closed too
            self._search.stop()
        super().close()

    # what a change does

    def _on_layer(self) -> None:
        self._search.clear()
        self._portrait: Portrait | None = None
        self._portrait = portrait(self.session.before)
        count = len(self._portrait.axes)
        pairs = [(i, j) for i, j in ((0, 1), (0, 2), (1, 2)) if j < count]
        _keep(self.plane, [(f"PC {i + 1} × PC {j + 1}", (i, j)) for i, j in pairs])
        self._show_search()
        self._on_run()

    def _on_run(self) -> None:
        colors = choices(self.session)
        _keep(self.color, colors)
        self._show_all()

    def _on_asked(self) -> None:
        """Another input has other fixed points."""
        self._search.clear()
        self._show_search()
        self._show_all()

    def _on_step(self) -> None:
        if self.still_input.value == "step":
            self._on_asked()
        with self.picture.batch():
            self._show_here()

    def _on_find(self, _: Any) -> None:
        if self._search.running:
            self._search.stop()
            return
        job = self._search.begin()
        self._show_search()
        self._searching.later(job)

    def _run_search(self, job: threading.Event) -> None:
        layer, x = self.session.before, self._x
        states = layer.h[layer.mask]
        self._search.run(job, layer.cell, states, x, self._show_search)

    def _show_search(self) -> None:
        search = self._search
        self.find.description, self.find.icon = (STOP, "stop") if search.running else (FIND, "")
        self._bar.max, self._bar.value = max(1, search.total), search.done
        self._bar.layout.display = None if search.running else "none"
        self._said.value = progress(search)
        if search.running:
            return
        options: list[tuple[str, int | None]] = [("none", None)]
        if search.found is not None:
            ways = search.found.unstable_dims.tolist()
            lasts = search.found.time_constants.amax(1).tolist()
            options += [
                (f"{i}: {f'unstable in {n}' if n else 'stable'}, {steps:.3g} steps", i)
                for i, (n, steps) in enumerate(zip(ways, lasts, strict=True))
            ]
        _keep(self.point, options)
        self._show_points()

    def _on_point(self) -> None:
        found, index = self._search.found, self.point.value
        if found is None or index is None:
            self._words.value, self._spectrum.root.visible = "", False
        else:
            values = found.eigenvalues[index]
            self._spectrum.update(values.numpy(), f"spectrum of point {index}")
            self._words.value = modes(index, values)
        self._show_all()

    def _on_state(self, place: int, step: int) -> None:
        session = self.session
        with session.hold_trait_notifications():
            session.row = place
            session.step = step

    def _on_place(self, x: float, y: float) -> None:
        shown = self._shown
        if shown is None:
            return
        plane, cell = shown
        start = plane.lift(torch.tensor([[x, y]]))
        path = run(cell, start, STEPS, self._x)[0]
        with self.picture.batch():
            self._plot.trail(plane.project(path).numpy())
        self._about.value = journey(path, self._search.found, self.point.value)

    def _on_clear(self, _: Any) -> None:
        self._about.value = ""
        with self.picture.batch():
            self._plot.trail(np.zeros((0, 2)))

    # what is shown

    @property
    def _shown(self) -> tuple[Plane, Any] | None:
        """The plane shown, through the chosen point, and the cell; None where there is none."""
        if self._portrait is None:
            return None
        found, index = self._search.found, self.point.value
        through = None if found is None or index is None else found.states[index]
        first, second = self.plane.value
        return self._portrait.plane(first, second, through=through), self.session.before.cell

    @property
    def _x(self) -> Tensor | None:
        layer, session = self.session.before, self.session
        if self.still_input.value == "mean":
            mean: Tensor = layer.x.detach()[layer.mask].mean(0)
            return mean
        if self.still_input.value == "step":
            one: Tensor = layer.x.detach()[session.row, min(session.step, session.steps - 1)]
            return one
        return None

    def _axes(self) -> tuple[str, str]:
        if self._portrait is None:
            return "", ""
        first, second = (
            f"PC {i + 1} ({float(self._portrait.explained[i]):.0%} of the variance)"
            for i in self.plane.value
        )
        return first, second

    def _project(self, h: Tensor) -> np.ndarray:
        """States of this layer in the plane (row, time, 2), NaN on padding."""
        shown = self._shown
        if shown is None:
            return np.zeros((0, 0, 2))
        points = shown[0].project(h)
        points[~self.session.before.mask.cpu()] = torch.nan
        return points.numpy()

    def _places(self, plane: Plane) -> tuple[np.ndarray, np.ndarray]:
        found = self._search.found
        if found is None:
            return np.zeros((0, 2)), np.zeros(0, int)
        return plane.project(found.states).numpy(), found.unstable_dims.numpy()

    def _show_all(self) -> None:
        with self.picture.batch():
            self._show_states()
            self._show_points()
            self._show_here()

    def _show_states(self) -> None:
        session = self.session
        points = self._project(session.now.h)
        values, colors, ends, measure = coloured(session, self.color.value)
        edited = session.edited is not session.baseline
        with self.picture.batch():
            self._plot.states(
                points, values, colors=colors, ends=ends, measure=measure,
                tokens=session.token_rows or None, axes=self._axes(),
                before=self._project(session.before.h) if edited else None,
                title=f"states of {session.layer}",
            )  # fmt: skip

    def _show_points(self) -> None:
        shown, found = self._shown, self._search.found
        if shown is None:
            return
        plane, cell = shown
        places, ways = self._places(plane)
        index = self.point.value
        with self.picture.batch():
            nothing, slow = np.zeros(0), None
            if found is not None and self.slow.value:
                slow = plane.project(found.slow(self.slow.value)).numpy()
            self._plot.points(
                places, ways,
                residual=nothing if found is None else found.residual.numpy(),
                slowest=nothing if found is None else found.time_constants.amax(1).numpy(),
                slow=slow,
            )  # fmt: skip
            if found is None or index is None:
                self._plot.choose(None)
            else:
                ways_out = growing(cell, found.states[index], self._x) @ plane.axes.T
                x, y = places[index]
                self._plot.choose((float(x), float(y)), ways_out.numpy())
            grid = self._plot.grid() if self.field.value else np.zeros((0, 2))
            moves, aside = np.zeros((0, 2)), np.zeros(0)
            if len(grid):
                moved, out = plane.field(cell, torch.from_numpy(grid), self._x)
                moves, aside = moved.numpy(), out.numpy()
            self._plot.field(grid, moves, aside)

    def _show_here(self) -> None:
        session, shown = self.session, self._shown
        if shown is None or session.step >= session.steps:
            self._plot.here(None)
            return
        x, y = shown[0].project(session.now.h[session.row, session.step]).tolist()
        self._plot.here((x, y))


def _keep(choice: W.Dropdown, options: list[tuple[str, Any]]) -> None:
    """Give a dropdown other options; its value stays if it is among them."""
    if list(choice.options) == options:
        return
    value = choice.value
    choice.options = options
    values = [option for _, option in options]
    choice.value = value if value in values else values[0]
