"""How single ONNX operators become Relax: TVM's converters, and ours where those lose something.

TVM writes Clip, Pad, Tile and Einsum as opaque kernels, which no rule can differentiate; Clip also
asks of each bound whether it is NaN. Its BatchNormalization reads ONNX's momentum as PyTorch's.
``onnx_layers``, ``onnx_recurrent`` and ``onnx_resize`` hold others.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax import op
from tvm.relax.frontend.onnx import onnx_frontend

from pock_tvm.frontend import onnx_layers, onnx_recurrent, onnx_resize
from pock_tvm.relay_passes.index_limits import KEEPS_VALUES
from pock_tvm.relay_passes.rewrite import is_call_to

Operands = list[relax.Expr | None]
Converter = Callable[[relax.BlockBuilder, Operands, Mapping[str, Any]], relax.Expr]

_TVM_CONVERTERS = onnx_frontend._get_convert_map()
_PAD_MODES = {"edge": "replicate", "wrap": "circular"}
_OTHER_MEANING = frozenset({"Attention"})
"""Operators whose TVM converter is for the one of that name in ``com.microsoft``."""

_STANDARD = ("", "ai.onnx")


def can_convert(node: onnx.NodeProto) -> bool:
    """Tell whether there is a converter for a node's operator."""
    if node.domain in _STANDARD and node.op_type in _OTHER_MEANING:
        return False
    known = node.domain in (*_STANDARD, "com.microsoft")
    return known and (node.op_type in _OURS or node.op_type in _TVM_CONVERTERS)


def convert(
    bb: relax.BlockBuilder,
    node: onnx.NodeProto,
    inputs: Operands,
    opset: int,
    values: Mapping[str, relax.Expr],
    *,
    stream: int = 0,
) -> relax.Expr:
    """Return what a node computes: a tensor, or a tuple of its outputs.

    Args:
        bb: builds the function; its dataflow block is open.
        node: ``can_convert`` it.
        inputs: None for operands that are left out.
        opset: version of the standard operators.
        values: tensors by name, as TVM's converters look constants up.
        stream: of random numbers, if the node draws some.
    """
    attributes = onnx_frontend.ONNXGraphImporter._parse_attr(None, node.attribute)
    if node.op_type in _OURS:
        result = _OURS[node.op_type](bb, inputs, {**attributes, "stream": stream})
    else:
        attributes["tvm_custom"] = {"name": node.name, "num_outputs": len(node.output)}
        if node.op_type == "Conv" and _is_zero(_operand(inputs, 2)):
            inputs = inputs[:2]  # exporters write a bias of zeros where a layer has none
        if node.op_type == "Conv" and inputs[0] is not None and inputs[1] is not None:
            attributes = _explicit_pads(attributes, inputs[0], inputs[1])
        if node.op_type == "ConvTranspose" and "output_shape" in attributes:
            attributes = _explicit_output(attributes, inputs[0], inputs[1])
        if node.op_type == "RoiAlign" and attributes.get("mode", b"avg") != b"avg":
            raise ValueError("maxima of regions; TVM computes them otherwise than the standard")
        converter = _TVM_CONVERTERS[node.op_type].get_converter(opset)
        result = converter(bb, onnx_frontend.onnx_input(inputs), attributes, [values, {}])
    return bb.normalize(result)


