"""Single ONNX nodes, imported and differentiated by us in float64, and run by ONNX Runtime.

A table of nodes is one model, Σ w · node(x) over all of them, with every x and w an initializer
that learns, and compiled once. The gradient of w is the output of the node. So the same compiled
function, run at x ± εt, gives the differences that the gradient of x is held against.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tvm
from onnx import helper, numpy_helper
from tvm import relax

from pock_tvm.frontend.onnx_file import import_onnx
from pock_tvm.relay_passes import pipeline
from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.operators import LOWERINGS

EPS = 1e-5  # truncation ~ eps² = 1e-10, cancellation ~ 1e-16 / eps = 1e-11
OPSET = 23


@dataclass(frozen=True)
class Node:
    """One node.

    Args:
        name: unique in its table.
        op: ONNX's name of the operator.
        shapes: of its float operands, drawn uniformly from ``low`` to ``high``; an array is a
            constant operand, None one that is left out.
        attributes: of the node.
        outputs: how many of them to look at.
    """

    name: str
    op: str
    shapes: tuple[Any, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0
    outputs: int = 1
    domain: str = ""

    def operands(self) -> dict[str, np.ndarray]:
        """Return the operands that learn, and the constant ones."""
        rng = np.random.default_rng(len(self.name))
        return {
            f"{self.name}.x{k}": rng.uniform(self.low, self.high, operand)
            if isinstance(operand, tuple)
            else operand
            for k, operand in enumerate(self.shapes)
            if operand is not None
        }

    def learns(self, key: str) -> bool:
        return isinstance(self.shapes[int(key.rpartition(".x")[2])], tuple)

    def proto(self) -> onnx.NodeProto:
        given = self.operands()
        names = [f"{self.name}.x{k}" for k in range(len(self.shapes))]
        return helper.make_node(
            self.op,
            [name if name in given else "" for name in names],
            self.output_names(),
            name=self.name,
            domain=self.domain,
            **self.attributes,
        )

    def output_names(self) -> list[str]:
        return [f"{self.name}.y{k}" for k in range(self.outputs)]


def run_nodes(nodes: list[Node]) -> dict[str, np.ndarray]:
    """Return what ONNX Runtime makes of the nodes, in float32: it has few kernels for float64."""
    stored = {
        k: v.astype("float32") if v.dtype.kind == "f" else v
        for node in nodes
        for k, v in node.operands().items()
    }
    outputs = [name for node in nodes for name in node.output_names()]
    model = _model([node.proto() for node in nodes], stored, outputs, onnx.TensorProto.FLOAT)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return dict(zip(outputs, session.run(None, {}), strict=True))


def _model(
    protos: list[onnx.NodeProto],
    stored: Mapping[str, np.ndarray],
    outputs: list[str],
    dtype: int = onnx.TensorProto.DOUBLE,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        protos,
        "nodes",
        [],
        [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
        [numpy_helper.from_array(value, key) for key, value in stored.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


class CompiledNodes:
    """A table of nodes, compiled once.

    Attributes:
        theirs: outputs that ONNX Runtime finds.
        ours: outputs that we find.
        gradients: of Σ w · node(x), by operand.
    """

    def __init__(self, nodes: list[Node]) -> None:
        assert len({node.name for node in nodes}) == len(nodes), "names are not unique"
        self.theirs = run_nodes(nodes)
        rng = np.random.default_rng(7)
        self.w = {f"{y}.w": rng.standard_normal(v.shape) for y, v in self.theirs.items()}
        self.operands = {k: v for node in nodes for k, v in node.operands().items()}
        learning = {k for node in nodes for k in node.operands() if node.learns(k)}
        self.tangents = {k: rng.standard_normal(self.operands[k].shape) for k in sorted(learning)}
        self._compile(nodes)
        found = self._run(0.0)
        self.ours = {y: found[f"{y}.w"] for y in self.theirs}
        self.gradients = {k: found[k] for k in self.tangents}
        self.plus, self.minus = self._run(EPS), self._run(-EPS)

    def _compile(self, nodes: list[Node]) -> None:
        protos = [node.proto() for node in nodes]
        for y in self.theirs:
            protos += [
                helper.make_node("Mul", [f"{y}.w", y], [f"{y}.wy"]),
                helper.make_node("ReduceSum", [f"{y}.wy"], [f"{y}.sum"], keepdims=0),
            ]
        total = helper.make_node("Sum", [f"{y}.sum" for y in self.theirs], ["total"])
        model = _model([*protos, total], {**self.operands, **self.w}, ["total"])
        imported = import_onnx(model, "nodes", 1)
        self.learned = [*self.tangents, *self.w]
        mod = pipeline.canonicalize("frozen", {})(imported.mod)
        stored = mod["main"].attrs["stored_axes"].items()
        self.axes = {str(n): tuple(map(int, a)) for n, a in stored}
        self.order = [p.name for p in mod["main"].params]
        mod = DeriveBackward(self.learned)(mod)
        legal = relax.transform.LegalizeOps(LOWERINGS)(mod)
        target = tvm.target.Target({"kind": "llvm", "opt-level": 0})
        self.vm = relax.VirtualMachine(tvm.compile(legal, target=target), tvm.cpu())

    def _run(self, step: float) -> dict[str, np.ndarray]:
        """Return the gradients at x + step · t, in ONNX's layout."""
        values = {**self.operands, **self.w}
        for key, tangent in self.tangents.items():
            values[key] = values[key] + step * tangent
        arguments = [
            np.ascontiguousarray(values[n].transpose(self.axes[n])) if n in self.axes else values[n]
            for n in self.order
        ]
        gradients = list(self.vm["main"](*map(tvm.runtime.tensor, arguments)))[1:]
        return {
            n: np.transpose(g.numpy(), np.argsort(self.axes[n])) if n in self.axes else g.numpy()
            for n, g in zip(self.learned, gradients, strict=True)
        }

    def check(self, node: Node) -> None:
        """Hold outputs against ONNX Runtime, and gradients against central differences."""
        numeric = 0.0
        for y in node.output_names():
            np.testing.assert_allclose(self.ours[y], self.theirs[y], 1e-5, 1e-5, err_msg=y)
            change = self.plus[f"{y}.w"] - self.minus[f"{y}.w"]
            numeric += np.vdot(self.w[f"{y}.w"], change / (2 * EPS))
        keys = [key for key in node.operands() if node.learns(key)]
        analytic = sum(np.vdot(self.gradients[key], self.tangents[key]) for key in keys)
        np.testing.assert_allclose(analytic, numeric, rtol=1e-7, atol=1e-8)
