"""What a logit lens shows: a model's readout at every step, and every unit's share in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from grulens.errors import PositionError, ReadoutError, shown
from grulens.probing.edits import positions


@dataclass(frozen=True, eq=False, repr=False)
class LogitLens:
    """A readout of every state of a layer.

    Attributes:
        layer: whose states are read.
        head: the name of what reads them.
        logits: (batch, time, class); zero on padding.
        h: the states (batch, time, unit).
        weight: (class, unit), or None where the readout is not linear.
        bias: (class,), or None likewise.
        rest: what is read beside this layer, such as the other direction's state at the same step,
            adds to every logit (batch, time, class).
        whole: whether this is all that the readout reads. If not, it reads features of another kind
            too, whose part is missing in these logits.
        mask: (batch, time), False on padding.
        last: the position that each row read last (batch,): its end, or 0 where the layer is a
            reverse one.
    """

    layer: str
    head: str
    logits: Float[Tensor, "batch time klass"]
    h: Float[Tensor, "batch time unit"]
    weight: Float[Tensor, "klass unit"] | None
    bias: Float[Tensor, " klass"] | None
    rest: Float[Tensor, "batch time klass"]
    whole: bool
    mask: Bool[Tensor, "batch time"]
    last: Int[Tensor, " batch"]

    @property
    def probability(self) -> Float[Tensor, "batch time klass"]:
        """The softmax of the logits over classes; zero on padding."""
        return self.logits.softmax(-1).masked_fill(~self.mask[..., None], 0)

    def share(self, klass: Any) -> Float[Tensor, "batch time unit"]:
        """Each unit's own share of a logit: weight[klass, unit] * h.

            logits[..., klass] = share(klass).sum(-1) + bias[klass] + rest[..., klass]

        Args:
            klass: the class, an int; negative from the end.

        Raises:
            ReadoutError: the readout is not linear.
            PositionError: there is no such class.
        """
        if self.weight is None:
            raise ReadoutError(
                f"the readout {self.head} of layer {self.layer!r} is a function of which nothing "
                "is known, so its logits have no shares; give head=..., an nn.Linear"
            )
        place = _whole(klass, self.logits.shape[2], "class", f"the readout of {self.layer!r}")
        return self.h * self.weight[place]

    def top(self, t: Any, k: Any = 5) -> tuple[Int[Tensor, "batch k"], Float[Tensor, "batch k"]]:
        """The likeliest classes at a step.

        Args:
            t: the step, negative from the end.
            k: how many; all where there are fewer.

        Returns:
            The classes (batch, k), int64, the likeliest first, and their logits.

        Raises:
            PositionError: there is no such step, or k is no positive int.
        """
        _, steps, classes = self.logits.shape
        place = _whole(t, steps, "step", f"layer {self.layer!r}")
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise PositionError(f"k must be a positive int, got {shown(k)}")
        found = self.logits[:, place].topk(min(k, classes))
        return found.indices, found.values

    def to_frame(self, row: Any = 0) -> Any:
        """A row's logits as a pandas DataFrame: a line a step, a column a class.

        Raises:
            PositionError: there is no such row.
            ImportError: pandas is not installed.
        """
        import pandas as pd  # noqa: PLC0415 - pandas is optional

        place = _whole(row, len(self.logits), "row", "this run")
        logits = self.logits[place].cpu().double().numpy()
        frame = pd.DataFrame(logits, columns=pd.RangeIndex(logits.shape[1], name="class"))
        return frame.rename_axis(index="step")

    def __repr__(self) -> str:
        batch, time, classes = self.logits.shape
        return (
            f"LogitLens({self.head} of {self.layer!r}, batch {batch}, time {time}, class {classes})"
        )

    def _repr_html_(self) -> str:
        from grulens.tables import html_table  # noqa: PLC0415 - only for display

        there = self.mask[0].nonzero().flatten().tolist()
        # a layer that reads from the end read the first positions last
        steps = there[:8] if there and int(self.last[0]) < there[-1] else there[-8:]
        rows = []
        for step in steps:
            classes, logits = (found[0].tolist() for found in self.top(step, 3))
            rows.append((step, *(f"{c}: {v:.3g}" for c, v in zip(classes, logits, strict=True))))
        places = ("likeliest", "second", "third")[: self.logits.shape[2]]
        head = ("step", *(places if len(places) > 1 else ("class: value",)))
        return html_table(head, rows, f"{self.head} of {self.layer}, row 0, the steps read last")


def _whole(value: Any, size: int, word: str, where: str) -> int:
    place = positions.normal(value, word)
    if not isinstance(place, int):
        raise PositionError(f"{word} must be an int, got {shown(value)}")
    positions.check(place, size, word, where)
    return place % size
