"""The public names: what stands at the top of grulens, and what stands in it by subject."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import grulens

SUBJECTS: tuple[ModuleType, ...] = (
    grulens.adapters, grulens.corpus, grulens.credit, grulens.dynamics, grulens.memory,
    grulens.phrases,
)  # fmt: skip
#: For each public name the module that has it.
HOME: dict[str, ModuleType] = {
    name: home
    for home in (grulens, *SUBJECTS)
    for name in home.__all__
    if getattr(grulens, name, None) not in SUBJECTS
}


def public(name: str) -> Any:
    """What a public name stands for."""
    return getattr(HOME[name], name)
