"""Cells read from ONNX files against onnxruntime, which runs the same files."""

import itertools
import re
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch.nn.utils.rnn import pack_padded_sequence

from grulens import Cell
from grulens.adapters import GRUStack
from grulens.cells.activations import Clipped, HardSigmoid
from grulens.errors import CellError, ConventionError, MissingPackageError

UNITS, INPUTS, STEPS, BATCH = 4, 3, 6, 2
FLOAT = onnx.TensorProto.FLOAT


def arrays(directions=1, bias=True):
    random = np.random.default_rng(directions)
    shapes = {"W": (3 * UNITS, INPUTS), "R": (3 * UNITS, UNITS)}
    shapes |= {"B": (6 * UNITS,)} if bias else {}
    return {
        name: random.normal(size=(directions, *shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def node(bias=True, inputs=(), name="gru", **attributes):
    given = ["X", "W", "R", "B" if bias else "", *inputs]
    return helper.make_node(
        "GRU", given, ["Y", "Y_h"], name=name, hidden_size=UNITS, **attributes
    )  # fmt: skip


def model(*nodes, constants, inputs=()):
    values = [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs]
    return helper.make_model(
        helper.make_graph(
            list(nodes),
            "g",
            [helper.make_tensor_value_info("X", FLOAT, [None, None, INPUTS]), *values],
            [helper.make_tensor_value_info(name, FLOAT, None) for name in ("Y", "Y_h")],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def ran(proto, x, **more):
    """Y of ONNX (time, direction, batch, unit) as torch's output (batch, time, unit), and h_n."""
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    y, y_h = session.run(["Y", "Y_h"], {"X": x.transpose(1, 0, 2), **more})
    return y.transpose(2, 0, 1, 3).reshape(len(x), -1, y.shape[1] * y.shape[3]), y_h


def close(cells, x, expected, h_0=None):
    stack = GRUStack([cells])
    output, _ = stack(torch.from_numpy(x), None if h_0 is None else torch.from_numpy(h_0))
    return np.abs(output.detach().numpy() - expected).max()


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(BATCH, STEPS, INPUTS)).astype(np.float32)


def directions_of(direction):
    return ("forward", "reverse") if direction == "bidirectional" else (direction,)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "convention",
    [
        {},
        {"activations": ["HardSigmoid", "Relu"], "activation_alpha": [0.3]},
        {
            "activations": ["HardSigmoid", "ScaledTanh"],
            "activation_alpha": [0.3, 0.7],
            "activation_beta": [0.4, 0.5],
            "clip": 0.9,
        },
    ],
    ids=["plain", "hard", "clipped"],
)
def test_a_node_of_any_convention(x, after, direction, bias, convention):
    directions = directions_of(direction)
    said = {name: value if name == "clip" else value * len(directions)
            for name, value in convention.items()}  # fmt: skip
    proto = model(
        node(bias, ("", "h_0"), direction=direction, linear_before_reset=after, **said),
        constants=arrays(len(directions), bias),
        inputs=[("h_0", FLOAT)],
    )
    h_0 = np.random.default_rng(1).normal(size=(len(directions), BATCH, UNITS)).astype(np.float32)
    expected, _ = ran(proto, x, h_0=h_0)
    cells = [Cell.from_onnx(proto, direction=d) for d in directions]
    if direction == "reverse":  # alone: torch knows no such layer, its input turns around
        x, expected = x[:, ::-1].copy(), expected[:, ::-1]
    assert close(cells, x, expected, h_0) < 1e-5
    for wrong in others(cells[0]):
        assert close([wrong, *cells[1:]], x, expected, h_0) > 1e-2
    assert len(cells) == 1 or close(cells[::-1], x, expected, h_0) > 1e-2


def others(cell):
    """The same weights read in other orders and by the other conventions."""
    for order in itertools.permutations(range(3)):
        if order != (0, 1, 2):
            yield cell.over(lambda rows, o=order: torch.cat([rows.chunk(3)[i] for i in o]))
    yield replace(cell, reset_after=not cell.reset_after)
    yield replace(cell, gate=torch.nn.functional.hardsigmoid)
    if cell.bias_ih is not None and cell.reset_after:  # elsewhere the two are added
        yield replace(cell, bias_ih=cell.bias_hh, bias_hh=cell.bias_ih)


@pytest.mark.parametrize(
    ("name", "alpha", "beta"),
    [
        ("Affine", 0.3, 0.4),
        ("Elu", None, None),
        ("Elu", 0.5, None),
        ("HardSigmoid", None, None),
        ("HardSigmoid", 0.3, None),
        ("HardSigmoid", None, 0.3),
        ("LeakyRelu", None, None),
        ("LeakyRelu", 0.3, None),
        ("Relu", None, None),
        ("ScaledTanh", 0.7, 1.4),
        ("Sigmoid", None, None),
        ("Softplus", None, None),
        ("Softsign", None, None),
        ("Tanh", None, None),
        ("ThresholdedRelu", 0.4, None),
        ("tanh", None, None),
    ],
)
def test_every_activation_is_that_of_onnxruntime(x, name, alpha, beta):
    said = {"activation_alpha": alpha, "activation_beta": beta}
    said = {key: [value] for key, value in said.items() if value is not None}
    weights = {key: array / 2 for key, array in arrays().items()}
    others = ["Sigmoid", "Tanh"]
    for place in (0, 1):
        names = [name if place == i else other for i, other in enumerate(others)]
        proto = model(node(activations=names, **said), constants=weights)
        expected, _ = ran(proto, x)
        scale = max(1.0, float(np.abs(expected).max()))
        assert close([Cell.from_onnx(proto)], x, expected) < 1e-5 * scale


def test_numbers_go_to_the_activations_that_use_them(x):
    proto = model(
        node(
            direction="bidirectional",
            activations=["Sigmoid", "LeakyRelu", "HardSigmoid", "Elu"],
            activation_alpha=[0.3, 0.25, 0.5],
            activation_beta=[0.4],
        ),
        constants=arrays(2),
    )
    cells = [Cell.from_onnx(proto, direction=d) for d in ("forward", "reverse")]
    assert cells[1].gate == HardSigmoid(0.25, 0.4)
    assert close(cells, x, ran(proto, x)[0]) < 1e-5
    assert cells[0].convention.endswith("the product, candidate LeakyRelu(alpha=0.3)")


def test_the_clip_is_part_of_the_activation():
    cell = Cell.from_onnx(model(node(clip=0.2), constants=arrays()))
    assert cell.gate == Clipped(torch.sigmoid, 0.2)
    assert cell.convention == (
        "reset before the product, gate Clipped(sigmoid, 0.2), candidate Clipped(tanh, 0.2)"
    )


def test_rows_of_other_lengths(x):
    proto = model(
        node(inputs=("lengths",), direction="bidirectional", linear_before_reset=1),
        constants=arrays(2),
        inputs=[("lengths", onnx.TensorProto.INT32)],
    )
    _, expected = ran(proto, x, lengths=np.array([STEPS, 3], np.int32))
    stack = GRUStack([[Cell.from_onnx(proto, direction=d) for d in ("forward", "reverse")]])
    packed = pack_padded_sequence(torch.from_numpy(x), torch.tensor([STEPS, 3]), batch_first=True)
    torch.testing.assert_close(stack(packed)[1].detach(), torch.from_numpy(expected))


def test_the_layout_is_no_part_of_the_cell(x):
    expected, _ = ran(model(node(), constants=arrays()), x)  # onnxruntime runs no other layout
    cell = Cell.from_onnx(model(node(layout=1), constants=arrays()))
    assert close([cell], x, expected) < 1e-5


def computed():
    """Weights as torch.onnx leaves them: parts of constants, put together in the graph."""
    held = arrays()
    text = {"z": 0, "r": UNITS, "n": 2 * UNITS, "end": 3 * UNITS, "axis": 1}
    constants = {name: np.array([value]) for name, value in text.items()}
    constants |= {"W_all": held["W"], "R2": held["R"] / 2, "two": np.float32(2), "B": held["B"]}
    nodes = [
        helper.make_node("Slice", ["W_all", "z", "r", "axis"], ["W_z"]),
        helper.make_node("Slice", ["W_all", "r", "end", "axis"], ["W_rest"]),
        helper.make_node("Split", ["W_rest"], ["W_r", "W_n"], axis=1),
        helper.make_node("Concat", ["W_z", "W_r", "W_n"], ["W"], axis=1),
        helper.make_node("Mul", ["R2", "two"], ["R"]),
        helper.make_node("Add", ["X", "two"], ["is not needed"]),
    ]
    return nodes, constants, held


def test_weights_may_be_computed_from_constants(x):
    nodes, constants, held = computed()
    proto = model(*nodes, node(), constants=constants)
    whole = Cell.from_onnx(model(node(), constants=held))
    assert torch.equal(Cell.from_onnx(proto).weight_ih, whole.weight_ih)
    assert close([Cell.from_onnx(proto)], x, ran(proto, x)[0]) < 1e-5


def test_weights_may_be_constant_nodes_and_lie_in_a_branch():
    held = arrays()
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(held[name]))
        for name in ("R", "B")
    ]
    body = helper.make_graph([*constants, node(name="inner")], "then", [], [])
    other = helper.make_graph([], "else", [], [])
    branch = helper.make_node("If", ["flag"], ["out"], then_branch=body, else_branch=other)
    proto = model(branch, constants={"W": held["W"], "flag": np.array(True)})
    found = Cell.from_onnx(proto, node="inner")
    whole = Cell.from_onnx(model(node(), constants=held))
    for one, expected in zip(found.parameters, whole.parameters, strict=True):
        assert torch.equal(one, expected)


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_the_dtype_is_kept(dtype):
    kind = np.dtype("float32" if dtype == "bfloat16" else dtype)
    constants = {name: array.astype(kind) for name, array in arrays().items()}
    proto = model(node(), constants=constants)
    if dtype == "bfloat16":
        for tensor, array in zip(proto.graph.initializer, constants.values(), strict=True):
            bits = torch.from_numpy(array).bfloat16().view(torch.int16).numpy()
            tensor.CopyFrom(
                helper.make_tensor(
                    tensor.name, onnx.TensorProto.BFLOAT16, array.shape, bits.tobytes(), raw=True
                )
            )
    cell = Cell.from_onnx(proto)
    assert cell.weight_ih.dtype == getattr(torch, dtype)
    rows = torch.from_numpy(constants["W"][0]).to(cell.weight_ih.dtype)
    assert torch.equal(cell.weight_ih[: 2 * UNITS], torch.cat(rows.chunk(3)[1::-1]))


def test_files_with_their_weights_next_to_them(tmp_path):
    proto = model(node(), constants=arrays())
    expected = Cell.from_onnx(proto)
    onnx.save(
        proto, tmp_path / "gru.onnx", save_as_external_data=True, location="gru.data",
        size_threshold=0,
    )  # fmt: skip
    for path in (tmp_path / "gru.onnx", str(tmp_path / "gru.onnx")):
        assert torch.equal(Cell.from_onnx(path).weight_hh, expected.weight_hh)
    (tmp_path / "gru.data").unlink()
    with pytest.raises(CellError, match=r"onnx cannot read .*gru\.onnx"):
        Cell.from_onnx(tmp_path / "gru.onnx")


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no model at all")
    with pytest.raises(CellError, match=r"onnx cannot read .*text\.onnx"):
        Cell.from_onnx(tmp_path / "text.onnx")
    with pytest.raises(FileNotFoundError):
        Cell.from_onnx(tmp_path / "nothing.onnx")
    with pytest.raises(CellError, match=r"expected the path of a \.onnx file or an onnx\.ModelP"):
        Cell.from_onnx(3)


def renamed(one, name, output):
    one.name, one.output[0] = name, output
    return one


def test_nodes_are_told_apart_by_name_or_first_output():
    nodes = [node(), renamed(node(linear_before_reset=1), "", "Y2")]
    proto = model(*nodes, constants=arrays())
    assert not Cell.from_onnx(proto, node="gru").reset_after
    assert Cell.from_onnx(proto, node="Y2").reset_after
    for asked, message in ((None, "say which one with node="), ("g", "none is called 'g'")):
        with pytest.raises(CellError, match=f"holds the GRU nodes 'gru', 'Y2': {message}"):
            Cell.from_onnx(proto, node=asked)
    twice = model(node(), renamed(node(), "gru", "Y2"), constants=arrays())
    with pytest.raises(CellError, match="'gru', 'gru': 2 are called 'gru'"):
        Cell.from_onnx(twice, node="gru")


def test_a_model_without_a_gru_says_what_it_has():
    with pytest.raises(CellError, match="the model holds no GRU node; it has Relu"):
        Cell.from_onnx(model(helper.make_node("Relu", ["X"], ["Y"]), constants={}))
    with pytest.raises(CellError, match="it has nothing"):
        Cell.from_onnx(onnx.ModelProto())


@pytest.mark.parametrize(
    ("has", "asked", "message"),
    [
        ("reverse", "forward", "runs reverse: pass direction='reverse', got 'forward'"),
        ("forward", "reverse", "runs forward: pass direction='forward', got 'reverse'"),
        ("bidirectional", None, "runs forward and reverse: pass direction='forward' or 'reverse'"),
        ("sideways", "forward", "has direction 'sideways'; ONNX defines forward, reverse, bidirec"),
    ],
)
def test_the_direction_is_never_guessed(has, asked, message):
    proto = model(node(direction=has), constants=arrays(2 if has == "bidirectional" else 1))
    with pytest.raises(ConventionError, match=re.escape(message)):
        Cell.from_onnx(proto, direction=asked)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"activations": ["Sigmoid", "Sin"]}, "the activation 'Sin', which ONNX does not define"),
        ({"activations": ["Tanh"]}, "names 1 activations (Tanh); expected 2 a direction, 2"),
        ({"activations": ["Sigmoid", "Affine"]}, "gives 0 values of activation_alpha for Sigmoid"),
        (
            {"activations": ["Sigmoid", "LeakyRelu"], "activation_alpha": [0.0, 0.2]},
            "gives 2 values of activation_alpha for Sigmoid, LeakyRelu; 1 are needed",
        ),
        ({"activations": ["Sigmoid", "ThresholdedRelu"]}, "gives 0 values of activation_alpha"),
        ({"clip": -1.0}, "has clip -1.0; it must be above 0"),
        ({"slope": 2}, "has the attribute 'slope', which ONNX does not define"),
    ],
)
def test_conventions_that_are_not_settled_are_refused(attributes, message):
    with pytest.raises(ConventionError, match=re.escape(message)):
        Cell.from_onnx(model(node(**attributes), constants=arrays()))


