"""Layers that are there and cannot be opened: other kinds, and those that run as no module."""

from __future__ import annotations

import torch
from torch import fx, nn

from grulens.models.adapters.keras import another_keras_kind, why_keras_closed

OTHERS = {"LSTM": "which has other gates", "RNN": "which has no gates"}
CALLS = {
    "GRU": ("aten::gru", "aten.gru"),
    "LSTM": ("aten::lstm", "aten.lstm"),
    "RNN": ("aten::rnn_", "aten.rnn_"),
}
"""By kind, how torch calls the operation in scripts and in exported graphs."""


def why_closed(module: nn.Module) -> str | None:
    """Why no GRU can be watched in this module itself, and what to do; None if nothing hinders.

    >>> why_closed(nn.GRU(2, 3)) is None
    True
    """
    if isinstance(module, nn.DataParallel) and len(module.device_ids) > 1:
        return (
            f"an nn.DataParallel over {len(module.device_ids)} devices, which runs copies of the "
            "model in threads of their own: use the model in it, `.module`"
        )
    if _plain(module) or not _is("GRU", module):
        return why_keras_closed(module)
    if isinstance(module, torch.jit.ScriptModule):
        return (
            "a scripted GRU, whose code no longer runs in Python: use the model as it was "
            "before torch.jit.script or torch.jit.trace"
        )
    if isinstance(module, fx.GraphModule):
        return (
            "an exported graph, in which the GRU is an operation and no module: use the model "
            "as it was before torch.export"
        )
    return "a quantized GRU, whose weights are integers: use the float model it was made from"


def another_kind(module: nn.Module) -> str | None:
    """Which recurrent layer this module is that is no GRU, or None.

    >>> another_kind(nn.LSTMCell(2, 3))
    'an LSTM, which has other gates: grulens opens GRUs'
    """
    if not _plain(module) or isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        for kind, gates in OTHERS.items():
            if isinstance(module, (getattr(nn, kind), getattr(nn, f"{kind}Cell"))):
                return f"an {kind}, {gates}: grulens opens GRUs"
            if _is(kind, module):
                form = (
                    "a scripted" if isinstance(module, torch.jit.ScriptModule)
                    else "a quantized" if _quantized(module) else "an exported graph of an"
                )  # fmt: skip
                return f"{form} {kind}, {gates}: grulens opens GRUs"
    return another_keras_kind(module)


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
