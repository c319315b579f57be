"""Relax operators of our own, and our lowering of some that Relax has."""

from pock_tvm.relay_passes.operators import (
    conv2d,
    cross_entropy,
    dropout,
    first_occurrence,
    matmul,
    normalization,
    optimizer_steps,
    pointwise_loss,
    pool2d,
    resample,
    row_update,
    scatter_add,
    stop_gradient,
    take,
    write_slice,
)

LOWERINGS = {
    "relax.matmul": matmul.legalize_matmul,
    "relax.nn.conv2d": conv2d.legalize_conv2d,
    "relax.nn.group_norm": normalization.legalize_group_norm,
    "relax.nn.layer_norm": normalization.legalize_layer_norm,
    "relax.nn.rms_norm": normalization.legalize_rms_norm,
    "relax.take": take.legalize_take,
}
"""What to hand to ``relax.transform.LegalizeOps``; our own operators bring their lowering along."""

__all__ = [
    "LOWERINGS",
    "conv2d",
    "cross_entropy",
    "dropout",
    "first_occurrence",
    "matmul",
    "normalization",
    "optimizer_steps",
    "pointwise_loss",
    "pool2d",
    "resample",
    "row_update",
    "scatter_add",
    "stop_gradient",
    "take",
    "write_slice",
]
