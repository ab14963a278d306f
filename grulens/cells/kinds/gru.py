"""The GRU (Cho et al. 2014, arXiv:1406.1078), in both its conventions and with any activations.

There are two published GRUs that differ in where the reset gate acts. Which of them a set of
weights belongs to cannot be seen from the weights, so a `Cell` says it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from grulens.arguments import (
    Elementwise,
    KerasActivation,
    KerasVersion,
    KerasWeights,
    NodeDirection,
    NodeName,
    OnnxModel,
)
from grulens.cells.activations import name_of
from grulens.cells.batched.gru import GRUSteps
from grulens.cells.batched.steps import Steps
from grulens.cells.cell import BLOCK_ROWS, RecurrentCell, activated
from grulens.cells.changes import Edit, Program
from grulens.cells.precision import autocast
from grulens.cells.signal import Signal
from grulens.cells.weights.keras import keras_weights
from grulens.cells.weights.onnx import onnx_weights
from grulens.errors import CellError, ConventionError, shown


class Terms(NamedTuple):
    """What a step is made of; each (..., unit).

    Attributes:
        pre_r: argument of the reset gate.
        r: reset gate.
        pre_z: argument of the update gate.
        z: update gate.
        inner: W_hn times what it multiplies, and b_hn: (W_hn h_prev + b_hn) with the reset after
            the product, (W_hn (r * h_prev) + b_hn) with the reset before it.
        pre_n: argument of the candidate.
        n: candidate.
    """

    pre_r: Tensor
    r: Tensor
    pre_z: Tensor
    z: Tensor
    inner: Tensor
    pre_n: Tensor
    n: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Cell(RecurrentCell):
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

    reset_after: bool = True
    # each an Activation; Any, so that a name given instead is refused in words of ours
    gate: Elementwise = torch.sigmoid
    candidate: Elementwise = torch.tanh

    kind: ClassVar[str] = "GRU"
    blocks: ClassVar[tuple[str, ...]] = ("r", "z", "n")
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("r", "reset gate", 0.0, 1.0, "reset"),
        Signal("z", "update gate", 0.0, 1.0, "keep"),
        Signal("n", "candidate", -1.0, 1.0, "candidate"),
        Signal("h", "state", -1.0, 1.0, "state", activated=False),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.reset_after, bool):
            raise CellError(f"reset_after must be True or False, got {shown(self.reset_after)}")
        for name in ("gate", "candidate"):
            if not callable(getattr(self, name)):
                raise CellError(
                    f"{name} must be a function on tensors (torch.sigmoid, torch.nn.functional."
                    "hardsigmoid, one of grulens.cells.activations), got "
                    f"{shown(getattr(self, name))}"
                )

    def terms(
        self,
        products: Float[Tensor, "*any gates"],
        h: Float[Tensor, "*any unit"],
        edit: Edit | None = None,
    ) -> Terms:
        """The gates with their arguments, with every convention and every change: the formulas.

        Args:
            products: W_i x + b_i (..., 3 unit) of any steps.
            h: the state before each (..., unit).
            edit: what changes signals on the way, or None.
        """
        units = self.hidden_size
        in_r, in_z, in_n = torch.split(products, units, -1)
        w_rz, w_n = self.weight_hh[: 2 * units], self.weight_hh[2 * units :]
        bias = self.bias_hh
        b_rz, b_n = (None, None) if bias is None else (bias[: 2 * units], bias[2 * units :])
        if self.reset_after:
            rec_r, rec_z, inner = torch.split(linear(h, self.weight_hh, bias), units, -1)
        else:
            rec_r, rec_z = torch.split(linear(h, w_rz, b_rz), units, -1)
        pre_r, r = activated("r", in_r + rec_r, self.gate, edit)
        pre_z, z = activated("z", in_z + rec_z, self.gate, edit)
        if self.reset_after:
            pre_n = torch.addcmul(in_n, r, inner)
        else:
            inner = linear(r * h, w_n, b_n)
            pre_n = in_n + inner
        pre_n, n = activated("n", pre_n, self.candidate, edit)
        return Terms(pre_r, r, pre_z, z, inner, pre_n, n)

    def compute(
        self, products: Tensor, state: Tensor, edit: Edit | None = None
    ) -> dict[str, Tensor]:
        made = self.terms(products, state, edit)
        return {"r": made.r, "z": made.z, "n": made.n}

    def output(self, signals: Mapping[str, Tensor], state: Tensor) -> Tensor:
        # under autocast states may have more precision than gates
        n, z = (signals[name].to(state.dtype) for name in ("n", "z"))
        return torch.lerp(n, state, z)

    def replay(self, x: Tensor, state: Tensor, edits: Program | None = None) -> dict[str, Tensor]:
        if self._quick(x, state, edits):
            return self._replayed(x, state, candidate=True)
        return super().replay(x, state, edits)

    def gates(self, x: Tensor, state: Tensor, edits: Program | None = None) -> dict[str, Tensor]:
        if self._quick(x, state, edits):
            return self._replayed(x, state, candidate=False)
        return super().gates(x, state, edits)

    def _quick(self, x: Tensor, state: Tensor, edits: Program | None) -> bool:
        """Whether its signals are those of torch's convention, unedited and without a graph."""
        if edits is not None or not self.is_torch or autocast(x.device):
            return False
        return not torch.is_grad_enabled() or not any(
            t.requires_grad for t in (x, state, *self.parameters)
        )

    def _replayed(self, x: Tensor, state: Tensor, *, candidate: bool) -> dict[str, Tensor]:
        """r, z and n (batch, time, unit), or r and z alone, of torch's convention and in place."""
        batch, steps, _ = x.shape
        units = self.hidden_size
        block = max(1, BLOCK_ROWS // max(1, batch))
        names = ("r", "z", "n") if candidate else ("r", "z")
        # time first, as torch's kernel leaves its output: a block is then one piece of memory
        made = [x.new_empty(steps, batch, units) for _ in names]
        x, state = x.transpose(0, 1), state.transpose(0, 1)
        split = partial(torch.split, split_size_or_sections=[2 * units, units])
        (in_rz, in_n), (rec_rz, rec_n) = split(self.weight_ih), split(self.weight_hh)
        bias_rz = bias_in = bias_rec = None
        if self.bias_ih is not None and self.bias_hh is not None:
            (bias_rz, bias_in), (also, bias_rec) = split(self.bias_ih), split(self.bias_hh)
            bias_rz = bias_rz + also
        for start in range(0, steps, block):
            inputs, states, *found = (
                tensor[start : start + block].flatten(0, 1) for tensor in (x, state, *made)
            )
            # arguments lie in memory that was used a moment ago; what is kept is written once,
            # where it stays, for memory that nobody has used yet costs as much as a product
            rz = linear(inputs, in_rz, bias_rz).addmm_(states, rec_rz.t())
            torch.sigmoid(rz[:, :units], out=found[0])
            torch.sigmoid(rz[:, units:], out=found[1])
            if candidate:
                inner = linear(states, rec_n, bias_rec)
                torch.tanh(linear(inputs, in_n, bias_in).addcmul_(found[0], inner), out=found[2])
        return {name: value.transpose(0, 1) for name, value in zip(names, made, strict=True)}

    def steps(self, copies: int, batch: int, like: Tensor) -> Steps:
        return GRUSteps(self, copies, batch, like)

    @classmethod
    def from_keras(
        cls,
        weights: KerasWeights,
        *,
        reset_after: bool = True,
        activation: KerasActivation = "tanh",
        recurrent_activation: KerasActivation = "sigmoid",
        keras_version: KerasVersion = None,
    ) -> Cell:
        """The cell of a Keras GRU layer, from what `layer.get_weights()` gives.

        The options and their defaults are those of `keras.layers.GRU`. The weights of a
        Bidirectional layer are the forward cell's and then the reverse one's::

            w = layer.get_weights()
            pair = Cell.from_keras(w[:3]), Cell.from_keras(w[3:])

        Stacked cells (`keras.layers.RNN([GRUCell(4), GRUCell(5)])`) give their arrays one after
        another. A layer with `go_backwards=True` is a reverse cell: reverse its input in time.

        Args:
            weights: kernel (input, 3 unit), recurrent kernel (unit, 3 unit), and the bias,
                (2, 3 unit) with `reset_after` and (3 unit,) without, or none; gates packed z, r, n.
                A bias of (6 unit,) is CuDNNGRU's, and its kernels are read as it keeps them.
            reset_after: where the reset gate acts; False was the default of TensorFlow 1.
            activation: the activation of the candidate: Keras' name, None for the identity, or a
                function on tensors.
            recurrent_activation: the activation of the gates, likewise.
            keras_version: 2 or 3; needed for "hard_sigmoid", which is another function in each.

        Raises:
            CellError: the arrays are not those of one GRU layer.
            ConventionError: an activation is unknown, "hard_sigmoid" comes without `keras_version`,
                or the bias belongs to the other `reset_after`.

        >>> kernel, recurrent, bias = torch.zeros(2, 9), torch.zeros(3, 9), torch.zeros(9)
        >>> Cell.from_keras([kernel, recurrent, bias], reset_after=False)
        Cell(input 2, hidden 3, float32, reset before the product)
        """
        return cls(
            *keras_weights(
                weights,
                reset_after=reset_after,
                activation=activation,
                recurrent_activation=recurrent_activation,
                keras_version=keras_version,
            )
        )

    @classmethod
    def from_onnx(
        cls, path: OnnxModel, *, node: NodeName = None, direction: NodeDirection = "forward"
    ) -> Cell:
        """The cell of a GRU node in an ONNX file, with the convention the node states.

        The node says where the reset gate acts, and has the activations and their clip. Its layout,
        sequence_lens and initial_h belong to a call and not to the cell. A node that runs in
        reverse only gives a reverse cell: reverse its input in time.

        Args:
            path: a .onnx file, or an `onnx.ModelProto`. The package onnx must be installed.
            node: the GRU node's name, or its first output if it has none; inside a model-local
                function the call's name and a slash before it; None for the only one.
            direction: "forward" or "reverse"; a bidirectional node has both.

        Raises:
            CellError: the model has no such node, its weights are not constants, or the file is
                damaged.
            ConventionError: the node does not run in this direction, or its activations or
                attributes do not determine one GRU.
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
        return cls(*onnx_weights(path, node=node, direction=direction))

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
    def kernel(self) -> Callable[..., Any] | None:
        alike = (self.bias_ih is None) == (self.bias_hh is None)
        standard = self.gate is torch.sigmoid and self.candidate is torch.tanh
        return torch._VF.gru if self.reset_after and alike and standard else None

    @property
    def equation(self) -> str:
        return "(1 − z) n + z h_prev"

    @property
    def convention(self) -> str:
        words = [f"reset {'after' if self.reset_after else 'before'} the product"]
        if self.gate is not torch.sigmoid:
            words.append(f"gate {name_of(self.gate)}")
        if self.candidate is not torch.tanh:
            words.append(f"candidate {name_of(self.candidate)}")
        return ", ".join(words)
