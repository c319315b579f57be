"""Convert the nodes of an ONNX graph one by one, and note everything that cannot be converted.

What depends on constants and on shapes only is computed on the way, by the reference
implementation of ``onnx``: exporters write shape arithmetic, masks and position ids as nodes, and a
branch whose condition is known becomes the nodes of that branch.
"""

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from tvm import relax, tirx
from tvm.ir import GenericConst
from tvm.relax.op import astype

from pock_tvm.frontend.onnx_graph import OnnxGraph
from pock_tvm.frontend.onnx_operators import can_convert, convert
from pock_tvm.frontend.origins import WHOLE_MODEL

_LOOPS = ("Loop", "Scan", "SequenceMap")
_RANDOM = ("Bernoulli", "Multinomial")


class NodeConverter:
    """Fills the function that a block builder has open.

    Attributes:
        origins: module of the last binding that each node became.
        lacking: places of the nodes without a converter, by operator.
        failed: one line for each node that its converter refused.
    """

    def __init__(self, bb: relax.BlockBuilder, graph: OnnxGraph) -> None:
        self.bb = bb
        self.opset = graph.opset
        self.origins: dict[relax.Var, str] = {}
        self.lacking: dict[str, list[str]] = {}
        self.failed: list[str] = []
        self._known: dict[str, np.ndarray] = dict(graph.constants)
        self._values: dict[str, relax.Expr] = {}
        self._dropouts = 0

    def define(self, name: str, var: relax.Var) -> None:
        """Name a parameter or an input; token ids arrive as int32 and are widened here."""
        self._values[name] = var

    def define_input(self, name: str, var: relax.Var, dtype: str) -> None:
        """Name an input that the graph reads as ``dtype``."""
        cast = str(var.ty.dtype) != dtype
        self._values[name] = self.bb.emit(astype(var, dtype)) if cast else var

    def run(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Convert nodes in order; those that need what could not be converted are passed over."""
        for node in nodes:
            place = place_of(node)
            if node.op_type == "If":
                self._branch(node, place)
            elif node.op_type in _LOOPS:
                self.failed.append(
                    f"{node.op_type} (in {place}): loops cannot be compiled; "
                    "export the model with the loop unrolled"
                )
            elif not self._fold(node):
                if not can_convert(node):
                    name = f"{node.domain}.{node.op_type}".removeprefix("ai.onnx").lstrip(".")
                    self.lacking.setdefault(name, []).append(place)
                elif all(self._defined(operand) for operand in node.input):
                    self._convert(node, place)

    def result(self, name: str) -> relax.Expr | None:
        """Return a tensor as an expression; None if it could not be computed."""
        if name in self._known:
            value = self._known[name]
            return relax.const(value, str(value.dtype))
        return self._values.get(name)

    def _defined(self, name: str) -> bool:
        return not name or name in self._known or name in self._values

    def _fold(self, node: onnx.NodeProto) -> bool:
        """Compute the outputs of a node now, if they depend on constants and shapes only."""
        if node.op_type.startswith("Random") or node.op_type in _RANDOM:
            return False
        shape = self._shape(node.input[0]) if node.input else None
        if node.op_type in ("Shape", "Size") and shape is not None:
            # Any tensor of this shape will do; one of zero strides takes no memory.
            operands = [np.broadcast_to(np.float32(0), shape)]
        elif node.op_type == "CastLike" and node.input[0] in self._known:
            like = self.result(node.input[1])
            if like is None:
                return False
            self._known[node.output[0]] = self._known[node.input[0]].astype(str(like.ty.dtype))
            return True
        elif all(operand in self._known for operand in node.input if operand):
            operands = [self._known[operand] for operand in node.input if operand]
        else:
            return False
        try:
            results = _evaluate(node, operands, self.opset)
        # The reference implementation lacks operators too, or refuses them: TVM may have them.
        except Exception:
            return False
        if not all(isinstance(value, np.ndarray | np.generic) for value in results):
            return False
        self._known.update(zip(node.output, map(np.asarray, results), strict=False))
        return True

    def _shape(self, name: str) -> tuple[int, ...] | None:
        if name in self._known:
            return self._known[name].shape
        value = self._values.get(name)
        return None if value is None else tuple(int(d) for d in value.ty.shape)

    def _branch(self, node: onnx.NodeProto, place: str) -> None:
        if not self._defined(node.input[0]):
            return
        if node.input[0] not in self._known:
            self.failed.append(
                f"If (in {place}): which branch runs depends on the input data; "
                "export the model without that choice"
            )
            return
        taken = "then_branch" if self._known[node.input[0]].item() else "else_branch"
        graph = next(a.g for a in node.attribute if a.name == taken)
        for tensor in graph.initializer:
            self._known[tensor.name] = onnx.numpy_helper.to_array(tensor)
        self.run(graph.node)
        for outer, inner in zip(node.output, graph.output, strict=True):
            for table in (self._known, self._values):
                if inner.name in table:
                    table[outer] = table[inner.name]

    def _convert(self, node: onnx.NodeProto, place: str) -> None:
        inputs = [self.result(operand) if operand else None for operand in node.input]
        try:
            converted = convert(
                self.bb, node, inputs, self.opset, self._values, stream=self._dropouts
            )
            self._dropouts += node.op_type == "Dropout"
            outputs = [self._bind(value, place) for value in self._outputs(converted, node)]
        # TVM's converters raise whatever they run into; all of it is about this one node.
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self.failed.append(f"{node.op_type} (in {place}): {reason[-1].strip()}")
            return
        self._values.update(zip(node.output, outputs, strict=False))

    def _outputs(self, converted: relax.Expr, node: onnx.NodeProto) -> list[relax.Expr]:
        if isinstance(converted, relax.Tuple):
            return list(converted.fields)[: len(node.output)]
        if isinstance(converted.ty, relax.TupleType):
            bound = self.bb.emit(converted)
            return [relax.TupleGetItem(bound, i) for i in range(len(converted.ty.fields))]
        return [converted]

    def _bind(self, value: relax.Expr, place: str) -> relax.Expr:
        value = self.bb.normalize(value)
        if not isinstance(value, relax.Var | GenericConst):
            value = self.bb.emit(value)
        extents: Any = getattr(value.ty, "shape", None)
        if extents is None or not all(isinstance(d, tirx.IntImm) for d in extents):
            raise ValueError("the shape of its result depends on the input data")
        if isinstance(value, relax.Var):
            self.origins.setdefault(value, place)
        return value


def place_of(node: onnx.NodeProto) -> str:
    """Return the path of the module that a node was exported from, as far as the file tells."""
    notes = {m.key: m.value for m in node.metadata_props}
    if scopes := notes.get("pkg.torch.onnx.name_scopes"):
        modules = [scope for scope in ast.literal_eval(scopes)[:-1] if scope]
        return str(modules[-1]) if modules else WHOLE_MODEL
    if node.name.startswith("/"):
        return ".".join(node.name.split("/")[1:-1]) or WHOLE_MODEL
    return node.name or f"the node of {node.output[0]}"


def _evaluate(node: onnx.NodeProto, operands: Sequence[np.ndarray], opset: int) -> list[Any]:
    names = [operand for operand in node.input if operand]
    feeds = dict(zip(names, operands, strict=False))
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "constant", inputs, outputs)
    opsets = [onnx.helper.make_opsetid(node.domain, opset if not node.domain else 1)]
    return list(
        ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets)).run(None, feeds)
    )
