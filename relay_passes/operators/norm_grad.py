"""Gradients of layer and rms norms, each one kernel that keeps nothing but the input.

    x̂ = (x - μ) r                                   layer norm: r = 1 / √(σ² + ε)
    x̂ = x r                                         rms norm:   r = 1 / √(mean x² + ε)
    x̄ = r (g - mean g - x̂ mean(g x̂)), g = ȳ γ       ``mean g`` for layer norm only
    γ̄ = Σ over rows of ȳ x̂

μ and r cost another sweep over a row that is in cache already, so neither is stored between the
forward and the backward pass. Scheduled as row sweeps; γ̄ ends in a column sum.
"""

from functools import partial
from typing import Any

from tvm import relax, te
from tvm.ir import Op
from tvm.te import Tensor

from pock_tvm.relay_passes.operators.normalization import Normalized, mean_over
from pock_tvm.relay_passes.operators.registry import Legalize, call_operator, register_operator

_EPILOGUE = 4
"""The pattern of ``FuseOps`` that lets element by element operators join behind a kernel."""


def te_norm_grad(
    x: Tensor, ct: Tensor, gamma: Tensor, axes: list[int], epsilon: float, *, centred: bool
) -> Tensor:
    """x̄ = r (g - mean g - x̂ mean(g x̂)), without ``mean g`` where nothing is centred."""
    normed = Normalized(x, axes, epsilon, centred=centred)

    def g(at: Any) -> Any:
        return ct(*at) * gamma(*normed.column(at))

    along = mean_over(x, axes, lambda _, at: g(at) * normed(*at), "along")
    level = mean_over(x, axes, lambda _, at: g(at), "level") if centred else None

    def entry(*at: Any) -> Any:
        row = normed.row(at)
        rest = g(at) - level(*row) if level is not None else g(at)
        return normed.reciprocal(*row) * (rest - normed(*at) * along(*row))

    return te.compute(x.shape, entry, name="norm_grad", attrs={"pock.kernel": "norm_grad"})


def te_norm_scale_grad(
    x: Tensor, ct: Tensor, axes: list[int], epsilon: float, *, centred: bool
) -> Tensor:
    """γ̄ = Σ over rows of ȳ x̂."""
    normed = Normalized(x, axes, epsilon, centred=centred)
    shape = [int(extent) for extent in x.shape]
    rows = {axis: te.reduce_axis((0, shape[axis]), f"r{axis}") for axis in normed.others}

    def entry(*column: Any) -> Any:
        place = dict(zip(normed.normal, column, strict=True)) | rows
        at = [place[axis] for axis in range(len(shape))]
        value = ct(*at) * normed(*at)
        return te.sum(value, axis=list(rows.values())) if rows else value

    return te.compute([shape[axis] for axis in normed.normal], entry, name="norm_scale_grad")


def _infer_input(call: relax.Call) -> relax.TensorType:
    """Gradient of a normalization with respect to its input."""
    return call.args[0].ty


def _infer_scale(call: relax.Call) -> relax.TensorType:
    """Gradient of a normalization with respect to its scale."""
    x = call.args[0].ty
    return relax.TensorType([int(x.shape[int(axis)]) for axis in call.attrs["axes"]], x.dtype)


def _legalize(te_grad: Any, hint: str, *, centred: bool) -> Legalize:
    def legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        axes = [int(axis) for axis in call.attrs["axes"]]
        options = {"axes": axes, "epsilon": float(call.attrs["epsilon"]), "centred": centred}
        return bb.call_te(
            partial(te_grad, **options),
            *call.args,
            primfunc_name_hint=hint,
            primfunc_attrs={"op_pattern": _EPILOGUE},
        )

    return legalize


def _register(name: str, *, centred: bool) -> tuple[Op, Op]:
    return (
        register_operator(
            f"pock.{name}_grad",
            infer_type=_infer_input,
            legalize=_legalize(te_norm_grad, f"{name}_grad", centred=centred),
        ),
        register_operator(
            f"pock.{name}_scale_grad",
            infer_type=_infer_scale,
            legalize=_legalize(te_norm_scale_grad, f"{name}_scale_grad", centred=centred),
        ),
    )


LAYER_NORM_GRAD, LAYER_NORM_SCALE_GRAD = _register("layer_norm", centred=True)
RMS_NORM_GRAD, RMS_NORM_SCALE_GRAD = _register("rms_norm", centred=False)


def layer_norm_grad(
    x: relax.Expr, ct: relax.Expr, gamma: relax.Expr, axes: list[int], epsilon: float
) -> relax.Call:
    """Build ``pock.layer_norm_grad``: input, cotangent, scale -> gradient of the input."""
    return call_operator(LAYER_NORM_GRAD, x, ct, gamma, axes=axes, epsilon=epsilon)


def layer_norm_scale_grad(
    x: relax.Expr, ct: relax.Expr, axes: list[int], epsilon: float
) -> relax.Call:
    """Build ``pock.layer_norm_scale_grad``: input, cotangent -> gradient of the scale."""
    return call_operator(LAYER_NORM_SCALE_GRAD, x, ct, axes=axes, epsilon=epsilon)


def rms_norm_grad(
    x: relax.Expr, ct: relax.Expr, gamma: relax.Expr, axes: list[int], epsilon: float
) -> relax.Call:
    """Build ``pock.rms_norm_grad``: input, cotangent, scale -> gradient of the input."""
    return call_operator(RMS_NORM_GRAD, x, ct, gamma, axes=axes, epsilon=epsilon)


def rms_norm_scale_grad(
    x: relax.Expr, ct: relax.Expr, axes: list[int], epsilon: float
) -> relax.Call:
    """Build ``pock.rms_norm_scale_grad``: input, cotangent -> gradient of the scale."""
    return call_operator(RMS_NORM_SCALE_GRAD, x, ct, axes=axes, epsilon=epsilon)
