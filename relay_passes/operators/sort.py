"""Our lowering of sort, argsort and topk: each element's rank is counted, n² comparisons per row.

Relax calls a library function that no device has. Counting is exact and deterministic, needs no
branch, and suits the short rows that are sorted inside a model. Equal elements keep their order,
and NaN counts as greater than every number, as in PyTorch.
"""

from typing import Any

from tvm import relax, te, tirx


def _less(a: Any, b: Any) -> Any:
    return tirx.any(a < b, tirx.all(b != b, a == a))


def te_argsort(x: te.Tensor, axis: int, dtype: str, count: int, *, descending: bool) -> te.Tensor:
    """rank[i] = Σ_j [x[j] comes before x[i]]; order[r] = Σ_i i · [rank[i] = r], r < count."""
    extent = x.shape[axis]
    j = te.reduce_axis((0, extent), "j")
    i = te.reduce_axis((0, extent), "i")

    def at(position: tuple[Any, ...], place: Any) -> tuple[Any, ...]:
        return (*position[:axis], place, *position[axis + 1 :])

    def comes_before(*p: Any) -> Any:
        here, other = x[p], x[at(p, j)]
        first, second = (here, other) if descending else (other, here)
        tie = tirx.all(tirx.Not(_less(here, other)), tirx.Not(_less(other, here)), j < p[axis])
        return te.sum(tirx.any(_less(first, second), tie).astype("int32"), axis=j)

    rank = te.compute(x.shape, comes_before, name="rank")
    shape = at(tuple(x.shape), tirx.IntImm("int64", count))

    def holder(*p: Any) -> Any:
        hit = rank[at(p, i)] == p[axis].astype("int32")
        return te.sum(tirx.Select(hit, i.astype(dtype), tirx.const(0, dtype)), axis=i)

    return te.compute(shape, holder, name="order")


def _values(x: te.Tensor, order: te.Tensor, axis: int) -> te.Tensor:
    return te.compute(
        order.shape,
        lambda *p: x[(*p[:axis], order[p].astype("int64"), *p[axis + 1 :])],
        name="sorted",
    )


def _axis(call: relax.Call) -> int:
    return int(call.attrs.axis) % len(call.args[0].ty.shape)


def legalize_argsort(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.argsort``."""
    axis, dtype = _axis(call), str(call.attrs.dtype)
    count, descending = int(call.args[0].ty.shape[axis]), bool(call.attrs.descending)
    return bb.call_te(
        lambda x: te_argsort(x, axis, dtype, count, descending=descending),
        *call.args,
        primfunc_name_hint="argsort",
    )


def legalize_sort(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.sort``."""
    axis, descending = _axis(call), bool(call.attrs.descending)
    return _ordered(bb, call.args[0], axis, "int64", None, descending=descending)[0]


def legalize_topk(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.topk``: values, indices or both."""
    axis, count = _axis(call), int(call.attrs.k)
    both = _ordered(
        bb,
        call.args[0],
        axis,
        str(call.attrs.dtype),
        count if count > 0 else None,
        descending=bool(call.attrs.largest),
    )
    kind = str(call.attrs.ret_type)
    return {"both": relax.Tuple(both), "values": both[0], "indices": both[1]}[kind]


def _ordered(
    bb: relax.BlockBuilder,
    x: relax.Expr,
    axis: int,
    dtype: str,
    count: int | None,
    *,
    descending: bool,
) -> tuple[relax.Expr, relax.Expr]:
    """Return the first ``count`` values in order, and where they stood."""
    number = int(x.ty.shape[axis]) if count is None else count
    order = bb.emit(
        bb.call_te(
            lambda x: te_argsort(x, axis, dtype, number, descending=descending),
            x,
            primfunc_name_hint="argsort",
        )
    )
    values = bb.call_te(lambda x, o: _values(x, o, axis), x, order, primfunc_name_hint="sorted")
    return bb.emit(values), order
