"""GRU nodes in the functions of an ONNX model, against onnxruntime, which runs the same files."""

import re

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from grulens import Cell
from grulens.errors import CellError, ConventionError
from tests.cells.weights.test_onnx import FLOAT, INPUTS, UNITS, arrays, close, ran


def attribute(name, kind):
    """An attribute that a function takes from its call, under another name."""
    return onnx.AttributeProto(name=name, ref_attr_name=f"of_{name}", type=kind)


def a_layer(opset=17, default=None):
    """A function: R and B are its own, W is given, and where the reset gate acts."""
    held = arrays()
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(held[name]))
        for name in ("R", "B")
    ]
    gru = helper.make_node("GRU", ["x", "w", "R", "B"], ["y", "y_h"], name="gru", hidden_size=UNITS)
    gru.attribute.append(attribute("linear_before_reset", onnx.AttributeProto.INT))
    given = {"attributes": ["of_linear_before_reset"]}
    if default is not None:
        value = helper.make_attribute("of_linear_before_reset", default)
        given = {"attributes": [], "attribute_protos": [value]}
    made = helper.make_function(
        "local", "Layer", ["x", "w"], ["y", "y_h"], [*nodes, gru],
        [helper.make_opsetid("", opset)], **given,
    )  # fmt: skip
    return made, held


def model(nodes, constants, functions):
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("X", FLOAT, [None, None, INPUTS])],
            [helper.make_tensor_value_info(name, FLOAT, None) for name in ("Y", "Y_h")],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        functions=functions,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("local", 1)],
        ir_version=10,
    )


def call(name, w="W", outputs=("Y", "Y_h"), kind="Layer", **attributes):
    return helper.make_node(kind, ["X", w], outputs, name=name, domain="local", **attributes)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(2, 6, INPUTS)).astype(np.float32)


@pytest.mark.parametrize("after", [0, 1])
def test_a_node_in_a_function_reads_what_its_call_gives(x, after):
    function, held = a_layer()
    proto = model([call("first", of_linear_before_reset=after)], {"W": held["W"]}, [function])
    cell = Cell.from_onnx(proto)
    assert cell.reset_after is bool(after)
    assert close([cell], x, ran(proto, x)[0]) < 1e-5
    for name in ("first/gru", "gru"):
        assert Cell.from_onnx(proto, node=name).reset_after is bool(after)


@pytest.mark.parametrize("default", [0, 1])
def test_what_a_call_leaves_out_is_the_functions_own(x, default):
    function, held = a_layer(default=default)
    proto = model([call("first")], {"W": held["W"]}, [function])
    assert Cell.from_onnx(proto).reset_after is bool(default)
    assert close([Cell.from_onnx(proto)], x, ran(proto, x)[0]) < 1e-5


def test_a_function_that_is_called_twice_holds_two_layers(x):
    function, held = a_layer()
    constants = {"W": held["W"], "W2": held["W"][..., ::-1].copy()}
    nodes = [
        call("first", outputs=("Y0", "Y_h0"), of_linear_before_reset=1),
        call("second", "W2", of_linear_before_reset=0),
    ]
    proto = model(nodes, constants, [function])
    said = "holds the GRU nodes 'first/gru', 'second/gru': "
    with pytest.raises(CellError, match=said + "say which one"):
        Cell.from_onnx(proto)
    with pytest.raises(CellError, match=said + "2 are called 'gru'"):
        Cell.from_onnx(proto, node="gru")
    cells = [Cell.from_onnx(proto, node=f"{name}/gru") for name in ("first", "second")]
    assert [cell.reset_after for cell in cells] == [True, False]
    assert close([cells[1]], x, ran(proto, x)[0]) < 1e-5
    assert not np.allclose(cells[0].weight_ih, cells[1].weight_ih)


