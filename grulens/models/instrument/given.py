"""A watch under which one layer reads what it is given, whatever the rest of the model does.

To ask how a model's answer depends on a layer's input, that input must be a variable: it is put in
place of what would reach the layer, and everything behind it runs as it always does.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from grulens.cells.changes import Program
from grulens.errors import RecordingError
from grulens.models.call.call import Call, Cells, Inside, MakeProgram, Run
from grulens.models.instrument.watch import Watch
from grulens.models.instrument.watchable import Watchable


def kernel_has_gradients(device: torch.device) -> bool:
    """Whether what torch's fused kernel computes on a device can always be differentiated.

    On the processor it is made of operations that have derivatives of every order. A vendor's
    kernel is one operation: cuDNN's has no backward in eval mode, and none has a second one.

    >>> kernel_has_gradients(torch.device("cpu")), kernel_has_gradients(torch.device("cuda"))
    (True, False)
    """
    return device.type == "cpu"


Means = dict[tuple[str, int], Tensor]
"""The mean unedited state of a layer, in the call that begins at a step."""


@dataclass(frozen=True, eq=False)
class _Fixed(Inside):
    """One direction of one level, whose mean is what it was when somebody asked first."""

    place: tuple[str, int]
    means: Means

    def mean(self) -> Tensor:
        if self.place not in self.means:
            self.means[self.place] = super().mean().detach()
        return self.means[self.place]


class GivenRun(Watch):
    """One run in which a layer's level reads given rows, from a given first state.

    Both directions of the level read them. A module that is called several times has one time axis
    over its calls; the first state is that of its first call. Edits of other watches act; means to
    which they refer do not follow the given rows, or every row would depend on all of them.

    Args:
        watchable: what of the user's model there is to watch.
        layer: the layer.
        x: its input (batch, time, input).
        h_0: its state before the first step (batch, unit).
        means: those of another run, which act in this one too; what is missing is added.
    """

    def __init__(
        self, watchable: Watchable, layer: str, x: Tensor, h_0: Tensor, means: Means
    ) -> None:
        super().__init__(watchable, keep=None)
        self.layer, self.x, self.h_0, self.means = layer, x, h_0, means
        self.module, self.key = self.place_of(layer)

    def edits_here(self, module: nn.Module) -> bool:
        if module is self.module:
            return True
        return not all(kernel_has_gradients(p.device) for p in module.parameters())

    def opened(self, module: nn.Module, call: Call) -> None:
        # its input is given to it, whatever the model computes
        self.saw(module, call.h_0 if module is self.module else (call.body, call.h_0))

    def run_levels(
        self, module: nn.Module, call: Call, cells: Cells, make_program: MakeProgram
    ) -> Run:
        unrolled = not kernel_has_gradients(call.body.device)

        def program(inside: Inside) -> Program | None:
            name = self.names[module][inside.key]
            parts = {f.name: getattr(inside, f.name) for f in fields(Inside)}
            place = name, self.run.start(name, len(inside.x))
            return make_program(_Fixed(**parts, place=place, means=self.means))

        if module is not self.module:
            return call.run(cells, program, unrolled=unrolled)
        start = self.run.start(self.layer, call.h_0.shape[1])
        x = self.x[:, start : start + call.steps]
        if len(x) != call.h_0.shape[1] or x.shape[1] != call.steps:
            raise self._other_calls()
        if not start:
            mine = self.key[0] * call.directions + self.key[1]
            states = [self.h_0 if i == mine else h for i, h in enumerate(call.h_0)]
            call = replace(call, h_0=torch.stack(states))
        return call.run(cells, program, inputs={self.key[0]: x}, unrolled=unrolled)

    def check_whole(self) -> None:
        """After the run, that the layer has read all it was given.

        Raises:
            RecordingError: it stopped before, or did not run at all.
        """
        if self.run.length(self.layer) != self.x.shape[1]:
            raise self._other_calls()

    def _other_calls(self) -> RecordingError:
        batch, steps, _ = self.x.shape
        return RecordingError(
            f"with another input the model calls layer {self.layer!r} another number of times, or "
            f"with other rows or steps, than in the run asked about ({batch} rows, {steps} steps "
            "in all), so its answer is no function of that input alone"
        )
