"""The states of a run in a plane, where the network stands still, and where it goes from anywhere.

plane [PC 1 × PC 2 ▾]  colour [step ▾]  input [zero ▾]   ☐ how every point moves
[find fixed points] ▓▓▓░░  slow points [none ▾]  27 fixed points, 8 stable
point [0: stable, 12 steps ▾]  [exponents]  [clear]
┌ states of rnn.l0 ───────────────────┐   ┌ eigenvalues ┐
│        ●····○····●                  │   │      ○      │
└─────────────────────────────────────┘   └─────────────┘
"""

from __future__ import annotations

from html import escape
from typing import Any, Final

import ipywidgets as W
import numpy as np
import torch
from torch import Tensor, nn

from grulens.cells.dynamics.fixed_points import FixedPoints
from grulens.cells.dynamics.lyapunov import lyapunov
from grulens.durations import steps
from grulens.job import Job
from grulens.models.recording import LayerRecording
from grulens.probing.dynamics.motion import trajectories, unstable_directions
from grulens.probing.dynamics.portrait import Plane
from grulens.views.dynamics.exponents import Exponents
from grulens.views.dynamics.phase_portrait import PhasePlot
from grulens.views.dynamics.spectrum import Spectrum
from grulens.views.still import lens as still
from grulens.views.still.portrait import portrait as picture_of
from grulens.widgets.dynamics.colors import choices, coloured
from grulens.widgets.dynamics.search import search
from grulens.widgets.dynamics.space import PhaseSpace
from grulens.widgets.dynamics.words import STEPS, journey, modes, parting, progress, status
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.session.controls import button, row
from grulens.widgets.session.job_button import JobButton
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.session import Session
from grulens.widgets.session.unavailable import needs_weights
from grulens.words import message, say

