"""Which inputs made the answer: numbers for the steps that add up to the score.

`integrated_gradients`, `input_x_gradient`, `contextual_credit` and `layerwise_relevance` give a
`Credit`; `logit_lens` reads every state as the last one is read, with the layer that `head_of`
finds; `CreditBars` is the screen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grulens.lazy import lazy
from grulens.probing.credit.credit import Credit
from grulens.probing.credit.gradients import input_x_gradient, integrated_gradients
from grulens.probing.credit.logit_lens import LogitLens, logit_lens
from grulens.probing.credit.relevance import layerwise_relevance
from grulens.probing.phrases.credit import contextual_credit
from grulens.probing.readout.head import Head, head_of

__all__ = [
    "Credit",
    "CreditBars",
    "Head",
    "LogitLens",
    "contextual_credit",
    "head_of",
    "input_x_gradient",
    "integrated_gradients",
    "layerwise_relevance",
    "logit_lens",
]

if TYPE_CHECKING:
    from grulens.widgets.credit.screen import CreditBars
else:
    __getattr__, __dir__ = lazy(__name__, __all__, {"CreditBars": "grulens.widgets.credit.screen"})
