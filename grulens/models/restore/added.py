"""What grulens puts into a user's modules for a while: taken out again, and in no copy of them.

A module that is pickled, saved or copied meanwhile is the one that the user made: `copyreg` asks us
for the state of its class, and what was added is left out of it.
"""

from __future__ import annotations

import copyreg
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

_MISSING = object()
_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called",
)  # fmt: skip

_hooks: set[int] = set()
_classes: Counter[type[nn.Module]] = Counter()
_reducers: dict[type[nn.Module], Callable[[Any], Any] | None] = {}


@dataclass(eq=False)
class _Put:
    module: nn.Module
    name: str
    value: object
    before: object


_put: dict[int, _Put] = {}


def put(module: nn.Module, name: str, value: object) -> Callable[[], None]:
    """Set an attribute of a module itself; what comes back takes it out again.

    Whoever has wrapped the value meanwhile keeps the wrapper, which then wraps what was there.
    """
    held = vars(module)
    _put[id(value)] = _Put(module, name, value, held.get(name, _MISSING))
    held[name] = value
    _meet(type(module))
    return lambda: _take(value)


def own(module: nn.Module, name: str) -> Any:
    """What a module itself has under a name, or had before something was put there; else None."""
    for put_ in _put.values():
        if put_.module is module and put_.name == name:
            return None if put_.before is _MISSING else put_.before
    return vars(module).get(name)


def hook(module: nn.Module, handle: RemovableHandle) -> Callable[[], None]:
    """Note a hook that was registered with a module; what comes back removes it."""
    _hooks.add(handle.id)
    _meet(type(module))

    def remove() -> None:
        handle.remove()
        _hooks.discard(handle.id)
        _leave(type(module))

    return remove


def of_others(hooks: Iterable[int]) -> tuple[int, ...]:
    """Of hooks, by their ids, those that were not noted here: the user's own."""
    return tuple(one for one in hooks if one not in _hooks)


def _take(value: object) -> None:
    gone = _put.pop(id(value), None)
    if gone is None:
        return
    held = vars(gone.module)
    if held.get(gone.name) is value:
        if gone.before is _MISSING:
            del held[gone.name]
        else:
            held[gone.name] = gone.before
    for other in _put.values():
        if other.before is value:  # blocks may end in another order than they began
            other.before = gone.before
    _leave(type(gone.module))


def _meet(kind: type[nn.Module]) -> None:
    _classes[kind] += 1
    if _classes[kind] == 1:
        _reducers[kind] = copyreg.dispatch_table.get(kind)
        copyreg.dispatch_table[kind] = _reduce


def _leave(kind: type[nn.Module]) -> None:
    _classes[kind] -= 1
    if _classes[kind]:
        return
    del _classes[kind]
    earlier = _reducers.pop(kind)
    if copyreg.dispatch_table.get(kind) is not _reduce:
        return  # somebody has put another one in its place meanwhile
    if earlier is None:
        del copyreg.dispatch_table[kind]
    else:
        copyreg.dispatch_table[kind] = earlier


def _reduce(module: nn.Module) -> Any:
    earlier = _reducers.get(type(module))
    made = module.__reduce_ex__(4) if earlier is None else earlier(module)
    if not isinstance(made, tuple) or len(made) < 3 or not isinstance(made[2], dict):
        return made
    return (*made[:2], _plain(made[2]), *made[3:])


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    plain = {}
    for name, value in state.items():
        found = value
        while (held := _put.get(id(found))) is not None and held.value is found:
            found = held.before
        if found is not _MISSING:
            plain[name] = found
    for name in _HOOKS:
        if plain.get(name):
            kept = type(plain[name])()
            kept.update({key: one for key, one in plain[name].items() if key not in _hooks})
            plain[name] = kept
    return plain
