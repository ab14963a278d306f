"""What a state remembers: the past candidates in it, how long they last, what is still felt.

`attention` says what a state is made of, `timescales` how long its units hold what they have,
`gradient_flow` how much an earlier state still matters; `GateMemory` is all three as one screen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grulens.lazy import lazy
from grulens.probing.memory.attention import GateAttention, attention
from grulens.probing.memory.flow import GradientFlow, gradient_flow
from grulens.probing.memory.timescales import Timescales, timescales

__all__ = [
    "GateAttention",
    "GateMemory",
    "GradientFlow",
    "Timescales",
    "attention",
    "gradient_flow",
    "timescales",
]

if TYPE_CHECKING:
    from grulens.widgets.memory.screen import GateMemory
else:
    __getattr__, __dir__ = lazy(__name__, __all__, {"GateMemory": "grulens.widgets.memory.screen"})
