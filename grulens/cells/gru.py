"""A GRU cell as mathematics: its weights and its convention, apart from any module that holds them.

There are two published GRUs that differ in where the reset gate acts. Which of them a set of
weights belongs to cannot be seen from the weights, so a `Cell` says it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from grulens.cells.activations import name_of
from grulens.errors import CellError, ConventionError, shown


class Gates(NamedTuple):
    """The gates of one step or of many.

    Attributes:
        r: reset gate (batch, time, unit).
        z: update gate (batch, time, unit).
        n: candidate (batch, time, unit).
    """

    r: Tensor
    z: Tensor
    n: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Cell:
    """One direction of one GRU layer, its rows packed in torch's order r, z, n.

    The cell (torch.nn.GRU; Cho et al. 2014, arXiv:1406.1078, with torch's reading of z)::

        r = gate(W_ir x + b_ir + W_hr h_prev + b_hr)
        z = gate(W_iz x + b_iz + W_hz h_prev + b_hz)
        n = candidate(W_in x + b_in + r * (W_hn h_prev + b_hn))      reset_after=True
        n = candidate(W_in x + b_in + W_hn (r * h_prev) + b_hn)      reset_after=False
        h = (1 - z) * n + z * h_prev

    Attributes:
        weight_ih: (3 unit, input), floating.
        weight_hh: (3 unit, unit), same dtype.
        bias_ih: (3 unit,) or None.
        bias_hh: (3 unit,) or None.
        reset_after: where the reset gate acts: after the recurrent product (torch, cuDNN) or
            before it (Cho's paper).
        gate: the activation of r and z, an elementwise function on tensors: torch's own, or one of
            `grulens.cells.activations`, which has the three functions called hard sigmoid.
        candidate: the activation of n, likewise.

    Raises:
        CellError: the shapes or dtypes do not fit together, or an activation is no function.

    >>> cell = Cell(torch.zeros(6, 3), torch.zeros(6, 2), None, None)
    >>> cell
    Cell(input 3, hidden 2, float32, reset after the product)
    >>> cell.input_size, cell.hidden_size, cell.is_torch
    (3, 2, True)
    """

    weight_ih: Float[Tensor, "_ input"]
    weight_hh: Float[Tensor, "_ unit"]
    bias_ih: Float[Tensor, _] | None
    bias_hh: Float[Tensor, _] | None
    reset_after: bool = True
    # each an Activation; Any, so that a name given instead is refused in words of ours
    gate: Any = torch.sigmoid
    candidate: Any = torch.tanh

    def __post_init__(self) -> None:
        ranks = {"weight_hh": 2, "weight_ih": 2, "bias_ih": 1, "bias_hh": 1}
        for name, rank in ranks.items():
            value = getattr(self, name)
            if value is None and rank == 1:
                continue
            if not isinstance(value, Tensor) or not value.is_floating_point():
                came = value.dtype if isinstance(value, Tensor) else shown(value)
                raise CellError(f"{name} must be a floating tensor, got {came}")
        dtype = self.weight_hh.dtype
        rows = 3 * (self.weight_hh.shape[-1] if self.weight_hh.dim() else 0)
        if not rows:
            raise CellError(
                f"weight_hh has shape {tuple(self.weight_hh.shape)}; a cell has at least one unit"
            )
        for name, rank in ranks.items():
            value = getattr(self, name)
            if value is None:
                continue
            if value.dim() != rank or value.shape[0] != rows:
                raise CellError(
                    f"{name} has shape {tuple(value.shape)}; a cell of {rows // 3} units packs r, "
                    f"z and n in 3 x {rows // 3} = {rows} rows"
                )
            if value.dtype != dtype:
                raise CellError(f"{name} is {value.dtype}, weight_hh is {dtype}")
        if not isinstance(self.reset_after, bool):
            raise CellError(f"reset_after must be True or False, got {shown(self.reset_after)}")
        for name in ("gate", "candidate"):
            if not callable(getattr(self, name)):
                raise CellError(
                    f"{name} must be a function on tensors (torch.sigmoid, torch.nn.functional."
                    "hardsigmoid, one of grulens.cells.activations), got "
                    f"{shown(getattr(self, name))}"
                )

    @classmethod
    def from_keras(
        cls,
        weights: Any,
        *,
        reset_after: bool = True,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        keras_version: Any = None,
    ) -> Cell:
        """The cell of a Keras GRU layer, from what `layer.get_weights()` gives.

        The options and their defaults are those of `keras.layers.GRU`. The weights of a
        Bidirectional layer are the forward cell's and then the reverse one's::

            w = layer.get_weights()
            pair = Cell.from_keras(w[:3]), Cell.from_keras(w[3:])

        Cells one upon the other (`keras.layers.RNN([GRUCell(4), GRUCell(5)])`) give theirs one
        after another. A layer with `go_backwards=True` is a reverse cell: flip what it reads.

        Args:
            weights: kernel (input, 3 unit), recurrent kernel (unit, 3 unit), and the bias,
                (2, 3 unit) with `reset_after` and (3 unit,) without, or none; gates packed z, r, n.
                A bias of (6 unit,) is CuDNNGRU's, and its kernels are read as it keeps them.
            reset_after: where the reset gate acts; False was the default of TensorFlow 1.
            activation: of the candidate: Keras' name for it, None, or a function on tensors.
            recurrent_activation: of the gates, likewise.
            keras_version: 2 or 3; needed for "hard_sigmoid", which is another function in each.

        Raises:
            CellError: the arrays are not those of one GRU layer.
            ConventionError: an activation that is not known, a hard sigmoid of no said version, a
                bias that belongs to the other `reset_after`.

        >>> kernel, recurrent, bias = torch.zeros(2, 9), torch.zeros(3, 9), torch.zeros(9)
        >>> Cell.from_keras([kernel, recurrent, bias], reset_after=False)
        Cell(input 2, hidden 3, float32, reset before the product)
        """
        from grulens.cells.weights.keras import keras_cell  # noqa: PLC0415 - it builds a Cell

        return keras_cell(
            weights,
            reset_after=reset_after,
            activation=activation,
            recurrent_activation=recurrent_activation,
            keras_version=keras_version,
        )

    @classmethod
    def from_onnx(cls, path: Any, *, node: Any = None, direction: Any = "forward") -> Cell:
        """The cell of a GRU node in an ONNX file, with the convention the node states.

        Where the reset gate acts, the activations and their clip come from the node. Its layout,
        sequence_lens and initial_h say how it is called, and are no part of the cell. A node that
        runs in reverse only gives a reverse cell: flip what it reads.

        Args:
            path: a .onnx file, or an `onnx.ModelProto`. The package onnx must be installed.
            node: the GRU node's name, or its first output if it has none; inside a model-local
                function the call's name and a slash before it; None for the only one.
            direction: "forward" or "reverse"; a bidirectional node has both.

        Raises:
            CellError: the model has no such node, its weights are no constants, or the file is no
                whole model.
            ConventionError: the node does not run in this direction, or an activation or attribute
                of it is not settled.
            MissingPackageError: onnx is not installed.
            OSError: the file cannot be opened.

        >>> import numpy as np
        >>> from onnx import helper, numpy_helper
        >>> arrays = {"W": np.zeros((1, 9, 2)), "R": np.zeros((1, 9, 3))}
        >>> constants = [numpy_helper.from_array(a, name) for name, a in arrays.items()]
        >>> gru = helper.make_node("GRU", ["X", "W", "R"], ["Y"], hidden_size=3)
        >>> model = helper.make_model(helper.make_graph([gru], "one", [], [], constants))
        >>> Cell.from_onnx(model)
        Cell(input 2, hidden 3, float64, reset before the product)
        """
        from grulens.cells.weights.onnx import onnx_cell  # noqa: PLC0415 - it builds a Cell

        return onnx_cell(path, node=node, direction=direction)

    def z_swapped(self) -> Cell:
        """The same cell with z and 1 - z swapped, for weights whose z lets the candidate in.

        A `Cell`'s z keeps the memory; elsewhere (Chung et al. 2014, arXiv:1412.3555) it lets the
        candidate in, h = z n + (1 - z) h_prev. Make a cell of such weights as they are, and swap
        it: as 1 - gate(a) = gate(-a), the rows of z change sign.

        Raises:
            ConventionError: for this gate 1 - gate(a) is not gate(-a).

        >>> cell = Cell(torch.ones(3, 1), torch.ones(3, 1), None, None)
        >>> cell.z_swapped().weight_hh.flatten()
        tensor([ 1., -1.,  1.])
        """
        grid = torch.linspace(-20, 20, 4001, dtype=torch.float64, device=self.weight_hh.device)
        with torch.no_grad():
            off = float((self.gate(grid) + self.gate(-grid) - 1).abs().max())
        if not off < 1e-9:
            raise ConventionError(
                f"z and 1 - z cannot be swapped exactly: it needs 1 - gate(a) = gate(-a), and for "
                f"{name_of(self.gate)} they differ by up to {off:.2g}"
            )
        units = self.hidden_size

        def negated(rows: Tensor) -> Tensor:
            return torch.cat([rows[:units], -rows[units : 2 * units], rows[2 * units :]])

        return self.over(negated)

    @property
    def input_size(self) -> int:
        """Number of inputs."""
        return self.weight_ih.shape[1]

    @property
    def hidden_size(self) -> int:
        """Number of units."""
        return self.weight_hh.shape[1]

    @property
    def is_torch(self) -> bool:
        """Whether torch's fused kernel computes this cell."""
        alike = (self.bias_ih is None) == (self.bias_hh is None)
        standard = self.gate is torch.sigmoid and self.candidate is torch.tanh
        return self.reset_after and alike and standard

    def over(self, change: Callable[[Tensor], Tensor]) -> Cell:
        """The same cell over changed weights; `change` is asked for each that is there."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        held = {name: getattr(self, name) for name in names}
        changed: dict[str, Any] = {n: None if t is None else change(t) for n, t in held.items()}
        return replace(self, **changed)

    @property
    def convention(self) -> str:
        """Where its reset gate acts, and its activations that are not torch's, in words."""
        words = [f"reset {'after' if self.reset_after else 'before'} the product"]
        if self.gate is not torch.sigmoid:
            words.append(f"gate {name_of(self.gate)}")
        if self.candidate is not torch.tanh:
            words.append(f"candidate {name_of(self.candidate)}")
        return ", ".join(words)

    @property
    def parameters(self) -> list[Tensor]:
        """The weights and the biases that are there, in the order torch's kernel takes them."""
        found = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return [tensor for tensor in found if tensor is not None]

    def __repr__(self) -> str:
        sizes = f"input {self.input_size}, hidden {self.hidden_size}"
        dtype = str(self.weight_hh.dtype).removeprefix("torch.")
        return f"Cell({sizes}, {dtype}, {self.convention})"