def _explicit_pads(attributes: dict[str, Any], x: relax.Expr, weight: relax.Expr) -> dict[str, Any]:
    """Write ``auto_pad`` out, which TVM makes a kernel of its own of: ⌈n / stride⌉ results."""
    mode = attributes.get("auto_pad", b"NOTSET").decode()
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        return attributes
    extents = [int(n) for n in x.ty.shape][2:]
    kernel = [int(n) for n in weight.ty.shape][2:]
    strides = attributes.get("strides", [1] * len(extents))
    dilations = attributes.get("dilations", [1] * len(extents))
    small, large = [], []
    for n, k, stride, dilation in zip(extents, kernel, strides, dilations, strict=True):
        total = max((-(-n // stride) - 1) * stride + (k - 1) * dilation + 1 - n, 0)
        small.append(total // 2)
        large.append(total - total // 2)
    pads = [*small, *large] if mode == "SAME_UPPER" else [*large, *small]
    return {**attributes, "auto_pad": b"NOTSET", "pads": pads}


def _explicit_output(
    attributes: dict[str, Any], x: relax.Expr | None, weight: relax.Expr | None
) -> dict[str, Any]:
    """Write the output shape of a transposed convolution out as pads, which TVM passes over."""
    assert x is not None
    assert weight is not None
    kernel = [int(n) for n in weight.ty.shape][2:]
    axes = len(kernel)
    none, ones = [0] * axes, [1] * axes
    wanted = [int(n) for n in attributes["output_shape"]][-axes:]
    strides, dilations = (attributes.get(k, ones) for k in ("strides", "dilations"))
    extra = list(attributes.get("output_padding", none))
    upper = attributes.get("auto_pad", b"NOTSET") == b"SAME_UPPER"
    before, after = [], []
    for k, n in enumerate([int(n) for n in x.ty.shape][2:]):
        reach = strides[k] * (n - 1) + (kernel[k] - 1) * dilations[k] + 1
        total = reach + extra[k] - wanted[k]
        extra[k] += max(-total, 0)
        small, large = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
        before.append(small if upper else large)
        after.append(large if upper else small)
    rest = {k: v for k, v in attributes.items() if k not in ("output_shape", "auto_pad")}
    return {**rest, "pads": [*before, *after], "output_padding": extra}


def _operand(inputs: Operands, k: int) -> relax.Expr | None:
    return inputs[k] if k < len(inputs) else None


def _is_zero(value: relax.Expr | None) -> bool:
    return isinstance(value, GenericConst) and not value.value.numpy().any()


def _constant(inputs: Operands, k: int) -> np.ndarray | None:
    value = _operand(inputs, k)
    if value is None:
        return None
    if not isinstance(value, GenericConst):
        raise NotImplementedError(f"operand {k} depends on the input data")
    return np.asarray(value.value.numpy())


def _clip(bb: relax.BlockBuilder, inputs: Operands, attrs: Mapping[str, Any]) -> relax.Expr:
    """Bounds are attributes up to opset 6, then operands; NaN means unbounded."""
    x = inputs[0]
    assert x is not None
    low, high = (_operand(inputs, k) for k in (1, 2))
    if any(v is not None and not isinstance(v, GenericConst) for v in (low, high)):
        y = x if low is None else op.maximum(x, low)
        return y if high is None else op.minimum(y, high)
    bounds = []
    for k, key, unbounded in ((1, "min", -np.inf), (2, "max", np.inf)):
        value = _constant(inputs, k)
        number = float(attrs.get(key, unbounded) if value is None else value.item())
        bounds.append(unbounded if np.isnan(number) else number)
    if bounds == [-np.inf, np.inf]:
        return x
    if bounds == [0, np.inf]:
        return op.nn.relu(x)
    if np.isinf(bounds).any() or not str(x.ty.dtype).startswith("float"):
        y = x
        for bound, apply in zip(bounds, (op.maximum, op.minimum), strict=True):
            if not np.isinf(bound):
                y = apply(y, relax.const(bound, str(x.ty.dtype)))
        return y
    return op.clip(x, *bounds)


def _pad(bb: relax.BlockBuilder, inputs: Operands, attrs: Mapping[str, Any]) -> relax.Expr:
    x = inputs[0]
    assert x is not None
    pads = _constant(inputs, 1)
    widths = [int(n) for n in (attrs["pads"] if pads is None else pads)]
    value, axes = _constant(inputs, 2), _constant(inputs, 3)
    rank = len(x.ty.shape)
    before, after = [0] * rank, [0] * rank
    chosen = range(rank) if axes is None else [int(a) % rank for a in axes]
    for k, axis in enumerate(chosen):
        before[axis], after[axis] = widths[k], widths[k + len(chosen)]
    mode = attrs.get("mode", b"constant").decode()
    fill = float(attrs.get("value", 0.0) if value is None else value.item())
    if min(widths, default=0) < 0:
        return _crop_and_pad(bb, x, before, after, mode, fill)
    if not any(widths):
        return x
    pairs = [n for pair in zip(before, after, strict=True) for n in pair]
    return op.nn.pad(x, pairs, _PAD_MODES.get(mode, mode), fill)


def _crop_and_pad(
    bb: relax.BlockBuilder,
    x: relax.Expr,
    before: list[int],
    after: list[int],
    mode: str,
    fill: float,
) -> relax.Expr:
    """Negative widths cut off."""
    if mode != "constant":
        raise ValueError(f"negative pads in mode {mode!r}")
    shape = [int(d) for d in x.ty.shape]
    axes = list(range(len(shape)))
    begin = [max(-b, 0) for b in before]
    end = [n - max(-a, 0) for n, a in zip(shape, after, strict=True)]
    y = bb.emit(op.strided_slice(x, axes, begin, end))
    pairs = [max(n, 0) for pair in zip(before, after, strict=True) for n in pair]
    return op.nn.pad(y, pairs, "constant", fill) if any(pairs) else y


def _tile(bb: relax.BlockBuilder, inputs: Operands, attrs: Mapping[str, Any]) -> relax.Expr:
    repeats = _constant(inputs, 1)
    assert repeats is not None
    return op.tile(inputs[0], [int(n) for n in repeats])


def _einsum(bb: relax.BlockBuilder, inputs: Operands, attrs: Mapping[str, Any]) -> relax.Expr:
    return op.einsum(relax.Tuple(list(inputs)), attrs["equation"].decode())


def _identity(bb: relax.BlockBuilder, inputs: Operands, attrs: Mapping[str, Any]) -> relax.Expr:
    return inputs[0]


def _gather(bb: relax.BlockBuilder, inputs: Operands, attrs: Mapping[str, Any]) -> relax.Expr:
    """Negative indices count from the end; those of an input are checked when a batch arrives."""
    table, indices = inputs
    assert table is not None
    assert indices is not None
    axis = int(attrs.get("axis", 0)) % len(table.ty.shape)
    if isinstance(indices, GenericConst):
        rows = indices.value.numpy()
        extent = int(table.ty.shape[axis])
        indices = relax.const(np.where(rows < 0, rows + extent, rows), str(rows.dtype))
    elif not _is_input(bb, indices):
        extent = relax.const(int(table.ty.shape[axis]), str(indices.ty.dtype))
        zero = relax.const(0, str(indices.ty.dtype))
        indices = bb.emit(op.where(op.less(indices, zero), op.add(indices, extent), indices))
    return op.take(table, indices, axis)


def _is_input(bb: relax.BlockBuilder, value: relax.Expr | None) -> bool:
    """Tell whether a value is an input of the model, reshaped or cast at most."""
    while isinstance(value, relax.Var):
        bound = bb.lookup_binding(value)
        if bound is None:
            return True
        if not is_call_to(bound, *KEEPS_VALUES):
            return False
        value = bound.args[0]
    return False


def _batch_norm(bb: relax.BlockBuilder, inputs: Operands, attrs: Mapping[str, Any]) -> relax.Expr:
    """ONNX's momentum is the share of the old statistics, Relax's that of the new."""
    if attrs.get("training_mode", 0):
        raise ValueError("it normalizes with the batch's statistics; export the model in eval mode")
    call = op.nn.batch_norm(
        *inputs[:5],
        axis=1,
        epsilon=attrs.get("epsilon", 1e-5),
        momentum=1 - attrs.get("momentum", 0.9),
        training=False,
    )
    return relax.TupleGetItem(bb.emit(call), 0)


_OURS: dict[str, Converter] = {
    **onnx_layers.CONVERTERS,
    **onnx_recurrent.CONVERTERS,
    **onnx_resize.CONVERTERS,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Einsum": _einsum,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Tile": _tile,
}
