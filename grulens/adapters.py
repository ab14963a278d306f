"""Models whose layers are not torch's own: say what a class computes, or rebuild it from weights.

`register` says with a `StepAdapter` or a `SequenceAdapter` which cell a class computes, and what
is said is compared with what the class does at every step. `GRUStack` runs cells of any
convention, as read from Keras or ONNX. `activations` has those that torch has no name for, `kinds`
the kinds of cells by name: `kinds.RNN`. A new kind is a `RecurrentCell`, each of its signals a
`Signal`, and those that come out of an activation are made by `activated`.
"""

from grulens.cells import activations, kinds
from grulens.cells.cell import RecurrentCell, activated
from grulens.cells.signal import Signal
from grulens.models.adapters.adapter import SequenceAdapter, StepAdapter
from grulens.models.adapters.register import register
from grulens.models.adapters.stack import GRUStack

__all__ = [
    "GRUStack",
    "RecurrentCell",
    "SequenceAdapter",
    "Signal",
    "StepAdapter",
    "activated",
    "activations",
    "kinds",
    "register",
]
