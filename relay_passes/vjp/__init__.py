"""VJP rules, one module per family of operators; importing this package registers them all."""

from pock_tvm.relay_passes.vjp import (
    activation,
    binary,
    cumulative,
    dropout,
    einsum,
    index,
    linear_algebra,
    losses,
    nn,
    reduce,
    resample,
    scatter,
    shape,
    unary,
)
from pock_tvm.relay_passes.vjp.registry import (
    NON_DIFFERENTIABLE,
    REWRITTEN,
    operands,
    operators_with_rules,
    register_vjp,
    vjp_rule,
)

__all__ = [
    "NON_DIFFERENTIABLE",
    "REWRITTEN",
    "activation",
    "binary",
    "cumulative",
    "dropout",
    "einsum",
    "index",
    "linear_algebra",
    "losses",
    "nn",
    "operands",
    "operators_with_rules",
    "reduce",
    "register_vjp",
    "resample",
    "scatter",
    "shape",
    "unary",
    "vjp_rule",
]
