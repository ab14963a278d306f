"""The weights of a GRU node in an ONNX file as a Cell, exactly, or refused by name.

ONNX packs the gates z, r, n and its z keeps the memory (onnx.ai/onnx/operators/onnx__GRU.html).
What the node says about its arguments (layout, sequence_lens, initial_h) is no part of the cell.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from torch import Tensor

from grulens.cells.weights.arrays import GRUWeights, rzn, tensor
from grulens.cells.weights.onnx_activations import activations
from grulens.cells.weights.onnx_graph import Scope, name_of, nodes_of
from grulens.errors import CellError, ConventionError, MissingPackageError, shown
from grulens.words import so_many

if TYPE_CHECKING:
    import onnx

DIRECTIONS = {
    "forward": ("forward",),
    "reverse": ("reverse",),
    "bidirectional": ("forward", "reverse"),
}


def onnx_weights(model: Any, *, node: Any, direction: Any) -> GRUWeights:
    """The weights of one GRU node and direction; arguments and errors: `Cell.from_onnx`."""
    proto = _loaded(model)
    try:
        return _weights(proto, node, direction)
    except CellError:
        raise
    except Exception as error:  # names that are no text, and whatever else a torn file holds
        raise CellError(
            f"this is no ONNX model that can be read ({type(error).__name__}: {error})"
        ) from error


def _weights(proto: onnx.ModelProto, node: Any, direction: Any) -> GRUWeights:
    name, found, scope = _chosen(proto, node)
    said = _attributes(name, found)
    directions = DIRECTIONS[said["direction"]]
    if not isinstance(direction, str) or direction not in directions:
        raise ConventionError(
            f"the GRU node {name} runs {' and '.join(directions)}: pass direction="
            f"{' or '.join(map(repr, directions))}, got {shown(direction)}"
        )
    index = directions.index(direction)
    given = dict(zip(("X", "W", "R", "B"), found.input, strict=False))
    arrays = {}
    for which in ("W", "R", "B"):
        if given.get(which):  # "" is an input that is left out
            arrays[which] = _array(scope, given[which], which, name)
        elif which != "B":
            raise CellError(f"the GRU node {name} has no {which}")
    _check_shapes(arrays, len(directions), said["hidden_size"], name)
    bias_ih = bias_hh = None
    if "B" in arrays:
        bias_ih, bias_hh = map(rzn, arrays["B"][index].chunk(2))
    gate, candidate = activations(said, len(directions), name)[2 * index : 2 * index + 2]
    return GRUWeights(
        rzn(arrays["W"][index]),
        rzn(arrays["R"][index]),
        bias_ih,
        bias_hh,
        reset_after=bool(said["linear_before_reset"]),
        gate=gate,
        candidate=candidate,
    )


def _loaded(model: Any) -> onnx.ModelProto:
    try:
        import onnx  # noqa: PLC0415 - onnx is optional
    except ImportError as error:
        raise MissingPackageError(
            "Cell.from_onnx reads the file with the package onnx, which is not installed: "
            "pip install onnx"
        ) from error
    if isinstance(model, onnx.ModelProto):
        return model
    if not isinstance(model, str | os.PathLike):
        raise CellError(
            f"expected the path of a .onnx file or an onnx.ModelProto, got {type(model).__name__}"
        )
    try:
        return onnx.load(model)
    except OSError:
        raise
    except Exception as error:
        raise CellError(f"onnx cannot read {os.fspath(model)}: {error}") from error


def _chosen(proto: onnx.ModelProto, wanted: Any) -> tuple[str, onnx.NodeProto, Scope]:
    """The GRU node that is meant: what it is called, itself, and where it stands."""
    every = nodes_of(proto)
    # in a function that is called twice a node is there twice, under the names of the calls
    grus = [
        (f"{scope.path}{name_of(node)}", node, scope)
        for node, scope in every
        if node.op_type == "GRU" and node.domain in ("", "ai.onnx")
    ]
    if not grus:
        kinds = ", ".join(sorted({node.op_type for node, _ in every})) or "nothing"
        raise CellError(f"the model holds no GRU node; it has {kinds}")
    named = grus
    if wanted is not None:
        name = wanted if isinstance(wanted, str) else None
        named = [gru for gru in grus if gru[0] == name]
        named = named or [gru for gru in grus if name_of(gru[1]) == name]
    if len(named) != 1:
        names = ", ".join(repr(name) for name, _, _ in grus)
        if wanted is None:
            problem = "say which one with node="
        elif named:
            problem = f"{len(named)} are called {shown(wanted)}"
        else:
            problem = f"none is called {shown(wanted)}"
        raise CellError(f"the model holds the GRU nodes {names}: {problem}")
    name, node, scope = named[0]
    return repr(name), node, scope


def _check_shapes(
    arrays: dict[str, Tensor], directions: int, hidden_size: int | None, name: str
) -> None:
    """Raise CellError unless the arrays are those of a GRU node."""
    weight = arrays["R"]
    units = weight.shape[-1] if weight.dim() else 0
    inputs = arrays["W"].shape[-1] if arrays["W"].dim() else 0
    expected = {
        "W": (directions, 3 * units, inputs),
        "R": (directions, 3 * units, units),
        "B": (directions, 6 * units),
    }
    words = {"W": "3 unit, input", "R": "3 unit, unit", "B": "6 unit"}
    for which, array in arrays.items():
        if tuple(array.shape) != expected[which]:
            raise CellError(
                f"{which} of the GRU node {name} has shape {tuple(array.shape)}; expected "
                f"(direction, {words[which]}), with {so_many(directions, 'direction')} and "
                f"{so_many(units, 'unit')} "
                f"{expected[which]}"
            )
    if hidden_size not in (None, units):
        raise CellError(
            f"the GRU node {name} says hidden_size {hidden_size}; its R is of "
            + so_many(units, "unit")
        )


ATTRIBUTES: dict[str, tuple[str, Any]] = {
    "activations": ("STRINGS", []),
    "activation_alpha": ("FLOATS", []),
    "activation_beta": ("FLOATS", []),
    "clip": ("FLOAT", None),
    "direction": ("STRING", "forward"),
    "hidden_size": ("INT", None),
    "layout": ("INT", 0),
    "linear_before_reset": ("INT", 0),
    "output_sequence": ("INT", 0),  # before opset 7
}
"""What a GRU node may say: of which type, and what holds if it does not."""


def _attributes(name: str, node: onnx.NodeProto) -> dict[str, Any]:
    from onnx import AttributeProto  # noqa: PLC0415 - onnx is optional
    from onnx.helper import get_attribute_value  # noqa: PLC0415 - onnx is optional

    said = {attribute: default for attribute, (_, default) in ATTRIBUTES.items()}
    types = {number: kind for kind, number in AttributeProto.AttributeType.items()}
    for attribute in node.attribute:
        if attribute.name not in said:
            raise ConventionError(
                f"the GRU node {name} has the attribute {attribute.name!r}, which ONNX does not "
                "define"
            )
        kind, _ = ATTRIBUTES[attribute.name]
        if attribute.ref_attr_name or types.get(attribute.type) != kind:
            came = "a reference" if attribute.ref_attr_name else types.get(attribute.type, "none")
            raise ConventionError(
                f"the GRU node {name} has the attribute {attribute.name!r} as {came}; ONNX "
                f"defines {kind}"
            )
        value = get_attribute_value(attribute)
        said[attribute.name] = value.decode(errors="replace") if kind == "STRING" else value
    if said["direction"] not in DIRECTIONS:
        raise ConventionError(
            f"the GRU node {name} has direction {said['direction']!r}; ONNX defines "
            f"{', '.join(DIRECTIONS)}"
        )
    if said["linear_before_reset"] not in (0, 1):
        raise ConventionError(
            f"the GRU node {name} has linear_before_reset {said['linear_before_reset']}; ONNX "
            "defines 0 and 1"
        )
    return said


def _array(scope: Scope, value: str, which: str, name: str) -> Tensor:
    """The array of a value, if nothing but constants goes into it."""
    try:
        array = scope.value(value)
    except CellError as error:
        raise CellError(f"{which} of the GRU node {name} {error}") from error
    except Exception as error:
        raise CellError(
            f"{which} of the GRU node {name} (made by {scope.made_by(value)}) cannot be read: "
            f"{error}"
        ) from error
    return tensor(array, f"{which} of the GRU node {name}")
