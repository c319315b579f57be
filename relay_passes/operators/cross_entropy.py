"""Softmax cross entropy of [N, C] logits and [N] labels, and its gradient.

The mean over the labels that are not ``ignore_index``, smoothed as PyTorch smooths it. If all of
them are ignored the loss is NaN (0 / 0) and its gradient 0, as in PyTorch. Neither operator builds
a one-hot tensor, and the gradient recomputes the softmax instead of keeping the probabilities.
Token-level logits come flattened to [N, C].
"""

from typing import Any

from tvm import relax, te, tirx
from tvm.te import Tensor

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator


def _rows(x: Tensor, labels: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the greatest logit and Σ exp(x - greatest) of each row, and how many rows count."""
    n, classes = (int(extent) for extent in x.shape)
    k = te.reduce_axis((0, classes), "k")
    greatest = te.compute((n,), lambda i: te.max(x[i, k], axis=k), name="greatest")
    k = te.reduce_axis((0, classes), "k")
    total = te.compute(
        (n,), lambda i: te.sum(tirx.exp(x[i, k] - greatest[i]), axis=k), name="total"
    )
    i = te.reduce_axis((0, n), "i")
    counted = te.compute(
        (1,),
        lambda _: te.sum(tirx.Cast(x.dtype, labels[i] != ignore_index), axis=i),
        name="counted",
    )
    return greatest, total, counted


def te_cross_entropy(
    x: Tensor, labels: Tensor, label_smoothing: float, ignore_index: int
) -> Tensor:
    """Σ over counted rows of log Σ exp(x) - (1 - s) x[label] - s mean(x), by how many they are."""
    n, classes = (int(extent) for extent in x.shape)
    greatest, total, counted = _rows(x, labels, ignore_index)
    zero, smoothing = tirx.const(0, x.dtype), tirx.const(label_smoothing, x.dtype)
    k = te.reduce_axis((0, classes), "k")
    # Against the greatest logit, so that the difference is taken between small numbers.
    spread = (
        te.compute((n,), lambda i: te.sum(x[i, k] - greatest[i], axis=k), name="spread")
        if label_smoothing
        else None
    )

    def row(i: Any) -> Any:
        value = tirx.log(total[i]) - (1 - smoothing) * (x[i, labels[i]] - greatest[i])
        if spread is not None:
            value -= smoothing / classes * spread[i]
        return tirx.if_then_else(labels[i] != ignore_index, value, zero)

    losses = te.compute((n,), row, name="losses")
    i = te.reduce_axis((0, n), "i")
    summed = te.compute(
        (1,),
        lambda _: te.sum(losses[i], axis=i),
        name="cross_entropy",
        attrs={"pock.kernel": "cross_entropy"},
    )
    return te.compute((), lambda: summed[0] / counted[0], name="loss")


def te_cross_entropy_grad(
    x: Tensor, labels: Tensor, ct: Tensor, label_smoothing: float, ignore_index: int
) -> Tensor:
    """x̄[i, k] = ȳ / counted · (softmax(x)[i, k] - (1 - s) [k = label] - s / C), 0 where ignored."""
    n, classes = (int(extent) for extent in x.shape)
    greatest, total, counted = _rows(x, labels, ignore_index)
    zero, smoothing = tirx.const(0, x.dtype), tirx.const(label_smoothing, x.dtype)

    def entry(i: Any, k: Any) -> Any:
        probability = tirx.exp(x[i, k] - greatest[i]) / total[i]
        hit = tirx.Cast(x.dtype, labels[i] == tirx.Cast(labels.dtype, k))
        goal = (1 - smoothing) * hit + smoothing / classes
        value = ct() / counted[0] * (probability - goal)
        return tirx.if_then_else(labels[i] != ignore_index, value, zero)

    return te.compute(
        (n, classes),
        entry,
        name="cross_entropy_grad",
        attrs={"pock.kernel": "cross_entropy_grad"},
    )


def _options(call: relax.Call) -> dict[str, Any]:
    return {
        "label_smoothing": float(call.attrs["label_smoothing"]),
        "ignore_index": int(call.attrs["ignore_index"]),
    }


def _infer(call: relax.Call) -> relax.TensorType:
    """Mean softmax cross entropy of logits and class labels."""
    logits, labels = (arg.ty for arg in call.args)
    if logits.ndim != 2 or labels.ndim != 1 or logits.shape[0] != labels.shape[0]:
        raise ValueError(f"cross_entropy takes [N, C] logits and [N] labels: {logits}, {labels}")
    return relax.TensorType((), logits.dtype)


def _infer_grad(call: relax.Call) -> relax.TensorType:
    """Gradient of the mean softmax cross entropy with respect to the logits."""
    return call.args[0].ty


def _legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return bb.call_te(
        te_cross_entropy, *call.args, **_options(call), primfunc_name_hint="cross_entropy"
    )


def _legalize_grad(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return bb.call_te(
        te_cross_entropy_grad, *call.args, **_options(call), primfunc_name_hint="cross_entropy_grad"
    )


CROSS_ENTROPY = register_operator("pock.cross_entropy", infer_type=_infer, legalize=_legalize)
CROSS_ENTROPY_GRAD = register_operator(
    "pock.cross_entropy_grad", infer_type=_infer_grad, legalize=_legalize_grad
)


def cross_entropy(
    logits: relax.Expr,
    labels: relax.Expr,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
) -> relax.Call:
    """Build ``pock.cross_entropy``: logits [N, C] and labels [N] -> scalar mean loss."""
    return call_operator(
        CROSS_ENTROPY,
        logits,
        labels,
        label_smoothing=float(label_smoothing),
        ignore_index=int(ignore_index),
    )


def cross_entropy_grad(call: relax.Call, ct: relax.Expr) -> relax.Call:
    """Build ``pock.cross_entropy_grad`` of a ``pock.cross_entropy`` call: -> [N, C]."""
    return call_operator(CROSS_ENTROPY_GRAD, *call.args, ct, **_options(call))
