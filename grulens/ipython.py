"""%load_ext grulens: the magic, its completion, and small summaries of recurrent modules.

Unloading takes everything back: the shell is as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)
from IPython.core.error import UsageError
from torch import nn

from grulens.errors import GrulensError
from grulens.magics import NAMES, VIEWS, GrulensMagics, lookup, models_in
from grulens.models.adapters.register import BUILT_IN
from grulens.models.call.invocation import methods
from grulens.models.layers import layers
from grulens.tables import html_table

COMMANDS = ("%grulens", "%%grulens")
OPTIONS = ("--layer", *(f"--{name}" for name in NAMES), "--call", "--view", "--as")
_loaded: dict[int, Callable[[], None]] = {}


def load_ipython_extension(shell: Any) -> None:
    """Register the magic, its completion and the summaries; a second time does nothing."""
    if id(shell) in _loaded:
        return
    undo = [_magic(shell), _completion(shell)]
    undo += [_summary(shell, kind) for kind in BUILT_IN]

    def unload() -> None:
        for step in reversed(undo):
            step()

    _loaded[id(shell)] = unload


def unload_ipython_extension(shell: Any) -> None:
    """Take back what `load_ipython_extension` registered."""
    unload = _loaded.pop(id(shell), None)
    if unload is not None:
        unload()


def complete(line: str, namespace: Mapping[str, Any]) -> list[str]:
    """What can stand at the end of a %grulens line; nothing where IPython knows better.

    Args:
        line: the text up to the cursor.
        namespace: the user's names.

    >>> complete("%grulens net --layer l", {"net": nn.GRU(2, 3, num_layers=2)})
    ['l0', 'l1']
    """
    words, begun = _split(line)
    if not words or words[0] not in COMMANDS:
        return []
    given = [
        word
        for before, word in pairwise(words)
        if before not in OPTIONS and not word.startswith("-")
    ]
    names = [name for name in namespace if not name.startswith("_")]
    found: Iterable[str]
    match words[-1]:
        case "--view":
            found = VIEWS
        case "--layer":
            found = _layer_names(given[:1], namespace)
        case option if option[2:] in NAMES:
            found = names
        case "--call":
            found = _methods(given[:1], namespace)
        case "--as":
            found = ()  # a new name
        case _ if begun.startswith("-"):
            found = OPTIONS
        case _ if not given:
            found = models_in(namespace)
        case _:
            found = (*OPTIONS, *names)
    return [word for word in found if word.startswith(begun)]


def module_html(module: nn.Module) -> str | None:
    """A recurrent module as a small table; None, torch's own text, for one that cannot be opened.

    >>> module_html(nn.GRU(3, 4)).count("<tr>")
    2
    """
    try:
        found = layers(module)
    except GrulensError:
        return None
    if not found:  # a run may show what its states obey; its weights say nothing
        return None
    count = sum(parameter.numel() for parameter in module.parameters())
    rows = [(layer.name, layer.input_size, layer.hidden_size, layer.direction) for layer in found]
    words = (found[0].kind, f"{count:,} parameters", found[0].convention)
    caption = " · ".join(word for word in words if word)
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
    # a matcher, not a "complete_command" hook: IPython mixes what it takes for Python with the
    # answers of hooks, and has no way to take a hook back
    @context_matcher(identifier="grulens")
    def answer(context: CompletionContext) -> SimpleMatcherResult:
        line, hidden = context.text_until_cursor, shell.user_ns_hidden
        shown = {name: value for name, value in shell.user_ns.items() if name not in hidden}
        found = complete(line, shown)
        return SimpleMatcherResult(
            completions=[SimpleCompletion(word) for word in found],
            matched_fragment=_split(line)[1],
            ordered=True,
            suppress=bool(found),
        )

    matchers = shell.Completer.custom_matchers
    matchers.append(answer)
    return lambda: matchers.remove(answer)


def _summary(shell: Any, kind: type[nn.Module]) -> Callable[[], None]:
    formatter = shell.display_formatter.formatters["text/html"]
    before = formatter.for_type(kind, module_html)

    def undo() -> None:
        formatter.pop(kind, None)
        if before is not None:
            formatter.for_type(kind, before)

    return undo


def _split(line: str) -> tuple[list[str], str]:
    """The finished words of a line and the one that is begun; `--view=gates` is two words."""
    *words, begun = re.split(r"[\s=]+", line.lstrip())
    return words, begun


def _layer_names(model: list[str], namespace: Mapping[str, Any]) -> list[str]:
    try:
        return [layer.name for name in model for layer in layers(lookup(name, namespace))]
    except (GrulensError, UsageError):
        return []


def _methods(model: list[str], namespace: Mapping[str, Any]) -> list[str]:
    try:
        return [method for name in model for method in methods(lookup(name, namespace))]
    except UsageError:
        return []
