"""Import an ONNX file, written by either of PyTorch's exporters or by another tool.

Tensors keep the names of the file's initializers. Files that were exported for prediction hold
fewer of them than the model had: see docs/importers.md for how to export so that all stay.
"""

from pathlib import Path

import onnx
from tvm import IRModule, relax

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.frontend.model import ImportedModel, InputSpec
from pock_tvm.frontend.onnx_graph import OnnxGraph, prepare, read_onnx
from pock_tvm.frontend.onnx_nodes import NodeConverter
from pock_tvm.frontend.origins import mark_origins
from pock_tvm.frontend.shapes import Shapes
from pock_tvm.relay_passes.rewrite import bindings_of
from pock_tvm.relay_passes.vjp.paths import operators_without_rule


def import_onnx_file(
    path: Path, batch: int, *, shapes: Shapes | None = None, output: str | int | None = None
) -> ImportedModel:
    """Import an ``.onnx`` file.

    Args:
        path: weights that the file keeps in others must lie beside it.
        batch: samples in one training step; binds the leading axis of every input.
        shapes: static shapes of inputs whose other axes have no fixed length.
        output: name or position of the logits among several outputs.

    Raises:
        PockError: the file cannot be read, or leaves open which output is meant.
        BatchError: the file was exported for another batch.
        UnsupportedModelError: axes without a length, or nodes that cannot be imported; all of them.
    """
    return import_onnx(read_onnx(path), path.stem, batch, shapes=shapes, output=output)


def import_onnx(
    model: onnx.ModelProto,
    name: str,
    batch: int,
    *,
    shapes: Shapes | None = None,
    output: str | int | None = None,
) -> ImportedModel:
    """Import a loaded model; see ``import_onnx_file``."""
    graph = prepare(model, name, batch, shapes or {}, output)
    parameters = {
        key: relax.Var(key, relax.TensorType(value.shape, str(value.dtype)))
        for key, value in graph.parameters.items()
    }
    inputs = {
        key: relax.Var(key, relax.TensorType(shape, "int32" if dtype == "int64" else dtype))
        for key, (shape, dtype) in graph.inputs.items()
    }
    bb = relax.BlockBuilder()
    converter = NodeConverter(bb, graph)
    with bb.function("main", [*parameters.values(), *inputs.values()]):
        with bb.dataflow():
            for key, var in parameters.items():
                converter.define(key, var)
            for key, var in inputs.items():
                converter.define_input(key, var, graph.inputs[key][1])
            converter.run(graph.nodes)
            result = converter.result(graph.output)
            found = bb.emit_output(result if result is not None else relax.Tuple([]))
        bb.emit_func_output(found)
    mod = bb.get()
    if result is None or converter.lacking or converter.failed:
        raise UnsupportedModelError(_refusal(name, converter, mod["main"], graph))
    main = mark_origins(
        mod["main"], [converter.origins.get(b.var) for b in bindings_of(mod["main"])]
    )
    mod = relax.transform.DeadCodeElimination()(IRModule({"main": main}))
    return _without_unused(name, mod["main"], graph)


def _without_unused(name: str, main: relax.Function, graph: OnnxGraph) -> ImportedModel:
    """Drop tensors that went into shapes only; an input that nothing reads stays out, too."""
    read = set(relax.analysis.free_vars(main.body))
    params = [p for p in main.params if p in read]
    kept = relax.Function(params, main.body, main.ret_ty).with_attr("global_symbol", "main")
    inputs = [p for p in params if p.name in graph.inputs]
    return ImportedModel(
        name=name,
        mod=IRModule({"main": kept}),
        parameters={p.name: graph.parameters[p.name] for p in params if p.name in graph.parameters},
        inputs=tuple(
            InputSpec(p.name, tuple(int(d) for d in p.ty.shape), str(p.ty.dtype)) for p in inputs
        ),
        buffers=graph.statistics & {p.name for p in params},
        aliases={
            other: key for other, key in graph.aliases.items() if key in {p.name for p in read}
        },
    )


def _refusal(name: str, converter: NodeConverter, main: relax.Function, graph: OnnxGraph) -> str:
    """Say in one line everything that stands between the file and training it."""
    parts = []
    if converter.lacking:
        listed = (f"{op} (in {', '.join(at)})" for op, at in converter.lacking.items())
        parts.append(f"no converter for {'; '.join(listed)}")
    parts += converter.failed
    learn = [p for p in main.params if p.name in graph.parameters.keys() - graph.statistics]
    if underivable := operators_without_rule(main, learn):
        parts.append(f"no derivative for {', '.join(underivable)}")
    return f"{name} cannot be imported: {'; '.join(parts)}"
