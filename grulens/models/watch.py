"""One block in which a model is recorded, edited or both: what it wants, and what it has seen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from grulens.errors import EditError, LayerError, NonFiniteWarning, RecordingError, shown
from grulens.gru.cell import Cell
from grulens.gru.changes import Change
from grulens.models.calls import Call, Inside, Key, MakeProgram, Run
from grulens.models.find import check_layer, held, known, named
from grulens.models.place import EditLike, Place
from grulens.models.recording import LayerRecording, Recording
from grulens.models.segment import Segment


class Watch:
    """A model under watch.

    Args:
        model: the user's model.
        edits: what to change, in order.
        keep: the layers to record; empty is all of them, None records nothing.
        graph: whether what is recorded is part of autograd's graph.

    Raises:
        LayerError: an edit or `keep` names a layer that is not there.
        PositionError, EditError: an edit does not fit its layer.
    """

    def __init__(
        self,
        model: nn.Module,
        edits: Sequence[EditLike] = (),
        *,
        keep: Sequence[str] | None = None,
        graph: bool = False,
    ) -> None:
        self.model = model
        self.edits = tuple(edits)
        self.keep = keep
        self.graph = graph
        self.grad = False
        self.paused = False
        self.unedited: Recording | None = None
        found = held(model)
        self.modules: dict[str, nn.Module] = found.opened
        self.closed = found.closed
        self.adapters = {module: known(module) for module in self.modules.values()}
        layers = {module: named(path, module) for path, module in self.modules.items()}
        self.names = {
            m: {key: name for key, (name, _) in all_.items()} for m, all_ in layers.items()
        }
        self.weights: dict[nn.Module, tuple[object, list[Tensor], dict[Key, Cell]]] = {}
        self._warned: set[nn.Module] = set()
        self._steps: dict[str, int] = {}
        self._segments: dict[str, list[Segment]] = {}
        self._by_layer: dict[str, list[EditLike]] = {}
        for edit in self.edits:
            if not isinstance(edit, EditLike):
                raise EditError(
                    f"an edit is what ablate, clamp, scale, shift and patch make, got {shown(edit)}"
                )
        units = {n: cell.hidden_size for all_ in layers.values() for n, cell in all_.values()}
        for name in (*(edit.layer for edit in self.edits), *(keep or ())):
            check_layer(name, list(units), model=model)
        for edit in self.edits:
            edit.check_units(units[edit.layer])
            self._by_layer.setdefault(edit.layer, []).append(edit)

    def keeps(self, module: nn.Module) -> bool:
        """Whether calls of this module are recorded."""
        if self.keep is None or self.paused:
            return False
        return not self.keep or any(name in self.keep for name in self.names[module].values())

    def edits_at(self, module: nn.Module, key: Key) -> Sequence[EditLike]:
        """The edits of one level and direction of a module."""
        return () if self.paused else self._by_layer.get(self.names[module][key], ())

    def edits_here(self, module: nn.Module) -> bool:
        """Whether any layer of a module is edited."""
        return bool(self._by_layer) and any(self.edits_at(module, k) for k in self.names[module])

    def changes(self, module: nn.Module, inside: Inside) -> list[Change]:
        """What its edits change in one layer of the call under way."""
        edits = self.edits_at(module, inside.key)
        if not edits:
            return []
        name = self.names[module][inside.key]
        batch, steps, _ = inside.x.shape
        start = self._steps.get(name, 0)
        total, lengths, mean = start + steps, inside.lengths, inside.mean
        before = self.unedited.get(name) if self.unedited else None
        if before and len(before.calls) > 1:
            # a module called several times has one time axis, known from the unedited run
            total, lengths = before.shape[1], None
            mean = before.mean
        place = Place(
            name, batch, steps, inside.cell.hidden_size, start, total, lengths, inside.h_0, mean
        )
        return [edit.change(place) for edit in edits]

    def run(
        self, module: nn.Module, call: Call, cells: dict[Key, Cell], make_program: MakeProgram
    ) -> Run:
        """The layers of a call; asked of the watch that was opened last, if any changes them."""
        return call.run(cells, make_program)

    def add(self, module: nn.Module, segments: dict[Key, Segment]) -> None:
        """Record one call of a module."""
        for key, segment in segments.items():
            name = self.names[module][key]
            if self.keep and name not in self.keep:
                continue
            parts = self._segments.setdefault(name, [])
            if parts and len(parts[0].h_0) != len(segment.h_0):
                raise RecordingError(
                    f"layer {name!r} was called with {len(parts[0].h_0)} rows and then with "
                    f"{len(segment.h_0)}: its calls cannot share one time axis; leave it out with "
                    "layers=[...]"
                )
            parts.append(segment)

    def passed(self, module: nn.Module, steps: int) -> None:
        """Move the time axis of a module's layers on."""
        if not self.paused:
            for name in self.names[module].values():
                self._steps[name] = self._steps.get(name, 0) + steps

    def begin(self) -> None:
        """A forward of the model begins: so does every time axis."""
        self.grad = torch.is_grad_enabled()
        self._steps.clear()

    def finish(self) -> None:
        """Check, after a forward of the model, what only the length of its axes can tell."""
        for edit in self.edits:
            steps = self._steps.get(edit.layer, 0)
            if not steps:
                raise LayerError(
                    f"layer {edit.layer!r} did not run in this forward, so {edit!r} did nothing"
                )
            edit.check_steps(steps)

    def recording(self, output: object, edits: Sequence[object]) -> Recording:
        """What was recorded, in execution order."""
        layers = {name: LayerRecording(name, parts) for name, parts in self._segments.items()}
        return Recording(layers, output, edits, self.closed)

    def warn_nonfinite(self, module: nn.Module, x: Tensor) -> None:
        """Say where NaN or infinity entered a module, once a watch."""
        if module in self._warned:
            return
        self._warned.add(module)
        name = next(iter(self.names[module].values()))
        bad = (~torch.isfinite(x)).any(2).nonzero()
        where = "its weights or its first state"
        if len(bad):
            row, step = bad[0].tolist()
            where = f"its input, first at row {row}, step {self._steps.get(name, 0) + step}"
        warnings.warn(
            f"layer {name!r}: NaN or infinity in {where}; it is recorded as it is, and so are the "
            "states that it spoils",
            NonFiniteWarning,
            stacklevel=2,
        )
