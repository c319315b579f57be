"""Matrix product whose operands may be read through a permutation of their axes, as loops.

``pock.matmul(x, y, x_axes, y_axes)`` means ``permute_dims(x, x_axes) @ permute_dims(y, y_axes)``
without the copies: the two gradients of a product are products with one operand transposed, and an
attention head is a slice of a wider tensor. The block carries the annotation ``pock.kernel``.
"""

from collections.abc import Sequence
from typing import Any

from tvm import relax, te

from pock_tvm.relay_passes.operators.registry import call_operator, register_operator


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def _permuted(shape: Sequence[Any], axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(shape[a]) for a in axes)


def _broadcast(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """Return the batch extents of a product; numpy's rule."""
    rank = max(len(one), len(other))
    pairs = zip(
        (1,) * (rank - len(one)) + tuple(one),
        (1,) * (rank - len(other)) + tuple(other),
        strict=True,
    )
    extents = []
    for a, b in pairs:
        if a != b and 1 not in (a, b):
            raise ValueError(f"cannot broadcast batch axes {tuple(one)} and {tuple(other)}")
        extents.append(b if a == 1 else a)
    return tuple(extents)


def _result_shape(x: Sequence[int], y: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of x @ y; a vector is a row on the left, a column on the right."""
    if x[-1] != (y[0] if len(y) == 1 else y[-2]):
        raise ValueError(f"cannot multiply {tuple(x)} by {tuple(y)}")
    return (*_broadcast(x[:-2], y[:-2]), *x[:-1][-1:], *(y[-1:] if len(y) > 1 else ()))


def _matrix_index(shape: Sequence[int], lead: Sequence[Any], row: Any, column: Any) -> list[Any]:
    """Index an operand of ``shape`` at the batch indices of the result, broadcast."""
    batch = shape[:-2]
    own = lead[len(lead) - len(batch) :]
    return [*(i if e > 1 else 0 for i, e in zip(own, batch, strict=True)), row, column]


def matmul(
    x: te.Tensor,
    y: te.Tensor,
    x_axes: Sequence[int],
    y_axes: Sequence[int],
    dtype: str | None = None,
) -> te.Tensor:
    """z[…, i, j] = Σ x[…, i, k] · y[…, k, j], the operands read through their permutations."""
    x_shape, y_shape = _permuted(x.shape, x_axes), _permuted(y.shape, y_axes)
    dtype = dtype or str(x.dtype)
    shape = _result_shape(x_shape, y_shape)
    k = te.reduce_axis((0, x_shape[-1]), "k")
    has_row, has_column = len(x_shape) > 1, len(y_shape) > 1

    def at(source: te.Tensor, axes: Sequence[int], index: Sequence[Any]) -> Any:
        own: list[Any] = [0] * len(axes)
        for position, axis in enumerate(axes):
            own[axis] = index[position]
        value = source[tuple(own)]
        return value if str(source.dtype) == dtype else value.astype(dtype)

    def product(*index: Any) -> Any:
        lead = index[: len(index) - has_row - has_column]
        row = index[len(lead)] if has_row else None
        left = _matrix_index(x_shape, lead, row, k) if has_row else [k]
        right = _matrix_index(y_shape, lead, k, index[-1]) if has_column else [k]
        return te.sum(at(x, x_axes, left) * at(y, y_axes, right), axis=k)

    return te.compute(shape, product, name="matmul", attrs={"pock.kernel": "matmul"})


def legalize_matmul(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.matmul``."""
    x, y = call.args
    dtype = str(call.ty.dtype)
    return bb.call_te(
        lambda a, b: matmul(a, b, range(len(a.shape)), range(len(b.shape)), dtype),
        x,
        y,
        primfunc_name_hint="matmul",
    )


def _infer_type(call: relax.Call) -> relax.TensorType:
    """Product of two tensors read through permutations of their axes."""
    x, y = call.args
    x_shape = _permuted(x.ty.shape, _ints(call.attrs["x_axes"]))
    y_shape = _permuted(y.ty.shape, _ints(call.attrs["y_axes"]))
    return relax.TensorType(_result_shape(x_shape, y_shape), x.ty.dtype)


def _legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    x_axes, y_axes = _ints(call.attrs["x_axes"]), _ints(call.attrs["y_axes"])
    return bb.call_te(
        lambda x, y: matmul(x, y, x_axes, y_axes), *call.args, primfunc_name_hint="matmul"
    )


MATMUL = register_operator("pock.matmul", infer_type=_infer_type, legalize=_legalize)


def permuted_matmul(
    x: relax.Expr, y: relax.Expr, x_axes: Sequence[int], y_axes: Sequence[int]
) -> relax.Call:
    """Build ``pock.matmul``."""
    return call_operator(MATMUL, x, y, x_axes=list(x_axes), y_axes=list(y_axes))
