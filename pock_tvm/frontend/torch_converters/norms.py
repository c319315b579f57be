"""Normalizations that TVM lacks, or knows only with a scale and a bias."""

from typing import Any

import numpy as np
import torch
from tvm import relax
from tvm.relax import op

from pock_tvm.frontend.torch_converters.arguments import arguments


def _vector(given: Any, shape: Any, fill: float, dtype: str) -> relax.Expr:
    """Return a scale or a bias, made up where the layer has none."""
    return relax.const(np.full(shape, fill), dtype) if given is None else given


def _group_norm(
    importer: Any, x: relax.Expr, gamma: Any, beta: Any, groups: int, epsilon: float
) -> relax.Var:
    channels, dtype = int(x.ty.shape[1]), str(x.ty.dtype)
    gamma = _vector(gamma, channels, 1.0, dtype)
    beta = _vector(beta, channels, 0.0, dtype)
    axes = list(range(2, x.ty.ndim))
    return importer.block_builder.emit(
        op.nn.group_norm(x, gamma, beta, groups, 1, axes, float(epsilon))
    )


def convert_group_norm(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``native_group_norm(x, γ, β, N, C, H·W, groups, ε) -> (y, mean, 1/σ)``; y alone is read."""
    x, gamma, beta, _, _, _, groups, epsilon = importer.retrieve_args(node)
    return _group_norm(importer, x, gamma, beta, groups, epsilon)


def convert_instance_norm(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``instance_norm(x, γ, β, mean, var, use_input_stats, …, ε)``.

    A group norm of single channels; with running statistics an affine map of each channel.
    """
    x, gamma, beta, mean, variance, own, _, epsilon, _ = importer.retrieve_args(node)
    if own:
        return _group_norm(importer, x, gamma, beta, int(x.ty.shape[1]), epsilon)
    return _normalize(importer, x, gamma, beta, mean, variance, epsilon)


def convert_batch_norm_without_statistics(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``_native_batch_norm_legit.no_stats(x, γ, β, …, ε)``: always the batch's own statistics."""
    args = importer.retrieve_args(node)
    x, gamma, beta, epsilon = args[0], args[1], args[2], args[-1]
    bb, axes = importer.block_builder, [a for a in range(x.ty.ndim) if a != 1]
    mean = bb.emit(op.mean(x, axes))
    shape = [1, -1, *[1] * (x.ty.ndim - 2)]
    centred = bb.emit(op.subtract(x, bb.emit(op.reshape(mean, shape))))
    variance = bb.emit(op.mean(bb.emit(op.multiply(centred, centred)), axes))
    return _normalize(importer, x, gamma, beta, mean, variance, epsilon)


def _normalize(
    importer: Any,
    x: relax.Expr,
    gamma: Any,
    beta: Any,
    mean: relax.Expr,
    variance: relax.Expr,
    epsilon: float,
) -> relax.Var:
    """(x - mean) · (γ / √(var + ε)) + β, channel by channel."""
    bb, dtype = importer.block_builder, str(x.ty.dtype)
    shape = [1, -1, *[1] * (x.ty.ndim - 2)]

    def channels(vector: relax.Expr) -> relax.Var:
        return bb.emit(op.reshape(vector, shape))

    scale = bb.emit(op.rsqrt(bb.emit(op.add(variance, relax.const(float(epsilon), dtype)))))
    if gamma is not None:
        scale = bb.emit(op.multiply(gamma, scale))
    y = bb.emit(op.multiply(bb.emit(op.subtract(x, channels(mean))), channels(scale)))
    return y if beta is None else bb.emit(op.add(y, channels(beta)))


def convert_rms_norm(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``rms_norm(x, shape, γ, ε)``; ε is that of the type where it is None."""
    x, shape, gamma, epsilon = arguments(node, importer, None, None)
    dtype = str(x.ty.dtype)
    gamma = _vector(gamma, [int(n) for n in shape], 1.0, dtype)
    epsilon = float(np.finfo(dtype).eps) if epsilon is None else float(epsilon)
    axes = list(range(-len(shape), 0))
    return importer.block_builder.emit(op.nn.rms_norm(x, gamma, axes, epsilon))


CONVERTERS = {
    "native_group_norm.default": convert_group_norm,
    "instance_norm.default": convert_instance_norm,
    "_native_batch_norm_legit.no_stats": convert_batch_norm_without_statistics,
    "rms_norm.default": convert_rms_norm,
}
