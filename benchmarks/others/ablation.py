"""What switching each unit off does to a logit: grulens, and Captum's FeatureAblation.

Captum puts the ablation on the layer's output, after the recurrence ran: what remains when the
state of a unit is gone for all later steps too is another number, and `tried` says by how much.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

import grulens
import grulens.demo
from benchmarks.others.gates import Loop
from benchmarks.others.job import Candidate, Job, Size, difference

TEXT = 'def area(width, height):\n    return f"{width} by {height} makes {width * he'


class Classifier(nn.Module):
    """A GRU and a linear readout of its last state; `target` is the logit that is asked about."""

    def __init__(self, inputs: int, hidden: int, classes: int = 3) -> None:
        super().__init__()
        self.rnn = nn.GRU(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)
        self.target = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Looped(nn.Module):
    """A classifier whose GRU is a loop of nn.GRUCell."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        cell = nn.GRUCell(model.rnn.input_size, model.rnn.hidden_size)
        weights = model.rnn.state_dict()
        cell.load_state_dict({name.removesuffix("_l0"): w for name, w in weights.items()})
        self.loop, self.head, self.target = Loop(cell), model.head, model.target

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.loop(x)[:, -1])


@cache
def network(size: Size) -> tuple[Classifier, Tensor]:
    torch.manual_seed(0)
    model = Classifier(size.inputs, size.hidden).eval()
    return model, torch.randn(size.batch, size.time, size.inputs)


def trained() -> tuple[Classifier, Tensor]:
    """The bundled character model at the end of a line, asked about the character it expects."""
    demo = grulens.demo.load()
    rnn, readout = demo.model.rnn, demo.model.readout
    model = Classifier(rnn.input_size, rnn.hidden_size, readout.out_features).eval()
    model.rnn.load_state_dict(rnn.state_dict())
    model.head.load_state_dict(readout.state_dict())
    x = demo.model.embedding(demo.encode(TEXT))
    model.target = int(model(x)[0].argmax())
    return model, x


def effects(model: Classifier, x: Tensor) -> Tensor:
    """What `sweep` computes, in the obvious way: a run for each unit, one after the other."""
    plain = model(x)[:, model.target]
    changed = []
    for unit in range(model.rnn.hidden_size):
        with grulens.editing(model, grulens.ablate("rnn.l0", unit)):
            changed.append(model(x)[:, model.target] - plain)
    return torch.stack(changed)


def swept(size: Size) -> Callable[[], Tensor]:
    model, x = network(size)
    return lambda: sweep(model, x).effect


def sweep(model: Classifier, x: Tensor) -> grulens.Sweep:
    return grulens.sweep(
        model, x, layer="rnn.l0", readout=lambda out: out[:, model.target], progress=False
    )


def loop_of_runs(size: Size) -> Callable[[], Tensor]:
    model, x = network(size)
    return lambda: effects(model, x)


def layer_ablation(size: Size) -> Callable[[], Tensor]:
    model, x = network(size)
    return lambda: by_captum(model, model.rnn, x)


def after_the_layer(size: Size) -> Callable[[], Tensor]:
    """Captum on the part of the model that follows the GRU: no need to run it again."""
    from captum.attr import FeatureAblation  # noqa: PLC0415 - not everybody has it

    model, x = network(size)
    ablation = FeatureAblation(lambda states: model.head(states[:, -1]))
    units = torch.arange(size.hidden).expand(1, 1, -1)

    def run() -> Tensor:
        found = ablation.attribute(
            model.rnn(x)[0], target=model.target, feature_mask=units, perturbations_per_eval=16
        )
        return -found[:, -1].t()

    return run


def by_captum(
    model: Classifier | Looped, layer: nn.GRU | nn.GRUCell, x: Tensor, at_once: int = 16
) -> Tensor:
    """Change of the logit (unit, batch) as Captum's LayerFeatureAblation has it."""
    from captum.attr import LayerFeatureAblation  # noqa: PLC0415 - not everybody has it

    units = torch.arange(layer.hidden_size)
    ablation = LayerFeatureAblation(model, layer)
    if isinstance(layer, nn.GRU):
        # output and last state are one tuple; the last state is one more feature, not looked at
        mask = (units.expand(1, 1, -1), torch.full((1, 1, 1), len(units)))
        found = ablation.attribute(
            x,
            target=model.target,
            layer_baselines=(0, 0),
            layer_mask=mask,
            perturbations_per_eval=at_once,
        )[0][:, -1]
    else:
        found = ablation.attribute(x, target=model.target, layer_baselines=0)
    return -found.t()


def tried() -> list[tuple[str, str, str]]:
    model, x = trained()
    looped = Looped(model)
    ours = sweep(model, x)
    whole, part = ours.effect, ours.direct
    found = []
    for what, ran, layer in (
        ("nn.GRU", model, model.rnn),
        ("each nn.GRUCell in a loop", looped, looped.loop.cell),
    ):
        theirs = by_captum(ran, layer, x)
        alike = torch.corrcoef(torch.stack([theirs.flatten(), whole.flatten()]))[0, 1]
        said = (
            f"{difference(theirs, part)} from the direct part; up to {difference(theirs, whole)} "
            f"from the whole effect, whose largest is {whole.abs().max():.1f} "
            f"(correlation {alike:.2f})"
        )
        found.append(("captum", f"trained model, LayerFeatureAblation of {what}", said))
    return found


JOB = Job(
    "what switching off each unit does to a logit",
    (Size(1, 100, 64, 128), Size(8, 100, 128, 256)),
    (
        Candidate("grulens: sweep, with direct and recurrent part", None, swept),
        Candidate("grulens: a loop of edited runs", None, loop_of_runs),
        Candidate("Captum: LayerFeatureAblation, the direct part", "captum", layer_ablation),
        Candidate("Captum: FeatureAblation of the part after it", "captum", after_the_layer),
    ),
    tried,
)
