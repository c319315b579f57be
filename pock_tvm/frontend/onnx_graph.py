"""Read an ONNX file: one output, static inputs, and which of its tensors are weights.

Exporters leave traces that are undone here. PyTorch's TorchScript exporter stores equal tensors
once and hands them on through ``Identity`` nodes that bear the other names: tensors of a single
repeated value (fresh biases, fresh scales) are equal by chance and get their own storage back,
all others are tied weights and stay one tensor. Local functions are inlined, and operators of the
standard that TVM lacks are replaced by the standard's own definition of them.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
from onnx import numpy_helper

from pock_tvm.errors import PockError, UnsupportedModelError
from pock_tvm.frontend.onnx_operators import can_convert
from pock_tvm.frontend.outputs import choose_output
from pock_tvm.frontend.shapes import Extent, Shapes, bind_shapes

_SETTINGS = {"Clip": 1, "Dropout": 1, "Pad": 1, "Pow": 1, "Range": 0, "Resize": 1, "Upsample": 1}
"""Operators, and their first operand that says what to do rather than being data."""

_SMALL_BYTES = 65536
"""What shape inference may read: shapes and axes, no weights."""

_WEIGHT_OPERANDS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "PRelu"), (1, 2)),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), (1, 2)),
    **dict.fromkeys(("GroupNormalization", "LayerNormalization"), (1, 2)),
}
"""Operands that are weights even where a file keeps them in ``Constant`` nodes."""


@dataclass(frozen=True)
class OnnxGraph:
    """The part of a graph that one output is computed from."""

    nodes: list[onnx.NodeProto]
    opset: int
    inputs: dict[str, tuple[tuple[int, ...], str]]
    """Shape and dtype by name."""
    output: str
    parameters: dict[str, np.ndarray]
    """Float tensors that can learn, then running statistics."""
    statistics: frozenset[str]
    constants: dict[str, np.ndarray]
    aliases: dict[str, str]
    """Other name of a tied weight -> its name in ``parameters``."""


def read_onnx(path: Path) -> onnx.ModelProto:
    """Load a model with its weights.

    Raises:
        PockError: there is no such file, it is damaged, or weights that lie beside it are missing.
    """
    if not path.is_file():
        raise PockError(f"no such file: {path}")
    try:
        model = onnx.load(path)
    # protobuf, onnx and the file system each have errors of their own for a damaged file.
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise PockError(
            f"{path} is not an ONNX model, or is damaged: {reason[0] if reason else error!r}"
        ) from error
    if not model.graph.node or not model.graph.output:
        raise PockError(f"{path} is not an ONNX model, or is damaged: it holds no graph")
    return model


def prepare(
    model: onnx.ModelProto, name: str, batch: int, shapes: Shapes, output: str | int | None
) -> OnnxGraph:
    """Bring a model to the form that its nodes are converted from.

    Raises:
        UnknownNameError: ``shapes`` or ``output`` names nothing.
        PockError: several outputs and none chosen.
        BatchError: the model was exported for another batch.
        UnsupportedModelError: axes without a length.
    """
    model = _inline_functions(model)
    graph, opset = model.graph, _opset(model)
    outputs = [o.name for o in graph.output]
    chosen = outputs[choose_output(name, outputs, output)]
    typed = [t.data_type for t in graph.initializer]
    typed += [i.type.tensor_type.elem_type for i in graph.input]
    if onnx.TensorProto.STRING in typed:
        raise UnsupportedModelError(
            f"{name} holds strings; only tensors of numbers can be compiled"
        )
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    tensors.update(_sparse(graph))
    kinds = {v.name: {m.key: m.value for m in v.metadata_props} for v in graph.value_info}
    nodes = _needed_nodes(graph.node, chosen)
    nodes, statistics, aliases = _untie(nodes, tensors)
    reads = {operand for node in nodes for operand in _reads(node)} | {chosen}
    declared = {i.name: _axes(i) for i in graph.input if i.name in reads and i.name not in tensors}
    bound = bind_shapes(name, declared, batch, shapes)
    dtypes = {i.name: _dtype(i) for i in graph.input if i.name in declared}
    learnable = {
        key: value
        for key, value in tensors.items()
        if key in reads and key not in statistics and _is_weight(key, value, kinds, nodes)
    }
    learnable.update(_weights_in_constants(nodes))
    # In the order of first use: schemes such as "the last blocks" go by the order of parameters.
    order = dict.fromkeys(operand for node in nodes for operand in _reads(node))
    learnable = {key: learnable[key] for key in order if key in learnable}
    learnable.update({key: tensors[key] for key in statistics})
    return OnnxGraph(
        nodes=nodes,
        opset=opset,
        inputs={key: (shape, dtypes[key]) for key, shape in bound.items()},
        output=chosen,
        parameters=learnable,
        statistics=frozenset(statistics),
        constants={k: v for k, v in tensors.items() if k in reads and k not in learnable},
        aliases={other: key for other, key in aliases.items() if key in learnable},
    )


def _opset(model: onnx.ModelProto) -> int:
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def _inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace calls of local functions, and of standard functions that TVM lacks, by their body."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    opset = _opset(model)
    lacking = {
        ("", node.op_type)
        for node in model.graph.node
        if node.domain in ("", "ai.onnx") and not can_convert(node) and _has_body(node, opset)
    }
    if not lacking:
        return model
    try:
        return onnx.inliner.inline_selected_functions(
            _declare_types(model), sorted(lacking), inline_schema_functions=True
        )
    # A definition that depends on types that the file leaves open; the nodes are reported later.
    except RuntimeError:
        return model


def _declare_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """Note the types of all tensors: some definitions depend on them."""
    graph = model.graph
    stored = {
        t.name: onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in graph.initializer
    }
    # Inference reads small constants, such as shapes, and would copy all weights: leave them out.
    small = [t for t in graph.initializer if t.ByteSize() < _SMALL_BYTES]
    weights = stored.keys() - {t.name for t in small} - {i.name for i in graph.input}
    bare = onnx.helper.make_graph(
        graph.node,
        graph.name,
        [*graph.input, *(stored[name] for name in weights)],
        graph.output,
        small,
        value_info=graph.value_info,
    )
    versions = {"opset_imports": model.opset_import, "ir_version": model.ir_version}
    inferred = onnx.shape_inference.infer_shapes(onnx.helper.make_model(bare, **versions))
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    found = {v.name: v for v in (*stored.values(), *inferred.graph.value_info)}
    known = {v.name for v in (*graph.value_info, *graph.input, *graph.output)}
    typed.graph.value_info.extend(v for name, v in found.items() if name not in known)
    return typed


def _has_body(node: onnx.NodeProto, opset: int) -> bool:
    if not onnx.defs.has(node.op_type):
        return False
    schema = onnx.defs.get_schema(node.op_type, opset)
    return schema.has_function or schema.has_context_dependent_function


def _sparse(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Return the initializers that are stored sparsely, written out."""
    dense = {}
    for tensor in graph.sparse_initializer:
        values, indices = (numpy_helper.to_array(t) for t in (tensor.values, tensor.indices))
        flat = np.zeros(int(np.prod(tensor.dims)), values.dtype)
        if indices.ndim == 2:
            indices = np.ravel_multi_index(tuple(indices.T), tuple(tensor.dims))
        flat[indices] = values
        dense[tensor.values.name] = flat.reshape(tuple(tensor.dims))
    return dense


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the tensors that a node reads, those inside its branches too."""
    yield from (operand for operand in node.input if operand)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _reads(inner)
            yield from (o.name for o in graph.output)


def _needed_nodes(nodes: Sequence[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """Return, in order, the nodes that ``output`` is computed from."""
    needed, kept = {output}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(_reads(node))
            kept.append(node)
    return kept[::-1]


def _untie(
    nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray]
) -> tuple[list[onnx.NodeProto], dict[str, None], dict[str, str]]:
    """Give tensors that are equal by chance their own storage; name the running statistics.

    Returns:
        The nodes, rewired; the names of running statistics in order; the other names of tied
        weights. ``tensors`` gains entries.
    """
    alias: dict[str, str] = {}
    rewired = []
    for original in nodes:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        node.input[:] = [alias.get(operand, operand) for operand in node.input]
        source = node.input[0] if node.input else ""
        if node.op_type == "Identity" and source in tensors:
            value = tensors[source]
            if value.ndim and value.dtype.kind == "f" and np.all(value == value.flat[0]):
                tensors[node.output[0]] = value.copy()
            else:
                alias[node.output[0]] = source
            if node.output[0] != nodes[-1].output[0]:
                continue
        rewired.append(node)
    uses: dict[str, int] = {}
    for node in rewired:
        for operand in _reads(node):
            uses[operand] = uses.get(operand, 0) + 1
    statistics: dict[str, None] = {}
    for node in rewired:
        if node.op_type != "BatchNormalization":
            continue
        for k, suffix in ((3, "running_mean"), (4, "running_var")):
            name = node.input[k]
            if name in tensors and uses[name] > 1:
                # Shared with a weight that may learn, or with another layer's statistic.
                node.input[k] = f"{node.input[1]}.{suffix}"
                tensors[node.input[k]] = tensors[name].copy()
            statistics.update({node.input[k]: None} if node.input[k] in tensors else {})
    return rewired, statistics, alias


def _is_weight(
    name: str,
    value: np.ndarray,
    kinds: dict[str, dict[str, str]],
    nodes: Sequence[onnx.NodeProto],
) -> bool:
    """Tell whether an initializer is a weight, rather than a number that the exporter stored."""
    if value.dtype.kind != "f" or not value.size:
        return False
    notes = kinds.get(name, {})
    kind = notes.get("pkg.torch.export.graph_signature.InputSpec.kind")
    if kind is not None:
        return kind == "PARAMETER"
    folded_from = notes.get("pkg.onnxscript.optimizer.folded_from")
    if folded_from is not None:
        # Named tensors of a module have dots in their names, those of the exporter have none.
        return value.ndim > 0 and any("." in source for source in ast.literal_eval(folded_from))
    if not value.ndim and "." not in name:
        return False
    first = [
        operand < _SETTINGS.get(node.op_type, len(node.input))
        for node in nodes
        for operand, read in enumerate(node.input)
        if read == name
    ]
    return any(first) or not first


def _weights_in_constants(nodes: list[onnx.NodeProto]) -> dict[str, np.ndarray]:
    """Take the weights out of ``Constant`` nodes, where some tools keep them."""
    stored = {n.output[0]: n for n in nodes if n.op_type == "Constant"}
    found = {}
    for node in nodes:
        for k in _WEIGHT_OPERANDS.get(node.op_type, ()):
            if k < len(node.input) and node.input[k] in stored:
                (attribute,) = stored[node.input[k]].attribute
                if attribute.name == "value":
                    found[node.input[k]] = numpy_helper.to_array(attribute.t)
    nodes[:] = [n for n in nodes if n.op_type != "Constant" or n.output[0] not in found]
    return found


def _axes(value: onnx.ValueInfoProto) -> list[Extent] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param or None
        for d in tensor.shape.dim
    ]


def _dtype(value: onnx.ValueInfoProto) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
