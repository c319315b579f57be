"""VJP rules of operators that read or write elements by index, and of those that sort."""

from tvm import relax
from tvm.relax import Call, Expr, TupleGetItem, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.operators.scatter import broadcast_shape
from pock_tvm.relay_passes.vjp.broadcast import Shape, dtype_of, shape_of, sum_to_shape
from pock_tvm.relay_passes.vjp.registry import Cotangents, operands, register_vjp


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
            count = R.reshape(R.arange(0, lead[axis], 1, dtype_of(indices)), shape)
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

    Of several updates of one place each gets its ȳ, as in PyTorch.
    """
    _, indices, updates = call.args
    axis = int(call.attrs.axis)
    adds = _adds(call)

    def x_bar() -> Expr:
        if adds:
            return ct
        return R.scatter_elements(ct, indices, _zeros(shape_of(updates), ct), axis)

    return x_bar, None, lambda: R.gather_elements(ct, indices, axis)


@register_vjp("relax.scatter_nd")
def scatter_nd_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x with slices u written at i: x̄ = ȳ, but 0 at i; ū = ȳ at i. With u added, x̄ = ȳ."""
    _, indices, updates = call.args
    adds = _adds(call)

    def x_bar() -> Expr:
        return ct if adds else R.scatter_nd(ct, indices, _zeros(shape_of(updates), ct))

    return x_bar, None, lambda: R.gather_nd(ct, indices)


def _adds(call: Call) -> bool:
    """Tell whether updates are added; products and extrema of updates are not derived."""
    reduction = str(call.attrs.reduction)
    if reduction not in ("update", "add"):
        raise UnsupportedModelError(
            f"no derivative is known for {call.op.name} with reduction {reduction!r}: "
            "freeze the parameters that come before, or write or add the updates"
        )
    return reduction == "add"


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
