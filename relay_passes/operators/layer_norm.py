"""Our lowering of ``relax.nn.layer_norm``.

TVM's own squares before it subtracts (E[x²] - E[x]²), which cancels in float32 when the mean is
large against the spread, and refuses float64. This one takes the mean first.
"""

import math
from typing import Any

from tvm import relax, te, tirx
from tvm.te import Tensor


def te_layer_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, axes: list[int], epsilon: float
) -> Tensor:
    """y = (x - μ) / √(σ² + ε) · γ + β, μ and σ² over ``axes``."""
    shape = [int(extent) for extent in x.shape]
    axes = sorted(axis % len(shape) for axis in axes)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    share = tirx.const(1 / math.prod(shape[axis] for axis in axes), x.dtype)

    def mean_over_axes(value: Any, name: str) -> Tensor:
        reduced = {axis: te.reduce_axis((0, shape[axis]), f"r{axis}") for axis in axes}

        def total(*outer: Any) -> Any:
            index = dict(zip(kept, outer, strict=True)) | reduced
            at = [index[axis] for axis in range(len(shape))]
            return te.sum(value(outer, at) * share, axis=list(reduced.values()))

        return te.compute([shape[axis] for axis in kept], total, name=name)

    mean = mean_over_axes(lambda _, at: x(*at), "mean")
    variance = mean_over_axes(
        lambda outer, at: (x(*at) - mean(*outer)) * (x(*at) - mean(*outer)), "variance"
    )
    stable = tirx.const(epsilon, x.dtype)

    def normal(*at: Any) -> Any:
        row, column = [at[axis] for axis in kept], [at[axis] for axis in axes]
        scale = 1 / tirx.sqrt(variance(*row) + stable)
        return (x(*at) - mean(*row)) * scale * gamma(*column) + beta(*column)

    return te.compute(shape, normal, name="layer_norm", attrs={"pock.kernel": "layer_norm"})


def legalize_layer_norm(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.nn.layer_norm`` with scale and centre, as every importer makes it."""
    if not (call.attrs.scale and call.attrs.center):
        raise ValueError(f"layer_norm without scale or centre: {call}")
    axes = [int(axis) for axis in call.attrs.axes]
    return bb.call_te(
        te_layer_norm,
        *call.args,
        axes=axes,
        epsilon=float(call.attrs.epsilon),
        primfunc_name_hint="layer_norm",
    )
