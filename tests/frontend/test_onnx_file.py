"""Importing ONNX: names, statistics, bounds, ties, batches, and what is refused."""

import numpy as np
import onnx
import pytest
import small_net
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_exports import EXPORTERS, export
from torch import nn

import pock_tvm
from pock_tvm.errors import BatchError, PockError, UnknownNameError, UnsupportedModelError
from pock_tvm.frontend import load_model
from pock_tvm.frontend.onnx_file import import_onnx, import_onnx_file
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def model(nodes, inputs, outputs, weights=(), opset=20, **extra):
    """Build a model from tuples (name, dtype, shape) and a mapping of weights."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(weights).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **extra)


def operators(imported):
    return [b.value.op.name for b in bindings_of(imported.mod["main"]) if hasattr(b.value, "op")]


def linear(node, *more, weights=(), shape=("batch", 4)):
    """Build a linear layer, then ``node`` from tensor ``y`` to tensor ``out``, then ``more``."""
    w = np.eye(4, dtype="float32")
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="/fc/MatMul"), node, *more],
        [("x", FLOAT, shape)],
        [("out", FLOAT, None)],
        {"w": w, **dict(weights)},
    )


@pytest.fixture(scope="module", params=EXPORTERS)
def small(request, tmp_path_factory):
    net, inputs = small_net.build()
    # Distinct values: equal ones, such as fresh biases, are one tensor to an exporter.
    with torch.no_grad():
        for k, tensor in enumerate([*net.parameters(), *net.buffers()]):
            if tensor.is_floating_point():
                tensor.add_(0.01 * k)
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    export(net, (inputs[0].repeat(2, 1, 1, 1),), path, request.param, names=("pixels",))
    return net, import_onnx_file(path, 3)


def test_tensors_keep_their_names_values_and_order(small):
    net, imported = small
    wanted = {k: v for k, v in net.state_dict().items() if "num_batches" not in k}
    assert set(imported.parameters) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(imported.parameters[name], value.numpy())
    learn = [n for n in imported.parameters if n not in imported.buffers]
    assert learn[0].startswith("features.stem")
    assert learn[-1] == "classifier.bias"


def test_statistics_inputs_and_the_batch(small):
    _, imported = small
    assert imported.buffers == {"features.norm.running_mean", "features.norm.running_var"}
    (spec,) = imported.inputs
    assert (spec.name, spec.shape, spec.dtype) == ("pixels", (3, 1, 8, 8), "float32")


def test_clip_arrives_as_clip_and_batch_norm_as_batch_norm(small):
    _, imported = small
    found = operators(imported)
    assert "relax.clip" in found
    assert "relax.nn.batch_norm" in found
    assert not {"relax.call_tir", "relax.isnan", "relax.where"} & set(found)
    norm = next(
        b.value
        for b in bindings_of(imported.mod["main"])
        if getattr(getattr(b.value, "op", None), "name", "") == "relax.nn.batch_norm"
    )
    assert float(norm.attrs.momentum) == pytest.approx(0.1)  # PyTorch's; ONNX writes 0.9


@pytest.mark.parametrize(
    "exporter, keep", [("torchscript", True), ("torchscript", False), ("dynamo", True)]
)
def test_equal_biases_that_an_exporter_merged_are_apart_again(exporter, keep, tmp_path):
    """With ``keep=False`` the dynamo exporter drops biases of zero: nothing is left to tell."""
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    for layer in (net[0], net[2]):
        nn.init.zeros_(layer.bias)
    path = export(net, (torch.zeros(2, 4),), tmp_path / "net.onnx", exporter, keep=keep)
    imported = import_onnx_file(path, 2)
    assert {n for n, v in imported.parameters.items() if v.shape == (4,)} == {"0.bias", "2.bias"}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_weight_that_two_nodes_share_is_one_parameter(exporter, tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.out.weight = self.words.weight

        def forward(self, ids):
            return self.out(self.words(ids))

    ids = torch.zeros(2, 3, dtype=torch.int64)
    path = export(Tied(), (ids,), tmp_path / "tied.onnx", exporter, names=("ids",))
    imported = import_onnx_file(path, 2)
    assert [v.shape for v in imported.parameters.values()] == [(7, 4)]
    assert imported.inputs[0].dtype == "int32"


@pytest.mark.parametrize(
    "bounds, found, values",
    [
        ({"low": -0.5, "high": 0.5}, "relax.clip", [-0.5, -0.2, 0.3, 0.5]),
        ({"low": 0.0}, "relax.nn.relu", [0, 0, 0.3, 2]),
        ({"high": 0.25}, "relax.minimum", [-3, -0.2, 0.25, 0.25]),
        ({"low": np.nan, "high": 0.25}, "relax.minimum", [-3, -0.2, 0.25, 0.25]),
    ],
)
def test_bounds_of_clip(bounds, found, values, tmp_path):
    bounds = {k: np.float32(v) for k, v in bounds.items()}
    operands = ["y", "low" if "low" in bounds else "", "high" if "high" in bounds else ""]
    imported = import_onnx(
        linear(helper.make_node("Clip", operands, ["out"]), weights=bounds), "n", 1
    )
    assert operators(imported) == ["relax.matmul", found]
    assert list(imported.parameters) == ["w"]
    pock_tvm.compile(imported, tmp_path / "net", loss="mse")
    with pock_tvm.Trainer(tmp_path / "net") as trainer:
        got = trainer.predict(np.array([[-3, -0.2, 0.3, 2]], "float32"))
    np.testing.assert_allclose(got, [values], rtol=1e-7)


def test_attributes_of_an_old_clip():
    node = helper.make_node("Clip", ["x"], ["out"], min=0.0, max=6.0)
    old = model([node], [("x", FLOAT, (1, 4))], [("out", FLOAT, (1, 4))], opset=6)
    assert operators(import_onnx(old, "old", 1)) == ["relax.clip"]


def test_shapes_masks_and_known_branches_are_computed_at_import():
    """The target of Reshape goes through Shape, Gather, If and Concat."""
    then = helper.make_graph(
        [helper.make_node("Constant", [], ["two"], value_ints=[2])],
        "then",
        [],
        [helper.make_tensor_value_info("two", INT, (1,))],
    )
    other = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["nothing"])],
        "else",
        [],
        [helper.make_tensor_value_info("nothing", INT, None)],
    )
    nodes = [
        helper.make_node("Shape", ["y"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Equal", ["batch", "batch"], ["yes"]),
        helper.make_node("Squeeze", ["yes"], ["condition"]),
        helper.make_node("If", ["condition"], ["pair"], then_branch=then, else_branch=other),
        helper.make_node("Concat", ["batch", "pair", "pair"], ["target"], axis=0),
        helper.make_node("Reshape", ["y", "target"], ["out"]),
    ]
    imported = import_onnx(linear(*nodes, weights={"zero": np.array([0])}), "net", 3)
    assert operators(imported) == ["relax.matmul", "relax.reshape"]
    assert [int(d) for d in imported.mod["main"].ret_ty.shape] == [3, 2, 2]


@pytest.mark.parametrize(
    "batch, shapes, error, message",
    [
        (2, {}, UnsupportedModelError, r"axis 1 of input x \('tokens'\).*--shape x=2,LENGTH"),
        (2, {"x": (2, 5)}, None, ""),
        (2, {"x": (3, 5)}, BatchError, "for batches of 3, not 2"),
        (2, {"x": (2, 5, 1)}, PockError, r"has the shape \(batch, tokens\), which"),
        (2, {"y": (2, 5)}, UnknownNameError, "no input 'y'; its inputs are x, mask"),
    ],
)
def test_open_axes(batch, shapes, error, message):
    axes = ("batch", "tokens")
    two = model(
        [
            helper.make_node("Mul", ["x", "mask"], ["y"]),
            helper.make_node("Mul", ["y", "w"], ["out"]),
        ],
        [("x", FLOAT, axes), ("mask", FLOAT, axes)],
        [("out", FLOAT, axes)],
        {"w": np.ones(1, "float32")},
    )
    if error:
        with pytest.raises(error, match=message):
            import_onnx(two, "net", batch, shapes=shapes)
    else:
        assert [i.shape for i in import_onnx(two, "net", batch, shapes=shapes).inputs] == [
            (2, 5)
        ] * 2


def test_a_file_for_another_batch():
    fixed = linear(helper.make_node("Relu", ["y"], ["out"]), shape=(2, 4))
    with pytest.raises(BatchError, match="net was exported for batches of 2, not 3"):
        import_onnx(fixed, "net", 3)


def test_several_outputs_need_a_choice():
    def two(name):
        nodes = [
            helper.make_node("MatMul", ["x", "w"], [name]),
            helper.make_node("Neg", [name], ["b"]),
        ]
        outputs = [(name, FLOAT, None), ("b", FLOAT, None)]
        return model(nodes, [("x", FLOAT, ("n", 4))], outputs, {"w": np.eye(4, dtype="float32")})

    with pytest.raises(PockError, match=r"2 tensors \(0: a, 1: b\).*--output-name"):
        import_onnx(two("a"), "net", 2)
    assert operators(import_onnx(two("logits"), "net", 2)) == ["relax.matmul"]
    for choice in ("b", 1, "1"):
        assert "relax.negative" in operators(import_onnx(two("logits"), "net", 2, output=choice))
    with pytest.raises(UnknownNameError, match="no output 'c'; its outputs are 0: a, 1: b"):
        import_onnx(two("a"), "net", 2, output="c")


def test_all_that_is_lacking_is_said_at_once():
    """Operators without converter, loops, branches on data, and operators without derivative."""
    body = helper.make_graph([], "body", [], [helper.make_tensor_value_info("y", FLOAT, None)])
    wrong = linear(
        helper.make_node("Det", ["x"], ["d"], name="/head/Det"),
        helper.make_node("MatMul", ["d", "w"], ["z"]),
        helper.make_node("Foo", ["y"], ["foo"], domain="acme", name="/tail/Foo"),
        helper.make_node("Loop", ["", "", "y"], ["l"], name="/tail/Loop", body=body),
        helper.make_node("Reshape", ["y", "shape"], ["picture"]),
        helper.make_node("GridSample", ["picture", "grid"], ["best"]),
        helper.make_node("If", ["cond"], ["i"], name="branch", then_branch=body, else_branch=body),
        helper.make_node("Sum", ["z", "foo", "l", "best", "i"], ["out"]),
        weights={"shape": np.array([1, 1, 2, 4]), "grid": np.zeros((1, 1, 1, 2), "float32")},
    )
    wrong.graph.node.insert(0, helper.make_node("IsNaN", ["x"], ["cond"]))
    with pytest.raises(UnsupportedModelError) as caught:
        import_onnx(wrong, "net", 2)
    for part in (
        "no converter for Det (in head); acme.Foo (in tail)",
        "Loop (in tail): loops cannot be compiled; export the model with the loop unrolled",
        "If (in branch): which branch runs depends on the input data",
        "no derivative for relax.image.grid_sample",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_standard_operators_that_tvm_lacks_are_written_out():
    celu = linear(helper.make_node("Celu", ["y"], ["out"], alpha=0.5))
    assert "relax.matmul" in operators(import_onnx(celu, "net", 2))


def test_a_shape_that_depends_on_data_is_refused():
    node = helper.make_node("NonZero", ["y"], ["out"], name="/pick/NonZero")
    with pytest.raises(
        UnsupportedModelError, match=r"NonZero \(in pick\): the shape of its result"
    ):
        import_onnx(linear(node), "net", 2)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", r"net\.onnx is not an ONNX model, or is damaged: it holds no graph"),
        (b"not a model at all", r"net\.onnx is not an ONNX model, or is damaged"),
        (None, r"no such file: .*net\.onnx"),
    ],
)
def test_files_that_are_no_models(content, message, tmp_path):
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PockError, match=message):
        load_model(str(path), 2)


def test_weights_beside_the_file_are_read_and_missed(tmp_path):
    big = linear(helper.make_node("Relu", ["y"], ["out"]))
    path = tmp_path / "net.onnx"
    onnx.save(big, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    np.testing.assert_array_equal(import_onnx_file(path, 2).parameters["w"], np.eye(4))
    (tmp_path / "net.bin").unlink()
    with pytest.raises(PockError, match=r"is damaged: .*net\.bin"):
        import_onnx_file(path, 2)


def test_dropouts_are_kept_with_streams_of_their_own():
    nodes = [
        helper.make_node("Dropout", ["y", "ratio", "training"], ["z"]),
        helper.make_node("Dropout", ["z"], ["out"]),
    ]
    numbers = {"ratio": np.array(0.25, "float32"), "training": np.array(True)}
    imported = import_onnx(linear(nodes[0], nodes[1], weights=numbers), "net", 2)
    calls = [b.value for b in bindings_of(imported.mod["main"])]
    drops = [call for call in calls if is_call_to(call, "pock.dropout")]
    assert [(d.attrs["p"], int(d.attrs["stream"])) for d in drops] == [(0.25, 0), (0.5, 1)]


def test_strings_are_refused():
    strings = model(
        [helper.make_node("StringConcat", ["x", "x"], ["out"])],
        [("x", TensorProto.STRING, ("n", 4))],
        [("out", TensorProto.STRING, ("n", 4))],
    )
    with pytest.raises(UnsupportedModelError, match="net holds strings"):
        import_onnx(strings, "net", 2)
