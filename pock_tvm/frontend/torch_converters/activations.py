"""Activations that stay one operator, or that overflow in the form that TVM gives them."""

from typing import Any

import torch
from tvm import relax
from tvm.relax import op

from pock_tvm.frontend.torch_converters.arguments import arguments


def convert_elu(node: torch.fx.Node, importer: Any) -> relax.Var:
    """y = s·x where x > 0, else s·α·(exp(i·x) - 1), with exp of nothing above 0."""
    x, alpha, scale, inner = arguments(node, importer, 1.0, 1.0, 1.0)
    return _elu(importer, x, float(alpha), float(scale), float(inner))


def convert_celu(node: torch.fx.Node, importer: Any) -> relax.Var:
    """y = x where x > 0, else α·(exp(x / α) - 1)."""
    x, alpha = arguments(node, importer, 1.0)
    return _elu(importer, x, float(alpha), 1.0, 1 / float(alpha))


def convert_selu(node: torch.fx.Node, importer: Any) -> relax.Var:
    """An ELU whose outputs keep mean 0 and variance 1 (Klambauer et al., 2017)."""
    (x,) = importer.retrieve_args(node)
    return _elu(
        importer, x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0
    )


def _elu(importer: Any, x: relax.Expr, alpha: float, scale: float, inner: float) -> relax.Var:
    bb, dtype = importer.block_builder, str(x.ty.dtype)

    def number(value: float) -> relax.Expr:
        return relax.const(value, dtype)

    positive = bb.emit(op.greater(x, number(0)))
    below = bb.emit(op.where(positive, number(0), x))
    grown = bb.emit(op.exp(bb.emit(op.multiply(below, number(inner)))))
    bent = bb.emit(op.multiply(bb.emit(op.subtract(grown, number(1))), number(alpha * scale)))
    straight = bb.emit(op.multiply(x, number(scale))) if scale != 1 else x
    return bb.emit(op.where(positive, straight, bent))


def convert_mish(node: torch.fx.Node, importer: Any) -> relax.Var:
    """y = x · tanh(log(1 + eˣ)) = x · n / (n + 2), n = eˣ (eˣ + 2); the quotient is 1 beyond 20."""
    (x,) = importer.retrieve_args(node)
    bb, dtype = importer.block_builder, str(x.ty.dtype)
    two = relax.const(2.0, dtype)
    e = bb.emit(op.exp(bb.emit(op.minimum(x, relax.const(20.0, dtype)))))
    n = bb.emit(op.multiply(e, bb.emit(op.add(e, two))))
    return bb.emit(op.multiply(x, bb.emit(op.divide(n, bb.emit(op.add(n, two))))))


def convert_softplus(node: torch.fx.Node, importer: Any) -> relax.Var:
    """y = log(1 + exp(βx)) / β, or x itself beyond a threshold of βx."""
    x, beta, threshold = arguments(node, importer, 1.0, 20.0)
    return importer.block_builder.emit(op.nn.softplus(x, float(beta), float(threshold)))


def convert_silu(node: torch.fx.Node, importer: Any) -> relax.Var:
    """y = x · σ(x)."""
    return importer.block_builder.emit(op.nn.silu(importer.retrieve_args(node)[0]))


def convert_rrelu(node: torch.fx.Node, importer: Any) -> relax.Var:
    """A leaky ReLU with the mean slope, as in eval mode; the noise is returned as it came."""
    x, noise, lower, upper, *_ = arguments(node, importer, 1 / 8, 1 / 3, False, None)  # noqa: FBT003
    y = importer.block_builder.emit(op.nn.leakyrelu(x, (float(lower) + float(upper)) / 2))
    return importer.block_builder.emit(relax.Tuple([y, noise]))


CONVERTERS = {
    "celu.default": convert_celu,
    "elu.default": convert_elu,
    "mish.default": convert_mish,
    "rrelu_with_noise_functional.default": convert_rrelu,
    "selu.default": convert_selu,
    "silu.default": convert_silu,
    "silu_.default": convert_silu,
    "softplus.default": convert_softplus,
}
