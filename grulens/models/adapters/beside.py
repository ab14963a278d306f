"""A module that is run beside its cells, to be compared with them where they are to stand for it.

What torch wrote needs no comparison. Anything else is compared in every call: what it returns for
its own arguments, at every step; and where an edited run leads elsewhere, each step once more from
there.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from grulens.errors import AdapterError, NotComparedWarning
from grulens.models.adapters.adapter import Adapter
from grulens.models.adapters.comparison import Comparison, steps_of
from grulens.models.call.call import Call, Cells, Key, Run
from grulens.models.restore.interrupts import grads
from grulens.models.restore.parametrized import computed_once
from grulens.models.restore.untouched import untouched
from grulens.models.restore.versions import version


@dataclass(frozen=True, eq=False)
class Beside:
    """One module in one call.

    Attributes:
        adapter: what is said of it.
        module: the module.
        forward: its own forward.
        names: its layers.
        start: the step of their time axis at which the call begins.
    """

    adapter: Adapter
    module: nn.Module
    forward: Callable[..., Any]
    names: Mapping[Key, str]
    start: int

    def check(self, call: Call, cells: Cells, result: Any, rng: Tensor | None = None) -> None:
        """Compare what the module returned with what its cells compute; arguments: `Comparison`.

        Raises:
            AdapterError: they differ.
        """
        # what the adapter makes of states stands for nothing here: once is enough to know it
        results = not self.start or call.steps > 1
        self._comparison(call, cells, result, rng=rng, results=results).check()

    def _comparison(self, call: Call, cells: Cells, result: Any, **more: Any) -> Comparison:
        return Comparison(
            self.adapter, self.module, call, cells, result, self.names, self.start, **more
        )

    def compare(
        self,
        call: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        places: Tensor | None = None,
        *,
        replaced: bool = False,
    ) -> Tensor:
        """Run the module for the comparison only: nothing of that run remains.

        Args:
            call: the call.
            args: the arguments of the module.
            kwargs: its named ones.
            places: where each row comes from; see `Comparison`.
            replaced: whether its cells are to run in its place, so that it may leave nothing else.

        Returns:
            The states of its last level, as a body.
        """
        around = untouched(self.module)
        with grads(False), around, computed_once(self.module):
            rng = torch.get_rng_state() if call.dropout else None
            # what the module does to its arguments in place, it does to copies
            args, kwargs = tree_map_only(Tensor, Tensor.clone, (args, kwargs))
            given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            before = [version(tensor) for tensor in given]
            result = self.forward(*args, **kwargs)
            written = [version(tensor) for tensor in given] != before
            if replaced:
                self.check_kept(around.left(), written)
            cells = self.adapter.ran(self.module)
            self._comparison(call, cells, result, rng=rng, places=places).check()
            return call.enter(result)

    def check_kept(self, kept: Sequence[str], written: bool = False) -> None:
        """Raise if a module has kept something that its cells, in its place, would not keep.

        Args:
            kept: the attributes to which its run has given another value.
            written: whether it has written into its arguments.

        Raises:
            AdapterError: it has.
        """
        what = [f"sets {', '.join(kept)} on itself"] if kept else []
        what += ["writes into its arguments"] if written else []
        if what:
            raise AdapterError(
                f"this {type(self.module).__name__} at layer {self.names[0, 0]!r} "
                f"{' and '.join(what)} when it runs; in an edited run, and in one with grad=True, "
                "its cells run in its place, so what it leaves there would belong to no such run. "
                "Pass everything through its arguments and what it returns; plain recordings are "
                "right as it is"
            )

    def check_graph(self, result: Any, made: Any) -> None:
        """Compare what a module returned with what the rest of the model reads in its place.

        Raises:
            AdapterError: they are not the same, or one has gradients where the other has none.
        """
        for one, other in zip(tree_leaves(made), tree_leaves(result), strict=True):
            if not isinstance(other, Tensor) or not other.is_floating_point():
                continue
            scale = max(1.0, float(other.detach().abs().max())) if other.numel() else 1.0
            near = torch.allclose(one.detach(), other.detach(), rtol=0, atol=1e-4 * scale)
            if not near or one.requires_grad != other.requires_grad:
                does = "detaches" if near else "changes"
                raise AdapterError(
                    f"this {type(self.module).__name__} at layer {self.names[0, 0]!r} {does} what "
                    "it returns beside its cells, so derivatives by its signals would not be those "
                    "of this model: record it with grad=False"
                )

    def compare_edited(
        self, call: Call, done: Run, args: tuple[Any, ...], kwargs: dict[str, Any], seen: Tensor
    ) -> None:
        """Compare the two at each step of an edited run, from the state that it had before.

        Args:
            call: the call.
            done: its edited run.
            args: the arguments of the module.
            kwargs: its named ones.
            seen: the states of its run for these arguments, as a body.

        Raises:
            AdapterError: they differ there.

        Warns:
            NotComparedWarning: the run leaves the range in which a GRU's states are, and the module
                cannot be called from there.
        """
        if len(done.states) < call.levels * call.directions:
            return  # some states were given; they are those of runs that were compared
        with grads(False), untouched(self.module):
            x, h_0, places = steps_of(call, self.adapter.cells_of(self.module), done)
            again = self.adapter.again(self.module, args, kwargs, x, h_0)
        if again is not None and _takes(self.forward, *again):
            self._compare_steps(again, places)
            return
        reached, before = (float(states.detach().abs().max()) for states in (done.body, seen))
        if reached > max(1.0, before):
            warnings.warn(
                f"an edit takes layer {self.names[0, 0]!r} to states of up to {reached:.2g}, where "
                f"this {type(self.module).__name__} reaches {before:.2g} by itself: whether it "
                "computes there what its adapter says (and clips no state) cannot be compared, "
                "since its forward takes no first state, or takes more than that",
                NotComparedWarning,
                stacklevel=2,
            )

    def _compare_steps(self, again: tuple[tuple[Any, ...], dict[str, Any]], places: Tensor) -> None:
        args, kwargs = again
        one_step = self.adapter.open(self.module, args, kwargs)
        if one_step is None:
            return
        try:
            self.compare(one_step, args, kwargs, places)
        except AdapterError:
            raise
        except Exception as error:
            raise AdapterError(
                f"to be compared where an edit led it, layer {self.names[0, 0]!r} was called with "
                f"sequences of one step, at which the forward of this "
                f"{type(self.module).__name__} failed with {type(error).__name__}: {error}"
            ) from error


def _takes(forward: Callable[..., Any], args: Any, kwargs: Any) -> bool:
    """Whether a forward takes such arguments, by what it says of itself."""
    try:
        inspect.signature(forward).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:
        return True  # made in C, it says nothing
    return True
