"""The weights of a GRU node in an ONNX file as a Cell, exactly, or refused by name.

ONNX packs the gates z, r, n and its z keeps the memory (onnx.ai/onnx/operators/onnx__GRU.html).
What the node says about its arguments (layout, sequence_lens, initial_h) is no part of the cell.
Exporters leave weights as constants, in files next to the model, or as a few slices and
concatenations of constants (torch.onnx does): all of them are read, none of the model is run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from grulens.errors import CellError, ConventionError, MissingPackageError, shown
from grulens.gru.cell import Cell
from grulens.gru.onnx_activations import activations
from grulens.gru.zrn import rzn, tensor

if TYPE_CHECKING:
    import onnx

DIRECTIONS = {
    "forward": ("forward",),
    "reverse": ("reverse",),
    "bidirectional": ("forward", "reverse"),
}


def onnx_cell(model: Any, *, node: Any, direction: Any) -> Cell:
    """The cell of one GRU node and direction; arguments and errors: `Cell.from_onnx`."""
    proto = _loaded(model)
    found, made = _chosen(proto, node)
    name = repr(_name(found))
    said = _attributes(found)
    directions = DIRECTIONS[said["direction"]]
    if direction not in directions:
        raise ConventionError(
            f"the GRU node {name} runs {' and '.join(directions)}: pass direction="
            f"{' or '.join(map(repr, directions))}, got {shown(direction)}"
        )
    index = directions.index(direction)
    given = dict(zip(("X", "W", "R", "B"), found.input, strict=False))
    arrays = {}
    for which, rank in (("W", 3), ("R", 3), ("B", 2)):
        if not given.get(which):  # "" is an input that is left out
            if which == "B":
                continue
            raise CellError(f"the GRU node {name} has no {which}")
        value = _constant(proto, given[which], made, which, name)
        array = arrays[which] = tensor(value, f"{which} of the GRU node {name}")
        if array.dim() != rank or len(array) != len(directions):
            raise CellError(
                f"{which} of the GRU node {name} has shape {tuple(array.shape)}; expected {rank} "
                f"axes, the first of {len(directions)} direction(s)"
            )
    bias_ih = bias_hh = None
    if "B" in arrays:
        bias_ih, bias_hh = map(rzn, arrays["B"][index].chunk(2))
    gate, candidate = activations(said, len(directions), name)[2 * index : 2 * index + 2]
    return Cell(
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


def _nodes(graph: onnx.GraphProto, outer: dict[str, Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every node, with what makes the values it can see; branches and loop bodies too."""
    made = outer | {constant.name: constant for constant in graph.initializer}
    for node in graph.node:
        made.update((output, node) for output in node.output if output)
    for node in graph.node:
        yield node, made
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body, made)


def _name(node: onnx.NodeProto) -> str:
    """Its name, or that of its first output: a node needs no name."""
    return node.name or next((output for output in node.output if output), "")


def _chosen(proto: onnx.ModelProto, wanted: Any) -> tuple[onnx.NodeProto, dict[str, Any]]:
    every = list(_nodes(proto.graph, {}))
    grus = [(node, made) for node, made in every if node.op_type == "GRU" and not node.domain]
    if not grus:
        kinds = ", ".join(sorted({node.op_type for node, _ in every})) or "nothing"
        raise CellError(f"the model holds no GRU node; it has {kinds}")
    named = grus if wanted is None else [pair for pair in grus if _name(pair[0]) == wanted]
    if len(named) != 1:
        names = ", ".join(repr(_name(node)) for node, _ in grus)
        if wanted is None:
            asked = "say which one with node="
        elif named:
            asked = f"{len(named)} are called {wanted!r}"
        else:
            asked = f"none is called {wanted!r}"
        raise CellError(f"the model holds the GRU nodes {names}: {asked}")
    return named[0]


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    from onnx.helper import get_attribute_value  # noqa: PLC0415 - onnx is optional

    said: dict[str, Any] = {
        "activations": [],
        "activation_alpha": [],
        "activation_beta": [],
        "clip": None,
        "direction": "forward",
        "hidden_size": None,
        "layout": 0,
        "linear_before_reset": 0,
        "output_sequence": 0,  # before opset 7
    }
    for attribute in node.attribute:
        if attribute.name not in said:
            raise ConventionError(
                f"the GRU node {_name(node)!r} has the attribute {attribute.name!r}, which ONNX "
                "does not define"
            )
        value = get_attribute_value(attribute)
        said[attribute.name] = value.decode() if isinstance(value, bytes) else value
    if said["direction"] not in DIRECTIONS:
        raise ConventionError(
            f"the GRU node {_name(node)!r} has direction {said['direction']!r}; ONNX defines "
            f"{', '.join(DIRECTIONS)}"
        )
    return said


def _constant(
    proto: onnx.ModelProto, value: str, made: dict[str, Any], which: str, name: str
) -> Any:
    """The array of a value, if nothing but constants goes into it."""
    import onnx  # noqa: PLC0415 - onnx is optional
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - onnx is optional

    needed, left = set(), [value]
    while left:
        wanted = left.pop()
        if wanted in needed or not wanted:
            continue
        if wanted not in made:
            raise CellError(
                f"{which} of the GRU node {name} depends on {wanted!r}, known only when the model "
                "runs; a Cell needs weights that are constants"
            )
        needed.add(wanted)
        left += getattr(made[wanted], "input", ())
    # as `made` has them: no node stands before what it needs; one may stand there for each output
    sources: dict[int, Any] = {id(made[each]): made[each] for each in made if each in needed}
    constants = [each for each in sources.values() if isinstance(each, onnx.TensorProto)]
    nodes = [each for each in sources.values() if isinstance(each, onnx.NodeProto)]
    try:
        if not nodes:
            return onnx.numpy_helper.to_array(constants[0])
        output = onnx.ValueInfoProto(name=value)
        part = onnx.helper.make_model(
            onnx.helper.make_graph(nodes, "weights", [], [output], constants),
            opset_imports=proto.opset_import,
            ir_version=proto.ir_version,
        )
        computed: Any = ReferenceEvaluator(part).run(None, {})
        return computed[0]
    except Exception as error:
        kinds = ", ".join(sorted({node.op_type for node in nodes})) or "a constant"
        raise CellError(
            f"{which} of the GRU node {name} (made by {kinds}) cannot be read: {error}"
        ) from error
