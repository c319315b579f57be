"""``pock.resample``: each entry along one axis is a weighted sum of a few entries of the operand.

    y[…, o, …] = Σ_p weights[o, p] · x[…, places[o, p], …]

Every resizing of pictures is one such sum per axis: the tables say whether it takes the nearest
entry, two, four, or as many as an antialiasing filter covers. The gradient is the same operator
with the tables transposed, so each entry gathers, and nothing is scattered.
"""

from typing import Any

import numpy as np
import tvm
from tvm import relax, te

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator


def te_resample(x: te.Tensor, places: te.Tensor, weights: te.Tensor, axis: int) -> te.Tensor:
    """y[…, o, …] = Σ_p weights[o, p] · x[…, places[o, p], …]."""
    out, taps = (int(extent) for extent in places.shape)
    p = te.reduce_axis((0, taps), "p")

    def entry(*at: Any) -> Any:
        o = at[axis]
        return te.sum(weights[o, p] * x[(*at[:axis], places[o, p], *at[axis + 1 :])], axis=[p])

    shape = [*x.shape[:axis], out, *x.shape[axis + 1 :]]
    return te.compute(shape, entry, name="resample", attrs={"pock.kernel": "resample"})


def _infer(call: relax.Call) -> relax.TensorType:
    """The operand with another extent along the axis."""
    x, places, _ = call.args
    shape = [int(extent) for extent in x.ty.shape]
    shape[int(call.attrs["axis"])] = int(places.ty.shape[0])
    return relax.TensorType(shape, x.ty.dtype)


def _legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    axis = int(call.attrs["axis"])
    return bb.call_te(te_resample, *call.args, axis=axis, primfunc_name_hint="resample")


RESAMPLE = register_operator("pock.resample", infer_type=_infer, legalize=_legalize)


def resample(x: relax.Expr, places: np.ndarray, weights: np.ndarray, axis: int) -> relax.Call:
    """Build ``pock.resample``; the tables are (outputs, taps)."""
    dtype = str(x.ty.dtype)
    return call_operator(
        RESAMPLE,
        x,
        relax.const(places.astype("int32"), "int32"),
        relax.const(weights.astype(dtype), dtype),
        axis=axis,
    )


def tables_of(call: relax.Call) -> tuple[np.ndarray, np.ndarray]:
    """Return (places, weights) of a ``pock.resample``."""
    _, places, weights = call.args
    constant = all(isinstance(table, tvm.ir.GenericConst) for table in (places, weights))
    if not constant:
        raise ValueError(f"the tables of a resampling are not constant: {call}")
    return places.value.numpy(), weights.value.numpy()


def transposed_tables(
    places: np.ndarray, weights: np.ndarray, extent: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tables of the gradient: where each of ``extent`` entries was used, how heavily."""
    outputs = np.arange(len(places))[:, None].repeat(places.shape[1], axis=1)
    used = weights.ravel() != 0
    order = np.argsort(places.ravel()[used], kind="stable")
    at, source, weight = (v.ravel()[used][order] for v in (places, outputs, weights))
    counts = np.bincount(at, minlength=extent)
    slot = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
    taps = max(int(counts.max(initial=0)), 1)
    back_places = np.zeros((extent, taps), places.dtype)
    back_weights = np.zeros((extent, taps), weights.dtype)
    back_places[at, slot] = source
    back_weights[at, slot] = weight
    return back_places, back_weights
