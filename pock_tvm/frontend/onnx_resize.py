"""ONNX's Resize and Upsample of any rank: a resampling along each axis.

TVM's converter takes positions from the sizes where a file gives scales, passes antialiasing over,
and makes kernels without a derivative of one and of three axes. Antialiasing is refused.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax import Expr

from pock_tvm.relay_passes.interpolation import (
    ROUNDINGS,
    Tables,
    cubic,
    linear,
    nearest,
)
from pock_tvm.relay_passes.operators.resample import resample
from pock_tvm.relay_passes.vjp.broadcast import shape_of

Operands = list[Expr | None]


def _numbers(inputs: Operands, k: int) -> list[float]:
    """Return a constant operand, or nothing where it is left out or empty."""
    value = inputs[k] if k < len(inputs) else None
    if value is None:
        return []
    if not isinstance(value, GenericConst):
        raise NotImplementedError(f"operand {k} depends on the input data")
    return [float(v) for v in np.atleast_1d(value.value.numpy())]


def _positions(mode: str, n: int, m: int, scale: float) -> np.ndarray:
    """Return where each of m outputs looks between n entries; n · scale need not be m."""
    o = np.arange(m, dtype="float64")
    wanted = n * scale
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and m > 1):
        return (o + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        return n / 2 * (1 - m / wanted) + (o + 0.5) / scale - 0.5
    if mode == "align_corners":
        return o * (n - 1) / (wanted - 1) if wanted != 1 else 0 * o
    if mode == "asymmetric":
        return o / scale
    if mode == "tf_half_pixel_for_nn":
        return (o + 0.5) / scale
    if mode == "pytorch_half_pixel":
        return 0 * o
    raise ValueError(f"coordinates {mode!r}")


def _tables(attrs: Mapping[str, Any], n: int, m: int, scale: float, coordinates: str) -> Tables:
    mode = attrs.get("mode", b"nearest").decode()
    exclude = bool(attrs.get("exclude_outside", 0))
    a = float(attrs.get("cubic_coeff_a", -0.75))
    if attrs.get("antialias", 0):
        raise ValueError("antialiasing; export the model without it")
    positions = _positions(coordinates, n, m, scale)
    if mode == "linear":
        return linear(positions, n)
    if mode == "cubic":
        return cubic(positions, n, a, exclude_outside=exclude)
    rounding = attrs.get("nearest_mode", b"round_prefer_floor").decode()
    return nearest(ROUNDINGS[rounding](positions), n)


def _resize(
    bb: relax.BlockBuilder,
    x: Expr,
    scales: list[float],
    sizes: list[float],
    attrs: Mapping[str, Any],
    coordinates: str,
) -> Expr:
    shape = shape_of(x)
    axes = [int(a) % len(shape) for a in attrs.get("axes", range(len(shape)))]
    if sizes:
        policy = attrs.get("keep_aspect_ratio_policy", b"stretch").decode()
        ratios = [size / shape[axis] for axis, size in zip(axes, sizes, strict=True)]
        if policy != "stretch":
            one = (min if policy == "not_larger" else max)(ratios)
            scales = [one] * len(axes)
            outputs = [int(shape[axis] * one + 0.5) for axis in axes]
        else:
            scales, outputs = ratios, [int(size) for size in sizes]
    else:
        outputs = [int(shape[a] * scale) for a, scale in zip(axes, scales, strict=True)]
    for axis, scale, m in zip(axes, scales, outputs, strict=True):
        if m != shape[axis] or scale != 1:
            x = bb.emit(resample(x, *_tables(attrs, shape[axis], m, scale, coordinates), axis))
    return x


def convert_resize(bb: relax.BlockBuilder, inputs: Operands, attrs: Mapping[str, Any]) -> Expr:
    """``Resize(x, roi, scales, sizes)``; in opset 10 ``Resize(x, scales)``."""
    early = len(inputs) == 2
    scales, sizes = _numbers(inputs, 1 if early else 2), _numbers(inputs, 3)
    if early:
        attrs = {"nearest_mode": b"floor", **attrs}
    fixed = b"asymmetric" if early else b"half_pixel"
    coordinates = attrs.get("coordinate_transformation_mode", fixed).decode()
    return _resize(bb, inputs[0], scales, sizes, attrs, coordinates)


def convert_upsample(bb: relax.BlockBuilder, inputs: Operands, attrs: Mapping[str, Any]) -> Expr:
    """``Upsample(x, scales)``: what Resize was before opset 10."""
    scales = _numbers(inputs, 1) or [float(s) for s in attrs["scales"]]
    attrs = {**attrs, "nearest_mode": b"floor"}
    return _resize(bb, inputs[0], scales, [], attrs, "asymmetric")


CONVERTERS = {"Resize": convert_resize, "Upsample": convert_upsample}
"""ONNX's operator -> converter."""
