"""grulens opens the gates of any PyTorch GRU inside a notebook.

What is named here is the public interface, and nothing else; the widgets are loaded when they are
first asked for, so that analysis code never pays for bokeh, ipywidgets or IPython.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from grulens import errors
from grulens.cells.dynamics.fixed_points import FixedPoints, find_fixed_points
from grulens.cells.dynamics.jacobian import Jacobian, jacobian
from grulens.cells.dynamics.lyapunov import Lyapunov, lyapunov
from grulens.cells.gru import Cell
from grulens.models.adapters.adapter import SequenceAdapter, StepAdapter
from grulens.models.adapters.register import register
from grulens.models.adapters.stack import GRUStack
from grulens.models.instrument.editing import editing, recording
from grulens.models.layers import layers
from grulens.models.record import record
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.credit.credit import Credit
from grulens.probing.credit.gradients import input_x_gradient, integrated_gradients
from grulens.probing.credit.lensed import LogitLens
from grulens.probing.credit.logit_lens import logit_lens
from grulens.probing.credit.relevance import layerwise_relevance
from grulens.probing.dynamics.portrait import Portrait, portrait
from grulens.probing.edits.edit import Edit
from grulens.probing.edits.five import ablate, clamp, patch, scale, shift
from grulens.probing.memory.attention import GateAttention, attention
from grulens.probing.memory.flow import GradientFlow, gradient_flow
from grulens.probing.memory.timescales import Timescales, timescales
from grulens.probing.phrases.agglomerate import agglomerate
from grulens.probing.phrases.decomposed import Decomposition
from grulens.probing.phrases.decomposition import contextual_credit, contextual_decomposition
from grulens.probing.phrases.hierarchy import Hierarchy
from grulens.probing.phrases.interactions import Interactions, interactions
from grulens.probing.readout.head import Head, head_of
from grulens.probing.units.sweep import sweep
from grulens.probing.units.swept import Sweep
from grulens.probing.units.trace import trace_patch
from grulens.probing.units.traced import Trace

if TYPE_CHECKING:
    from grulens.ipython import load_ipython_extension, unload_ipython_extension
    from grulens.widgets.credit.screen import CreditBars
    from grulens.widgets.dynamics.portrait import PhasePortrait
    from grulens.widgets.edits.toggles import AblationToggles
    from grulens.widgets.gates.sliders import GateSliders
    from grulens.widgets.lens import Lens
    from grulens.widgets.memory.screen import GateMemory
    from grulens.widgets.phrases.tree import PhraseTree
    from grulens.widgets.plot.plot import plot
    from grulens.widgets.session.session import Session
    from grulens.widgets.units.table import NeuronTable

__version__ = "0.1.0"

__all__ = [
    "AblationToggles",
    "Cell",
    "Credit",
    "CreditBars",
    "Decomposition",
    "Edit",
    "FixedPoints",
    "GRUStack",
    "GateAttention",
    "GateMemory",
    "GateSliders",
    "GradientFlow",
    "Head",
    "Hierarchy",
    "Interactions",
    "Jacobian",
    "LayerRecording",
    "Lens",
    "LogitLens",
    "Lyapunov",
    "NeuronTable",
    "PhasePortrait",
    "PhraseTree",
    "Portrait",
    "Recording",
    "SequenceAdapter",
    "Session",
    "StepAdapter",
    "Sweep",
    "Timescales",
    "Trace",
    "ablate",
    "agglomerate",
    "attention",
    "clamp",
    "contextual_credit",
    "contextual_decomposition",
    "editing",
    "errors",
    "find_fixed_points",
    "gradient_flow",
    "head_of",
    "input_x_gradient",
    "integrated_gradients",
    "interactions",
    "jacobian",
    "layers",
    "layerwise_relevance",
    "load_ipython_extension",
    "logit_lens",
    "lyapunov",
    "patch",
    "plot",
    "portrait",
    "record",
    "recording",
    "register",
    "scale",
    "shift",
    "sweep",
    "timescales",
    "trace_patch",
    "unload_ipython_extension",
]

_LAZY = {
    "AblationToggles": "grulens.widgets.edits.toggles",
    "CreditBars": "grulens.widgets.credit.screen",
    "GateMemory": "grulens.widgets.memory.screen",
    "GateSliders": "grulens.widgets.gates.sliders",
    "Lens": "grulens.widgets.lens",
    "NeuronTable": "grulens.widgets.units.table",
    "PhasePortrait": "grulens.widgets.dynamics.portrait",
    "PhraseTree": "grulens.widgets.phrases.tree",
    "plot": "grulens.widgets.plot.plot",
    "Session": "grulens.widgets.session.session",
    "load_ipython_extension": "grulens.ipython",
    "unload_ipython_extension": "grulens.ipython",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'grulens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
