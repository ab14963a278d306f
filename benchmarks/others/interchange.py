"""A gate or a state taken from another run: grulens' patch, and pyvene's interchange.

pyvene opens the gates of a GRU class of its own, which gets the weights of the nn.GRU here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from io import StringIO
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import grulens
from benchmarks.others.job import Candidate, Job, Size, difference

SMALL = Size(1, 6, 8, 8)
SIGNALS = {"cell_output": "h", "update_gate_output": "z"}


@cache
def pyvene() -> ModuleType:
    """The package, which not everybody has; it prints a line when it is imported."""
    with redirect_stdout(StringIO()):
        return import_module("pyvene")


@cache
def network(size: Size) -> tuple[nn.GRU, Tensor, Tensor]:
    """A GRU, the input of the run that is changed, and that of the run it takes from."""
    torch.manual_seed(0)
    gru = nn.GRU(size.inputs, size.hidden, batch_first=True).eval()
    x, source = torch.randn(2, size.batch, size.time, size.inputs)
    return gru, x, source


def by_grulens(gru: nn.GRU, x: Tensor, source: Tensor, signal: str, at: Sequence[int]) -> Tensor:
    """The output with the source's signal at some steps."""
    taken = grulens.record(gru, source)
    with grulens.editing(gru, grulens.patch("l0", signal, source=taken, at=at)):
        return gru(x)[0]


def their_model(gru: nn.GRU) -> nn.Module:
    """pyvene's own GRU with the weights of an nn.GRU whose input is as wide as its state."""
    theirs = pyvene().models.gru.modelings_gru
    model = theirs.GRUModel(theirs.GRUConfig(n_layer=1, h_dim=gru.hidden_size)).eval()
    names = {"x2h": "ih", "h2h": "hh"}
    weights = {
        f"cells.0.{product}.{kind}": gru.get_parameter(f"{kind}_{part}_l0")
        for product, part in names.items()
        for kind in ("weight", "bias")
    }
    model.load_state_dict(weights)
    return model


def by_pyvene(
    model: nn.Module, x: Tensor, source: Tensor, component: str, at: Sequence[int]
) -> Tensor:
    """The same from pyvene, called as its own tutorial on GRUs calls it."""
    pv = pyvene()
    where = pv.RepresentationConfig(0, component, "t", len(at))
    config = pv.IntervenableConfig(
        model_type=type(model), representations=[where], intervention_types=pv.VanillaIntervention
    )
    steps = [[list(at)] * len(x)]
    _, edited = pv.IntervenableModel(config, model)(
        {"inputs_embeds": x}, [{"inputs_embeds": source}], {"sources->base": (steps, steps)}
    )
    return edited[0]


def ours(size: Size) -> Callable[[], Tensor]:
    gru, x, source = network(size)
    return lambda: by_grulens(gru, x, source, "z", range(size.time))


def theirs(size: Size) -> Callable[[], Tensor]:
    gru, x, source = network(size)
    model = their_model(gru)
    return lambda: by_pyvene(model, x, source, "update_gate_output", range(size.time))


class OnTheOutside(nn.Module):
    """A model of one's own with an nn.GRU in it; pyvene asks every model for these two."""

    config, device = None, "cpu"

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.rnn = gru

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


def tried() -> list[tuple[str, str, str]]:
    pv = pyvene()
    gru, x, source = network(SMALL)
    model, everywhere = their_model(gru), range(SMALL.time)
    rest = [step for step in everywhere if step != 3]
    found = []
    for component, signal in SIGNALS.items():
        far = difference(
            by_pyvene(model, x, source, component, everywhere),
            by_grulens(gru, x, source, signal, everywhere),
        )
        found.append(("pyvene", f"its own GRU, {signal} at every step", f"{far} from ours"))
        one = by_pyvene(model, x, source, component, [3])
        far = difference(one, by_grulens(gru, x, source, signal, [3]))
        taken = grulens.record(gru, source)
        zeros = [
            grulens.patch("l0", signal, source=taken, at=3),
            grulens.clamp("l0", signal, value=0.0, at=rest),
        ]
        with grulens.editing(gru, *zeros):
            same = difference(one, gru(x)[0])
        said = f"{far} from ours; {same} from ours with {signal} = 0 at every other step"
        found.append(("pyvene", f"its own GRU, {signal} at step 3 alone", said))
    cell_type = type(model.cells[0])
    grulens.adapters.register(cell_type, grulens.adapters.StepAdapter(_their_cell))
    taken = grulens.record(model, inputs_embeds=source)
    with grulens.editing(model, grulens.patch("cells.0", "z", source=taken, at=3)):
        far = difference(model(inputs_embeds=x)[0], by_grulens(gru, x, source, "z", [3]))
    grulens.adapters.register(cell_type, None)
    said = f"{far} from nn.GRU's; the class has to be registered (two lines)"
    found.append(("grulens", "pyvene's own GRU, z at step 3 alone", said))
    wide = [rows.expand(3, -1, -1) for rows in (x, source)]
    said = _outcome(lambda: by_pyvene(model, *wide, "cell_output", everywhere))
    found.append(("pyvene", "its own GRU, h at every step, batch 3", said))

    outside = OnTheOutside(gru)
    hooked = {
        "component": "rnn.output",
        "unit": "pos",
        "intervention": pv.VanillaIntervention(embed_dim=SMALL.hidden),
    }
    _, edited = pv.IntervenableModel(hooked, outside)(
        {"x": x}, [{"x": source}], {"sources->base": 3}
    )
    moved = (edited - outside(x)).abs().amax((0, 2)) > 0
    said = f"the output moves at step {moved.nonzero().flatten().tolist()}, and nowhere later"
    found.append(("pyvene", "nn.GRU, output at step 3", said))
    return found


def _their_cell(module: Any) -> grulens.Cell:
    x, h = module.x2h, module.h2h
    return grulens.Cell(x.weight, h.weight, x.bias, h.bias)


def _outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:  # whatever it says is the finding
        return f"{type(error).__name__}: {error}"
    return "it runs"


JOB = Job(
    "the update gate of another run at every step (batch 1)",
    (Size(1, 100, 128, 128),),
    (
        Candidate("grulens: record and patch", None, ours),
        Candidate("pyvene: interchange in its own GRU", "pyvene", theirs),
    ),
    tried,
)
