"""The layer as a dynamical system: where it stands still, and what is near there.

`find_fixed_points` finds the states that do not move (of an observed cell at a step that
`observed_step` takes out of a run), `jacobian` has the derivatives of a step
(`jacobian_at` those of a step of a recorded run, of observed cells too),
`lyapunov` says whether neighbouring runs diverge, `trajectories` where states go under a constant
input and `unstable_directions` which way they leave a state, `portrait` puts states into their
principal components; `PhasePortrait` shows all of it on one screen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grulens.cells.dynamics.fixed_points import FixedPoints, find_fixed_points
from grulens.cells.dynamics.jacobian import Jacobian, jacobian
from grulens.cells.dynamics.lyapunov import Lyapunov, lyapunov
from grulens.lazy import lazy
from grulens.probing.dynamics.motion import trajectories, unstable_directions
from grulens.probing.dynamics.observed_step import ObservedStep, observed_step
from grulens.probing.dynamics.portrait import Portrait, portrait
from grulens.probing.dynamics.recorded import jacobian_at, lyapunov_along

__all__ = [
    "FixedPoints",
    "Jacobian",
    "Lyapunov",
    "ObservedStep",
    "PhasePortrait",
    "Portrait",
    "find_fixed_points",
    "jacobian",
    "jacobian_at",
    "lyapunov",
    "lyapunov_along",
    "observed_step",
    "portrait",
    "trajectories",
    "unstable_directions",
]

if TYPE_CHECKING:
    from grulens.widgets.dynamics.portrait import PhasePortrait
else:
    __getattr__, __dir__ = lazy(
        __name__, __all__, {"PhasePortrait": "grulens.widgets.dynamics.portrait"}
    )
