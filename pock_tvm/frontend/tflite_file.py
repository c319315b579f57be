"""Import a float TFLite file through TVM's importer.

TFLite computes channels last already. Weights are the float tensors that the file stores; they keep
its names, which TensorFlow makes of the operators that were fused into one.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import tflite
from tvm import IRModule, relax
from tvm.relax.frontend.tflite import tflite_frontend

from pock_tvm.errors import PockError, UnsupportedModelError
from pock_tvm.frontend.model import ImportedModel, InputSpec
from pock_tvm.frontend.origins import mark_origins
from pock_tvm.frontend.outputs import choose_output, return_one
from pock_tvm.frontend.shapes import Extent, Shapes, bind_shapes
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, rewrite_main

_FLOATS = {tflite.TensorType.FLOAT32: np.dtype("float32")}


def import_tflite_file(
    path: Path, batch: int, *, shapes: Shapes | None = None, output: str | int | None = None
) -> ImportedModel:
    """Import a ``.tflite`` file.

    Args:
        path: a model of floating-point tensors.
        batch: samples in one training step; the file must leave the batch open, or be made for it.
        shapes: static shapes of inputs whose other axes have no fixed length.
        output: name or position of the logits among several outputs.

    Raises:
        PockError: the file cannot be read, or leaves open which output is meant.
        BatchError: the file was made for another batch.
        UnsupportedModelError: operators that TVM cannot import, or quantized tensors.
    """
    model = _read(path)
    graph, name = model.Subgraphs(0), path.stem
    weights = _weights(model, graph)
    names = {int(i): input_name(_name(graph, i)) for i in graph.InputsAsNumpy()}
    declared = {names[i]: _axes(graph.Tensors(i)) for i in names}
    bound = bind_shapes(name, declared, batch, shapes or {})
    outputs = [_name(graph, i) for i in graph.OutputsAsNumpy()]
    chosen = choose_output(name, outputs, output)
    tensors = {
        key: relax.Var(key, relax.TensorType(v.shape, "float32")) for key, v in weights.items()
    }

    class Converter(tflite_frontend.OperatorConverter):
        """Sees weights as variables, which TVM would make constants."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            for key, var in tensors.items():
                self.exp_tab.set_expr(key, var)

    try:
        mod = tflite_frontend.from_tflite(
            model,
            shape_dict={_name(graph, i): bound[names[i]] for i in names},
            op_converter=Converter,
        )
    # TVM's converters raise whatever they run into.
    except Exception as failure:
        reason = " ".join(str(failure).split()) or type(failure).__name__
        raise UnsupportedModelError(f"TVM cannot import {name}: {reason}") from failure
    return _assemble(name, mod["main"], weights, list(names.values()), chosen)


def input_name(tensor: str) -> str:
    """Return the name that an input had before it was saved for serving."""
    return re.sub(r":\d+$", "", tensor.removeprefix("serving_default_"))


def _read(path: Path) -> tflite.Model:
    if not path.is_file():
        raise PockError(f"no such file: {path}")
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise PockError(f"{path} is not a TFLite model, or is damaged")
    try:
        model = tflite.Model.GetRootAsModel(content, 0)
        graph = model.Subgraphs(0)
        for i in range(graph.TensorsLength()):
            model.Buffers(graph.Tensors(i).Buffer()).DataAsNumpy()
    # A damaged flatbuffer fails wherever an offset leads nowhere.
    except Exception as failure:
        raise PockError(f"{path} is not a TFLite model, or is damaged: {failure}") from failure
    return model


def _name(graph: Any, index: int) -> str:
    return str(tflite_frontend.get_tensor_name(graph, index))


def _weights(model: tflite.Model, graph: Any) -> dict[str, np.ndarray]:
    """Return the stored float tensors by name, in the order of the operators that read them."""
    read = {}
    for k in range(graph.OperatorsLength()):
        read.update(dict.fromkeys(int(i) for i in graph.Operators(k).InputsAsNumpy() if i >= 0))
    found = {}
    for i in read:
        tensor = graph.Tensors(i)
        buffer = model.Buffers(tensor.Buffer())
        shape = tuple(int(d) for d in np.atleast_1d(tensor.ShapeAsNumpy()))
        if tensor.Type() in _FLOATS and buffer.DataLength() and shape:
            value = np.frombuffer(buffer.DataAsNumpy().tobytes(), _FLOATS[tensor.Type()])
            found[_name(graph, i)] = value.reshape(shape)
    return found


def _axes(tensor: Any) -> list[Extent]:
    signature = tensor.ShapeSignatureAsNumpy()
    axes = tensor.ShapeAsNumpy() if isinstance(signature, int) else signature
    return [int(d) if d > 0 else None for d in axes]


def _assemble(
    name: str, main: relax.Function, weights: dict[str, np.ndarray], inputs: list[str], chosen: int
) -> ImportedModel:
    """Make the free variables parameters, and one output of several."""
    renamed = {old: relax.Var(new, old.ty) for old, new in zip(main.params, inputs, strict=True)}
    free = {v.name: v for v in relax.analysis.free_vars(main)}
    params = [free[key] for key in weights if key in free]
    func = relax.Function([*params, *main.params], main.body, main.ret_ty)
    func = func.with_attr("global_symbol", "main")
    func = mark_origins(func, [None] * len(list(bindings_of(func))))
    renamed = dict(zip(func.params[len(params) :], renamed.values(), strict=True))
    mod = rewrite_main(IRModule({"main": func}), _depthwise, rename=renamed)
    main = return_one(mod["main"], chosen)
    return ImportedModel(
        name=name,
        mod=IRModule({"main": main}),
        parameters={p.name: weights[p.name] for p in params},
        inputs=tuple(
            InputSpec(p.name, tuple(int(d) for d in p.ty.shape), str(p.ty.dtype))
            for p in main.params[len(params) :]
        ),
        buffers=frozenset(),
    )


def _depthwise(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
    """Turn the weight of a depthwise convolution to HWIO, as other convolutions have it."""
    if not is_call_to(value, "relax.nn.conv2d") or value.attrs.kernel_layout != "HWOI":
        return value
    x, w = value.args
    options = value.attrs
    return relax.op.nn.conv2d(
        x,
        bb.emit(relax.op.permute_dims(w, [0, 1, 3, 2])),
        strides=list(options.strides),
        padding=list(options.padding),
        dilation=list(options.dilation),
        groups=int(options.groups),
        data_layout="NHWC",
        kernel_layout="HWIO",
    )
