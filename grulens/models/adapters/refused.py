"""Layers that are there and cannot be opened: those that run as no module of Python's."""

from __future__ import annotations

import torch
from torch import fx, nn

from grulens.models.adapters.keras import why_keras_closed

CALLS = {
    "GRU": ("aten::gru", "aten.gru"),
    "LSTM": ("aten::lstm", "aten.lstm"),
    "RNN": ("aten::rnn_", "aten.rnn_"),
}
"""By kind, how torch calls the operation in scripts and in exported graphs."""


def why_closed(module: nn.Module) -> str | None:
    """Why no layer can be watched in this module itself, and what to do; None if nothing hinders.

    >>> why_closed(nn.GRU(2, 3)) is None
    True
    """
    if isinstance(module, nn.DataParallel) and len(module.device_ids) > 1:
        return (
            f"an nn.DataParallel over {len(module.device_ids)} devices, which runs copies of the "
            "model in threads of their own: use the model in it, `.module`"
        )
    if _plain(module):
        if getattr(module, "proj_size", 0):
            return (
                f"an LSTM with projections (proj_size={module.proj_size}), whose output is no "
                "state of its units: use proj_size=0 and an nn.Linear behind it"
            )
        return why_keras_closed(module)
    kind = next((kind for kind in CALLS if _is(kind, module)), None)
    if kind is None:
        return why_keras_closed(module)
    if isinstance(module, torch.jit.ScriptModule):
        return (
            f"a scripted {kind}, whose code no longer runs in Python: use the model as it was "
            "before torch.jit.script or torch.jit.trace"
        )
    if isinstance(module, fx.GraphModule):
        return (
            f"an exported graph, in which the {kind} is an operation and no module: use the model "
            "as it was before torch.export"
        )
    return f"a quantized {kind}, whose weights are integers: use the float model it was made from"


def _plain(module: nn.Module) -> bool:
    """Whether its code runs in Python, module by module."""
    closed = (torch.jit.ScriptModule, fx.GraphModule)
    return not (isinstance(module, closed) or _quantized(module))


def _is(kind: str, module: nn.Module) -> bool:
    """Whether a module that is not plain is of a kind."""
    names = (kind, f"{kind}Cell")
    if isinstance(module, torch.jit.ScriptModule):
        return getattr(module, "original_name", "") in names or _calls(CALLS[kind][0], module)
    if isinstance(module, fx.GraphModule):
        return any(CALLS[kind][1] in str(node.target) for node in module.graph.nodes)
    return type(module).__name__ in names


def _quantized(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.ao.")


def _calls(operation: str, module: torch.jit.ScriptModule) -> bool:
    """Whether its own forward does, not that of a module in it: a frozen model has only the one."""
    try:
        return operation in str(module.graph)
    except (AttributeError, RuntimeError):  # it has no forward, or several
        return False
