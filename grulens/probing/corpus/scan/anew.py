"""A run of the model as a scan makes it: of its own copy of the input, as if no other had been.

What is counted may not hang on the order of the parts, nor on which process makes which. So what a
model keeps from one call to the next is put back after each, a cache or a counter, too: every input
finds the model as the scan found it. Whether that is what the model is for is another question. One
that goes on where its last input ended means something else by its states than a scan can count, so
some inputs run twice, and it is refused where the second time is another.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from grulens.arguments import LayerNames
from grulens.errors import NonFiniteWarning, ScanError
from grulens.models.record import record
from grulens.models.recording import Recording
from grulens.models.restore.standing import is_lazy
from grulens.models.restore.untouched import untouched
from grulens.probing.corpus.scan.replay import nearness
from grulens.probing.corpus.scan.sequences import Run

#: A run whose states and output are so many numbers, 16 MB, may be held beside another one.
HELD: Final = 1 << 22


@dataclass(frozen=True)
class Seen:
    """A run that has been seen to do the same once more, for who makes it again.

    Attributes:
        run: what the model was given.
        recording: what its layers did.
    """

    run: Run
    recording: Recording

    @classmethod
    def of(cls, run: Run, recording: Recording) -> Seen | None:
        """It, if it is small enough to be held while others run."""
        return cls(run, recording) if _numbers(recording) <= HELD else None

    def on(self, run: Run) -> Recording | None:
        """What the layers do, if it is the same that is given."""
        one, kind = tree_flatten((self.run.args, self.run.kwargs))
        two, other = tree_flatten((run.args, run.kwargs))
        same = kind == other and all(map(_same, one, two))
        return self.recording if same else None


def _same(one: Any, two: Any) -> bool:
    """Whether two arguments are the same to a model: equal numbers, or else the very same thing."""
    if isinstance(one, Tensor) and type(one) is type(two):
        alike = (one.dtype, one.device, one.shape) == (two.dtype, two.device, two.shape)
        return alike and one.layout is two.layout is torch.strided and torch.equal(one, two)
    return one is two or (type(one) is type(two) in (bool, int, float, str) and one == two)


def ran(
    model: nn.Module, run: Run, layers: LayerNames, call: str | None, *, checked: bool = False
) -> Recording:
    """The model runs once, as a part of a scan does.

    Args:
        model: the model, in eval mode.
        run: the run.
        layers: the names of the layers.
        call: the name of the method that is the run.
        checked: whether to see that it does the same once more.

    Raises:
        ScanError: it is to be seen, and it does not.
    """
    few = run.few
    if is_lazy(model):  # its first run makes the weights, and they stay
        _once(model, few, layers, call)
    if checked and (seen := _run_again(model, few, layers, call, few is run)) is not None:
        return seen
    with untouched(model, random=False, also=_others(run), told=checked):
        return _once(model, run, layers, call)


def _run_again(
    model: nn.Module, run: Run, layers: LayerNames, call: str | None, kept: bool
) -> Recording | None:
    """Raise where a model does something else the second time, or writes into its weights.

    Returns:
        The first time, if it is to be kept and small enough to be held beside the second.
    """
    around = untouched(model, random=False, also=_others(run), told=False)
    with around:
        first = _once(model, run, layers, call)
        states = {name: layer.h for name, layer in first.items()}
        seen = first if kept and _numbers(first) <= HELD else None
        del first
        before = weights(model)
        _check_same(states, _once(model, run, layers, call))
        check_weights(model, before)
        around.told = seen is not None
    return seen


def check_alone(
    model: nn.Module, run: Run, layers: LayerNames, call: str | None, recording: Recording
) -> None:
    """Raise where a row has other states by itself than beside those that the scan put there.

    Args:
        model: the model, in eval mode.
        run: the run.
        layers: the names of the layers.
        call: the name of the method that is the run.
        recording: what the layers did in it.

    Raises:
        ScanError: it has; it says which layer.
    """
    if not run.beside:
        return
    one = run.first_rows(1)
    try:
        with untouched(model, random=False, also=_others(one), told=False):
            alone = _once(model, one, layers, call)
    except Exception:  # whatever a user's model does with one row: then nothing is known
        return
    for name, layer in alone.items():
        h = recording[name].h
        if (len(run.documents), 1, h.shape[1]) != (len(h), *layer.h.shape[:2]):
            continue
        every, near = apart(h, layer.h.expand_as(h)), nearness(layer.h)
        if (far := float(every[0])) > near:
            if float(every.min()) <= near:
                raise rows_elsewhere(name)
            raise ScanError(
                f"the states of a row depend on the rows that run beside it (layer {name!r}, "
                f"{far:.2g} apart from those of the row by itself), and of texts and ids a scan "
                "puts rows side by side as it likes: batch=1 runs each by itself"
            )


def rows_elsewhere(name: str) -> ScanError:
    """What is said of a layer that has its rows in another order than the input."""
    return ScanError(
        f"layer {name!r} has the rows of the input in another order: labels and words would stand "
        "beside other rows than they are of. A model that sorts its rows, by length say, is "
        "scanned one row at a time"
    )


def _numbers(recording: Recording) -> int:
    """How many numbers the states and the output of a run have."""
    given = [one for one in tree_leaves(recording.output) if isinstance(one, Tensor)]
    return sum(one.numel() for one in (*(layer.h for layer in recording.values()), *given))


def _once(model: nn.Module, run: Run, layers: LayerNames, call: str | None) -> Recording:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonFiniteWarning)  # the scan says it, as an error
        try:
            return record(model, layers=layers, call=call, inputs=_copied(run))
        except Exception as error:
            if (many := len(run.args) + len(run.kwargs)) > 1:
                error.add_note(
                    f"the scan gave the model the {many} members of an input as arguments of its "
                    "own; what is none, an answer say, is left out of the inputs: (x for x, answer "
                    "in loader), or of mappings ({'x': one['x']} for one in loader)"
                )
            raise


def _copied(run: Run) -> Any:
    """The arguments of a run, of which nobody else has the tensors, arrays and lists."""
    made: dict[int, Any] = {}

    def own(one: Any) -> Any:
        if id(one) not in made:  # a model may be given one thing twice, and ask whether it is one
            if isinstance(one, PackedSequence):
                made[id(one)] = PackedSequence(own(one.data), *one[1:])
            elif isinstance(one, Tensor):
                made[id(one)] = one.detach().clone()
            else:
                made[id(one)] = one.copy() if isinstance(one, np.ndarray) else one
        return made[id(one)]

    return tree_map(own, (run.args, run.kwargs), is_leaf=_is_packed)


def _others(run: Run) -> list[Any]:
    """What a run is given that is neither copied nor a number or text."""
    leaves = tree_leaves((run.args, run.kwargs), is_leaf=_is_packed)
    return [one for one in leaves if not isinstance(one, Tensor | np.ndarray | PackedSequence)]


def _is_packed(one: Any) -> bool:
    return isinstance(one, PackedSequence)


def apart(
    one: Float[Tensor, "row step unit"], two: Float[Tensor, "row step unit"]
) -> Float[Tensor, " row"]:
    """How far each row of two runs is apart at most; NaN is like NaN alone.

    >>> apart(torch.tensor([[[0.0]], [[torch.nan]]]), torch.tensor([[[0.5]], [[torch.nan]]]))
    tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    one, two = one.detach(), two.detach()
    other = (one != two).flatten(1).any(1)  # most rows are the same to the last bit
    found = torch.zeros(len(one), dtype=torch.float64, device=one.device)
    if bool(other.any()):
        one, two = one[other].double(), two[other].double()
        far = (one - two).abs() / one.abs().clamp(min=1)
        same = (one == two) | (one.isnan() & two.isnan())
        found[other] = torch.where(same, 0, far.nan_to_num(torch.inf)).flatten(1).amax(1)
    return found