def without(name, **changed):
    return {key: value for key, value in (arrays() | changed).items() if key != name}


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (model(node(), constants=without("W")), "W of the GRU node 'gru' depends on 'W', known o"),
        (
            model(
                helper.make_node("Add", ["W0", "X"], ["W"]),
                node(),
                constants=without("W", W0=arrays()["W"]),
            ),
            "W of the GRU node 'gru' depends on 'X', known only when the model runs",
        ),
        (
            model(
                helper.make_node("Mystery", ["W0"], ["W"], domain="mine"),
                node(),
                constants=without("W", W0=arrays()["W"]),
            ),
            "W of the GRU node 'gru' (made by Mystery) cannot be read",
        ),
        (model(node(), constants=arrays(2)), "W of the GRU node 'gru' has shape (2, 12, 3); expec"),
        (model(node(), constants=without("", R=np.ones((1, 12, 4), int))), "has dtype int64"),
        (
            model(helper.make_node("GRU", ["X", "", "R"], ["Y"]), constants=arrays()),
            "the GRU node 'Y' has no W",
        ),
    ],
)
def test_weights_that_cannot_be_read_are_refused(proto, message):
    with pytest.raises(CellError, match=re.escape(message)):
        Cell.from_onnx(proto)


def test_without_onnx_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match="not installed: pip install onnx"):
        Cell.from_onnx("model.onnx")
    assert issubclass(MissingPackageError, ImportError)
