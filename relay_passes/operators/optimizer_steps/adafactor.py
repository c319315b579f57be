"""Adafactor: arithmetic, for its means over rows, columns and the whole are kernels of their own.

Nothing of the weight's size is stored between them: u is computed where it is read, once for its
norm and once for the update.
"""

from collections.abc import Mapping

import numpy as np
from tvm import relax
from tvm.relax import Expr
from tvm.relax.op import astype, maximum, mean, minimum, power, rsqrt, sqrt

from pock_tvm.optimizers import Adafactor


def adafactor_scalars(
    bb: relax.BlockBuilder, options: Adafactor, t: Expr, rate: Expr
) -> dict[str, Expr]:
    """Return c = tᵈ and ρ = min(η, 1/√t), or η, in the type of ``rate``."""
    dtype = rate.ty.dtype
    fresh = astype(power(t, relax.const(options.decay_rate, "float64")), dtype)
    limited = minimum(rate, bb.emit(astype(rsqrt(t), dtype))) if options.relative_step else rate
    return {"fresh": bb.emit(fresh), "relative": bb.emit(limited), "rate": rate}


def adafactor_step(
    bb: relax.BlockBuilder,
    options: Adafactor,
    w: Expr,
    g: Expr,
    scalars: Mapping[str, Expr],
    slots: Mapping[str, Expr],
) -> tuple[Expr, dict[str, Expr]]:
    """Emit the update of one weight; see ``pock_tvm.optimizers.Adafactor`` for the equations."""
    dtype = str(w.ty.dtype)
    eps1 = float(np.finfo(dtype).eps) if options.eps1 is None else options.eps1

    def number(value: float) -> Expr:
        return relax.const(value, dtype)

    def moved(slot: str, target: Expr) -> Expr:
        return bb.emit(slots[slot] + scalars["fresh"] * (target - slots[slot]))

    if "square" in slots:
        new = {"square": moved("square", g * g)}

        def variance() -> Expr:
            return new["square"]
    else:
        new = {
            "rows": moved("rows", bb.emit(mean(g * g, axis=[-1], keepdims=True))),
            "columns": moved("columns", bb.emit(mean(g * g, axis=[-2], keepdims=True))),
        }
        whole = bb.emit(maximum(mean(new["rows"], axis=[-2], keepdims=True), number(eps1)))

        def variance() -> Expr:
            return new["rows"] * new["columns"] / whole

    def direction() -> Expr:
        return g * rsqrt(maximum(variance(), number(eps1 * eps1)))

    size = bb.emit(sqrt(mean(_square(bb, direction()))))
    shrink = maximum(number(1.0), size / number(options.clip_threshold))
    length = scalars["relative"]
    if options.scale_parameter:
        length = length * maximum(number(options.eps2), sqrt(mean(w * w)))
    length = bb.emit(length / shrink)
    if options.weight_decay:
        w = w * (number(1.0) - scalars["rate"] * number(options.weight_decay))
    return bb.emit(w - length * direction()), new


def _square(bb: relax.BlockBuilder, x: Expr) -> Expr:
    x = bb.emit(x)
    return x * x
