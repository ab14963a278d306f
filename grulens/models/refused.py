"""GRUs that are there and cannot be opened: their code runs no more as a module in this thread."""

from __future__ import annotations

import torch
from torch import fx, nn


def why_closed(module: nn.Module) -> str | None:
    """Why no GRU can be watched in this module itself, and what to do; None if nothing hinders.

    >>> why_closed(nn.GRU(2, 3)) is None
    True
    """
    if isinstance(module, torch.jit.ScriptModule):
        if getattr(module, "original_name", "") in ("GRU", "GRUCell") or _calls_gru(module):
            return (
                "a scripted GRU, whose code no longer runs in Python: use the model as it was "
                "before torch.jit.script or torch.jit.trace"
            )
        return None
    if isinstance(module, fx.GraphModule):
        if any("aten.gru" in str(node.target) for node in module.graph.nodes):
            return (
                "an exported graph, in which the GRU is an operation and no module: use the model "
                "as it was before torch.export"
            )
        return None
    kind = type(module)
    if kind.__module__.startswith("torch.ao.") and kind.__name__ in ("GRU", "GRUCell"):
        return "a quantized GRU, whose weights are integers: use the float model it was made from"
    if isinstance(module, nn.DataParallel) and len(module.device_ids) > 1:
        return (
            f"an nn.DataParallel over {len(module.device_ids)} devices, which runs copies of the "
            "model in threads of their own: use the model in it, `.module`"
        )
    return None


def _calls_gru(module: torch.jit.ScriptModule) -> bool:
    """Whether its own forward does, not that of a module in it: a frozen model has only the one."""
    try:
        return "aten::gru" in str(module.graph)
    except (AttributeError, RuntimeError):  # it has no forward, or several
        return False
