"""%load_ext grulens: the magic, its completion, and small summaries of GRUs in a notebook.

Unloading takes everything back: the shell is as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from IPython.core.error import TryNext, UsageError
from torch import nn

from grulens.errors import GrulensError
from grulens.magics import VIEWS, GrulensMagics, lookup, models_in
from grulens.models.find import layers
from grulens.models.summary import html_table

OPTIONS = ("--layer", "--tokens", "--view", "--as")
COMMANDS = ("%grulens", "%%grulens")
_loaded: dict[int, Callable[[], None]] = {}


def load_ipython_extension(shell: Any) -> None:
    """Register the magic, its completion and the summaries; a second time does nothing."""
    if id(shell) in _loaded:
        return
    undo = [_magic(shell), _completion(shell)]
    undo += [_summary(shell, kind) for kind in (nn.GRU, nn.GRUCell)]

    def unload() -> None:
        for step in reversed(undo):
            step()

    _loaded[id(shell)] = unload


def unload_ipython_extension(shell: Any) -> None:
    """Take back what `load_ipython_extension` registered."""
    unload = _loaded.pop(id(shell), None)
    if unload is not None:
        unload()


def complete(shell: Any, line: str, symbol: str) -> list[str]:
    """What can follow in a %grulens line.

    Args:
        shell: the IPython shell.
        line: the text so far.
        symbol: the word under the cursor.
    """
    words = line.split()[1:]
    before = words[:-1] if symbol and words and words[-1] == symbol else words
    last = before[-1] if before else ""
    models = models_in(shell.user_ns)
    if last == "--view":
        return list(VIEWS)
    if last == "--layer":
        try:
            return [layer.name for layer in layers(lookup(before[0], shell.user_ns))]
        except (GrulensError, UsageError):
            return []
    if symbol.startswith("-"):
        return list(OPTIONS)
    if not before:
        return [*models]
    return [*OPTIONS] if not symbol else []


def gru_html(module: nn.GRU | nn.GRUCell) -> str:
    """A GRU module as a small table.

    >>> gru_html(nn.GRU(3, 4)).count("<tr>")
    2
    """
    found = layers(module)
    count = sum(parameter.numel() for parameter in module.parameters())
    rows = [(layer.name, layer.input_size, layer.hidden_size, layer.direction) for layer in found]
    kind = "GRUCell" if isinstance(module, nn.GRUCell) else "GRU"
    caption = f"{kind} · {count:,} parameters · {found[0].convention}"
    return html_table(("layer", "input", "hidden", "direction"), rows, caption)


def _magic(shell: Any) -> Callable[[], None]:
    manager = shell.magics_manager
    kept = {kind: dict(table) for kind, table in manager.magics.items()}
    registry = dict(manager.registry)
    magics = GrulensMagics(shell)
    shell.register_magics(magics)

    def undo() -> None:
        shell.configurables.remove(magics)  # where each Magics adds itself
        for kind, table in manager.magics.items():
            table.pop("grulens", None)
            if "grulens" in kept[kind]:
                table["grulens"] = kept[kind]["grulens"]
        name = GrulensMagics.__name__
        manager.registry.pop(name, None)
        if name in registry:
            manager.registry[name] = registry[name]

    return undo


def _completion(shell: Any) -> Callable[[], None]:
    def answer(_: Any, event: Any) -> list[str]:
        found = [w for w in complete(shell, event.line, event.symbol) if w.startswith(event.symbol)]
        if not found:
            raise TryNext
        return found

    for command in COMMANDS:
        shell.set_hook("complete_command", answer, str_key=command)

    def undo() -> None:
        # IPython has no way to take a hook back
        table = shell.strdispatchers["complete_command"].strs
        for command in COMMANDS:
            chain = table[command].chain
            chain[:] = [entry for entry in chain if entry[1].__func__ is not answer]
            if not chain:
                del table[command]

    return undo


def _summary(shell: Any, kind: type[nn.Module]) -> Callable[[], None]:
    formatter = shell.display_formatter.formatters["text/html"]
    before = formatter.for_type(kind, gru_html)

    def undo() -> None:
        formatter.pop(kind, None)
        if before is not None:
            formatter.for_type(kind, before)

    return undo