def _check_same(first: Mapping[str, Tensor], second: Recording) -> None:
    """Raise where a model did something else the second time."""
    for name, layer in second.items():
        far = float("inf")
        if first[name].shape == layer.h.shape:
            far = float(apart(first[name], layer.h).max())
        if far > nearness(layer.h):
            raise ScanError(
                f"the model gives other states when it runs once more on the same input (layer "
                f"{name!r}, {far:.2g} apart). It keeps something from one call to the next, or "
                "draws random numbers in eval mode, too: a scan needs a model that begins anew "
                "with each call, so set back in forward() what it keeps, or give it as an argument"
            )


def weights(model: nn.Module) -> dict[str, int]:
    """A checksum of each of a model's parameters, by their names."""
    found = {}
    for name, one in model.named_parameters():
        plain = one.detach().cpu().contiguous().reshape(-1)
        found[name] = zlib.crc32(plain.view(torch.uint8).numpy().data)
    return found


def check_weights(model: nn.Module, before: Mapping[str, int]) -> None:
    """Raise where runs have written into the weights of a model.

    Args:
        model: the model.
        before: what its weights were before.

    Raises:
        ScanError: they have; it says into which.
    """
    others = [name for name, was in weights(model).items() if was != before.get(name)]
    if others:
        raise ScanError(
            f"the model writes into its weights when it runs ({', '.join(others[:3])}"
            f"{', …' * (len(others) > 3)}), so inputs that come later meet another model. A scan "
            "needs weights that stay as they are: an nn.Embedding with max_norm=, say, has its "
            "rows cut to it before"
        )
