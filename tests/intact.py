"""What a model is before a watch and must be after it: everything, by identity and bit for bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from grulens.models.instrument.lock import LOCK

HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
)  # fmt: skip


class Intact:
    """A model as it is now.

    Args:
        model: the model.
        but: attributes that a plain run of the model may change, buffers too.
    """

    def __init__(self, model: nn.Module, but: tuple[str, ...] = ()) -> None:
        self.model, self.but = model, but
        with between_runs():
            self.before = self._now()
            self.tensors = {name: t.detach().clone() for name, t in self._tensors().items()}
            self.random = torch.get_rng_state()

    def broken(self, *, random: bool = True) -> list[str]:
        """What is no longer as it was."""
        with between_runs():
            now, tensors = self._now(), self._tensors()
            found = [what for what in now if now[what] != self.before[what]]
            found += [n for n, t in tensors.items() if not torch.equal(t, self.tensors[n])]
            if random and not torch.equal(torch.get_rng_state(), self.random):
                found.append("random numbers")
        if not free_for_others():
            found.append("lock")
        return found

    def _tensors(self) -> dict[str, torch.Tensor]:
        held = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        return {name: t for name, t in held.items() if name not in self.but}

    def _now(self) -> dict[str, Any]:
        model = self.model
        modules = list(model.modules())
        return {
            "hooks": [{name: list(getattr(m, name).items()) for name in HOOKS} for m in modules],
            "attributes": [
                {n: id(v) for n, v in vars(m).items() if n not in self.but} for m in modules
            ],
            "forward": [m.__dict__.get("forward") for m in modules],
            "modes": [m.training for m in modules],
            "parameters": [(id(p), p.requires_grad, id(p.grad)) for p in model.parameters()],
            "grad mode": torch.is_grad_enabled(),
            "threads": torch.get_num_threads(),
        }


@contextmanager
def between_runs() -> Iterator[None]:
    """No screen runs the model in the background meanwhile: in a run it is not as it was.

    A lock that somebody has lost is not waited for: `free_for_others` says so.
    """
    got = LOCK.acquire(timeout=10)
    try:
        yield
    finally:
        if got:
            LOCK.release()


def free_for_others() -> bool:
    """Whether another thread can have the lock that guards every model."""
    if LOCK._is_owned():  # type: ignore[attr-defined]  # by this one: no need to wait and see
        return False
    got: list[bool] = []

    def ask() -> None:
        got.append(LOCK.acquire(timeout=5))
        if got[-1]:
            LOCK.release()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return got[0]
