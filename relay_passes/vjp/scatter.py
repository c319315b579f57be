"""VJP rules of operators that read or write elements by index, and of those that sort."""

import math
from collections.abc import Callable

from tvm import relax
from tvm.relax import Call, Expr, TupleGetItem, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.operators.scatter import broadcast_shape
from pock_tvm.relay_passes.vjp.broadcast import (
    Shape,
    dtype_of,
    normal_axes,
    reshape,
    shape_of,
    sum_to_shape,
)
from pock_tvm.relay_passes.vjp.registry import Cotangents, operands, register_vjp
from pock_tvm.relay_passes.vjp.scatter_reductions import (
    Gather,
    Scatter,
    extremum_bars,
    product_updates,
)


def _zeros(shape: Shape, like: Expr) -> Expr:
    return R.zeros(shape, dtype_of(like))


def _added_along(ct: Expr, indices: Expr, x: Expr, axis: int) -> Expr:
    """Return zeros of the shape of x, with ȳ added where ``gather_elements`` read."""
    return R.scatter_elements(_zeros(shape_of(x), ct), indices, ct, axis, "add")


@register_vjp("relax.gather_elements")
def gather_elements_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x[…, i, …]: x̄ is zero, with each ȳ added where it was read."""
    x, indices = call.args
    return lambda: _added_along(ct, indices, x, int(call.attrs.axis)), None


@register_vjp("relax.gather_nd")
def gather_nd_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x[b, i]: x̄ is zero, with each slice of ȳ added where it was read.

    Batch axes become the first indices: ``scatter_nd`` has none.
    """
    x, indices = call.args
    batch = int(call.attrs.batch_dims)

    def x_bar() -> Expr:
        places = indices
        lead = shape_of(indices)[:-1]
        for axis in reversed(range(batch)):
            shape = [lead[axis] if k == axis else 1 for k in range(len(lead) + 1)]
            count = reshape(R.arange(0, lead[axis], 1, dtype_of(indices)), shape)
            places = R.concat([R.broadcast_to(count, (*lead, 1)), places], -1)
        return R.scatter_nd(_zeros(shape_of(x), ct), places, ct, "add")

    return x_bar, None


@register_vjp("relax.index_tensor")
def index_tensor_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x[i₀, i₁, …]: x̄ is zero, with each slice of ȳ added where it was read."""
    x, *indices = operands(call)
    lead = broadcast_shape([shape_of(index) for index in indices])

    def x_bar() -> Expr:
        places = [R.broadcast_to(R.astype(index, "int64"), lead) for index in indices]
        return R.scatter_nd(_zeros(shape_of(x), ct), R.stack(places, len(lead)), ct, "add")

    return (x_bar, *(None for _ in indices))


@register_vjp("relax.scatter_elements")
def scatter_elements_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x with u written at i: x̄ = ȳ, but 0 at i; ū = ȳ at i. With u added, x̄ = ȳ.

    Of several updates of one place each gets its ȳ, as in PyTorch. Products and extrema: see
    ``scatter_reductions``.
    """
    indices, axis = call.args[1], int(call.attrs.axis)

    def scatter(x: Expr, updates: Expr, reduction: str) -> Expr:
        return R.scatter_elements(x, indices, updates, axis, reduction)

    return _scatter_bars(ct, call, out, scatter, lambda x: R.gather_elements(x, indices, axis))


@register_vjp("relax.scatter_nd")
def scatter_nd_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """As ``scatter_elements``, u and what it meets being slices."""
    indices = call.args[1]

    def scatter(x: Expr, updates: Expr, reduction: str) -> Expr:
        return R.scatter_nd(x, indices, updates, reduction)

    return _scatter_bars(ct, call, out, scatter, lambda x: R.gather_nd(x, indices))


def _scatter_bars(
    ct: Expr, call: Call, out: Var, scatter: Scatter, gather: Gather
) -> tuple[Callable[[], Expr], None, Callable[[], Expr]]:
    x, _, updates = call.args
    reduction = str(call.attrs.reduction)
    if reduction in ("min", "max"):
        x_bar, updates_bar = extremum_bars(ct, x, updates, out, scatter, gather)
        return x_bar, None, updates_bar
    if reduction == "mul":
        return (
            lambda: scatter(ct, updates, "mul"),
            None,
            lambda: product_updates(ct, x, updates, scatter, gather),
        )
    if reduction == "add":
        return lambda: ct, None, lambda: gather(ct)
    return (
        lambda: scatter(ct, _zeros(shape_of(updates), ct), "update"),
        None,
        lambda: gather(ct),
    )


@register_vjp("relax.index_put")
def index_put_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x with v written at i: x̄ = ȳ, but 0 at i; v̄ = ȳ at i, summed over broadcast axes."""
    _, *indices, values = operands(call)
    lead = broadcast_shape([shape_of(index) for index in indices])

    def x_bar() -> Expr:
        if call.attrs.accumulate:
            return ct
        return R.index_put(ct, relax.Tuple(indices), _zeros(shape_of(values), ct))

    def values_bar() -> Expr:
        return sum_to_shape(R.index_tensor(ct, indices), lead, shape_of(values))

    return (x_bar, *(None for _ in indices), values_bar)


@register_vjp("relax.slice_scatter")
def slice_scatter_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x with s written at a slice: x̄ = ȳ, but 0 there; s̄ = ȳ there."""
    _, source, *bounds = call.args
    axis = int(call.attrs.axis)
    start, end, step = (int(getattr(bound, "value", bound)) for bound in bounds)
    return (
        lambda: R.slice_scatter(ct, _zeros(shape_of(source), ct), start, end, step, axis),
        lambda: R.strided_slice(ct, [axis], [start], [end], [step]),
    )


@register_vjp("relax.sort")
def sort_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x in order: each ȳ goes back to where its value stood, which is found again."""
    (x,) = call.args
    axis = int(call.attrs.axis)
    order = R.argsort(x, axis, bool(call.attrs.descending), "int64")
    return (lambda: _added_along(ct, order, x, axis),)


@register_vjp("relax.topk")
def topk_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """(y, i) = the k greatest of x: ȳ goes back to i, recomputed if not kept."""
    (x,) = call.args
    attrs = call.attrs
    axis = int(attrs.axis)
    if str(attrs.ret_type) == "both":
        return (lambda: _added_along(ct.fields[0], TupleGetItem(out, 1), x, axis),)

    def x_bar() -> Expr:
        places = R.topk(x, int(attrs.k), axis, "indices", bool(attrs.largest), "int64")
        return _added_along(ct, places, x, axis)

    return (x_bar,)


@register_vjp("relax.median")
def median_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """(y, i) = the median of x along an axis: ȳ goes to i; of all elements, i is found again."""
    (x,) = call.args
    shape = shape_of(x)
    if call.attrs.axis is None:
        count = math.prod(shape)
        flat = reshape(x, (count,))

        def x_bar() -> Expr:
            place = TupleGetItem(R.median(flat, [0], keepdims=True), 1)
            line = R.scatter_elements(_zeros((count,), ct), place, reshape(ct, (1,)), 0)
            return reshape(line, shape)

        return (x_bar,)
    (axis,) = normal_axes(call.attrs.axis, len(shape))
    kept = [1 if k == axis else extent for k, extent in enumerate(shape)]

    def along_bar() -> Expr:
        places = reshape(TupleGetItem(out, 1), kept)
        updates = reshape(ct.fields[0], kept)
        return R.scatter_elements(_zeros(shape, ct.fields[0]), places, updates, axis)

    return (along_bar,)
