"""Modules that look like a GRU and are not known: named, with the lines that register them.

A GRU can be told from its weights, and from a forward that takes a state. Its convention cannot,
so it is not believed: the comparison with what the module computes finds it.
"""

from __future__ import annotations

import inspect
import re

import torch
from torch import nn

from grulens.models.adapters.gru_shaped import gru_shaped

STATE = re.compile(
    r"^(h|hx|hs|h_?0|h_?prev|prev.*|h_?t?m?1|h_?last|last_?h.*|hid|hidden.*|.*_hidden|state.*"
    r"|.*_state|init.*|carry|s_?prev)$"
)


def how_to_register(module: nn.Module) -> str | None:
    """What to say, after its name, about a module that looks like a GRU, or None.

    >>> class Mine(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.x2h, self.h2h = nn.Linear(2, 9), nn.Linear(3, 9)
    ...     def forward(self, x, hidden): ...
    >>> print(how_to_register(Mine()))
    (Mine) looks like a GRU of 3 units: it has weights of 3 x 3 rows and a forward that takes a \
state. If it is one, say so:
        from grulens import Cell
        from grulens.adapters import StepAdapter, register
        cell = lambda m: Cell(m.x2h.weight, m.h2h.weight, m.x2h.bias, m.h2h.bias)
        register(Mine, StepAdapter(cell))
    with its rows in the order r, z, n; SequenceAdapter, if it takes whole sequences. What you say \
is compared with what it computes.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return None  # it has no forward that could be looked at
    takes = _takes(module)
    states = [name for name in takes if STATE.match(name.lower())]
    if len(takes) < 2 or not states:
        return None
    text = _source(module)
    joined = re.search(r"(?:cat|concat|hstack)\(\s*[\[(]\s*([\w.]+)", text)
    found = gru_shaped(
        module,
        from_right=_from_right(text),
        state_first=joined is not None and joined.group(1) in states,
    )
    if found is None:
        return None
    kind = type(module).__name__
    adapter, name = _adapter(takes, text)
    lines = ["from grulens import Cell", f"from grulens.adapters import {name}, register"]
    lines += found.lines
    lines.append(f"register({kind}, {adapter})")
    if any("torch." in line for line in found.lines):
        lines.insert(0, "import torch")
    other = "SequenceAdapter, if it takes whole sequences"
    if name == "SequenceAdapter":
        other = "StepAdapter, if it is called step by step"
    return (
        f"({kind}) looks like a GRU of {found.units} units: it has {found.words} and a forward "
        "that takes a state. If it is one, say so:\n"
        + "".join(f"    {line}\n" for line in lines)
        + f"with its rows in the order r, z, n; {other}. What you say is compared with what it "
        "computes."
    )


def _from_right(text: str) -> bool | None:
    """Whether the code multiplies by parameters from the right; None if it does not tell."""
    right = re.search(r"@\s*self\.|mm\(|matmul\(", text) is not None
    left = re.search(r"\blinear\b|self\.[\w.\[\]]+\s*@|\.t\(\)|\.T\b", text) is not None
    return None if right == left else right


def _adapter(takes: tuple[str, ...], text: str) -> tuple[str, str]:
    """The code of the adapter that its arguments ask for, and which one it is."""
    name, options = "StepAdapter", ["cell"]
    if re.search(r"^\s+for\b", text, re.MULTILINE):
        name = "SequenceAdapter"
        if not re.search(rf"\b{takes[0]}\[:,|unbind\((dim=)?1\)|transpose\(0, 1\)", text):
            options.append("batch_first=False")
    if STATE.match(takes[0].lower()) and not STATE.match(takes[1].lower()):
        state, x = takes[:2]
        options.append(f"arguments=lambda m, {state}, {x}: ({x}, {state})")
    return f"{name}({', '.join(options)})", name


def _takes(module: nn.Module) -> tuple[str, ...]:
    """The names of what its forward takes; every module of a model is asked, so no signature."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return () if code is None else code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]


def _source(module: nn.Module) -> str:
    """The text of its forward; empty where nobody has it."""
    try:
        return inspect.getsource(inspect.unwrap(type(module).forward))
    except (OSError, TypeError):
        return ""
