"""Relax operators of our own, and our lowering of some that Relax has."""

from pock_tvm.relay_passes.operators import conv2d, cross_entropy, layer_norm, scatter_add

LOWERINGS = {
    "relax.nn.conv2d": conv2d.legalize_conv2d,
    "relax.nn.layer_norm": layer_norm.legalize_layer_norm,
}
"""What to hand to ``relax.transform.LegalizeOps``; our own operators bring their lowering along."""

__all__ = ["LOWERINGS", "conv2d", "cross_entropy", "layer_norm", "scatter_add"]
