"""Write a resizing of pictures as a resampling of rows, then of columns.

Before:  y = image.resize2d(x, (h, w), layout="NCHW", method="linear")
After:   t = pock.resample(x, places, weights, axis=2);  y = pock.resample(t, …, axis=3)

The tables of both are known at compile time. The importer of TFLite makes such resizings; those of
PyTorch and ONNX resample at once. Run it before ``ConvertToChannelsLast``.
"""

from typing import Any

import numpy as np
import tvm
from tvm import relax

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.interpolation import (
    POSITIONS,
    ROUNDINGS,
    Tables,
    cubic,
    linear,
    nearest,
)
from pock_tvm.relay_passes.operators.resample import resample
from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main, static_shape


@tvm.transform.module_pass(opt_level=0, name="DecomposeResize2d")
class DecomposeResize2d:
    """Replace every ``relax.image.resize2d`` by two ``pock.resample``.

    Raises:
        UnsupportedModelError: the resizing crops (``tf_crop_and_resize``).
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""

        def decompose(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if not is_call_to(value, "relax.image.resize2d"):
                return value
            x = value.args[0]
            layout = str(value.attrs.layout)
            for axis in (layout.index("H"), layout.index("W")):
                tables = _tables(value.attrs, static_shape(x)[axis], static_shape(value)[axis])
                x = bb.emit(resample(x, *tables, axis))
            return x

        return relax.transform.DeadCodeElimination()(rewrite_main(mod, decompose))


def _tables(attrs: Any, extent: int, outputs: int) -> Tables:
    mode, method = str(attrs.coordinate_transformation_mode), str(attrs.method)
    if mode not in POSITIONS:
        known = ", ".join(POSITIONS)
        raise UnsupportedModelError(
            f"resize2d with coordinates {mode!r} is not supported; export the model with {known}"
        )
    positions = POSITIONS[mode](np.arange(outputs, dtype="float64"), extent, outputs)
    if method == "linear":
        return linear(positions, extent)
    if method == "cubic":
        exclude = bool(attrs.cubic_exclude)
        return cubic(positions, extent, float(attrs.cubic_alpha), exclude_outside=exclude)
    # TVM moves a position that is almost a whole number up to it before it rounds down.
    rounding = str(attrs.rounding_method) or ("round" if mode == "align_corners" else "floor")
    return nearest(ROUNDINGS[rounding](positions + (1e-5 if rounding == "floor" else 0)), extent)
