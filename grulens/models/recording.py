"""What a recorded run holds: its layers by name, and what the model returned."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from grulens.errors import FileError, RecordingError
from grulens.models.adapters.closed import Closed
from grulens.models.layers import check_layer
from grulens.models.recorded import LayerRecording
from grulens.models.saved import SavedRun
from grulens.tables import html_table
from grulens.words import so_many

__all__ = ["NOT_SAVED", "NOT_SEEN", "LayerRecording", "Recording"]


class _NotSeen(Enum):
    """What stands for an output that is not there; each is the same in every copy."""

    RUN = 1
    FILE = 2

    def __repr__(self) -> str:
        return "an output that nobody saw"


NOT_SEEN = _NotSeen.RUN
"""The output of a run that ended where nobody saw it."""
NOT_SAVED = _NotSeen.FILE
"""The output of a run that was saved without it."""


class Recording(Mapping[str, LayerRecording]):
    """A recorded run: its layers by name, in execution order.

    Attributes:
        output: what the run returned: the model's own output.
        edits: the edits of the run, in the order in which they acted.
        closed: the recurrent modules of the model that cannot be opened; see `layers`.
    """

    def __init__(
        self,
        layers: Mapping[str, LayerRecording],
        output: object,
        edits: Sequence[object] = (),
        closed: Sequence[Closed] = (),
    ) -> None:
        self._layers = dict(layers)
        self._output = output
        self.edits = tuple(edits)
        self.closed = tuple(closed)

    @property
    def output(self) -> Any:
        """What the run returned.

        Raises:
            RecordingError: it was not seen in the run, or not saved.
        """
        if self._output is NOT_SAVED:
            raise RecordingError("what this run returned was not saved with it")
        if self._output is NOT_SEEN:
            raise RecordingError(
                "what this run returned was not seen: its method was taken off the model before "
                "the block. Call it on the model inside the block"
            )
        return self._output

    def __getitem__(self, name: Any) -> LayerRecording:
        check_layer(
            name, list(self._layers), "is not in this recording; it has", closed=self.closed
        )
        return self._layers[name]

    def __contains__(self, name: object) -> bool:
        return name in self._layers  # Mapping's own asks __getitem__, which raises LayerError

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    @property
    def residual(self) -> float:
        """The largest residual of its layers."""
        return max(layer.residual for layer in self.values())

    def save(self, path: str | os.PathLike[str], *, output: bool = True) -> Path:
        """Write the run to a file of safetensors and JSON, which `load` reads; no graph.

        Inputs, states and weights are written, and come back bit for bit; the signals are computed
        from these again, equal to rounding. Of an observed cell all signals are written, and its
        equation, which they are compared with when they are read.

        Args:
            path: where to; a file that is there is overwritten.
            output: whether what the run returned is written too: tensors, numbers and texts, in
                tuples, lists and dicts.

        Raises:
            FileError: a layer was edited, or ran under autocast; or the output holds something
                that no file can hold (leave it out: `output=False`).
            OSError: the file cannot be written.

        >>> import torch
        >>> from tempfile import TemporaryDirectory
        >>> from grulens import Recording, record
        >>> run = record(torch.nn.GRU(3, 4), torch.rand(5, 2, 3))
        >>> with TemporaryDirectory() as folder:
        ...     again = Recording.load(run.save(f"{folder}/run.safetensors"))
        >>> torch.equal(again["l0"].h, run["l0"].h), torch.equal(again.output[0], run.output[0])
        (True, True)
        """
        layers = {name: layer.segments for name, layer in self.items()}
        kept = (self._output,) if output and self._output is not NOT_SEEN else ()
        return SavedRun.of(layers, kept, self.closed).save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read what `save` wrote.

        Args:
            path: the file.

        Raises:
            FileError: it holds no recording, or is damaged.
            OSError: the file cannot be read.
        """
        run = SavedRun.load(path)
        layers = {}
        for layer in run.layers:
            segments = layer.segments
            kind = LayerRecording.kinds.get(type(segments[0]), LayerRecording)
            layers[layer.name] = kind(layer.name, segments)
        if not isinstance(run.output, tuple) or len(run.output) > 1 or not layers:
            raise FileError(f"{path} holds no whole run: it has no layers, or several outputs")
        return cls(layers, run.output[0] if run.output else NOT_SAVED, closed=run.closed)

    def __repr__(self) -> str:
        edits = f", {so_many(len(self.edits), 'edit')}" if self.edits else ""
        return f"Recording({', '.join(self)}{edits})"

    def _repr_html_(self) -> str:
        head = ("layer", "batch", "time", "unit", "calls")
        rows = [(layer.name, *layer.shape, len(layer.calls)) for layer in self.values()]
        edits = f", {so_many(len(self.edits), 'edit')}" if self.edits else ""
        return html_table(head, rows, f"Recording{edits}")
