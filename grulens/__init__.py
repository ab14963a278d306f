"""grulens opens the gates of any PyTorch GRU, LSTM or RNN inside a notebook.

The names that everybody needs stand here; the others stand by subject in `memory`, `dynamics`,
`credit`, `phrases`, `corpus` and `adapters`, and nothing else is public. Screens are loaded when
they are first asked for, so that analysis code never pays for bokeh, ipywidgets or IPython.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grulens import adapters, corpus, credit, dynamics, errors, memory, phrases
from grulens.cells.kinds.gru import Cell
from grulens.lazy import lazy
from grulens.models.instrument.editing import editing, recording
from grulens.models.layers import layers
from grulens.models.record import record
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.comparison.compare import Comparison, compare
from grulens.probing.edits.edit import Edit, ablate, clamp, patch, scale, shift
from grulens.probing.units.close_up import CloseUp, close_up
from grulens.probing.units.sweep import Sweep, sweep
from grulens.probing.units.trace import Trace, trace_patch
from grulens.words import language

__version__ = "0.1.0"

__all__ = [
    "AblationToggles",
    "Cell",
    "CellPage",
    "CellView",
    "CloseUp",
    "CompareView",
    "Comparison",
    "Edit",
    "GateSliders",
    "LayerRecording",
    "Lens",
    "NeuronTable",
    "Recording",
    "Session",
    "Sweep",
    "Trace",
    "ablate",
    "adapters",
    "clamp",
    "close_up",
    "compare",
    "corpus",
    "credit",
    "dynamics",
    "editing",
    "errors",
    "language",
    "layers",
    "load_ipython_extension",
    "memory",
    "patch",
    "phrases",
    "plot",
    "record",
    "recording",
    "scale",
    "shift",
    "sweep",
    "trace_patch",
    "unload_ipython_extension",
]

if TYPE_CHECKING:
    from grulens.ipython import load_ipython_extension, unload_ipython_extension
    from grulens.widgets.comparison.compare_view import CompareView
    from grulens.widgets.edits.toggles import AblationToggles
    from grulens.widgets.gates.sliders import GateSliders
    from grulens.widgets.lens import Lens
    from grulens.widgets.plot.plot import plot
    from grulens.widgets.session.session import Session
    from grulens.widgets.units.cell_page import CellPage
    from grulens.widgets.units.cell_view import CellView
    from grulens.widgets.units.table import NeuronTable
else:
    __getattr__, __dir__ = lazy(
        __name__,
        [*__all__, "__version__"],
        {
            "AblationToggles": "grulens.widgets.edits.toggles",
            "CellPage": "grulens.widgets.units.cell_page",
            "CellView": "grulens.widgets.units.cell_view",
            "CompareView": "grulens.widgets.comparison.compare_view",
            "GateSliders": "grulens.widgets.gates.sliders",
            "Lens": "grulens.widgets.lens",
            "NeuronTable": "grulens.widgets.units.table",
            "Session": "grulens.widgets.session.session",
            "load_ipython_extension": "grulens.ipython",
            "plot": "grulens.widgets.plot.plot",
            "unload_ipython_extension": "grulens.ipython",
        },
        subjects=(adapters, corpus, credit, dynamics, memory, phrases),
    )