SLOW: Final = {
    message("none"): 0.0, message("below 1e-4"): 1e-4, message("below 1e-3"): 1e-3,
    message("below 1e-2"): 1e-2,
}  # fmt: skip
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

    >>> from grulens.dynamics import PhasePortrait
    >>> screen = PhasePortrait(nn.GRU(3, 4, batch_first=True), torch.randn(1, 9, 3))
    >>> screen.find.click()
    >>> screen.wait(60.0)
    True
    """

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        session, guard = self.session, self.callbacks.guard

        # controls
        self.plane = W.Dropdown(
            description=say("plane"), options=[("PC 1 × PC 2", (0, 1))], **_AUTO
        )
        self.color = W.Dropdown(description=say("colour"), options=[(say("step"), "step")], **_AUTO)
        self.still_input = W.Dropdown(
            description=say("input"), value="zero",
            options=[(say("zero"), "zero"), (say("its mean"), "mean"),
                     (say("that of the step"), "step")],
            **_AUTO,
        )  # fmt: skip
        self.field = W.Checkbox(
            description=say("how every point moves"), indent=False, layout=W.Layout(width="auto")
        )
        self._searching: JobButton[FixedPoints] = JobButton(
            self,
            text=message("find fixed points"),
            tip=say("search from states of this run, in the background"),
            noun="start",
            work=self._search,
            show=self._show_search,
        )
        self.find = self._searching.button
        self._status = W.HTML()
        self.slow = W.Dropdown(
            description=say("slow points"),
            options=[(say(name), below) for name, below in SLOW.items()], **_AUTO,
        )  # fmt: skip
        # by itself, ipywidgets chooses nothing where the value of the first is None
        self.point = W.Dropdown(
            description=say("point"), options=[(say("none"), None)], index=0, **_AUTO
        )
        self.measure = button(
            say("exponents"),
            say("whether neighbouring trajectories part or come together, along this run"),
            guard(self._on_measure),
        )  # fmt: skip
        self._parting = W.HTML(layout=W.Layout(flex="1 1 200px", width="auto"))
        self._measuring = self.callbacks.background(self._measure)
        self.clear = button(
            say("clear"), say("take the started trajectory away"), guard(self._on_clear)
        )
        self._about = W.HTML()
        self._space = PhaseSpace(session, lambda: self.found)

        # layout
        self._plot, self._spectrum, self._exponents = PhasePlot(), Spectrum(), Exponents()
        # before the view: a document hears only the events that its figures had when they came
        self._plot.on_tap(
            lambda place: setattr(self.point, "value", place), self._on_state, self._on_place
        )
        self.picture = BokehView(self._plot.root, lock=session.lock, retire=False)
        aside_figures = (self._spectrum.root, self._exponents.root)
        self.modes = BokehView(*aside_figures, lock=session.lock, retire=False)
        # as wide as their figures, so that they can stand beside each other
        self.picture.layout.width, self.modes.layout.width = "590px", "235px"
        self.picture.layout.max_width = "100%"
        self._words = W.HTML(layout=W.Layout(flex="1 1 200px", width="auto"))
        # beside the plane, under each other; under it, beside each other
        aside = row(self.modes, self._words, self._parting)
        aside.layout.flex, aside.layout.width = "1 1 230px", "auto"
        seen = row(self.picture, aside)
        seen.layout.align_items = "flex-start"
        self._closed = W.HTML(layout=W.Layout(display="none"))
        # what asks the cell itself where it goes
        self._asking = (
            row(self.find, self._searching.bar, self.slow, self._status),
            row(self.point, self.measure, self.clear, self._about),
        )
        self.fill(
            row(self.plane, self.color, self.still_input, self.field),
            *self._asking, self._closed, seen,
        )  # fmt: skip
        self.settles_with(self.picture)

        # both ways
        for control in (self.plane, self.field):
            control.observe(guard(lambda _: self._show_all()), "value")
        self.color.observe(guard(lambda _: self._show_states()), "value")
        self.still_input.observe(guard(lambda _: self._on_asked()), "value")
        self.slow.observe(guard(lambda _: self._show_points()), "value")
        self.point.observe(guard(lambda _: self._on_point()), "value")
        self.follow(self._on_layer, "baseline", "layer")
        self.follow(self._on_run, "edited", "row", "units", "space")
        self.follow(self._on_step, "step")
        self.follow(self._forget_exponents, "baseline", "layer", "row")
        self._on_layer()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is searched or measured; whether that was reached in time."""
        return self._searching.wait(timeout) and self._measuring.wait(timeout)

    @property
    def found(self) -> FixedPoints | None:
        """The `FixedPoints` of the last search, None before the first."""
        return self._searching.job.result

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        if not self._space.there:
            return super().still()
        plane = self._plane
        places, ways = self._space.places(plane)
        points = self._space.project(plane, self.session.now)
        title = say("states of {layer}", layer=self.session.layer)
        axes = self._space.axes(self.plane.value)
        found = self.found
        kinds = () if found is None else found.kinds
        return still.compose(
            picture_of(points, places, ways.tolist(), kinds=kinds, axes=axes, title=title)
        )

    # what a change does

    def _on_layer(self) -> None:
        self._searching.clear()
        why = needs_weights(
            self.session, message("fixed points, exponents and motion from other states")
        )
        self._closed.value = f'<span role="status">{escape(why)}</span>'
        self._closed.layout.display = None if why else "none"
        for part in (self.still_input, self.field, *self._asking):
            part.layout.display = "none" if why else None
        self.field.value = self.field.value and not why
        self._space.renew()
        _keep(self.plane, self._space.pairs())
        self._searching.show()
        self._on_run()

    def _on_run(self) -> None:
        colors = choices(self.session)
        _keep(self.color, colors)
        self._show_all()

    def _on_asked(self) -> None:
        """Another input has other fixed points."""
        self._searching.clear()
        self._searching.show()
        self._show_all()

    def _on_step(self) -> None:
        if self.still_input.value == "step" and self._closed.layout.display:
            self._on_asked()
        if self._space.there:
            with self.picture.batch():
                self._show_here()

    def _search(self, job: Job[FixedPoints]) -> None:
        layer, x = self.session.before, self._x
        search(job, layer.cell, layer.state[layer.mask], x)

    def _show_search(self) -> None:
        found = self.found
        percent = self._searching.percent if self._searching.job.running else None
        self._status.value = progress(found, percent)
        if percent is not None:
            return
        options: list[tuple[str, int | None]] = [(say("none"), None)]
        if found is not None:
            lasts = found.time_constants.amax(1).tolist()
            options += [
                (f"{i}: {say(kind)}{say(', ')}{steps(last, message('for ever'))}", i)
                for i, (kind, last) in enumerate(zip(found.kinds, lasts, strict=True))
            ]
        if list(self.point.options) != options:
            # none of them is chosen, and the page is told so: for it, 0 would just stay 0
            self.point.index = None
            self.point.options = options
            self.point.index = 0
        if self._space.there:
            self._show_points()

    def _on_point(self) -> None:
        found, index = self.found, self.point.value
        if found is None or index is None:
            self._words.value, self._spectrum.root.visible = "", False
        else:
            values = found.eigenvalues[index]
            marginal = found.marginal[index]
            self._spectrum.update(
                values.numpy(), marginal.numpy(), say("spectrum of point {n}", n=index)
            )
            self._words.value = modes(index, values, marginal)
        self._show_all()

    def _on_state(self, place: int, step: int) -> None:
        session = self.session
        with session.hold_trait_notifications():
            session.row = place
            session.step = step

    def _on_place(self, x: float, y: float) -> None:
        if self._closed.layout.display is None:
            return  # as stands over the plane
        plane, found = self._plane, self.found
        start = plane.lift(torch.tensor([[x, y]]))
        path = trajectories(self.session.before.cell, start, STEPS, x=self._x)[0]
        with self.picture.batch():
            self._plot.trail(plane.project(path).numpy())
        self._about.value = journey(path, found, self.point.value)

    def _on_measure(self, _: Any) -> None:
        self._parting.value = status(say("measuring the exponents …"))
        layer, place = self.session.before, self.session.row
        self._measuring.later((layer, place))

    def _measure(self, request: tuple[LayerRecording, int]) -> None:
        layer, place = request
        valid = layer.mask[place]
        with torch.no_grad():
            x, h = layer.x[place][valid].cpu(), layer.state_prev[place][valid].cpu()
            cell = layer.cell.over(lambda weight: weight.detach().cpu())
            if layer.segments[0].reverse:
                x, h = x.flip(0), h.flip(0)
            found = lyapunov(cell, x, h[0])
        with self.modes.batch():
            if self.session.before is layer and self.session.row == place:
                title = say("Lyapunov exponents · row {row}", row=place)
                self._exponents.update(found.exponents.numpy(), found.band.numpy(), title)
                self._parting.value = parting(found)

    def _forget_exponents(self) -> None:
        """They are of another run."""
        nothing = np.zeros(0)
        self._exponents.update(nothing, nothing)
        self._parting.value = ""

    def _on_clear(self, _: Any) -> None:
        self._about.value = ""
        with self.picture.batch():
            self._plot.trail(np.zeros((0, 2)))

    # what is shown

    @property
    def _plane(self) -> Plane:
        return self._space.plane(self.plane.value, self.point.value)

    @property
    def _x(self) -> Tensor | None:
        return self._space.x(self.still_input.value)

    def _show_all(self) -> None:
        if not self._space.there:
            return
        with self.picture.batch():
            self._show_states()
            self._show_points()
            self._show_here()

    def _show_states(self) -> None:
        session, space, plane = self.session, self._space, self._plane
        values, colors, ends, measure = coloured(session, self.color.value)
        edited = session.edited is not session.baseline
        with self.picture.batch():
            self._plot.states(
                space.project(plane, session.now), values, colors=colors, ends=ends,
                measure=measure, tokens=session.token_rows or None,
                before=space.project(plane, session.before) if edited else None,
                axes=space.axes(self.plane.value),
                title=say("states of {layer}", layer=session.layer),
            )  # fmt: skip

    def _show_points(self) -> None:
        plane, found, index = self._plane, self.found, self.point.value
        places, ways = self._space.places(plane)
        nothing, slow = np.zeros(0), None
        if found is not None and self.slow.value:
            slow = plane.project(found.slow(self.slow.value)).numpy()
        with self.picture.batch():
            self._plot.points(
                places, ways, kinds=() if found is None else found.kinds,
                residual=nothing if found is None else found.residual.numpy(),
                slowest=nothing if found is None else found.time_constants.amax(1).numpy(),
                slow=slow,
            )  # fmt: skip
            if found is None or index is None:
                self._plot.choose(None)
            else:
                count = int(found.unstable_dims[index])
                grows = unstable_directions(found.cell, found.states[index], x=self._x, count=count)
                out = grows @ plane.axes.T
                self._plot.choose((float(places[index][0]), float(places[index][1])), out.numpy())
            self._show_field()

    def _show_field(self) -> None:
        if not self.field.value:
            self._plot.field(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))
            return
        grid = self._plot.grid()
        moves, aside = self._plane.field(
            self.session.before.cell, torch.from_numpy(grid), self._x
        )  # fmt: skip
        self._plot.field(grid, moves.numpy(), aside.numpy())

    def _show_here(self) -> None:
        session = self.session
        if session.step >= session.steps:
            self._plot.here(None)
            return
        x, y = self._plane.project(session.now.state[session.row, session.step]).tolist()
        self._plot.here((x, y))


def _keep(choice: W.Dropdown, options: list[tuple[str, Any]]) -> None:
    """Give a dropdown other options; its value stays if it is among them."""
    if list(choice.options) == options:
        return
    value = choice.value
    choice.options = options
    values = [option for _, option in options]
    choice.value = value if value in values else values[0]
