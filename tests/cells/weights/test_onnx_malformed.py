"""ONNX files that were torn or tampered with: a cell, or a CellError that says what is wrong."""

import re
from random import Random

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from grulens import Cell
from grulens.errors import CellError
from tests.cells.weights.test_onnx import UNITS, arrays, computed, model, node
from tests.cells.weights.test_onnx_functions import a_layer, call
from tests.cells.weights.test_onnx_functions import model as with_functions


def whole():
    """Models that can be read."""
    nodes, constants, _ = computed()
    function, held = a_layer()
    clipped = node(
        direction="bidirectional",
        activations=["Sigmoid", "LeakyRelu", "HardSigmoid", "Elu"],
        activation_alpha=[0.3, 0.25, 0.5],
        activation_beta=[0.4],
        clip=0.5,
    )
    return [
        model(clipped, constants=arrays(2)),
        model(*nodes, node(), constants=constants),
        with_functions([call("a", of_linear_before_reset=1)], {"W": held["W"]}, [function]),
    ]


MODELS = whole()
FILES = [proto.SerializeToString() for proto in MODELS]


def answers(path_or_proto):
    """Raise AssertionError unless each way to read it gives a cell or a CellError."""
    for direction in ("forward", "reverse"):
        for name in (None, "gru"):
            try:
                cell = Cell.from_onnx(path_or_proto, node=name, direction=direction)
            except CellError as error:
                cell, words = None, str(error)
            if cell is None:
                assert len(words) > 10
            else:
                assert cell.hidden_size > 0


def torn(random):
    """A file with bytes changed, dropped, put in, or cut off."""
    data = bytearray(random.choice(FILES))
    for _ in range(random.choice([1, 1, 2, 4, 16])):
        at = random.randrange(len(data))
        match random.choice(["change"] * 4 + ["drop", "put in", "cut"]):
            case "change":
                data[at] = random.randrange(256)
            case "drop":
                del data[at : at + random.randrange(1, 9)]
            case "put in":
                data[at:at] = random.randbytes(random.randrange(1, 5))
            case _:
                del data[at:]
        data = data or bytearray(b"\x00")
    return bytes(data)


@given(st.integers(0, 2**32))
def test_torn_files(tmp_path_factory, seed):
    random, path = Random(seed), tmp_path_factory.getbasetemp() / "torn.onnx"
    for _ in range(25):
        data = torn(random)
        path.write_bytes(data)
        try:
            answers(path)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error} for {data!r}") from error


VALUES = [
    0, -1, 2**62, 0.5, float("nan"), float("inf"), -0.5, "", "forward", "Sigmoid", b"\xff\xfe",
    [0], [1, 2, 3], [0.5], [0.5] * 7, [float("nan")] * 3, ["Sigmoid"], ["Sigmoid", "Tanh"] * 2,
    [b"\xff"] * 4, helper.make_graph([], "g", [], []), helper.make_tensor("t", 1, [1], [0.5]),
]  # fmt: skip
NAMES = ["activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size",
         "layout", "linear_before_reset", "output_sequence"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", range(len(VALUES)))
def test_each_attribute_with_each_value(name, value):
    for proto in MODELS[:2]:
        changed = onnx.ModelProto()
        changed.CopyFrom(proto)
        gru = next(each for each in changed.graph.node if each.op_type == "GRU")
        kept = [each for each in gru.attribute if each.name != name]
        del gru.attribute[:]
        gru.attribute.extend([*kept, helper.make_attribute(name, VALUES[value])])
        answers(changed)


SHAPES = [(), (0,), (1,), (1, 12), (1, 12, 0), (1, 11, 3), (1, 0, 4), (1, 12, 3, 1), (0, 12, 4),
          (1, 1, 1), (1, 2, 3), (12, 4), (1, 24), (1, 23), (2, 24), (1, 6), (1, 48)]  # fmt: skip


@pytest.mark.parametrize("which", ["W", "R", "B"])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_array_in_each_shape(which, shape):
    answers(model(node(), constants=arrays() | {which: np.zeros(shape, np.float32)}))


def test_names_that_are_no_text_are_shown_as_what_can_be_read(tmp_path):
    path = tmp_path / "names.onnx"
    path.write_bytes(FILES[0].replace(b"gru", b"\xff\xfe\xfd"))
    assert Cell.from_onnx(path).hidden_size == UNITS
    with pytest.raises(CellError, match="the GRU nodes '\ufffd\ufffd\ufffd': none is called 'gru'"):
        Cell.from_onnx(path, node="gru")


def test_whatever_goes_wrong_while_a_file_is_read_is_a_cell_error(monkeypatch):
    monkeypatch.setattr("grulens.cells.weights.onnx.activations", lambda *_: 1 / 0)
    with pytest.raises(CellError, match=r"no ONNX model that can be read \(ZeroDivisionError"):
        Cell.from_onnx(MODELS[0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"B": np.zeros((1, 23), "f")}, "B of the GRU node 'gru' has shape (1, 23); expected (dir"),
        ({"W": np.zeros((1, 9, 3), "f")}, "W of the GRU node 'gru' has shape (1, 9, 3); expected"),
        ({"R": np.zeros((1, 12, 3), "f")}, "W of the GRU node 'gru' has shape (1, 12, 3); expecte"),
    ],
)
def test_arrays_that_do_not_fit_are_named(changed, message):
    with pytest.raises(CellError, match=re.escape(message)):
        Cell.from_onnx(model(node(), constants=arrays() | changed))


def test_the_number_of_units_is_that_of_the_weights():
    wrong = node()
    wrong.attribute[0].i = UNITS + 1
    with pytest.raises(CellError, match="'gru' says hidden_size 5; its R is of 4 units"):
        Cell.from_onnx(model(wrong, constants=arrays()))
    nan = node(activations=["HardSigmoid", "Tanh"], activation_alpha=[float("nan")])
    with pytest.raises(CellError, match="gives nan as activation_alpha; they must be finite"):
        Cell.from_onnx(model(nan, constants=arrays()))
