"""Losses that are a mean of f(x, y) over all elements, and their gradients.

``pock.pointwise_loss(x, y; kind, option) -> mean f(x, y)`` and
``pock.pointwise_loss_grad(x, y, ȳ; …) -> ȳ · f'(x, y) / n``. f and f' stand side by side below;
nothing is kept between them but x and y.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import relax, te, tirx
from tvm.te import Tensor

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator

Number = Callable[[float], Any]
Expression = Callable[[Number, Any, Any, Any], Any]
"""(maker of constants, x, y, option) -> scalar expression."""


@dataclass(frozen=True)
class Pointwise:
    """A function of one output and its label, and its derivative by the output."""

    value: Expression
    slope: Expression


def _squared(x: Any, y: Any) -> Any:
    return (x - y) * (x - y)


def _distance(x: Any, y: Any) -> Any:
    return tirx.abs(x - y)


def _sign(n: Number, d: Any) -> Any:
    return tirx.Select(d > n(0), n(1), tirx.Select(d < n(0), n(-1), n(0)))


def _softplus(n: Number, x: Any) -> Any:
    """log(1 + exp(x)) without overflow."""
    return tirx.max(x, n(0)) + tirx.log1p(tirx.exp(-tirx.abs(x)))


POINTWISE = {
    "mse": Pointwise(
        value=lambda n, x, y, _: _squared(x, y),
        slope=lambda n, x, y, _: n(2) * (x - y),
    ),
    "l1": Pointwise(
        value=lambda n, x, y, _: _distance(x, y),
        slope=lambda n, x, y, _: _sign(n, x - y),
    ),
    "huber": Pointwise(
        value=lambda n, x, y, c: tirx.Select(
            _distance(x, y) <= c, n(0.5) * _squared(x, y), c * (_distance(x, y) - n(0.5) * c)
        ),
        slope=lambda n, x, y, c: tirx.min(tirx.max(x - y, -c), c),
    ),
    "smooth_l1": Pointwise(
        value=lambda n, x, y, c: tirx.Select(
            _distance(x, y) < c, n(0.5) * _squared(x, y) / c, _distance(x, y) - n(0.5) * c
        ),
        slope=lambda n, x, y, c: tirx.min(tirx.max(x - y, -c), c) / c,
    ),
    "bce": Pointwise(
        value=lambda n, x, y, p: (n(1) - y) * x + (n(1) + (p - n(1)) * y) * _softplus(n, -x),
        slope=lambda n, x, y, p: (n(1) - y) - (n(1) + (p - n(1)) * y) * tirx.sigmoid(-x),
    ),
}
"""f and f' by loss; the option is δ, β or the weight of positive labels."""


def te_pointwise_loss(x: Tensor, y: Tensor, kind: str, option: float) -> Tensor:
    """Σ f(x, y) / n."""
    f, number = POINTWISE[kind].value, _numbers(x)
    count = math.prod(int(d) for d in x.shape)
    axes = [te.reduce_axis((0, d), f"k{i}") for i, d in enumerate(x.shape)]
    summed = te.compute(
        (1,),
        lambda _: te.sum(f(number, x(*axes), y(*axes), number(option)), axis=axes),
        name="pointwise_loss",
        attrs={"pock.kernel": "pointwise_loss"},
    )
    return te.compute((), lambda: summed[0] / number(count), name="loss")


def te_pointwise_loss_grad(x: Tensor, y: Tensor, ct: Tensor, kind: str, option: float) -> Tensor:
    """x̄ = ȳ / n · f'(x, y)."""
    slope, number = POINTWISE[kind].slope, _numbers(x)
    count = math.prod(int(d) for d in x.shape)
    return te.compute(
        x.shape,
        lambda *i: ct() / number(count) * slope(number, x(*i), y(*i), number(option)),
        name="pointwise_loss_grad",
    )


def _numbers(x: Tensor) -> Number:
    return lambda value: tirx.const(value, x.dtype)


def _options(call: relax.Call) -> dict[str, Any]:
    return {"kind": str(call.attrs["kind"]), "option": float(call.attrs["option"])}


def _infer(call: relax.Call) -> relax.TensorType:
    """Mean of a function of each output and its label."""
    x, y = (arg.ty for arg in call.args)
    if [int(d) for d in x.shape] != [int(d) for d in y.shape] or x.dtype != y.dtype:
        raise ValueError(f"a pointwise loss compares tensors of one type: {x}, {y}")
    return relax.TensorType((), x.dtype)


def _infer_grad(call: relax.Call) -> relax.TensorType:
    """Gradient of a pointwise loss with respect to the outputs."""
    return call.args[0].ty


def _legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return bb.call_te(
        te_pointwise_loss, *call.args, **_options(call), primfunc_name_hint="pointwise_loss"
    )


def _legalize_grad(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return bb.call_te(
        te_pointwise_loss_grad,
        *call.args,
        **_options(call),
        primfunc_name_hint="pointwise_loss_grad",
    )


POINTWISE_LOSS = register_operator("pock.pointwise_loss", infer_type=_infer, legalize=_legalize)
POINTWISE_LOSS_GRAD = register_operator(
    "pock.pointwise_loss_grad", infer_type=_infer_grad, legalize=_legalize_grad
)


def pointwise_loss(x: relax.Expr, y: relax.Expr, kind: str, option: float = 1.0) -> relax.Call:
    """Build ``pock.pointwise_loss``: outputs and labels of one shape -> scalar mean loss."""
    return call_operator(POINTWISE_LOSS, x, y, kind=kind, option=float(option))


def pointwise_loss_grad(call: relax.Call, ct: relax.Expr) -> relax.Call:
    """Build ``pock.pointwise_loss_grad`` of a ``pock.pointwise_loss`` call."""
    return call_operator(POINTWISE_LOSS_GRAD, *call.args, ct, **_options(call))
