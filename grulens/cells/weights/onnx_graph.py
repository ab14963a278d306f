"""The nodes of an ONNX model and the constants they read, whatever they stand in.

A node may lie in the graph, in a branch or a loop's body, or in a model-local function, which is
called with other names for its inputs and with values for its attributes. Exporters leave weights
as constants, or as a few slices and concatenations of constants (torch.onnx does): these are
computed, and nothing else of the model is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grulens.errors import CellError

if TYPE_CHECKING:
    import onnx

Functions = Mapping[tuple[str, str, str], Any]
"""Model-local functions by domain, name and overload."""


@dataclass(eq=False)
class Scope:
    """What the names in one body stand for.

    Attributes:
        functions: the model's own.
        opsets: which version of the operators its nodes are of, by domain.
        made: by a value's name what makes it, a node, a constant or another name, and in which
            scope that is.
        attributes: inside a function those of its call; None where there is no function.
        path: the names of the calls it stands in, each with a slash.
        calls: the functions it stands in.
        known: the values computed so far.
    """

    functions: Functions
    opsets: dict[str, int]
    made: dict[str, tuple[Any, Scope]] = field(default_factory=dict)
    attributes: Mapping[str, onnx.AttributeProto] | None = None
    path: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()
    known: dict[str, Any] = field(default_factory=dict)

    def nodes(self, body: Iterable[onnx.NodeProto]) -> Iterator[tuple[onnx.NodeProto, Scope]]:
        """Every node of a body, of the branches in it and of the functions it calls."""
        bound = [self._bound(node) for node in body]
        for node in bound:
            self.made.update((output, (node, self)) for output in node.output if output)
        for node in bound:
            yield node, self
            if _key(node) in self.functions:
                inner = self.called(node)
                yield from inner.nodes(self.functions[_key(node)].node)
            for attribute in node.attribute:
                for graph in (*[attribute.g][: attribute.HasField("g")], *attribute.graphs):
                    yield from self.inside(graph).nodes(graph.node)

    def inside(self, graph: onnx.GraphProto) -> Scope:
        """The scope of a graph in this one, with the constants that it holds."""
        inner = Scope(
            self.functions, self.opsets, dict(self.made), self.attributes, self.path, self.calls
        )
        inner.made.update((tensor.name, (tensor, inner)) for tensor in graph.initializer)
        return inner

    def called(self, node: onnx.NodeProto) -> Scope:
        """The scope of the body of the function that a node calls."""
        key = _key(node)
        function = self.functions[key]
        name = name_of(node)
        if key in self.calls:
            raise CellError(f"the function {function.name!r} of this model calls itself")
        attributes = {a.name: a for a in (*function.attribute_proto, *node.attribute)}
        opsets = {each.domain: each.version for each in function.opset_import}
        inner = Scope(
            self.functions, opsets, {}, attributes, f"{self.path}{name}/", (*self.calls, key)
        )
        for formal, actual in zip(function.input, node.input, strict=False):
            if actual:
                inner.made[formal] = (actual, self)
        return inner

    def value(self, name: str, above: tuple[tuple[int, str], ...] = ()) -> Any:
        """The array that a name stands for, if nothing but constants goes into it.

        Raises:
            CellError: something does that is known only when the model runs.
        """
        if name in self.known:
            return self.known[name]
        here = (id(self), name)
        if name not in self.made or here in above:
            raise CellError(
                f"depends on {name!r}, known only when the model runs; a Cell needs weights that "
                "are constants"
            )
        what, scope = self.made[name]
        self.known[name] = scope._made(what, name, (*above, here))
        return self.known[name]

    def _made(self, what: Any, name: str, above: tuple[tuple[int, str], ...]) -> Any:
        """What a constant is, what a name stands for in this scope, or what a node computes."""
        import onnx  # noqa: PLC0415 - onnx is optional
        from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - onnx is optional

        if isinstance(what, str):
            return self.value(what, above)
        if isinstance(what, onnx.TensorProto):
            return onnx.numpy_helper.to_array(what)
        if _key(what) in self.functions:
            inner = self.called(what)
            function = self.functions[_key(what)]
            for _ in inner.nodes(function.node):  # notes what makes which value
                pass
            outputs = dict(zip(what.output, function.output, strict=False))
            return inner.value(outputs[name], above)
        given = {each: self.value(each, above) for each in what.input if each}
        computed: Any = ReferenceEvaluator(what, opsets=self.opsets).run(None, given)
        return computed[list(what.output).index(name)]

    def made_by(self, name: str) -> str:
        """What makes a value, for a message."""
        what = self.made[name][0] if name in self.made else None
        return getattr(what, "op_type", None) or "a constant"

    def _bound(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """A node of a function, with the attributes that its call gives."""
        if self.attributes is None or not any(a.ref_attr_name for a in node.attribute):
            return node
        bound = type(node)()
        bound.CopyFrom(node)
        del bound.attribute[:]
        for attribute in node.attribute:
            given: Any = attribute
            if attribute.ref_attr_name:
                given = self.attributes.get(attribute.ref_attr_name)
                if given is None:
                    continue  # left out: the operator's own default
            bound.attribute.add().CopyFrom(given)
            bound.attribute[-1].name = attribute.name
        return bound


def nodes_of(proto: onnx.ModelProto) -> list[tuple[onnx.NodeProto, Scope]]:
    """Every node of a model, and the scope that says what its inputs are."""
    functions = {(f.domain, f.name, getattr(f, "overload", "")): f for f in proto.functions}
    opsets = {each.domain: each.version for each in proto.opset_import}
    top = Scope(functions, opsets).inside(proto.graph)
    return list(top.nodes(proto.graph.node))


def name_of(node: onnx.NodeProto) -> str:
    """Its name, or that of its first output: a node needs no name."""
    name: Any = node.name or next((output for output in node.output if output), "")
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)  # no valid text


def _key(node: onnx.NodeProto) -> tuple[str, str, str]:
    return node.domain, node.op_type, getattr(node, "overload", "")
