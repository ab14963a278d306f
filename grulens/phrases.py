"""What phrases contribute, by themselves and together.

`contextual_decomposition` splits every state into what a phrase made and the rest, `interactions`
tells what two phrases do together, `agglomerate` grows a tree of phrases from single tokens;
`PhraseTree` is the screen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grulens.lazy import lazy
from grulens.probing.phrases.agglomerate import Hierarchy, agglomerate
from grulens.probing.phrases.decomposition import Decomposition, contextual_decomposition
from grulens.probing.phrases.interactions import Interactions, interactions

__all__ = [
    "Decomposition",
    "Hierarchy",
    "Interactions",
    "PhraseTree",
    "agglomerate",
    "contextual_decomposition",
    "interactions",
]

if TYPE_CHECKING:
    from grulens.widgets.phrases.tree import PhraseTree
else:
    __getattr__, __dir__ = lazy(__name__, __all__, {"PhraseTree": "grulens.widgets.phrases.tree"})