def test_functions_call_functions_and_make_weights(x):
    inner, held = a_layer()
    double = helper.make_function(
        "local", "Double", ["v"], ["w"], [helper.make_node("Add", ["v", "v"], ["w"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    outer = helper.make_function(
        "local", "Outer", ["x", "half"], ["y", "y_h"],
        [
            helper.make_node("Double", ["half"], ["w"], domain="local"),
            helper.make_node(
                "Layer", ["x", "w"], ["y", "y_h"], domain="local", of_linear_before_reset=1
            ),
        ],
        [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)],
    )  # fmt: skip
    proto = model([call("top", kind="Outer")], {"W": held["W"] / 2}, [inner, double, outer])
    cell = Cell.from_onnx(proto, node="top/y/gru")  # a call that has no name is its first output's
    assert close([cell], x, ran(proto, x)[0]) < 1e-5


def test_a_function_is_read_in_its_own_version_of_the_operators(x):
    # Split without its sizes: their number follows from the outputs before opset 18 only
    function, held = a_layer()
    thirds = helper.make_function(
        "local", "Turn", ["v"], ["w"],
        [
            helper.make_node("Split", ["v"], ["a", "b", "c"], axis=1),
            helper.make_node("Concat", ["c", "a", "b"], ["w"], axis=1),
        ],
        [helper.make_opsetid("", 13)],
    )  # fmt: skip
    turned = np.concatenate(np.split(held["W"], 3, 1)[1:] + np.split(held["W"], 3, 1)[:1], 1)
    nodes = [
        helper.make_node("Turn", ["V"], ["W"], domain="local"),
        call("first", of_linear_before_reset=1),
    ]
    proto = model(nodes, {"V": turned}, [function, thirds])
    plain = model([call("first", of_linear_before_reset=1)], {"W": held["W"]}, [function])
    assert close([Cell.from_onnx(proto)], x, ran(plain, x)[0]) < 1e-5


def test_what_a_call_does_not_give_is_refused():
    function, held = a_layer()
    proto = model([call("first", "X", of_linear_before_reset=1)], {}, [function])
    with pytest.raises(CellError, match="W of the GRU node 'first/gru' depends on 'X', known only"):
        Cell.from_onnx(proto)
    proto = model([call("first", "", of_linear_before_reset=1)], {}, [function])
    with pytest.raises(CellError, match="W of the GRU node 'first/gru' depends on 'w', known only"):
        Cell.from_onnx(proto)
    proto = model([call("first", of_linear_before_reset="1")], {"W": held["W"]}, [function])
    said = "the attribute 'linear_before_reset' as STRING; ONNX defines INT"
    with pytest.raises(ConventionError, match=re.escape(said)):
        Cell.from_onnx(proto)
    proto = model([call("first", of_linear_before_reset=2)], {"W": held["W"]}, [function])
    with pytest.raises(ConventionError, match="has linear_before_reset 2; ONNX defines 0 and 1"):
        Cell.from_onnx(proto)


def test_a_function_that_calls_itself_is_refused():
    again = helper.make_function(
        "local", "Again", ["x"], ["y"],
        [helper.make_node("Again", ["x"], ["y"], domain="local")],
        [helper.make_opsetid("local", 1)],
    )  # fmt: skip
    proto = model([helper.make_node("Again", ["X"], ["Y"], domain="local")], {}, [again])
    with pytest.raises(CellError, match="the function 'Again' of this model calls itself"):
        Cell.from_onnx(proto)


def test_the_standard_domain_may_be_spelt_out(x):
    held = arrays()
    gru = helper.make_node(
        "GRU", ["X", "W", "R", "B"], ["Y", "Y_h"], hidden_size=UNITS, domain="ai.onnx"
    )
    proto = model([gru], held, [])
    plain = helper.make_node("GRU", ["X", "W", "R", "B"], ["Y", "Y_h"], hidden_size=UNITS)
    assert close([Cell.from_onnx(proto)], x, ran(model([plain], held, []), x)[0]) < 1e-5
