"""The value of each loss as graph code: what ``AppendLoss`` puts behind a model."""

import numpy as np
from tvm import relax
from tvm.relax import Expr, Var
from tvm.relax.op import (
    add,
    astype,
    divide,
    exp,
    multiply,
    not_equal,
    permute_dims,
    reshape,
    subtract,
)
from tvm.relax.op import sum as sum_
from tvm.relax.op.nn import log_softmax

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.losses import (
    BinaryCrossEntropy,
    Contrastive,
    CrossEntropy,
    Distillation,
    Huber,
    Loss,
    SmoothL1,
)
from pock_tvm.relay_passes.operators.cross_entropy import cross_entropy
from pock_tvm.relay_passes.operators.pointwise_loss import pointwise_loss
from pock_tvm.relay_passes.rewrite import static_shape


def labels_type(loss: Loss, output: relax.TensorType) -> relax.TensorType | None:
    """Return the type of the labels that ``loss`` compares a model's ``output`` with.

    Raises:
        UnsupportedModelError: the loss is not one of such outputs.
    """
    shape = [int(d) for d in output.shape]
    if loss.labels == "none":
        if len(shape) != 2 or shape[0] != shape[1]:
            raise UnsupportedModelError(
                f"the loss {loss.name} compares the samples of a batch with each other: it takes "
                f"(batch, batch) similarities, and the model returns {tuple(shape)}"
            )
        return None
    if loss.labels == "values":
        return relax.TensorType(shape, output.dtype)
    if len(shape) < 2:
        raise UnsupportedModelError(
            f"the loss {loss.name} takes (batch, …, classes) logits, and the model returns "
            f"{tuple(shape)}"
        )
    return relax.TensorType(shape[:-1], "int32")


def loss_value(
    bb: relax.BlockBuilder, loss: Loss, logits: Expr, labels: Var | None, teacher: Expr | None
) -> Expr:
    """Return the scalar that training minimises; ``teacher`` are the logits to stay close to."""
    if isinstance(loss, Contrastive):
        return _contrastive(bb, logits)
    if isinstance(loss, CrossEntropy | Distillation):
        rows, flat = _rows(bb, logits), _flat(bb, labels)
        hard = cross_entropy(
            rows, flat, label_smoothing=loss.label_smoothing, ignore_index=loss.ignore_index
        )
        if isinstance(loss, CrossEntropy):
            return hard
        soft = _divergence(bb, loss, rows, _rows(bb, teacher), flat)
        share = loss.weight * loss.temperature**2
        return add(
            multiply(bb.emit(hard), _number(1 - loss.weight, rows)),
            multiply(soft, _number(share, rows)),
        )
    options = {"option": loss.pos_weight} if isinstance(loss, BinaryCrossEntropy) else {}
    if isinstance(loss, Huber):
        options = {"option": loss.delta}
    if isinstance(loss, SmoothL1):
        options = {"option": loss.beta}
    return pointwise_loss(logits, labels, loss.name, **options)


def _contrastive(bb: relax.BlockBuilder, similarity: Expr) -> Expr:
    """(CE of the rows + CE of the columns) / 2 against the diagonal."""
    diagonal = relax.const(np.arange(static_shape(similarity)[0], dtype="int32"))
    across = bb.emit(cross_entropy(similarity, diagonal))
    down = bb.emit(cross_entropy(bb.emit(permute_dims(similarity)), diagonal))
    return multiply(add(across, down), _number(0.5, similarity))


def _divergence(
    bb: relax.BlockBuilder, loss: Distillation, student: Expr, teacher: Expr, labels: Expr
) -> Expr:
    """KL(softmax(z/T) ‖ softmax(x/T)), the mean over rows whose label is not to be ignored."""
    temperature = _number(loss.temperature, student)
    log_q = bb.emit(log_softmax(bb.emit(divide(student, temperature)), axis=-1))
    log_p = bb.emit(log_softmax(bb.emit(divide(teacher, temperature)), axis=-1))
    rows = bb.emit(sum_(multiply(exp(log_p), subtract(log_p, log_q)), axis=[-1]))
    counts = not_equal(labels, relax.const(loss.ignore_index, "int32"))
    counts = bb.emit(astype(counts, student.ty.dtype))
    return bb.emit(divide(sum_(multiply(rows, counts)), sum_(counts)))


def _rows(bb: relax.BlockBuilder, logits: Expr) -> Expr:
    shape = static_shape(logits)
    return logits if len(shape) == 2 else bb.emit(reshape(logits, (-1, shape[-1])))


def _flat(bb: relax.BlockBuilder, labels: Var) -> Expr:
    return labels if labels.ty.ndim == 1 else bb.emit(reshape(labels, (-1,)))


def _number(value: float, like: Expr) -> Expr:
    return relax.const(value, str(like.ty.dtype))
